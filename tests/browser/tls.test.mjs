// The page as another machine gets it: by https, under a name of the operator's.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import {
  closeBrowser, closePages, endsWith, execute, Kas, newPage, newTab, openBrowser, openDemo, OWN_HOST, ready, runAdHoc, shows, type,
} from './harness.mjs';

const kas = new Kas();

before(async () => {
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => join(kas.dir, name));
  const words = ['req', '-x509', '-nodes', '-days', '2', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-subj', `/CN=${OWN_HOST}`];
  const made = await execute('openssl', [...words, '-addext', `subjectAltName=DNS:${OWN_HOST}`, '-keyout', key, '-out', cert], { env: kas.env });
  assert.equal(made.code, 0, made.stderr);
  kas.configure(`[http]\ntls_cert = "${cert}"\ntls_key = "${key}"\nnames = ["${OWN_HOST}"]\n`);
  await kas.start();
  await kas.must('daemon', 'add', kas.project);
  await openBrowser();
});
after(async () => {
  await closeBrowser();
  await kas.remove();
});
afterEach(closePages);

/** The certificate is nobody's but ours. */
const TRUSTING = { ignoreHTTPSErrors: true };

test('a terminal over https shows and takes, by a socket of the same origin', async () => {
  assert.equal(kas.origin, `https://${OWN_HOST}:${kas.address.split(':')[1]}`);
  const page = await newPage(TRUSTING);
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(new URL(socket.url())));
  await page.goto(await kas.ticketUrl());
  await page.getByRole('link', { name: /demo/ }).first().click();
  await runAdHoc(page, 'echo ask; read x; echo got-$x');
  await shows(page, 'ask');
  await ready(page);
  await page.locator('.xterm-helper-textarea').focus();
  await type(page, 'this\n');
  await shows(page, 'got-this');
  await endsWith(page, 'exit 0', 'done');
  assert.ok(sockets.length > 0 && sockets.every(({ protocol, host }) => `${protocol}//${host}` === kas.origin.replace('https', 'wss')), `${sockets}`);
  const cookies = await page.context().cookies();
  assert.ok(cookies.length > 0 && cookies.every(({ secure, httpOnly, sameSite }) => secure && httpOnly && sameSite === 'Strict'));
});

test('the session goes to no page without TLS, and such a page is not served', async () => {
  const page = await openDemo(kas, TRUSTING);
  const plain = await newTab(page);
  const response = await plain.goto(kas.origin.replace('https', 'http'));
  assert.equal(response.status(), 400);
  assert.equal((await response.request().allHeaders()).cookie, undefined);
  assert.match(await response.text(), /https:\/\//);
});

test('a browser that does not know the certificate shows nothing', async () => {
  const page = await newPage();
  await assert.rejects(page.goto(kas.origin), /ERR_CERT_AUTHORITY_INVALID/);
});
