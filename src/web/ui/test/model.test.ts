// The words and orders of the views.
import { describe, expect, test } from 'vitest';
import { entryIn } from '../src/api/session';
import type { Instance, RunState, Task } from '../src/api/types';
import { adHocRuns, ago, announcements, duration, elapsed, exitBadge, groupsOf, labelOf, plain, since, stateWord, tabOrder, toneOf } from '../src/model';
import { parseRoute, taskPath } from '../src/route';
import { parseMessage } from '../src/stream/message';
import { isCopyKey, isLeaveKey } from '../src/terminal/keys';
import { parseSize, usableSize } from '../src/terminal/size';

const run = (id: string, state: RunState, launched_at: number, rest: Partial<Instance> = {}): Instance => ({
  id, project_id: 'p', task_name: 'test', command: 'make', cwd: '/p', state, backend: 'tmux', tmux_session: null, tmux_window: null, pid: null,
  exit_code: null, signal: null, error: null, error_text: null, launched_at, exited_at: null, stopped_at: null, duration_ms: null, launched_by: 'op', output_bytes: 0,
  restarted_from: null, ...rest,
});
const task = (name: string, group: string | null): Task => ({
  name, command: name, description: '', group, cwd: null, long_running: false, confirm: false, history: true, history_count: 3, latest: null,
});
const ids = (runs: Instance[]): string => runs.map((it) => it.id).join('');

describe('tabs', () => {
  test('show active runs first, oldest first, then ended ones, newest first', () => {
    const runs = [run('a', 'done', 1), run('e', 'running', 5), run('d', 'failed', 4), run('c', 'starting', 3), run('b', 'stopped', 2)];
    expect(ids(tabOrder(runs))).toBe('cedba');
  });

  test('go by launch order, which is the order of ids, whatever the clock said', () => {
    expect(ids(tabOrder([run('b', 'done', 1), run('a', 'done', 9), run('d', 'running', 2), run('c', 'running', 8)]))).toBe('cdba');
  });
});

describe('the badge', () => {
  test.each<[Partial<Instance>, string | null, string?]>([
    [{ state: 'running' }, null],
    [{ state: 'starting' }, null],
    [{ state: 'done', exit_code: 0 }, 'exit 0', 'done'],
    [{ state: 'failed', exit_code: 3 }, 'exit 3', 'failed'],
    [{ state: 'failed', exit_code: 127 }, 'exit 127: command not found', 'failed'],
    [{ state: 'failed', exit_code: 126 }, 'exit 126: permission denied', 'failed'],
    [{ state: 'failed', exit_code: 137, signal: 'SIGKILL' }, 'SIGKILL (137)', 'failed'],
    [{ state: 'failed', error: 'tmux_crash' }, 'tmux went away', 'failed'],
    [{ state: 'failed', error: 'something_new' }, 'something_new', 'failed'],
    [{ state: 'stopped', signal: 'SIGTERM' }, 'stopped', 'stopped'],
    [{ state: 'stopped', exit_code: 0 }, 'stopped', 'stopped'],
    [{ state: 'stopped', exit_code: 143 }, 'stopped', 'stopped'],
    [{ state: 'stopped', exit_code: 3 }, 'stopped: exit 3', 'stopped'],
  ])('of %o', (fields, text, tone) => {
    expect(exitBadge(run('a', 'running', 1, fields))).toEqual(text === null ? null : { text, tone });
  });
});

describe('words', () => {
  test('of a task that never ran', () => {
    expect([stateWord(null), toneOf(null)]).toEqual(['idle', 'idle']);
  });

  test('for what changed are said once, and only when a run ends', () => {
    const before = new Map<string, RunState>([['a', 'running'], ['b', 'starting'], ['c', 'done']]);
    const after = [run('a', 'failed', 1, { exit_code: 2 }), run('b', 'running', 2), run('c', 'done', 3), run('d', 'done', 4)];
    expect(announcements(before, after)).toEqual(['test: exit 2']);
    const lost = [run('a', 'failed', 1, { error: 'spawn_failed', error_text: 'Argument list too long' })];
    expect(announcements(before, lost)).toEqual(['test: could not be started: Argument list too long']);
  });

  test('for times', () => {
    expect([0, 4_000, 59_000, 60_000, 3_599_000, 7_200_000, 200_000_000].map((ms) => ago(0, ms))).toEqual(['now', 'now', '59s ago', '1m ago', '59m ago', '2h ago', '2d ago']);
    expect(ago(5000, 0)).toBe('now');
    expect([0, 59_999, 61_000].map(elapsed)).toEqual(['0 s', '59 s', '1 min 1 s']);
    expect(since(run('a', 'running', 1_000), 9_000)).toBe('8 s');
    expect(since(run('a', 'done', 1_000, { exited_at: 2_000 }), 12_000)).toBe('10s ago');
    expect([12, 1_240, 61_000, 3_700_000].map(duration)).toEqual(['12 ms', '1.2 s', '1 min 1 s', '1 h 1 min']);
  });
});

