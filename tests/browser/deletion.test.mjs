// Nothing is deleted by accident: no button changes its meaning under the pointer, and every deletion can be undone for ten seconds.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { closeBrowser, closePages, endsWith, Kas, openBrowser, openDemo, press, ready, runAdHoc, shot, shows } from './harness.mjs';

/** What a person takes between two clicks, impatient or in doubt. */
const PAUSES_MS = [0, 300, 500, 800, 1200];

before(openBrowser);
after(closeBrowser);
afterEach(closePages);

const pause = (page, ms) => page.evaluate((it) => new Promise((done) => setTimeout(done, it)), ms);
const centre = async (locator) => {
  const { x, y, width, height } = await locator.boundingBox();
  return [x + width / 2, y + height / 2];
};
const runId = (page) => page.url().split('/').pop();

for (const backend of ['tmux', 'pty']) {
  describe(`on ${backend}`, () => {
    const kas = new Kas(`[task_runner]\nbackend = "${backend}"\n`);
    const exists = async (id) => (await kas.run('logs', id)).code === 0;
    before(async () => {
      await kas.start();
      assert.equal(kas.backend, backend);
      await kas.must('daemon', 'add', kas.project);
    });
    after(() => kas.remove());

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
