// Deletions that can still be undone. A run is hidden at once and deleted when its time is over; a page that is closed or loaded anew before that
// deletes nothing.

import { createSignal, type Accessor } from 'solid-js';
import * as calls from '../api/calls';
import { ApiError, messageOf } from '../api/http';
import { announce, tell } from './announce';
import type { ProjectStore } from './project';

export const UNDO_MS = 10_000;
/** Two deletions closer than this are one double click, whose second half meets what moved under the pointer. */
export const DOUBLE_MS = 700;
/** Requests at a time. */
const AT_ONCE = 4;

export interface Deletion {
  project: ProjectStore;
  ids: readonly string[];
  /** Epoch time in ms at which it begins. */
  at: number;
  /** How many of the runs, the last ones, no request was made for yet. */
  left: Accessor<number>;
  /** Answers the next run to make a request for. */
  next(): string | undefined;
}

const [deletions, setDeletions] = createSignal<readonly Deletion[]>([]);
export { deletions };

/** Whether a run is hidden because it is about to be deleted. */
export const isDeleted = (id: string): boolean => deletions().some((it) => it.ids.includes(id));

export const runsText = (count: number): string => (count === 1 ? '1 run' : `${count} runs`);

let last = -Infinity;

/** Hides runs now and deletes them later; false when it is taken for the second half of a double click. */
export function deleteLater(project: ProjectStore, ids: readonly string[]): boolean {
  if (performance.now() - last < DOUBLE_MS || ids.length === 0) return false;
  last = performance.now();
  const [left, setLeft] = createSignal(ids.length);
  const next = (): string | undefined => (left() === 0 ? undefined : ids[ids.length - setLeft(left() - 1) - 1]);
  const deletion: Deletion = { project, ids, at: Date.now() + UNDO_MS, left, next };
  setDeletions((all) => [...all, deletion]);
  announce(`${runsText(ids.length)} deleted. It can be undone for ${UNDO_MS / 1000} seconds.`);
  setTimeout(() => void carryOut(deletion), UNDO_MS);
  return true;
}

/** Brings back what is left; of a deletion that has begun the rest is not done. */
export function undo(deletion: Deletion): void {
  const left = deletion.left();
  forget(deletion);
  deletion.project.refresh();
  const gone = deletion.ids.length - left;
  if (gone === 0) announce(`${runsText(left)} restored.`);
  else tell(`${runsText(left)} restored; ${gone} ${gone === 1 ? 'was' : 'were'} deleted already.`);
}

const forget = (deletion: Deletion): void => void setDeletions((all) => all.filter((it) => it !== deletion));

async function carryOut(deletion: Deletion): Promise<void> {
  if (!deletions().includes(deletion)) return;
  const failures: unknown[] = [];
  const next = (): string | undefined => (deletions().includes(deletion) ? deletion.next() : undefined);
  const work = async (): Promise<void> => {
    for (let id = next(); id !== undefined; id = next()) await calls.remove(id).catch((error: unknown) => isGone(error) || failures.push(error));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (failures.length > 0) tell(`${runsText(failures.length)} could not be deleted: ${messageOf(failures[0])}`);
  // What is deleted is looked at before it is not hidden any more.
  await deletion.project.load();
  forget(deletion);
}

const isGone = (error: unknown): boolean => error instanceof ApiError && error.status === 404;
