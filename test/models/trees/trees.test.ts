/** Boosted trees against brute force, other libraries' figures and themselves. */
import { describe, expect, it } from 'vitest';
import { ConfigError, DataError } from '../../../src/errors.ts';
import { between, binTable, codeOf, cutsOf, missingBin } from '../../../src/models/trees/bins.ts';
import {
  checkTreesConfig,
  loadTreesConfig,
  type TreesConfig,
  treesPresetNames,
} from '../../../src/models/trees/config.ts';
import { depths, importances, predict } from '../../../src/models/trees/forest.ts';
import { referenceTree, referenceValue } from '../../../src/models/trees/reference.ts';
import { gradientBits, median, setAside, trainTrees } from '../../../src/models/trees/train.ts';
import golden from '../../golden/trees/vectors.json' with { type: 'json' };
import { noise, settings, targetOf } from './made.ts';

const all = (rows: number): number[] => [...Array(rows).keys()];

describe('bins', () => {
  it('part any two neighbouring values where they are few', () => {
    const { cuts, low, high } = cutsOf(Float32Array.of(1, 1, 2, 4, 4), 255);
    expect([[...cuts], [...low], [...high]]).toEqual([
      [1.5, 3],
      [1, 2, 4],
      [1, 2, 4],
    ]);
    expect([1, 1.5, 1.6, 3, 4, 9, -9, Number.NaN].map((v) => codeOf(cuts, v))).toEqual([
      0,
      0,
      1,
      1,
      2,
      2,
      0,
      missingBin,
    ]);
  });

  it('hold even shares where they are many, and a value of many rows alone', () => {
    const { cuts } = cutsOf(
      Float32Array.from({ length: 1000 }, (_, i) => i),
      10,
    );
    expect([...cuts]).toEqual([99.5, 199.5, 299.5, 399.5, 499.5, 599.5, 699.5, 799.5, 899.5]);
    const skewed = Float32Array.from({ length: 1000 }, (_, i) => Math.max(0, i - 700));
    const made = cutsOf(skewed, 4);
    expect(made.cuts[0]).toBe(0.5);
    expect(made.cuts.length).toBe(3);
  });

  it.each([1, 2, 3, 17, 255])('cuts ascend, and every bin holds rows: %i at most', (most) => {
    for (const levels of [0, 1, 2, 30]) {
      const sorted = noise(400, 1, { levels }).values.sort();
      const { cuts, low, high } = cutsOf(sorted, most);
      expect(low.length).toBeLessThanOrEqual(most);
      expect(cuts.length).toBe(low.length - 1);
      const seen = new Set(Array.from(sorted, (v) => codeOf(cuts, v)));
      expect(seen.size).toBe(low.length);
      for (let i = 0; i < cuts.length; i++) expect(high[i] <= cuts[i] && cuts[i] < low[i + 1]).toBe(true);
    }
  });

  it('part neighbouring floats, and opposite giants', () => {
    const next = Math.fround(1 + 2 ** -23);
    expect(between(1, next)).toBe(1);
    expect(between(-3e38, 3e38)).toBe(0);
    expect(cutsOf(Float32Array.of(-0, 0), 9).cuts.length).toBe(0);
  });

  it('a column of missing values has none', () => {
    const binned = binTable({ rows: 2, columns: 1, values: Float32Array.of(Number.NaN, Number.NaN) }, 256);
    expect(binned.columns[0].low.length).toBe(0);
    expect([...binned.codes]).toEqual([255, 255]);
  });
});

