// What the page knows of one project: asked for anew whenever the daemon says that something happened.

import { createEffect, createMemo, createSignal, on, onCleanup, type Accessor } from 'solid-js';
import { createStore, reconcile } from 'solid-js/store';
import * as calls from '../api/calls';
import { ApiError, messageOf, request } from '../api/http';
import { mayRun, session } from '../api/session';
import type { Instance, Pane, Problem, Task } from '../api/types';
import { announcements, isActive, without } from '../model';
import { EVENTS, paneChannel, taskChannel, type RunState, type ServerMessage } from '../stream/message';
import { Socket, type Link, type Wire } from '../stream/socket';
import { colours, onThemeChange, theme } from '../terminal/theme';
import { announce, tell } from './announce';
import { now } from './clock';
import { deletions, isDeleted } from './deletion';
import { forgetTypings } from './typings';

export interface ProjectState {
  tasks: Task[];
  problems: Problem[];
  /** Running and ended runs, newest first. */
  runs: Instance[];
  panes: Pane[];
  loaded: boolean;
  error: string | null;
}

export interface ProjectStore {
  id: string;
  state: ProjectState;
  link: Accessor<Link>;
  /** The time, as long as the daemon answers: what it does not tell of does not go on. */
  now: Accessor<number>;
  socket: Socket;
  refresh(): void;
  /** Asks anew at once. */
  load(): Promise<void>;
}

/** Events come in bursts; one look serves all that came within this time. */
const COALESCE_MS = 40;

/** How long the daemon may take to let a socket in, before it is asked again. */
const TICKET_MS = 4_000;

/** Not reached, and no session: the connection and the session say so themselves. */
const TOLD_ELSEWHERE = [0, 401];

/** Must be called under an owner: it lives as long as that. */
export function createProject(id: string): ProjectStore {
  const [state, setState] = createStore<ProjectState>({ tasks: [], problems: [], runs: [], panes: [], loaded: false, error: null });
  const [link, setLink] = createSignal<Link>({ at: 'closed' });
  const socket = newSocket(id, setLink);
  let known = new Map<string, RunState>();

  let heard: { tasks: Task[]; runs: Instance[] } = { tasks: [], runs: [] };
  /** Shows what was last heard, without what is about to be deleted. */
  const show = (): void => {
    const { tasks, runs } = without(heard, isDeleted);
    setState('tasks', reconcile(tasks, { key: 'name' }));
    setState('runs', reconcile(runs, { key: 'id' }));
  };

  const load = async (): Promise<void> => {
    try {
      const [tasks, runs, panes] = await Promise.all([calls.tasks(id), calls.instances(id), calls.panes(id)]);
      announcements(known, runs).forEach(announce);
      known = new Map(runs.map((run) => [run.id, run.state]));
      heard = { tasks: tasks.items, runs };
      forgetTypings(id, runs.filter((run) => !isActive(run.state)).map((run) => taskChannel(run.id)), panes.map((it) => paneChannel(it.pane)));
      setState('panes', reconcile(panes, { key: 'pane' }));
      setState({ problems: tasks.problems, loaded: true, error: null });
      show();
    } catch (error) {
      const told = error instanceof ApiError && TOLD_ELSEWHERE.includes(error.status);
      setState('error', told ? null : messageOf(error));
    }
  };
  const refresh = coalesced(load);

  let since: number | null = null;
  const tellColours = (): void => {
    if (mayRun()) socket.send({ type: 'pty.colours', channel: EVENTS, ...colours(theme()) });
  };
  onCleanup(onThemeChange(tellColours));
  socket.attach(EVENTS, {
    opened: () => socket.send({ type: 'subscribe', channel: EVENTS, ...(since === null ? {} : { since }) }),
    closed: () => {},
    message: (message: ServerMessage) => {
      if (message.type === 'event') since = message.id;
      if (message.type === 'subscribed') tellColours();
      refresh();
    },
  });
  keepConnected(socket);
  createEffect(on(deletions, show, { defer: true }));
  // What happened while the daemon did not answer.
  createEffect(on(() => link().at === 'open', (answers) => answers && refresh(), { defer: true }));
  refresh();
  onCleanup(() => socket.close());
  const time = createMemo((last: number) => (link().at === 'open' ? now() : last), now());
  return { id, state, link, now: time, socket, refresh, load };
}

/** Runs `work` soon, once for all calls until then, and never twice at a time. */
function coalesced(work: () => Promise<void>): () => void {
  let state: 'idle' | 'due' | 'busy' | 'again' = 'idle';
  const run = async (): Promise<void> => {
    state = 'busy';
    await work();
    const again = (state as string) === 'again';
    state = 'idle';
    if (again) call();
  };
  const call = (): void => {
    if (state === 'busy') state = 'again';
    if (state !== 'idle') return;
    state = 'due';
    setTimeout(() => void run(), COALESCE_MS);
  };
  return call;
}

function newSocket(id: string, changed: (link: Link) => void): Socket {
  const url = `${location.origin.replace(/^http/, 'ws')}/api/v1/projects/${encodeURIComponent(id)}/tasks/socket`;
  return new Socket({
    ticket: async () => {
      try {
        return (await request<{ ticket: string }>('POST', '/session/ticket', undefined, {}, AbortSignal.timeout(TICKET_MS))).ticket;
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return null;
        throw error;
      }
    },
    open: (protocols) => new WebSocket(url, protocols) as unknown as Wire,
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    now: () => Date.now(),
    uptime: () => performance.now(),
    visible: () => document.visibilityState === 'visible',
    random: () => Math.random(),
    changed,
    refused: (error) => tell(error.message),
  });
}

/** Connects, and does not wait out a pause once there is reason to try: the network is back, or the page is seen. */
function keepConnected(socket: Socket): void {
  const retry = (): void => {
    if (socket.link.at === 'waiting' && document.visibilityState === 'visible') socket.connect();
    else socket.look();
  };
  addEventListener('online', retry);
  document.addEventListener('visibilitychange', retry);
  onCleanup(() => {
    removeEventListener('online', retry);
    document.removeEventListener('visibilitychange', retry);
  });
  socket.connect();
  createEffect(() => {
    if (session() === 'open' && socket.link.at === 'signed-out') socket.connect();
  });
}
