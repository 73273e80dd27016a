// A program in raw mode: writes every byte it is sent to a file, prints a corpus (at once, or at the first `g`), ends at Ctrl-].

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';

const [corpus, record, when] = process.argv.slice(2);
const GO = 'g'.charCodeAt(0);
const END = 0x1d;
/** Little enough that answers are read while more is printed: a terminal holds back few bytes for who does not read. */
const PIECE = 512;

let waits = when !== 'now';
process.stdin.setRawMode(true);
writeFileSync(record, '');

function print(bytes) {
  if (bytes.length === 0) return void process.stdout.write('\r\nall is printed\r\n');
  process.stdout.write(bytes.subarray(0, PIECE), () => setImmediate(print, bytes.subarray(PIECE)));
}

function start() {
  waits = false;
  print(readFileSync(corpus));
}

process.stdin.on('data', (data) => {
  appendFileSync(record, data);
  if (waits && data.includes(GO)) start();
  if (data.includes(END)) process.exit(0);
});

process.stdout.write('the recorder waits\r\n');
if (!waits) start();
