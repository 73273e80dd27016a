// One terminal's side of the stream: knows which byte comes next, resumes there, and lets nothing be skipped in silence.
// Pure: what to draw goes to `screen`, what to say goes to `send`.

import { inputFrame, Kind, type Frame } from './frame';
import { INPUT_OVER, type ClientMessage, type Colours, type ErrorMessage, type Exit, type Gap, type Mode, type SizeChange, type Subscribed } from './message';
import { Typing, type Held, type TypingState } from './typing';

export interface Screen {
  /** Draws bytes that end at offset `end`. */
  write(bytes: Uint8Array, end: number): void;
  /** Forgets all that was drawn; takes effect in order with `write`. */
  reset(): void;
  /** Says in the terminal that `bytes` bytes are missing here. */
  gap(bytes: number): void;
  /** The program's terminal has this size now. */
  resize(cols: number, rows: number): void;
}

export type ChannelState =
  | { at: 'detached' }
  | { at: 'subscribing' }
  | { at: 'live'; handle: number }
  | { at: 'ended'; exit: Exit }
  | { at: 'refused'; message: string };

export interface Size {
  cols: number;
  rows: number;
}

export interface ChannelDeps {
  screen: Screen;
  send(message: ClientMessage): void;
  sendBinary(frame: Uint8Array<ArrayBuffer>): void;
  /** The size this page would like, when it may have a say. */
  size(): Size | null;
  /** The colours this page draws with. */
  colours(): Colours;
  changed(state: ChannelState): void;
  /** What was typed and has not reached the program. */
  typing(state: TypingState): void;
  /** Something that was asked of a living terminal did not happen. */
  notice(text: string): void;
}

/** Rendered bytes after which the server is told; it stops at 100 000 without word and goes on below 5 000. */
export const ACK_BYTES = 5_000;
const NEVER = -1;
/** Damaged streams in a row before the page says so instead of asking again. */
const RETRY_LIMIT = 3;

export class Channel {
  state: ChannelState = { at: 'detached' };
  /** Another viewer set the terminal's size after this page last did. */
  sizedByOther = false;

  /** The next byte to draw; null when nothing was drawn yet. */
  #position: number | null = null;
  #acked = 0;
  #rendered = 0;
  /** A range said to be missing, until a snapshot or later bytes show how it goes on. */
  #missing: Gap | null = null;
  #awaitsSnapshot = false;
  /** A snapshot may come in several frames of one offset: where the one being read stands. */
  #snapshotAt: number | null = null;
  #damaged = 0;
  #wished: Size | null = null;
  #silent = false;

  constructor(
    readonly name: string,
    public mode: Mode,
    private deps: ChannelDeps,
    /** What was typed here, also through an earlier channel of this name. */
    readonly typing = new Typing(),
  ) {
    typing.through(
      (piece) => this.state.at === 'live' && deps.sendBinary(inputFrame(this.state.handle, piece)),
      (state) => this.deps.typing(state),
    );
  }

  /**
   * Draws nothing any more, and lives on until nothing that was typed is on its way or waits. Then it tells `over` what it keeps as not sent. Another
   * channel may take its place and its typing before.
   */
  outlive(over: (held: Held | null) => void): void {
    const look = ({ flying, waiting, held }: TypingState): void => {
      if (flying + waiting > 0) return;
      this.deps = { ...this.deps, typing: () => {} };
      over(held);
    };
    const screen: Screen = { write: (_bytes, end) => this.rendered(end, true), reset: () => {}, gap: () => {}, resize: () => {} };
    this.deps = { ...this.deps, screen, size: () => null, changed: () => {}, typing: look };
    // A channel that takes this one's place at once shows by itself what is kept.
    queueMicrotask(() => this.deps.typing(this.typing.state));
  }

