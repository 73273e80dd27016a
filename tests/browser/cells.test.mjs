// What is drawn: each character in its cells, as tmux and programs count them, and all of it.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { BACKENDS, newPage, openDemo, ready, runAdHoc, shot, shows, useBrowser, useDemo } from './harness.mjs';

const LIST = JSON.parse(readFileSync(new URL('../../fixtures/terminal/widths.json', import.meta.url), 'utf8'));
/** What can be seen of a line: tmux keeps no joiner before a letter. */
const seen = (line) => line.replaceAll(/[\u200b-\u200d]/gu, '');

/** Texts on one screen. */
const AT_ONCE = 16;
/** The width of a cell, from a row of which a word is known, once the terminal has the size that the page wants. */
const settled = (page) =>
  page.waitForFunction(() => {
    const row = [...document.querySelectorAll('.xterm-rows > div')].find((it) => it.textContent.startsWith('shown'));
    const node = row && document.createTreeWalker(row, NodeFilter.SHOW_TEXT).nextNode();
    if (!node || node.data.length < 5) return false;
    const left = (at) => {
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      return range.getBoundingClientRect().left;
    };
    const cell = (left(4) - left(0)) / 4;
    const columns = document.querySelector('.xterm-screen').getBoundingClientRect().width / cell;
    return Math.round(columns) === Number(sessionStorage.getItem('kas.size')?.split('x')[0]) && cell;
  });

/** Marks behind each text. */
const MARK = '<';
const LONG = process.env.KAS_FAULTS === 'long';
const RATIOS = [1, 1.25, 1.5, 2, 3];
const SIZES = LONG ? [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20] : [10, 13, 14, 16, 20];
/** What falls out of a cell that is measured wrong: at its bottom, its top, and its sides. */
const GLYPHS = ['_', 'g', 'j', '|', '┌', '█', 'Ä', '▁'];

useBrowser();

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);

    test('each text of the list takes its cells, on the page and in tmux', async () => {
      const page = await openDemo(kas);
      for (let from = 0; from < LIST.length; from += AT_ONCE) {
        const part = LIST.slice(from, from + AT_ONCE);
        const text = `\x1b[2J${part.map((it, row) => `\x1b[${row + 1};1H${it.text}${MARK}`).join('')}\x1b[${AT_ONCE + 2};1Hshown ${from}`;
        writeFileSync(`${kas.project}/text`, text);
        await page.goto(`${kas.origin}/projects/demo`);
        await runAdHoc(page, 'cat text; read line');
        await shows(page, `shown ${from}`);
        await ready(page);
        // Where the mark behind each text is drawn, in cells.
        const width = await (await settled(page)).jsonValue();
        const columns = await page.evaluate(([mark, cell]) => {
          const screen = document.querySelector('.xterm-screen').getBoundingClientRect();
          const probe = [...document.querySelectorAll('.xterm-rows > div')];
          return probe.map((row) => {
            const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
            for (let node = walker.nextNode(); node; node = walker.nextNode()) {
              const at = node.data.indexOf(mark);
              if (at < 0) continue;
              const range = document.createRange();
              range.setStart(node, at);
              range.setEnd(node, at + 1);
              return (range.getBoundingClientRect().left - screen.left) / cell;
            }
            return null;
          });
        }, [MARK, width]);
        // What two consonants with a virama look like is up to the font: they are drawn as one letter, in cells that are right.
        const apart = ({ text: it }) => !it.includes('\u094d');
        part.forEach((it, row) => apart(it) && assert.ok(Math.abs(columns[row] - it.cells) < 0.35, `${JSON.stringify(it.text)} is drawn ${columns[row]} cells wide, not ${it.cells}`));
        if (from === 16) await shot(page, `cells-${backend}`);
        if (backend === 'tmux') {
          const id = page.url().split('/').pop();
          const { tmux_session, tmux_window } = await kas.api(`/tasks/${id}`);
          const { stdout } = await kas.tmux('-u', 'capture-pane', '-p', '-t', `=${tmux_session}:=${tmux_window}`);
          const rows = await page.evaluate(() => [...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd()));
          const lines = stdout.split('\n').map((line) => line.trimEnd());
          // tmux keeps 21 bytes of a cell, and drops what joins after them.
          const whole = ({ text: it }) => Buffer.byteLength(it) <= 21;
          part.forEach((it, row) => whole(it) && assert.equal(seen(rows[row]), seen(lines[row]), `the page shows what tmux shows of ${JSON.stringify(it.text)}`));
        }
        await page.locator('.bar .stop').click();
        await page.locator('.bar .badge.exit').waitFor();
      }
    });
  });
}

describe('at every zoom', () => {
  const kas = useDemo('pty');

  /** How much of each cell is not background, from a picture of the first row. */
  async function inks(page, picture, count) {
    return page.evaluate(
      async ([data, cells]) => {
        const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
        canvas.drawImage(bitmap, 0, 0);
        const ground = canvas.getImageData(bitmap.width - 2, bitmap.height - 2, 1, 1).data;
        const width = bitmap.width / cells;
        return Array.from({ length: cells }, (_, cell) => {
          // Without its edges: a cell may end within a pixel.
          const { data: pixels } = canvas.getImageData(Math.ceil(cell * width) + 1, 0, Math.floor(width) - 2, bitmap.height);
          let inked = 0;
          for (let at = 0; at < pixels.length; at += 4) {
            if ([0, 1, 2].some((part) => Math.abs(pixels[at + part] - ground[part]) > 60)) inked += 1;
          }
          return inked / (pixels.length / 4);
        });
      },
      [picture.toString('base64'), count],
    );
  }

  test('of a letter nothing is cut off that makes it what it is', async () => {
    const cells = GLYPHS.length * 2;
    writeFileSync(`${kas.project}/glyphs`, `\x1b[2J\x1b[1;1H${GLYPHS.join(' ')} \x1b[5;1Hshown`);
    const { id } = await kas.api('/projects/demo/tasks/run', { method: 'POST', body: JSON.stringify({ command: 'cat glyphs; read line' }) });
    const eye = await newPage();
    for (const ratio of RATIOS) {
      const page = await openDemo(kas, { deviceScaleFactor: ratio });
      for (const size of SIZES) {
        await page.evaluate((px) => localStorage.setItem('kas.fontSize', px), size);
        await page.goto(`${kas.origin}/projects/demo/tasks/${id}`);
        await shows(page, 'shown');
        await ready(page);
        await page.locator('.terminal-box').click(); // makes this page the one whose size counts
        const width = await (await settled(page)).jsonValue();
        const { font, x, y, height } = await page.evaluate(() => {
          const { left, top, height: tall } = document.querySelector('.xterm-rows > div').getBoundingClientRect();
          return { font: document.fonts.check('14px "kas mono"'), x: left, y: top, height: tall };
        });
        assert.ok(font, 'the font came with the page');
        const picture = await page.screenshot({ clip: { x, y, width: width * cells, height } });
        const ink = await inks(eye, picture, cells);
        GLYPHS.forEach((glyph, at) => {
          const where = `${glyph} at ${size} px, ratio ${ratio}`;
          const least = glyph === '█' ? 0.8 : 0.01;
          assert.ok(ink[at * 2] > least, `${where}: only ${ink[at * 2]} of its cell is drawn`);
          assert.ok(ink[at * 2 + 1] < 0.05, `${where}: ${ink[at * 2 + 1]} of the empty cell after it is drawn`);
        });
        if (size === 14) await shot(page, `glyphs-${ratio}`);
      }
      await page.context().close();
    }
  });
});
