import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { element, elementIndex, matganElements } from '../../src/chem/elements.ts';
import { packFormula, rowWords, unpackRow, writePairs } from '../../src/chem/encoding.ts';
import { formatFormula, parseFormula } from '../../src/chem/formula.ts';
import { randomStream } from '../../src/chem/random.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { flagCN, flagEN, Judge, judge, judgePacked } from '../../src/chem/validity.ts';
import { FormulaError } from '../../src/errors.ts';

const vectors = JSON.parse(readFileSync(new URL('../golden/chem/validity.json', import.meta.url), 'utf8')) as Record<
  string,
  [boolean, boolean]
>;

describe('the paper’s rule', () => {
  test("equals SMACT's own functions on every vector, both paths", () => {
    const entries = Object.entries(vectors);
    expect(entries.length).toBeGreaterThan(700);
    const packed = new Uint32Array(entries.length * rowWords);
    for (const [i, [formula]] of entries.entries()) packed.set(packFormula(parseFormula(formula)), i * rowWords);
    const flags = judgePacked(packed, entries.length);
    for (const [i, [formula, [neutral, balanced]]] of entries.entries()) {
      const verdict = judge(parseFormula(formula));
      expect([verdict.chargeNeutral, verdict.electronegativityBalanced], formula).toEqual([neutral, balanced]);
      expect(flags[i], formula).toBe((neutral ? flagCN : 0) | (balanced ? flagEN : 0));
    }
  });

  test.each([
    ['NaCl', true, true, { Na: 1, Cl: -1 }],
    ['Fe3O4', false, false, null],
    ['Fe2O3', true, true, { Fe: 3, O: -2 }],
    ['Ca(OH)2', true, true, { Ca: 2, O: -2, H: 1 }],
    ['CuSO4·5H2O', true, true, { Cu: 2, S: 6, O: -2, H: 1 }],
    ['CuAu', true, true, { Cu: 1, Au: -1 }],
    ['Na', false, false, null],
    ['He2O', false, false, null],
    ['NaK', true, true, { Na: -1, K: 1 }], // potassium is the less electronegative one
  ])('%s', (formula, neutral, balanced, states) => {
    const verdict = judge(parseFormula(formula));
    expect(verdict).toEqual({ chargeNeutral: neutral, electronegativityBalanced: balanced, oxidationStates: states });
  });

  test('equal electronegativities are not balanced, and a missing value fails EN but not CN', () => {
    // Rb and K both have 0.82; both have the states -1 and +1.
    expect(judge(parseFormula('KRb'))).toMatchObject({ chargeNeutral: true, electronegativityBalanced: false });
    const pm = judge(parseFormula('PmCl3'));
    expect(pm).toEqual({ chargeNeutral: true, electronegativityBalanced: false, oxidationStates: { Pm: 3, Cl: -1 } });
    const flags = judgePacked(packFormula(parseFormula('PmCl3')), 1);
    expect(flags[0]).toBe(flagCN);
  });

  test('unreduced formulas fail unless they are reduced first', () => {
    const formula = parseFormula('Na2Cl2');
    expect(judge(formula, { reduce: false }).chargeNeutral).toBe(false);
    expect(judge(formula).chargeNeutral).toBe(true);
    expect(judgePacked(packFormula(formula), 1)[0]).toBe(0);
  });

  test('fractions are multiplied out, or refused where nothing may be changed', () => {
    expect(judge(parseFormula('Fe0.5O0.5')).chargeNeutral).toBe(true);
    expect(() => judge(parseFormula('Fe0.5O0.5'), { reduce: false })).toThrow(FormulaError);
  });

  test('assignments add up to zero and keep cations below anions', () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(...matganElements), fc.integer({ min: 1, max: 8 })), {
      minLength: 2,
      maxLength: 8,
      selector: ([symbol]) => symbol,
    });
    fc.assert(
      fc.property(pairs, (list) => {
        const composition = new Map(list);
        const verdict = judge(composition, { reduce: false });
        const flags = judgePacked(packFormula(composition), 1)[0];
        expect(flags).toBe((verdict.chargeNeutral ? flagCN : 0) | (verdict.electronegativityBalanced ? flagEN : 0));
        const { oxidationStates: states } = verdict;
        expect(states === null).toBe(!verdict.chargeNeutral);
        if (!states) return;
        expect(list.reduce((sum, [symbol, count]) => sum + count * states[symbol], 0)).toBe(0);
        for (const [symbol] of list) expect(element(symbol)!.oxidationStates).toContain(states[symbol]);
        if (!verdict.electronegativityBalanced) return;
        const values = (sign: number): number[] =>
          list.filter(([symbol]) => states[symbol] * sign > 0).map(([symbol]) => element(symbol)!.electronegativity!);
        expect(Math.max(...values(1))).toBeLessThan(Math.min(...values(-1)));
      }),
      { numRuns: 1500, seed: 3 },
    );
  });

  test('equals the definition, tried out over all choices', () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(...matganElements), fc.integer({ min: 1, max: 8 })), {
      minLength: 2,
      maxLength: 4,
      selector: ([symbol]) => symbol,
    });
    fc.assert(
      fc.property(pairs, (list) => {
        let [neutral, balanced] = [false, false];
        const search = (i: number, charge: number, highestCation: number, lowestAnion: number): void => {
          if (i === list.length) {
            if (charge !== 0) return;
            neutral = true;
            if (list.every(([s]) => element(s)!.electronegativity !== null) && highestCation < lowestAnion)
              balanced = true;
            return;
          }
          const [symbol, count] = list[i];
          const { oxidationStates, electronegativity } = element(symbol)!;
          const value = electronegativity ?? 0;
          for (const state of oxidationStates) {
            if (state > 0) search(i + 1, charge + state * count, Math.max(highestCation, value), lowestAnion);
            else search(i + 1, charge + state * count, highestCation, Math.min(lowestAnion, value));
          }
        };
        search(0, 0, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
        const divisor = list.reduce((a, [, b]) => {
          let [x, y] = [a, b];
          while (y) [x, y] = [y, x % y];
          return x;
        }, 0);
        const flags = judgePacked(packFormula(new Map(list)), 1)[0];
        expect(flags).toBe(divisor === 1 ? (neutral ? flagCN : 0) | (balanced ? flagEN : 0) : 0);
      }),
      { numRuns: 1500, seed: 4 },
    );
  });

  test('packed rows get the verdicts of the search over sums: 20,000 random ones, real ones, and ones with wide sums', () => {
    const random = randomStream(11, 'test');
    const rows = 22_000;
    const packed = new Uint32Array(rows * rowWords);
    // Elements whose lowest states are -4 and -3, with many atoms: sums that do not fit one word.
    const low = ['C', 'Si', 'Ge', 'Sn', 'Pb', 'N', 'P', 'As', 'Sb', 'Bi', 'Mn', 'Ir'].map(elementIndex);
    for (let row = 0; row < rows; row++) {
      const wide = row >= 20_000;
      const chosen = new Set<number>();
      const size = wide ? 3 + random.below(6) : random.below(9);
      while (chosen.size < size) chosen.add(wide ? low[random.below(low.length)] : random.below(85));
      const pairs = [...chosen].map((e) => ((e + 1) << 8) | (wide ? 4 + random.below(5) : 1 + random.below(8)));
      writePairs(packed, row, pairs, size);
    }
    const judged = new Judge();
    const verdicts = new Uint32Array(4);
    const check = (words: Uint32Array, row: number): void => {
      const composition = unpackRow(words, row);
      const exact = judge(composition, { reduce: false });
      const expected = (exact.chargeNeutral ? flagCN : 0) | (exact.electronegativityBalanced ? flagEN : 0);
      const got = judged.row(words, row);
      if (got !== expected) expect(got, formatFormula(composition)).toBe(expected);
      verdicts[got]++;
    };
    for (let row = 0; row < rows; row++) check(packed, row);
    // All three verdicts occur, in numbers that make a wrong one likely to show.
    for (const flags of [0, flagCN, flagCN | flagEN]) expect(verdicts[flags]).toBeGreaterThan(1000);
    expect(verdicts[flagEN]).toBe(0);
    const real = synthesize({ count: 2000 });
    for (let row = 0; row < real.rows; row++) check(real.packed, row);
  });

  test('worst cases stay quick', () => {
    // Eight elements with eleven states and even counts but one: no parity can be met by trying everything.
    const many = new Map(['Os', 'Ir', 'Re', 'Tc', 'Mn', 'Ru', 'Cr', 'W'].map((symbol, i) => [symbol, i === 0 ? 7 : 8]));
    const words = packFormula(many);
    const rows = 20_000;
    const packed = new Uint32Array(rows * rowWords);
    for (let row = 0; row < rows; row++) packed.set(words, row * rowWords);
    let start = performance.now();
    judgePacked(packed, rows);
    expect(performance.now() - start).toBeLessThan(5000);
    start = performance.now();
    const all = new Map([...matganElements].map((symbol, i) => [symbol, 1 + ((i * 7919) % 97)]));
    judge(all);
    expect(performance.now() - start).toBeLessThan(10_000);
    // Amounts near a thousand million make every sum different: refused, not searched.
    const hostile = new Map(matganElements.map((symbol, i) => [symbol, (i * 611_953 * 7919) % 999_999_937 || 1]));
    for (const symbol of matganElements) if (element(symbol)!.oxidationStates.length < 4) hostile.delete(symbol);
    start = performance.now();
    expect(() => judge(hostile)).toThrow(/too many combinations/);
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});
