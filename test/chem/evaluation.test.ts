/** Every figure of an evaluation against what a hand, a definition or a slower way gives. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { frequencyFormulas, independentFormulas, uniformFormulas } from '../../src/chem/baseline.ts';
import { wilson } from '../../src/chem/confidence.ts';
import { loadSamples } from '../../src/chem/dataset.ts';
import { Distributions, patternShares } from '../../src/chem/distributions.ts';
import { type PackedFormulas, PackedSet, packFormula, rowWords, unpackRow } from '../../src/chem/encoding.ts';
import { countAll, countSome, enumeration, reducedFormulas } from '../../src/chem/enumeration.ts';
import { gcd, parseFormula } from '../../src/chem/formula.ts';
import { curvePoints, distributionsOf, evaluateFormulas } from '../../src/chem/metrics.ts';
import { NearestIndex, summarise } from '../../src/chem/nearest.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { DataError } from '../../src/errors.ts';
import { Stages, stagesName } from '../../src/report/stages.ts';
import { inWords } from '../../src/report/words.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-evaluation-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const pack = (...texts: string[]): PackedFormulas => {
  const packed = new Uint32Array(texts.length * rowWords);
  for (const [i, text] of texts.entries()) packed.set(packFormula(parseFormula(text)), i * rowWords);
  return { packed, rows: texts.length };
};
const joined = (...parts: PackedFormulas[]): PackedFormulas => ({
  packed: Uint32Array.from(parts.flatMap(({ packed, rows }) => [...packed.subarray(0, rows * rowWords)])),
  rows: parts.reduce((total, { rows }) => total + rows, 0),
});

describe('intervals', () => {
  test('Wilson: published values, and the ends', () => {
    // Of ten: Brown, Cai and DasGupta (2001) and any statistics package.
    expect(wilson(5, 10)!.map((v) => Number(v.toFixed(4)))).toEqual([0.2366, 0.7634]);
    expect(wilson(0, 10)!.map((v) => Number(v.toFixed(4)))).toEqual([0, 0.2775]);
    expect(wilson(10, 10)!.map((v) => Number(v.toFixed(4)))).toEqual([0.7225, 1]);
    expect(wilson(1, 100)!.map((v) => Number(v.toFixed(4)))).toEqual([0.0018, 0.0545]);
    expect(wilson(0, 0)).toBe(null);
  });
});

describe('enumeration', () => {
  test('how many there are: by listing them', () => {
    let [two, three] = [0, 0];
    for (let a = 1; a <= 8; a++) {
      for (let b = 1; b <= 8; b++) {
        if (gcd(a, b) === 1) two++;
        for (let c = 1; c <= 8; c++) if (gcd(gcd(a, b), c) === 1) three++;
      }
    }
    expect(reducedFormulas(1)).toBe(85);
    expect(reducedFormulas(2)).toBe(3570 * two);
    expect(reducedFormulas(3)).toBe(98_770 * three);
    expect([0, 9].map(enumeration)).toEqual([null, null]);
    expect(enumeration(1)).toMatchObject({ chargeNeutral: 0, exact: true });
  });

  test('binaries: all of them judged again', () => {
    const again = countAll(2);
    const all = enumeration(2)!;
    expect(again).toEqual({
      judged: all.formulas,
      neutral: Math.round(all.chargeNeutral * all.judged),
      balanced: Math.round(all.electronegativityBalanced * all.judged),
    });
    expect(all.exact).toBe(true);
    expect(all.intervals.chargeNeutral).toEqual([all.chargeNeutral, all.chargeNeutral]);
  });

  test.each([3, 4, 5, 6, 7, 8])('%i elements: what a sample gives is what is kept', (n) => {
    const rows = 20_000;
    const some = countSome(n, rows, 99);
    const all = enumeration(n)!;
    expect(all.exact).toBe(n === 3);
    // Three standard errors are half a point and more.
    expect(Math.abs(some.neutral / rows - all.chargeNeutral)).toBeLessThan(3 * Math.sqrt(0.25 / rows));
    expect(Math.abs(some.balanced / rows - all.electronegativityBalanced)).toBeLessThan(3 * Math.sqrt(0.25 / rows));
  });

  test('the known rates, from ten thousand formulas each', () => {
    const known: [number, number, number][] = [
      [2, 10.6, 7.3],
      [3, 29.5, 18.1],
      [4, 43.6, 25.2],
      [5, 50.7, 29.5],
    ];
    for (const [n, neutral, balanced] of known) {
      const all = enumeration(n)!;
      expect(Math.abs(100 * all.chargeNeutral - neutral)).toBeLessThan(1.5);
      expect(Math.abs(100 * all.electronegativityBalanced - balanced)).toBeLessThan(1.5);
    }
  });
});

describe('distributions', () => {
  test('stoichiometries are sorted counts', () => {
    const spread = distributionsOf(pack('MgAl2O4', 'CaTiO3', 'SrTiO3', 'Na8Cl', 'LiNaKMgCaTiOF'));
    const shares = patternShares(spread, new Distributions());
    expect(shares[0]).toEqual({ name: 'ABC3', generated: 0.4, training: 0 });
    expect(shares.slice(1).map(({ generated }) => generated)).toEqual([0.2, 0.2, 0.2]);
    expect(new Set(shares.map(({ name }) => name))).toEqual(new Set(['ABC3', 'AB2C4', 'AB8', 'ABCDEFGH']));
  });

  test('total variation of four kinds, by hand', () => {
    const a = distributionsOf(pack('NaCl', 'MgO'));
    const b = distributionsOf(pack('NaCl', 'CaTiO3'));
    // Sizes: 1 against (1/2, 1/2). Elements: Na, Cl and O are common, 1/4 against 1/5 each. Pairs: NaCl 1/2 against 1/4. AB: 1 against 1/2.
    expect(a.distance(b)).toEqual({
      elementCount: 0.5,
      elements: expect.closeTo(0.4, 12),
      pairs: expect.closeTo(0.75, 12),
      stoichiometries: 0.5,
    });
  });
});

describe('nearest training formula', () => {
  test('distances by hand', () => {
    const index = new NearestIndex(pack('NaCl', 'FeO', 'SrTiO3'));
    const to = (text: string) => index.nearest(pack(text).packed, 0);
    expect(to('NaCl')).toEqual({ row: 0, distance: 0 });
    expect(to('KCl')).toEqual({ row: 0, distance: 0.5 });
    // .4/.6 against .5/.5.
    expect(to('Fe2O3').row).toBe(1);
    expect(to('Fe2O3').distance).toBeCloseTo(0.1, 6);
    expect(to('BaTiO3').row).toBe(2);
    expect(to('BaTiO3').distance).toBeCloseTo(0.2, 6);
    expect(to('CsI')).toEqual({ row: -1, distance: 1 });
    expect(new NearestIndex(pack()).nearest(pack('NaCl').packed, 0)).toEqual({ row: -1, distance: 1 });
  });

  test('the lists find what comparing with every row finds', () => {
    const training = synthesize({ count: 400 });
    const asked = uniformFormulas([0, 0, 40, 40, 40, 10, 5, 5, 5], 5);
    const index = new NearestIndex(training);
    const fractions = (words: Uint32Array, row: number): Map<string, number> => {
      const composition = unpackRow(words, row);
      const atoms = [...composition.values()].reduce((a, b) => a + b, 0);
      return new Map([...composition].map(([symbol, count]) => [symbol, count / atoms]));
    };
    for (let row = 0; row < asked.rows; row++) {
      const own = fractions(asked.packed, row);
      let best = 1;
      for (let other = 0; other < training.rows; other++) {
        const theirs = fractions(training.packed, other);
        const symbols = new Set([...own.keys(), ...theirs.keys()]);
        const sum = [...symbols].reduce((d, s) => d + Math.abs((own.get(s) ?? 0) - (theirs.get(s) ?? 0)), 0);
        best = Math.min(best, sum / 2);
      }
      expect(index.nearest(asked.packed, row).distance).toBeCloseTo(best, 5);
    }
  });

  test('summary by hand', () => {
    expect(summarise([])).toBe(null);
    const summary = summarise([0.4, 0.1, 0.3, 0.2, 1])!;
    expect(summary).toMatchObject({ formulas: 5, mean: 0.4, median: 0.3, quartiles: [0.2, 0.4] });
    expect(summary.histogram.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect(summary.histogram[19]).toBeCloseTo(0.2, 12);
  });
});

describe('an evaluation', () => {
  const training = pack('NaCl', 'Fe2O3', 'CuAu', 'KMnO2');
  const leaveOut = pack('MgO', 'CaTiO3');
  const generated = pack('Na2Cl2', 'NaCl', 'MgO', 'MgO', 'Fe3O4', 'LiFeO2', 'LiFe');

  test('small enough to count by hand', () => {
    const result = evaluateFormulas({
      generated,
      training,
      leaveOut,
      seed: 1,
      others: { A: pack('LiFe', 'NaCl', 'CsI') },
    });
    // Different and new: Fe3O4 (not neutral), LiFeO2 and LiFe (both balanced).
    expect(result.validUniqueNew).toEqual({ count: 2, share: 2 / 7 });
    expect(result.intervals.chargeNeutral).toEqual(wilson(6, 7));
    expect(result.overlap).toBe(0);
    expect(result.others).toEqual({ A: { formulas: 3, candidates: 2, found: 1, frequencyFound: expect.any(Number) } });
    expect(result.mostFrequent.slice(0, 3)).toEqual([
      { formula: 'NaCl', count: 2 },
      { formula: 'MgO', count: 2 },
      { formula: 'Fe3O4', count: 1 },
    ]);
    const two = result.byElementCount[2];
    expect(two.unique).toMatchObject({ count: 4, chargeNeutral: 3 / 4 });
    expect(two.novel).toMatchObject({ count: 2, chargeNeutral: 1 / 2 });
    expect(two.confirmed).toEqual({ A: 1 });
    expect(two.enrichment.chargeNeutral).toBeCloseTo(0.75 / (16_251 / 153_510), 9);
    const [low, high] = two.enrichment.intervals.chargeNeutral!;
    expect(low).toBeCloseTo(wilson(3, 4)![0] / (16_251 / 153_510), 9);
    expect(high).toBeCloseTo(wilson(3, 4)![1] / (16_251 / 153_510), 9);
    // Four of five different ones are binary: the enumeration is mixed likewise. Pooled, quaternaries outweigh all.
    const mixed = 0.8 * (16_251 / 153_510) + 0.2 * enumeration(3)!.chargeNeutral;
    expect(result.enrichment.matched.chargeNeutral).toBeCloseTo(0.8 / mixed, 9);
    const pooled = 0.8 / enumeration(4)!.chargeNeutral;
    expect(Math.abs(result.enrichment.binaryToQuaternary.chargeNeutral! - pooled)).toBeLessThan(0.05);
    expect(result.curve).toHaveLength(1);
    expect(result.curve[0]).toMatchObject({
      samples: 7,
      unique: 5,
      novel: 3,
      validUniqueNew: 2,
      recoveredLeaveOut: 0.5,
    });
    expect(result.nearest.novel!.formulas).toBe(3);
    expect(result.nearest.leaveOut!.formulas).toBe(2);
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
  });

  test('points: log-spaced, with the paper’s', () => {
    expect(curvePoints(1)).toEqual([1]);
    expect(curvePoints(250)).toEqual([100, 200, 250]);
    const points = curvePoints(2_000_000);
    expect(points).toEqual([...points].sort((a, b) => a - b));
    expect(new Set(points).size).toBe(points.length);
    for (const k of [300_000, 340_000, 1_000_000, 2_000_000]) expect(points).toContain(k);
    expect(curvePoints(340_000).filter((k) => k === 340_000)).toHaveLength(1);
  });

  test('a point of the curve is what an evaluation of so many samples gives', () => {
    const real = synthesize({ count: 3000 });
    const part = (from: number, to: number): PackedFormulas => ({
      packed: real.packed.slice(from * rowWords, to * rowWords),
      rows: to - from,
    });
    const [train, held, other] = [part(0, 2000), part(2000, 2500), part(2500, 3000)];
    const drawn = joined(frequencyFormulas(train, [0, 0, 1500, 800, 200], 3), part(2400, 2600), part(1900, 2100));
    const input = { training: train, leaveOut: held, others: { other }, seed: 2 };
    const whole = evaluateFormulas({ ...input, generated: drawn });
    expect(whole.curve.map(({ samples }) => samples)).toEqual([100, 200, 500, 1000, 2000, drawn.rows]);
    for (const point of whole.curve) {
      const first = { packed: drawn.packed, rows: point.samples };
      const alone = evaluateFormulas({ ...input, generated: first });
      expect(alone.curve.at(-1)).toEqual(point);
      expect(point).toMatchObject({ unique: PackedSet.of(first).size, recoveredLeaveOut: alone.recoveredLeaveOut });
    }
    expect(whole.confirmed.other).toBeGreaterThan(99);
    // The baselines are drawn in an order without sizes: an early point has them as training does.
    const early = whole.baselines.frequency.curve.find(({ samples }) => samples === 1000)!;
    expect(early.totalVariation.elementCount).toBeLessThan(0.08);
  });

  test('left-out formulas that training has: counted, and not recovered as left out', () => {
    const result = evaluateFormulas({ generated, training, leaveOut: pack('MgO', 'NaCl', 'Na2Cl2', 'CsI'), seed: 1 });
    expect(result).toMatchObject({ overlap: 1, recoveredLeaveOut: 1 / 2, recoveredTraining: 1 / 4 });
    expect(result.leaveOut!.unique).toBe(3);
    expect(inWords(result).find(({ topic }) => topic === 'data')!.text).toMatch(
      /^1 of 3 left-out formulas are in training/,
    );
    const all = evaluateFormulas({ generated, training, leaveOut: training, seed: 1 });
    expect(all).toMatchObject({ overlap: 4, recoveredLeaveOut: null });
  });

  test('the four baselines: sizes matched where they should be', () => {
    const real = synthesize({ count: 4000 });
    const drawn = independentFormulas(real, 20_000, 9);
    const { baselines, byElementCount } = evaluateFormulas({ generated: drawn, training: real, seed: 1 });
    for (const row of Object.values(byElementCount)) expect(row.uniform.count).toBe(row.generated.count);
    const sizes = Object.values(byElementCount).map((row) => row.uniformRandom.count / 20_000);
    for (const size of sizes) expect(Math.abs(size - 1 / 7)).toBeLessThan(0.015);
    expect(baselines.frequency.totalVariation.elementCount).toBeLessThan(0.02);
    // An independent draw of the same kind as what was generated: as near as two draws are.
    const twins = Object.values(byElementCount).map((row) => Math.abs(row.independent.count - row.generated.count));
    expect(Math.max(...twins)).toBeLessThan(400);
    for (const row of Object.values(baselines)) expect(row.count).toBe(20_000);
  });

  test('one formula again and again: said', () => {
    const one = pack('NaCl');
    const many = { packed: new Uint32Array(800_000), rows: 200_000 };
    for (let row = 0; row < many.rows; row++) many.packed.set(one.packed, row * rowWords);
    const result = evaluateFormulas({ generated: many, training, leaveOut, seed: 1 });
    expect(result).toMatchObject({
      unique: 1,
      novel: 0,
      chargeNeutral: 1,
      mostFrequent: [{ formula: 'NaCl', count: 200_000 }],
    });
    const said = inWords(result).find(({ topic }) => topic === 'diversity')!;
    expect(said).toMatchObject({ verdict: 'bad', text: expect.stringMatching(/^Collapsed: .*NaCl alone is 100\.0 %/) });
  });

  test('not one valid formula', () => {
    const result = evaluateFormulas({ generated: pack('Fe3O4', 'LiMg'), training, leaveOut, seed: 1 });
    expect(result).toMatchObject({ chargeNeutral: 0, validUniqueNew: { count: 0, share: 0 } });
    expect(result.intervals.chargeNeutral![0]).toBe(0);
    expect(
      inWords(result)
        .map(({ text }) => text)
        .join(),
    ).toContain('Not one generated formula is charge-neutral');
    expect(JSON.stringify(result)).not.toMatch(/NaN|Infinity/);
  });

  test('words follow the figures', () => {
    const real = synthesize({ count: 6000 });
    const held = { packed: real.packed.slice(20_000), rows: 1000 };
    const train = { packed: real.packed.slice(0, 20_000), rows: 5000 };
    const verdicts = (drawn: PackedFormulas) =>
      // The first remark of each topic.
      Object.fromEntries(
        inWords(evaluateFormulas({ generated: drawn, training: train, leaveOut: held, seed: 1 }))
          .reverse()
          .map((remark) => [remark.topic, remark]),
      );
    const often = verdicts(frequencyFormulas(train, [0, 0, 2000, 4000, 2000], 8));
    expect(often.chemistry.text).toMatch(/near the frequency baseline/);
    expect(often.recovery.verdict).toBe('bad');
    // Left-out formulas themselves: balanced, and found.
    const perfect = verdicts(joined(held, train));
    expect(perfect.chemistry.verdict).toBe('good');
    expect(perfect.recovery.verdict).toBe('good');
    expect(perfect.memory.verdict).toBe('good');
    expect(perfect.sizes.verdict).toBe('good');
    const most = Math.floor(0.8 * held.rows);
    const partly = verdicts(joined({ packed: held.packed.slice(0, 4 * most), rows: most }, train));
    expect(partly.memory).toMatchObject({
      verdict: 'fair',
      text: expect.stringMatching(/somewhat more often.*remembers some/),
    });
    expect(verdicts(train).memory.text).toMatch(/repeats what it was shown/);
    expect(verdicts(uniformFormulas([0, 0, 0, 0, 0, 0, 0, 500, 500], 1)).sizes.text).toMatch(/inflated/);
  });
});

describe('an interrupted evaluation', () => {
  const training = synthesize({ count: 600 });
  const generated = frequencyFormulas(training, [0, 0, 300, 300, 100], 4);
  const leaveOut = synthesize({ count: 200, seed: 7 });
  const input = { generated, training, leaveOut, seed: 1 };
  const whole = evaluateFormulas(input);
  const files = (out: string): string[] => readdirSync(join(out, stagesName)).sort();

  test('goes on to the same bits, wherever it ended', () => {
    let parts = 0;
    evaluateFormulas({
      ...input,
      stage: (_, work) => {
        parts++;
        return work();
      },
    });
    expect(parts).toBeGreaterThan(8);
    const out = join(folder, 'everywhere');
    for (let end = 0; end < parts; end++) {
      const stages = new Stages(out, 'key');
      let done = 0;
      const dying = <T>(name: string, work: () => T): T => {
        if (done++ === end) throw new Error('power cut');
        return stages.run(name, work);
      };
      expect(() => evaluateFormulas({ ...input, stage: dying })).toThrow('power cut');
      expect(stages.reused).toBe(Math.max(0, end - 1));
      expect(files(out)).toHaveLength(end);
    }
    const last = new Stages(out, 'key');
    expect(JSON.stringify(evaluateFormulas({ ...input, stage: last.run }))).toBe(JSON.stringify(whole));
    expect(last.reused).toBe(parts - 1);
    last.close();
    expect(readdirSync(out)).toEqual([]);
  });

  test('parts that are cut short, changed, of another name or of other inputs are made again', () => {
    const out = join(folder, 'distrust');
    const first = new Stages(out, { seed: 1 });
    const get = (stages: Stages, name = 'a'): number => stages.run(name, () => ++made);
    let made = 0;
    expect(get(first)).toBe(1);
    expect(get(new Stages(out, { seed: 1 }))).toBe(1);
    expect(get(new Stages(out, { seed: 2 }))).toBe(2);
    const path = join(out, stagesName, 'a.part');
    const again = (): number => get(new Stages(out, { seed: 2 }));
    expect(again()).toBe(2);
    const bytes = readFileSync(path);
    truncateSync(path, bytes.length - 1);
    expect(again()).toBe(3);
    truncateSync(path, 3);
    expect(again()).toBe(4);
    const changed = readFileSync(path);
    changed[changed.length - 1] ^= 1;
    writeFileSync(path, changed);
    expect(again()).toBe(5);
    writeFileSync(join(out, stagesName, 'b.part'), readFileSync(path));
    expect(get(new Stages(out, { seed: 2 }), 'b')).toBe(6);
  });

  test('leads nowhere else', () => {
    const out = join(folder, 'link');
    new Stages(out, 1).close();
    symlinkSync(folder, join(out, stagesName));
    expect(() => new Stages(out, 1)).toThrow(DataError);
  });
});

describe('generated tables', () => {
  test('rows in their order, repeats kept, and the reasons of those that are none', async () => {
    const file = join(folder, 'samples.csv');
    writeFileSync(file, 'formula\nNa2Cl2\nNaCl\nKrF2\nXx\n\nUO2.5\nCa(OH)2\nNa9Cl\n');
    const { packed, rows, read, unusable } = await loadSamples(file);
    expect({ packed: [...packed.subarray(0, rows * rowWords)], rows }).toEqual({
      packed: [...pack('NaCl', 'NaCl', 'U2O5', 'CaO2H2').packed],
      rows: 4,
    });
    expect(read).toBe(8);
    expect(unusable).toMatchObject({ 'element outside the 85': 1, 'more than 8 atoms of an element': 1 });
    expect(Object.values(unusable).reduce((a, b) => a + b)).toBe(4);
    writeFileSync(file, 'formula\nHeNe\nKrF2\nArO\n');
    await expect(loadSamples(file)).rejects.toThrow(/none of the 3 rows .* \(3 × element outside the 85; .*He/);
  });
});
