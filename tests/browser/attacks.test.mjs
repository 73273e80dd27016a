// Pages of other origins against a signed-in operator's daemon. Each attack is also made on a server without a guard, where it
// must succeed: else it would prove nothing here.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { Elsewhere, raw } from './elsewhere.mjs';
import { closeBrowser, closePages, FOREIGN_HOST, Kas, newTab, openBrowser, openDemo, takeBroken } from './harness.mjs';

const kas = new Kas('[task_runner]\nbackend = "pty"\n');
const elsewhere = new Elsewhere();
/** The same paths without a guard. */
const unguarded = new Elsewhere();

before(async () => {
  await Promise.all([kas.start(), elsewhere.start(), unguarded.start(), openBrowser()]);
  await kas.must('daemon', 'add', kas.project);
});
after(async () => {
  elsewhere.stop();
  unguarded.stop();
  await closeBrowser();
  await kas.remove();
});
afterEach(closePages);

/** Everything that was ever done: runs, and what the audit tells. A refusal is no doing. */
async function doings() {
  const runs = await kas.api('/projects/demo/tasks/instances?limit=500');
  const audit = await kas.api('/audit-events?limit=500');
  return [...runs.items.map(({ id }) => id), ...audit.items.filter(({ event }) => /^(task|project)\./.test(event)).map(({ id }) => id)].length;
}

/** A frame of an attacker's page in the operator's browser, for each kind of origin there is. */
const ORIGINS = {
  'another site': (tab) => tab.goto(`http://${FOREIGN_HOST}:${elsewhere.port}/`),
  'another port': (tab) => tab.goto(`${elsewhere.origin}/`),
  'another port of another name': (tab) => tab.goto(`http://localhost:${elsewhere.port}/`),
  'a file': (tab) => {
    writeFileSync(`${kas.dir}/page.html`, '<!doctype html><p>A file that was saved.');
    return tab.goto(`file://${kas.dir}/page.html`);
  },
  'an address that is data': (tab) => tab.goto('data:text/html,<!doctype html><p>data'),
  'a sandboxed frame': async (tab) => {
    await tab.goto(`${elsewhere.origin}/`);
    await tab.setContent('<iframe sandbox="allow-scripts allow-forms" srcdoc="<p>no origin"></iframe>');
    await tab.frameLocator('iframe').getByText('no origin').waitFor();
  },
  'an empty page of another site': async (tab) => {
    await tab.goto(`http://${FOREIGN_HOST}:${elsewhere.port}/`);
    await tab.setContent('<iframe src="about:blank"></iframe>');
  },
};

async function attackerIn(operator, origin) {
  const tab = await newTab(operator);
  await ORIGINS[origin](tab);
  return tab.frames().at(-1);
}

/** What the daemon answered this page's requests with, once its own list of them is complete. */
function answersTo(page, origin) {
  const answers = [];
  page.on('response', (response) => {
    const { origin: asked, pathname } = new URL(response.url());
    if (asked === origin) answers.push({ path: pathname, status: response.status() });
  });
  return answers;
}

const RUN = '/api/v1/projects/demo/tasks/run';
const BODY = '{"command":"touch attacked"}';

/** Ways to make a browser send a change from a page. They run in the page. */
const WRITES = {
  'a fetch as text': ([url, body]) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include', body }).then(() => 'sent', String),
  'a fetch as JSON without CORS': ([url, body]) =>
    fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include', body: new Blob([body], { type: 'application/json' }) }).then(() => 'sent', String),
  'a fetch as JSON that asks first': ([url, body]) =>
    fetch(url, { method: 'POST', credentials: 'include', headers: { 'Content-Type': 'application/json', 'X-Kas-Key': 'guess' }, body }).then(() => 'sent', String),
  'a fetch without a body': ([url]) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include' }).then(() => 'sent', String),
  'a beacon as text': ([url, body]) => String(navigator.sendBeacon(url, body)),
  'a beacon as JSON': ([url, body]) => String(navigator.sendBeacon(url, new Blob([body], { type: 'application/json' }))),
  ...Object.fromEntries(
    ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'].map((type) => [
      `a form as ${type}`,
      ([url, body, enctype]) =>
        new Promise((done) => {
          const frame = document.createElement('iframe');
          frame.name = `to${Math.random()}`;
          const form = Object.assign(document.createElement('form'), { method: 'post', action: url, enctype, target: frame.name });
          // A form as text sends `name=value`: the `=` goes into a string of the JSON.
          form.append(Object.assign(document.createElement('input'), { name: body.slice(0, -1), value: '"}' }));
          document.body.append(frame, form);
          frame.onload = () => frame.contentWindow && done('sent');
          form.submit();
          setTimeout(() => done('sent'), 1500);
        }),
    ]),
  ),
};

