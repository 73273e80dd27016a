// The page on a daemon with tmux: what an operator does in a day.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import {
  closeBrowser, closePages, endsWith, Kas, newPage, newTab, openBrowser, openDemo, press, ready, runAdHoc, screen, shot, shows, type,
} from './harness.mjs';

const kas = new Kas();
const icon = (page, task) => page.locator(`.sidebar [data-task="${task}"]`);
const tone = (page, task, wanted) => page.locator(`.sidebar [data-task="${task}"][data-tone="${wanted}"]`).waitFor();

before(async () => {
  await kas.start();
  assert.equal(kas.backend, 'tmux', 'these tests need tmux');
  await kas.must('daemon', 'add', kas.project);
  await openBrowser();
});
after(async () => {
  await closeBrowser();
  await kas.remove();
});
afterEach(closePages);

describe('letting in', () => {
  test('without a session says what to do, and shows nothing', async () => {
    const page = await newPage();
    await page.goto(`http://${kas.address}/projects/demo`);
    await page.getByText('kas open').waitFor();
    assert.equal(await page.locator('.sidebar').count(), 0);
    await shot(page, 'sign-in');
  });

  test('a ticket lets in once, and leaves the address', async () => {
    const url = await kas.ticketUrl();
    const page = await newPage();
    await page.goto(url);
    await page.getByRole('link', { name: /demo/ }).waitFor();
    assert.equal(new URL(page.url()).hash, '');
    await shot(page, 'projects');
    const other = await newPage();
    await other.goto(url);
    await other.getByText('kas open').waitFor();
  });

  test('a second tab of the browser is let in by the first', async () => {
    const page = await openDemo(kas);
    const tab = await newTab(page);
    await tab.goto(`http://${kas.address}/projects/demo`);
    await tab.getByRole('heading', { name: 'Tasks' }).waitFor();
  });
});

describe('a task', () => {
  test('shows its coloured output and how it ended', async () => {
    const page = await openDemo(kas);
    await page.getByRole('heading', { name: 'checks' }).first().waitFor();
    await shot(page, 'project');
    await press(page, 'test');
    await tone(page, 'test', 'running');
    await shows(page, '5 passed, 0 failed');
    await endsWith(page, 'exit 0', 'done');
    await tone(page, 'test', 'done');
    assert.ok((await page.locator('.xterm-rows .xterm-fg-2').count()) > 0, 'green text');
    await shot(page, 'task-done');
  });

  test('that fails is said so', async () => {
    const page = await openDemo(kas);
    await press(page, 'test-broken');
    await shows(page, '1 failed');
    await endsWith(page, 'exit 3', 'failed');
    await tone(page, 'test-broken', 'failed');
  });

  test('shows 24-bit colours under the strict policy', async () => {
    const page = await openDemo(kas);
    await press(page, 'colours');
    await endsWith(page, 'exit 0', 'done');
    const colours = await page.locator('.xterm-rows span').evaluateAll((spans) => spans.map((span) => span.style.backgroundColor).filter(Boolean));
    assert.ok(colours.includes('rgb(255, 0, 128)'), 'the first 24-bit cell');
    await shot(page, 'colours');
  });

  test('takes what is typed', async () => {
    const page = await openDemo(kas);
    await press(page, 'ask');
    await shows(page, 'Your name?');
    await ready(page);
    await type(page, 'Ada Lovelace\n');
    await shows(page, 'A secret, not shown:');
    await type(page, 'hunter22\n');
    await shows(page, 'Welcome, Ada Lovelace. Your secret has 8 characters.');
    await endsWith(page, 'exit 0', 'done');
    assert.ok(!(await screen(page)).includes('hunter22'));
  });

  test('that is stopped has its last word and is amber', async () => {
    const page = await openDemo(kas);
    await press(page, 'serve');
    await shows(page, 'listening on');
    await tone(page, 'serve', 'running');
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await shows(page, /^stopped$/m);
    await endsWith(page, 'stopped', 'stopped');
    await tone(page, 'serve', 'stopped');
  });

  test('that runs is opened by its icon, not started again', async () => {
    const page = await openDemo(kas);
    await press(page, 'top');
    await ready(page);
    const url = page.url();
    await page.getByRole('link', { name: 'All tasks' }).click();
    await icon(page, 'top').click();
    await page.locator('.terminal-pane').waitFor();
    assert.equal(page.url(), url);
    await shot(page, 'full-screen');
    await type(page, 'q');
    await endsWith(page, 'exit 0', 'done');
  });

  test('that floods is shown to its last line', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, './bin/flood 6');
    await shows(page, /\d+ lines/, 60_000);
    await endsWith(page, 'exit 0', 'done');
  });
});

