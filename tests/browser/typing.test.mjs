// What is typed while the program or the daemon does not take it: it arrives in order and once, or is shown as not sent.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BACKENDS, endsWith, openDemo, ready, runAdHoc, screen, shot, shows, type, useBrowser, useDemo } from './harness.mjs';

const RECORDER = fileURLToPath(new URL('recorder.mjs', import.meta.url));
const DEADLINE_MS = 60_000;
const SILENT = '.connection[data-link="silent"]';

/** In raw mode: says so, reads nothing until the file is there, then all, and tells the hash of so many bytes and each byte after them. */
const BUSY = `import hashlib, os, sys, time, tty
tty.setraw(0)
print('busy', flush=True)
while not os.path.exists(sys.argv[1]): time.sleep(0.02)
left, all = int(sys.argv[2]), hashlib.sha256()
while left > 0:
    piece = os.read(0, min(left, 65536))
    left -= len(piece)
    all.update(piece)
print('got', all.hexdigest(), end='\\r\\n', flush=True)
while True: print('then', os.read(0, 100), end='\\r\\n', flush=True)
`;

useBrowser();

const until = async (what, said) => {
  const deadline = performance.now() + DEADLINE_MS;
  while (!what()) {
    assert.ok(performance.now() < deadline, said());
    await new Promise((done) => setImmediate(done));
  }
};

const paste = (page, text) =>
  page.evaluate((it) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', it);
    document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
  }, text);

