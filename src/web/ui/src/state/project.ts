// What the page knows of one project: asked for anew whenever the daemon says that something happened.

import { createEffect, createSignal, onCleanup, type Accessor } from 'solid-js';
import { createStore, reconcile } from 'solid-js/store';
import * as calls from '../api/calls';
import { ApiError, messageOf, request } from '../api/http';
import { session } from '../api/session';
import type { Instance, Pane, Problem, Task } from '../api/types';
import { announcements } from '../model';
import { EVENTS, type RunState, type ServerMessage } from '../stream/message';
import { Socket, type Link, type Wire } from '../stream/socket';
import { announce, tell } from './announce';

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
  socket: Socket;
  refresh(): void;
}

/** Events come in bursts; one look serves all that came within this time. */
const COALESCE_MS = 40;

/** Not reached, and no session: the connection and the session say so themselves. */
const TOLD_ELSEWHERE = [0, 401];

/** Must be called under an owner: it lives as long as that. */
export function createProject(id: string): ProjectStore {
  const [state, setState] = createStore<ProjectState>({ tasks: [], problems: [], runs: [], panes: [], loaded: false, error: null });
  const [link, setLink] = createSignal<Link>({ at: 'closed' });
  const socket = newSocket(id, setLink);
  let known = new Map<string, RunState>();

  const load = async (): Promise<void> => {
    try {
      const [tasks, runs, panes] = await Promise.all([calls.tasks(id), calls.instances(id), calls.panes(id)]);
      announcements(known, runs).forEach(announce);
      known = new Map(runs.map((run) => [run.id, run.state]));
      setState('tasks', reconcile(tasks.items, { key: 'name' }));
      setState('runs', reconcile(runs, { key: 'id' }));
      setState('panes', reconcile(panes, { key: 'pane' }));
      setState({ problems: tasks.problems, loaded: true, error: null });
    } catch (error) {
      const told = error instanceof ApiError && TOLD_ELSEWHERE.includes(error.status);
      setState('error', told ? null : messageOf(error));
    }
  };
  const refresh = coalesced(load);

  let since: number | null = null;
  socket.attach(EVENTS, {
    opened: () => socket.send({ type: 'subscribe', channel: EVENTS, ...(since === null ? {} : { since }) }),
    closed: () => {},
    message: (message: ServerMessage) => {
      if (message.type === 'event') since = message.id;
      refresh();
    },
  });
  keepConnected(socket);
  refresh();
  onCleanup(() => socket.close());
  return { id, state, link, socket, refresh };
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
        return (await request<{ ticket: string }>('POST', '/session/ticket')).ticket;
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
    random: () => Math.random(),
    changed,
    refused: (error) => error.code !== 'conflict' && tell(`The input was not delivered: ${error.message}`),
  });
}

/** Connects, and does not wait out a pause once there is reason to try: the network is back, or someone looks. */
function keepConnected(socket: Socket): void {
  const retry = (): void => {
    if (socket.link.at === 'waiting' && document.visibilityState === 'visible') socket.connect();
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
