// A terminal on the page: xterm.js on one side, a channel of the socket on the other.

import { FitAddon } from '@xterm/addon-fit';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { Channel, type ChannelState, type Size } from '../stream/channel';
import type { Mode, ServerMessage } from '../stream/message';
import type { Socket } from '../stream/socket';
import type { Held, Typing, TypingState } from '../stream/typing';
import { FONT, fontSize } from './font';
import { isCopyKey, isLeaveKey } from './keys';
import { takePastes } from './paste';
import { isFocusReport, isReport, swallowQuestions } from './replies';
import { rememberSize, usableSize } from './size';
import { colours, onThemeChange, theme } from './theme';
import { drawInCells, useWidths } from './widths';
import { Writer } from './writer';

export interface TerminalDeps {
  socket: Socket;
  channel: string;
  mode: Mode;
  /** Makes the screen readable for screen readers, at some cost. */
  screenReader: boolean;
  state(state: ChannelState): void;
  /** What was typed into this terminal before, and is from now on. */
  typed: Typing;
  /** What was typed and has not reached the program. */
  typing(state: TypingState): void;
  /** The terminal is not shown any more, and this stays to be sent or dropped when it is shown again. */
  kept(held: Held): void;
  /** The size is not what this page would take, because another viewer works in the terminal. */
  foreignSize(foreign: boolean): void;
  /** Something the operator tried did not happen. */
  notice(text: string): void;
  /** The operator wants to open a link that a program printed. */
  link(url: string): void;
  /** The operator wants the keyboard focus out of the terminal. */
  leave(): void;
}

export interface OpenTerminal {
  focus(): void;
  /** Sends what was typed and kept, or drops it, or drops what waits because the program does not read. */
  sendHeld(): void;
  dropHeld(): void;
  dropWaiting(): void;
  dispose(): void;
}

const SCROLLBACK_LINES = 10_000;
const HIDE_CURSOR = '\x1b[?25l';
const RESIZE_SETTLES_MS = 120;

export function openTerminal(container: HTMLElement, deps: TerminalDeps): OpenTerminal {
  const term = newTerminal(deps);
  const fit = new FitAddon();
  term.loadAddon(fit);
  term.open(container);
  drawInCells(term);
  const measure = (): Size | null => usableSize(fit.proposeDimensions());

  const writer = new Writer(term, (offset, idle) => channel.rendered(offset, idle));
  const channel: Channel = new Channel(deps.channel, deps.mode, {
    screen: writer,
    send: (message) => deps.socket.send(message),
    sendBinary: (frame) => deps.socket.sendBinary(frame),
    size: () => (deps.mode === 'interactive' && document.hasFocus() ? measure() : null),
    colours: () => colours(theme()),
    changed: (state) => {
      show(term, channel);
      deps.state(state);
    },
    typing: (state) => deps.typing(state),
    notice: (text) => deps.notice(text),
  }, deps.typed);
  swallowQuestions(term.parser);

  /** What was typed goes on to the program although nothing of it is shown. */
  const leave = (): void =>
    channel.outlive((held) => {
      if (!detach()) return;
      channel.disconnected();
      if (held !== null) deps.kept(held);
    });
  const stops = [
    keepSize(container, term, channel, measure, deps),
    sendInput(container, term, channel, deps),
    takePastes(container, (text) => term.paste(text)),
    onThemeChange(() => {
      term.options.theme = theme();
      channel.recoloured();
    }),
    leave,
    () => term.dispose(),
  ];
  const detach = deps.socket.attach(deps.channel, {
    opened: () => channel.subscribe(),
    closed: () => channel.disconnected(),
    message: (message) => hear(channel, message),
    frame: (frame) => channel.onFrame(frame),
    silence: (silent) => channel.silence(silent),
  });
  return {
    focus: () => term.focus(),
    sendHeld: () => channel.typing.sendHeld(),
    dropHeld: () => channel.typing.dropHeld(),
    dropWaiting: () => channel.typing.dropWaiting(),
    dispose: () => stops.forEach((stop) => stop()),
  };
}

