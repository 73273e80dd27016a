// Questions that a program prints, live and shown again: it reads what a person typed and what one terminal answered, nothing else.
// That one is the shim, and in a tmux window tmux for what every tmux answers. No page answers anything.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BACKENDS, endsWith, newTab, openDemo, ready, runAdHoc, screen, shows, type, useBrowser, useDemo } from './harness.mjs';
import { corpus, QUERIES, randomSequences, SYNC } from './queries.mjs';

const TABS = 5;
const RECORDER = fileURLToPath(new URL('recorder.mjs', import.meta.url));
const DEADLINE_MS = 60_000;
/** How many random sequences are printed at once, from how many seeds (100,000 in all in the long run), and the first seed. */
const RANDOM = 2_000;
const SEEDS = process.env.KAS_FAULTS === 'long' ? 50 : 1;
const SEED = Number(process.env.KAS_SEED ?? 1);

useBrowser();

/** At each `g` asks for the background, and tells the answer; ends at anything else. */
const BACKGROUND = `import os, tty
tty.setraw(0)
print('asks', end='\\r\\n', flush=True)
asked = 0
while os.read(0, 1) == b'g':
    os.write(1, b'\\x1b]11;?\\x07')
    got = b''
    while not got.endswith((b'\\x07', b'\\x1b\\\\')): got += os.read(0, 1)
    asked += 1
    print(f'answer {asked}: {got}', end='\\r\\n', flush=True)
`;

const readable = (bytes) => JSON.stringify(bytes.toString('latin1'));

/** The answers in a record, in an order that does not depend on who was sooner: tmux and the shim answer independently. */
const sorted = (bytes) => Buffer.from(bytes.toString('latin1').split(/(?=\x1b(?!\\))|(?=\x1d)/).sort().join(''), 'latin1');

/** Where two records part, for people. */
function assertSame(got, expected, what) {
  if (got.equals(expected)) return;
  const at = [...got].findIndex((byte, index) => byte !== expected[index]);
  const from = Math.max(0, (at < 0 ? Math.min(got.length, expected.length) : at) - 40);
  assert.fail(`${what}: ${got.length} bytes, not ${expected.length}; got …${readable(got.subarray(from, from + 120))}, expected …${readable(expected.subarray(from, from + 120))}`);
}

