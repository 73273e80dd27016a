// The runs of one task as tabs: running first, then ended ones, newest first; ended ones can be closed, which deletes them.

import X from 'lucide-solid/icons/x';
import { For, Show, type Component } from 'solid-js';
import type { Instance } from '../api/types';
import { exitBadge, isActive, since, tabOrder, toneOf } from '../model';
import { go, taskPath } from '../route';
import { remove } from '../state/run';
import type { ProjectStore } from '../state/project';
import { StatusIcon } from './Icon';

export const Tabs: Component<{ project: ProjectStore; runs: Instance[]; current: string }> = (props) => {
  let list!: HTMLDivElement;
  const ordered = (): Instance[] => tabOrder(props.runs);

  const close = (run: Instance): void => {
    const rest = ordered().filter((it) => it.id !== run.id);
    const next = run.id === props.current ? (rest[0]?.id ?? null) : props.current;
    remove(props.project, run.id, next);
  };
  const keys = (event: KeyboardEvent, index: number, run: Instance): void => {
    const last = ordered().length - 1;
    const to: Record<string, number> = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last };
    const target = to[event.key];
    if (target !== undefined) list.querySelectorAll<HTMLElement>('[role=tab]')[target]?.focus();
    else if (event.key === 'Delete' && !isActive(run.state)) close(run);
    else return;
    event.preventDefault();
  };
  return (
    <div class="tabs" role="tablist" aria-label="Runs of this task" ref={list}>
      <For each={ordered()}>
        {(run, index) => (
          <div class="tab" role="presentation" data-tone={toneOf(run)} data-current={run.id === props.current}>
            <button
              type="button"
              role="tab"
              id={`tab-${run.id}`}
              aria-selected={run.id === props.current}
              aria-controls="terminal-panel"
              tabindex={run.id === props.current ? 0 : -1}
              onClick={() => go(taskPath(props.project.id, run.id))}
              onKeyDown={(event) => keys(event, index(), run)}
            >
              <StatusIcon tone={toneOf(run)} size={14} />
              {exitBadge(run)?.text ?? run.state}
              <span class="quiet">{since(run, props.project.now())}</span>
            </button>
            <Show when={!isActive(run.state)}>
              {/* For the pointer only: by keyboard it is Delete on the tab, or the button in the bar above. */}
              <button type="button" class="close" tabindex={-1} aria-hidden="true" title="Delete this run" onClick={() => close(run)}>
                <X size={13} />
              </button>
            </Show>
          </div>
        )}
      </For>
    </div>
  );
};
