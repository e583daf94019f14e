/**
 * Hostile inputs through every reader: `npx tsx scripts/fuzz.ts [--part NAME] [--count N] [--seed S]`. Prints a table, and
 * each fault with the input that made it. The same seed gives the same inputs. The tests run a smaller share.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Tally } from '../test/fuzz/tally.ts';

type Part = (tally: Tally, folder: string, count: number, seed: number) => Promise<void>;

/** Inputs of a run in which nothing else is said. */
const parts: Record<string, { count: number; run: Part }> = {
  formulas: {
    count: 1_000_000,
    run: async (tally, _, count, seed) => (await import('../test/fuzz/formulas.ts')).fuzzFormulas(tally, count, seed),
  },
  'mf-parser': {
    count: 50_000,
    run: async (tally, _, count, seed) =>
      (await import('../test/fuzz/formulas.ts')).fuzzAgainstOther(tally, count, seed),
  },
  tables: {
    count: 5000,
    run: async (tally, folder, count, seed) => {
      const { fuzzTables, namedTables } = await import('../test/fuzz/tables.ts');
      await namedTables(tally, folder);
      await fuzzTables(tally, folder, count, seed);
    },
  },
  configs: {
    count: 1500,
    run: async (tally, folder, count, seed) => {
      const { fuzzConfigs, walkPresets } = await import('../test/fuzz/configs.ts');
      walkPresets(tally, folder);
      fuzzConfigs(tally, folder, count, seed);
    },
  },
  checkpoints: {
    count: 100_000,
    run: async (tally, folder, count, seed) =>
      (await import('../test/fuzz/checkpoints.ts')).fuzzCheckpoints(tally, folder, count, seed),
  },
  runs: {
    count: 100,
    run: async (tally, folder, count, seed) =>
      (await import('../test/fuzz/runs.ts')).fuzzRuns(tally, folder, count, seed),
  },
};

const { values } = parseArgs({
  options: { part: { type: 'string' }, count: { type: 'string' }, seed: { type: 'string', default: '1' } },
});
const chosen = values.part === undefined ? Object.keys(parts) : [values.part];
let faults = 0;
console.log('| part | tried | accepted | refused | slowest, ms | peak growth, MB | largest, MB | faults | seconds |');
console.log('|---|---:|---:|---|---:|---:|---:|---:|---:|');
for (const name of chosen) {
  if (!Object.hasOwn(parts, name)) throw new Error(`--part ${name}: there are ${Object.keys(parts).join(', ')}`);
  const folder = mkdtempSync(join(tmpdir(), 'matgan-fuzz-'));
  const tally = new Tally(name);
  const started = performance.now();
  try {
    await parts[name].run(tally, folder, Number(values.count ?? parts[name].count), Number(values.seed));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const refused = [...tally.refused].sort((a, b) => b[1] - a[1]).map(([kind, n]) => `${n} ${kind}`);
  const cells = [
    name,
    tally.tried,
    tally.accepted,
    refused.join(', '),
    tally.slowestMs.toFixed(0),
    (tally.growth / 1e6).toFixed(0),
    (tally.largest / 1e6).toFixed(1),
    tally.faults.length,
    ((performance.now() - started) / 1000).toFixed(0),
  ];
  console.log(`| ${cells.join(' | ')} |`);
  if (tally.slowest !== '') console.error(`${name}: slowest: ${tally.slowest.slice(0, 300)}`);
  for (const { what, input } of tally.faults.slice(0, 20)) console.error(`${name}: FAULT ${what}\n  input: ${input}`);
  faults += tally.faults.length;
}
process.exit(faults > 0 ? 1 : 0);
