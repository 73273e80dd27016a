// One click launches one run, and so does a double click: what comes under the pointer after its first half launches nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { endsWith, openDemo, press, ready, runAdHoc, shows, useBrowser, useDemo } from './harness.mjs';

useBrowser();

describe('a double click', () => {
  const kas = useDemo('pty');
  const runs = async (name) => (await kas.api('/projects/demo/tasks/instances?limit=500')).items.filter((run) => (run.task_name ?? run.command) === name);
  const runId = (page) => page.url().split('/').pop();

  /** Clicks twice at one place. The page itself counts the time between, as it does that of a double click. */
  const clickTwice = (page, { x, y, width, height }, pause) =>
    page.evaluate(
      ([left, top, ms]) => {
        const click = () => document.elementFromPoint(left, top).click();
        click();
        return new Promise((done) => setTimeout(() => done(click()), ms));
      },
      [x + width / 2, y + height / 2, pause],
    );

  /** What a person takes between the clicks of one double click. */
  for (const pause of [0, 150, 400]) {
    test(`on Restart, ${pause} ms: one restart`, async () => {
      const page = await openDemo(kas);
      await press(page, 'serve');
      await shows(page, 'listening on');
      await ready(page);
      const before = runId(page);
      const usable = () => page.locator('.bar button[aria-disabled="false"]').getByText('Restart').waitFor();
      await usable();
      await clickTwice(page, await page.getByRole('button', { name: 'Restart' }).boundingBox(), pause);
      await page.waitForURL((url) => !url.pathname.endsWith(before));
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
    // Whether the answer could be given as it came.
    const atFirst = page.evaluate(
      () =>
        new Promise((done) =>
          new MutationObserver(() => {
            const yes = [...document.querySelectorAll('dialog button')].find((it) => it.textContent === 'Run it');
            if (yes) done(yes.disabled);
          }).observe(document.body, { childList: true, subtree: true })),
    );
    await press(page, 'wipe');
    assert.equal(await atFirst, true);
    await page.getByRole('button', { name: 'Run it' }).click();
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
