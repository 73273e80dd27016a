// The browser session: a one-time ticket or a shared link's token from the address becomes a cookie and a key; the key
// stays in this tab's storage and is shared with the site's other tabs, which the one cookie serves too.

import { createSignal } from 'solid-js';

export type Session = 'starting' | 'open' | 'none';

const KEY = 'kas.key';
const SCOPE = 'kas.scope';
const SIBLING_ANSWERS_MS = 300;

const [session, setSession] = createSignal<Session>('starting');
export { session };

/** What a session was opened with, as far as the page keeps it. */
interface Opened {
  key: string;
  scope: string;
}

type TabMessage = { want: true } | Opened;
const tabs = new BroadcastChannel('kas.session');

export const sessionKey = (): string | null => sessionStorage.getItem(KEY);

const [scope, setScope] = createSignal(globalThis.sessionStorage?.getItem(SCOPE) ?? 'full');
/** Whether this session may launch, stop and delete; the daemon decides, the page only hides what it would refuse. */
export const mayRun = (): boolean => scope() !== 'view';

/** The daemon does not know the key any more. */
export function sessionLost(): void {
  sessionStorage.removeItem(KEY);
  setSession('none');
}

function adopt(opened: Opened): void {
  sessionStorage.setItem(KEY, opened.key);
  sessionStorage.setItem(SCOPE, opened.scope);
  setScope(opened.scope);
  setSession('open');
}

export async function startSession(): Promise<void> {
  tabs.onmessage = ({ data }: MessageEvent<TabMessage>) => {
    const key = sessionKey();
    if ('key' in data) adopt(data);
    else if (key !== null) tabs.postMessage({ key, scope: scope() });
  };
  // The address of `kas open` pasted into this tab changes only the fragment.
  addEventListener('hashchange', () => void enter());
  if (await enter()) return;
  if (sessionKey() !== null) return void setSession('open');
  tabs.postMessage({ want: true });
  setTimeout(() => setSession((now) => (now === 'starting' ? 'none' : now)), SIBLING_ANSWERS_MS);
}

/** Exchanges what the address brings, if anything; whether that gave a session. It leaves the address first. */
async function enter(): Promise<boolean> {
  const entry = entryIn(location.hash);
  if (entry === null) return false;
  history.replaceState(null, '', location.pathname + location.search);
  const opened = await exchange(entry).catch(() => null);
  if (opened === null) return false;
  adopt(opened);
  tabs.postMessage(opened);
  return true;
}

export type Entry = { ticket: string } | { token: string };

/** `#t=` is the ticket of `kas open`, `#s=` the token of a shared link. */
export function entryIn(fragment: string): Entry | null {
  const given = new URLSearchParams(fragment.replace(/^#/, ''));
  const [ticket, token] = [given.get('t'), given.get('s')];
  if (ticket) return { ticket };
  return token ? { token } : null;
}

async function exchange(entry: Entry): Promise<Opened | null> {
  const response = await fetch('/api/v1/session', {
    method: 'POST',
    credentials: 'same-origin',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(entry),
  });
  if (!response.ok) return null;
  const { key, scope: given } = (await response.json()) as { key?: unknown; scope?: unknown };
  return typeof key === 'string' ? { key, scope: typeof given === 'string' ? given : 'full' } : null;
}
