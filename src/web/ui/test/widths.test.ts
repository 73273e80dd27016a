// Cells of characters, against what tmux 3.3a answered for each text of the list (its cursor's column after it).
import { Terminal } from '@xterm/headless';
import type { Terminal as PageTerminal } from '@xterm/xterm';
import { describe, expect, test } from 'vitest';
import list from '../../../../fixtures/terminal/widths.json';
import { drawnAsOne, useWidths } from '../src/terminal/widths';
import { Writer } from '../src/terminal/writer';

/** The cursor's column after a text, written at once or byte by byte. */
async function cells(text: string, pieces: 'whole' | 'bytes', widths = true): Promise<number> {
  const term = new Terminal({ cols: 80, rows: 5, allowProposedApi: true });
  if (widths) useWidths(term as unknown as PageTerminal);
  const bytes = new TextEncoder().encode(text);
  const written = pieces === 'whole' ? [bytes] : Array.from(bytes, (byte) => Uint8Array.of(byte));
  let drawn = (): void => {};
  const writer = new Writer(term, () => drawn());
  for (const piece of written) {
    await new Promise<void>((done) => {
      drawn = done;
      writer.write(piece, 1);
    });
  }
  const column = term.buffer.active.cursorX;
  term.dispose();
  return column;
}

describe('a character takes the cells that tmux gives it', () => {
  test.each(list.map(({ text, cells: wanted }) => [JSON.stringify(text), text, wanted] as const))('%s', async (_, text, wanted) => {
    expect([await cells(text, 'whole'), await cells(text, 'bytes')]).toEqual([wanted, wanted]);
  });

  test('which it would not without this', async () => {
    const wrong = await Promise.all(list.map(async ({ text, cells: wanted }) => (await cells(text, 'whole', false)) !== wanted));
    expect(wrong.filter(Boolean).length).toBeGreaterThan(20);
  });

  test('and what comes after it stands where it belongs', async () => {
    const term = new Terminal({ cols: 80, rows: 100, allowProposedApi: true });
    useWidths(term as unknown as PageTerminal);
    const text = list.map(({ text: it }, row) => `\x1b[${row + 1};1H${it}|\x1b[${row + 1};20HX`).join('');
    await new Promise<void>((done) => term.write(text, done));
    list.forEach(({ text: it, cells: wanted }, row) => {
      const line = term.buffer.active.getLine(row)!;
      expect([line.getCell(wanted)!.getChars(), line.getCell(19)!.getChars()], JSON.stringify(it)).toEqual(['|', 'X']);
    });
  });
});

test('characters that are drawn as one are found, and plain lines cost nothing', () => {
  expect(drawnAsOne('plain ─│ 漢字 📁')).toEqual([]);
  expect(drawnAsOne('a👍🏽b')).toEqual([[1, 5]]);
  expect(drawnAsOne('नि 🇩🇪')).toEqual([[0, 2], [3, 7]]);
});
