// Which view the address names, and how to get to another one.

import { createSignal } from 'solid-js';

export type Route =
  | { view: 'projects' }
  | { view: 'project'; project: string }
  | { view: 'task'; project: string; task: string }
  | { view: 'pane'; project: string; pane: number }
  | { view: 'unknown' };

export function parseRoute(path: string): Route {
  const parts = path.split('/').filter((part) => part !== '').map(decode);
  const [root, project, kind, id, ...rest] = parts;
  if (root === undefined) return { view: 'projects' };
  if (root !== 'projects' || rest.length > 0) return { view: 'unknown' };
  if (project === undefined) return { view: 'projects' };
  if (kind === undefined || (kind === 'tasks' && id === undefined)) return { view: 'project', project };
  if (kind === 'tasks' && id !== undefined) return { view: 'task', project, task: id };
  if (kind === 'panes' && id !== undefined && /^\d{1,9}$/.test(id)) return { view: 'pane', project, pane: Number(id) };
  return { view: 'unknown' };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const projectPath = (project: string): string => `/projects/${encodeURIComponent(project)}`;
export const taskPath = (project: string, task: string): string => `${projectPath(project)}/tasks/${encodeURIComponent(task)}`;
export const panePath = (project: string, pane: number): string => `${projectPath(project)}/panes/${pane}`;

const [path, setPath] = createSignal(globalThis.location?.pathname ?? '/');
export { path };

export function go(to: string, how: 'push' | 'replace' = 'push'): void {
  if (how === 'push') history.pushState(null, '', to);
  else history.replaceState(null, '', to);
  setPath(to);
}

/** Makes links inside the page change the view without loading it again. */
export function followLinks(): void {
  addEventListener('popstate', () => setPath(location.pathname));
  addEventListener('click', (event) => {
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    const link = (event.target as Element | null)?.closest?.('a');
    if (!plain || event.defaultPrevented || !link || link.target || link.origin !== location.origin) return;
    event.preventDefault();
    go(link.pathname);
  });
}
