// The calls the page makes, by name.

import { lastSize } from '../terminal/size';
import { request } from './http';
import type { ConfirmRequired, Instance, Launch, Page, Pane, Project, Tasks } from './types';

const project = (id: string): string => `/projects/${encodeURIComponent(id)}`;
const task = (id: string): string => `/tasks/${encodeURIComponent(id)}`;

/** Most rows one list shows; the daemon's own limit on a page. */
const LIST_LIMIT = 500;

export const projects = async (): Promise<Project[]> => (await request<Page<Project>>('GET', '/projects')).items;

export const tasks = (id: string): Promise<Tasks> => request('GET', `${project(id)}/tasks`);

export async function instances(id: string, taskName?: string): Promise<Instance[]> {
  const query = taskName === undefined ? '' : `&task_name=${encodeURIComponent(taskName)}`;
  return (await request<Page<Instance>>('GET', `${project(id)}/tasks/instances?limit=${LIST_LIMIT}${query}`)).items;
}

export const panes = async (id: string): Promise<Pane[]> => (await request<Page<Pane>>('GET', `${project(id)}/panes`)).items;

export const instance = (id: string): Promise<Instance> => request('GET', task(id));

/** Launches; the same click sent twice launches once. */
export function launch(id: string, what: Launch): Promise<Instance | ConfirmRequired> {
  return request('POST', `${project(id)}/tasks/run`, { ...what, ...lastSize() }, { 'Idempotency-Key': crypto.randomUUID() });
}

export const answerConfirm = (id: string, confirmId: string, proceed: boolean): Promise<Instance | { cancelled: true }> =>
  request('POST', `${project(id)}/tasks/run/confirm`, { confirm_id: confirmId, proceed });

export const stop = (id: string): Promise<Instance> => request('POST', `${task(id)}/stop`);
export const restart = (id: string): Promise<Instance> => request('POST', `${task(id)}/restart`);
export const remove = (id: string): Promise<void> => request('DELETE', task(id));

/** The ids of all runs of a project that have ended. */
export async function endedRuns(id: string): Promise<string[]> {
  const ids: string[] = [];
  let cursor = '';
  for (;;) {
    const page = await request<Page<Instance>>('GET', `${project(id)}/tasks/instances?state=done&state=failed&state=stopped&limit=${LIST_LIMIT}${cursor}`);
    ids.push(...page.items.map((run) => run.id));
    if (page.next_cursor === null) return ids;
    cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`;
  }
}
