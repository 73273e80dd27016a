// The JSON messages of the socket, and the one place that reads them.

export type RunState = 'starting' | 'running' | 'done' | 'failed' | 'stopped';
export type Mode = 'interactive' | 'view';

export interface Subscribed {
  type: 'subscribed';
  channel: string;
  handle: number;
  /** The next live byte: everything before it is replay. */
  offset: number;
  cols: number;
  rows: number;
  state: RunState;
  replay: 'resume' | 'snapshot' | 'none';
}

export interface Gap {
  type: 'pty.gap';
  channel: string;
  from: number;
  to: number;
  reason: string;
}

export interface SizeChange {
  type: 'pty.size';
  channel: string;
  cols: number;
  rows: number;
}

export interface Exit {
  type: 'pty.exit';
  channel: string;
  state: RunState;
  exit_code: number | null;
  signal: string | null;
  offset: number;
}

export interface DaemonEvent {
  type: 'event';
  id: number;
  event: string;
  at: number;
  task_id?: string;
  project_id?: string;
}

export interface ErrorMessage {
  type: 'error';
  code: string;
  message: string;
  channel: string | null;
  /** The type of the text frame that it answers; it may answer another one, or none. */
  request?: string;
  details?: { reason?: string; accepted?: number };
}

/** The program's terminal took so many more bytes of what this page typed. */
export interface InputTaken {
  type: 'pty.input.taken';
  channel: string;
  bytes: number;
}

/** The daemon heard a ping. */
export interface Pong {
  type: 'pong';
  id: number;
}

export type ServerMessage = Subscribed | Gap | SizeChange | Exit | DaemonEvent | ErrorMessage | InputTaken | Pong;

/** Reasons for which nothing more that is typed on a subscription is taken: `subscribe` begins anew. */
export const INPUT_OVER: readonly (string | undefined)[] = ['input_full', 'input_closed', 'input_lost'];

/** What a terminal is drawn with, each colour `#rrggbb`. */
export interface Colours {
  foreground: string;
  background: string;
  cursor: string;
  palette: string[];
}

export type ClientMessage =
  | { type: 'subscribe'; channel: string; from?: number; since?: number; cols?: number; rows?: number; mode?: Mode; confirm_input?: true }
  | { type: 'unsubscribe'; channel: string }
  | { type: 'pty.resize'; channel: string; cols: number; rows: number }
  | ({ type: 'pty.colours'; channel: string } & Colours)
  | { type: 'pty.ack'; channel: string; offset: number }
  | { type: 'ping'; id: number };

type Shape = Record<string, 'string' | 'number'>;

/** The fields without which a message cannot be used; what else it carries is taken as the contract says. */
const REQUIRED: Record<ServerMessage['type'], Shape> = {
  subscribed: { channel: 'string' },
  'pty.gap': { channel: 'string', from: 'number', to: 'number' },
  'pty.size': { channel: 'string', cols: 'number', rows: 'number' },
  'pty.exit': { channel: 'string', state: 'string', offset: 'number' },
  event: { id: 'number', event: 'string' },
  error: { code: 'string', message: 'string' },
  'pty.input.taken': { channel: 'string', bytes: 'number' },
  pong: {},
};

/** Reads one text frame; null for what this page does not know, so that a newer daemon can say more. */
export function parseMessage(text: string): ServerMessage | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const fields = value as Record<string, unknown>;
  const type = fields['type'];
  if (typeof type !== 'string' || !Object.hasOwn(REQUIRED, type)) return null;
  const complete = Object.entries(REQUIRED[type as ServerMessage['type']]).every(([name, kind]) => typeof fields[name] === kind);
  return complete ? (value as ServerMessage) : null;
}

export const taskChannel = (taskId: string): string => `pty:task:${taskId}`;
/** What the channels of panes begin with. */
export const PANES = 'pty:pane:';
export const paneChannel = (pane: number): string => `${PANES}${pane}`;
export const EVENTS = 'events';
