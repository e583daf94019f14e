import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { elements, matganElements } from '../../src/chem/elements.ts';
import { maxPairs, packFormula, rowWords } from '../../src/chem/encoding.ts';
import { type Composition, FormulaFault, parseFormula, reduceFormula } from '../../src/chem/formula.ts';
import {
  Describer,
  describeCompositions,
  describePacked,
  descriptorCount,
  descriptorNames,
  descriptorSet,
  missingValues,
} from '../../src/chem/magpie.ts';
import { FormulaError } from '../../src/errors.ts';
import { packageRoot } from '../../src/paths.ts';
import { Choose } from '../fuzz/choose.ts';
import { formulaText } from '../fuzz/formulas.ts';
import { sharedData } from './shared-data.ts';

interface Golden {
  readonly names: string[];
  readonly formulas: string[];
  readonly others: string[];
}
const golden: Golden = JSON.parse(readFileSync(new URL('../golden/chem/magpie.json', import.meta.url), 'utf8'));
const texts = [...golden.formulas, ...golden.others];
const bytes = gunzipSync(readFileSync(new URL('../golden/chem/magpie.f64.gz', import.meta.url)));
const theirs = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
/** matminer's value: column by column. */
const expected = (row: number, column: number): number => theirs[column * texts.length + row];

const column = (name: string): number => {
  const found = descriptorNames.indexOf(name);
  expect(found, name).toBeGreaterThanOrEqual(0);
  return found;
};
const describeText = (text: string, missing: 'refuse' | 'nan' = 'refuse'): Float64Array =>
  describeCompositions([parseFormula(text)], { missing });
const of = (text: string, name: string): number => describeText(text)[column(name)];

/** Means are sums in another order: a few roundings apart. What is only picked (least, greatest, mode, counts) is equal to the bit. */
const picked = /^0-norm|minimum|maximum|range|mode|compound possible/;
const tolerance = 1e-13;

function differences(ours: Float64Array, first: number, rows: number): string[] {
  const found: string[] = [];
  for (let row = 0; row < rows; row++) {
    for (const [k, name] of descriptorNames.entries()) {
      const value = ours[row * descriptorCount + k];
      const other = expected(first + row, k);
      const bound = picked.test(name) ? 0 : tolerance * Math.max(1, Math.abs(other));
      if (Object.is(value, other) || Math.abs(value - other) <= bound) continue;
      found.push(`${texts[first + row]} ${name}: ${value}, matminer ${other}`);
    }
  }
  return found;
}

describe('equal to matminer', () => {
  test('names and their order', () => {
    expect(descriptorNames).toEqual(golden.names);
    expect(descriptorCount).toBe(145);
    expect(new Set(descriptorNames).size).toBe(145);
  });

  test('1,000 real formulas, from compositions and from packed rows', () => {
    const compositions = golden.formulas.map(parseFormula);
    expect(compositions.length).toBe(1000);
    expect(differences(describeCompositions(compositions), 0, 1000)).toEqual([]);
    let packable = 0;
    const describer = new Describer();
    const values = new Float64Array(descriptorCount);
    for (const [row, composition] of compositions.entries()) {
      let words: Uint32Array;
      try {
        words = packFormula(reduceFormula(composition));
      } catch {
        continue;
      }
      packable++;
      describer.row(words, 0, values, 0);
      expect(differences(values, row, 1)).toEqual([]);
    }
    expect(packable).toBeGreaterThan(700); // the others have more than 8 atoms of an element
  });

  test('they hold every element of the matrix, one to seven elements, both answers on charges', () => {
    const compositions = golden.formulas.map(parseFormula);
    const seen = new Set(compositions.flatMap((composition) => [...composition.keys()]));
    expect(matganElements.filter((symbol) => !seen.has(symbol))).toEqual([]);
    expect(Math.max(...compositions.map(({ size }) => size))).toBeGreaterThanOrEqual(6);
    const possible = compositions.filter((_, row) => expected(row, column('compound possible')) === 1).length;
    expect(possible).toBeGreaterThan(200);
    expect(possible).toBeLessThan(800);
  });

  test('fractions, single elements, and NaN where an element lacks a value', () => {
    const ours = describeCompositions(golden.others.map(parseFormula), { missing: 'nan' });
    expect(differences(ours, golden.formulas.length, golden.others.length)).toEqual([]);
    expect(ours.filter(Number.isNaN).length).toBeGreaterThan(100);
  });

  test('f32 is the f64 value rounded', () => {
    const compositions = golden.formulas.slice(0, 100).map(parseFormula);
    const wide = describeCompositions(compositions);
    const narrow = describeCompositions(compositions, { out: new Float32Array(100 * descriptorCount) });
    expect([...narrow]).toEqual([...Float32Array.from(wide)]);
  });
});

