// A task as one button: shows how its newest run went, opens it while it runs, and starts a new run otherwise.

import { createEffect, on, Show, type Component } from 'solid-js';
import { mayRun } from '../api/session';
import type { Task } from '../api/types';
import { isActive, plain, stateWord, toneOf } from '../model';
import { go, taskPath } from '../route';
import type { ProjectStore } from '../state/project';
import { launching, run } from '../state/run';
import { StatusIcon } from './Icon';

/** How long the button goes on opening a run that ended: it shows only then that it starts one again, and must be seen to. */
const SETTLES_MS = 1_000;

export const TaskButton: Component<{ project: ProjectStore; task: Task; class: string; current?: boolean; started?: () => void }> = (props) => {
  const latest = () => props.task.latest;
  const running = (): boolean => latest() !== null && isActive(latest()!.state);
  // A click that was meant to open a run does not start another because the first ended in that moment.
  let endedAt = -Infinity;
  createEffect(on(running, (is, was) => { if (was && !is) endedAt = performance.now(); }));
  const opens = (): boolean => running() || !mayRun() || performance.now() - endedAt < SETTLES_MS;
  const press = (): void => {
    const { latest: newest, name } = props.task;
    props.started?.();
    if (newest !== null && opens()) go(taskPath(props.project.id, newest.id));
    else void run(props.project, { task: name });
  };
  return (
    <button
      type="button"
      class={props.class}
      data-task={props.task.name}
      data-tone={toneOf(latest())}
      aria-current={props.current ? 'page' : undefined}
      aria-label={`${props.task.name}, ${stateWord(latest())}: ${running() || !mayRun() ? 'open' : 'run'}`}
      title={plain(props.task.command)}
      disabled={!mayRun() && latest() === null}
      aria-disabled={launching() && mayRun() && !running()}
      onClick={press}
    >
      <StatusIcon tone={toneOf(latest())} />
      <span class="name">{props.task.name}</span>
      <Show when={props.task.confirm && !running()}>
        <span class="quiet">…</span>
      </Show>
    </button>
  );
};
