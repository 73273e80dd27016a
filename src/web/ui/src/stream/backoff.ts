// How long to wait before the next attempt to connect.

const FIRST_MS = 250;
/** While the page is seen, a daemon that is back is found within this. */
const LIMIT_MS = 1_500;
const HIDDEN_LIMIT_MS = 10_000;

/** Half the doubled wait is sure and half is drawn, so that many tabs do not come back at once. `random` is in 0..1. */
export function backoffMs(attempt: number, random: number, visible: boolean): number {
  const whole = Math.min(visible ? LIMIT_MS : HIDDEN_LIMIT_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(whole / 2 + (whole / 2) * random);
}
