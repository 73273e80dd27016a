// One click launches one run, and so does a double click: what comes under the pointer after its first half launches nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { endsWith, openDemo, press, ready, runAdHoc, shows, useBrowser, useDemo } from './harness.mjs';

useBrowser();

describe('a double click', () => {
  const kas = useDemo('pty');
  const runs = async (name) => (await kas.api('/projects/demo/tasks/instances?limit=500')).items.filter((run) => (run.task_name ?? run.command) === name);
  const runId = (page) => page.url().split('/').pop();

  /** What a person takes between the clicks of one double click; `shown` is as soon as the new run is there. */
  for (const pause of [0, 150, 400, 'shown']) {
    test(`on Restart, ${pause}${pause === 'shown' ? '' : ' ms'}: one restart`, async () => {
      const page = await openDemo(kas);
      await press(page, 'serve');
      await shows(page, 'listening on');
      await ready(page);
      const before = runId(page);
      const usable = () => page.locator('.bar button[aria-disabled="false"]').getByText('Restart').waitFor();
      await usable();
      const { x, y, width, height } = await page.getByRole('button', { name: 'Restart' }).boundingBox();
      const click = () => page.mouse.click(x + width / 2, y + height / 2);
      const shown = () => page.waitForURL((url) => !url.pathname.endsWith(before));
      await click();
      if (pause === 'shown') await shown();
      else await page.evaluate((ms) => new Promise((done) => setTimeout(done, ms)), pause);
      await click();
      await shown();
      await usable();
      await shows(page, 'listening on');
      const active = (await runs('serve')).filter((run) => run.state === 'running' || run.state === 'starting');
      assert.deepEqual(active.map((run) => [run.id, run.restarted_from]), [[runId(page), before]]);
      await page.getByRole('button', { name: 'Stop', exact: true }).click();
      await endsWith(page, 'stopped', 'stopped');
    });
  }

  test('on a task, on Again, and two Enters: one run each', async () => {
    const page = await openDemo(kas);
    await page.locator('.sidebar [data-task="colours"]').dblclick();
    await endsWith(page, 'exit 0', 'done');
    assert.equal((await runs('colours')).length, 1);

    await page.getByRole('link', { name: 'All tasks' }).click();
    await page.getByRole('textbox', { name: 'Command' }).fill('echo once');
    await page.locator('.ad-hoc button[aria-disabled="false"]').waitFor();
    await page.getByRole('textbox', { name: 'Command' }).focus();
    await Promise.all([page.keyboard.press('Enter'), page.keyboard.press('Enter')]);
    await endsWith(page, 'exit 0', 'done');
    assert.equal((await runs('echo once')).length, 1);

    await page.getByRole('link', { name: 'All tasks' }).click();
    await page.locator('.recent').getByRole('button', { name: 'Again' }).dblclick();
    await endsWith(page, 'exit 0', 'done');
    assert.equal((await runs('echo once')).length, 2);
  });

  test('on a task that asks first answers nothing', async () => {
    const page = await openDemo(kas);
    await press(page, 'wipe');
    const yes = page.getByRole('dialog').getByRole('button', { name: 'Run it' });
    await yes.waitFor();
    assert.equal(await yes.isDisabled(), true);
    await yes.click();
    await endsWith(page, 'exit 0', 'done');
    assert.equal((await runs('wipe')).length, 1);
  });

  test('does not keep a launch that failed from being tried again', async () => {
    const page = await openDemo(kas);
    await page.getByRole('textbox', { name: /Directory/ }).fill('no-such-directory');
    await page.getByRole('textbox', { name: 'Command' }).fill('echo again');
    await page.getByRole('button', { name: 'Run ad-hoc' }).click();
    await page.locator('.notice').waitFor();
    await page.getByRole('textbox', { name: /Directory/ }).fill('.');
    await runAdHoc(page, 'echo again');
    await endsWith(page, 'exit 0', 'done');
  });
});