test('groups keep the file’s order, and tasks without one come last', () => {
  const groups = groupsOf([task('x', null), task('lint', 'ci'), task('dev', 'dev'), task('test', 'ci')]);
  expect(groups.map((group) => [group.name, group.tasks.map((it) => it.name)])).toEqual([['ci', ['lint', 'test']], ['dev', ['dev']], ['Other', ['x']]]);
});

test('ad-hoc runs are those without a name, newest first', () => {
  expect(ids(adHocRuns([run('a', 'done', 9, { task_name: null }), run('b', 'done', 2), run('c', 'done', 3, { task_name: null })]))).toBe('ca');
});

describe('addresses', () => {
  test.each([
    ['/', { view: 'projects' }],
    ['/projects/demo', { view: 'project', project: 'demo' }],
    ['/projects/demo/tasks', { view: 'project', project: 'demo' }],
    ['/projects/demo/tasks/01H', { view: 'task', project: 'demo', task: '01H' }],
    ['/projects/demo/panes/7', { view: 'pane', project: 'demo', pane: 7 }],
    ['/projects/demo/panes/x', { view: 'unknown' }],
    ['/projects/%ff/tasks/a%2Fb', { view: 'task', project: '%ff', task: 'a/b' }],
    ['/elsewhere', { view: 'unknown' }],
    ['/projects/demo/tasks/01H/more', { view: 'unknown' }],
  ])('%s', (path, route) => {
    expect(parseRoute(path)).toEqual(route);
  });

  test('of a task lead back to it', () => {
    expect(parseRoute(taskPath('a b', 'c/d'))).toEqual({ view: 'task', project: 'a b', task: 'c/d' });
  });

  test.each([
    ['#t=abc-_1', { ticket: 'abc-_1' }],
    ['#s=kas_abc', { token: 'kas_abc' }],
    ['#t=', null],
    ['#s=', null],
    ['', null],
    ['#x=1', null],
  ])('that lets in by %s', (fragment, entry) => {
    expect(entryIn(fragment)).toEqual(entry);
  });
});

describe('messages', () => {
  test.each([
    ['{"type":"pty.size","channel":"c","cols":1,"rows":2}', true],
    ['{"type":"pty.size","channel":"c","cols":"1","rows":2}', false],
    ['{"type":"subscribed","channel":"events"}', true],
    ['{"type":"error","code":"x","message":"y","channel":null}', true],
    ['{"type":"event","id":1,"event":"task.exited","extra":{}}', true],
    ['{"type":"toString"}', false],
    ['{"type":"unheard.of"}', false],
    ['[]', false],
    ['null', false],
    ['{', false],
  ])('%s is understood: %s', (text, understood) => {
    expect(parseMessage(text) !== null).toBe(understood);
  });
});

test('the page keeps only its own keys', () => {
  const key = (name: string, ...mods: string[]) => ({
    type: 'keydown', key: name, ctrlKey: mods.includes('c'), shiftKey: mods.includes('s'), altKey: mods.includes('a'), metaKey: false,
  });
  expect([key('L', 'c', 's'), key('l', 'c'), key('L', 'c', 's', 'a'), key('Tab')].map(isLeaveKey)).toEqual([true, false, false, false]);
  expect([key('C', 'c', 's'), key('c', 'c'), key('Insert', 'c')].map(isCopyKey)).toEqual([true, false, true]);
});

test('sizes are used only when they are sizes', () => {
  expect(['80x24', '80x', '0x0', '5000x20', 'x', ''].map(parseSize)).toEqual([{ cols: 80, rows: 24 }, null, null, { cols: 1000, rows: 20 }, null, null]);
  expect(usableSize({ cols: NaN, rows: 3 })).toBeNull();
  expect(usableSize(undefined)).toBeNull();
});

test('what cannot be seen in foreign text is made visible', () => {
  expect(plain('rm \u202e/ fr-\u202c\t\x1b[2J\u009b\u200b\n<b>é 漢 🙂')).toBe('rm \\u{202e}/ fr-\\u{202c}\t\\u{1b}[2J\\u{9b}\\u{200b}\n<b>é 漢 🙂');
  expect(labelOf({ task_name: null, command: `${'🙂'.repeat(300)}` })).toBe('🙂'.repeat(256));
});
