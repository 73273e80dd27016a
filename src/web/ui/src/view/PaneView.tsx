// A pane that the operator opened in the project's tmux session by hand.

import { Show, type Component } from 'solid-js';
import { plain } from '../model';
import { projectPath } from '../route';
import type { ProjectStore } from '../state/project';
import { paneChannel } from '../stream/message';
import { StatusIcon } from './Icon';
import { TerminalPane } from './TerminalPane';

export const PaneView: Component<{ project: ProjectStore; pane: number }> = (props) => {
  let back!: HTMLAnchorElement;
  const pane = () => props.project.state.panes.find((it) => it.pane === props.pane);
  return (
    <section class="task-view">
      <header class="bar">
        <StatusIcon tone="idle" />
        <h1>{plain(pane()?.command || `pane ${props.pane}`)}</h1>
        <span class="quiet facts">
          opened in tmux{pane() ? `, window ${pane()?.window}` : ''}
          <Show when={props.project.state.loaded && !pane()}> · closed</Show>
        </span>
        <div class="actions">
          <a ref={back} class="button" href={projectPath(props.project.id)}>
            Tasks
          </a>
        </div>
      </header>
      <div class="panel">
        <TerminalPane
          project={props.project}
          channel={paneChannel(props.pane)}
          mode="interactive"
          label={`Terminal of pane ${props.pane}`}
          leave={() => back.focus()}
        />
      </div>
    </section>
  );
};