test('the corpus is as big as is promised, and no sequence is in it twice', () => {
  const distinct = new Set(QUERIES.map((query) => query.toString('latin1')));
  assert.ok(distinct.size >= 200, `${distinct.size} sequences`);
  console.log(`${distinct.size} distinct sequences`);
});

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);
    let runs = 0;

    /** A new run of the recorder: its command, and what it was sent so far. */
    function recorder(bytes, when = '') {
      runs += 1;
      const [text, record] = [`${kas.dir}/corpus-${runs}`, `${kas.dir}/record-${runs}`];
      writeFileSync(text, bytes);
      const sent = () => (existsSync(record) ? readFileSync(record) : Buffer.alloc(0));
      return { command: `${process.execPath} ${RECORDER} ${text} ${record} ${when}`, sent };
    }

    /** Waits for the answer to the last question. */
    async function answered(sent) {
      const deadline = performance.now() + DEADLINE_MS;
      while (!sent().includes(SYNC.answer)) {
        assert.ok(performance.now() < deadline, `the last question was answered; so far: ${readable(sent().subarray(-200))}`);
        await new Promise((done) => setTimeout(done, 20));
      }
    }

    async function tabsOf(page, count) {
      const tabs = [];
      for (let tab = 0; tab < count; tab += 1) {
        const next = await newTab(page);
        await next.goto(page.url());
        await ready(next);
        tabs.push(next);
      }
      return tabs;
    }

    /** What is answered with nobody looking. */
    async function oneTerminal(page, bytes) {
      const { command, sent } = recorder(bytes, 'now');
      const [cols, rows] = (await page.evaluate(() => sessionStorage.getItem('kas.size'))).split('x').map(Number);
      const { id } = await kas.api('/projects/demo/tasks/run', { method: 'POST', body: JSON.stringify({ command, cols, rows }) });
      await answered(sent);
      const answers = sent();
      await kas.api(`/tasks/${id}/stop`, { method: 'POST', body: '{}' });
      return answers;
    }

    /** Prints it under the eyes of this page and `more` tabs. */
    async function live(page, bytes, more) {
      const { command, sent } = recorder(bytes);
      await page.goto(`${kas.origin}/projects/demo`);
      await runAdHoc(page, command);
      await shows(page, 'the recorder waits');
      await ready(page);
      const tabs = await tabsOf(page, more);
      for (const tab of tabs) await shows(tab, 'the recorder waits');
      await type(tabs.at(-1) ?? page, 'g');
      await answered(sent);
      for (const tab of [page, ...tabs]) await shows(tab, 'all is printed', DEADLINE_MS);
      return { sent, tabs };
    }

    async function end(page) {
      await page.locator('.xterm-helper-textarea').focus();
      await page.keyboard.press('Control+]');
      await endsWith(page, 'exit 0', 'done');
    }

    /** Live with five tabs, then shown again to five new ones, to a reloaded one, and to all after the daemon died. */
    async function nothingElse(bytes) {
      const page = await openDemo(kas);
      // A first terminal, so that the page knows the size of one.
      await runAdHoc(page, 'true');
      await endsWith(page, 'exit 0', 'done');
      await page.waitForFunction(() => sessionStorage.getItem('kas.size') !== null);
      const expected = await oneTerminal(page, bytes);
      const { sent } = await live(page, bytes, TABS - 1);
      const typed = Buffer.from('g');
      assertSame(sorted(sent()), sorted(Buffer.concat([typed, expected])), 'live');
      const again = await tabsOf(page, TABS);
      for (const tab of again) await shows(tab, 'all is printed');
      await page.reload();
      await ready(page);
      await shows(page, 'all is printed');
      await kas.stop('SIGKILL');
      await kas.start();
      for (const tab of [page, ...again]) await tab.locator('[data-link="open"]').waitFor();
      for (const tab of [page, ...again]) await ready(tab);
      await end(page);
      assertSame(sorted(sent()), sorted(Buffer.concat([typed, expected, Buffer.from([0x1d])])), 'shown again');
      return expected.toString('latin1');
    }

    test('every question there is', async () => {
      const answers = await nothingElse(corpus());
      assert.ok(answers.includes('\x1b[?1;2c') && answers.includes('\x1bP>|kas('), 'who is there was asked');
      assert.ok(answers.endsWith(SYNC.answer));
    });

    test('another browser of the same size adds no answer, whoever works last', async () => {
      const [page, other] = [await openDemo(kas), await openDemo(kas)];
      const ask = (text) => `\x1b[c\x1b[6n\x1b]11;?\x07\x1b[?2026$p${text}\r\n`;
      const [{ command, sent }, round] = [recorder(Buffer.concat([Buffer.from(ask('asked')), Buffer.from(SYNC.ask)])), '\x1b[?1;2c'];
      await runAdHoc(page, command);
      await shows(page, 'the recorder waits');
      await ready(page);
      await other.goto(page.url());
      await ready(other);
      await other.locator('.xterm-helper-textarea').focus();
      await type(other, 'g');
      await answered(sent);
      for (const each of [page, other]) await shows(each, 'all is printed');
      await end(page);
      const got = sent().toString('latin1');
      assert.equal(got.split(round).length - 1, 1, readable(sent()));
      assert.equal(got.split(SYNC.answer).length - 1, 1, readable(sent()));
      assert.ok(got.startsWith('g') && got.endsWith(`${SYNC.answer}\x1d`), readable(sent()));
    });

    test('the background is that of the page, by day and by night', async () => {
      writeFileSync(`${kas.project}/background.py`, BACKGROUND);
      const page = await openDemo(kas, { colorScheme: 'light' });
      await runAdHoc(page, 'exec python3 background.py');
      await shows(page, 'asks');
      await ready(page);
      await page.locator('.xterm-helper-textarea').focus();
      let asked = 0;
      /** What is typed may overtake the page's colours, so it is asked until they are there. */
      const answers = async (colour) => {
        const deadline = performance.now() + DEADLINE_MS;
        for (let got = ''; got !== colour; ) {
          assert.ok(performance.now() < deadline, `answered ${got}, not ${colour}`);
          asked += 1;
          await type(page, 'g');
          await shows(page, new RegExp(`answer ${asked}: .*rgb:`));
          [, got] = new RegExp(`answer ${asked}: .*rgb:([0-9a-f/]+)`).exec(await screen(page));
        }
      };
      await answers('ffff/ffff/ffff');
      await page.emulateMedia({ colorScheme: 'dark' });
      await answers('0d0d/1111/1717');
      await type(page, 'q');
      await endsWith(page, 'exit 0', 'done');
      // A run that another page launches asks before that page shows it.
      const other = await openDemo(kas, { colorScheme: 'light' });
      await runAdHoc(other, "stty raw -echo; printf '\\033]11;?\\007'; head -c 25 | tr '\\033' '^'");
      await shows(other, '11;rgb:ffff/ffff/ffff');
    });

    for (let seed = SEED; seed < SEED + SEEDS; seed += 1) {
      test(`${RANDOM} random sequences from seed ${seed}`, async () => {
        await nothingElse(randomSequences(RANDOM, seed));
      });
    }
  });
}