test('Fe2O3 as Ward et al. give it', () => {
  const names = ['minimum', 'maximum', 'range', 'mean', 'avg_dev', 'mode'];
  const number = names.map((name) => of('Fe2O3', `MagpieData ${name} Number`));
  for (const [i, value] of [8, 26, 18, 15.2, 8.64, 8].entries()) expect(number[i]).toBeCloseTo(value, 12);
  expect(of('Fe2O3', '7-norm')).toBeCloseTo(0.604895199, 9);
  expect(of('Fe2O3', 'MagpieData mean Electronegativity')).toBeCloseTo(2.796, 12);
  const shares = ['s', 'p', 'd', 'f'].map((orbital) => of('Fe2O3', `frac ${orbital} valence electrons`));
  for (const [i, value] of [0.294117647, 0.352941176, 0.352941176, 0].entries())
    expect(shares[i]).toBeCloseTo(value, 9);
  const valence = ['s', 'p', 'd', 'f'].map((orbital) => of('Fe2O3', `MagpieData mean N${orbital}Valence`));
  for (const [i, value] of [2, 2.4, 2.4, 0].entries()) expect(valence[i]).toBeCloseTo(value, 12);
});

describe('rules', () => {
  const close = (a: Float64Array, b: Float64Array, what: string): void => {
    const apart = descriptorNames.filter((_, k) => !(Math.abs(a[k] - b[k]) <= 1e-12 * Math.max(1, Math.abs(a[k]))));
    expect(apart, what).toEqual([]);
  };
  const symbols = elements.map(({ symbol }) => symbol);
  const file = JSON.parse(readFileSync(`${packageRoot}/data/magpie.json`, 'utf8'));
  const states = (symbol: string): number[] => file.elements[symbol]?.[2] ?? [];
  const complete = symbols.filter((symbol) => missingValues(new Map([[symbol, 1], ['O', 1]])).length === 0); // biome-ignore format: one line

  test('amounts count by their shares only, and not in their order', () => {
    const choose = new Choose(1, 'descriptors');
    for (let i = 0; i < 300; i++) {
      const composition: Composition = new Map();
      for (let n = choose.size(8); n > 0; n--) composition.set(choose.of(complete), 1 + choose.below(12));
      const [plain] = [describeCompositions([composition])];
      const what = JSON.stringify([...composition]);
      for (const factor of [3, 1 / 7, 1e5, 0.01]) {
        const scaled = new Map([...composition].map(([symbol, amount]) => [symbol, amount * factor]));
        close(plain, describeCompositions([scaled]), `${what} × ${factor}`);
      }
      const turned = describeCompositions([new Map([...composition].reverse())]);
      expect([...turned], what).toEqual([...plain]);
    }
  });

  test('a statistic stays between least and greatest', () => {
    const matrix = describeCompositions(golden.formulas.map(parseFormula));
    const wrong: string[] = [];
    for (let row = 0; row < 1000; row++) {
      for (let k = 6; k < 138; k += 6) {
        const [least, greatest, range, mean, deviation, mode] = matrix.subarray(row * 145 + k, row * 145 + k + 6);
        const inside = least - 1e-9 <= mean && mean <= greatest + 1e-9 && least <= mode && mode <= greatest;
        if (!inside || range !== greatest - least || deviation > range / 2 + 1e-9)
          wrong.push(`${golden.formulas[row]} ${k}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('charges: every way to judge them agrees with trying all choices', () => {
    const several = complete.filter((symbol) => states(symbol).length > 1);
    const possible = (composition: Composition): number => {
      let sums = [0];
      for (const [symbol, amount] of composition)
        sums = [...new Set(sums.flatMap((sum) => states(symbol).map((state) => sum + state * amount)))];
      return sums.includes(0) ? 1 : 0;
    };
    const choose = new Choose(2, 'charges');
    const counts = [0, 0];
    for (let i = 0; i < 2000; i++) {
      const composition: Composition = new Map();
      // Sets of bits of one word and of several, then sums that meet in the middle.
      const most = choose.of([3, 8, 60, 3000]);
      for (let n = 2 + choose.below(4); n > 0; n--) composition.set(choose.of(several), 1 + choose.below(most));
      if (composition.size < 2) continue;
      const answer = possible(composition);
      counts[answer]++;
      const ours = describeCompositions([composition])[column('compound possible')];
      expect(ours, JSON.stringify([...composition])).toBe(answer);
      const shares = new Map([...composition].map(([symbol, amount]) => [symbol, amount / 7]));
      expect(describeCompositions([shares])[column('compound possible')]).toBe(answer);
    }
    expect(Math.min(...counts)).toBeGreaterThan(200);
    expect(of('Fe3O4', 'compound possible')).toBe(0);
    expect(of('Fe', 'compound possible')).toBe(1);
  });

  test('a formula made to take for ever is refused in time', () => {
    const many = complete.filter((symbol) => states(symbol).length > 2 && states(symbol)[0] < 0);
    expect(many.length).toBeGreaterThan(9);
    const rest = complete.filter((symbol) => states(symbol).length > 1 && states(symbol)[0] > 0);
    const text = [...many, ...rest]
      .map((symbol, i) => `${symbol}${i < many.length ? 9 : 0}.${1_000_003 + i * i * 7919}`)
      .join('');
    const before = performance.now();
    expect(() => describeText(text)).toThrow(/too many combinations/);
    expect(performance.now() - before).toBeLessThan(10_000);
  });

  test('packed rows are the compositions that they hold; an empty one is refused', () => {
    const packed = new Uint32Array(3 * rowWords);
    const formulas = ['NaCl', 'Fe2O3', 'LiFePO4'].map(parseFormula);
    for (const [row, formula] of formulas.entries()) packed.set(packFormula(formula), row * rowWords);
    expect([...describePacked({ packed, rows: 3 })]).toEqual([...describeCompositions(formulas)]);
    expect(() => describePacked({ packed, rows: 3 }, new Float64Array(400))).toThrow(/435 numbers.*room for 400/);
    expect(() => describePacked({ packed: new Uint32Array(4), rows: 1 })).toThrow(FormulaError);
    expect(maxPairs * 3).toBeLessThan(descriptorCount);
  });
});

describe('missing values', () => {
  test('are refused by element and property', () => {
    for (const [text, message] of [
      ['HeH2', /formula .*He.*: He has no MeltingT/],
      ['NaNe', /Ne has no Electronegativity/],
      ['BkO2', /Bk has no CovalentRadius/],
      ['OgF2', /Og has no Number/],
    ] as const) {
      let fault: unknown;
      try {
        describeText(text);
      } catch (error) {
        fault = error;
      }
      expect(fault).toBeInstanceOf(FormulaFault);
      expect((fault as FormulaFault).kind).toBe('missing elemental value');
      expect((fault as FormulaFault).message).toMatch(message);
    }
  });

  test('or make NaN of just the attributes that need them, listed by name', () => {
    const values = describeText('HeH2', 'nan');
    const empty = descriptorNames.filter((_, k) => Number.isNaN(values[k]));
    // The mode is that of hydrogen, which is most frequent.
    const of6 = (property: string): string[] =>
      ['minimum', 'maximum', 'range', 'mean', 'avg_dev'].map((statistic) => `MagpieData ${statistic} ${property}`);
    expect(empty).toEqual([...of6('MeltingT'), ...of6('Electronegativity'), 'max ionic char', 'avg ionic char']);
    expect(missingValues(parseFormula('HeH2'))).toEqual([
      { element: 'He', property: 'MeltingT' },
      { element: 'He', property: 'Electronegativity' },
      { element: 'He', property: 'Pauling electronegativity' },
    ]);
    expect(missingValues(parseFormula('LiFePO4'))).toEqual([]);
  });

  test('no element of the matrix lacks any', () => {
    const pairs = matganElements.map((symbol) => new Map([[symbol, 1], [symbol === 'O' ? 'H' : 'O', 2]])); // biome-ignore format: one line
    expect(pairs.flatMap(missingValues)).toEqual([]);
    expect(describeCompositions(pairs).every(Number.isFinite)).toBe(true);
  });

  test.skipIf(!sharedData('smact/magpie.csv'))(
    'SMACT’s table has the same values where there are any, and fillings where not',
    () => {
      const [head, ...lines] = readFileSync(sharedData('smact/magpie.csv')!, 'utf8').trim().split('\n');
      const file = JSON.parse(readFileSync(`${packageRoot}/data/magpie.json`, 'utf8'));
      const filled: string[] = [];
      for (const line of lines) {
        const [symbol, ...cells] = line.split(',');
        for (const [i, property] of head.trim().split(',').slice(1).entries()) {
          const ours = file.elements[symbol][0][file.properties.indexOf(property)];
          if (ours === null) filled.push(`${symbol} ${property} ${cells[i].trim()}`);
          else expect(Number(cells[i]), `${symbol} ${property}`).toBeCloseTo(ours, 9);
        }
      }
      expect(filled.length).toBe(10);
      expect(filled[0]).toBe('He MeltingT 1211.4');
    },
  );
});

describe('what is no formula', () => {
  test.each([
    [new Map(), /empty/],
    [new Map([['Xx', 1]]), /Xx is not an element/],
    [new Map([['__proto__', 1]]), /is not an element/],
    [new Map([['Fe', 0]]), /amount of Fe/],
    [new Map([['Fe', -1]]), /amount of Fe/],
    [new Map([['Fe', Number.NaN]]), /amount of Fe/],
    [new Map([['Fe', Number.POSITIVE_INFINITY]]), /amount of Fe/],
  ])('%j is refused', (composition, message) => {
    expect(() => describeCompositions([composition as Composition])).toThrow(message);
    expect(() => describeCompositions([composition as Composition])).toThrow(FormulaError);
  });

  test('hostile texts: all finite, or refused', () => {
    const choose = new Choose(3, 'descriptors');
    const describer = new Describer();
    const values = new Float64Array(descriptorCount);
    let described = 0;
    for (let i = 0; i < 5000; i++) {
      const text = formulaText(choose);
      try {
        const composition = parseFormula(text);
        values.fill(Number.NaN);
        describer.composition(composition, values, 0);
        expect(values.every(Number.isFinite), text).toBe(true);
        expect(values[0]).toBe(composition.size);
        described++;
      } catch (error) {
        if (!(error instanceof FormulaError)) throw error;
      }
    }
    expect(described).toBeGreaterThan(500);
  });
});

test('the set has a name and a fingerprint, which change only on purpose', () => {
  expect(descriptorSet()).toEqual({
    name: 'magpie-145 v1',
    count: 145,
    fingerprint: '95c87b905687399ff6a0f639e579b4aa1ae31097e6639b6bde27d236a819c401',
  });
});
