import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { elements } from '../../src/chem/elements.ts';
import { formatFormula, parseFormula, reduceFormula } from '../../src/chem/formula.ts';
import { FormulaError } from '../../src/errors.ts';

const amounts = (text: string): Record<string, number> => Object.fromEntries(parseFormula(text));

interface Vector {
  text: string;
  amounts: Record<string, number>;
  integer: Record<string, number> | null;
}
const vectors = JSON.parse(readFileSync(new URL('../golden/chem/formulas.json', import.meta.url), 'utf8')) as Vector[];

describe('parseFormula', () => {
  test("equals pymatgen's Composition on every vector", () => {
    expect(vectors.length).toBeGreaterThan(400);
    for (const { text, amounts: theirs } of vectors) {
      const ours = amounts(text);
      expect(Object.keys(ours).sort(), text).toEqual(Object.keys(theirs).sort());
      for (const [symbol, value] of Object.entries(theirs)) {
        expect(Math.abs(ours[symbol] - value), `${symbol} in ${text}`).toBeLessThanOrEqual(1e-8 * Math.max(1, value));
      }
    }
  });

  test('reads brackets, hydrates, decimals, subscripts and repeated elements', () => {
    expect(amounts('Ca(OH)2')).toEqual({ Ca: 1, O: 2, H: 2 });
    expect(amounts('[Co(NH3)6]{Cl}3')).toEqual({ Co: 1, N: 6, H: 18, Cl: 3 });
    for (const dot of ['\u00b7', '\u2022', '\u22c5', '\u2219', '*', '.', ' . ']) {
      expect(amounts(`CuSO4${dot}5H2O`), dot).toEqual({ Cu: 1, S: 1, O: 9, H: 10 });
    }
    expect(amounts('CaSO4·0.5H2O')).toEqual({ Ca: 1, S: 1, O: 4.5, H: 1 });
    expect(amounts('CaSO4.0.5H2O')).toEqual({ Ca: 1, S: 1, O: 4.5, H: 1 });
    expect(amounts('Ca(OH)2.H2O')).toEqual({ Ca: 1, O: 3, H: 4 });
    expect(amounts('Al2O3·2SiO2·2H2O')).toEqual({ Al: 2, O: 9, Si: 2, H: 4 });
    expect(amounts('Fe0.95O')).toEqual({ Fe: 0.95, O: 1 });
    expect(amounts('CuS0.5O4.5')).toEqual({ Cu: 1, S: 0.5, O: 4.5 });
    expect(amounts('H₂SO₄')).toEqual({ H: 2, S: 1, O: 4 });
    expect(amounts('CH3COOH')).toEqual({ C: 2, H: 4, O: 2 });
    expect(amounts('\ufeff \tNaCl\r\n')).toEqual({ Na: 1, Cl: 1 });
    expect(amounts('D2O')).toEqual({ H: 2, O: 1 });
    expect(amounts('DT')).toEqual({ H: 2 });
    expect(amounts('NaN')).toEqual({ Na: 1, N: 1 }); // a nitride, not a failed number
  });

  test.each([
    ['', 0, 'empty'],
    ['   ', 0, 'empty'],
    ['Xx2', 0, 'Xx is not an element'],
    ['NaXx', 2, 'Xx is not an element'],
    ['NaCl2)', 5, 'remove it'],
    ['Ca(OH', 2, 'never closed'],
    ['Ca(OH]2', 5, 'write )'],
    ['Ca()2', 2, 'brackets are empty'],
    ['Fe0O', 2, 'zero'],
    ['Fe3+', 3, 'charges'],
    ['SO4^2-', 3, 'charges'],
    ['Fe1-xO', 3, 'charges and variables'],
    ['2NaCl', 0, 'a number without an element'],
    ['nacl', 0, 'capital letter'],
    ['12.5', 0, 'a number is not a formula'],
    ['NaCl, KCl', 4, 'does not belong'],
    ['Na\u0000Cl', 2, 'does not belong'],
    ['CuSO4·', 5, 'missing'],
    ['·H2O', 0, 'missing'],
    ['Fe99999999999999999999', 2, 'not between'],
    ['(Fe1000000)1000000', 10, 'not between'],
    ['Fe0.0000000001', 2, 'not between'],
    ['__proto__', 0, 'does not belong'],
    ['constructor', 0, 'capital letter'],
    ['<b>NaCl</b>', 0, 'does not belong'],
    ["NaCl'; DROP TABLE x", 4, 'does not belong'],
    [`${'('.repeat(40)}Na`, 32, 'nest'],
  ])('refuses %j at its position', (text, position, what) => {
    try {
      parseFormula(text);
    } catch (error) {
      expect(error).toBeInstanceOf(FormulaError);
      expect((error as FormulaError).name).toBe('FormulaError');
      expect((error as FormulaError).position).toBe(position);
      expect((error as FormulaError).message).toContain(what);
      expect((error as FormulaError).message).not.toContain('\n');
      expect((error as FormulaError).message.length).toBeLessThan(250);
      return;
    }
    throw new Error(`${text.slice(0, 60)} was accepted`);
  });

  test('refuses a text that is too long', () => {
    expect(() => parseFormula('Na'.repeat(5000))).toThrow(/10000 characters; the longest/);
  });

  test('never crashes or hangs, whatever it is given', () => {
    const pieces = fc.constantFrom(
      'Na',
      'Cl',
      'X',
      'x',
      '(',
      ')',
      '[',
      '}',
      '.',
      '·',
      '*',
      '₂',
      '0',
      '9',
      '1e9',
      '-',
      '+',
      ' ',
      '\n',
      '😀',
    );
    const texts = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 2000 }),
      fc.array(pieces, { maxLength: 400 }).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const start = performance.now();
        try {
          for (const value of parseFormula(text).values()) expect(value > 0 && Number.isFinite(value)).toBe(true);
        } catch (error) {
          if (!(error instanceof FormulaError)) throw error;
          expect(error.position).toBeGreaterThanOrEqual(0);
          expect(error.position).toBeLessThanOrEqual(text.length);
        }
        expect(performance.now() - start).toBeLessThan(1000);
      }),
      { numRuns: 3000, seed: 7 },
    );
  });

  test('reads back what formatFormula writes', () => {
    const symbols = fc.uniqueArray(fc.constantFrom(...elements.map(({ symbol }) => symbol)), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        symbols,
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 12, maxLength: 12 }),
        (chosen, counts) => {
          const composition = new Map(chosen.map((symbol, i) => [symbol, counts[i]]));
          const again = parseFormula(formatFormula(composition));
          expect(Object.fromEntries(again)).toEqual(Object.fromEntries(composition));
        },
      ),
      { numRuns: 500, seed: 8 },
    );
  });
});

