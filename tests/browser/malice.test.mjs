// A project and programs that want to do more than be shown: markup, links, clipboard, notifications, pictures, titles, directions.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { closeBrowser, closePages, endsWith, Kas, newPage, openBrowser, openDemo, press, ready, runAdHoc, shows, type } from './harness.mjs';

const kas = new Kas();

/** Markup that does something wherever it becomes markup; what it does is seen by `window.attacked`, a dialog, a request or a navigation. */
const MARKUP = [
  '<script>attacked=1</script>', '<img src=x onerror=attacked=1>', '<svg onload=attacked=1>', '"><iframe srcdoc="<script>parent.attacked=1</script>">',
  "';attacked=1//", '<a href=javascript:attacked=1>x</a>', '{{attacked=1}}', '<base href=//evil.test>', '<style>@import "//evil.test"</style>', '<form action=//evil.test><button autofocus>',
  '<meta http-equiv=refresh content="0;url=//evil.test">', '</textarea><script>attacked=1</script>', '${attacked=1}', '<object data="//evil.test">',
];
/** Turned around on the screen, the first reads as something harmless. */
const TURNED = 'echo \u202e/ fr- mr\u202c # \u2066ok\u2069\u200b';

let brokenFile = '';

const quoted = (text) => JSON.stringify(text);

before(async () => {
  await Promise.all([kas.start(), openBrowser()]);
  const tasks = MARKUP.map((markup, at) => `  mark-${at}:\n    command: ${quoted(`echo ${quoted(markup)}`)}\n    description: ${quoted(markup)}\n    group: mark\n`);
  const turned = `  turned:\n    command: ${quoted(TURNED)}\n    description: ${quoted(TURNED)}\n    confirm: true\n`;
  const broken = MARKUP.map((markup) => `  ${quoted(markup)}:\n    command: 'true'\n    group: ${quoted(markup)}\n`);
  writeProject('malice', `version: 1\nproject: malice\ntasks:\n${tasks.join('')}${turned}`);
  await kas.must('daemon', 'add', kas.project);
  await kas.must('daemon', 'add', join(kas.dir, 'malice'));
  brokenFile = `version: 1\nproject: malice\ntasks:\n${broken.join('')}`;
});
after(async () => {
  await closeBrowser();
  await kas.run('daemon', 'remove', 'malice');
  await kas.remove();
});
afterEach(closePages);



function writeProject(name, text) {
  mkdirSync(join(kas.dir, name, '.kaged'), { recursive: true });
  writeFileSync(join(kas.dir, name, '.kaged/project.yaml'), text);
}

/** Nothing ran, nothing is where text should be, and the page stands where it stood. */
async function assertUnharmed(page, url) {
  assert.equal(await page.evaluate(() => window.attacked), undefined);
  assert.equal(await page.locator('main script, main img, main iframe, main object, main embed, main base, main meta, main form:not(.ad-hoc)').count(), 0);
  if (url !== undefined) assert.equal(page.url(), url);
  assert.equal(page.context().pages().length, 1);
  assert.doesNotMatch(await page.title(), /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069]/u);
  assert.ok([...(await page.title())].length <= 300);
}

async function openMalice() {
  const page = await newPage();
  await page.goto(await kas.ticketUrl());
  await page.getByRole('link', { name: /malice/ }).first().click();
  await page.getByRole('heading', { name: 'Tasks' }).waitFor();
  return page;
}

describe('a malicious project', () => {
  test('is text wherever it is shown', async () => {
    const page = await openMalice();
    for (const [at, markup] of MARKUP.entries()) {
      const row = page.locator('.task-row', { has: page.locator(`[data-task="mark-${at}"]`) });
      assert.ok((await row.innerText()).includes(markup), markup);
    }
    await assertUnharmed(page);
    await press(page, 'mark-1');
    await shows(page, 'onerror=attacked=1');
    await endsWith(page, 'exit 0', 'done');
    await assertUnharmed(page, page.url());
    // The same markup, made into elements, does what it says: what was looked for can be found.
    const done = await (await page.context().newPage()).evaluate(() => {
      document.body.innerHTML = '<img src=x onerror=attacked=1>';
      return new Promise((told) => addEventListener('error', () => setTimeout(() => told(window.attacked)), true));
    });
    assert.equal(done, 1);
  });

  test('with names and groups that are none is text where that is told', async () => {
    const page = await openMalice();
    writeProject('malice', brokenFile);
    await page.reload();
    await page.locator('.problems').waitFor();
    assert.match(await page.locator('.problems').innerText(), /attacked/);
    await assertUnharmed(page);
  });

  test('shows what a command really is before it runs', async () => {
    const page = await openMalice();
    await press(page, 'turned');
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    const text = await dialog.innerText();
    assert.ok(text.includes('echo \\u{202e}/ fr- mr\\u{202c} # \\u{2066}ok\\u{2069}\\u{200b}'), text);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await assertUnharmed(page);
  });

  test('has commands in the title and in the list as text of a bounded length', async () => {
    const page = await openDemo(kas);
    for (const command of [`: '</title>${MARKUP[1]}'`, `: ${TURNED}`, `: ${'x'.repeat(3000)}`]) {
      await page.goto(`${kas.origin}/projects/demo`);
      await runAdHoc(page, command);
      await endsWith(page, 'exit 0', 'done');
      assert.match(await page.title(), /^: .* · demo · kas$/);
      await assertUnharmed(page, page.url());
    }
    await page.goto(`${kas.origin}/projects/demo`);
    await page.locator('.recent').getByText('</title>').first().waitFor();
    await assertUnharmed(page);
  });
});

