// The browser session: a one-time ticket from the address becomes a cookie and a key; the key stays in this tab's
// storage and is shared with the site's other tabs, which the one cookie serves too.

import { createSignal } from 'solid-js';

export type Session = 'starting' | 'open' | 'none';

const KEY = 'kas.key';
const SIBLING_ANSWERS_MS = 300;

const [session, setSession] = createSignal<Session>('starting');
export { session };

type TabMessage = { want: true } | { key: string };
const tabs = new BroadcastChannel('kas.session');

export const sessionKey = (): string | null => sessionStorage.getItem(KEY);

/** The daemon does not know the key any more. */
export function sessionLost(): void {
  sessionStorage.removeItem(KEY);
  setSession('none');
}

function adopt(key: string): void {
  sessionStorage.setItem(KEY, key);
  setSession('open');
}

export async function startSession(): Promise<void> {
  tabs.onmessage = ({ data }: MessageEvent<TabMessage>) => {
    const key = sessionKey();
    if ('key' in data) adopt(data.key);
    else if (key !== null) tabs.postMessage({ key });
  };
  // The address of `kas open` pasted into this tab changes only the fragment.
  addEventListener('hashchange', () => void useTicket());
  if (await useTicket()) return;
  if (sessionKey() !== null) return void setSession('open');
  tabs.postMessage({ want: true });
  setTimeout(() => setSession((now) => (now === 'starting' ? 'none' : now)), SIBLING_ANSWERS_MS);
}

/** Exchanges the address's ticket, if it has one; whether that gave a session. The ticket leaves the address first. */
async function useTicket(): Promise<boolean> {
  const ticket = ticketIn(location.hash);
  if (ticket === null) return false;
  history.replaceState(null, '', location.pathname + location.search);
  const key = await exchange(ticket).catch(() => null);
  if (key === null) return false;
  adopt(key);
  tabs.postMessage({ key });
  return true;
}

export function ticketIn(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('t') || null;
}

async function exchange(ticket: string): Promise<string | null> {
  const response = await fetch('/api/v1/session', {
    method: 'POST',
    credentials: 'same-origin',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ticket }),
  });
  if (!response.ok) return null;
  const { key } = (await response.json()) as { key?: unknown };
  return typeof key === 'string' ? key : null;
}
