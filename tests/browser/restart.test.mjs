// The daemon goes away and comes back under an open page.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BACKENDS, endsWith, openDemo, ready, runAdHoc, screen, shot, shows, type, useBrowser, useDemo } from './harness.mjs';

useBrowser();

/** Counts upwards until it is told to stop by a line. (`-t 0` only looks: a limit above it may end in the middle of the line.) */
const COUNTER = 'n=0; while ! read -t 0; do n=$((n+1)); echo "count $n"; sleep 0.05; done; read line; echo "told $line"';

/** The numbers on the screen, which must follow each other without a hole and without one twice. */
async function assertContiguous(page) {
  const numbers = [...(await screen(page)).matchAll(/count (\d+)/g)].map((match) => Number(match[1]));
  assert.ok(numbers.length > 5, 'some numbers are shown');
  numbers.forEach((number, at) => assert.equal(number, numbers[0] + at));
  return numbers.at(-1);
}

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);

    for (const signal of ['SIGTERM', 'SIGKILL']) {
      test(`after ${signal} the page goes on where it was, without a reload`, async () => {
        const page = await openDemo(kas);
        await runAdHoc(page, `bash -c '${COUNTER}'`);
        await shows(page, 'count 20');
        await ready(page);
        await page.evaluate(() => (window.sameDocument = true));
        const rows = () => page.locator('.xterm-rows > div').count();
        const tall = await rows();
        await kas.stop(signal);
        await page.getByText('typing is blocked').waitFor();
        assert.equal(await rows(), tall, 'what is said about the break leaves the terminal its size');
        await shot(page, `away-${backend}-${signal}`);
        const before = await assertContiguous(page);
        await type(page, 'lost\n');
        await kas.start();
        await ready(page);
        await shows(page, `count ${before + 30}`);
        await assertContiguous(page);
        assert.equal(await page.evaluate(() => window.sameDocument), true);
        await page.locator('.xterm-helper-textarea').focus();
        await type(page, 'enough\n');
        await shows(page, 'told enough');
        await endsWith(page, 'exit 0', 'done');
        await page.reload();
        await shows(page, 'told enough');
      });
    }

    test('a run that ended meanwhile shows all it wrote, and its code', async () => {
      const page = await openDemo(kas);
      await runAdHoc(page, 'echo begun; sleep 2; echo finished; exit 7');
      await shows(page, 'begun');
      await kas.stop('SIGKILL');
      await page.getByText('typing is blocked').waitFor();
      await kas.start();
      await shows(page, /begun\s+finished/);
      await endsWith(page, 'exit 7', 'failed');
    });
  });
}
