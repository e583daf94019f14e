/** What trees say of their own errors, and what columns are worth to them. */
import { describe, expect, it } from 'vitest';
import { Stream } from '../../../src/autograd/philox.ts';
import { ConfigError } from '../../../src/errors.ts';
import type { Table } from '../../../src/models/trees/bins.ts';
import { checkTreesConfig, loadTreesConfig } from '../../../src/models/trees/config.ts';
import { permutationImportances, predict, uncertaintiesOf } from '../../../src/models/trees/forest.ts';
import { trainMeasured, trainTrees } from '../../../src/models/trees/train.ts';
import { noise, settings, targetOf } from './made.ts';

/** The second column says how large the noise is: a tenth, or 1. */
const deviation = ({ columns, values }: Table, row: number): number => (values[row * columns + 1] > 0 ? 1 : 0.1);
function noisy(table: Table, seed: number): Float64Array {
  const stream = new Stream(seed);
  return Float64Array.from(
    { length: table.rows },
    (_, row) => table.values[row * table.columns] + deviation(table, row) * stream.normal(),
  );
}
const table = noise(3000, 4);
const target = noisy(table, 11);
const config = settings({
  trees: 60,
  learningRate: 0.2,
  growth: { kind: 'leaf', leaves: 6 },
  leafRows: 20,
  earlyStopping: { share: 0.3, patience: 10 },
  uncertainty: { trees: 40, learningRate: 0.1, leaves: 4, leafRows: 20 },
});

describe('an uncertainty', () => {
  it('covers 68 % of the errors of new rows, and knows where they are large', async () => {
    const { forest, error } = await trainTrees(table, target, config);
    const unseen = noise(3000, 4, { seed: 8 });
    const truth = noisy(unseen, 12);
    const found = predict(forest, unseen.values);
    const claimed = uncertaintiesOf(error!, unseen.values);
    const tally = { 0.1: { rows: 0, within: 0, claimed: 0 }, 1: { rows: 0, within: 0, claimed: 0 } };
    found.forEach((v, row) => {
      const own = tally[deviation(unseen, row) as 0.1 | 1];
      own.rows++;
      own.claimed += claimed[row];
      if (Math.abs(v - truth[row]) <= claimed[row]) own.within++;
    });
    const [small, large] = [tally[0.1], tally[1]];
    // Of 900 watched rows the share has a deviation of 1.6 %.
    expect((small.within + large.within) / 3000).toBeGreaterThan(0.6827 - 0.05);
    expect((small.within + large.within) / 3000).toBeLessThan(0.6827 + 0.05);
    for (const own of [small, large]) {
      expect(own.within / own.rows).toBeGreaterThan(0.5);
      expect(own.within / own.rows).toBeLessThan(0.85);
    }
    expect(large.claimed / large.rows).toBeGreaterThan((3 * small.claimed) / small.rows);
    // Noise alone has 1; the forest's own error comes on top.
    expect(large.claimed / large.rows).toBeGreaterThan(0.8);
    expect(large.claimed / large.rows).toBeLessThan(1.4);
  });

  it('is the same to the bit again, changes nothing of the predictions, and lies above a tenth of the mean error', async () => {
    const [first, again, without] = [
      await trainTrees(table, target, config),
      await trainTrees(table, target, config),
      await trainTrees(table, target, { ...config, uncertainty: undefined }),
    ];
    expect(again).toEqual(first);
    expect(without.error).toBeUndefined();
    expect(without.forest).toEqual(first.forest);
    const { forest, scale } = first.error!;
    // A forest that says less than nothing of every row.
    const claimed = uncertaintiesOf({ forest: { ...forest, value: forest.value.map(() => -9) }, scale }, table.values);
    expect(new Set(claimed)).toEqual(new Set([(scale * forest.base) / 10]));
  });

  it('is measured on rows left out', async () => {
    const { measured, unseen } = await trainMeasured(table, target, { ...config, leaveOut: 0.2 });
    expect(measured.coverage).toBeGreaterThan(0.6);
    expect(measured.coverage).toBeLessThan(0.77);
    expect(unseen!.uncertainties).toHaveLength(600);
    const plain = await trainMeasured(table, target, { ...config, leaveOut: 0.2, uncertainty: undefined });
    expect(Object.keys(plain.measured)).toEqual(['mae', 'rmse', 'r2']);
    expect((await trainMeasured(table, target, config)).unseen).toBeUndefined();
  });

  it('is there after an interruption, and not where too few rows were watched', async () => {
    const stopped = await trainTrees(table, target, config, { interrupted: () => true });
    expect(stopped.history).toHaveLength(1);
    expect(stopped.error!.scale).toBeGreaterThan(0);
    const few = noise(60, 4);
    expect((await trainTrees(few, targetOf(few), config)).error).toBeUndefined();
  });

  it('of one watched group, or of a model that is never wrong, is a number', async () => {
    const groups = Uint32Array.from({ length: 3000 }, (_, row) => row % 2);
    const { error } = await trainTrees(table, target, config, { groups });
    expect(error!.scale).toBeGreaterThan(0.1);
    expect(error!.scale).toBeLessThan(10);
    const right = await trainTrees(table, new Float64Array(3000).fill(2), config);
    expect(right.error!.scale).toBe(0);
    expect(new Set(uncertaintiesOf(right.error!, table.values))).toEqual(new Set([0]));
  });

  it('needs rows that are watched; the preset best has it, paper not', () => {
    expect(() => checkTreesConfig({ ...config, earlyStopping: undefined }, 'mine')).toThrow(ConfigError);
    expect(() => checkTreesConfig({ ...config, earlyStopping: undefined }, 'mine')).toThrow(
      /mine: uncertainty: it learns from the rows of earlyStopping; give that too/,
    );
    expect(loadTreesConfig({ preset: 'best' }).uncertainty).toBeDefined();
    expect(loadTreesConfig({ preset: 'paper' }).uncertainty).toBeUndefined();
  });
});

describe('permutation importance', () => {
  it('is what shuffling a column does to the error', async () => {
    const own = noise(400, 5, { missing: 0.1 });
    const truth = targetOf(own);
    const { forest } = await trainTrees(own, truth, settings({ trees: 9, learningRate: 0.3 }));
    // With a sixth column, which no tree asks for.
    forest.columns = 6;
    const values = new Float32Array(400 * 6);
    for (let row = 0; row < 400; row++) values.set(own.values.subarray(row * 5, row * 5 + 5), row * 6);
    const rise = permutationImportances({ ...forest, gain: new Float32Array(6) }, values, truth, 5);
    expect(permutationImportances(forest, values, truth, 5)).toEqual(rise);
    expect(permutationImportances(forest, values, truth, 6)).not.toEqual(rise);
    expect(rise[5]).toBe(0);
    expect(rise.indexOf(Math.max(...rise))).toBe(0);
    // The same shuffle by hand: each column's values from the rows that the first column's came from.
    const order = Uint32Array.from({ length: 400 }, (_, row) => row);
    const stream = new Stream(5, 3);
    for (let i = 399; i > 0; i--) {
      const j = stream.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    const mae = (x: Float32Array): number =>
      predict(forest, x).reduce((sum, v, row) => sum + Math.abs(v - truth[row]) / 400, 0);
    for (let c = 0; c < 6; c++) {
      const shuffled = values.slice();
      for (let row = 0; row < 400; row++) shuffled[row * 6 + c] = values[order[row] * 6 + c];
      expect(rise[c]).toBeCloseTo(mae(shuffled) - mae(values), 10);
    }
  });
});
