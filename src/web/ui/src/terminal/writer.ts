// The queue between the stream and the terminal: keeps order, and tells what is on the screen.

import type { Screen } from '../stream/channel';

/** What is used of a terminal. */
export interface Target {
  write(data: string | Uint8Array, done: () => void): void;
  resize(cols: number, rows: number): void;
}

/** CAN ends an unfinished sequence without running it; RIS forgets screen, history and modes. In order with the bytes. */
const RESET = '\x18\x1bc';

/**
 * How many of these bytes are whole characters of UTF-8: all but a last one that is cut. xterm.js 6.0 loses a character that comes in two writes when one
 * of its bytes is 0x80.
 */
export function wholeLength(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? bytes.length - back : bytes.length;
    if (byte < 0x80) break;
  }
  return bytes.length;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

export class Writer implements Screen {
  /** Chunks written and not parsed yet. The stream's flow control bounds them. */
  #pending = 0;
  /** The beginning of a character whose other bytes are still to come. */
  #begun = new Uint8Array(0);

  constructor(
    private readonly target: Target,
    private readonly rendered: (offset: number, idle: boolean) => void,
  ) {}

  write(bytes: Uint8Array, end: number): void {
    const all = this.#begun.length === 0 ? bytes : joined(this.#begun, bytes);
    const whole = wholeLength(all);
    this.#begun = all.slice(whole);
    this.#push(all.subarray(0, whole), end);
  }

  reset(): void {
    this.#begun = new Uint8Array(0);
    this.#push(RESET);
  }

  gap(bytes: number): void {
    this.#begun = new Uint8Array(0);
    this.#push(`\x18\x1b[0m\r\n\x1b[7m ${bytes} bytes were not kept \x1b[0m\r\n`);
  }

  resize(cols: number, rows: number): void {
    this.target.resize(cols, rows);
  }

  /** `end` is the offset after it, where it is part of the stream. */
  #push(data: string | Uint8Array, end?: number): void {
    this.#pending += 1;
    this.target.write(data, () => {
      this.#pending -= 1;
      if (end !== undefined) this.rendered(end, this.#pending === 0);
    });
  }
}
