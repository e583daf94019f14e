// `npm run coverage`: the tests with V8's coverage of src/, what ran in their child processes included (`matgan …` is
// tested as users run it). Arguments go to vitest. The last lines are shares per folder; build/coverage/ has the rest.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'build', 'coverage');
const children = join(root, 'build', 'child-coverage');

rmSync(children, { recursive: true, force: true });
mkdirSync(children, { recursive: true });
const preload = new URL('./child-coverage.mjs', import.meta.url).href;
const { status } = spawnSync(
  process.execPath,
  [join(root, 'scripts', 'test.mjs'), '--coverage', ...process.argv.slice(2)],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      MATGAN_CHILD_COVERAGE: children,
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${preload}`.trim(),
    },
  },
);

// Set-up has run: from here on packages may be used.
const { convert } = await import('ast-v8-to-istanbul');
const { default: coverage } = await import('istanbul-lib-coverage');
const { default: report } = await import('istanbul-lib-report');
const { default: reports } = await import('istanbul-reports');
const { parseAstAsync } = await import('vitest/node');

const map = coverage.createCoverageMap(JSON.parse(readFileSync(join(folder, 'coverage-final.json'), 'utf8')));

/** The source map that tsx puts behind a module, with the file's own path in it. */
function sourceMapOf(code, file) {
  const text = /\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)\s*$/.exec(code)?.[1];
  return { ...JSON.parse(Buffer.from(text, 'base64').toString('utf8')), sources: [file], sourceRoot: '' };
}

/** Where a branch, statement or function begins: the same in both, while the ends differ with the compilers' maps. */
const place = ({ loc, start }) => `${(start ?? loc.start).line}:${(start ?? loc.start).column}`;

/**
 * Adds counts of one file's child run to those of the tests; returns how many branches have no partner there.
 * An `else if` begins at `else` for one compiler and at `if` for the other: of those left over the next one is it.
 */
function add(target, child) {
  let lost = 0;
  for (const [entries, counts, kind] of [
    ['statementMap', 's', () => ''],
    ['fnMap', 'f', () => ''],
    ['branchMap', 'b', ({ type, locations }) => `${type} ${locations.length}`],
  ]) {
    const key = (entry) => `${kind(entry)} ${place(entry)}`;
    const ids = new Map(Object.entries(target[entries]).map(([id, entry]) => [key(entry), id]));
    const free = new Map(ids);
    const left = [];
    const count = (id, more) => {
      if (Array.isArray(more)) for (const [i, n] of more.entries()) target[counts][id][i] += n;
      else target[counts][id] += more;
    };
    for (const [childId, entry] of Object.entries(child[entries])) {
      const id = ids.get(key(entry));
      free.delete(key(entry));
      if (id === undefined) left.push([childId, entry]);
      else count(id, child[counts][childId]);
    }
    if (counts !== 'b') continue;
    for (const [childId, entry] of left) {
      const { line, column } = entry.loc.start;
      const next = [...free.values()].find((id) => {
        const other = target[entries][id];
        const { start } = other.loc;
        const behind = start.line === line ? start.column > column : start.line === line + 1;
        return behind && kind(other) === kind(entry);
      });
      if (next === undefined) lost++;
      else {
        free.delete(key(target[entries][next]));
        count(next, child[counts][childId]);
      }
    }
  }
  return lost;
}

/** What a child wrote down; nothing where it was killed, or not allowed to write, in the middle of it. */
function readChild(name) {
  try {
    return JSON.parse(readFileSync(join(children, name), 'utf8'));
  } catch {
    process.stderr.write(`coverage: ${name} is cut short and not counted\n`);
    return [];
  }
}

let lost = 0;
for (const name of readdirSync(children)) {
  for (const { url, functions, code } of readChild(name)) {
    const file = fileURLToPath(url);
    if (!map.files().includes(file)) continue;
    const sourceMap = sourceMapOf(code, file);
    const ast = parseAstAsync(code); // afresh each time: converting leaves marks in it
    const child = await convert({ ast, code, sourceMap, wrapperLength: 0, coverage: { url, functions } });
    lost += add(map.fileCoverageFor(file).data, child[file]);
  }
}
if (lost > 0) process.stderr.write(`coverage: ${lost} branches of child processes have no partner in the tests' own\n`);

const context = report.createContext({ dir: folder, coverageMap: map });
for (const kind of ['json', 'html']) reports.create(kind).execute(context);
reports.create('text', { skipFull: true, maxCols: 120 }).execute(context);

const folders = new Map();
for (const file of map.files()) {
  const summary = map.fileCoverageFor(file).toSummary();
  for (const key of [relative(root, dirname(file)), 'all']) {
    if (!folders.has(key)) folders.set(key, coverage.createCoverageSummary());
    folders.get(key).merge(summary);
  }
}
const percent = ({ covered, total }) => `${((100 * covered) / total).toFixed(1)} % (${covered}/${total})`;
for (const [name, { branches, lines, functions }] of [...folders].sort(([a], [b]) => (a < b ? -1 : 1))) {
  console.log(`${name}: branches ${percent(branches)}, lines ${percent(lines)}, functions ${percent(functions)}`);
}
process.exit(status ?? 1);
