// What is said to screen readers, and shown in passing to everyone.

import { createSignal } from 'solid-js';

const [said, setSaid] = createSignal('');
const [notice, setNotice] = createSignal<string | null>(null);
export { said, notice };

const NOTICE_MS = 6_000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Says it to screen readers only. */
export function announce(text: string): void {
  setSaid(text);
}

/** Shows it for a while, and says it. */
export function tell(text: string): void {
  clearTimeout(timer);
  setNotice(text);
  timer = setTimeout(() => setNotice(null), NOTICE_MS);
}

export const dismissNotice = (): void => void setNotice(null);