async function write(frame, name, target) {
  return frame.evaluate(WRITES[name], [`${target}${RUN}`, BODY, name.replace('a form as ', '')]);
}

describe('a page of another origin starts nothing', () => {
  for (const origin of Object.keys(ORIGINS)) {
    test(origin, async () => {
      const operator = await openDemo(kas);
      const frame = await attackerIn(operator, origin);
      const answers = answersTo(frame.page(), kas.origin);
      const [done, from] = [await doings(), unguarded.seen.length];
      for (const name of Object.keys(WRITES)) {
        const before = unguarded.effects(from);
        await write(frame, name, unguarded.origin);
        await until(() => unguarded.effects(from) > before, `${name} reaches a server without a guard`);
        await write(frame, name, kas.origin);
      }
      assert.equal(await doings(), done);
      // Of the others the browser tells nothing, for the daemon forbids it to.
      assert.ok(answers.length >= 3, `the daemon answered: ${JSON.stringify(answers)}`);
      for (const { path, status } of answers) assert.deepEqual([path, status], [RUN, 403]);
    });
  }

  test('but the page of kas does, with its key', async () => {
    const operator = await openDemo(kas);
    const done = await doings();
    const status = await operator.evaluate(
      ([url, body]) => fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Kas-Key': sessionStorage.getItem('kas.key') }, body }).then((it) => it.status),
      [RUN, '{"command":"true"}'],
    );
    assert.equal(status, 202);
    assert.ok((await doings()) > done);
    const keyless = await operator.evaluate(
      ([url, body]) => fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).then((it) => it.status),
      [RUN, '{"command":"true"}'],
    );
    assert.equal(keyless, 401, 'the cookie alone does not');
  });

  test('also by submitting a form at the top', async () => {
    const operator = await openDemo(kas);
    const done = await doings();
    for (const target of [unguarded.origin, kas.origin]) {
      const frame = await attackerIn(operator, 'another port');
      const answered = frame.page().waitForResponse((response) => new URL(response.url()).pathname === RUN);
      await frame.evaluate(([url, body]) => {
        const form = Object.assign(document.createElement('form'), { method: 'post', action: url, enctype: 'text/plain' });
        form.append(Object.assign(document.createElement('input'), { name: body }));
        document.body.append(form);
        form.submit();
      }, [`${target}${RUN}`, BODY]);
      assert.equal((await answered).status(), target === kas.origin ? 403 : 200);
    }
    assert.equal(await doings(), done);
  });
});

async function until(met, what) {
  const deadline = performance.now() + 10_000;
  while (!met()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((done) => setImmediate(done));
  }
}

/** Opens a WebSocket in a page and says how that went. */
const dial = ([url, protocols]) =>
  new Promise((done) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
  });

const socketUrl = (origin) => `${origin.replace('http', 'ws')}/api/v1/projects/demo/tasks/socket`;

const ticketOf = (operator) =>
  operator.evaluate(() =>
    fetch('/api/v1/session/ticket', {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Kas-Key': sessionStorage.getItem('kas.key') }, body: '{}',
    }).then((it) => it.json()).then(({ ticket }) => ticket));