  /** Asks for the stream: from the next byte where something is drawn already, else for what the server thinks right. */
  subscribe(): void {
    if (this.state.at === 'ended' || this.state.at === 'refused') return;
    const size = this.deps.size();
    this.#wished = size;
    this.#awaitsSnapshot = false;
    this.#enter({ at: 'subscribing' });
    this.deps.send({
      type: 'subscribe',
      channel: this.name,
      mode: this.mode,
      ...(this.mode === 'interactive' ? { confirm_input: true } : {}),
      ...(this.#position === null ? {} : { from: this.#position }),
      ...(size ?? {}),
    });
  }

  /** The socket is gone. What is drawn stays, and so does the position. */
  disconnected(): void {
    this.#silent = false;
    if (this.state.at !== 'subscribing' && this.state.at !== 'live') return;
    this.typing.broken();
    this.#enter({ at: 'detached' });
  }

  /** The daemon stopped answering, or answers again. */
  silence(silent: boolean): void {
    this.#silent = silent;
    this.#enter(this.state);
  }

  /** Whether keys reach the program now. */
  get takesInput(): boolean {
    return this.state.at === 'live' && this.mode === 'interactive' && !this.#silent;
  }

  onInputTaken(bytes: number): void {
    this.typing.taken(bytes);
  }

  onSubscribed(message: Subscribed): void {
    if (this.state.at !== 'subscribing') return;
    this.#missing = null;
    this.#snapshotAt = null;
    this.#awaitsSnapshot = message.replay === 'snapshot';
    this.deps.screen.resize(message.cols, message.rows);
    this.sizedByOther = !same(this.#wished, message);
    if (this.#position === null && message.replay !== 'snapshot') this.#startAt(message.replay === 'resume' ? 0 : message.offset);
    this.#enter({ at: 'live', handle: message.handle });
    this.recoloured();
  }

  onFrame(frame: Frame): void {
    if (this.state.at !== 'live' || frame.handle !== this.state.handle) return;
    if (frame.kind === Kind.snapshot) this.#snapshot(frame);
    else if (frame.kind !== Kind.input) this.#output(frame);
  }

  onGap(gap: Gap): void {
    if (this.state.at !== 'live') return;
    this.#missing = gap;
    this.#snapshotAt = null;
  }

  onSize(size: SizeChange): void {
    this.sizedByOther = !same(this.#wished, size);
    this.deps.screen.resize(size.cols, size.rows);
  }

  onExit(exit: Exit): void {
    if (this.state.at !== 'live') return;
    this.#skipMissing(exit.offset);
    if (this.#position !== null && this.#position !== exit.offset) return this.#damage();
    this.#enter({ at: 'ended', exit });
  }

  onError(error: ErrorMessage): void {
    if (INPUT_OVER.includes(error.details?.reason)) return this.#inputOver(error);
    // Only an answer to `subscribe` decides about it: others come at any time, from frames of the subscription before.
    if (this.state.at !== 'subscribing' || error.request !== 'subscribe') {
      // `conflict` is what was typed after the program ended, which the end itself tells.
      if (error.code !== 'conflict') this.deps.notice(error.message);
      return;
    }
    if (error.code === 'forbidden' && this.mode === 'interactive') {
      this.mode = 'view';
      this.typing.end();
      this.subscribe();
      return;
    }
    if (error.code === 'invalid_request' && this.#position !== null) {
      // The server does not have the bytes this page counted: only its own account is right.
      this.#position = null;
      this.deps.screen.reset();
      this.subscribe();
      return;
    }
    this.#enter({ at: 'refused', message: error.message });
  }

  /** Bytes up to `offset` are on the screen; `idle` when nothing more waits to be drawn. */
  rendered(offset: number, idle: boolean): void {
    this.#rendered = offset;
    const due = this.#rendered - this.#acked >= ACK_BYTES || (idle && this.#rendered !== this.#acked);
    if (!due || this.state.at !== 'live') return;
    this.#acked = this.#rendered;
    this.deps.send({ type: 'pty.ack', channel: this.name, offset: this.#acked });
  }

  /** Takes what the operator typed: sends it, or keeps it as not sent. False when it is too much at once, and then nothing of it was taken. */
  input(data: Uint8Array): boolean {
    if (this.mode !== 'interactive' || this.state.at === 'ended' || this.state.at === 'refused') return true;
    if (this.takesInput) this.sizedByOther = false;
    return this.typing.type(data);
  }

  /** The daemon takes nothing more of what was typed on a subscription; only a new one begins anew. Later frames of the old one are refused too. */
  #inputOver(error: ErrorMessage): void {
    const { reason, accepted } = error.details ?? {};
    const live = this.state.at === 'live';
    // What a new subscription is under way for was told before.
    if (!live && reason === 'input_closed') return;
    if (accepted === undefined) this.typing.broken();
    else this.typing.refused(accepted);
    this.deps.notice(error.message);
    if (live) this.subscribe();
  }

  /** Makes this page the one whose size counts. */
  resize(size: Size): void {
    if (this.state.at !== 'live' || this.mode !== 'interactive') return;
    this.#wished = size;
    this.sizedByOther = false;
    this.deps.screen.resize(size.cols, size.rows);
    this.deps.send({ type: 'pty.resize', channel: this.name, ...size });
  }

  /** The page draws with other colours than before. */
  recoloured(): void {
    if (this.state.at !== 'live' || this.mode !== 'interactive') return;
    this.deps.send({ type: 'pty.colours', channel: this.name, ...this.deps.colours() });
  }

  #output(frame: Frame): void {
    this.#skipMissing(frame.offset);
    this.#snapshotAt = null;
    if (this.#awaitsSnapshot) return;
    if (frame.offset !== this.#position) return this.#damage();
    const end = frame.offset + frame.payload.length;
    this.deps.screen.write(frame.payload, end);
    this.#position = end;
    this.#damaged = 0;
  }

  #snapshot(frame: Frame): void {
    if (this.#snapshotAt !== frame.offset) this.deps.screen.reset();
    this.#snapshotAt = frame.offset;
    this.deps.screen.write(frame.payload, frame.offset);
    this.#startAt(frame.offset);
    this.#acked = NEVER; // the dump itself is acknowledged too, so that the server counts from here
    this.#missing = null;
    this.#awaitsSnapshot = false;
    this.#damaged = 0;
  }

  /** Goes over a range the server said is missing, once it is sure that no snapshot stands in for it. */
  #skipMissing(next: number): void {
    const gap = this.#missing;
    if (gap === null || next !== gap.to) return;
    this.deps.screen.gap(gap.to - gap.from);
    this.#missing = null;
    this.#awaitsSnapshot = false;
    this.#startAt(gap.to);
  }

  #startAt(offset: number): void {
    this.#position = offset;
    this.#acked = offset;
    this.#rendered = offset;
  }

  /** The stream did not go on where it must: ask again from the last good byte, and give up before asking for ever. */
  #damage(): void {
    this.#damaged += 1;
    if (this.#damaged > RETRY_LIMIT) {
      this.deps.send({ type: 'unsubscribe', channel: this.name });
      this.#enter({ at: 'refused', message: 'The stream is damaged: bytes are missing. Reload the page to try again.' });
      return;
    }
    this.subscribe();
  }

  #enter(state: ChannelState): void {
    this.state = state;
    if (state.at === 'ended' || state.at === 'refused') this.typing.end();
    else this.typing.gate = this.#silent || state.at === 'detached' || this.mode === 'view' ? 'shut' : state.at === 'live' ? 'open' : 'soon';
    this.deps.changed(state);
  }
}

const same = (a: Size | null, b: Size): boolean => a !== null && a.cols === b.cols && a.rows === b.rows;
