// Replies and order, on the real parser (xterm's headless build).
import { Terminal } from '@xterm/headless';
import type { IParser } from '@xterm/xterm';
import { describe, expect, test } from 'vitest';
import { insertedText, pasteable } from '../src/terminal/paste';
import { isFocusReport, swallowQuestions } from '../src/terminal/replies';
import { wholeLength, Writer } from '../src/terminal/writer';

/** Everything xterm or another terminal answers, one question each. */
const QUERIES = [
  '\x1b[c', '\x1b[0c', '\x1b[>c', '\x1b[>0c', '\x1b[=c', '\x1b[5n', '\x1b[6n', '\x1b[?6n', '\x1b[?15n', '\x1b[?25n', '\x1b[?26n', '\x1b[?53n', '\x1b[?996n',
  '\x1b[>q', '\x1b[>0q', '\x1b[4$p', '\x1b[?1$p', '\x1b[?25$p', '\x1b[?2004$p', '\x1b[?2026$p', '\x1b[?u', '\x1b[x', '\x1b[1x', '\x1b[1;1;1;1;1;1*y',
  '\x1b[1$w', '\x1b[11t', '\x1b[13t', '\x1b[14t', '\x1b[14;2t', '\x1b[15t', '\x1b[16t', '\x1b[18t', '\x1b[19t', '\x1b[20t', '\x1b[21t',
  '\x1bP$qm\x1b\\', '\x1bP$qr\x1b\\', '\x1bP$q q\x1b\\', '\x1bP$q"p\x1b\\', '\x1bP$q"q\x1b\\', '\x1bP$qs\x1b\\', '\x1bP+q544e\x1b\\', '\x1bP+q436f;524742\x1b\\',
  '\x1b]4;1;?\x07', '\x1b]4;0;?;1;?\x1b\\', '\x1b]4;1;rgb:ff/00/00;2;?\x07', '\x1b]10;?\x07', '\x1b]11;?\x1b\\', '\x1b]12;?\x07', '\x1b]10;?;?\x07', '\x1b]17;?\x07', '\x1b]19;?\x07',
  '\x1b]52;c;?\x07', '\x1b]52;p;?\x1b\\', '\x05', '\x1bZ', '\x1b[?1004h',
];

/** Writes to a terminal and gives what it would send to the program. */
async function answers(written: string, guarded: boolean): Promise<string> {
  const term = new Terminal({ allowProposedApi: true, windowOptions: { getWinSizeChars: true, getWinSizePixels: true, getCellSizePixels: true } });
  let sent = '';
  term.onData((data) => (sent += data));
  term.onBinary((data) => (sent += data));
  if (guarded) swallowQuestions(term.parser as unknown as IParser);
  await new Promise<void>((done) => term.write(written, done));
  term.dispose();
  return sent;
}

