// A terminal with the line under it that says why it does not take input.

import { createMemo, createSignal, onCleanup, onMount, Show, type Component } from 'solid-js';
import type { ChannelState } from '../stream/channel';
import type { Mode } from '../stream/message';
import { now } from '../state/clock';
import { tell } from '../state/announce';
import type { ProjectStore } from '../state/project';
import { typingOf } from '../state/typings';
import { NOTHING_TYPED, type Held, type TypingState } from '../stream/typing';
import { openTerminal, type OpenTerminal } from '../terminal/terminal';
import { askToOpen } from './Questions';

export interface TerminalPaneProps {
  project: ProjectStore;
  channel: string;
  mode: Mode;
  label: string;
  ended?: () => void;
  /** Where the focus goes when it leaves the terminal. */
  leave: () => void;
}

const READER_KEY = 'kas.screenReader';
const [screenReader, setScreenReader] = createSignal(localStorage.getItem(READER_KEY) === 'yes');
export { screenReader };

export function toggleScreenReader(): void {
  setScreenReader((on) => !on);
  localStorage.setItem(READER_KEY, screenReader() ? 'yes' : 'no');
}

export const TerminalPane: Component<TerminalPaneProps> = (props) => {
  let container!: HTMLDivElement;
  const [state, setState] = createSignal<ChannelState>({ at: 'detached' });
  const [typing, setTyping] = createSignal<TypingState>(NOTHING_TYPED);
  const [foreign, setForeign] = createSignal(false);
  let terminal!: OpenTerminal;
  const live = createMemo((): boolean => state().at === 'live' && props.project.link().at === 'open');
  onMount(() => {
    const { label } = props;
    terminal = openTerminal(container, {
      socket: props.project.socket,
      channel: props.channel,
      mode: props.mode,
      screenReader: screenReader(),
      state: (next) => {
        setState(next);
        if (next.at === 'ended') props.ended?.();
      },
      typed: typingOf(props.project.id, props.channel),
      typing: setTyping,
      kept: (held) => tell(`${label}: ${amount(held)} ${held.unsure > 0 ? 'may not have reached' : 'did not reach'} the program. Open it again to send or drop them.`),
      foreignSize: setForeign,
      notice: tell,
      link: askToOpen,
      leave: () => props.leave(),
    });
    // On a touch screen the focus would bring up the keyboard and hide half of what there is to see.
    if (props.mode === 'interactive' && !matchMedia('(pointer: coarse)').matches) terminal.focus();
    onCleanup(() => terminal.dispose());
  });
  return (
    <div class="terminal-pane" data-state={state().at}>
      <div class="terminal-box" ref={container} role="group" aria-label={props.label} aria-describedby="terminal-help" />
      <p id="terminal-help" class="visually-hidden">
        All keys go to the program. Press Control Shift L to leave the terminal.
      </p>
      <div class="strips" role="status">
        <Show when={typing().held}>
          {(held) => (
            <div class="strip warn unsent">
              <span>
                Not sent: <code>{held().preview}</code> ({amount(held())}{held().unsure > 0 ? '; some of it may have arrived' : ''})
              </span>
              <button type="button" class="small" disabled={!live()} onClick={() => (terminal.sendHeld(), terminal.focus())}>
                Send now
              </button>
              <button type="button" class="small" onClick={() => (terminal.dropHeld(), terminal.focus())}>
                Drop
              </button>
            </div>
          )}
        </Show>
        <Show when={live() && typing().waiting > 0}>
          <div class="strip late waiting">
            <span>The program does not read: {size(typing().waiting)} wait.</span>
            <button type="button" class="small" onClick={() => (terminal.dropWaiting(), terminal.focus())}>
              Drop the rest
            </button>
          </div>
        </Show>
        <Show when={trouble(state(), props.project, typing())}>{(text) => <p class="strip warn">{text()}</p>}</Show>
      </div>
      <Show when={foreign() && state().at === 'live'}>
        <p class="strip aside">Sized by another viewer; click or type to take over the size.</p>
      </Show>
    </div>
  );
};

/** Why the terminal stands still; null while it does not. */
function trouble(state: ChannelState, project: ProjectStore, typing: TypingState): string | null {
  if (state.at === 'refused') return state.message;
  if (state.at === 'ended') return null;
  const link = project.link();
  if (link.at === 'silent') {
    const flying = typing.flying + typing.waiting;
    return `The daemon is not answering: typing is blocked.${flying > 0 ? ` ${size(flying)} typed before wait for it.` : ''}`;
  }
  if (state.at === 'live') return null;
  if (link.at === 'waiting') {
    const seconds = Math.max(0, Math.ceil((link.retryAt - now()) / 1000));
    return `Not connected: typing is blocked. Trying again${seconds > 0 ? ` in ${seconds} s` : ''}…`;
  }
  if (link.at === 'signed-out') return 'The session is over: typing is blocked. Run kas open in a terminal to go on here.';
  return null;
}

const size = (bytes: number): string =>
  bytes < 1024 ? `${bytes} ${bytes === 1 ? 'byte' : 'bytes'}` : bytes < 1024 * 1024 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

/** Single keys are counted; of what was pasted the size says more. */
const amount = ({ keys, bytes }: Held): string => (bytes > 16 * keys ? size(bytes) : `${keys} ${keys === 1 ? 'key' : 'keys'}`);
