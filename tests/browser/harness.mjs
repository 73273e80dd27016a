// A real daemon in a directory of its own, and a real browser that looks at its page.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, afterEach, before, beforeEach } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const KAS = resolve(process.env.KAS_BIN ?? join(ROOT, 'target/debug/kas'));
const DEADLINE_MS = 20_000;

/** What the tests look at by eye; kept after the run, so that a failure can be seen. */
export const SHOTS = process.env.KAS_SHOTS ?? mkdtempSync(join(tmpdir(), 'kas-shots-'));
mkdirSync(SHOTS, { recursive: true });

/** Runs a program to its end; never rejects for its exit code. */
export function execute(program, args, options) {
  return new Promise((done, failed) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => (stdout += data));
    child.stderr.on('data', (data) => (stderr += data));
    child.on('error', failed);
    child.on('close', (code) => done({ code, stdout, stderr }));
  });
}

/** Resolves when what a process says matches; rejects when it ends first, or at the deadline. */
function says(child, pattern, ms = DEADLINE_MS) {
  return new Promise((done, failed) => {
    let said = '';
    const timer = setTimeout(() => failed(new Error(`not said within ${ms} ms: ${pattern}\n${said}`)), ms);
    const hear = (data) => {
      said += data;
      const match = pattern.exec(said);
      if (match === null) return;
      clearTimeout(timer);
      done(match);
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    child.on('close', (code) => {
      clearTimeout(timer);
      failed(new Error(`ended with ${code} before it said ${pattern}\n${said}`));
    });
  });
}

/** The pieces of the environment that a program needs, and nothing that would lead it to the user's own daemon or tmux. */
function privateEnvironment(dir) {
  const folders = { HOME: 'home', XDG_CONFIG_HOME: 'config', XDG_STATE_HOME: 'state', XDG_RUNTIME_DIR: 'run', TMUX_TMPDIR: 'tmux' };
  const env = { PATH: process.env.PATH, LANG: 'C.UTF-8', TERM: 'xterm-256color', SHELL: '/bin/sh', BROWSER: '/bin/true' };
  for (const [name, folder] of Object.entries(folders)) {
    env[name] = join(dir, folder);
    mkdirSync(env[name], { mode: 0o700 });
  }
  return env;
}

export class Kas {
  #daemon = null;

  /** A private tree with the demo project in it; `config` is the text of daemon.toml. */
  constructor(config = '') {
    this.dir = mkdtempSync(join(tmpdir(), 'kas-browser-'));
    this.env = privateEnvironment(this.dir);
    this.project = join(this.dir, 'demo-project');
    cpSync(join(ROOT, 'fixtures/demo-project'), this.project, { recursive: true });
    mkdirSync(join(this.env.XDG_CONFIG_HOME, 'kasmos'));
    this.configure(config);
  }

  configure(config) {
    writeFileSync(join(this.env.XDG_CONFIG_HOME, 'kasmos/daemon.toml'), config);
  }

  /** Starts the daemon: on any port the first time, on the same one after. */
  async start() {
    const address = this.address ?? '127.0.0.1:0';
    this.#daemon = spawn(KAS, ['daemon', 'start', '--foreground', '--http', address], { env: this.env, cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'] });
    const status = await this.#ready(this.#daemon);
    this.address = status.http_addr;
    this.origin = status.http_url;
    sites.add(this.origin);
    this.backend = status.backend;
  }

  /** Waits until the daemon answers; it has nothing to say when it does, so it is asked. */
  async #ready(daemon) {
    const started = performance.now();
    let said = '';
    for (const stream of [daemon.stdout, daemon.stderr]) stream.on('data', (data) => (said += data));
    for (;;) {
      const { code, stdout } = await this.run('daemon', 'status', '--json');
      const status = code === 0 ? statusIn(stdout) : null;
      if (status?.http_addr) return status;
      assert.equal(daemon.exitCode, null, `the daemon ended:\n${said}`);
      assert.ok(performance.now() - started < DEADLINE_MS, `the daemon does not answer:\n${said}`);
    }
  }

  /** Ends the daemon, not its tasks. */
  async stop(signal = 'SIGTERM') {
    const daemon = this.#daemon;
    this.#daemon = null;
    if (daemon === null || daemon.exitCode !== null) return;
    const ended = new Promise((done) => daemon.once('close', done));
    daemon.kill(signal);
    await ended;
  }

  /** Makes the daemon hang, and go on. */
  pause() {
    this.#daemon.kill('SIGSTOP');
  }
  resume() {
    this.#daemon.kill('SIGCONT');
  }

  /** Has the daemon answer again after a test that failed while it hung or was away. */
  async revive() {
    if (this.#daemon === null) await this.start();
    else this.resume();
  }

  /** Ends everything and deletes the tree. */
  async remove() {
    // Its tasks outlive a daemon, so one that is away comes back to end them.
    if (this.address !== undefined) {
      await this.revive();
      await this.run('daemon', 'remove', 'demo');
    }
    await this.stop();
    await execute('tmux', ['kill-server'], { env: this.env });
    rmSync(this.dir, { recursive: true, force: true });
  }

  run(...args) {
    return execute(KAS, args, { env: this.env, cwd: this.project });
  }

  async must(...args) {
    const result = await this.run(...args);
    assert.equal(result.code, 0, `kas ${args.join(' ')}: ${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  /** An address with a fresh ticket. */
  async ticketUrl() {
    const [url] = /https?:\/\/[^\s"]+#t=[\w-]+/.exec(await this.must('open', '--json')) ?? [];
    assert.ok(url, 'kas open prints an address with a ticket');
    return url;
  }

  /** A request as the operator's own program makes it, with the daemon's bootstrap token. */
  async api(path, options = {}) {
    const token = readFileSync(join(this.env.XDG_STATE_HOME, 'kasmos/token'), 'utf8').trim();
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
    const response = await fetch(`${this.origin}/api/v1${path}`, { ...options, headers });
    assert.ok(response.ok, `${path}: ${response.status}`);
    return response.json();
  }

  tmux(...args) {
    return execute('tmux', args, { env: this.env });
  }

  /** A second terminal that shows the project's tmux session, as the operator's would. */
  attach() {
    const env = { ...this.env, COLUMNS: '100', LINES: '30' };
    const child = spawn('script', ['-qefc', 'stty cols 100 rows 30; exec tmux attach -t kaged-demo', '/dev/null'], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    return {
      type: (text) => child.stdin.write(text),
      shows: (pattern) => says(child, pattern),
      close: () => child.kill(),
    };
  }
}

function statusIn(text) {
  try {
    const value = JSON.parse(text);
    return value.http_addr === undefined ? (value.status ?? value.data ?? null) : value;
  } catch {
    return null;
  }
}

let browser = null;

/** A name of this machine that an operator gave it. */
export const OWN_HOST = 'kas.test';

/** A name that leads to this machine, as one under an attacker's control would. No other name leads anywhere. */
export const FOREIGN_HOST = 'evil.test';

export async function openBrowser() {
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-background-networking', '--disable-component-update', '--no-first-run',
      // A page from nowhere in particular must be kept out by the daemon, not by a permission that the operator may give.
      '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets',
      `--host-resolver-rules=MAP ${FOREIGN_HOST} 127.0.0.1, MAP ${OWN_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`,
    ],
  });
}

export async function closeBrowser() {
  await browser?.close();
}

/** Origins of the daemons' pages: what is true of every page of kas is watched on these, and on no attacker's. */
const sites = new Set();
const originOf = (url) => (URL.canParse(url) ? new URL(url).origin : 'null');
const isOurs = (url) => sites.has(originOf(url));

/** What broke the policy, threw, asked or talked to another origin, on any page of kas since the last look. */
const broken = [];

/** What broke since the last look, for a test that breaks something on purpose. */
export const takeBroken = () => broken.splice(0);

/** After each test: closes its pages, and fails when one of them broke. */
export async function closePages() {
  await Promise.all(browser.contexts().map((context) => context.close()));
  assert.deepEqual(takeBroken(), []);
}

/** The tests of the calling file have a browser, whose pages are looked at and closed after each of them. */
export function useBrowser() {
  before(openBrowser);
  after(closeBrowser);
  afterEach(closePages);
}

export const BACKENDS = ['tmux', 'pty'];

/** The tests of the calling suite have a daemon on this backend that knows the demo project. */
export function useDemo(backend) {
  const kas = new Kas(`[task_runner]\nbackend = "${backend}"\n`);
  before(async () => {
    await kas.start();
    assert.equal(kas.backend, backend);
    await kas.must('daemon', 'add', kas.project);
  });
  beforeEach(() => kas.revive());
  after(() => kas.remove());
  return kas;
}

/** What the browser itself logs when the daemon refuses something or is away. */
const EXPECTED_ERRORS = /^Failed to load resource|^WebSocket connection to/;

/** Data in the address and what the page made itself come from nowhere else. */
const isLocal = (url) => /^(data|blob|about):/.test(url);

function watchTalk(page) {
  const talks = (from, to) => {
    if (isOurs(from) && !isLocal(to) && originOf(to).replace(/^ws/, 'http') !== originOf(from)) broken.push(`${from} talked to ${to}`);
  };
  page.on('request', (request) => {
    // A request of a worker or of a page that is not there yet has no frame.
    const from = request.isNavigationRequest() ? page.url() : request.frame().url();
    talks(from, request.url());
  });
  page.on('websocket', (socket) => {
    const { protocol, host } = new URL(socket.url());
    talks(page.url(), `${protocol.replace('ws', 'http')}//${host}`);
  });
}

function watch(page) {
  page.setDefaultTimeout(DEADLINE_MS);
  page.on('pageerror', (error) => isOurs(page.url()) && broken.push(`error: ${error.stack ?? error}`));
  page.on('console', (message) => {
    const text = message.text();
    if (!isOurs(page.url())) return;
    if (text.startsWith('CSP ') || (message.type() === 'error' && !EXPECTED_ERRORS.test(text))) broken.push(text);
  });
  page.on('dialog', (dialog) => {
    broken.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('download', (download) => broken.push(`download: ${download.url()}`));
  watchTalk(page);
}

/** Runs in every document before its own scripts. */
function tellViolations() {
  document.addEventListener('securitypolicyviolation', (event) =>
    console.log('CSP', event.violatedDirective, event.blockedURI, event.sourceFile, event.lineNumber));
}

/** A browser profile of its own with one page, not signed in. */
export async function newPage(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 700 }, colorScheme: 'dark', reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  await context.addInitScript(tellViolations);
  // Every page, also one that a page opens.
  context.on('page', watch);
  return context.newPage();
}

/** Another tab of the same profile. */
export const newTab = (page) => page.context().newPage();

/** Signed in and at the demo project. */
export async function openDemo(kas, options) {
  const page = await newPage(options);
  await page.goto(await kas.ticketUrl());
  await page.getByRole('link', { name: /demo/ }).first().click();
  await page.getByRole('heading', { name: 'Tasks' }).waitFor();
  return page;
}

/** Presses the task's button in the list. */
export const press = (page, task) => page.locator(`.task-row [data-task="${task}"]`).click();

/** Types a command into the ad-hoc line and runs it. */
export async function runAdHoc(page, command, cwd = '') {
  await page.getByRole('textbox', { name: 'Command' }).fill(command);
  if (cwd !== '') await page.getByRole('textbox', { name: /Directory/ }).fill(cwd);
  await page.getByRole('button', { name: 'Run ad-hoc' }).click();
  await page.locator('.terminal-pane').waitFor();
}

/** The rows of the terminal as text. */
export const screen = (page) => page.locator('.xterm-rows').innerText().then((text) => text.replaceAll('\u00a0', ' '));

/** Waits until the terminal shows it. */
export async function shows(page, pattern, ms = DEADLINE_MS) {
  const { source, flags } = pattern instanceof RegExp ? pattern : new RegExp(pattern.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  try {
    await page.waitForFunction(
      ([wanted, how]) => new RegExp(wanted, how).test((document.querySelector('.xterm-rows')?.innerText ?? '').replaceAll('\u00a0', ' ')),
      [source, flags],
      { timeout: ms },
    );
  } catch (error) {
    throw new Error(`the terminal does not show ${pattern}:\n${await screen(page).catch(() => error)}`);
  }
}

/** Waits for the badge that says what the run came to. */
export async function endsWith(page, text, tone) {
  const badge = page.locator('.bar .badge.exit');
  await badge.waitFor();
  assert.equal(await badge.innerText(), text);
  assert.equal(await badge.getAttribute('data-tone'), tone);
}

/** Waits until the terminal takes input. */
export const ready = (page) => page.locator('.terminal-pane[data-state="live"]').waitFor();

export const type = (page, text) => page.keyboard.type(text);

export const shot = (page, name) => page.screenshot({ path: join(SHOTS, `${name}.png`) });
