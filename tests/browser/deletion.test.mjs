// Nothing is deleted by accident: no button changes its meaning under the pointer, and every deletion can be undone for ten seconds.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BACKENDS, endsWith, openDemo, press, ready, runAdHoc, shot, shows, useBrowser, useDemo } from './harness.mjs';

/** What a person takes between two clicks, impatient or in doubt. */
const PAUSES_MS = [0, 300, 500, 800, 1200];

useBrowser();

const pause = (page, ms) => page.evaluate((it) => new Promise((done) => setTimeout(done, it)), ms);
const centre = async (locator) => {
  const { x, y, width, height } = await locator.boundingBox();
  return [x + width / 2, y + height / 2];
};
const runId = (page) => page.url().split('/').pop();

describe('a deletion that is being carried out', () => {
  const kas = useDemo('pty');
  const list = async () => (await kas.api('/projects/demo/tasks/instances?limit=500')).items;

  test('can be undone for what is left of it, says so, and not when nothing is left', async () => {
    for (let run = 0; run < 6; run += 1) await kas.must('run', '--wait', '--', 'true');
    const page = await openDemo(kas);
    const rows = (count) => page.waitForFunction((it) => document.querySelectorAll('.recent li').length === it, count);
    await rows(6);
    const asked = [];
    await page.route('**/api/v1/tasks/*', (route) => (route.request().method() === 'DELETE' ? asked.push(route) : route.continue()));
    const cleanup = async (count) => {
      await page.getByRole('button', { name: 'Cleanup history' }).click();
      await page.getByRole('button', { name: `Delete ${count} runs` }).click();
      const requests = asked.length + Math.min(count, 4);
      const deadline = performance.now() + 20_000;
      while (asked.length < requests) {
        assert.ok(performance.now() < deadline, `${asked.length} requests`);
        await page.evaluate(() => new Promise(requestAnimationFrame));
      }
    };
    await cleanup(6);
    await page.getByRole('button', { name: 'Undo' }).click();
    await page.locator('.notice').getByText('2 runs restored; 4 were deleted already.').waitFor();
    for (const request of asked) await request.continue();
    await rows(2);
    assert.equal((await list()).length, 2);
    assert.equal(asked.length, 4, 'no request was made after the undoing');

    await cleanup(2);
    await page.locator('.deletion').waitFor();
    await page.getByRole('button', { name: 'Undo' }).waitFor({ state: 'detached' });
    for (const request of asked.slice(4)) await request.continue();
    await page.locator('.deletion').waitFor({ state: 'detached' });
    assert.equal((await list()).length, 0);
  });
});

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);
    const exists = async (id) => (await kas.run('logs', id)).code === 0;

    test('a second click on Stop is a click on Stop', async () => {
      const page = await openDemo(kas);
      for (const ms of PAUSES_MS) {
        await page.goto(`${kas.origin}/projects/demo`);
        await press(page, 'serve');
        await shows(page, 'listening on');
        const id = runId(page);
        const at = await centre(page.locator('.bar .stop'));
        await page.mouse.click(...at);
        await pause(page, ms);
        await page.mouse.click(...at);
        await endsWith(page, 'stopped', 'stopped');
        // And once more, now that it is surely over.
        await page.mouse.click(...at);
        assert.equal(await page.locator('.deletion, .notice').count(), 0, `${ms} ms`);
        assert.equal(runId(page), id, `${ms} ms: nothing else was opened or started`);
        assert.ok(await exists(id), `${ms} ms: the run is there`);
        assert.equal(await page.locator('.bar .stop').isDisabled(), true);
      }
      assert.equal((await kas.must('ps', '--json')).includes('"running"'), false, 'nothing was started');
    });

    test('a click on Stop as the run ends does nothing else', async () => {
      const page = await openDemo(kas);
      await runAdHoc(page, 'echo waits; read line; exit 4');
      await shows(page, 'waits');
      await ready(page);
      const at = await centre(page.locator('.bar .stop'));
      await page.locator('.xterm-helper-textarea').focus();
      await page.keyboard.press('Enter');
      await page.mouse.click(...at);
      await page.locator('.bar .badge.exit').waitFor();
      assert.equal(await page.locator('.deletion, .notice').count(), 0);
      assert.ok(await exists(runId(page)));
    });

    test('a deletion is in the menu, is undone, left undone by a reload, and else happens after ten seconds', async () => {
      const page = await openDemo(kas);
      await runAdHoc(page, 'echo kept');
      await endsWith(page, 'exit 0', 'done');
      const id = runId(page);
      const address = page.url();
      const remove = async () => {
        // By keyboard alone.
        await page.getByRole('button', { name: 'More' }).focus();
        await page.keyboard.press('Enter');
        await page.getByRole('button', { name: 'Delete this run' }).waitFor();
        await page.keyboard.press('Tab');
        await page.keyboard.press('Enter');
        await page.locator('.deletion').waitFor();
        await page.getByRole('heading', { name: 'Tasks' }).waitFor();
        assert.equal(await page.locator(`.recent a[href$="${id}"]`).count(), 0, 'it is not shown any more');
      };
      await remove();
      await shot(page, `deleted-${backend}`);
      await page.getByRole('button', { name: 'Undo' }).click();
      await page.locator(`.recent a[href$="${id}"]`).waitFor();
      assert.equal(await page.locator('.deletion').count(), 0);

      await page.goto(address);
      await remove();
      await page.reload();
      await page.locator(`.recent a[href$="${id}"]`).waitFor();

      await page.goto(address);
      await remove();
      assert.ok(await exists(id));
      await page.locator('.deletion').waitFor({ state: 'detached' });
      assert.equal(await exists(id), false);
    });

    test('cleanup says what it takes, takes that and no more, and can be undone', async () => {
      const page = await openDemo(kas);
      await page.goto(`${kas.origin}/projects/demo`);
      await page.getByRole('button', { name: 'Cleanup history' }).click();
      const said = page.getByRole('heading', { name: /^Delete \d+ runs? that ended\?$/ });
      const [count] = /\d+/.exec(await said.innerText());
      const before = await kas.api('/projects/demo/tasks/instances?limit=500');
      assert.ok(Number(count) > 1);
      assert.equal(Number(count), before.items.length);
      await shot(page, `cleanup-${backend}`);
      await page.getByRole('button', { name: new RegExp(`^Delete ${count} runs?$`) }).click();
      await page.locator('.deletion').getByText(`Deleted ${count} run`).waitFor();
      // What ends meanwhile was not spoken of.
      const { id } = await kas.api('/projects/demo/tasks/run', { method: 'POST', body: JSON.stringify({ command: 'true' }) });
      await page.locator(`.recent a[href$="${id}"]`).waitFor();
      await page.locator('.deletion').waitFor({ state: 'detached' });
      const { items } = await kas.api('/projects/demo/tasks/instances?limit=500');
      assert.deepEqual(items.map((run) => run.id), [id]);
    });
  });
}
