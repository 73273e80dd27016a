// How many cells a character takes: as programs (wcwidth) and tmux count, or everything after it on the line is out of place.

import { Unicode11Addon } from '@xterm/addon-unicode11';
import type { IUnicodeVersionProvider, Terminal } from '@xterm/xterm';

/** Emoji that came after Unicode 11 take two cells like the others. */
const WIDE = [[0x1f6d5, 0x1f6d7], [0x1f6dc, 0x1f6df], [0x1f6fa, 0x1f6fc], [0x1f7e0, 0x1f7eb], [0x1f7f0, 0x1f7f0], [0x1f90c, 0x1f9ff], [0x1fa70, 0x1faff]] as const;
/** What is not seen: zero widths, marks of direction, separators, tags. */
const NONE = [[0x200b, 0x200f], [0x2028, 0x202e], [0x2060, 0x2064], [0xe0001, 0xe007f]] as const;
const ZWJ = 0x200d;
/** The state of a cell whose text ends with a joiner: what follows joins it. */
const JOINS = 1;

const within = (ranges: readonly (readonly [number, number])[], code: number): boolean => ranges.some(([from, to]) => from <= code && code <= to);
const pack = (state: number, width: number, joins: boolean): number => (state << 3) | (width << 1) | Number(joins);

/** The widths of Unicode 11, which the add-on brings, and what came since. `joined` is the rule of tmux: a character after a joiner takes no cell. */
function provider(): IUnicodeVersionProvider {
  let base!: IUnicodeVersionProvider;
  const unicode = { register: (it: IUnicodeVersionProvider) => (base = it) };
  new Unicode11Addon().activate({ unicode } as unknown as Terminal);
  const wcwidth = (code: number): 0 | 1 | 2 => (within(NONE, code) ? 0 : within(WIDE, code) ? 2 : base.wcwidth(code));
  const charProperties = (code: number, preceding: number): number => {
    const state = code === ZWJ ? JOINS : 0;
    const before = (preceding >> 1) & 3;
    const own = preceding >> 3 === JOINS && code >= 0x80 ? 0 : wcwidth(code);
    const joins = own === 0 && before > 0;
    return pack(state, joins ? before : own, joins);
  };
  return { version: 'kas', wcwidth, charProperties };
}

/** What a browser may draw as one with the character before it: marks, colours of skin, letters of flags, vowels and jamo that join. */
const MAY_JOIN = /[\p{M}\p{Emoji_Modifier}\p{RI}\u0e33\u0eb3\u1160-\u11ff]/u;
const graphemes = new Intl.Segmenter();

/** Where a line has several characters that a browser draws as one, whatever cells they have: from and to, in UTF-16. */
export function drawnAsOne(line: string): [number, number][] {
  if (!MAY_JOIN.test(line)) return [];
  const found: [number, number][] = [];
  for (const { segment, index } of graphemes.segment(line)) if ([...segment].length > 1) found.push([index, index + segment.length]);
  return found;
}

/** What the public interface gives only together with all that is proposed, which stays off. */
interface Core {
  unicodeService: { register(it: IUnicodeVersionProvider): void; activeVersion: string };
  registerCharacterJoiner(find: (text: string) => [number, number][]): number;
}

/** The headless terminal, in tests, has its core at the same place. */
const coreOf = (term: Pick<Terminal, 'write'>): Core => (term as unknown as { _core: Core })._core;

export function useWidths(term: Pick<Terminal, 'write'>): void {
  const { unicodeService } = coreOf(term);
  const it = provider();
  unicodeService.register(it);
  unicodeService.activeVersion = it.version;
}

/** Once the terminal is open: what is drawn apart from its neighbours is given the room of all its cells. */
export function drawInCells(term: Terminal): void {
  coreOf(term).registerCharacterJoiner(drawnAsOne);
}