describe('the guard', () => {
  test.each(QUERIES.map((query) => [JSON.stringify(query), query]))('swallows %s', async (_, query) => {
    expect((await answers(query, true)).replaceAll(/\x1b\[[IO]/g, '')).toBe('');
  });

  test('is what keeps them quiet', async () => {
    const answered = await Promise.all(QUERIES.map((query) => answers(query, false)));
    expect(answered.filter((answer) => answer !== '').length).toBeGreaterThanOrEqual(15);
  });

  test('meets questions cut anywhere', async () => {
    for (const query of QUERIES) {
      for (let cut = 1; cut < query.length; cut += 1) {
        const term = new Terminal({ allowProposedApi: true });
        let sent = '';
        term.onData((data) => (sent += data));
        swallowQuestions(term.parser as unknown as IParser);
        term.write(query.slice(0, cut));
        await new Promise<void>((done) => term.write(query.slice(cut), done));
        expect(sent.replaceAll(/\x1b\[[IO]/g, ''), JSON.stringify(query)).toBe('');
        term.dispose();
      }
    }
  });

  test('leaves everything else to the terminal', async () => {
    const term = new Terminal({ allowProposedApi: true });
    swallowQuestions(term.parser as unknown as IParser);
    await new Promise<void>((done) => term.write('a\x1b[31mb\x1b[2;4Hc\x1b[!p\x1b[4h\x1b]4;1;rgb:00/ff/00\x07d', done));
    expect(term.buffer.active.getLine(0)?.translateToString(true)).toBe('ab');
    expect(term.buffer.active.getLine(1)?.translateToString(true)).toBe('   cd');
    term.dispose();
  });

  test('knows a focus report', () => {
    expect(['\x1b[I', '\x1b[O', 'I', '\x1b[A'].map(isFocusReport)).toEqual([true, true, false, false]);
  });
});

/** A terminal behind a writer. */
function written() {
  const term = new Terminal({ allowProposedApi: true, cols: 40, rows: 5, scrollback: 100 });
  const rendered: [number, boolean][] = [];
  const writer: Writer = new Writer(term, (offset, idle) => rendered.push([offset, idle]));
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const done = (): Promise<void> => new Promise((resolve) => term.write('', resolve));
  const lines = (): string[] =>
    Array.from({ length: term.buffer.active.length }, (_, at) => term.buffer.active.getLine(at)?.translateToString(true) ?? '').filter((line) => line !== '');
  return { term, writer, rendered, bytes, done, lines };
}

describe('the writer', () => {
  test('says what is on the screen, and when nothing more waits', async () => {
    const it = written();
    it.writer.write(it.bytes('a'), 1);
    it.writer.write(it.bytes('b'), 2);
    await it.done();
    expect(it.rendered).toEqual([[1, false], [2, true]]);
  });

  test.each([
    ['text', 'before\r\n'],
    ['an unfinished sequence', 'x\x1b[12'],
    ['an unfinished title', 'x\x1b]0;title'],
    ['an unfinished device string', 'x\x1bP$q'],
    ['a cut character', 'x\xe2'],
    ['the other screen and modes', '\x1b[?1049h\x1b[?2004h\x1b[?1000h\x1b[31mALT'],
  ])('reset after %s leaves nothing of it', async (_, before) => {
    const it = written();
    for (let line = 0; line < 20; line += 1) it.writer.write(it.bytes(`line ${line}\r\n`), line);
    it.writer.write(Uint8Array.from(before, (char) => char.charCodeAt(0)), 100);
    it.writer.reset();
    it.writer.write(it.bytes('after'), 200);
    await it.done();
    expect(it.lines()).toEqual(['after']);
    expect(it.term.buffer.active.type).toBe('normal');
    expect([it.term.modes.bracketedPasteMode, it.term.modes.mouseTrackingMode]).toEqual([false, 'none']);
  });

  test('counts each chunk once when a resize makes the terminal parse at once', async () => {
    const it = written();
    it.writer.write(it.bytes('one '), 8);
    it.writer.write(it.bytes('two '), 16);
    it.writer.resize(60, 10);
    it.writer.write(it.bytes('three '), 26);
    await it.done();
    expect(it.rendered.map(([offset]) => offset)).toEqual([8, 16, 26]);
    expect(it.rendered.at(-1)).toEqual([26, true]);
  });

  test('says how much is missing', async () => {
    const it = written();
    it.writer.write(it.bytes('a\x1b[1'), 4);
    it.writer.gap(12);
    it.writer.write(it.bytes('b'), 17);
    await it.done();
    expect(it.lines()).toEqual(['a', ' 12 bytes were not kept ', 'b']);
  });
});

describe('a paste', () => {
  test('keeps text, tabs and line ends, and drops every control', () => {
    expect(pasteable('a\tb\r\nc\n\rünïcode 漢 👍🏽 \u200d')).toBe('a\tb\r\nc\n\rünïcode 漢 👍🏽 \u200d');
    expect(pasteable('\x1b[201~rm\r \x9b201~ \u0080\u0085\u009f end')).toBe('[201~rm\r 201~  end');
    const controls = Array.from({ length: 0xa0 }, (_, code) => String.fromCharCode(code)).filter((char) => /\p{Cc}/u.test(char));
    expect(controls.length).toBe(65);
    expect(pasteable(controls.join(''))).toBe('\t\n\r');
  });

  test('cannot be put together again from what is left', () => {
    expect(pasteable('\x1b\x1b[201~[201~')).toBe('[201~[201~');
    expect(pasteable('\x1b\x9b\x1b')).toBe('');
  });

  test('is told from typing by how it was inserted, and by what', () => {
    const of = (inputType: string, data: string | null, carried?: string): string | null =>
      insertedText({ inputType, data, dataTransfer: carried === undefined ? null : { getData: () => carried } });
    expect(of('insertText', 'a')).toBe(null);
    expect(of('insertText', '漢字')).toBe(null);
    expect(of('insertLineBreak', null)).toBe(null);
    expect(of('deleteContentBackward', null)).toBe(null);
    expect(of('insertFromPaste', 'x')).toBe('x');
    expect(of('insertFromPaste', null, 'x\ny')).toBe('x\ny');
    expect(of('insertFromDrop', null, 'x')).toBe('x');
    expect(of('insertReplacementText', 'x')).toBe('x');
    expect(of('insertText', 'two\nlines')).toBe('two\nlines');
    expect(of('insertText', 'a\x1b[201~b')).toBe('a\x1b[201~b');
  });
});

test('bytes are cut only between characters', () => {
  const of = (...bytes: number[]): number => wholeLength(Uint8Array.from(bytes));
  expect([of(), of(0x61), of(0xc3), of(0x61, 0xe2, 0x80), of(0xe2, 0x80, 0x93), of(0xf0, 0x9f, 0x80), of(0xf0, 0x9f, 0x80, 0x84)]).toEqual([0, 1, 0, 1, 3, 0, 4]);
  // What is no UTF-8 is not held back for ever.
  expect([of(0x80, 0x80, 0x80), of(0x61, 0x80), of(0xff, 0x80, 0x80, 0x80)]).toEqual([3, 2, 4]);
});
