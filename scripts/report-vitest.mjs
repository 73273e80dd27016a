// A reporter for vitest: one line for each thing that becomes known of a test, as scripts/steps.sh reads it.
const say = (word, name) => process.stdout.write(`kas-test ${word} ${name.replaceAll('\n', ' ')}\n`);
const named = (test) => `${test.module.relativeModuleId} > ${test.fullName}`;

export default class Report {
  onTestModuleQueued(module) {
    say('listed', module.relativeModuleId);
  }

  onTestModuleCollected(module) {
    say('over', module.relativeModuleId);
    for (const test of module.children.allTests()) say('listed', named(test));
  }

  onTestCaseReady(test) {
    say('began', named(test));
  }

  onTestCaseResult(test) {
    const { state } = test.result();
    say(state === 'skipped' ? 'over' : state, named(test));
  }
}
