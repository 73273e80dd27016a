// The queue between the stream and the terminal: keeps order, tells what is on the screen, and knows while a chunk is
// parsed whether it may be answered.

import type { Screen } from '../stream/channel';

/** What is used of a terminal. */
export interface Target {
  write(data: string | Uint8Array, done: () => void): void;
  resize(cols: number, rows: number): void;
}

interface Chunk {
  /** Offset after it; null for what is not part of the stream. */
  end: number | null;
  answerable: boolean;
}

/** CAN ends an unfinished sequence without running it; RIS forgets screen, history and modes. In order with the bytes. */
const RESET = '\x18\x1bc';

export class Writer implements Screen {
  /** Written and not parsed yet, oldest first. The stream's flow control bounds it. */
  readonly #queue: Chunk[] = [];

  constructor(
    private readonly target: Target,
    private readonly rendered: (offset: number, idle: boolean) => void,
  ) {}

  /** Whether the bytes being parsed right now may be answered. */
  get parsesAnswerable(): boolean {
    return this.#queue[0]?.answerable ?? false;
  }

  write(bytes: Uint8Array, end: number, answerable: boolean): void {
    this.#push(bytes, { end, answerable });
  }

  reset(): void {
    this.#push(RESET, { end: null, answerable: false });
  }

  gap(bytes: number): void {
    this.#push(`\x18\x1b[0m\r\n\x1b[7m ${bytes} bytes were not kept \x1b[0m\r\n`, { end: null, answerable: false });
  }

  resize(cols: number, rows: number): void {
    this.target.resize(cols, rows);
  }

  #push(data: string | Uint8Array, chunk: Chunk): void {
    this.#queue.push(chunk);
    this.target.write(data, () => this.#parsed());
  }

  #parsed(): void {
    const chunk = this.#queue.shift();
    if (chunk?.end != null) this.rendered(chunk.end, this.#queue.length === 0);
  }
}
