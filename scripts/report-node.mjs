// A reporter for `node --test`: one line for each thing that becomes known of a test, as scripts/steps.sh reads it, and why one failed.
// A suite is told as its tests are, so that one that was not begun is named; it counts as none.
import { basename } from 'node:path';
import { inspect } from 'node:util';

export default async function* report(events) {
  const path = [];
  for await (const { type, data } of events) {
    if (data?.name === undefined) {
      if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
      continue;
    }
    // A file is told as a test that has no place in itself.
    const isFile = data.nesting === 0 && (data.file === undefined || basename(data.file) === basename(data.name));
    const file = isFile ? [] : [basename(data.file)];
    const named = (names) => [...file, ...names].join(' > ').replaceAll('\n', ' ');
    const say = (word, names = [...path.slice(0, data.nesting), data.name]) => `kas-test ${word} ${named(names)}\n`;
    if (type === 'test:enqueue') yield say('listed');
    if (type === 'test:dequeue') {
      path.length = data.nesting;
      // Its parents run, but what is said to be running is a test.
      if (data.nesting > 0) yield say('over', path);
      yield say(isFile ? 'over' : 'began');
      path.push(data.name);
    }
    if (type === 'test:pass') yield say(data.details.type === 'suite' || data.skip !== undefined ? 'over' : 'passed');
    if (type === 'test:fail') {
      yield say(data.details.type === 'suite' && data.details.error.failureType === 'subtestsFailed' ? 'over' : 'failed');
      yield `${data.name}: ${inspect(data.details.error.cause ?? data.details.error)}\n`;
    }
  }
}