describe('the terminal', () => {
  test('has the size of the page, and follows it', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'while stty size; read x && [ "$x" != q ]; do :; done');
    await ready(page);
    await shows(page, /\d+ \d+/);
    await page.setViewportSize({ width: 700, height: 500 });
    await page.waitForFunction(() => document.querySelector('.xterm-rows')?.childElementCount < 26);
    const rows = await page.locator('.xterm-rows > div').count();
    // What is typed may overtake a change of size, so Enter is typed until the new one is seen.
    const seen = async (tries) => {
      await type(page, '\n');
      await shows(page, new RegExp(`^${rows} \\d+ *$`, 'm'), 1_000).catch((error) => (tries > 1 ? seen(tries - 1) : Promise.reject(error)));
    };
    await seen(10);
    await type(page, 'q\n');
    await endsWith(page, 'exit 0', 'done');
  });

  test('keeps everything while no page is open', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'printf "before\\n"; read x; printf "got %s\\n" "$x"; sleep 300');
    await shows(page, 'before');
    await ready(page);
    await type(page, 'marmalade\n');
    await shows(page, 'got marmalade');
    const url = page.url();
    await page.close();
    const again = await openDemo(kas);
    await again.goto(url);
    await shows(again, /before[^]*marmalade[^]*got marmalade/);
    await again.getByRole('button', { name: 'Stop', exact: true }).click();
    await endsWith(again, 'stopped', 'stopped');
  });

  test('shows the same to two pages, and takes keys from both', async () => {
    const one = await openDemo(kas);
    await runAdHoc(one, 'cat');
    await ready(one);
    const two = await openDemo(kas);
    await two.goto(one.url());
    await ready(two);
    await type(one, 'from one\n');
    await shows(two, 'from one');
    await two.locator('.xterm-helper-textarea').focus();
    await type(two, 'from two\n');
    await shows(one, /from one\s+from one\s+from two\s+from two/);
    await two.keyboard.press('Control+d');
    await endsWith(one, 'exit 0', 'done');
    await endsWith(two, 'exit 0', 'done');
  });

  test('takes a paste that fills many frames, byte for byte', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'stty raw -echo; printf "go\\r\\n"; head -c 200000 | sha256sum; stty sane');
    await shows(page, 'go');
    await ready(page);
    const text = Array.from({ length: 200_000 }, (_, at) => String.fromCharCode(97 + ((at * 7) % 26))).join('');
    await page.locator('.xterm-helper-textarea').evaluate((area, pasted) => {
      const data = new DataTransfer();
      data.setData('text/plain', pasted);
      area.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
    }, text);
    const { createHash } = await import('node:crypto');
    await shows(page, createHash('sha256').update(text).digest('hex').slice(0, 40));
  });

  test('lets the keyboard out', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'cat');
    await ready(page);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'xterm-helper-textarea', 'Tab is the program’s');
    await page.keyboard.press('Control+Shift+L');
    assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), 'Stop');
    await page.keyboard.press('Enter');
    await endsWith(page, 'stopped', 'stopped');
  });

  test('asks before it opens a link that a program printed', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'printf "\\033]8;;https://kas.invalid/x\\033\\\\click here\\033]8;;\\033\\\\ \\033]8;;javascript:alert(1)\\033\\\\not here\\033]8;;\\033\\\\\\n"');
    await endsWith(page, 'exit 0', 'done');
    const box = await page.locator('.xterm-rows').boundingBox();
    await page.mouse.move(box.x + 20, box.y + 8);
    await page.mouse.move(box.x + 24, box.y + 8);
    await page.mouse.click(box.x + 24, box.y + 8);
    const dialog = page.getByRole('dialog');
    await dialog.getByText('https://kas.invalid/x').waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await page.mouse.move(box.x + 110, box.y + 8);
    await page.mouse.click(box.x + 114, box.y + 8);
    assert.equal(await dialog.count(), 0);
    assert.equal(page.context().pages().length, 1);
  });
});

