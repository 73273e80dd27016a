// The registered projects.

import { createResource, For, onCleanup, onMount, Show, type Component } from 'solid-js';
import { projects } from '../api/calls';
import { messageOf } from '../api/http';
import { projectPath } from '../route';

/** No socket tells of all projects at once, so the list is asked for while it is shown. */
const LOOK_EVERY_MS = 3_000;

export const ProjectsView: Component = () => {
  const [list, { refetch }] = createResource(projects);
  onMount(() => {
    const timer = setInterval(() => document.visibilityState === 'visible' && void refetch(), LOOK_EVERY_MS);
    onCleanup(() => clearInterval(timer));
  });
  return (
    <div class="projects-view pad">
      <h1>Projects</h1>
      <Show when={!list.error} fallback={<p class="strip warn">{messageOf(list.error)}</p>}>
        <Show when={list.latest?.length !== 0} fallback={<Empty />}>
          <ul class="projects">
            <For each={list.latest}>
              {(project) => (
                <li>
                  <a href={projectPath(project.id)}>
                    <strong>{project.id}</strong>
                    <code class="quiet">{project.path}</code>
                    <span class="quiet">
                      {project.tasks} {project.tasks === 1 ? 'task' : 'tasks'}
                    </span>
                    <Show when={project.running > 0}>
                      <span class="badge" data-tone="running">{project.running} running</span>
                    </Show>
                    <Show when={project.problems.length > 0}>
                      <span class="badge" data-tone="stopped">problems in the project file</span>
                    </Show>
                  </a>
                </li>
              )}
            </For>
          </ul>
        </Show>
      </Show>
    </div>
  );
};

const Empty: Component = () => (
  <p>
    No project is registered. Run <code>kas daemon add PATH</code>, or <code>kas run NAME</code> inside a project.
  </p>
);