describe('a page of another origin opens no WebSocket, not even with a ticket', () => {
  for (const origin of Object.keys(ORIGINS)) {
    test(origin, async () => {
      const operator = await openDemo(kas);
      const frame = await attackerIn(operator, origin);
      const reasons = [];
      frame.page().on('websocket', (socket) => socket.on('socketerror', (error) => reasons.push(error)));
      const ticket = await ticketOf(operator);
      for (const protocols of [[], ['kas.v1'], ['kas.v1', `kas.ticket.${ticket}`]]) {
        assert.equal(await frame.evaluate(dial, [socketUrl(unguarded.origin), protocols]), 'open');
        assert.equal(await frame.evaluate(dial, [socketUrl(kas.origin), protocols]), 'refused');
      }
      assert.equal(reasons.length, 3);
      for (const reason of reasons) assert.match(reason, /403/);
      assert.equal(await operator.evaluate(dial, [socketUrl(kas.origin), ['kas.v1', `kas.ticket.${ticket}`]]), 'open', 'the page of kas does');
      assert.equal(await operator.evaluate(dial, [socketUrl(kas.origin), ['kas.v1', `kas.ticket.${ticket}`]]), 'refused', 'once');
    });
  }
});

describe('a page of another origin learns nothing', () => {
  const PATHS = ['/api/v1/projects', '/api/v1/projects/demo/tasks', '/api/v1/audit-events', '/openapi.json', '/metrics', '/', '/icon.svg'];
  const read = ([url, mode]) =>
    fetch(url, { mode, credentials: 'include' }).then(async (it) => `${it.type} ${it.status} ${(await it.text()).length}`, () => 'unreadable');

  for (const origin of Object.keys(ORIGINS)) {
    test(origin, async () => {
      const operator = await openDemo(kas);
      const frame = await attackerIn(operator, origin);
      for (const path of PATHS) {
        assert.match(await frame.evaluate(read, [`${unguarded.origin}${path}`, 'cors']), /^(cors|basic) 200 [1-9]/);
        assert.equal(await frame.evaluate(read, [`${kas.origin}${path}`, 'cors']), 'unreadable');
        const opaque = await frame.evaluate(read, [`${kas.origin}${path}`, 'no-cors']);
        assert.ok(['opaque 0 0', 'unreadable'].includes(opaque), `${path}: ${opaque}`);
      }
    });
  }

  /** Puts an element into a page and says whether the browser took what it names. */
  const include = ([tag, attribute, url]) =>
    new Promise((done) => {
      const element = document.createElement(tag);
      if (tag === 'link') element.rel = 'stylesheet';
      element.onload = () => done('taken');
      element.onerror = () => done('refused');
      element[attribute] = url;
      document.body.append(element);
    });
  const asset = async (ending) => (await (await fetch(`${kas.origin}/`)).text()).match(new RegExp(`/assets/[^"]+\\.${ending}`))[0];

  for (const origin of ['another site', 'another port']) {
    test(`by including scripts, styles and pictures from ${origin}`, async () => {
      const operator = await openDemo(kas);
      const frame = await attackerIn(operator, origin);
      const parts = [
        ['script', 'src', '/api/v1/projects'], ['script', 'src', await asset('js')], ['link', 'href', await asset('css')],
        ['link', 'href', '/api/v1/projects'], ['img', 'src', '/icon.svg'],
      ];
      for (const [tag, attribute, path] of parts) {
        const fair = tag === 'script' ? '/api/v1/projects' : tag === 'link' ? '/style.css' : path;
        assert.equal(await frame.evaluate(include, [tag, attribute, `${unguarded.origin}${fair}`]), 'taken');
        assert.equal(await frame.evaluate(include, [tag, attribute, `${kas.origin}${path}`]), 'refused', path);
      }
    });

    test(`by framing, from ${origin}`, async () => {
      const operator = await openDemo(kas);
      const framed = { iframe: 'src', object: 'data', embed: 'src' };
      for (const [tag, attribute] of Object.entries(framed)) {
        for (const target of [unguarded, kas]) {
          const frame = await attackerIn(operator, origin);
          const asked = frame.page().waitForResponse((response) => response.url().startsWith(target.origin));
          await frame.evaluate(([name, property, url]) => {
            const element = document.createElement(name);
            if (name !== 'iframe') element.type = 'text/html';
            element[property] = url;
            document.body.append(element);
          }, [tag, attribute, `${target.origin}/projects/demo`]);
          await asked;
          if (target === unguarded) await until(() => frame.page().frames().some((it) => it.url().startsWith(target.origin)), `${tag} frames`);
          await frame.evaluate(() => new Promise((done) => setTimeout(done, 300)));
          const shown = await Promise.all(frame.page().frames().slice(1).map((it) => it.evaluate(() => document.body?.innerText ?? '').catch(() => '')));
          if (target === unguarded) assert.ok(shown.some((text) => text.includes('someone else')), tag);
          else assert.ok(shown.every((text) => !text.includes('kas open') && !text.includes('Tasks')), `${tag}: ${shown}`);
        }
      }
    });

    test(`by opening the page in a window, from ${origin}`, async () => {
      const operator = await openDemo(kas);
      const frame = await attackerIn(operator, origin);
      const open = (url) => frame.evaluate((to) => {
        window.opened = window.open(to);
      }, url);
      const [fair] = await Promise.all([operator.context().waitForEvent('page'), open(`${unguarded.origin}/`)]);
      await fair.waitForLoadState();
      assert.equal(await frame.evaluate(() => window.opened.closed), false, 'a page that allows it stays in reach');
      assert.equal(await fair.evaluate(() => window.opener !== null), true);
      const [ours] = await Promise.all([operator.context().waitForEvent('page'), open(`${kas.origin}/`)]);
      await ours.getByRole('link', { name: /demo/ }).waitFor();
      assert.equal(await frame.evaluate(() => window.opened.closed), true, 'the page of kas does not');
      assert.equal(await ours.evaluate(() => window.opener), null);
    });
  }
});

