// One training of trees for scripts/trees_peer.py: features.f32, target.f64 and split.u8 (1 train, 2 test) of a folder in, predicted.f64
// of the test rows out, and a line of JSON.
//   tsx scripts/trees-run.ts FOLDER COLUMNS SETTINGS SEED [key=value …]
import { readFileSync, writeFileSync } from 'node:fs';
import { loadTreesConfig, treesPresetNames } from '../src/models/trees/config.ts';
import { predict } from '../src/models/trees/forest.ts';
import { trainTrees } from '../src/models/trees/train.ts';

const [folder, columnCount, settings, seed, ...more] = process.argv.slice(2);
const bytes = (name: string): ArrayBuffer => new Uint8Array(readFileSync(`${folder}/${name}`)).buffer;
const columns = Number(columnCount);
const values = new Float32Array(bytes('features.f32'));
const target = new Float64Array(bytes('target.f64'));
const split = new Uint8Array(bytes('split.u8'));

/** Settings of peers that are no preset. */
const leaves31 = {
  loss: 'squared',
  trees: 300,
  learningRate: 0.1,
  growth: { kind: 'leaf', leaves: 31 },
  leafRows: 20,
  rowShare: 1,
};
const extra: Record<string, Record<string, unknown>> = { leaves31, absolute31: { ...leaves31, loss: 'absolute' } };
const given = Object.fromEntries(
  more.map((pair) => {
    const [key, text] = pair.split(/=(.*)/s);
    return [key, JSON.parse(text)];
  }),
);
const preset = treesPresetNames().includes(settings) ? settings : 'paper';
const config = loadTreesConfig({ preset, overrides: { ...extra[settings], seed: Number(seed), ...given } });

const rowsOf = (part: number): number[] => [...split.keys()].filter((row) => split[row] === part);
const gather = (rows: number[]) => {
  const x = new Float32Array(rows.length * columns);
  for (const [i, row] of rows.entries()) x.set(values.subarray(row * columns, (row + 1) * columns), i * columns);
  return { rows: rows.length, columns, values: x };
};
const [train, test] = [rowsOf(1), rowsOf(2)];
const table = gather(train);
const unseen = gather(test);
const own = Float64Array.from(train, (row) => target[row]);
const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const times = [performance.now(), cpu()];
const { forest } = await trainTrees(table, own, config);
const [seconds, cpuSeconds] = [(performance.now() - times[0]) / 1000, cpu() - times[1]];
const began = performance.now();
const predicted = predict(forest, unseen.values);
const rowsASecond = (1000 * test.length) / (performance.now() - began);
writeFileSync(`${folder}/predicted.f64`, predicted);
const mae = test.reduce((sum, row, i) => sum + Math.abs(predicted[i] - target[row]), 0) / test.length;
const figures = {
  seconds,
  cpuSeconds,
  trees: forest.starts.length - 1,
  nodes: forest.split.length,
  rowsASecond,
  ownMae: mae,
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
