// What the operator typed, on its way to the program: in order, once, and no faster than the program's terminal takes it; or kept here and shown as
// not sent. Pure: pieces go to `send`.

/** What may be sent and not taken yet, each frame counted as the daemon counts it. It is below what the daemon holds for one program, so it refuses none. */
export const WINDOW_BYTES = 128 * 1024;
/** What the daemon counts for a frame besides its bytes. */
export const FRAME_COST_BYTES = 64;
/** Bytes of one frame, so that keys of other terminals get between. */
export const PIECE_BYTES = 32 * 1024;
/** Bytes that wait here; what would be more is not taken at all. */
export const WAITING_LIMIT_BYTES = 16 * 1024 * 1024;

/** Typed, and not sent. */
export interface Held {
  /** How many times a key was pressed or something pasted. */
  keys: number;
  bytes: number;
  /** Bytes of it that were sent before the connection broke: they may have reached the program. */
  unsure: number;
  /** The beginning, for people. */
  preview: string;
}

export interface TypingState {
  /** Bytes on their way: sent, and not taken by the program's terminal yet. */
  flying: number;
  /** Bytes that wait because the program does not read. */
  waiting: number;
  held: Held | null;
}

/**
 * Whether what is typed is sent (`open`), soon (`soon`: the stream is about to begin), or kept as not sent (`shut`).
 */
export type Gate = 'open' | 'soon' | 'shut';

export const NOTHING_TYPED: TypingState = { flying: 0, waiting: 0, held: null };

type Bytes = Uint8Array<ArrayBufferLike>;

const PREVIEW_CHARS = 40;
/** What a terminal puts behind a bracketed paste. */
const PASTE_END = new TextEncoder().encode('\x1b[201~');

export class Typing {
  #gate: Gate = 'shut';
  #flying: Bytes[] = [];
  #queue: Bytes[] = [];
  #held: Bytes[] = [];
  /** Bytes of `#held` that may have arrived. */
  #unsure = 0;
  /** How many of `#held` are older than what is on its way: those that were kept before the gate shut last. */
  #older = 0;
  /** How many bytes of what was typed at once were sent, by the buffer that it has for itself. */
  readonly #sent = new WeakMap<ArrayBufferLike, number>();
  #send: (piece: Bytes) => void = () => {};
  #changed: (state: TypingState) => void = () => {};

  /** From now on pieces go to `send`, and `changed` is told what became of them. */
  through(send: (piece: Bytes) => void, changed: (state: TypingState) => void): void {
    this.#send = send;
    this.#changed = changed;
    this.#tell();
  }