describe('a name of the attacker that leads here', () => {
  test('is not answered, though the browser takes it for one origin', async () => {
    const operator = await openDemo(kas);
    const tab = await newTab(operator);
    const rebound = `http://${FOREIGN_HOST}:${new URL(kas.origin).port}`;
    // What the attacker's own server gave before the name was pointed here.
    await tab.route(`${rebound}/lure`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><p>lure' }));
    await tab.goto(`${rebound}/lure`);
    const ask = ([path, method, key]) =>
      fetch(path, { method, headers: { 'Content-Type': 'application/json', 'X-Kas-Key': key }, ...(method === 'GET' ? {} : { body: '{"command":"true"}' }) })
        .then(async (it) => [it.status, (await it.json()).error?.code]);
    const [done, key] = [await doings(), await operator.evaluate(() => sessionStorage.getItem('kas.key'))];
    for (const [path, method] of [['/api/v1/projects', 'GET'], ['/healthz', 'GET'], ['/', 'GET'], [RUN, 'POST'], ['/api/v1/session', 'POST']]) {
      assert.deepEqual(await tab.evaluate(ask, [path, method, key]), [421, 'misdirected'], path);
    }
    const ticket = await ticketOf(operator);
    assert.equal(await tab.evaluate(dial, [socketUrl(rebound), ['kas.v1', `kas.ticket.${ticket}`]]), 'refused');
    assert.equal(await doings(), done);
    assert.equal((await operator.evaluate(ask, ['/api/v1/projects', 'GET', key]))[0], 200, 'the page of kas is answered');
  });
});

describe('another server on this host', () => {
  const cookieName = () => `kas_${new URL(kas.origin).port}`;

  test('gets the cookie from the browser, and nothing by it', async () => {
    const operator = await openDemo(kas);
    await attackerIn(operator, 'another port');
    const cookie = elsewhere.seen.at(-1).headers.cookie ?? elsewhere.seen.findLast(({ headers }) => headers.cookie)?.headers.cookie;
    assert.match(cookie ?? '', new RegExp(`${cookieName()}=`), 'cookies do not know ports');
    const key = await operator.evaluate(() => sessionStorage.getItem('kas.key'));
    const browserly = { Host: new URL(kas.origin).host, Cookie: cookie, Origin: kas.origin, 'Sec-Fetch-Site': 'same-origin', 'Content-Type': 'application/json' };
    const upgrade = { ...browserly, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' };
    const done = await doings();
    assert.equal(await raw(`${kas.origin}/api/v1/projects`, { headers: browserly }), 401);
    assert.equal(await raw(`${kas.origin}${RUN}`, { method: 'POST', headers: browserly, body: BODY }), 401);
    assert.equal(await raw(`${kas.origin}/api/v1/session/ticket`, { method: 'POST', headers: browserly, body: '{}' }), 401);
    const socket = socketUrl(kas.origin).replace('ws', 'http');
    assert.equal(await raw(socket, { headers: { ...upgrade, 'Sec-WebSocket-Protocol': 'kas.v1' } }), 401);
    assert.equal(await raw(socket, { headers: { ...upgrade, 'X-Kas-Key': key, 'Sec-WebSocket-Protocol': 'kas.v1, kas.ticket.guess' } }), 401);
    assert.equal(await doings(), done);
    assert.equal(await raw(`${kas.origin}/api/v1/projects`, { headers: { ...browserly, 'X-Kas-Key': key } }), 200, 'with the key it is a session');
    const ticket = await ticketOf(operator);
    assert.equal(await raw(socket, { headers: { ...upgrade, 'Sec-WebSocket-Protocol': `kas.v1, kas.ticket.${ticket}` } }), 101);
  });

  test('that sets cookies of the same name locks nobody out, and lets nobody in', async () => {
    const operator = await openDemo(kas);
    elsewhere.headers = { 'Set-Cookie': ['/api', '/api/v1', '/projects'].map((path) => `${cookieName()}=tossed; Path=${path}`) };
    await attackerIn(operator, 'another port');
    elsewhere.headers = {};
    const tossed = (await operator.context().cookies(`${kas.origin}/api/v1`)).filter(({ name }) => name === cookieName());
    assert.equal(tossed.length, 3, 'the browser keeps them beside ours');
    await operator.reload();
    await operator.getByRole('heading', { name: 'Tasks' }).waitFor();
    await operator.locator('[data-link="open"]').waitFor();

    const stranger = await newTab(operator);
    await operator.context().clearCookies();
    await operator.context().addCookies([{ name: cookieName(), value: 'tossed', url: kas.origin }]);
    await stranger.goto(kas.origin);
    await stranger.getByText('kas open').first().waitFor();
  });
});

describe('the page itself', () => {
  test('turns text into markup nowhere, and a broken policy fails a test', async () => {
    const operator = await openDemo(kas);
    const refused = await operator.evaluate(() => {
      try {
        document.querySelector('main').innerHTML = '<img src=x onerror=alert(1)>';
        return 'taken';
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refused, 'TypeError');
    await operator.evaluate(() => {
      const script = document.createElement('script');
      script.append('window.ran = true');
      document.body.append(script);
      const style = document.createElementNS('http://www.w3.org/1999/xhtml', 'style');
      style.append('body { color: red }');
      document.body.append(style);
      return fetch('http://127.0.0.1:1/').catch(() => {});
    }).catch(() => {});
    assert.equal(await operator.evaluate(() => window.ran), undefined);
    const said = takeBroken().join('\n');
    for (const directive of ['require-trusted-types-for', 'style-src-elem', 'connect-src']) assert.match(said, new RegExp(`CSP ${directive}`));
  });

  test('says on every path how it may be used', async () => {
    const expected = {
      'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
    };
    for (const path of ['/', '/projects/demo', '/icon.svg', '/healthz', '/api/v1/projects', '/nothing', '/api/nothing', '/assets/nothing.js']) {
      const { headers } = await fetch(`${kas.origin}${path}`);
      for (const [name, value] of Object.entries(expected)) assert.equal(headers.get(name), value, `${name} of ${path}`);
      const policy = headers.get('content-security-policy');
      for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"]) {
        assert.ok(policy.includes(part), `${part} of ${path}`);
      }
      assert.ok(!policy.includes('unsafe'), path);
      assert.equal(headers.get('access-control-allow-origin'), null, path);
    }
  });
});
