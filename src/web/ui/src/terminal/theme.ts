// The terminal's colours by day and by night.

import type { ITheme } from '@xterm/xterm';
import type { Colours } from '../stream/message';

const DARK: ITheme = {
  background: '#0d1117', foreground: '#e2e8f0', cursor: '#7aa2f7', cursorAccent: '#0d1117', selectionBackground: '#33507d',
  black: '#1b2230', red: '#ff6b7f', green: '#5fd38d', yellow: '#e8c268', blue: '#6ea8fe', magenta: '#d990f0', cyan: '#5cc9d6', white: '#c9d3e0',
  brightBlack: '#6b7a90', brightRed: '#ff8fa0', brightGreen: '#86e6ad', brightYellow: '#f5d98a', brightBlue: '#9cc4ff', brightMagenta: '#e8b4fa',
  brightCyan: '#8ae0ea', brightWhite: '#ffffff',
};

const LIGHT: ITheme = {
  background: '#ffffff', foreground: '#1f2733', cursor: '#1d4ed8', cursorAccent: '#ffffff', selectionBackground: '#bcd3ff',
  black: '#1f2733', red: '#c22b45', green: '#14753f', yellow: '#8a6100', blue: '#1d4ed8', magenta: '#95259f', cyan: '#0b6e80', white: '#667388',
  brightBlack: '#4b5768', brightRed: '#d93a55', brightGreen: '#1a8a4c', brightYellow: '#a17200', brightBlue: '#2f63e6', brightMagenta: '#ab3bb5',
  brightCyan: '#0f8195', brightWhite: '#3a4453',
};

const night = matchMedia('(prefers-color-scheme: dark)');

export const theme = (): ITheme => (night.matches ? DARK : LIGHT);

const NAMES = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const;

/** The colours as the daemon is told them, which answers a program that asks. */
export function colours({ foreground = '', background = '', cursor = '', ...named }: ITheme): Colours {
  const bright = NAMES.map((name) => `bright${name[0]!.toUpperCase()}${name.slice(1)}` as keyof typeof named);
  return { foreground, background, cursor, palette: [...NAMES, ...bright].map((name) => String(named[name])) };
}

/** Calls `run` when day turns to night or back; returns the way to stop. */
export function onThemeChange(run: () => void): () => void {
  night.addEventListener('change', run);
  return () => night.removeEventListener('change', run);
}
