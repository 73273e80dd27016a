// Decides when to ask the daemon whether it answers, and when its silence means that it does not. Pure: the time comes from outside.

/** How often to look. */
export const LOOK_EVERY_MS = 500;
/** Silence after which the daemon is asked. */
export const ASK_AFTER_MS = 3_000;
/** Silence after which it counts as not answering. */
export const SILENT_AFTER_MS = 6_000;
/** Looks further apart than this mean that the page itself stood still (hidden, or the machine slept), and prove nothing. */
const STOOD_STILL_MS = 2_000;

export class Pulse {
  #heardAt: number;
  #askedAt = -Infinity;
  #lookedAt: number;

  constructor(now: number) {
    this.#heardAt = now;
    this.#lookedAt = now;
  }

  /** Something came. */
  heard(now: number): void {
    this.#heardAt = now;
  }

  /** What to do now. After the page stood still the daemon is asked first, and has the rest of the time to answer. */
  look(now: number, visible: boolean): 'fine' | 'ask' | 'silent' {
    const stood = now - this.#lookedAt > STOOD_STILL_MS;
    this.#lookedAt = now;
    if (!visible) {
      this.#heardAt = now;
      return 'fine';
    }
    if (stood) this.#heardAt = Math.max(this.#heardAt, now - ASK_AFTER_MS);
    const quiet = now - this.#heardAt;
    if (quiet >= SILENT_AFTER_MS) return 'silent';
    if (quiet < ASK_AFTER_MS || now - this.#askedAt < ASK_AFTER_MS) return 'fine';
    this.#askedAt = now;
    return 'ask';
  }
}
