// Holds one vitest for scripts/mutation.mjs: runs test files after a source file has changed, in the order given, all in
// one process (a new one costs more than most tests), and stops at the first failure.
import { join } from 'node:path';
import { createVitest } from 'vitest/node';

class InOrder {
  shard = (files) => files;
  sort = (files) => files;
}

const [root, names] = process.argv.slice(2);
const vitest = await createVitest('test', {
  root,
  watch: false,
  maxWorkers: 1,
  isolate: false,
  bail: 1,
  sequence: { sequencer: InOrder },
  reporters: [{}],
  testNamePattern: new RegExp(names),
  onConsoleLog: () => false,
});
await vitest.globTestSpecifications();

let last;
process.on('message', async ({ tests, changed }) => {
  const started = performance.now();
  // The file before this one has been mended.
  for (const file of new Set([last, changed])) if (file) vitest.invalidateFile(file);
  last = changed;
  const paths = tests.map((test) => join(root, test));
  const specifications = paths.flatMap((path) => vitest.getModuleSpecifications(path));
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  // It keeps the modules of earlier runs.
  const modules = testModules.filter(({ moduleId }) => paths.includes(moduleId));
  const faults = modules.flatMap((module) => [
    ...module.errors(),
    ...[...module.children.allTests('failed')].flatMap((test) => test.result().errors),
  ]);
  const errors = [...faults, ...unhandledErrors];
  const passed = errors.length === 0 && modules.length === paths.length && modules.every((module) => module.ok());
  const by = modules.find((module) => !module.ok())?.moduleId.slice(root.length + 1);
  const why = String(errors[0]?.message ?? '').slice(0, 200);
  process.send({ passed, by, why, seconds: (performance.now() - started) / 1000 });
});