describe('a tree', () => {
  // Of no more than 256 rows, sorted columns grow it; of more, histograms, and leaf by leaf always histograms.
  it.each<[string, number, Partial<TreesConfig>]>([
    ['sorted columns', 120, {}],
    ['leaf by leaf', 120, { growth: { kind: 'leaf', leaves: 60_000, depth: 4 } }],
    ['histograms', 700, { growth: { kind: 'depth', depth: 4 } }],
    ['leaves of 9', 120, { leafRows: 9 }],
    ['leaves of 9, histograms', 400, { leafRows: 9 }],
    ['λ', 120, { l2: 2.5 }],
    ['λ, histograms', 400, { l2: 2.5 }],
    ['two rows', 2, {}],
    ['no depth', 50, { growth: { kind: 'depth', depth: 0 } }],
  ])('is the one of brute force: %s', async (_, rows, own) => {
    for (const missing of [0, 0.2]) {
      const table = noise(rows, 4, { missing, levels: rows > 256 ? 60 : 0 });
      const target = targetOf(table);
      const config = settings(own);
      const { forest } = await trainTrees(table, target, config);
      const depth = config.growth.depth!;
      const mean = Math.fround(target.reduce((sum, v) => sum + v, 0) / rows);
      const residual = target.map((v) => v - mean);
      const tree = referenceTree(table, residual, all(rows), { depth, leafRows: config.leafRows, l2: config.l2 });
      const found = predict(forest, table.values);
      for (let row = 0; row < rows; row++) {
        const wanted = mean + referenceValue(tree, table, row);
        // A leaf is rounded to float32; sums in f64 are a thousandth of that.
        expect(Math.abs(found[row] - wanted)).toBeLessThan(
          1.001 * 2 ** -24 * (Math.abs(wanted) + Math.abs(mean) + 1e-3),
        );
      }
      expect(depths(forest)[0]).toBeLessThanOrEqual(depth);
    }
  });

  it('is the one of scikit-learn and LightGBM', async () => {
    for (const { name, rows, columns, x, y, settings: own, predicted } of golden) {
      const table = { rows, columns, values: Float32Array.from(x as (number | null)[], (v) => v ?? Number.NaN) };
      const config = checkTreesConfig({ ...settings(), ...own }, name);
      const { forest } = await trainTrees(table, Float64Array.from(y), config);
      const found = predict(forest, table.values);
      // As many float32 leaves as trees.
      const allowed = config.trees * 2 ** -22 * Math.max(...y.map(Math.abs));
      predicted.forEach((v, row) => {
        expect(Math.abs(found[row] - v), `${name}, row ${row}`).toBeLessThan(allowed);
      });
    }
  });

  it('leaf by leaf takes the largest gain first', async () => {
    const table = noise(600, 5, { missing: 0.1 });
    const target = targetOf(table);
    let before = Number.POSITIVE_INFINITY;
    for (const leaves of [1, 2, 3, 5, 9, 30]) {
      const { forest, history } = await trainTrees(table, target, settings({ growth: { kind: 'leaf', leaves } }));
      expect(forest.split.length).toBe(2 * leaves - 1);
      expect(history[0].loss).toBeLessThan(before);
      before = history[0].loss;
    }
    // Two leaves are the tree of depth 1.
    const [two, deep] = [
      await trainTrees(table, target, settings({ growth: { kind: 'leaf', leaves: 2 } })),
      await trainTrees(table, target, settings({ growth: { kind: 'depth', depth: 1 } })),
    ];
    expect(two.forest).toEqual(deep.forest);
  });

  it('missing values go where they are better off, unseen ones with the many', async () => {
    const values = Float32Array.of(1, 2, 3, 4, Number.NaN, Number.NaN);
    const table = { rows: 6, columns: 1, values };
    const one = settings({ growth: { kind: 'depth', depth: 1 } });
    for (const [own, expected] of [
      [
        [0, 0, 9, 9, 0, 0],
        [0, 9, 0],
      ],
      [
        [0, 0, 9, 9, 9, 9],
        [0, 9, 9],
      ],
      [
        [1, 1, 1, 1, 9, 9],
        [1, 1, 9],
      ],
    ]) {
      const { forest } = await trainTrees(table, Float64Array.from(own), one);
      const found = predict(forest, Float32Array.of(1.5, 4, Number.NaN));
      found.forEach((v, i) => {
        expect(v).toBeCloseTo(expected[i], 5);
      });
    }
    const whole = { rows: 5, columns: 1, values: Float32Array.of(1, 2, 7, 8, 9) };
    const { forest } = await trainTrees(whole, Float64Array.of(0, 0, 6, 6, 6), one);
    expect(predict(forest, Float32Array.of(Number.NaN))[0]).toBeCloseTo(6, 5);
  });

  it('of the absolute loss has medians for leaves', async () => {
    const table = { rows: 6, columns: 1, values: Float32Array.of(0, 0, 0, 1, 1, 1) };
    const target = Float64Array.of(0, 1, 50, 10, 11, 99);
    const { forest } = await trainTrees(table, target, settings({ loss: 'absolute' }));
    expect(forest.base).toBe(10.5);
    expect([...predict(forest, table.values)]).toEqual([1, 1, 1, 11, 11, 11]);
    expect(median(Float64Array.of(3, 1, 2, 10))).toBe(2.5);
  });
});

