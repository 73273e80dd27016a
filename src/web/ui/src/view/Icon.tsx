// The icon of a task's state.

import CircleStop from 'lucide-solid/icons/circle-stop';
import Footprints from 'lucide-solid/icons/footprints';
import SquareCheckBig from 'lucide-solid/icons/square-check-big';
import Terminal from 'lucide-solid/icons/terminal';
import TriangleAlert from 'lucide-solid/icons/triangle-alert';
import type { Component } from 'solid-js';
import { Dynamic } from 'solid-js/web';
import type { Tone } from '../model';

const ICONS: Record<Tone, Component<{ size?: number }>> = {
  running: Footprints,
  done: SquareCheckBig,
  failed: TriangleAlert,
  stopped: CircleStop,
  idle: Terminal,
};

export const StatusIcon: Component<{ tone: Tone; size?: number }> = (props) => (
  <span class="status-icon" data-tone={props.tone} aria-hidden="true">
    <Dynamic component={ICONS[props.tone]} size={props.size ?? 18} />
  </span>
);
