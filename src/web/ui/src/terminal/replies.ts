// Keeps the terminal from answering a program's questions (who are you, where is the cursor, which colours…). An answer is input: the shim or tmux gave
// it already, and an answer to replayed output would be typed into the shell.

import type { IParser } from '@xterm/xterm';

/** CSI functions that ask for an answer. */
const CSI_QUERIES = [
  { final: 'c' }, // primary device attributes
  { prefix: '>', final: 'c' },
  { prefix: '=', final: 'c' },
  { final: 'n' }, // device status, cursor position
  { prefix: '?', final: 'n' },
  { prefix: '>', final: 'q' }, // terminal version
  { intermediates: '$', final: 'p' }, // modes
  { prefix: '?', intermediates: '$', final: 'p' },
  { prefix: '?', final: 'u' }, // keyboard protocol
  { final: 'x' }, // terminal parameters
  { intermediates: '*', final: 'y' }, // checksums
  { intermediates: '$', final: 'w' }, // presentation state
] as const;

/** DCS functions that ask for an answer: settings, and terminfo strings. */
const DCS_QUERIES = [
  { intermediates: '$', final: 'q' },
  { intermediates: '+', final: 'q' },
] as const;

/** OSC numbers that set a colour, or with `?` in a colour's place ask for it. */
const OSC_COLOURS = [4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

/** Window operations that report; the others of `CSI t` move or resize, or keep titles. */
const WINDOW_REPORTS = new Set([11, 13, 14, 15, 16, 18, 19, 20, 21]);

const OSC_CLIPBOARD = 52;

/** Makes `parser` pass no question on to the terminal. */
export function swallowQuestions(parser: IParser): void {
  const swallow = (): boolean => true;
  for (const id of CSI_QUERIES) parser.registerCsiHandler(id, swallow);
  for (const id of DCS_QUERIES) parser.registerDcsHandler(id, swallow);
  for (const id of OSC_COLOURS) {
    parser.registerOscHandler(id, (data) => data.split(';').includes('?'));
  }
  parser.registerCsiHandler({ final: 't' }, ([operation]) => WINDOW_REPORTS.has(Number(operation)));
  // The clipboard is the operator's: a program neither reads nor writes it.
  parser.registerOscHandler(OSC_CLIPBOARD, swallow);
}

/** A report of the mouse or the focus, which no key makes. */
export const isReport = (data: string): boolean => isFocusReport(data) || /^\x1b\[(M[^]{3}|<[\d;]+[Mm])$/.test(data);

/** A focus report, which is true only when the operator just moved the focus. */
export const isFocusReport = (data: string): boolean => data === '\x1b[I' || data === '\x1b[O';