describe('boosting', () => {
  const table = noise(900, 8, { missing: 0.05 });
  const target = targetOf(table);
  const many = settings({
    trees: 12,
    learningRate: 0.3,
    rowShare: 0.5,
    columnShare: 0.6,
    growth: { kind: 'depth', depth: 6 },
  });

  it('gives the same bits again, others with another seed', async () => {
    const first = await trainTrees(table, target, many);
    expect(await trainTrees(table, target, many)).toEqual(first);
    const other = await trainTrees(table, target, { ...many, seed: 2 });
    expect(other.forest.value).not.toEqual(first.forest.value);
  });

  it.each<Partial<TreesConfig>>([{}, { loss: 'absolute' }, { growth: { kind: 'leaf', leaves: 12 } }])(
    'its own loss is that of what it predicts: %o',
    async (own) => {
      const config = { ...many, ...own };
      const { forest, history } = await trainTrees(table, target, config);
      for (const trees of [1, 5, 12]) {
        const found = predict(forest, table.values, trees);
        const loss = (d: number): number => (config.loss === 'absolute' ? Math.abs(d) : d * d);
        const mean = found.reduce((sum, v, row) => sum + loss(v - target[row]), 0) / table.rows;
        expect(mean).toBe(history[trees - 1].loss);
      }
      expect(history[11].loss).toBeLessThan(history[0].loss);
    },
  );

  it('draws so many rows and columns for each tree', async () => {
    const { forest } = await trainTrees(table, target, { ...many, columnShare: 0.25 });
    for (let tree = 0; tree < 12; tree++) {
      const own = forest.split.slice(forest.starts[tree], forest.starts[tree + 1]).filter((s) => s >= 0);
      expect(new Set([...own].map((s) => s >> 1)).size).toBeLessThanOrEqual(2);
    }
    expect(importances(forest).splits.filter((n) => n > 0).length).toBeGreaterThan(4);
  });

  it('stops early by rows that it does not learn from, at the best of its trees', async () => {
    const config = { ...many, trees: 400, earlyStopping: { share: 0.2, patience: 5 } };
    const { forest, history } = await trainTrees(table, target, config);
    const losses = history.map(({ validation }) => validation!);
    const best = losses.indexOf(Math.min(...losses));
    expect(forest.starts.length - 1).toBe(best + 1);
    expect(losses.length).toBe(best + 6);
    const watched = setAside(900, 0.2, 1);
    expect(watched.reduce((sum, v) => sum + v, 0)).toBe(180);
    // Neither their targets nor their features reach the trees.
    const changed = target.map((v, row) => (watched[row] ? v + 1e-9 : v));
    expect((await trainTrees(table, changed, config)).forest).toEqual(forest);
  });

  it('keeps groups together when rows are set aside', () => {
    const groups = Uint32Array.from({ length: 300 }, (_, row) => (row * 7) % 40);
    const aside = setAside(300, 0.3, 5, groups);
    const byGroup = Array.from(
      { length: 40 },
      (_, g) =>
        new Set(
          all(300)
            .filter((r) => groups[r] === g)
            .map((r) => aside[r]),
        ).size,
    );
    expect(byGroup.every((n) => n === 1)).toBe(true);
    expect(new Set(aside).size).toBe(2);
    expect(setAside(1, 0.5, 1)).toEqual(Uint8Array.of(0));
  });

  it('finds the column that matters', async () => {
    const { forest } = await trainTrees(table, target, many);
    const { gain, splits } = importances(forest);
    expect(gain.indexOf(Math.max(...gain))).toBe(0);
    expect(gain.reduce((sum, g) => sum + g, 0)).toBeCloseTo(1, 12);
    expect(splits.reduce((sum, n) => sum + n, 0)).toBe((forest.split.length - 12) / 2);
  });

  it('learns nothing from nothing: one row, constant columns, a constant target', async () => {
    const one = await trainTrees(
      { rows: 1, columns: 2, values: Float32Array.of(1, Number.NaN) },
      Float64Array.of(0.1),
      many,
    );
    expect([...predict(one.forest, Float32Array.of(5, 5))]).toEqual(
      [Math.fround(0.1) + Math.fround(0.3 * (0.1 - Math.fround(0.1)))].map((v) => expect.closeTo(v, 7)),
    );
    const constant = { rows: 50, columns: 2, values: new Float32Array(100).fill(3) };
    const { forest } = await trainTrees(constant, targetOf(noise(50, 1)), settings({ trees: 3 }));
    expect([...forest.split]).toEqual([-1, -1, -1]);
    const flat = await trainTrees(table, new Float64Array(900).fill(2), many);
    expect(flat.history).toHaveLength(1);
    expect([...predict(flat.forest, table.values.slice(0, 8))]).toEqual([2]);
  });

  it('is no worse for values of any size', async () => {
    const large = { ...table, values: table.values.map((v) => v * 2 ** 100) };
    const grown = target.map((v) => v * 2 ** 60);
    const [a, b] = [await trainTrees(table, target, many), await trainTrees(large, grown, many)];
    expect(b.forest.split).toEqual(a.forest.split);
    expect(b.history[11].loss).toBeCloseTo(a.history[11].loss * 2 ** 120, -30);
  });

  it('splits of a second of rows take half the gradient bits of the device’s sums', () => {
    for (const rows of [1, 2, 255, 65_535, 65_536, 10 ** 6, 10 ** 8]) {
      const bits = gradientBits(rows);
      expect(bits % 2).toBe(0);
      expect(rows * 2 ** (bits / 2)).toBeLessThan(2 ** 31);
      expect(bits).toBeLessThanOrEqual(30);
    }
  });
});

