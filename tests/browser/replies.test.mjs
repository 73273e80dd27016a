// A terminal on the page is asked questions: the program gets one answer, and never one to what is shown again.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BACKENDS, endsWith, newTab, openDemo, ready, runAdHoc, shows, type, useBrowser, useDemo } from './harness.mjs';

useBrowser();

/** Waits for a page that looks (what was written before is replay, and stays unanswered), asks, tells each byte it is sent as hex, and ends at a `q`. */
const ASKER = `echo press enter
read go
stty raw -echo
printf '\\033[c\\033[6n\\033[?2004$p\\033]11;?\\007asked\\r\\n'
while IFS= read -r -n1 -d '' byte; do [ "$byte" = q ] && break; printf '%s.' "$(printf %s "$byte" | od -An -tx1 | tr -d ' ')"; done
stty sane; echo; echo over`;

/** ESC [ ? … c: the device's attributes. */
const ATTRIBUTES = /1b\.5b\.3f\.[^]*63\./;

for (const backend of BACKENDS) {
  describe(`on ${backend}`, () => {
    const kas = useDemo(backend);

    test('one answer, however many pages look, and none to a replay', async () => {
      const { writeFileSync } = await import('node:fs');
      writeFileSync(`${kas.project}/asker.sh`, ASKER);
      const page = await openDemo(kas);
      await runAdHoc(page, 'bash asker.sh');
      await shows(page, 'press enter');
      await ready(page);
      await type(page, '\n');
      await shows(page, ATTRIBUTES);
      const tabs = [];
      for (let tab = 0; tab < 4; tab += 1) {
        const next = await newTab(page);
        await next.goto(page.url());
        await ready(next);
        await shows(next, 'asked');
        tabs.push(next);
      }
      await page.reload();
      await ready(page);
      await page.locator('.xterm-helper-textarea').focus();
      await type(page, 'zq');
      await shows(page, 'over');
      await endsWith(page, 'exit 0', 'done');
      const { stdout } = await kas.run('logs', '--raw', page.url().split('/').pop());
      const answers = stdout.split('asked')[1].match(/1b\.5b\.3f\.[0-9a-f.]*?63\./g) ?? [];
      assert.equal(answers.length, 1, `device attributes were answered once: ${stdout}`);
      assert.match(stdout, /7a\.\s/, 'the z is the last byte: nothing came with the replay');
    });
  });
}