describe('tabs', () => {
  test('show the runs of a task, running first, and close deletes an ended one', async () => {
    const page = await openDemo(kas);
    for (let run = 0; run < 2; run += 1) {
      await page.goto(`http://${kas.address}/projects/demo`);
      await press(page, 'check-env');
      await endsWith(page, 'exit 0', 'done');
    }
    const tabs = page.getByRole('tab');
    await page.waitForFunction(() => document.querySelectorAll('[role=tab]').length === 2);
    const newest = page.url().split('/').pop();
    assert.equal(await tabs.first().getAttribute('id'), `tab-${newest}`);
    assert.equal(await tabs.first().getAttribute('aria-selected'), 'true');

    await tabs.first().focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('Enter');
    await page.waitForFunction((id) => !location.pathname.endsWith(id), newest);
    const oldest = page.url().split('/').pop();
    await shows(page, 'says hello, the demo project');
    await shot(page, 'tabs');

    const windows = async () => (await kas.tmux('list-windows', '-t', '=kaged-demo:', '-F', '#{window_name}')).stdout.match(/^task-check-env/gm);
    assert.equal((await windows()).length, 2);
    await page.locator('.tab').nth(1).locator('.close').click();
    await page.waitForFunction(() => document.querySelectorAll('[role=tab]').length === 1);
    assert.ok(page.url().endsWith(newest));
    const row = page.locator('.deletion');
    await row.getByText('Deleted 1 run').waitFor();
    assert.equal((await kas.run('logs', oldest)).code, 0, 'the run is there as long as the deletion can be undone');
    await row.waitFor({ state: 'detached' });
    assert.equal((await kas.run('logs', oldest)).code, 3, 'the deleted run is gone');
    assert.equal((await windows()).length, 1, 'and so is its window');
  });

  test('go when their runs are deleted elsewhere', async () => {
    const page = await openDemo(kas);
    assert.equal((await kas.run('run', '--wait', 'test-broken')).code, 3);
    await press(page, 'test-broken');
    await endsWith(page, 'exit 3', 'failed');
    await page.waitForFunction(() => document.querySelectorAll('[role=tab]').length > 1);
    const other = await page.locator('[role=tab][aria-selected=false]').first().getAttribute('id');
    await kas.must('rm', other.replace('tab-', ''));
    await page.locator(`#${other}`).waitFor({ state: 'detached' });

    const tab = await newTab(page);
    await tab.goto(`http://${kas.address}/projects/demo`);
    await tab.getByRole('button', { name: 'Cleanup history' }).click();
    await tab.getByRole('button', { name: /^Delete \d+ runs?$/ }).click();
    await page.getByRole('heading', { name: 'This run is gone' }).waitFor();
    await tone(page, 'test-broken', 'idle');
  });

  test('cannot be closed while it runs, and ad-hoc runs have none', async () => {
    const page = await openDemo(kas);
    await press(page, 'serve');
    await shows(page, 'listening on');
    const running = page.locator('.tab[data-tone="running"]');
    await running.waitFor();
    assert.equal(await running.locator('.close').count(), 0);
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await endsWith(page, 'stopped', 'stopped');
    await page.getByRole('link', { name: 'All tasks' }).click();
    await runAdHoc(page, 'true');
    await endsWith(page, 'exit 0', 'done');
    assert.equal(await page.getByRole('tablist').count(), 0);
  });
});

describe('a task that asks first', () => {
  test('shows its name and command, and runs only after a yes', async () => {
    const page = await openDemo(kas);
    await press(page, 'wipe');
    const dialog = page.getByRole('dialog');
    await dialog.getByText('./bin/wipe').waitFor();
    assert.match(await dialog.innerText(), /Run wipe\?/);
    assert.match(await dialog.innerText(), /good for \d+ s/);
    await shot(page, 'confirm');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await tone(page, 'wipe', 'idle');

    await press(page, 'wipe');
    await dialog.getByRole('button', { name: 'Run it' }).click();
    await shows(page, 'not really');
    await endsWith(page, 'exit 0', 'done');
  });
});

