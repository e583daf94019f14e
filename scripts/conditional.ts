// Asking a generator for formulas against filtering what it makes unasked: hit rates, and hits for the same cost.
//   tsx scripts/conditional.ts --gap-model gap.safetensors --energy-model energy.safetensors [--run icsd] [--no-filter]
//     [--hits 500] [--base 1000] [--only gap] [--json out.json]
// Before each target so many formulas are drawn unasked (--base), so that both see the machine in the same state; all of them count for each
// target. Cost is the process's processor time on a software adapter, which others on the machine don't change; else the time that passes.
import { existsSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { GpuExecutor } from '../src/autograd/executor.ts';
import { openExecutor } from '../src/autograd/open.ts';
import { type FormulaTarget, meetsTarget } from '../src/chem/baseline.ts';
import { matganElements } from '../src/chem/elements.ts';
import { PackedSet, reducePacked, takeRows } from '../src/chem/encoding.ts';
import { flagCN, flagEN, Judge } from '../src/chem/validity.ts';
import { keepInRange, type PropertyRange } from '../src/models/drafts.ts';
import { openRegressor, type Regressor } from '../src/models/regressor.ts';
import { findCheckpoint, ownFilter } from '../src/models/run.ts';
import { type DrawOptions, drawSamples } from '../src/models/sampler.ts';

const { values: given } = parseArgs({
  options: {
    run: { type: 'string', default: 'icsd' },
    'gap-model': { type: 'string' },
    'energy-model': { type: 'string' },
    'no-filter': { type: 'boolean', default: false },
    hits: { type: 'string', default: '500' },
    base: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});

interface Asked {
  name: string;
  contains?: string[];
  sizes?: [number, number];
  gap?: [number, number];
  energy?: [number, number];
}
const targets: Asked[] = [
  { name: 'contains Li', contains: ['Li'] },
  { name: 'contains Li, O; 4 elements', contains: ['Li', 'O'], sizes: [4, 4] },
  { name: '5 elements', sizes: [5, 5] },
  { name: 'gap 2..3', gap: [2, 3] },
  { name: 'gap 4..5', gap: [4, 5] },
  { name: 'gap 1..2, contains Li', gap: [1, 2], contains: ['Li'] },
  { name: 'energy -3.5..-2.5', energy: [-3.5, -2.5] },
].filter(({ name }) => name.includes(given.only)) as Asked[];

const { executor, note } = await openExecutor('gpu', { boundsChecks: false });
const software = executor instanceof GpuExecutor && executor.device.info.software;
const cost = (): number => {
  const { user, system } = process.cpuUsage();
  return software ? (user + system) / 1e6 : performance.now() / 1000;
};
const checkpoint = findCheckpoint(given.run, 'last');
const own = given['no-filter'] ? undefined : ownFilter(given.run);
const filter =
  own === undefined ? undefined : findCheckpoint(own, existsSync(`${own}/best.safetensors`) ? 'best' : 'last');
const models: Partial<Record<'gap' | 'energy', Regressor>> = {};
for (const name of ['gap', 'energy'] as const) {
  const path = given[`${name}-model`];
  if (path !== undefined) models[name] = await openRegressor(path, `--${name}-model`, 'auto');
}

/** Draws, and tells set-up (compiling, adapting, setting the filter) from drawing. */
async function draw(options: Omit<DrawOptions, 'formulas'>) {
  const parts: Uint32Array[] = [];
  const began = cost();
  let first = 0;
  const drawn = await drawSamples(executor, checkpoint, { formulas: true, filter, ...options }, (words, rows) => {
    first ||= cost();
    const chosen = Array.from({ length: rows }, (_, i) => i).filter((i) => words[4 * i] !== 0);
    parts.push(takeRows(words, chosen));
  });
  const packed = new Uint32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  return { packed, rows: packed.length / 4, drawn, setUp: first - began, drawing: cost() - first };
}

/** Of formulas: how many, how many different ones in lowest terms, and shares of CN and EN. */
function look(packed: Uint32Array) {
  const words = packed.slice();
  const rows = words.length / 4;
  const judge = new Judge();
  const set = new PackedSet();
  let [neutral, balanced] = [0, 0];
  for (let row = 0; row < rows; row++) {
    reducePacked(words, row);
    set.add(words, row);
    const flags = judge.row(words, row);
    if (flags & flagCN) neutral++;
    if (flags & flagEN) balanced++;
  }
  return { rows, unique: set.size / rows, cn: neutral / rows, en: balanced / rows };
}

const asOptions = (asked: Asked): { target?: FormulaTarget; properties: PropertyRange[] } => {
  const contains = (asked.contains ?? []).map((symbol) => matganElements.indexOf(symbol));
  const properties = (['gap', 'energy'] as const).flatMap((name) => {
    const [range, model] = [asked[name], models[name]];
    return range && model ? [{ name, model, range }] : [];
  });
  const target = asked.contains || asked.sizes ? { contains, sizes: asked.sizes ?? ([1, 8] as const) } : undefined;
  return { target, properties };
};

const possible = targets.filter((asked) => (!asked.gap || models.gap) && (!asked.energy || models.energy));
const base: Awaited<ReturnType<typeof draw>>[] = [];
const results = [];
for (const [i, asked] of possible.entries()) {
  base.push(await draw({ count: Number(given.base), seed: 1000 + i }));
  results.push({ asked, ...(await draw({ count: Number(given.hits), seed: 1 + i, ...asOptions(asked) })) });
  process.stderr.write(`${asked.name}: ${JSON.stringify({ ...results[i].drawn, setUp: results[i].setUp })}\n`);
}
const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
const rows = sum(base.map((b) => b.rows));
const offered = sum(base.map((b) => b.drawn.offered));
const drawing = sum(base.map((b) => b.drawing));
const found = [];
for (const { asked, packed, drawn, setUp, drawing: ours } of results) {
  const { target, properties } = asOptions(asked);
  const all = new Uint32Array(4 * rows);
  let at = 0;
  for (const part of base) {
    all.set(part.packed, at);
    at += part.packed.length;
  }
  const began = cost();
  if (target)
    for (let row = 0; row < rows; row++) if (!meetsTarget(target, all, row)) all.fill(0, 4 * row, 4 * row + 4);
  await keepInRange(all, rows, properties);
  const judging = cost() - began;
  const hits = takeRows(
    all,
    Array.from({ length: rows }, (_, i) => i).filter((i) => all[4 * i] !== 0),
  );
  const unasked = {
    ...look(hits),
    hitRate: hits.length / 4 / offered,
    perSecond: hits.length / 4 / (drawing + judging),
  };
  // All hits of whole batches cost what was paid, also those beyond the ones that were wanted.
  const own = { ...look(packed), hitRate: drawn.hits / drawn.offered, perSecond: drawn.hits / ours, setUp };
  const ratios = {
    hitRate: own.hitRate / unasked.hitRate,
    perSecond: own.perSecond / unasked.perSecond,
    uniquePerSecond: (own.perSecond * own.unique) / (unasked.perSecond * unasked.unique),
    withSetUp: drawn.hits / (ours + setUp) / unasked.perSecond,
  };
  found.push({ name: asked.name, unasked, asked: own, drafts: drawn.drafts, ratios });
}
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
const times = (x: number): string => `${x.toFixed(1)} ×`;
process.stdout.write(
  `${note}; ${rows} formulas unasked, ${given.hits} hits asked for; filter: ${filter?.path ?? 'none'}\n`,
);
process.stdout.write(
  '| asked for | hit rate unasked | asked | ratio | hits for the same cost | different ones | with set-up | different of hits, unasked / asked | CN | EN |\n|---|---|---|---|---|---|---|---|---|---|\n',
);
for (const { name, unasked: u, asked: a, ratios: r } of found) {
  const both = (key: 'unique' | 'cn' | 'en'): string => `${percent(u[key])} / ${percent(a[key])}`;
  process.stdout.write(
    `| ${[name, percent(u.hitRate), percent(a.hitRate), times(r.hitRate), times(r.perSecond), times(r.uniquePerSecond), times(r.withSetUp), both('unique'), both('cn'), both('en')].join(' | ')} |\n`,
  );
}
if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify(found, null, 2)}\n`);
for (const model of Object.values(models)) model.destroy();
executor.destroy();
