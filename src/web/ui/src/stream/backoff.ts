// How long to wait before the next attempt to connect.

const FIRST_MS = 250;
const LIMIT_MS = 10_000;

/** Half the doubled wait is sure and half is drawn, so that many tabs do not come back at once. `random` is in 0..1. */
export function backoffMs(attempt: number, random: number): number {
  const whole = Math.min(LIMIT_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(whole / 2 + (whole / 2) * random);
}