describe('the project page', () => {
  test('runs a command in a directory and lists it', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'basename "$(pwd)"', './service');
    await shows(page, 'service');
    await endsWith(page, 'exit 0', 'done');
    await page.getByRole('link', { name: 'All tasks' }).click();
    await page.locator('.recent').getByText('basename').waitFor();
    await page.locator('.recent').getByRole('button', { name: 'Again' }).first().click();
    await shows(page, 'service');
    await endsWith(page, 'exit 0', 'done');
  });

  test('says why a command was not run', async () => {
    const page = await openDemo(kas);
    await page.getByRole('textbox', { name: 'Command' }).fill('true');
    await page.getByRole('textbox', { name: /Directory/ }).fill('no-such-directory');
    await page.getByRole('button', { name: 'Run ad-hoc' }).click();
    await page.locator('.notice').waitFor();
    assert.ok(new URL(page.url()).pathname.endsWith('/projects/demo'));
  });

  test('shows where the project file is wrong, and gets over it', async () => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const file = `${kas.project}/.kaged/project.yaml`;
    const good = readFileSync(file, 'utf8');
    const page = await openDemo(kas);
    writeFileSync(file, good.replace('description: Passes', 'describtion: Passes'));
    try {
      await page.reload();
      const problems = page.locator('.problems');
      await problems.waitFor();
      assert.match(await problems.innerText(), /project\.yaml:\d+:\d+/);
      await shot(page, 'problems');
      assert.ok((await page.locator('.task-row').count()) >= 9, 'the last good version is in force');
    } finally {
      writeFileSync(file, good);
    }
    await page.reload();
    await page.locator('.task-row').first().waitFor();
    await page.locator('.problems').waitFor({ state: 'detached' });
  });

  test('says so when the project is taken off, and comes back with it', async () => {
    const page = await openDemo(kas);
    await kas.must('daemon', 'remove', 'demo');
    await page.getByRole('alert').getByText('There is no project demo').waitFor();
    await shot(page, 'removed');
    await page.getByRole('link', { name: 'Projects' }).click();
    await page.getByText('No project is registered').waitFor();
    await kas.must('daemon', 'add', kas.project);
    await page.getByRole('link', { name: /demo/ }).first().click();
    await page.locator('.task-row').first().waitFor();
    assert.equal(await page.getByText('There is no project').count(), 0);
  });

  test('works on a phone', async () => {
    const page = await openDemo(kas, { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: 'light' });
    await shot(page, 'phone-project');
    await page.locator('.task-row [data-task="test"]').tap();
    await endsWith(page, 'exit 0', 'done');
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `nothing sticks out (${overflow} px)`);
    await shot(page, 'phone-task');
  });
});

describe('tmux attach', () => {
  test('shows what is typed in the page, and the page what is typed there', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'cat');
    await ready(page);
    await type(page, 'hello from the page\n');
    await shows(page, /hello from the page\s+hello from the page/);
    const id = page.url().split('/').pop();
    await kas.tmux('select-window', '-t', `=kaged-demo:task-${id.slice(-10).toLowerCase()}`);
    const terminal = kas.attach();
    try {
      await terminal.shows(/hello from the page/);
      terminal.type('hello from tmux\r');
      await shows(page, /hello from tmux\s+hello from tmux/);
      const seen = terminal.shows(/and back/);
      await type(page, 'and back\n');
      await seen;
    } finally {
      terminal.close();
    }
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await endsWith(page, 'stopped', 'stopped');
  });

  test('windows opened there by hand can be seen and used', async () => {
    const page = await openDemo(kas);
    await runAdHoc(page, 'cat');
    await ready(page);
    await kas.tmux('new-window', '-d', '-t', '=kaged-demo:', '-n', 'byhand', 'sh -c "echo opened by hand; exec cat"');
    await page.getByRole('link', { name: 'All tasks' }).click();
    await page.locator('.panes a').first().click();
    await shows(page, 'opened by hand');
    await ready(page);
    await type(page, 'typed here\n');
    await shows(page, /typed here\s+typed here/);
    await shot(page, 'pane');
    await kas.tmux('kill-window', '-t', '=kaged-demo:byhand');
  });
});
