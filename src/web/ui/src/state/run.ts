// Launching, and the question that may come before it.

import { createSignal } from 'solid-js';
import * as calls from '../api/calls';
import { ApiError, messageOf } from '../api/http';
import type { ConfirmRequired, Instance, Launch } from '../api/types';
import { go, projectPath, taskPath } from '../route';
import { tell } from './announce';
import { deleteLater, DOUBLE_MS } from './deletion';
import type { ProjectStore } from './project';

export interface Question extends ConfirmRequired {
  project: ProjectStore;
}

const [question, setQuestion] = createSignal<Question | null>(null);
export { question };

const isQuestion = (answer: Instance | ConfirmRequired): answer is ConfirmRequired => 'confirm_required' in answer;

/** Launches and shows the run's terminal; asks first where the task wants that. */
export const run = (project: ProjectStore, what: Launch): Promise<boolean> => begin(project, () => calls.launch(project.id, what));

export const restart = (project: ProjectStore, id: string): Promise<boolean> => begin(project, () => calls.restart(id));

const [launching, setLaunching] = createSignal(false);
/** A launch is under way, or its run was shown so lately that a click may be the second half of a double click: nothing is launched now. */
export { launching };

async function begin(project: ProjectStore, start: () => Promise<Instance | ConfirmRequired>): Promise<boolean> {
  if (launching()) return false;
  return moving(project, async () => {
    const answer = await start();
    if (isQuestion(answer)) setQuestion({ ...answer, project });
    else go(taskPath(project.id, answer.id));
    return !isQuestion(answer);
  });
}

export async function answer(asked: Question, proceed: boolean): Promise<void> {
  setQuestion(null);
  await moving(asked.project, async () => {
    const result = await calls.answerConfirm(asked.project.id, asked.confirm_id, proceed);
    if ('id' in result) go(taskPath(asked.project.id, result.id));
    return true;
  });
}

/** Does it; while it does, and for a moment where it answers that it changed what is under the pointer, nothing else is launched. */
async function moving(project: ProjectStore, work: () => Promise<boolean>): Promise<boolean> {
  setLaunching(true);
  let moved = false;
  const done = await attempt(project, async () => void (moved = await work()));
  setTimeout(() => setLaunching(false), moved ? DOUBLE_MS : 0);
  return done;
}

/** Stops a run; one that just ended by itself is stopped. */
export const stop = (project: ProjectStore, id: string): Promise<boolean> =>
  attempt(project, async () => {
    await calls.stop(id).catch((error: unknown) => {
      if (!(error instanceof ApiError && error.reason === 'not_running')) throw error;
    });
  });

/** Deletes an ended run, in a while; the view goes on to `next`, or to the project. */
export function remove(project: ProjectStore, id: string, next: string | null): void {
  if (deleteLater(project, [id])) go(next === null ? projectPath(project.id) : taskPath(project.id, next), 'replace');
}

/** Does it, shows what went wrong, and looks at the project again; whether it went well. */
export async function attempt(project: ProjectStore, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    tell(messageOf(error));
    return false;
  } finally {
    project.refresh();
  }
}
