// What is pasted reaches the program as text: whole, in order, and without what would end a bracketed paste and be typing from there on.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BACKENDS, endsWith, openDemo, ready, runAdHoc, shows, useBrowser, useDemo } from './harness.mjs';

const RECORDER = fileURLToPath(new URL('recorder.mjs', import.meta.url));
const DEADLINE_MS = 20_000;

/** Text as a web page could put it on the clipboard: an end of paste in both spellings, a command line, keys, and what must stay. */
const HOSTILE = 'one\ttwo\r\nünïcode 漢 \x1b[201~rm -rf x\r \x9b201~rm -rf y\n\x03\x04\x1a\x7f\x15\x00\x90\x9d end';
const HARMLESS = 'one\ttwo\rünïcode 漢 [201~rm -rf x\r 201~rm -rf y\r end';

useBrowser();

/** Ways of pasting; each is done in a terminal that has the focus. */
const WAYS = {
  'the keyboard': async (page, text) => {
    await page.evaluate((it) => navigator.clipboard.writeText(it), text);
    await page.keyboard.press('Shift+Insert');
  },
  // The middle button and the context menu end in the same event.
  'an event': (page, text) =>
    page.evaluate((it) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData('text/plain', it);
      document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
    }, text),
  'dragging': async (page, text) => {
    const cdp = await page.context().newCDPSession(page);
    const { x, y, width, height } = await page.locator('.xterm-screen').boundingBox();
    const data = { items: [{ mimeType: 'text/plain', data: text }], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) await cdp.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data });
  },
  'a screen keyboard': async (page, text) => {
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('Input.insertText', { text });
  },
  'a screen keyboard that says so': (page, text) =>
    page.evaluate((data) => {
      document.activeElement.dispatchEvent(new InputEvent('beforeinput', { inputType: 'insertFromPaste', data, bubbles: true, cancelable: true }));
    }, text),
};

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);

    for (const bracketed of [true, false]) {
      test(`${bracketed ? 'bracketed' : 'plain'}, every way`, async () => {
        const [corpus, record] = [`${kas.dir}/corpus-${bracketed}`, `${kas.dir}/record-${bracketed}`];
        writeFileSync(corpus, bracketed ? '\x1b[?2004h' : '\x1b[?2004h\x1b[?2004l');
        const page = await openDemo(kas, { permissions: ['clipboard-read', 'clipboard-write'] });
        await runAdHoc(page, `${process.execPath} ${RECORDER} ${corpus} ${record} now`);
        await shows(page, 'all is printed');
        await ready(page);
        await page.locator('.xterm-helper-textarea').focus();
        let expected = '';
        const sent = () => (existsSync(record) ? readFileSync(record, 'utf8') : '');
        for (const [way, paste] of Object.entries(WAYS)) {
          await paste(page, HOSTILE);
          expected += bracketed ? `\x1b[200~${HARMLESS}\x1b[201~` : HARMLESS;
          const deadline = performance.now() + DEADLINE_MS;
          while (sent().length < expected.length && performance.now() < deadline) await page.evaluate(() => new Promise(requestAnimationFrame));
          assert.equal(sent(), expected, way);
        }
        await page.keyboard.press('Control+]');
        await endsWith(page, 'exit 0', 'done');
        assert.equal(sent(), `${expected}\x1d`);
      });
    }
  });
}
