// What the page asks before it does it: a launch that wants confirmation, and a link that a program printed.

import { createSignal, onCleanup, Show, type Component } from 'solid-js';
import { plain } from '../model';
import { now } from '../state/clock';
import { DOUBLE_MS } from '../state/deletion';
import { answer, question, type Question } from '../state/run';
import { Dialog } from './Dialog';

export const ConfirmLaunch: Component = () => (
  <Show when={question()} keyed>
    {(asked) => <Launch asked={asked} />}
  </Show>
);

const Launch: Component<{ asked: Question }> = (props) => {
  const left = (): number => Math.ceil((props.asked.expires_at - now()) / 1000);
  const cancel = (): void => void answer(props.asked, false);
  // The second half of the double click that brought the question is no answer to it.
  const [read, setRead] = createSignal(false);
  const timer = setTimeout(() => setRead(true), DOUBLE_MS);
  onCleanup(() => clearTimeout(timer));
  return (
    <Dialog label={`Run ${props.asked.task_name}?`} cancel={cancel}>
      <h2>Run {props.asked.task_name}?</h2>
      <p>{plain(props.asked.message)}</p>
      <pre class="command">{plain(props.asked.command)}</pre>
      <p class="quiet" role="timer">
        {left() > 0 ? `This question is good for ${left()} s.` : 'This question has expired: cancel, and run the task again.'}
      </p>
      <div class="actions">
        <button type="button" autofocus onClick={cancel}>
          Cancel
        </button>
        <button type="button" class="primary" disabled={left() <= 0 || !read()} onClick={() => void answer(props.asked, true)}>
          Run it
        </button>
      </div>
    </Dialog>
  );
};

const [link, setLink] = createSignal<string | null>(null);

/** Asks whether to open `url`; anything but http and https is left alone. */
export function askToOpen(url: string): void {
  const scheme = URL.canParse(url) ? new URL(url).protocol : '';
  if (scheme === 'http:' || scheme === 'https:') setLink(url);
}

export const ConfirmLink: Component = () => {
  const open = (url: string): void => {
    setLink(null);
    window.open(url, '_blank', 'noopener,noreferrer');
  };
  return (
    <Show when={link()} keyed>
      {(url) => (
        <Dialog label="Open this link?" cancel={() => setLink(null)}>
          <h2>Open this link?</h2>
          <p>A program printed it.</p>
          <pre class="command">{plain(url)}</pre>
          <div class="actions">
            <button type="button" autofocus onClick={() => setLink(null)}>
              Cancel
            </button>
            <button type="button" class="primary" onClick={() => open(url)}>
              Open in a new tab
            </button>
          </div>
        </Dialog>
      )}
    </Show>
  );
};
