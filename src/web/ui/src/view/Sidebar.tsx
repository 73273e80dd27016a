// The project's tasks at a glance, beside every view of the project.

import { For, type Component } from 'solid-js';
import { groupsOf, plain } from '../model';
import { path, projectPath, taskPath } from '../route';
import type { ProjectStore } from '../state/project';
import { TaskButton } from './TaskButton';

export const Sidebar: Component<{ project: ProjectStore }> = (props) => {
  const shown = (latest: string | undefined): boolean => latest !== undefined && path() === taskPath(props.project.id, latest);
  return (
    <nav class="sidebar" aria-label="Tasks">
      <a class="all" href={projectPath(props.project.id)} aria-current={path() === projectPath(props.project.id) ? 'page' : undefined}>
        All tasks
      </a>
      <For each={groupsOf(props.project.state.tasks)}>
        {(group) => (
          <section>
            <h2>{plain(group.name)}</h2>
            <For each={group.tasks}>
              {(task) => <TaskButton project={props.project} task={task} class="side-task" current={shown(task.latest?.id)} />}
            </For>
          </section>
        )}
      </For>
    </nav>
  );
};
