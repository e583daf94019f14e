import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { frequencyFormulas, independentFormulas, scaleHistogram, uniformFormulas } from '../../src/chem/baseline.ts';
import { loadFormulas, prepareData, splitRows } from '../../src/chem/dataset.ts';
import { totalVariation } from '../../src/chem/distributions.ts';
import {
  countByElements,
  type PackedFormulas,
  PackedSet,
  packFormula,
  rowWords,
  takeRows,
} from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { elementOccurrences, evaluateFormulas, validityRates } from '../../src/chem/metrics.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { sharedData } from './shared-data.ts';

function formulas(...texts: string[]): PackedFormulas {
  const packed = new Uint32Array(texts.length * rowWords);
  for (const [i, text] of texts.entries()) packed.set(packFormula(parseFormula(text)), i * rowWords);
  return { packed, rows: texts.length };
}

describe('baselines', () => {
  const training = synthesize({ count: 5000 });

  test('uniform: the numbers of elements asked for, and the published rates', () => {
    // CN and EN per number of elements, in percent; from 10,000 formulas each, so standard error half a point.
    const published: [number, number, number][] = [
      [2, 10.6, 7.3],
      [3, 29.5, 18.1],
      [4, 43.6, 25.2],
      [5, 50.7, 29.5],
    ];
    for (const [n, neutral, balanced] of published) {
      const histogram = new Array<number>(9).fill(0);
      histogram[n] = 40_000;
      const drawn = uniformFormulas(histogram, 1);
      expect([...countByElements(drawn)]).toEqual(histogram);
      const rates = validityRates(drawn);
      expect(Math.abs(rates.chargeNeutral! * 100 - neutral)).toBeLessThan(1.5);
      expect(Math.abs(rates.electronegativityBalanced! * 100 - balanced)).toBeLessThan(1.5);
    }
  });

  test('all are reproducible', () => {
    const histogram = [0, 1, 20, 30, 10, 5, 1, 1, 1];
    for (const draw of [
      (seed: number) => uniformFormulas(histogram, seed),
      (seed: number) => frequencyFormulas(training, histogram, seed),
      (seed: number) => independentFormulas(training, 50, seed),
    ]) {
      expect([...draw(1).packed]).toEqual([...draw(1).packed]);
      expect([...draw(1).packed]).not.toEqual([...draw(2).packed]);
    }
  });

  test('frequencies: training elements and counts only, matched in number of elements', () => {
    const few = formulas('NaCl', 'NaCl', 'Fe2O3', 'NaFeO2');
    const drawn = frequencyFormulas(few, [0, 0, 500, 500, 0, 0, 0, 0, 0], 1, { reduce: false });
    expect([...countByElements(drawn)]).toEqual([0, 0, 500, 500, 0, 0, 0, 0, 0]);
    const allowed = new Set(['Na1', 'Cl1', 'Fe1', 'Fe2', 'O2', 'O3']);
    const seen = elementOccurrences(drawn);
    expect(seen.filter((count) => count > 0).length).toBe(4);
    expect(allowed.size).toBe(6);
    // Sizes that training's elements cannot make are left out.
    expect(frequencyFormulas(few, [0, 0, 0, 0, 0, 10, 0, 0, 0], 1).rows).toBe(0);
    expect(independentFormulas(formulas('Na'), 5, 1).rows).toBe(0);
  });

  test('independent cells reproduce the elements, and frequencies the sizes', () => {
    const independent = independentFormulas(training, 20_000, 1);
    expect(independent.rows).toBe(20_000);
    expect(totalVariation(elementOccurrences(independent), elementOccurrences(training))).toBeLessThan(0.05);
    const sizes = scaleHistogram(countByElements(training), 20_000);
    expect(sizes.reduce((a, b) => a + b)).toBe(20_000);
    const matched = frequencyFormulas(training, sizes, 1);
    expect(totalVariation(countByElements(matched), countByElements(training))).toBeLessThan(1e-3);
  });

  test('scaleHistogram adds up', () => {
    expect(scaleHistogram([0, 0, 1, 1, 1], 100)).toEqual([0, 0, 34, 33, 33, 0, 0, 0, 0].slice(0, 9));
    expect(scaleHistogram([0, 0, 0], 5).reduce((a, b) => a + b)).toBe(0);
  });
});

