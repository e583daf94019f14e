import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { encodeMatrix } from '../../../src/chem/encoding.ts';
import { formulaText } from '../../../src/chem/rows.ts';
import { synthesize } from '../../../src/chem/synth.ts';
import { formulaComponents, principalComponents } from '../../../src/models/map/pca.ts';
import { chooseLandmarks, loadMapSets, mostGroups } from '../../../src/models/map/sets.ts';
import { noise } from './blobs.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-map-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const table = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const a = table('a.csv', 'formula,kind\nNaCl,salt\nMgO,oxide\nNa2Cl2,salt\nXx,odd\nFe2O3,oxide\n,none\nLiF,\n');
const b = table('b.csv', 'formula\nNaCl\nKBr\nCsI\nZnS\nGaN\n');

describe('the sets of a map', () => {
  it('hold each formula once, in lowest terms, and say what they leave out', async () => {
    const files = [
      { name: 'a', file: a },
      { name: 'b', file: b },
    ];
    const made = await loadMapSets(files, { seed: 1 });
    const texts = Array.from({ length: made.rows }, (_, row) => formulaText(made.packed, row));
    expect(texts).toEqual(['NaCl', 'MgO', 'Fe2O3', 'LiF', 'NaCl', 'KBr', 'CsI', 'ZnS', 'GaN']);
    expect([...made.group]).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1]);
    expect(made.groups).toEqual([
      { name: 'a', count: 4 },
      { name: 'b', count: 5 },
    ]);
    expect(made.sets[0]).toMatchObject({ read: 7, duplicates: 1 });
    expect(Object.values(made.sets[0].unusable).reduce((x, y) => x + y)).toBe(2);
  });

  it('have a group for each label', async () => {
    const made = await loadMapSets([{ name: 'a', file: a }], { seed: 1, labelColumn: 'kind' });
    expect(made.groups).toEqual([
      { name: 'salt', count: 1 },
      { name: 'oxide', count: 2 },
      { name: 'no label', count: 1 },
    ]);
    const two = [
      { name: 'a', file: a },
      { name: 'again', file: a },
    ];
    const both = await loadMapSets(two, { seed: 1, labelColumn: 'Kind' });
    expect(both.groups.map(({ name }) => name)).toContain('again: oxide');
  });

  it('are chosen at random, the same for the same seed', async () => {
    const made = (seed: number) => loadMapSets([{ name: 'b', file: b, count: 3 }], { seed });
    expect((await made(1)).rows).toBe(3);
    expect((await made(1)).packed).toEqual((await made(1)).packed);
    const seeds = await Promise.all([1, 2, 3, 4].map(async (seed) => (await made(seed)).packed.join()));
    expect(new Set(seeds).size).toBeGreaterThan(1);
    expect((await loadMapSets([{ name: 'b', file: b }], { seed: 1, points: 2 })).rows).toBe(2);
  });

  it.each<[string, object, RegExp]>([
    ['a missing file', { file: join(folder, 'none.csv') }, /none\.csv: no such file/],
    ['more than there are', { file: b, count: 6 }, /--set x: 6 formulas are wanted, .*b\.csv has 5 different ones/],
    ['an unknown label column', { file: a, labelColumn: 'sort' }, /has no column "sort" \(--label-column\); there are/],
    ['nothing that fits', { file: table('odd.csv', 'formula\nXx\nYy\n') }, /no formula fits 85 × 8/],
    [
      'too many labels',
      {
        file: table(
          'many.csv',
          `formula,kind\n${Array.from({ length: 20 }, (_, i) => `Na${1 + Math.floor(i / 8)}Cl${1 + (i % 8)},${i}`).join('\n')}`,
        ),
        labelColumn: 'kind',
      },
      new RegExp(`over ${mostGroups} groups`),
    ],
  ])('refuse %s', async (_, { labelColumn, ...set }: { labelColumn?: string; file?: string }, message) => {
    const loaded = loadMapSets([{ name: 'x', file: '', ...set }], { seed: 1, labelColumn });
    await expect(loaded).rejects.toThrow(message);
    await expect(loaded).rejects.toMatchObject({ userMistake: true });
  });

  it('give every group equal shares of the landmarks, and small ones all', () => {
    const group = Uint8Array.from({ length: 100 }, (_, i) => (i < 5 ? 0 : i < 40 ? 1 : 2));
    const groups = [5, 35, 60].map((count, g) => ({ name: `${g}`, count }));
    const sets = { packed: new Uint32Array(400), rows: 100, group, groups, sets: [] };
    const chosen = chooseLandmarks(sets, 45, 1);
    expect(groups.map((_, g) => chosen.filter((row) => group[row] === g).length)).toEqual([5, 20, 20]);
    expect(chosen).toEqual(chooseLandmarks(sets, 45, 1));
    expect([...chosen]).toEqual([...new Set(chosen)].sort((x, y) => x - y));
    expect(chooseLandmarks(sets, 100, 1)).toHaveLength(100);
  });
});

describe('principal components', () => {
  it('hold the variance, falling, and are not correlated', () => {
    const { features, explained } = principalComponents(noise(200, 6), 6);
    expect(explained.reduce((x, y) => x + y)).toBeCloseTo(1, 12);
    expect(explained).toEqual([...explained].sort((x, y) => y - x));
    for (let k = 0; k < 6; k++) {
      for (let l = 0; l <= k; l++) {
        let sum = 0;
        for (let i = 0; i < 200; i++) sum += features.values[6 * i + k] * features.values[6 * i + l];
        if (l < k) expect(Math.abs(sum / 200)).toBeLessThan(1e-6);
      }
    }
  });

  it('of formulas are those of their matrices', () => {
    const all = synthesize();
    const few = { packed: all.packed.slice(0, 4 * 150), rows: 150 };
    const values = new Float32Array(150 * 680);
    for (let row = 0; row < 150; row++) encodeMatrix(few.packed, row, values, row * 680);
    const dense = principalComponents({ points: 150, dims: 680, values }, 4);
    const sparse = formulaComponents(few, 4);
    expect(sparse.explained.map((v) => v.toFixed(9))).toEqual(dense.explained.map((v) => v.toFixed(9)));
    for (let m = 0; m < 600; m++) expect(sparse.features.values[m]).toBeCloseTo(dense.features.values[m], 5);
  });

  it('of equal rows are all 0, and there are no more than dimensions', () => {
    const { features, explained } = principalComponents(
      { points: 5, dims: 2, values: new Float32Array(10).fill(3) },
      9,
    );
    expect(features.dims).toBe(2);
    expect([...features.values].map(Math.abs)).toEqual(new Array(10).fill(0));
    expect(explained).toEqual([0, 0]);
  });

  it('keep distances where all are kept', () => {
    const raw = noise(30, 5);
    const { features } = principalComponents(raw, 5);
    const gap = ({ values }: { values: Float32Array }, i: number): number =>
      Math.hypot(...Array.from({ length: 5 }, (_, c) => values[c] - values[5 * i + c]));
    for (let i = 1; i < 30; i++) expect(gap(features, i)).toBeCloseTo(gap(raw, i), 5);
  });
});