const ESC = '\x1b';
const BEL = '\x07';
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

const SCHEMES = ['javascript:attacked=1', 'data:text/html,<script>attacked=1</script>', 'file:///etc/passwd', 'vbscript:x', 'blob:x', '//evil.test', 'JaVaScRiPt:attacked=1', ' javascript:attacked=1'];

/** What a program may print, and `done` at its end. */
const OUTPUT = [
  ...MARKUP,
  ...MARKUP.flatMap((markup) => [`${ESC}]0;${markup}${BEL}`, `${ESC}]2;${markup}${ESC}\\`, `${ESC}]1;${markup}${BEL}`]),
  `${ESC}]2;${'t'.repeat(100_000)}${BEL}`, `${ESC}]0;\u202eeltit\u202c${BEL}`, `${ESC}]2;a${ESC}[2Jb\nc${BEL}`, `${ESC}]l;x${BEL}`, `${ESC}kwindow${ESC}\\`,
  `${ESC}]52;c;YXR0YWNrZWQ=${BEL}`, `${ESC}]52;p;YXR0YWNrZWQ=${BEL}`, `${ESC}]52;;YXR0YWNrZWQ=${ESC}\\`, `${ESC}]52;c;?${BEL}`, `${ESC}]52;s0;?${ESC}\\`, `${ESC}]5522;type=read;dGV4dC9wbGFpbg==${ESC}\\`,
  `${ESC}]9;notify${BEL}`, `${ESC}]777;notify;title;body${BEL}`, `${ESC}]99;i=1:d=0;notify${ESC}\\`, BEL.repeat(50),
  `${ESC}Pq"1;1;50;50#0;2;100;0;0#0!50~-${ESC}\\`, `${ESC}]1337;File=inline=1:${PIXEL}${BEL}`, `${ESC}]1337;File=name=eA==;size=70:${PIXEL}${BEL}`, `${ESC}_Ga=T,f=100;${PIXEL}${ESC}\\`,
  `${ESC}]1337;OpenURL=:aHR0cDovL2V2aWwudGVzdA==${BEL}`, `${ESC}]1337;StealFocus${BEL}`, `${ESC}]1337;CopyToClipboard=${BEL}attacked${ESC}]1337;EndCopy${BEL}`, `${ESC}]7;file://evil.test/x${BEL}`,
  `${ESC}]50;font${BEL}`, `${ESC}[8;5;5t`, `${ESC}[2t`, `${ESC}[3;0;0t`, `${ESC}]11;url(http://evil.test)${BEL}`, TURNED,
].join('\r\n');

for (const backend of ['tmux', 'pty']) {
  test(`a malicious program can only be shown (${backend})`, async () => {
    const own = new Kas(`[task_runner]\nbackend = "${backend}"\n`);
    await own.start();
    try {
      await own.must('daemon', 'add', own.project);
      const page = await openDemo(own, { permissions: ['clipboard-read', 'clipboard-write', 'notifications'] });
      await page.evaluate(() => {
        window.notified = 0;
        window.Notification = class { constructor() { window.notified += 1; } };
        new Notification('counted');
        return navigator.clipboard.writeText('mine');
      });
      writeFileSync(join(own.dir, 'output'), OUTPUT);
      await runAdHoc(page, 'stty raw -echo; printf "\\033]0;start\\007ready\\r\\n"; head -c 1 >/dev/null; cat ../output; printf "\\033c"; printf "all is printed\\r\\n"; head -c 1 | od -An -tx1; stty sane');
      await shows(page, 'ready');
      await ready(page);
      const [url, title] = [page.url(), await page.title()];
      await type(page, 'g');
      await shows(page, 'all is printed');
      assert.equal(await page.title(), title, 'the title is the page’s own');
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'mine');
      assert.equal(await page.evaluate(() => window.notified), 1);
      await assertUnharmed(page, url);
      await type(page, 'z');
      await shows(page, /^ *(7a|1b|5d) *$/m);
      // On a PTY the terminal answers which version it has and such; of the clipboard it tells nothing.
      const { stdout } = await own.run('logs', '--raw', url.split('/').pop());
      assert.ok(!stdout.includes('bWluZQ'), 'the clipboard was not told');
      await assertUnharmed(page, url);
    } finally {
      await own.remove();
    }
  });
}

test('links that are no web addresses lead nowhere, and others only after a yes', async () => {
  const page = await openDemo(kas);
  const links = [...SCHEMES, 'https://kas.invalid/fair'].map((url) => `${ESC}]8;;${url}${ESC}\\press this${ESC}]8;;${ESC}\\`);
  writeFileSync(join(kas.dir, 'links'), links.join('\n'));
  await runAdHoc(page, 'cat ../links; echo');
  await endsWith(page, 'exit 0', 'done');
  const url = page.url();
  const dialog = page.getByRole('dialog');
  const rows = page.locator('.xterm-rows > div');
  for (const at of links.keys()) {
    const box = await rows.nth(at).boundingBox();
    const [x, y] = [box.x + 24, box.y + box.height / 2];
    await page.mouse.move(x - 4, y);
    await page.mouse.move(x, y);
    await page.mouse.click(x, y);
    if (at < SCHEMES.length) assert.equal(await dialog.count(), 0, SCHEMES[at]);
  }
  await dialog.getByText('https://kas.invalid/fair').waitFor();
  await assertUnharmed(page, url);
});