describe('reduceFormula', () => {
  test("equals pymatgen's integer formula", () => {
    let compared = 0;
    for (const { text, integer } of vectors) {
      const parsed = parseFormula(text);
      // Thirds written as 0.333 and sums of many fractions have no agreed answer.
      if (!integer || [...parsed.values()].some((value) => !Number.isInteger(value * 100))) continue;
      if (text.includes('.') && [...reduceFormula(parsed).values()].some((value) => value > 2000)) continue;
      expect(Object.fromEntries(reduceFormula(parsed)), text).toEqual(integer);
      compared++;
    }
    expect(compared).toBeGreaterThan(250);
  });

  test('divides by the greatest common divisor and multiplies fractions out', () => {
    const reduced = (text: string): string => formatFormula(reduceFormula(parseFormula(text)));
    expect(reduced('K4Mn4O8')).toBe('KMnO2');
    expect(reduced('Na2Cl2')).toBe('NaCl');
    expect(reduced('O2')).toBe('O');
    expect(reduced('Fe0.95O')).toBe('Fe19O20');
    expect(reduced('Fe0.5O0.5')).toBe('FeO');
    expect(reduced('Fe0.333333333O')).toBe('FeO3');
    expect(reduced('Fe0.123457O0.987653')).toBe('Fe0.123457O0.987653');
  });
});

test('formatFormula orders by electronegativity, then symbol, unknown values last', () => {
  expect(formatFormula(parseFormula('O2HCaCl'))).toBe('CaHClO2');
  expect(formatFormula(parseFormula('N3Cs'))).toBe('CsN3');
  expect(formatFormula(parseFormula('CoSn2Co'))).toBe('Co2Sn2');
  expect(formatFormula(parseFormula('PmO'))).toBe('OPm');
});