describe('evaluateFormulas', () => {
  test('small enough to count by hand', () => {
    const training = formulas('NaCl', 'Fe2O3', 'CuAu', 'KMnO2');
    const leaveOut = formulas('MgO', 'CaTiO3');
    const generated = formulas('Na2Cl2', 'NaCl', 'MgO', 'MgO', 'Fe3O4', 'LiFeO2', 'LiFe');
    const other = formulas('LiFeO2', 'NaCl');
    const result = evaluateFormulas({ generated, training, leaveOut, others: { other }, seed: 1 });
    // Different: NaCl, MgO, Fe3O4, LiFeO2, LiFe. Not neutral: Fe3O4. LiFe is Li+1 Fe-1.
    expect(result).toMatchObject({
      rule: 'paper',
      reduced: true,
      generated: 7,
      unique: 5,
      novel: 3,
      recoveredTraining: 1 / 4,
      recoveredLeaveOut: 1 / 2,
      confirmed: { other: 1 },
      training: { count: 4, unique: 4, chargeNeutral: 1 },
    });
    expect(result.uniqueness).toBeCloseTo(5 / 7, 12);
    expect(result.novelty).toBeCloseTo(3 / 5, 12);
    expect(validityRates(formulas('LiFe')).chargeNeutral).toBe(1);
    expect(result.chargeNeutral).toBeCloseTo(6 / 7, 12);
    expect(result.uniqueChargeNeutral).toBeCloseTo(4 / 5, 12);
    expect(Object.keys(result.byElementCount)).toEqual(['2', '3']);
    expect(result.byElementCount['2'].generated).toMatchObject({ count: 6, chargeNeutral: 5 / 6 });
    expect(result.byElementCount['3']).toMatchObject({
      generated: { count: 1, chargeNeutral: 1, electronegativityBalanced: 1 },
      training: { count: 1 },
      uniform: { count: 1 },
      recoveredTraining: 0,
      recoveredLeaveOut: 0,
    });
    expect(result.byElementCount['2'].recoveredTraining).toBeCloseTo(1 / 3, 12);
    expect(result.byElementCount['2'].recoveredLeaveOut).toBe(1);
    // Sizes 6/7 and 1/7 against 3/4 and 1/4.
    expect(result.totalVariation.elementCount).toBeCloseTo(6 / 7 - 3 / 4, 12);
    // Rates of sizes 2 and 3, weighted 3 to 1 as in training.
    expect(result.reweighted.chargeNeutral).toBeCloseTo((3 * (5 / 6) + 1) / 4, 12);
    expect(result.reweighted.covered).toBe(1);
    expect(result.baselines.uniform.count).toBe(7);
    expect(result.baselines.frequency.count).toBe(7);
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
    const asDecoded = evaluateFormulas({ generated, training, seed: 1, reduce: false });
    expect(asDecoded).toMatchObject({ reduced: false, unique: 6, recoveredLeaveOut: null, leaveOut: null });
    expect(asDecoded.chargeNeutral).toBeCloseTo(5 / 7, 12);
  });

  test('training judged against itself is perfect', () => {
    const training = synthesize({ count: 3000 });
    const result = evaluateFormulas({ generated: training, training, seed: 1 });
    expect(result).toMatchObject({
      unique: 3000,
      novel: 0,
      recoveredTraining: 1,
      chargeNeutral: 1,
      electronegativityBalanced: 1,
    });
    expect(result.totalVariation).toEqual({ elementCount: 0, elements: 0, pairs: 0, stoichiometries: 0 });
    expect(result.baselines.frequency.electronegativityBalanced!).toBeLessThan(0.8);
    expect(result.baselines.uniform.electronegativityBalanced!).toBeLessThan(0.3);
    expect(result.baselines.frequency.recoveredTraining).toBeLessThan(0.3);
  });

  test('does not touch its input, and refuses empty sets', () => {
    const generated = formulas('Na2Cl2');
    const before = [...generated.packed];
    evaluateFormulas({ generated, training: formulas('NaCl'), seed: 1 });
    expect([...generated.packed]).toEqual(before);
    const empty = { packed: new Uint32Array(0), rows: 0 };
    expect(() => evaluateFormulas({ generated: empty, training: generated, seed: 1 })).toThrow(/nothing was generated/);
    expect(() => evaluateFormulas({ generated, training: empty, seed: 1 })).toThrow(/training set is empty/);
  });

  // Not under coverage, which counts every turn of a loop.
  test.skipIf(process.env.MATGAN_CHILD_COVERAGE)('a quarter of a million rows take seconds', () => {
    const training = synthesize();
    const generated = independentFormulas(training, 250_000, 1);
    // Of the processor, not of the clock: other tests run beside this one.
    const before = process.cpuUsage();
    const result = evaluateFormulas({ generated, training, seed: 1 });
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(20_000);
    expect(result.generated).toBe(250_000);
    expect(result.unique).toBe(PackedSet.of(generated).size);
  });
});

describe('the bar of the real data', () => {
  const path = sharedData('icsd_in_mp.csv.gz');
  test.skipIf(!path)('icsd_in_mp.csv.gz: generators without a network reach the known rates', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'matgan-test-'));
    try {
      await prepareData(path!, { rules: 'icsd', out: join(folder, 'icsd.parquet') });
      const { packed, rows } = await loadFormulas(join(folder, 'icsd.parquet'));
      const { train } = splitRows(rows, 0.1, 1);
      const training = { packed: takeRows(packed, train), rows: train.length };
      const percent = (drawn: PackedFormulas): number[] => {
        const { chargeNeutral, electronegativityBalanced } = validityRates(drawn);
        return [chargeNeutral! * 100, electronegativityBalanced! * 100];
      };
      // As decoded, nothing divided: 67.6/55.8 and 64.7/52.6 from one draw of 20,000 each.
      const [ni, bi] = percent(independentFormulas(training, 50_000, 1, { reduce: false }));
      const sizes = scaleHistogram(countByElements(training), 50_000);
      const [nf, bf] = percent(frequencyFormulas(training, sizes, 1, { reduce: false }));
      for (const [ours, known] of [
        [ni, 67.6],
        [bi, 55.8],
        [nf, 64.7],
        [bf, 52.6],
      ]) {
        expect(Math.abs(ours - known)).toBeLessThan(1.5);
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
