import { describe, expect, test } from 'vitest';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import { elementIndex } from '../../src/chem/elements.ts';
import { countByElements, PackedSet, reducePacked } from '../../src/chem/encoding.ts';
import { elementOccurrences } from '../../src/chem/metrics.ts';
import { randomStream, streamFromState, WeightedChoice } from '../../src/chem/random.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { judgePacked } from '../../src/chem/validity.ts';

describe('the default data set', () => {
  const start = performance.now();
  const set = synthesize();
  const seconds = (performance.now() - start) / 1000;

  test('is valid, reduced and without repeats', () => {
    expect(set.rows).toBe(20_000);
    expect(judgePacked(set.packed, set.rows).every((flags) => flags === 3)).toBe(true);
    expect(PackedSet.of(set).size).toBe(set.rows);
    const copy = set.packed.slice();
    for (let row = 0; row < set.rows; row++) expect(reducePacked(copy, row)).toBe(1);
  });

  test('has the spread of sizes and elements it claims, within three seconds', () => {
    expect(seconds).toBeLessThan(3);
    const [, , two, three, four, five, six] = countByElements(set);
    expect(
      [two / set.rows, three / set.rows, four / set.rows, five / set.rows, six].map((x) => Math.round(x * 100)),
    ).toEqual([18, 54, 24, 4, 0]);
    const occurrences = elementOccurrences(set);
    const of = (symbol: string): number => occurrences[elementIndex(symbol)];
    expect(of('O')).toBe(Math.max(...occurrences));
    expect(of('Na')).toBeGreaterThan(4 * of('Re'));
    expect(of('Pm')).toBe(0);
    expect(occurrences.filter((count) => count > 0).length).toBe(84);
  });

  test('is the same for the same seed, bit for bit, and another one for another', () => {
    expect(fingerprintOf(synthesize())).toBe(fingerprintOf(set));
    // Fixed on purpose: a change of this value is a change of the data set that a fresh clone trains on.
    expect(fingerprintOf(set)).toBe('f50bb96532bfa6d09ad554a4dd0cc1e1af0f2d2e71ea1a3d7d3cacd40479a2b6');
    expect(fingerprintOf(synthesize({ seed: 2 }))).not.toBe(fingerprintOf(set));
  });

  test('can be small, and refuses what is no count', () => {
    for (const count of [1, 2, 7, 100]) expect(synthesize({ count, seed: 5 }).rows).toBe(count);
    for (const count of [0, -1, 1.5, Number.NaN, 1e9]) expect(() => synthesize({ count })).toThrow(/whole number/);
  });
});

describe('the random stream', () => {
  test('is xoshiro128**: the published first values of the state 1, 2, 3, 4', () => {
    const stream = streamFromState([1, 2, 3, 4]);
    expect([stream.uint32(), stream.uint32(), stream.uint32(), stream.uint32()]).toEqual([11520, 0, 5927040, 70819200]);
  });

  test('depends on seed and purpose', () => {
    const first = (seed: number, purpose?: string): number => randomStream(seed, purpose).uint32();
    const values = [first(0), first(1), first(2 ** 32), first(-1), first(1, 'a'), first(1, 'b')];
    expect(new Set(values).size).toBe(values.length);
    expect(first(1, 'a')).toBe(first(1, 'a'));
  });

  test('below and WeightedChoice keep to their odds', () => {
    const random = randomStream(3);
    const counts = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) counts[random.below(3)]++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
    const choice = new WeightedChoice([0, 1, 0, 3, 0]);
    const drawn = [0, 0, 0, 0, 0];
    for (let i = 0; i < 40_000; i++) drawn[choice.draw(random)]++;
    expect([drawn[0], drawn[2], drawn[4]]).toEqual([0, 0, 0]);
    expect(Math.abs(drawn[1] - 10_000)).toBeLessThan(500);
  });
});