const sinceNow = () => {
  const began = performance.now();
  return () => performance.now() - began;
};

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);
    before(() => writeFileSync(`${kas.project}/busy.py`, BUSY));

    let runs = 0;
    /** A program that writes down each byte it is sent. It has got something when the page knows that, too. */
    async function recorder(page) {
      let known = 0;
      page.on('websocket', (socket) =>
        socket.on('framereceived', ({ payload }) => {
          const { type: what, bytes } = typeof payload === 'string' ? JSON.parse(payload) : {};
          if (what === 'pty.input.taken') known += bytes;
        }),
      );
      await page.reload();
      runs += 1;
      const [corpus, record] = [`${kas.dir}/none-${runs}`, `${kas.dir}/record-${runs}`];
      writeFileSync(corpus, '');
      await runAdHoc(page, `${process.execPath} ${RECORDER} ${corpus} ${record}`);
      await shows(page, 'the recorder waits');
      await ready(page);
      await page.locator('.xterm-helper-textarea').focus();
      const sent = () => (existsSync(record) ? readFileSync(record, 'utf8') : '');
      const got = (text) => sent() === text && known === text.length;
      const told = () => `the program got ${JSON.stringify(sent())}, and the page knows of ${known} bytes`;
      return { sent, gets: (text) => until(() => got(text), () => `not ${JSON.stringify(text)}: ${told()}`) };
    }

    test('a paste of 3 MB into a busy program arrives whole, and what is typed after it comes after it', async () => {
      const page = await openDemo(kas);
      const text = Array.from({ length: 50_000 }, (_, at) => `line ${at} of what is pasted, in order and once, to its very end\n`).join('').slice(0, 3_000_000);
      const go = `${kas.dir}/go`;
      await runAdHoc(page, `exec python3 busy.py ${go} ${text.length}`);
      await shows(page, 'busy');
      await ready(page);
      await page.locator('.xterm-helper-textarea').focus();
      await paste(page, text);
      await type(page, 'z');
      await page.getByText('The program does not read').waitFor();
      await shot(page, `busy-${backend}`);
      writeFileSync(go, '');
      const hash = createHash('sha256').update(text.replaceAll('\n', '\r')).digest('hex');
      await shows(page, new RegExp(`got\\s+${hash.split('').join('\\s*')}`), DEADLINE_MS);
      await shows(page, "then b'z'");
      await page.getByText('The program does not read').waitFor({ state: 'detached' });
      await page.locator('.bar .stop').click();
      await endsWith(page, 'stopped', 'stopped');
    });

    test('a paste goes on while the terminal is made anew, and while something else is shown', async () => {
      const page = await openDemo(kas);
      const text = Array.from({ length: 16_000 }, (_, at) => `line ${at} of what is pasted, in order and once, to its very end\n`).join('').slice(0, 1_000_000);
      const go = `${kas.dir}/go-unseen`;
      await runAdHoc(page, `exec python3 busy.py ${go} ${text.length}`);
      await shows(page, 'busy');
      await ready(page);
      const id = page.url().split('/').pop();
      await page.locator('.xterm-helper-textarea').focus();
      await paste(page, text);
      await page.getByText('The program does not read').waitFor();
      await page.getByRole('button', { name: 'Screen reader' }).click();
      await shows(page, 'busy');
      await ready(page);
      await page.getByText('The program does not read').waitFor();
      await page.getByRole('link', { name: 'All tasks' }).click();
      await page.getByRole('heading', { name: 'Tasks' }).waitFor();
      writeFileSync(go, '');
      const hash = createHash('sha256').update(text.replaceAll('\n', '\r')).digest('hex');
      const deadline = performance.now() + DEADLINE_MS;
      for (let said = ''; !said.includes(`got ${hash}`); said = await kas.must('logs', id)) assert.ok(performance.now() < deadline, `the program got all: ${said}`);
      assert.equal(await page.locator('.notice').count(), 0, 'nothing was kept');
      await page.goBack();
      await shows(page, new RegExp(`got\\s+${hash.split('').join('\\s*')}`));
      await ready(page);
      await type(page, 'z');
      await shows(page, "then b'z'");
      await page.locator('.bar .stop').click();
      await endsWith(page, 'stopped', 'stopped');
    });

    test('a daemon that hangs is told of within seven seconds, and each key arrives once or is shown', async () => {
      const page = await openDemo(kas);
      const { sent, gets } = await recorder(page);
      await type(page, 'abc');
      await gets('abc');
      await kas.pause();
      const passed = sinceNow();
      await type(page, 'def'); // nobody can know yet
      await page.locator(SILENT).waitFor();
      assert.ok(passed() < 7_500, `said after ${passed()} ms`);
      await page.getByText('The daemon is not answering: typing is blocked. 3 bytes typed before wait for it.').waitFor();
      const clock = await page.locator('.bar .facts').innerText();
      for (const key of 'ghijklmnopqrstuvw') await page.keyboard.press(key);
      await page.getByText('Not sent: ghijklmnopqrstuvw (17 keys)').waitFor();
      assert.equal(await page.getByRole('button', { name: 'Send now' }).isDisabled(), true);
      assert.equal(await page.locator('.columns[data-live="false"]').count(), 1);
      await page.evaluate(() => new Promise((done) => setTimeout(done, 1_500))); // longer than a tick of the clock
      assert.equal(await page.locator('.bar .facts').innerText(), clock, 'the clock stands');
      await shot(page, `silent-${backend}`);
      await kas.resume();
      const back = sinceNow();
      await page.locator('.connection[data-link="open"]').waitFor();
      assert.ok(back() < 2_000, `live again after ${back()} ms`);
      await gets('abcdef');
      assert.equal(sent(), 'abcdef', 'nothing goes by itself');
      await type(page, 'x');
      await page.getByRole('button', { name: 'Send now' }).click();
      await gets('abcdefxghijklmnopqrstuvw');
      await page.getByText('Not sent').waitFor({ state: 'detached' });
      await page.keyboard.press('Control+]');
      await endsWith(page, 'exit 0', 'done');
      assert.equal(sent(), 'abcdefxghijklmnopqrstuvw\x1d');
    });

    test('a daemon that hangs and is killed: the page is live two seconds after the next start, no line and no key twice', async () => {
      const page = await openDemo(kas);
      const { sent, gets } = await recorder(page);
      await type(page, 'abc');
      await gets('abc');
      await kas.pause();
      await type(page, 'de');
      await page.locator(SILENT).waitFor();
      await type(page, 'fg');
      await kas.stop('SIGKILL');
      await page.locator('.connection[data-link="waiting"]').waitFor();
      await page.getByText('Not sent: defg (4 keys; some of it may have arrived)').waitFor();
      await type(page, 'h');
      await page.getByText('(5 keys; some of it may have arrived)').waitFor();
      await shot(page, `killed-${backend}`);
      const before = (await screen(page)).trimEnd();
      await kas.start();
      const back = sinceNow();
      await ready(page);
      await page.locator('.connection[data-link="open"]').waitFor();
      assert.ok(back() < 2_000, `live again after ${back()} ms`);
      assert.equal((await screen(page)).trimEnd(), before, 'no line is missing or twice');
      await page.getByRole('button', { name: 'Drop' }).click();
      await page.getByText('Not sent').waitFor({ state: 'detached' });
      await type(page, 'i');
      await gets('abci');
      await page.keyboard.press('Control+]');
      await endsWith(page, 'exit 0', 'done');
      assert.equal(sent(), 'abci\x1d');
    });

    test('keys typed while the daemon is away are shown, and go when they are told to', async () => {
      const page = await openDemo(kas);
      const { gets } = await recorder(page);
      await kas.stop('SIGKILL');
      await page.getByText('typing is blocked').waitFor();
      await type(page, 'ls\n');
      await page.keyboard.press('ArrowUp');
      const kept = page.getByText('Not sent: ls⏎␛[A (4 keys)');
      await kept.waitFor();
      await page.getByRole('link', { name: 'All tasks' }).click();
      await page.locator('.notice').getByText('4 keys did not reach the program').waitFor();
      assert.equal(await kept.count(), 0);
      await page.goBack();
      await kept.waitFor();
      await kas.start();
      await ready(page);
      // And out of the project, where its connection ends.
      await page.getByRole('link', { name: 'kas', exact: true }).click();
      await page.getByRole('heading', { name: 'Projects' }).waitFor();
      await page.goBack();
      await ready(page);
      await kept.waitFor();
      await page.getByRole('button', { name: 'Send now' }).click();
      await gets('ls\r\x1b[A');
      await page.keyboard.press('Control+]');
      await endsWith(page, 'exit 0', 'done');
    });
  });
}
