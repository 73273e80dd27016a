// What was deleted and can be undone, one row each.

import { For, Show, type Component } from 'solid-js';
import { now } from '../state/clock';
import { deletions, runsText, undo } from '../state/deletion';

export const Deletions: Component = () => (
  <div class="deletions">
    <For each={deletions()}>
      {(it) => (
        <div class="deletion">
          <span>
            Deleted {runsText(it.ids.length)}{' '}
            <span class="quiet" aria-hidden="true" title="Until then nothing is deleted; a page that is closed before leaves it undone.">
              in {Math.max(0, Math.ceil((it.at - now()) / 1000))} s, if this page stays open
            </span>
          </span>
          <Show when={it.left() > 0}>
            <button type="button" class="small" onClick={() => undo(it)}>
              Undo
            </button>
          </Show>
        </div>
      )}
    </For>
  </div>
);
