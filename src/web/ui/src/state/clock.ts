// The time, once a second, for what shows it.

import { createSignal } from 'solid-js';

const [now, setNow] = createSignal(Date.now());
export { now };

export function startClock(): void {
  setInterval(() => setNow(Date.now()), 1000);
}
