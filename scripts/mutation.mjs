// `npm run mutation -- --part chem|autograd [--sample N --seed S] [--retry]`: how many small faults do the tests notice?
// Stryker's instrumenter finds the places and the faults; each is put into a copy of the repository by itself, the test
// files that reach its line run there until one fails, and the copy is mended again. Stryker's own runners are not used:
// their switches make the loops of this code 20 times slower, and they run tests in threads, which Dawn does not survive.
// Nor is vitest as a whole: its processes cost more than the tests; scripts/mutation-worker.mjs has its runner alone.
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setupOrExit } from './setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What is mutated, and the tests that may notice: those of the folder, and what is cheap beside them. */
const parts = {
  chem: {
    sources: ['src/chem'],
    tests: ['test/chem'],
    without: ['test/chem/commands.test.ts'],
  },
  autograd: {
    sources: ['src/autograd', 'src/autograd/ops'],
    tests: ['test/autograd', 'test/models/parameters.test.ts', 'test/cli/module.test.ts'],
    // It replaces a module, which only vitest as a whole can do.
    without: ['test/autograd/open.test.ts'],
  },
};

/** Tests that are left out by name: bars of seconds, and much work for few lines. */
const left = ['a quarter of a million rows', 'worst cases stay quick', 'the real data', '1,000 steps:'];
const names = `^(?!.*(${left.join('|')}))`;

