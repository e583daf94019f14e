// Runs test files for scripts/mutation.mjs, many times over, in this one process: vitest's own runner, expectations and
// spies, without its server and processes, which cost ten times as much as most tests. Modules of the sandbox are
// TypeScript made CommonJS by esbuild, and loaded afresh for every run, so that only the changed one is made anew.
import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { createRequire, isBuiltin } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { ASYMMETRIC_MATCHERS_OBJECT, chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend } from '@vitest/expect';
import * as runnerApi from '@vitest/runner';
import * as spies from '@vitest/spy';
import { convert } from 'ast-v8-to-istanbul';
import { transformSync } from 'esbuild';
import { parseAstAsync } from 'vitest/node';

const [root, names] = process.argv.slice(2);
const require = createRequire(join(root, 'package.json'));

// ---- what tests import from vitest
chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);
const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect);
Object.assign(expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);
const environment = new Map();
const vi = {
  ...spies,
  mocked: (f) => f,
  stubEnv: (name, value) => {
    if (!environment.has(name)) environment.set(name, process.env[name]);
    process.env[name] = value;
  },
  unstubAllEnvs: () => {
    for (const [name, value] of environment) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    environment.clear();
  },
};
const { describe, it, test, beforeAll, beforeEach, afterAll, afterEach } = runnerApi;
const vitest = { __esModule: true, describe, it, test, beforeAll, beforeEach, afterAll, afterEach, expect, vi };

// ---- packages: loaded once, those that are ES modules too
const { dependencies, devDependencies } = require('./package.json');
const packages = new Map([['vitest', vitest]]);
for (const name of [...Object.keys(dependencies), 'fast-check']) {
  if (!(name in { ...dependencies, ...devDependencies })) continue;
  packages.set(name, { __esModule: true, ...(await import(name)) });
}

// ---- modules of the sandbox
const before = '(function (require, module, exports, __url) {';
const compiled = new Map();
function compile(path) {
  let entry = compiled.get(path);
  if (!entry) {
    const { code, map } = transformSync(readFileSync(path, 'utf8'), {
      loader: 'ts',
      format: 'cjs',
      target: 'node20',
      sourcemap: 'external',
      sourcefile: path,
      define: { 'import.meta.url': '__url' },
    });
    const url = pathToFileURL(path).href;
    entry = { code, map, url, run: new vm.Script(`${before}${code}\n})`, { filename: url }).runInThisContext() };
    compiled.set(path, entry);
  }
  return entry;
}
let loaded = new Map();
function load(path) {
  const known = loaded.get(path);
  if (known) return known.exports;
  const module = { exports: {} };
  loaded.set(path, module);
  const { run, url } = compile(path);
  const inner = (name) => {
    if (name.startsWith('.')) return load(resolve(dirname(path), name));
    return isBuiltin(name) ? require(name) : (packages.get(name) ?? require(name));
  };
  run(inner, module, module.exports, url);
  return module.exports;
}

// ---- one run
class Runner {
  config = {
    root,
    setupFiles: [],
    name: undefined,
    passWithNoTests: true,
    testNamePattern: new RegExp(names),
    allowOnly: true,
    sequence: { shuffle: false, concurrent: false, seed: 1, hooks: 'stack', setupFiles: 'list' },
    chaiConfig: undefined,
    maxConcurrency: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
    includeTaskLocation: false,
    tags: [],
    tagsFilter: undefined,
    strictTags: false,
  };
  failed = false;
  importFile = (path) => load(path);
  onBeforeRunTask = (task) => {
    if (this.failed) task.mode = 'skip';
  };
  onBeforeRunSuite = (suite) => {
    if (this.failed) suite.mode = 'skip';
    if (suite.result?.state === 'fail') this.failed = true;
  };
  onAfterRunTask = (task) => {
    if (task.result?.state === 'fail') this.failed = true;
  };
  onAfterRunSuite = (suite) => {
    if (suite.result?.state === 'fail') this.failed = true;
  };
}

/** The first error below a task. */
function errorOf(task) {
  const own = task.result?.errors?.[0];
  if (own) return own;
  for (const child of task.tasks ?? []) {
    const error = errorOf(child);
    if (error) return error;
  }
}

const session = new Session();
session.connect();
const ask = (method, params) => {
  let answer;
  session.post(method, params, (error, result) => {
    if (error) throw error;
    answer = result;
  });
  return answer;
};

/** Places of each source file that ran, as istanbul has them, since this was asked last. */
async function reached() {
  const files = {};
  for (const { url, functions } of ask('Profiler.takePreciseCoverage').result) {
    const entry = [...compiled.entries()].find(([, { url: other }]) => other === url);
    if (!entry?.[0].startsWith(join(root, 'src'))) continue;
    const [path, { code, map }] = entry;
    const sourceMap = { ...JSON.parse(map), sources: [path], sourceRoot: '' };
    const coverage = { url, functions };
    const ast = parseAstAsync(code);
    const result = await convert({ ast, code, sourceMap, wrapperLength: before.length, coverage });
    files[path.slice(root.length + 1)] = result[path];
  }
  return files;
}

// A run that a failure has cut short may leave promises behind: they are no business of the next one.
process.on('unhandledRejection', () => {});
process.on('uncaughtException', () => {});

let last;
let counting = false;
process.on('message', async ({ tests, changed, coverage }) => {
  const started = performance.now();
  if (coverage && !counting) {
    ask('Profiler.enable');
    ask('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    counting = true;
  }
  for (const path of new Set([last, changed])) compiled.delete(path);
  last = changed;
  loaded = new Map();
  if (coverage) ask('Profiler.takePreciseCoverage');
  let by;
  let why;
  for (const test of tests) {
    const runner = new Runner();
    const [file] = await runnerApi.startTests([join(root, test)], runner);
    if (runner.failed || file.result?.state === 'fail') {
      by = test;
      why = String(errorOf(file)?.message ?? '').slice(0, 200);
      break;
    }
  }
  const answer = { passed: by === undefined, by, why, seconds: (performance.now() - started) / 1000 };
  process.send(coverage ? { ...answer, files: await reached() } : answer);
});
