// What the views say about tasks and their runs; pure.

import type { Instance, Latest, Problem, RunState, Task } from './api/types';

/** How a state looks: one word for the styles and the icon. */
export type Tone = 'running' | 'done' | 'failed' | 'stopped' | 'idle';

export const isActive = (state: RunState): boolean => state === 'starting' || state === 'running';

export const toneOf = (run: { state: RunState } | null): Tone =>
  run === null ? 'idle' : isActive(run.state) ? 'running' : (run.state as 'done' | 'failed' | 'stopped');

/** The word beside a task: `idle` until it ran for the first time. */
export const stateWord = (latest: Latest | null): string => latest?.state ?? 'idle';

export interface Badge {
  tone: Tone;
  text: string;
}

/** Why there is no exit code, in words. */
const ERRORS: Record<string, string> = {
  spawn_failed: 'could not be started',
  daemon_restart: 'ended with the daemon',
  tmux_crash: 'tmux went away',
  host_restart: 'the machine restarted',
  shim_lost: 'its shim was killed',
};

/** What shells make of a death by the signals of a stop: HUP, INT, KILL, TERM. */
const BY_A_STOP = [129, 130, 137, 143];

/** What an ended run came to; null while it runs. */
export function exitBadge(run: Pick<Instance, 'state' | 'exit_code' | 'signal' | 'error'>): Badge | null {
  if (isActive(run.state)) return null;
  const tone = toneOf(run);
  if (run.state === 'stopped') {
    // A program that answers the stop in its own way has a code that says something.
    const own = run.exit_code !== null && run.exit_code !== 0 && !BY_A_STOP.includes(run.exit_code);
    return { tone, text: own ? `stopped: exit ${run.exit_code}` : 'stopped' };
  }
  if (run.error !== null) return { tone, text: ERRORS[run.error] ?? run.error };
  if (run.signal !== null) return { tone, text: `${run.signal} (${run.exit_code})` };
  return { tone, text: `exit ${run.exit_code ?? '?'}${hint(run.exit_code)}` };
}

/** What the shell means by these two codes. */
const hint = (code: number | null): string => (code === 127 ? ': command not found' : code === 126 ? ': permission denied' : '');

/** What is shown of tasks and runs when some runs are hidden: a task's newest run is then its newest shown one. */
export function without(all: { tasks: Task[]; runs: Instance[] }, hidden: (id: string) => boolean): { tasks: Task[]; runs: Instance[] } {
  const runs = all.runs.filter((run) => !hidden(run.id));
  const newest = (name: string): Latest | null => runs.find((run) => run.task_name === name) ?? null;
  return { tasks: all.tasks.map((task) => (task.latest && hidden(task.latest.id) ? { ...task, latest: newest(task.name) } : task)), runs };
}

/** Ids in their order, which is launch order: no clock decides what is newer. */
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Runs of one task as its tabs: active ones first, oldest first; then ended ones, newest first. */
export function tabOrder(runs: readonly Instance[]): Instance[] {
  const active = runs.filter((run) => isActive(run.state)).sort((a, b) => compare(a.id, b.id));
  const ended = runs.filter((run) => !isActive(run.state)).sort((a, b) => compare(b.id, a.id));
  return [...active, ...ended];
}

export interface Group {
  name: string;
  tasks: Task[];
}

const UNGROUPED = 'Other';

/** Tasks by group, in the order of the file; those without a group last. */
export function groupsOf(tasks: readonly Task[]): Group[] {
  const groups = new Map<string | null, Task[]>();
  for (const task of tasks) groups.set(task.group, [...(groups.get(task.group) ?? []), task]);
  const rest = groups.get(null);
  groups.delete(null);
  const named = [...groups].map(([name, members]) => ({ name: name as string, tasks: members }));
  return rest ? [...named, { name: UNGROUPED, tasks: rest }] : named;
}

/** Ended and running commands without a name, newest first. */
export const adHocRuns = (runs: readonly Instance[]): Instance[] =>
  runs.filter((run) => run.task_name === null).sort((a, b) => compare(b.id, a.id));

/** What turns text around or cannot be seen: controls but tab and newline, marks of direction, separators, zero widths. */
const UNSEEN = /(?![\t\n])[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** Text that others wrote, with what cannot be seen in it made visible: a command must read as it will run. */
export const plain = (text: string): string => text.replace(UNSEEN, (char) => `\\u{${char.charCodeAt(0).toString(16)}}`);

const LABEL_LIMIT = 256;

export const labelOf = (run: Pick<Instance, 'task_name' | 'command'>): string => [...plain(run.task_name ?? run.command)].slice(0, LABEL_LIMIT).join('');

/** Sentences for screen readers about what changed between two looks at the same runs. */
export function announcements(before: ReadonlyMap<string, RunState>, after: readonly Instance[]): string[] {
  return after.flatMap((run) => {
    const old = before.get(run.id);
    if (old === undefined || old === run.state || (isActive(old) && isActive(run.state))) return [];
    const why = run.error_text === null ? '' : `: ${run.error_text}`;
    return [`${labelOf(run)}: ${exitBadge(run)?.text ?? run.state}${why}`];
  });
}

export function ago(at: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 5) return 'now';
  if (seconds < 60) return `${seconds}s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`;
  return `${Math.floor(seconds / 86_400)}d ago`;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${(ms / 1000).toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** How long something runs already: whole seconds, for it changes each. */
export const elapsed = (ms: number): string => (ms < 60_000 ? `${Math.floor(ms / 1000)} s` : duration(ms));

/** How long something runs already, or how long ago it ended. */
export const since = (run: Pick<Latest, 'state' | 'launched_at' | 'exited_at'>, now: number): string =>
  isActive(run.state) ? elapsed(Math.max(0, now - run.launched_at)) : ago(run.exited_at ?? run.launched_at, now);

export const placeOf = (problem: Problem): string => `${problem.file}:${problem.line}:${problem.column}`;
