// Starts the page.

import { render } from 'solid-js/web';
import { startSession } from './api/session';
import { followLinks } from './route';
import { startClock } from './state/clock';
import './style.css';
import { styleThroughCssom } from './terminal/csp';
import { loadFont } from './terminal/font';
import { trustTemplates } from './trusted';
import { App } from './view/App';

trustTemplates();
styleThroughCssom();
followLinks();
startClock();
void startSession();
void loadFont().then(() => render(() => <App />, document.getElementById('app') as HTMLElement));
