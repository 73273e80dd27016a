// A task as one button: shows how its newest run went, opens it while it runs, and starts a new run otherwise.

import { Show, type Component } from 'solid-js';
import { mayRun } from '../api/session';
import type { Task } from '../api/types';
import { isActive, plain, stateWord, toneOf } from '../model';
import { go, taskPath } from '../route';
import type { ProjectStore } from '../state/project';
import { run } from '../state/run';
import { StatusIcon } from './Icon';

export const TaskButton: Component<{ project: ProjectStore; task: Task; class: string; current?: boolean; started?: () => void }> = (props) => {
  const latest = () => props.task.latest;
  const running = (): boolean => latest() !== null && isActive(latest()!.state);
  const press = (): void => {
    const { latest: newest, name } = props.task;
    props.started?.();
    if (newest !== null && (isActive(newest.state) || !mayRun())) go(taskPath(props.project.id, newest.id));
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
