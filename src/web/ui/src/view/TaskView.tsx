// One run in its terminal: name, state, what can be done, and the other runs of the same task.

import Accessibility from 'lucide-solid/icons/accessibility';
import RotateCw from 'lucide-solid/icons/rotate-cw';
import Square from 'lucide-solid/icons/square';
import Trash from 'lucide-solid/icons/trash';
import { createEffect, createResource, createSignal, onCleanup, Show, untrack, type Component } from 'solid-js';
import * as calls from '../api/calls';
import { ApiError } from '../api/http';
import { mayRun } from '../api/session';
import type { Instance } from '../api/types';
import { duration, elapsed, exitBadge, isActive, labelOf, plain, tabOrder, toneOf } from '../model';
import { projectPath } from '../route';
import type { ProjectStore } from '../state/project';
import { launching, remove, restart, stop } from '../state/run';
import { taskChannel } from '../stream/message';
import { StatusIcon } from './Icon';
import { Menu } from './Menu';
import { Tabs } from './Tabs';
import { screenReader, TerminalPane, toggleScreenReader } from './TerminalPane';

export const TaskView: Component<{ project: ProjectStore; id: string }> = (props) => {
  const listed = (): Instance | undefined => props.project.state.runs.find((run) => run.id === props.id);
  // A run that the list does not hold yet, or no longer.
  const [fetched] = createResource(
    () => (props.project.state.loaded && !listed() ? props.id : null),
    (id) => calls.instance(id).catch((error: unknown) => (error instanceof ApiError && error.status === 404 ? null : Promise.reject(error))),
  );
  const run = (): Instance | null | undefined => listed() ?? (fetched.error ? undefined : fetched());
  return (
    <Show when={run()} fallback={<Absent gone={run() === null} project={props.project.id} />}>
      {(it) => <Run project={props.project} run={it()} />}
    </Show>
  );
};

const Absent: Component<{ gone: boolean; project: string }> = (props) => (
  <Show when={props.gone} fallback={<p class="quiet pad">Loading…</p>}>
    <div class="pad">
      <h1>This run is gone</h1>
      <p>
        Its record was deleted, or there was never one. <a href={projectPath(props.project)}>Back to the tasks</a>
      </p>
    </div>
  </Show>
);

const Run: Component<{ project: ProjectStore; run: Instance }> = (props) => {
  let bar!: HTMLElement;
  // The list may not hold a new run yet; its tab is there from the start all the same, so that the terminal keeps its size.
  const siblings = (): Instance[] => {
    const listed = props.project.state.runs.filter((it) => it.task_name === props.run.task_name);
    return listed.some((it) => it.id === props.run.id) ? listed : [props.run, ...listed];
  };
  createEffect(() => (document.title = `${labelOf(props.run)} · ${props.project.id} · kas`));
  onCleanup(() => (document.title = 'kas'));
  return (
    <section class="task-view">
      <Bar ref={(element) => (bar = element)} project={props.project} run={props.run} />
      <Show when={props.run.task_name !== null}>
        <Tabs project={props.project} runs={siblings()} current={props.run.id} />
      </Show>
      <Show when={props.run.error_text}>{(why) => <p class="strip warn">{plain(why())}</p>}</Show>
      <div class="panel" id="terminal-panel" role={props.run.task_name === null ? undefined : 'tabpanel'} aria-labelledby={`tab-${props.run.id}`}>
        <Show when={`${props.run.id} ${screenReader()}`} keyed>
          {(_) => untrack(() => (
            <TerminalPane
              project={props.project}
              channel={taskChannel(props.run.id)}
              mode={mayRun() && isActive(props.run.state) ? 'interactive' : 'view'}
              label={`Terminal of ${labelOf(props.run)}`}
              ended={() => props.project.refresh()}
              leave={() => bar.querySelector<HTMLElement>('button:not(:disabled)')?.focus()}
            />
          ))}
        </Show>
      </div>
    </section>
  );
};

const Bar: Component<{ project: ProjectStore; run: Instance; ref: (element: HTMLElement) => void }> = (props) => {
  const [busy, setBusy] = createSignal(false);
  const act = (work: () => Promise<boolean>): void => {
    setBusy(true);
    void work().finally(() => setBusy(false));
  };
  const next = (): string | null => {
    const { task_name, id } = props.run;
    if (task_name === null) return null;
    return tabOrder(props.project.state.runs.filter((it) => it.task_name === task_name && it.id !== id))[0]?.id ?? null;
  };
  const active = (): boolean => isActive(props.run.state);
  const ran = (): number => props.run.duration_ms ?? Math.max(0, props.project.now() - props.run.launched_at);
  const waits = (): boolean => props.project.state.tasks.find((task) => task.name === props.run.task_name)?.long_running === false;
  return (
    <header class="bar" ref={props.ref} role="toolbar" aria-label="This run">
      <StatusIcon tone={toneOf(props.run)} />
      <h1 title={plain(props.run.command)}>{props.run.task_name === null ? plain(props.run.command) : `task:${props.run.task_name}`}</h1>
      <Show when={exitBadge(props.run)} fallback={<span class="badge" data-tone="running">{props.run.state}</span>}>
        {(badge) => <span class="badge exit" data-tone={badge().tone}>{badge().text}</span>}
      </Show>
      <span class="quiet facts">
        {active() ? elapsed(ran()) : duration(ran())}
        {active() && waits() ? ' · waiting for exit' : ''} · {props.run.backend === 'tmux' ? `tmux ${props.run.tmux_session}` : 'pty'}
      </span>
      <div class="actions">
        <Show when={mayRun()}>
          {/* It stays where it is, whatever becomes of the run: nothing else comes under a pointer that clicks twice. */}
          <button type="button" class="stop" disabled={busy() || !active()} onClick={() => act(() => stop(props.project, props.run.id))}>
            <Square size={15} /> <span>{busy() && active() ? 'Stopping…' : 'Stop'}</span>
          </button>
          <button type="button" disabled={busy()} aria-disabled={launching()} onClick={() => act(() => restart(props.project, props.run.id))}>
            <RotateCw size={15} /> <span>Restart</span>
          </button>
        </Show>
        <button type="button" aria-pressed={screenReader()} title="Makes the terminal readable for screen readers" onClick={toggleScreenReader}>
          <Accessibility size={15} /> <span>Screen reader</span>
        </button>
        <Show when={mayRun()}>
          <Menu id="run-more" label="More">
            <button type="button" disabled={active()} onClick={() => remove(props.project, props.run.id, next())}>
              <Trash size={15} /> Delete this run
            </button>
          </Menu>
        </Show>
      </div>
    </header>
  );
};
