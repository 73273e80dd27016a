// What is wrong with the project file, and where.

import { For, Show, type Component } from 'solid-js';
import type { Problem } from '../api/types';
import { placeOf, plain } from '../model';

export const Problems: Component<{ problems: Problem[] }> = (props) => (
  <Show when={props.problems.length > 0}>
    <section class="problems" role="alert">
      <h2>The project file has problems; the last good version is in force</h2>
      <ul>
        <For each={props.problems}>
          {(problem) => (
            <li>
              <code>{placeOf(problem)}</code> {plain(problem.message)}
              <Show when={problem.hint}>
                <span class="quiet"> — {plain(problem.hint ?? '')}</span>
              </Show>
            </li>
          )}
        </For>
      </ul>
    </section>
  </Show>
);
