// The frame around every view: who may see it, where one is, whether it is live, and what is said in passing.

import { createMemo, Match, Show, Switch, type Component } from 'solid-js';
import { session } from '../api/session';
import { parseRoute, path, projectPath, type Route } from '../route';
import { dismissNotice, notice, said } from '../state/announce';
import { now } from '../state/clock';
import { createProject, type ProjectStore } from '../state/project';
import type { Link } from '../stream/socket';
import { Deletions } from './Deletions';
import { PaneView } from './PaneView';
import { ProjectsView } from './ProjectsView';
import { ProjectView } from './ProjectView';
import { ConfirmLaunch, ConfirmLink } from './Questions';
import { Sidebar } from './Sidebar';
import { TaskView } from './TaskView';

export const App: Component = () => {
  // A page that was open keeps what it shows when its session ends.
  const everOpen = createMemo((was: boolean) => was || session() === 'open', false);
  return (
    <>
      <Switch>
        <Match when={everOpen()}>
          <Show when={session() === 'none'}>
            <p class="strip warn" role="alert">
              The session is over. Run <code>kas open</code> in a terminal: this page goes on as soon as a new one is open.
            </p>
          </Show>
          <Views />
        </Match>
        <Match when={session() === 'none'}>
          <SignIn />
        </Match>
      </Switch>
      <ConfirmLaunch />
      <ConfirmLink />
      <Deletions />
      <p class="visually-hidden" role="status" aria-live="polite">{said()}</p>
      <Show when={notice()}>
        {(text) => (
          <div class="notice" role="alert">
            {text()}
            <button type="button" class="small" onClick={dismissNotice}>
              Dismiss
            </button>
          </div>
        )}
      </Show>
    </>
  );
};

const SignIn: Component = () => (
  <main class="sign-in">
    <h1>kas</h1>
    <p>
      Run <code>kas open</code> in a terminal.
    </p>
    <p class="quiet">It prints and opens an address that lets this browser in, once.</p>
  </main>
);

const Views: Component = () => {
  const route = createMemo<Route>(() => parseRoute(path()));
  const project = createMemo((): string | null => {
    const at = route();
    return 'project' in at ? at.project : null;
  });
  return (
    <Show when={project()} keyed fallback={<Outside route={route()} />}>
      {(id) => <InProject id={id} route={route} />}
    </Show>
  );
};

const Outside: Component<{ route: Route }> = (props) => (
  <>
    <Header />
    <main>
      <Show when={props.route.view === 'projects'} fallback={<p class="pad">There is no such page. <a href="/">Projects</a></p>}>
        <ProjectsView />
      </Show>
    </main>
  </>
);

const InProject: Component<{ id: string; route: () => Route }> = (props) => {
  const project = createProject(props.id);
  const task = createMemo(() => { const at = props.route(); return at.view === 'task' ? at.task : null; });
  const pane = createMemo(() => { const at = props.route(); return at.view === 'pane' ? { number: at.pane } : null; });
  return (
    <>
      <Header project={project} />
      <Show when={project.state.error}>
        {(error) => (
          <p class="strip warn" role="alert">
            {error()} <a href="/">Projects</a>
          </p>
        )}
      </Show>
      <div class="columns" data-view={props.route().view} data-live={project.link().at === 'open'}>
        <Sidebar project={project} />
        <main>
          <Switch fallback={<ProjectView project={project} />}>
            <Match when={task()} keyed>{(id) => <TaskView project={project} id={id} />}</Match>
            <Match when={pane()} keyed>{(it) => <PaneView project={project} pane={it.number} />}</Match>
          </Switch>
        </main>
      </div>
    </>
  );
};

const Header: Component<{ project?: ProjectStore }> = (props) => (
  <header class="top">
    <a class="brand" href="/">kas</a>
    <Show when={props.project}>
      {(project) => (
        <>
          <span class="quiet" aria-hidden="true">/</span>
          <a href={projectPath(project().id)}>{project().id}</a>
          <Connection link={project().link()} retry={() => project().socket.connect()} />
        </>
      )}
    </Show>
  </header>
);

const WORDS: Record<Link['at'], string> = {
  connecting: 'connecting…',
  open: 'live',
  silent: 'not answering',
  waiting: 'not connected',
  'signed-out': 'no session',
  closed: 'closed',
};

const Connection: Component<{ link: Link; retry: () => void }> = (props) => {
  const wait = (): string => {
    const link = props.link;
    return link.at === 'waiting' ? `, again in ${Math.max(0, Math.ceil((link.retryAt - now()) / 1000))} s` : '';
  };
  return (
    <span class="connection" data-link={props.link.at} role="status">
      <span class="dot" aria-hidden="true" />
      <span>
        {WORDS[props.link.at]}
        <span aria-hidden="true">{wait()}</span>
      </span>
      <Show when={props.link.at === 'waiting'}>
        <button type="button" class="small" onClick={() => props.retry()}>
          Now
        </button>
      </Show>
    </span>
  );
};