function newTerminal(deps: TerminalDeps): Terminal {
  const term = new Terminal({
    fontFamily: FONT,
    fontSize: fontSize(),
    scrollback: SCROLLBACK_LINES,
    scrollOnEraseInDisplay: true,
    minimumContrastRatio: 4.5,
    theme: theme(),
    disableStdin: true,
    // It logs what it cannot parse, which is the program's affair and may be without end.
    logLevel: 'off',
    screenReaderMode: deps.screenReader,
    linkHandler: { activate: (_event, url) => deps.link(url), allowNonHttpProtocols: false },
  });
  useWidths(term);
  term.loadAddon(new WebLinksAddon((_event, url) => deps.link(url)));
  term.attachCustomKeyEventHandler((event) => !pageKey(event, term, deps));
  return term;
}

/** Handles the keys that are the page's; true when this was one. */
function pageKey(event: KeyboardEvent, term: Terminal, deps: TerminalDeps): boolean {
  const copies = isCopyKey(event) && term.hasSelection();
  if (!copies && !isLeaveKey(event)) return false;
  event.preventDefault();
  if (event.type !== 'keydown') return true;
  if (copies) navigator.clipboard.writeText(term.getSelection()).catch(() => deps.notice('The browser did not allow copying.'));
  else deps.leave();
  return true;
}

/** Takes keys as long as there is a program, for those that cannot be sent are kept; the cursor blinks only while they reach it. */
function show(term: Terminal, channel: Channel): void {
  const { at } = channel.state;
  term.options.disableStdin = channel.mode !== 'interactive' || at === 'ended' || at === 'refused';
  term.options.cursorBlink = channel.takesInput && !matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (at === 'ended') term.write(HIDE_CURSOR);
}

function hear(channel: Channel, message: ServerMessage): void {
  if (message.type === 'subscribed') channel.onSubscribed(message);
  else if (message.type === 'pty.gap') channel.onGap(message);
  else if (message.type === 'pty.size') channel.onSize(message);
  else if (message.type === 'pty.exit') channel.onExit(message);
  else if (message.type === 'pty.input.taken') channel.onInputTaken(message.bytes);
  else if (message.type === 'error') channel.onError(message);
}

/** The terminal follows the page's size while no other viewer works in it; to work in it makes it follow, and this page its owner. */
function keepSize(
  container: HTMLElement,
  term: Terminal,
  channel: Channel,
  measure: () => Size | null,
  deps: TerminalDeps,
): () => void {
  const differs = (size: Size): boolean => size.cols !== term.cols || size.rows !== term.rows;
  const report = (): void => {
    const size = measure();
    deps.foreignSize(channel.sizedByOther && size !== null && differs(size));
  };
  const settle = (): void => {
    const size = measure();
    if (size === null) return;
    rememberSize(size);
    if (!channel.sizedByOther && differs(size)) channel.resize(size);
    report();
  };
  const take = (gesture: Event): void => {
    // What is typed makes the page the owner by itself.
    if (gesture.type === 'keydown' && !channel.sizedByOther) return;
    const size = measure();
    if (size !== null) channel.resize(size);
    report();
  };

  let timer = 0;
  const observer = new ResizeObserver(() => {
    clearTimeout(timer);
    timer = window.setTimeout(settle, RESIZE_SETTLES_MS);
  });
  observer.observe(container);
  const gestures = ['focusin', 'keydown', 'pointerdown'] as const;
  for (const gesture of gestures) container.addEventListener(gesture, take);
  const resized = term.onResize(report);
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    resized.dispose();
    for (const gesture of gestures) container.removeEventListener(gesture, take);
  };
}

/** Gives the channel keys and pastes, and mouse reports while the program can have them: they would not be true later. */
function sendInput(container: HTMLElement, term: Terminal, channel: Channel, deps: TerminalDeps): () => void {
  const utf8 = new TextEncoder();
  // xterm reports the focus when a program asks for reports, too; only what the operator just did is true.
  let focusMoves = false;
  const focusMoved = (): void => {
    focusMoves = true;
    setTimeout(() => (focusMoves = false));
  };
  const send = (data: Uint8Array): void => {
    if (!channel.input(data)) deps.notice('Too much input at once: nothing of it was sent.');
  };
  const text = term.onData((data) => {
    if (isFocusReport(data) && !focusMoves) return;
    if (channel.takesInput || !isReport(data)) send(utf8.encode(data));
  });
  const binary = term.onBinary((data) => channel.takesInput && send(Uint8Array.from(data, (char) => char.charCodeAt(0))));
  for (const type of ['focus', 'blur']) container.addEventListener(type, focusMoved, true);
  return () => {
    text.dispose();
    binary.dispose();
    for (const type of ['focus', 'blur']) container.removeEventListener(type, focusMoved, true);
  };
}
