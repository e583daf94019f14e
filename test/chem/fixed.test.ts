/** Numbers that every published figure rests on: the facts of the elements, the random streams, the baselines' draws. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { frequencyFormulas, independentFormulas, scaleHistogram, uniformFormulas } from '../../src/chem/baseline.ts';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import { element, elements, matganElements } from '../../src/chem/elements.ts';
import {
  countByElements,
  type PackedFormulas,
  packFormula,
  reducePacked,
  rowWords,
  unpackRow,
} from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { randomStream, shuffle, streamFromState, WeightedChoice } from '../../src/chem/random.ts';
import { synthesize } from '../../src/chem/synth.ts';

describe('the elements', () => {
  // Fixed on purpose: SMACT's files, from which test/chem/elements.test.ts checks the table, are not in the repository.
  test('the table is what it was when it was checked against SMACT', () => {
    expect(createHash('sha256').update(JSON.stringify(elements)).digest('hex')).toBe(
      'c3a232d3cbe529b5474c187fa68ec7cced8cb30896047c4f35d02102045357ed',
    );
    expect(element('He')).toEqual({
      symbol: 'He',
      atomicNumber: 2,
      electronegativity: null,
      oxidationStates: [],
      commonStates: [],
    });
    expect(element('S')).toEqual({
      symbol: 'S',
      atomicNumber: 16,
      electronegativity: 2.58,
      oxidationStates: [-2, -1, 1, 2, 3, 4, 5, 6],
      commonStates: [-2, 6, 4],
    });
  });

  test('the rows of the matrix', () => {
    expect(matganElements.join(' ')).toBe(
      'H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y Zr Nb Mo Tc Ru Rh ' +
        'Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi ' +
        'Ac Th Pa U Np Pu',
    );
  });
});

describe('random streams', () => {
  test.each<[number, string | undefined, [number, number, number, number]]>([
    [0, undefined, [1789933344, 44971166, 0.5870561741002205, 114]],
    [1, undefined, [393288148, 2174103013, 0.8881928137485323, 206]],
    [2 ** 32 + 5, undefined, [1059857411, 3390875595, 0.22164132687971794, 89]],
    [-7, undefined, [38332731, 2143513836, 0.003260496442713201, 56]],
    [1, 'split', [805522738, 1977125390, 0.2691836291377211, 935]],
  ])('seed %d, purpose %s', (seed, purpose, values) => {
    const stream = randomStream(seed, purpose);
    expect([stream.uint32(), stream.uint32(), stream.uniform(), stream.below(1000)]).toEqual(values);
  });

  test('uniform takes the high 27 and 26 bits of two words', () => {
    // The first two words of this state are 11520 and 0 (Blackman and Vigna's own test).
    expect(streamFromState([1, 2, 3, 4]).uniform()).toBe(360 / 2 ** 27);
  });

  test('below is without bias: words behind the last whole multiple are drawn again', () => {
    // The first word is 3 · 2^30 or more, which is behind the last multiple of 3 · 2^30.
    const first = 3 * 2 ** 30;
    let seed = 0;
    while (randomStream(seed).uint32() < first) seed++;
    const plain = randomStream(seed);
    plain.uint32();
    let second = plain.uint32();
    while (second >= first) second = plain.uint32();
    expect(randomStream(seed).below(first)).toBe(second);
  });

  test('shuffle', () => {
    const order = shuffle(
      Uint32Array.from({ length: 10 }, (_, i) => i),
      randomStream(4),
    );
    expect([...order]).toEqual([4, 5, 7, 3, 0, 1, 2, 9, 6, 8]);
  });

  test('a weighted draw takes the first index whose running sum is above the target', () => {
    const at = (uniform: number): number =>
      new WeightedChoice([1, 0, 2, 1]).draw({ uniform: () => uniform, uint32: () => 0, below: () => 0 });
    // Running sums 1, 1, 3, 4.
    expect([0, 0.2499, 0.25, 0.7499, 0.75, 0.9999].map(at)).toEqual([0, 0, 2, 2, 3, 3]);
  });
});

describe('baselines', () => {
  const training = synthesize({ count: 200, seed: 3 });
  const histogram = [0, 3, 20, 30, 10, 5, 2, 2, 2];

  test('the same draws as ever', () => {
    expect(fingerprintOf(training)).toBe('7c8f6c4530a560cc5707e5f7dbfd6052d7c41dd41cfce9ff6bbb7cd2a421f7b9');
    for (const [drawn, fingerprint] of [
      [uniformFormulas(histogram, 1), 'f5cf6fd9b329bc376a5e7085ad12dbbafcb18bbf42dd32c3e375ab3f6fe3348c'],
      [frequencyFormulas(training, histogram, 1), '199d709124386dd65d318cfb210e7ad86e93d7fd1e0b01fb59e0d5d53276f655'],
      [
        frequencyFormulas(training, histogram, 1, { reduce: false }),
        '3ccd72133554f20ba4308d9acb04fa02f244a13fc8f857bc36604fba2b927ebd',
      ],
      [independentFormulas(training, 50, 1), '75b6eced275a43599393bd2a1038cf415d9da668442eaae63e7f458a5da09572'],
      [
        independentFormulas(training, 50, 1, { reduce: false }),
        '827a8d3f3da800212107d2aa68e0d787f2030864dbf37590ad86cb6cbaa62eae',
      ],
    ] as [PackedFormulas, string][]) {
      expect(fingerprintOf(drawn)).toBe(fingerprint);
    }
  });

  test('elements never repeat, uniform ones are in lowest terms, one short histogram is enough', () => {
    const drawn = uniformFormulas([0, 0, 0, 40], 2);
    expect([...countByElements(drawn)]).toEqual([0, 0, 0, 40, 0, 0, 0, 0, 0]);
    for (let row = 0; row < drawn.rows; row++) {
      expect(unpackRow(drawn.packed, row).size).toBe(3);
      expect(reducePacked(drawn.packed, row)).toBe(1);
    }
    expect([...countByElements(frequencyFormulas(training, [0, 0, 5], 2))]).toEqual([0, 0, 5, 0, 0, 0, 0, 0, 0]);
  });

  test('an element of every row is drawn first, and no more often than once', () => {
    const rows = ['NaCl', 'NaBr', 'Na2O', 'NaI'].map((text) => packFormula(parseFormula(text)));
    const packed = new Uint32Array(rows.length * rowWords);
    for (const [i, row] of rows.entries()) packed.set(row, i * rowWords);
    const drawn = frequencyFormulas({ packed, rows: rows.length }, [0, 100, 2000], 1);
    for (let row = 0; row < 100; row++) expect([...unpackRow(drawn.packed, row).keys()]).toEqual(['Na']);
    const beside = new Map<string, number>();
    for (let row = 100; row < 2100; row++) {
      const [other, ...more] = [...unpackRow(drawn.packed, row).keys()].filter((symbol) => symbol !== 'Na');
      expect(more).toEqual([]);
      beside.set(other, (beside.get(other) ?? 0) + 1);
    }
    // One row in four each: 500 of 2,000, standard deviation 19.
    expect([...beside.keys()].sort()).toEqual(['Br', 'Cl', 'I', 'O']);
    for (const count of beside.values()) expect(Math.abs(count - 500)).toBeLessThan(100);
  });

  test('independent draws stop after as many as were asked for', () => {
    expect(independentFormulas(training, 7, 1).rows).toBe(7);
    expect(independentFormulas(training, 7, 1).packed.length).toBe(7 * rowWords);
    expect(independentFormulas(training, 0, 1).rows).toBe(0);
  });

  test('largest remainders, the smaller size first among equals', () => {
    expect(scaleHistogram([9, 0, 1, 1], 3)).toEqual([0, 0, 2, 1, 0, 0, 0, 0, 0]);
    expect(scaleHistogram([0, 0, 1, 2, 4], 10)).toEqual([0, 0, 1, 3, 6, 0, 0, 0, 0]);
    expect(scaleHistogram([5], 10)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });
});