describe('what cannot be learned from is refused', () => {
  const table = noise(5, 2);
  it.each<[string, () => Promise<unknown>, RegExp]>([
    [
      'a NaN target',
      () => trainTrees(table, Float64Array.of(1, 2, Number.NaN, 4, 5), settings()),
      /target: row 3 is NaN; leave the row out/,
    ],
    [
      'an infinite target',
      () => trainTrees(table, Float64Array.of(1, 2, 3, 4, Number.POSITIVE_INFINITY), settings()),
      /target: row 5 is Infinity/,
    ],
    ['a short target', () => trainTrees(table, Float64Array.of(1), settings()), /target: 1 values for 5 rows/],
    [
      'sizes that disagree',
      () => trainTrees({ ...table, rows: 4 }, new Float64Array(4), settings()),
      /10 values for \[4, 2\]/,
    ],
    [
      'no rows',
      () => trainTrees({ rows: 0, columns: 2, values: new Float32Array(0) }, new Float64Array(0), settings()),
      /nothing to learn/,
    ],
    [
      'an infinite feature',
      () =>
        trainTrees(
          { ...table, values: table.values.with(3, Number.NEGATIVE_INFINITY) },
          new Float64Array(5),
          settings(),
          { names: ['a', 'b'] },
        ),
      /row 2, column b is -Infinity/,
    ],
  ])('%s', async (_, work, message) => {
    await expect(work()).rejects.toThrow(DataError);
    await expect(work()).rejects.toThrow(message);
  });

  it('rows of another width', async () => {
    const { forest } = await trainTrees(table, targetOf(table), settings());
    expect(() => predict(forest, new Float32Array(3))).toThrow(/3 values for rows of 2 columns/);
  });

  it('early stopping with one group', async () => {
    const config = settings({ earlyStopping: { share: 0.5, patience: 1 } });
    const groups = new Uint32Array(5);
    await expect(trainTrees(table, targetOf(table), config, { groups })).rejects.toThrow(ConfigError);
  });
});

describe('settings', () => {
  it.each(treesPresetNames())('preset %s is whole', (preset) => {
    expect(loadTreesConfig({ preset }).model).toBe('trees');
  });
  it('the paper’s are there', () => {
    expect(loadTreesConfig({ preset: 'paper' })).toMatchObject({
      learningRate: 0.06,
      growth: { kind: 'depth', depth: 20 },
      rowShare: 0.4,
      trees: 100,
    });
  });
  it.each([
    [{ learningRat: 1 }, /learningRat is no setting \(did you mean learningRate\?\)/],
    [{ bins: 257 }, /bins/],
    [{ growth: { kind: 'leaf', leaves: 0 } }, /leaves/],
    [{ rowShare: 0 }, /rowShare/],
  ])('%o is refused', (overrides, message) => {
    expect(() => loadTreesConfig({ preset: 'paper', overrides })).toThrow(ConfigError);
    expect(() => loadTreesConfig({ preset: 'paper', overrides })).toThrow(message);
  });
  it('an unknown preset names the nearest', () => {
    expect(() => loadTreesConfig({ preset: 'papr' })).toThrow(/preset papr: there is none \(did you mean paper\?\)/);
  });
});
