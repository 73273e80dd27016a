// A project's tasks by group, a line to type a command into, and what was typed lately.

import Play from 'lucide-solid/icons/play';
import { createSignal, For, Show, type Component } from 'solid-js';
import * as calls from '../api/calls';
import { mayRun } from '../api/session';
import type { Instance, Task } from '../api/types';
import { adHocRuns, exitBadge, groupsOf, isActive, plain, since, stateWord, toneOf } from '../model';
import { panePath, taskPath } from '../route';
import { deleteLater, isDeleted, runsText } from '../state/deletion';
import type { ProjectStore } from '../state/project';
import { attempt, launching, remove, restart, run } from '../state/run';
import { Dialog } from './Dialog';
import { StatusIcon } from './Icon';
import { Problems } from './Problems';
import { TaskButton } from './TaskButton';

const RECENT_SHOWN = 10;

export const ProjectView: Component<{ project: ProjectStore }> = (props) => {
  const state = () => props.project.state;
  return (
    <div class="project-view pad">
      <header class="title">
        <h1>Tasks</h1>
        <div class="actions">
          <Show when={mayRun() && state().tasks.length > 0}>
            <RunMenu project={props.project} />
          </Show>
          <Show when={mayRun() && state().runs.some((it) => !isActive(it.state))}>
            <Cleanup project={props.project} />
          </Show>
        </div>
      </header>
      <Problems problems={state().problems} />
      <Show when={mayRun()}>
        <AdHoc project={props.project} />
      </Show>
      <Show when={state().loaded && state().tasks.length === 0}>
        <p class="quiet">
          No tasks yet: declare them under <code>tasks:</code> in <code>.kaged/project.yaml</code>, or run a command above.
        </p>
      </Show>
      <For each={groupsOf(state().tasks)}>
        {(group) => (
          <section class="group">
            <h2>{plain(group.name)}</h2>
            <ul>
              <For each={group.tasks}>{(task) => <TaskRow project={props.project} task={task} />}</For>
            </ul>
          </section>
        )}
      </For>
      <Recent project={props.project} />
      <Panes project={props.project} />
    </div>
  );
};

const TaskRow: Component<{ project: ProjectStore; task: Task }> = (props) => (
  <li class="task-row">
    <TaskButton project={props.project} task={props.task} class="run" />
    <span class="description">{plain(props.task.description) || <code>{plain(props.task.command)}</code>}</span>
    <Show when={props.task.latest} fallback={<span class="state" data-tone="idle">idle</span>}>
      {(latest) => (
        <a class="state" data-tone={toneOf(latest())} href={taskPath(props.project.id, latest().id)} title="Open the newest run">
          {stateWord(latest())} <span class="quiet">{since(latest(), props.project.now())}</span>
        </a>
      )}
    </Show>
  </li>
);

const RunMenu: Component<{ project: ProjectStore }> = (props) => {
  let menu!: HTMLDivElement;
  return (
    <>
      <button type="button" popovertarget="run-menu">
        <Play size={15} /> <span>Run…</span>
      </button>
      <div id="run-menu" popover ref={menu} aria-label="Run a task">
        <For each={props.project.state.tasks}>
          {(task) => <TaskButton project={props.project} task={task} class="side-task" started={() => menu.hidePopover()} />}
        </For>
      </div>
    </>
  );
};

const Cleanup: Component<{ project: ProjectStore }> = (props) => {
  const [asked, setAsked] = createSignal<string[] | null>(null);
  const ask = (): Promise<boolean> =>
    attempt(props.project, async () => void setAsked((await calls.endedRuns(props.project.id)).filter((id) => !isDeleted(id))));
  const clean = (ids: string[]): void => {
    setAsked(null);
    deleteLater(props.project, ids);
  };
  return (
    <>
      <button type="button" onClick={() => void ask()}>
        Cleanup history
      </button>
      <Show when={asked()} keyed>
        {(ids) => (
          <Dialog label="Cleanup history?" cancel={() => setAsked(null)}>
            <h2>Delete {runsText(ids.length)} that ended?</h2>
            <p>Their records and output go. Runs that are going on stay.</p>
            <div class="actions">
              <button type="button" autofocus onClick={() => setAsked(null)}>
                Cancel
              </button>
              <button type="button" class="primary" onClick={() => clean(ids)}>
                Delete {runsText(ids.length)}
              </button>
            </div>
          </Dialog>
        )}
      </Show>
    </>
  );
};

const AdHoc: Component<{ project: ProjectStore }> = (props) => {
  const [command, setCommand] = createSignal('');
  const [cwd, setCwd] = createSignal('');
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (command().trim() === '') return;
    void run(props.project, { command: command(), ...(cwd().trim() === '' ? {} : { cwd: cwd().trim() }) });
  };
  return (
    <form class="ad-hoc" onSubmit={submit} aria-label="Run a command">
      <label class="command-line">
        <span aria-hidden="true">$</span>
        <input
          name="command"
          aria-label="Command"
          placeholder="a command to run once"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          maxlength={4096}
          value={command()}
          onInput={(event) => setCommand(event.currentTarget.value)}
        />
      </label>
      <input
        class="cwd"
        name="cwd"
        aria-label="Directory, relative to the project"
        placeholder="in . (project root)"
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        value={cwd()}
        onInput={(event) => setCwd(event.currentTarget.value)}
      />
      <button type="submit" class="primary" aria-disabled={launching()}>
        Run ad-hoc
      </button>
    </form>
  );
};

const Recent: Component<{ project: ProjectStore }> = (props) => {
  const recent = (): Instance[] => adHocRuns(props.project.state.runs).slice(0, RECENT_SHOWN);
  return (
    <Show when={recent().length > 0}>
      <section class="group recent">
        <h2>Recent ad-hoc</h2>
        <ul>
          <For each={recent()}>{(it) => <RecentRow project={props.project} run={it} />}</For>
        </ul>
      </section>
    </Show>
  );
};

const RecentRow: Component<{ project: ProjectStore; run: Instance }> = (props) => (
  <li class="task-row">
    <a class="run" data-tone={toneOf(props.run)} href={taskPath(props.project.id, props.run.id)}>
      <StatusIcon tone={toneOf(props.run)} />
      <code class="name">{plain(props.run.command)}</code>
    </a>
    <span class="state" data-tone={toneOf(props.run)}>
      {exitBadge(props.run)?.text ?? props.run.state} <span class="quiet">{since(props.run, props.project.now())}</span>
    </span>
    <Show when={!isActive(props.run.state)}>
      <Show when={mayRun()}>
        <button type="button" class="small" aria-disabled={launching()} onClick={() => void restart(props.project, props.run.id)}>
          Again
        </button>
        <button type="button" class="small" onClick={() => remove(props.project, props.run.id, null)}>
          Delete
        </button>
      </Show>
    </Show>
  </li>
);

const Panes: Component<{ project: ProjectStore }> = (props) => (
  <Show when={props.project.state.panes.length > 0}>
    <section class="group panes">
      <h2>Opened in tmux by hand</h2>
      <ul>
        <For each={props.project.state.panes}>
          {(pane) => (
            <li class="task-row">
              <a class="run" href={panePath(props.project.id, pane.pane)}>
                <StatusIcon tone="idle" />
                <span class="name">{plain(pane.command)}</span>
              </a>
              <span class="description">{plain(pane.title)}</span>
              <span class="quiet">
                %{pane.pane} · {pane.cols}×{pane.rows}
              </span>
            </li>
          )}
        </For>
      </ul>
    </section>
  </Show>
);