const { values } = parseArgs({
  options: {
    part: { type: 'string', default: 'chem' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    file: { type: 'string' },
    retry: { type: 'boolean', default: false },
    'no-gpu': { type: 'boolean', default: false },
  },
});
const part = parts[values.part];
if (!part) throw new Error(`--part ${values.part}: choose one of ${Object.keys(parts).join(', ')}`);
const env = setupOrExit();
// Tests that need an adapter cost most: leave them out first, then let --retry show them what is left.
if (values['no-gpu']) env.MATGAN_ADAPTER = 'none';

const { Instrumenter } = await import('@stryker-mutator/instrumenter');
const { default: ts } = await import('typescript');

const build = join(root, 'build', 'mutation');
const sandbox = join(build, `${values.part}-sandbox`);
const reportFile = join(build, `${values.part}.json`);

/**
 * Texts for people that nothing in the program reads: what the op table says of its rows. Another text would do as well,
 * so a test that noticed would only repeat them. Error messages are no prose: they are what a user gets.
 */
async function proseOf() {
  const { tsImport } = await import('tsx/esm/api');
  const { ops } = await tsImport('../src/autograd/ops/index.ts', import.meta.url);
  return new Set(Object.values(ops).flatMap(({ summary, vjp }) => [summary, vjp.none].filter(Boolean)));
}

/** Source files as they were at the start: somebody may go on working on them. */
const sources = new Map();

/** Every mutant of the part, with its place. */
async function findMutants() {
  const files = part.sources.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`),
  );
  const prose = await proseOf();
  const silent = new Proxy({}, { get: () => () => false });
  const all = [];
  for (const file of files) {
    const content = readFileSync(join(root, file), 'utf8');
    sources.set(file, content);
    const options = { plugins: null, ignorers: [], excludedMutations: [], noHeader: true };
    const { mutants } = await new Instrumenter(silent).instrument([{ name: file, content, mutate: true }], options);
    const lines = content.split('\n');
    const starts = [0];
    for (const line of lines) starts.push(starts.at(-1) + line.length + 1);
    for (const { location, mutatorName, replacement } of mutants) {
      const [start, end] = [location.start, location.end].map(({ line, column }) => starts[line] + column);
      if (mutatorName === 'StringLiteral' && prose.has(content.slice(start + 1, end - 1))) continue;
      all.push({
        file,
        line: location.start.line + 1,
        column: location.start.column + 1,
        mutator: mutatorName,
        original: content.slice(start, end),
        replacement,
        start,
        end,
      });
    }
  }
  return all;
}

/** A small generator with a seed (mulberry32): the same sample everywhere. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function sampleOf(list, count, seed) {
  const random = generator(seed);
  const left = [...list];
  const chosen = [];
  while (chosen.length < count && left.length > 0) chosen.push(...left.splice(Math.floor(random() * left.length), 1));
  return chosen;
}

/** The repository as it lies here, without what is built. */
function makeSandbox() {
  rmSync(sandbox, { recursive: true, force: true });
  mkdirSync(sandbox, { recursive: true });
  for (const name of ['src', 'test', 'shaders', 'data', 'scripts', 'bin', 'models', 'package.json', 'vitest.config.ts'])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(sandbox, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(sandbox, 'node_modules'));
}

// One process holds vitest. It is killed with everything below it when a test hangs, and started again.
let worker;
let answer;
function startWorker() {
  worker = fork(fileURLToPath(new URL('./mutation-worker.mjs', import.meta.url)), [sandbox, names], {
    cwd: sandbox,
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...env, CI: '' },
  });
  // One that was killed may still have something to say: it must not answer for the next.
  const mine = worker;
  mine.on('message', (message) => mine === worker && answer?.(message));
  mine.on('exit', () => mine === worker && answer?.({ died: true }));
}
function stopWorker() {
  answer = undefined;
  const { pid } = worker;
  worker = undefined;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
process.on('exit', () => worker && stopWorker());
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** Runs test files in the sandbox: { passed, by, why, seconds }. Longer than `limit` seconds counts as failed. */
function runTests(tests, changed, limit, coverage = false) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      stopWorker();
      startWorker();
      resolve({ passed: false, seconds: limit, why: 'timeout' });
    }, limit * 1000);
    answer = (message) => {
      clearTimeout(timer);
      answer = undefined;
      if (!message.died) return resolve(message);
      startWorker();
      resolve({ passed: false, seconds: 0, why: 'crash' });
    };
    worker.send({ tests, changed, coverage });
  });
}

/** Places of a source file that a test file reaches, with how often. */
function rangesOf({ statementMap, s, branchMap, b, fnMap, f }) {
  const ranges = [];
  for (const [id, { loc }] of Object.entries(fnMap)) ranges.push({ ...loc, count: f[id] });
  for (const [id, { locations }] of Object.entries(branchMap))
    for (const [i, loc] of locations.entries()) ranges.push({ ...loc, count: b[id][i] });
  for (const [id, loc] of Object.entries(statementMap)) ranges.push({ ...loc, count: s[id] });
  return ranges;
}

/** True where a test can have run the mutant: it loads the file, and the innermost function around it was called. */
function reaches(ranges, { line, column }) {
  if (!ranges) return false;
  const inside = ({ start, end }) =>
    (start.line < line || (start.line === line && start.column < column)) &&
    (end.line > line || (end.line === line && (end.column ?? Number.POSITIVE_INFINITY) >= column - 1));
  const size = ({ start, end }) => (end.line - start.line) * 1e4 + ((end.column ?? 1e4) - start.column);
  const around = ranges.filter((range) => range.end.line && inside(range)).sort((a, b) => size(a) - size(b));
  return around.length === 0 || around[0].count > 0;
}

const keyOf = ({ file, line, column, mutator, original, replacement }) =>
  [file, line, column, mutator, original, replacement].join('\u0000');

/** Wilson's interval of 95 % for a share. */
function interval(hits, total) {
  const z = 1.96;
  const p = hits / total;
  const middle = (p + (z * z) / (2 * total)) / (1 + (z * z) / total);
  const half = (z / (1 + (z * z) / total)) * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total));
  return [middle - half, middle + half];
}

const all = await findMutants();
const scope = values.file ? all.filter(({ file }) => file.includes(values.file)) : all;
const earlier = existsSync(reportFile) ? JSON.parse(readFileSync(reportFile, 'utf8')).mutants : [];
let chosen;
if (values.retry) {
  const survivors = new Set(earlier.filter(({ status }) => status !== 'killed').map(keyOf));
  chosen = all.filter((mutant) => survivors.has(keyOf(mutant)));
} else chosen = values.sample ? sampleOf(scope, Number(values.sample), Number(values.seed)) : scope;
process.stderr.write(`mutation: ${chosen.length} of ${all.length} mutants of ${part.sources.join(', ')}\n`);

mkdirSync(build, { recursive: true });
makeSandbox();
const tests = part.tests
  .flatMap((path) => (path.endsWith('.ts') ? [path] : readdirSync(join(root, path)).map((name) => `${path}/${name}`)))
  .filter((path) => path.endsWith('.test.ts') && !part.without.includes(path));

// Which test reaches what is asked once for the same sources and tests.
const reachFile = join(build, `${values.part}-reach.json`);
const state = createHash('sha256')
  .update([...sources.values()].join())
  .update(values['no-gpu'] ? 'no GPU' : '');
for (const test of tests) state.update(readFileSync(join(root, test)));
const digest = state.digest('hex');
let reach = existsSync(reachFile) ? JSON.parse(readFileSync(reachFile, 'utf8')) : {};
if (reach.digest !== digest) {
  reach = { digest, tests: {} };
  startWorker();
  for (const test of tests) {
    const { passed, why, files } = await runTests([test], undefined, 900, true);
    if (!passed) throw new Error(`${test} fails without any mutant: ${why}`);
    reach.tests[test] = Object.fromEntries(Object.entries(files).map(([file, data]) => [file, rangesOf(data)]));
  }
  stopWorker();
  writeFileSync(reachFile, JSON.stringify(reach));
}
startWorker();
const usual = new Map();
for (const test of tests) {
  const result = await runTests([test], undefined, 600);
  if (!result.passed) throw new Error(`${test} fails without any mutant: ${result.why}`);
  usual.set(test, result.seconds);
  process.stderr.write(`mutation: ${test} passes in ${result.seconds.toFixed(1)} s\n`);
}

// A run that was cut short is gone on with, where nothing has changed.
const partialFile = `${reportFile}.partial`;
const partial = existsSync(partialFile) ? JSON.parse(readFileSync(partialFile, 'utf8')) : {};
const known = new Map(partial.digest === digest ? partial.mutants.map((mutant) => [keyOf(mutant), mutant]) : []);
const results = [];
const started = performance.now();
for (const mutant of chosen) {
  if (known.has(keyOf(mutant))) {
    results.push(known.get(keyOf(mutant)));
    continue;
  }
  const { file, start, end, replacement } = mutant;
  const source = sources.get(file);
  const text = source.slice(0, start) + replacement + source.slice(end);
  const broken = ts.transpileModule(text, { reportDiagnostics: true }).diagnostics.length > 0;
  const own = basename(file, '.ts');
  const usable = tests
    .filter((test) => reaches(reach.tests[test][file], mutant))
    .sort(
      (a, b) => (basename(b) === `${own}.test.ts`) - (basename(a) === `${own}.test.ts`) || usual.get(a) - usual.get(b),
    );
  // What runs leave behind adds up: a database, devices.
  if (results.length % 100 === 99) {
    stopWorker();
    startWorker();
  }
  let result = { status: broken ? 'broken' : usable.length === 0 ? 'unreached' : 'survived' };
  if (result.status === 'survived') {
    writeFileSync(join(sandbox, file), text);
    const limit = 15 + 3 * usable.reduce((sum, test) => sum + usual.get(test), 0);
    const { passed, by, why } = await runTests(usable, join(sandbox, file), limit);
    if (!passed) result = { status: 'killed', by, why };
    writeFileSync(join(sandbox, file), source);
  }
  results.push({ ...mutant, ...result });
  if (results.length % 10 === 0 || results.length === chosen.length) {
    const killed = results.filter(({ status }) => status === 'killed').length;
    const seconds = (performance.now() - started) / 1000;
    process.stderr.write(`mutation: ${results.length}/${chosen.length}, ${killed} killed, ${seconds.toFixed(0)} s\n`);
    writeFileSync(partialFile, JSON.stringify({ digest, mutants: results }, null, 1));
  }
}
stopWorker();

let mutants = results;
if (values.retry) {
  const fresh = new Map(results.map((mutant) => [keyOf(mutant), mutant]));
  mutants = earlier.map((mutant) => fresh.get(keyOf(mutant)) ?? mutant);
}
writeFileSync(
  reportFile,
  JSON.stringify({ part: values.part, total: all.length, seed: values.seed, mutants }, null, 1),
);
rmSync(partialFile, { force: true });
const valid = mutants.filter(({ status }) => status !== 'broken');
for (const file of [...new Set(valid.map((mutant) => mutant.file))].sort()) {
  const of = valid.filter((mutant) => mutant.file === file);
  const killed = of.filter(({ status }) => status === 'killed').length;
  console.log(`${file}: ${killed}/${of.length} (${((100 * killed) / of.length).toFixed(0)} %)`);
}
const killed = valid.filter(({ status }) => status === 'killed').length;
const [low, high] = interval(killed, valid.length).map((share) => (100 * share).toFixed(1));
console.log(
  `${dirname(part.sources[0])}/${values.part}: ${killed} of ${valid.length} noticed, ${((100 * killed) / valid.length).toFixed(1)} % ` +
    `(95 % interval ${low} to ${high} %); ${valid.filter(({ status }) => status === 'unreached').length} reached by no test`,
);
process.exit(0);