  get state(): TypingState {
    const bytes = length(this.#held);
    const held = bytes === 0 ? null : { keys: this.#held.length, bytes, unsure: this.#unsure, preview: preview(this.#held) };
    return { flying: length(this.#flying), waiting: length(this.#queue), held };
  }

  /** Takes what was typed at once; false when it is too much, and then nothing of it was taken. */
  type(data: Bytes): boolean {
    const list = this.#gate === 'shut' ? this.#held : this.#queue;
    if (length(list) + data.length > WAITING_LIMIT_BYTES) return false;
    list.push(data.slice());
    this.#pump();
    return true;
  }

  set gate(gate: Gate) {
    if (gate !== 'shut' || this.#gate !== 'shut') this.#older = this.#held.length;
    this.#gate = gate;
    this.#pump();
  }

  /** The program's terminal took so many bytes more. */
  taken(bytes: number): void {
    this.#flying = skip(this.#flying, bytes);
    this.#pump();
  }

  /** The connection broke: what was on its way may have arrived, and the rest was not sent. */
  broken(): void {
    this.#unsure += length(this.#flying);
    if (this.#gate !== 'shut') this.#older = this.#held.length;
    this.#held.splice(this.#older, 0, ...this.#flying, ...this.#queue);
    this.#flying = [];
    this.#queue = [];
    this.#tell();
  }

  /** The daemon took only the first `accepted` bytes of what is on its way, and nothing after them. */
  refused(accepted: number): void {
    const rest = skip(this.#flying, accepted);
    this.#flying = take(this.#flying, accepted);
    for (const piece of rest.toReversed()) this.#sent.set(piece.buffer, piece.byteOffset);
    this.#held.push(...rest, ...this.#queue);
    this.#queue = [];
    this.#tell();
  }

  /** Sends what was kept, after what waits. */
  sendHeld(): void {
    this.#queue.push(...this.#held);
    this.#clearHeld();
  }

  dropHeld(): void {
    this.#queue.push(...this.#pasteEnds(this.#held));
    this.#clearHeld();
  }

  /** Gives up what waits because the program does not read. What is on its way cannot be called back. */
  dropWaiting(): void {
    this.#queue = this.#pasteEnds(this.#queue);
    this.#tell();
  }

  /** The program is over: nothing of this matters any more. */
  end(): void {
    this.#flying = [];
    this.#queue = [];
    this.#clearHeld();
  }

  #clearHeld(): void {
    this.#held = [];
    this.#unsure = 0;
    this.#older = 0;
    this.#pump();
  }

  /** What of `dropped` is sent all the same: the ends of bracketed pastes that were begun, or the program would take what follows for more of them. */
  #pasteEnds(dropped: readonly Bytes[]): Bytes[] {
    return [...new Set(dropped.map((piece) => piece.buffer))].flatMap((buffer) => {
      const [whole, sent] = [new Uint8Array(buffer), this.#sent.get(buffer) ?? 0];
      const begun = sent > 0 && sent < whole.length && endsWith(whole, PASTE_END);
      return begun ? [whole.subarray(Math.max(sent, whole.length - PASTE_END.length))] : [];
    });
  }

  #pump(): void {
    while (this.#gate === 'open' && this.#queue.length > 0 && cost(this.#flying) < WINDOW_BYTES) {
      const first = this.#queue[0] as Bytes;
      const piece = first.subarray(0, PIECE_BYTES);
      if (piece.length === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(piece.length);
      this.#flying.push(piece);
      this.#sent.set(piece.buffer, piece.byteOffset + piece.length);
      this.#send(piece);
    }
    this.#tell();
  }

  #tell(): void {
    this.#changed(this.state);
  }
}

const length = (list: readonly Bytes[]): number => list.reduce((sum, piece) => sum + piece.length, 0);
const cost = (list: readonly Bytes[]): number => length(list) + FRAME_COST_BYTES * list.length;
const endsWith = (bytes: Bytes, end: Bytes): boolean => bytes.length >= end.length && end.every((byte, at) => bytes[bytes.length - end.length + at] === byte);

/** The list without its first `bytes` bytes. */
function skip(list: readonly Bytes[], bytes: number): Bytes[] {
  const rest = [];
  for (const piece of list) {
    const skipped = Math.min(bytes, piece.length);
    bytes -= skipped;
    if (skipped < piece.length) rest.push(piece.subarray(skipped));
  }
  return rest;
}

/** The first `bytes` bytes of the list. */
function take(list: readonly Bytes[], bytes: number): Bytes[] {
  const first = [];
  for (const piece of list) {
    if (bytes > 0) first.push(piece.subarray(0, bytes));
    bytes -= Math.min(bytes, piece.length);
  }
  return first;
}

/** Text in which keys can be seen: controls as their pictures. */
function preview(list: readonly Bytes[]): string {
  const start = new Uint8Array(PREVIEW_CHARS * 4);
  let at = 0;
  for (const piece of list) {
    const room = piece.subarray(0, start.length - at);
    start.set(room, at);
    at += room.length;
    if (at === start.length) break;
  }
  const chars = [...new TextDecoder().decode(start.subarray(0, at))];
  const shown = chars.slice(0, PREVIEW_CHARS).map(picture).join('');
  return length(list) > at || chars.length > PREVIEW_CHARS ? `${shown}…` : shown;
}

function picture(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  if (code === 13) return '⏎';
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  return code === 127 ? '␡' : char;
}
