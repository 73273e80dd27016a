// What the REST side answers, as far as the page uses it.

import type { RunState } from '../stream/message';

export type { RunState };

export interface Problem {
  file: string;
  line: number;
  column: number;
  message: string;
  /** What to do about it. */
  hint?: string | null;
  reason?: string | null;
}

export interface Project {
  id: string;
  path: string;
  tasks: number;
  running: number;
  problems: Problem[];
}

export interface Latest {
  id: string;
  state: RunState;
  exit_code: number | null;
  launched_at: number;
  exited_at: number | null;
}

export interface Task {
  name: string;
  command: string;
  /** Empty when it has none. */
  description: string;
  group: string | null;
  cwd: string | null;
  long_running: boolean;
  confirm: boolean;
  history: boolean;
  history_count: number;
  latest: Latest | null;
}

export interface Instance {
  id: string;
  project_id: string;
  task_name: string | null;
  command: string;
  cwd: string;
  state: RunState;
  backend: 'tmux' | 'pty';
  tmux_session: string | null;
  tmux_window: string | null;
  pid: number | null;
  exit_code: number | null;
  signal: string | null;
  error: string | null;
  error_text: string | null;
  launched_at: number;
  exited_at: number | null;
  stopped_at: number | null;
  duration_ms: number | null;
  launched_by: string;
  output_bytes: number;
  restarted_from: string | null;
}

export interface Pane {
  pane: number;
  window: number;
  title: string;
  command: string;
  cols: number;
  rows: number;
}

export interface ConfirmRequired {
  confirm_required: true;
  confirm_id: string;
  task_name: string;
  command: string;
  message: string;
  expires_at: number;
}

export interface Tasks {
  items: Task[];
  instances: Instance[];
  problems: Problem[];
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
  has_more: boolean;
}

export type Launch = { task: string } | { command: string; cwd?: string };
