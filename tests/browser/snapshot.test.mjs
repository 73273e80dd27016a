// A terminal that is given a snapshot shows the same as one that read the whole stream, and goes on the same: `kas debug screen` makes the
// snapshot as the daemon does for a viewer that comes late, and xterm.js, which the page shows terminals with, is the judge of both.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { KAS } from './harness.mjs';
import { generator } from './queries.mjs';
import { STREAMS, randomStream } from './streams.mjs';
import { seen, terminal } from './xterm.mjs';

const [COLS, ROWS] = [40, 12];
/** Random streams in all, and the first seed. */
const RANDOM = process.env.KAS_FAULTS === 'long' ? 20_000 : 300;
const SEED = Number(process.env.KAS_SEED ?? 1);

/** What a viewer is sent that comes after `bytes`. */
function snapshot(bytes, ...args) {
  return new Promise((done, failed) => {
    const kas = spawn(KAS, ['debug', 'screen', '-', `--cols=${COLS}`, `--rows=${ROWS}`, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    const out = [];
    kas.stdout.on('data', (data) => out.push(data));
    kas.on('error', failed);
    kas.on('close', (code) => (code === 0 ? done(Buffer.concat(out)) : failed(new Error(`kas debug screen: exit ${code}`))));
    kas.stdin.end(bytes);
  });
}

/** Shows `bytes` directly and through a snapshot, then `after` in both. */
async function check(bytes, after = '\t\x1b8R\tT\r\n\x1b[2;2H#\x1b[3b') {
  const [whole, dump, more] = [Buffer.from(bytes), await snapshot(bytes), Buffer.from(after)];
  const [direct, copy] = [await terminal(COLS, ROWS, whole), await terminal(COLS, ROWS, dump)];
  const what = JSON.stringify(whole.toString('latin1'));
  assert.deepEqual(seen(copy), seen(direct), `after ${what}\n${JSON.stringify(dump.toString())}`);
  for (const it of [direct, copy]) await new Promise((done) => it.term.write(more, done));
  assert.deepEqual(seen(copy), seen(direct), `then, after ${what}\n${JSON.stringify(dump.toString())}`);
}

for (const [name, streams] of Object.entries(STREAMS)) {
  test(name, async () => {
    for (const stream of streams) await check(stream);
  });
}

test('other sizes in between', async () => {
  const text = 'a line that is longer than forty columns and goes on in the next 漢字漢字漢字 \r\nshort\r\n'.repeat(12);
  for (const [cols, rows] of [[20, 12], [60, 12], [40, 6], [40, 20], [33, 9], [7, 5]]) {
    const bytes = Buffer.from(text);
    const dump = await snapshot(bytes, `--resize=${bytes.length}:${cols}x${rows}`);
    const direct = await terminal(COLS, ROWS, bytes, { cols, rows });
    const copy = await terminal(cols, rows, dump);
    assert.deepEqual(seen(copy), seen(direct), `${cols}x${rows}`);
  }
});

test(`${RANDOM} random streams from seed ${SEED}`, async () => {
  for (let seed = SEED; seed < SEED + RANDOM; seed += 1) {
    const next = generator(seed);
    await check(randomStream(next), randomStream(next)).catch((error) => {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    });
  }
});
