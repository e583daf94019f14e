/** Formulas, packed rows, verdicts, data sets and figures where they are easiest to get wrong: limits, ties, messages. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { frequencyDraw, sizeDraw, uniformDraw } from '../../src/chem/baseline.ts';
import { byElementCount, loadFormulas, prepareData, splitRows, uniqueRows } from '../../src/chem/dataset.ts';
import { totalVariation } from '../../src/chem/distributions.ts';
import { element, matganElements } from '../../src/chem/elements.ts';
import {
  countByElements,
  decodeMatrix,
  encodeMatrix,
  matrixCells,
  type PackedFormulas,
  PackedSet,
  packedKey,
  packFormula,
  reducePacked,
  rowElements,
  rowWords,
  unpackRow,
  writePairs,
} from '../../src/chem/encoding.ts';
import { formatFormula, gcd, parseFormula, quoted, reduceFormula } from '../../src/chem/formula.ts';
import { elementOccurrences, evaluateFormulas, reducedRows, validityRates } from '../../src/chem/metrics.ts';
import { defaultCount, defaultSeed, synthesize } from '../../src/chem/synth.ts';
import { flagEN, judge, judgePacked } from '../../src/chem/validity.ts';
import { ConfigError, DataError, FormulaError } from '../../src/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-edges-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const save = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};
const amounts = (text: string): Record<string, number> => Object.fromEntries(parseFormula(text));
const pack = (...texts: string[]): PackedFormulas => {
  const packed = new Uint32Array(texts.length * rowWords);
  for (const [i, text] of texts.entries()) packed.set(packFormula(parseFormula(text)), i * rowWords);
  return { packed, rows: texts.length };
};
/** Kind, position and message of what a function throws. */
function fault(work: () => unknown): { kind: string; position: number; message: string } {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(FormulaError);
    const { kind, position, message } = error as FormulaError & { kind: string };
    return { kind, position, message };
  }
  throw new Error('nothing was thrown');
}

describe('parseFormula says what is wrong', () => {
  test.each<[string, string, number, string]>([
    ['', 'empty', 0, 'the formula is empty; write one such as NaCl'],
    [
      '12.5',
      'a number, not a formula',
      0,
      'formula "12.5", character 1: a number is not a formula; write one such as NaCl',
    ],
    ['NaXx', 'unknown element', 2, 'formula "NaXx", character 3: Xx is not an element; check the spelling'],
    ['NaXxxxxxxxxxxxxxxx', 'unknown element', 2, 'Xxxxxxxxxxxx is not an element'],
    ['NaCl2)', 'not a formula', 5, 'formula "NaCl2)", character 6: no bracket is open for this ); remove it'],
    ['Ca(OH', 'not a formula', 2, 'formula "Ca(OH", character 3: the bracket ( is never closed; add )'],
    ['Ca[OH', 'not a formula', 2, 'the bracket [ is never closed; add ]'],
    ['Ca{OH', 'not a formula', 2, 'the bracket { is never closed; add }'],
    ['Ca(OH]2', 'not a formula', 5, 'formula "Ca(OH]2", character 6: ( is closed by ]; write )'],
    ['Ca()2', 'not a formula', 2, 'formula "Ca()2", character 3: the brackets are empty; remove them'],
    ['Fe0O', 'amount out of range', 2, 'formula "Fe0O", character 3: an amount of zero; leave the element out'],
    ['Fe0.0O', 'amount out of range', 2, 'an amount of zero; leave the element out'],
    ['Fe3+', 'not a formula', 3, 'formula "Fe3+", character 4: + is not read; leave charges and variables out'],
    ['Fe3-', 'not a formula', 3, '- is not read; leave charges and variables out'],
    ['Fe^3', 'not a formula', 2, '^ is not read; leave charges and variables out'],
    ['Fe\u2212', 'not a formula', 2, '\u2212 is not read; leave charges and variables out'],
    ['Fe\u207a', 'not a formula', 2, '\u207a is not read; leave charges and variables out'],
    ['Fe\u207b', 'not a formula', 2, '\u207b is not read; leave charges and variables out'],
    ['Fe\u208b', 'not a formula', 2, '\u208b is not read; leave charges and variables out'],
    ['Fe\u208c', 'not a formula', 2, '"\u208c" does not belong in a formula; remove it'],
    ['Fe\u2079', 'not a formula', 2, '"\u2079" does not belong in a formula; remove it'],
    [
      '2NaCl',
      'not a formula',
      0,
      'character 1: a number without an element before it; numbers follow an element, a bracket or a ·',
    ],
    ['.5Na', 'not a formula', 0, 'a number without an element before it; numbers follow an element, a bracket or a ·'],
    ['nacl', 'not a formula', 0, 'character 1: n cannot begin an element; symbols start with a capital letter'],
    ['Na z', 'not a formula', 3, 'character 4: z cannot begin an element; symbols start with a capital letter'],
    ['Na😀', 'not a formula', 2, 'formula "Na😀", character 3: "😀" does not belong in a formula; remove it'],
    ['CuSO4·', 'not a formula', 5, 'character 6: an element is missing here'],
    ['CuSO4··H2O', 'not a formula', 6, 'character 7: an element is missing here'],
    ['·H2O', 'not a formula', 0, 'character 1: an element is missing here'],
    ['Fe1000000001', 'amount out of range', 2, 'character 3: the amount is not between 0.000001 and 1000000000'],
    ['Fe0.0000009', 'amount out of range', 2, 'character 3: the amount is not between 0.000001 and 1000000000'],
    ['Fe1.00000000000000001', 'amount out of range', 2, 'the amount is not between'],
    [
      '(Fe1000000)1001',
      'amount out of range',
      10,
      'character 11: the amount of Fe is not between 0.000001 and 1000000000',
    ],
    ['Fe500000000Fe500000001', 'amount out of range', 11, 'character 12: the amount of Fe is not between'],
    ['(Fe0.001)0.0001', 'amount out of range', 8, 'the amount of Fe is not between'],
    [`${'('.repeat(33)}Na`, 'too long or too deep', 32, 'brackets nest more than 32 deep; multiply some out'],
  ])('%j', (text, kind, position, message) => {
    const said = fault(() => parseFormula(text));
    expect([said.kind, said.position]).toEqual([kind, position]);
    expect(said.message).toContain(message);
    if (message.startsWith('formula') || message.startsWith('the formula')) expect(said.message).toBe(message);
  });

  test('texts of the longest length are read, longer ones and what is no text are not', () => {
    expect(amounts('Na'.repeat(500))).toEqual({ Na: 500 });
    expect(fault(() => parseFormula(`${'Na'.repeat(500)}O`))).toEqual({
      kind: 'too long or too deep',
      position: 1000,
      message: `formula "${'Na'.repeat(28)}N..." has 1001 characters; the longest that is read has 1000`,
    });
    expect(fault(() => parseFormula(5 as unknown as string))).toEqual({
      kind: 'not a formula',
      position: 0,
      message: 'a formula must be a text, not number',
    });
  });

  test('texts are quoted whole up to 60 characters, then cut to 57 and three points', () => {
    expect(quoted('x'.repeat(60))).toBe(`"${'x'.repeat(60)}"`);
    expect(quoted('x'.repeat(61))).toBe(`"${'x'.repeat(57)}..."`);
    expect(quoted('a"\n')).toBe('"a\\"\\n"');
  });
});

describe('parseFormula reads', () => {
  test.each<[string, Record<string, number>]>([
    ['Fe1000000000', { Fe: 1e9 }],
    ['Fe0.000001', { Fe: 1e-6 }],
    ['Fe1.00000000000000', { Fe: 1 }],
    [`${'('.repeat(32)}Na${')'.repeat(32)}`, { Na: 1 }],
    ['Fe.95O', { Fe: 0.95, O: 1 }],
    ['Fe3.O4', { Fe: 3, O: 4 }],
    ['CuSO4.5H2O', { Cu: 1, S: 1, O: 9, H: 10 }],
    ['CuSO4.5D2O', { Cu: 1, S: 1, O: 9, H: 10 }],
    ['CuSO4.5(H2O)', { Cu: 1, S: 1, O: 9, H: 10 }],
    ['CuSO4.5(D2O)', { Cu: 1, S: 1, O: 9, H: 10 }],
    ['CuSO4.5 H2O ', { Cu: 1, S: 1, O: 9, H: 10 }],
    ['CuSO4.2.5H2O', { Cu: 1, S: 1, O: 6.5, H: 5 }],
    ['CuSO4.5H2', { Cu: 1, S: 1, O: 4.5, H: 2 }],
    ['CuSO4.5H2ONa', { Cu: 1, S: 1, O: 5.5, H: 2, Na: 1 }],
    ['Al2O3·2SiO2', { Al: 2, O: 7, Si: 2 }],
    ['Al2O3\u30fb2SiO2', { Al: 2, O: 7, Si: 2 }],
    ['Ca ( O H ) 2', { Ca: 1, O: 2, H: 2 }],
    ['Na 2 Cl', { Na: 2, Cl: 1 }],
    ['[Na]2{Cl}3', { Na: 2, Cl: 3 }],
    ['T2O', { H: 2, O: 1 }],
    ['Fe\u2080\u2089', { Fe: 9 }],
    // Tenths that add up to one as near as doubles come: whole, as pymatgen has it.
    ['O0.7O0.1O0.2', { O: 1 }],
    ['O0.33333333O0.66666666', { O: 0.99999999 }],
  ])('%j', (text, expected) => {
    const found = amounts(text);
    expect(Object.keys(found)).toEqual(Object.keys(expected));
    for (const [symbol, value] of Object.entries(expected)) {
      if (Number.isInteger(value)) expect(found[symbol]).toBe(value);
      else expect(found[symbol]).toBeCloseTo(value, 10);
    }
  });
});

describe('whole amounts', () => {
  const reduced = (...pairs: [string, number][]): Record<string, number> =>
    Object.fromEntries(reduceFormula(new Map(pairs)));

  test('denominators up to 10,000, multiplied out together', () => {
    expect(reduced(['Fe', 0.5], ['O', 0.75])).toEqual({ Fe: 2, O: 3 });
    expect(reduced(['Fe', 1 / 3], ['O', 1 / 4])).toEqual({ Fe: 4, O: 3 });
    expect(reduced(['Fe', 1.0001], ['O', 1])).toEqual({ Fe: 10_001, O: 10_000 });
    const finer = { Fe: 1 + 1 / 20_001, O: 1 };
    expect(reduced(['Fe', finer.Fe], ['O', 1])).toEqual(finer);
    // Each fits, both together do not.
    const two = { Fe: 1 / 101, O: 1 / 103 };
    expect(reduced(['Fe', two.Fe], ['O', two.O])).toEqual(two);
    expect(reduced(['Fe', 1 / 100], ['O', 1 / 99])).toEqual({ Fe: 99, O: 100 });
  });

  test('a copy comes back, never the map itself; no elements stay none', () => {
    const given = new Map([['Fe', Math.PI]]);
    expect(reduceFormula(given)).toEqual(given);
    expect(reduceFormula(given)).not.toBe(given);
    expect(reduceFormula(new Map()).size).toBe(0);
  });

  test('gcd', () => {
    expect([gcd(0, 0), gcd(0, 5), gcd(5, 0), gcd(12, 18), gcd(18, 12), gcd(7, 5)]).toEqual([0, 5, 5, 6, 6, 1]);
  });
});

describe('formatFormula', () => {
  test('equal electronegativities by symbol; fractions with eight decimals at most; strangers last', () => {
    // K and Rb both have 0.82, Ge and Nd do not.
    expect(
      formatFormula(
        new Map([
          ['Rb', 1],
          ['K', 2],
          ['Na', 3],
        ]),
      ),
    ).toBe('K2RbNa3');
    expect(
      formatFormula(
        new Map([
          ['O', 1 / 3],
          ['Na', 0.5],
        ]),
      ),
    ).toBe('Na0.5O0.33333333');
    expect(
      formatFormula(
        new Map([
          ['Zz', 1],
          ['Pm', 2],
          ['O', 1],
        ]),
      ),
    ).toBe('OPm2Zz');
    expect(formatFormula(new Map())).toBe('');
  });
});

describe('packed rows', () => {
  test('what does not fit, in full', () => {
    expect(fault(() => packFormula(new Map()))).toMatchObject({
      kind: 'empty',
      message: 'the formula is empty; write one such as NaCl',
    });
    expect(fault(() => packFormula(parseFormula('NaCl9'))).message).toBe(
      'formula NaCl9: 9 atoms of Cl; the matrix holds 1 to 8, so reduce it',
    );
    expect(fault(() => packFormula(new Map([['Na', 0]]))).message).toContain('0 atoms of Na; the matrix holds 1 to 8');
    expect(fault(() => packFormula(parseFormula('HeO'))).message).toBe(
      'formula OHe: He is none of the 85 elements of the matrix; leave this row out',
    );
    expect(fault(() => packFormula(parseFormula('Fe0.5O'))).message).toBe(
      'formula Fe0.5O: Fe has a fractional amount; multiply the formula out',
    );
    expect(fault(() => packFormula(parseFormula('HLiBeBCNOFNa'))).message).toMatch(
      /^formula \S+: 9 elements; a packed row holds 8$/,
    );
    expect(rowElements(packFormula(parseFormula('HLiBeBCNOF')), 0)).toBe(8);
  });

  test('eight elements with eight atoms each, beside full neighbours', () => {
    const full = 'H8Li8Be8B8C8N8O8F8';
    const { packed } = pack('Na2Cl2', full, 'K2Cl4');
    expect(rowElements(packed, 1)).toBe(8);
    expect(Object.values(Object.fromEntries(unpackRow(packed, 1)))).toEqual(new Array(8).fill(8));
    const odd = pack('HLi2Be2B2C2N2O2F2', 'Na2Cl2');
    expect(reducePacked(odd.packed, 0)).toBe(1);
    expect(reducePacked(packed, 1)).toBe(8);
    expect(formatFormula(unpackRow(packed, 0))).toBe('Na2Cl2');
    expect(formatFormula(unpackRow(packed, 1))).toBe(formatFormula(parseFormula('HLiBeBCNOF')));
    expect(formatFormula(unpackRow(packed, 2))).toBe('K2Cl4');
    const even = pack('H4Li4Be4B4C4N4O4F2', 'Na3Cl3');
    expect(reducePacked(even.packed, 0)).toBe(2);
    expect(formatFormula(unpackRow(even.packed, 1))).toBe('Na3Cl3');
    expect([...encodeMatrix(even.packed, 0)].reduce((a, b) => a + b)).toBe(8);
  });

  test('writePairs takes as many as it is told, sorts them, and empties the rest', () => {
    const words = new Uint32Array(2 * rowWords).fill(0xffffffff);
    writePairs(words, 0, [0x301, 0x102, 0x203, 0x7ff], 3);
    expect([...words.subarray(0, rowWords)]).toEqual([0x0203_0102, 0x301, 0, 0]);
    expect([...words.subarray(rowWords)]).toEqual(new Array(rowWords).fill(0xffffffff));
    writePairs(words, 1, [0x8801], 1);
    expect([...words.subarray(rowWords)]).toEqual([0x8801, 0, 0, 0]);
    writePairs(words, 0, [], 0);
    expect([...words.subarray(0, rowWords)]).toEqual([0, 0, 0, 0]);
  });

  test('encodeMatrix fills its own cells and leaves the others', () => {
    const out = new Float32Array(3 * matrixCells).fill(7);
    expect(encodeMatrix(pack('NaCl').packed, 0, out, matrixCells)).toBe(out);
    expect(out.subarray(0, matrixCells).every((v) => v === 7)).toBe(true);
    expect(out.subarray(2 * matrixCells).every((v) => v === 7)).toBe(true);
    expect(out.subarray(matrixCells, 2 * matrixCells).reduce((a, b) => a + b)).toBe(2);
  });

  test('thresholds themselves are on: 0.2 by the paper’s rule, 0.5 by the greatest; of equals the first', () => {
    const cells = (...list: [cell: number, value: number][]): Float64Array => {
      const values = new Float64Array(matrixCells);
      for (const [cell, value] of list) values[cell] = value;
      return values;
    };
    const below = 0.2 - 1e-12;
    expect([...decodeMatrix(cells([0, 0.2], [8, 0.2]), 0, 'paper')!]).toEqual([...pack('HLi').packed]);
    expect(decodeMatrix(cells([0, 0.2], [8, below]), 0, 'paper')).toBeNull();
    expect([...decodeMatrix(cells([0, 0.5], [8, 0.5]), 0, 'argmax')!]).toEqual([...pack('HLi').packed]);
    expect(decodeMatrix(cells([0, 0.5], [8, 0.5 - 1e-12]), 0, 'argmax')).toBeNull();
    const ties = cells([1, 0.6], [3, 0.6], [12, 0.7], [13, 0.6]);
    expect([...decodeMatrix(ties, 0, 'argmax')!]).toEqual([...pack('H2Li5').packed]);
    expect([...decodeMatrix(ties, 0, 'paper')!]).toEqual([...pack('H4Li6').packed]);
    const eight = cells(...Array.from({ length: 8 }, (_, i): [number, number] => [8 * i + 7, 1]));
    expect([...decodeMatrix(eight, 0, 'paper')!]).toEqual([...pack('H8Li8Be8B8C8N8O8F8').packed]);
    expect([...decodeMatrix(eight, 0, 'argmax')!]).toEqual([...pack('H8Li8Be8B8C8N8O8F8').packed]);
    // The last element, at an offset.
    const last = new Float64Array(2 * matrixCells);
    last[matrixCells] = 1;
    last[2 * matrixCells - 1] = 1;
    expect([...decodeMatrix(last, matrixCells, 'argmax')!]).toEqual([...pack('HPu8').packed]);
  });

  test('a set grows as often as it must: thousands of formulas from a capacity of one', () => {
    const { packed, rows } = synthesize({ count: 3000, seed: 9 });
    const set = new PackedSet(1);
    const keys = new Map<string, number>();
    for (let row = 0; row < rows; row++) {
      expect(set.indexOf(packed, row)).toBe(-1);
      expect(set.add(packed, row)).toBe(true);
      keys.set(packedKey(packed, row), row);
    }
    expect([set.size, keys.size]).toEqual([rows, rows]);
    expect([...set.packed]).toEqual([...packed.subarray(0, rows * rowWords)]);
    for (let row = 0; row < rows; row++) {
      expect(set.indexOf(packed, row)).toBe(row);
      expect(set.add(packed, row)).toBe(false);
    }
    expect(set.has(pack('Na8Cl').packed, 0)).toBe(false);
  });

  test('a set of exactly its capacity', () => {
    const { packed } = synthesize({ count: 16, seed: 2 });
    const set = new PackedSet(16);
    for (let row = 0; row < 16; row++) set.add(packed, row);
    expect(set.size).toBe(16);
    expect([...set.packed]).toEqual([...packed]);
  });
});

describe('verdicts', () => {
  test('the choice of states is the most usual one, a balanced one where there is one', () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(...matganElements), fc.integer({ min: 1, max: 4 })), {
      minLength: 2,
      maxLength: 4,
      selector: ([symbol]) => symbol,
    });
    const cost = (symbol: string, state: number): number => {
      const place = element(symbol)!.commonStates.indexOf(state);
      return place < 0 ? 10 : place;
    };
    const cheapest = (list: [string, number][]): { neutral: number; balanced: number } => {
      const best = { neutral: Number.POSITIVE_INFINITY, balanced: Number.POSITIVE_INFINITY };
      const walk = (i: number, charge: number, sum: number, states: number[]): void => {
        if (i === list.length) {
          if (charge !== 0) return;
          best.neutral = Math.min(best.neutral, sum);
          const value = ([symbol]: [string, number]): number => element(symbol)!.electronegativity ?? Number.NaN;
          const balanced = list.every((a, p) =>
            list.every((b, q) => !(states[p] > 0 && states[q] < 0) || value(a) < value(b)),
          );
          if (balanced && list.every((a) => !Number.isNaN(value(a)))) best.balanced = Math.min(best.balanced, sum);
          return;
        }
        const [symbol, count] = list[i];
        for (const state of element(symbol)!.oxidationStates) {
          walk(i + 1, charge + state * count, sum + cost(symbol, state), [...states, state]);
        }
      };
      walk(0, 0, 0, []);
      return best;
    };
    fc.assert(
      fc.property(pairs, (list) => {
        const divisor = list.reduce((sum, [, count]) => gcd(sum, count), 0);
        const verdict = judge(new Map(list), { reduce: false });
        const best = cheapest(list);
        expect(verdict.chargeNeutral).toBe(divisor === 1 && Number.isFinite(best.neutral));
        if (!verdict.oxidationStates) return;
        expect(verdict.electronegativityBalanced).toBe(Number.isFinite(best.balanced));
        const chosen = Object.entries(verdict.oxidationStates);
        expect(chosen.map(([symbol]) => symbol)).toEqual(list.map(([symbol]) => symbol));
        const sum = chosen.reduce((total, [symbol, state]) => total + cost(symbol, state), 0);
        expect(sum).toBe(verdict.electronegativityBalanced ? best.balanced : best.neutral);
      }),
      { numRuns: 800, seed: 6 },
    );
  });

  test.each<[string, Record<string, number>]>([
    ['FeO', { Fe: 2, O: -2 }],
    ['Fe2O3', { Fe: 3, O: -2 }],
    ['H2O2', { H: 1, O: -1 }],
    ['KMnO4', { K: 1, Mn: 7, O: -2 }],
    ['SnO', { Sn: 2, O: -2 }],
    ['NH3', { N: -3, H: 1 }],
  ])('%s by its usual states', (formula, states) => {
    expect(judge(parseFormula(formula)).oxidationStates).toEqual(states);
  });

  test('refusals in full', () => {
    expect(fault(() => judge(parseFormula('Fe0.5O0.5'), { reduce: false }))).toMatchObject({
      kind: 'fractional amount',
      message: 'formula Fe0.5O0.5: Fe has a fractional amount, which the rule cannot judge; multiply the formula out',
    });
    expect(fault(() => judge(new Map([['Na', 0]]), { reduce: false })).kind).toBe('fractional amount');
    expect(fault(() => judge(new Map([['Xx', 1]])))).toMatchObject({
      kind: 'unknown element',
      message: 'Xx is not an element; check the spelling',
    });
    const hostile = new Map(matganElements.map((symbol, i) => [symbol, (i * 611_953 * 7919) % 999_999_937 || 1]));
    for (const symbol of matganElements) if (element(symbol)!.oxidationStates.length < 4) hostile.delete(symbol);
    const said = fault(() => judge(hostile));
    expect(said.kind).toBe('too many combinations');
    expect(said.message).toMatch(
      /^formula \S+: \d+ elements with these amounts have too many combinations of charges to judge; check the amounts$/,
    );
  });

  test('no elements, and one', () => {
    const none = { chargeNeutral: false, electronegativityBalanced: false, oxidationStates: null };
    expect(judge(new Map())).toEqual(none);
    expect(judge(parseFormula('O2'))).toEqual(none);
    expect([...judgePacked(new Uint32Array(2 * rowWords))]).toEqual([0, 0]);
    // As many rows as there are words for, unless said.
    expect([...judgePacked(pack('NaCl', 'Fe3O4', 'PmCl3').packed)]).toEqual([3, 0, 1]);
    expect([...judgePacked(pack('NaCl', 'NaCl').packed, 1)]).toEqual([3]);
  });

  test('sums beyond one word of bits, and many elements of equal electronegativity', () => {
    for (const formula of [
      'Os8F8O8Cl8Br8I8S8Se7',
      'KRbNa',
      'KRbCl2',
      'TbEuGdO',
      'ScBaTi7O8',
      'Pu8O7F8',
      'W8Cl8O8Br8',
    ]) {
      const composition = parseFormula(formula);
      const slow = judge(composition, { reduce: false });
      const flags = judgePacked(packFormula(composition), 1)[0];
      expect([flags & 1, flags & flagEN], formula).toEqual([
        Number(slow.chargeNeutral),
        slow.electronegativityBalanced ? flagEN : 0,
      ]);
    }
  });
});

describe('data sets', () => {
  test('rejected rows in full, lines that are none without a number; the list goes when there is none', async () => {
    const file = save('rows.csv', 'formula,e_form\nNaCl,1\n,2\nXx,3\nKBr,1,2\nHeO,1\n5,1\nNaCl9,1\nKBr,4\n');
    const result = await prepareData(file, { rules: 'none', out: at('rows.out.csv') });
    expect(result).toMatchObject({
      rules: 'none',
      source: { file: 'rows.csv', formulaColumn: 'formula' },
      rows: 8,
      unusable: { missing: 1, 'unknown element': 1, 'a number, not a formula': 1, 'malformed line': 1 },
      kept: 2,
      withoutEnergy: 0,
      withoutGap: 2,
      paper: { rows: null, kept: null },
      out: at('rows.out.csv'),
      rejectedFile: `${at('rows.out.csv')}.rejected.csv`,
      steps: [{ rule: 'fits 85 × 8', removed: 2, left: 2 }],
      byElementCount: { 2: 2 },
    });
    expect(readFileSync(result.rejectedFile!, 'utf8').trim().split('\n')).toEqual([
      'row,text,reason',
      '2,"",the formula is missing',
      '3,Xx,"formula ""Xx"", character 1: Xx is not an element; check the spelling"',
      '5,5,"formula ""5"", character 1: a number is not a formula; write one such as NaCl"',
      ',"KBr,1,2",line 5 is no row of the table',
      '4,OHe,does not fit 85 × 8: element outside the 85',
      '6,NaCl9,does not fit 85 × 8: more than 8 atoms of an element',
    ]);
    const clean = await prepareData(save('clean.csv', 'formula\nNaCl\n'), { rules: 'none', out: at('rows.out.csv') });
    expect(clean.rejectedFile).toBeNull();
    expect(existsSync(`${at('rows.out.csv')}.rejected.csv`)).toBe(false);
    const { out: _, rejectedFile: __, ...facts } = clean;
    const { version, ...told } = JSON.parse(readFileSync(`${at('rows.out.csv')}.provenance.json`, 'utf8'));
    expect(told).toEqual(facts);
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(clean).toMatchObject({ withoutEnergy: 1, withoutGap: 1 });
    expect(readFileSync(at('rows.out.csv'), 'utf8')).toBe('formula,elements\nNaCl,2\n');
  });

  test('of equal formulas the lowest energy, then the first, one with an energy before one without', async () => {
    const file = save(
      'equal.csv',
      'formula,e_form,gap\nNaCl,2,1\nNa2Cl2,1,2\nNa3Cl3,1,3\nKBr,,4\nK2Br2,9,5\nK3Br3,,6\nMgO,,7\nMg2O2,,8\nLiF,inf,9\n',
    );
    const { energies, gaps, duplicates, unusable } = await loadFormulas(file);
    expect([...gaps!]).toEqual([2, 5, 7, 9]);
    expect([...energies!]).toEqual([1, 9, Number.NaN, Number.NaN]);
    expect([duplicates, unusable]).toEqual([5, {}]);
    expect((await loadFormulas(save('plain.csv', 'formula\nNaCl\n'))).energies).toBeUndefined();
    expect((await loadFormulas(save('plain.csv', 'formula\nNaCl\n'))).gaps).toBeUndefined();
  });

  test.each<[string, (number | undefined)[]]>([
    ['oqmd', [undefined, undefined, 291_884, undefined]],
    ['mp', [undefined, undefined, undefined, 63_922, undefined]],
    ['icsd', [undefined, undefined, undefined, 28_137, undefined]],
    ['icsd-filter', [undefined, undefined, undefined, undefined, undefined, undefined]],
    ['mp-gap', [undefined, undefined, undefined, undefined, 30_186, undefined]],
    ['none', [undefined]],
  ])('rules %s: the paper’s figure stands behind its last rule', async (rules, paper) => {
    const file = save('paper.csv', 'formula,e_form,gap\nNaCl,-1,1\nKBr,-1.1,2\n');
    const { steps } = await prepareData(file, { rules, out: at('paper.out.csv') });
    expect(steps.map((step) => step.paper)).toEqual(paper);
    expect(steps.every(({ left }) => left === 2)).toBe(true);
  });

  test('each rule alone decides: one element, nine atoms, Kr and He, no gap, no balance', async () => {
    const file = save('rules.csv', 'formula,gap\nFe,1\nNaCl8,1\nNaCl9,1\nKrO,1\nHeO,1\nFe3O4,1\nMgO,0\nNaCl,1\n');
    const kept = async (rules: string): Promise<string[]> => {
      await prepareData(file, { rules, out: at('rules.out.csv') });
      return readFileSync(at('rules.out.csv'), 'utf8')
        .trim()
        .split('\n')
        .slice(1)
        .map((line) => line.split(',')[0]);
    };
    expect(await kept('none')).toEqual(['Fe', 'NaCl8', 'Fe3O4', 'MgO', 'NaCl']);
    expect(await kept('icsd')).toEqual(['NaCl8', 'Fe3O4', 'MgO', 'NaCl']);
    expect(await kept('mp-gap')).toEqual(['NaCl8', 'Fe3O4', 'NaCl']);
    expect(await kept('icsd-filter')).toEqual(['MgO', 'NaCl']);
  });

  test('five standard deviations: at them a row stays, beyond it goes', async () => {
    // 50 rows at 0 and one at x: mean x/51, σ = x·√50/51, so the distance is √50 σ = 7.07 σ; with 24 it is √24 σ = 4.9 σ.
    const rows = (n: number): string => {
      const texts = matganElements.slice(0, n).map((symbol) => `${symbol}Xe,0`);
      return `formula,e_form\n${texts.join('\n')}\nLiF,10\n`;
    };
    const left = async (n: number): Promise<number> =>
      (await prepareData(save(`s${n}.csv`, rows(n)), { rules: 'oqmd', out: at('s.csv') })).steps[2].removed;
    expect([await left(50), await left(24)]).toEqual([1, 0]);
  });

  test('refusals in full', async () => {
    const message = (work: Promise<unknown>): Promise<string> =>
      work.then(
        () => '',
        (error) => error.message,
      );
    const words = save('words.csv', 'formula,x\nhello,1\nworld,2\n,3\n');
    expect(await message(loadFormulas(words))).toBe(
      `${words}: none of the 3 rows of column "formula" is a formula (2 × not a formula; formula "hello", character 1: h cannot begin an element; symbols start with a capital letter); name another with --formula-column`,
    );
    const big = save('big.csv', 'formula\nNaCl9\nHeO\n');
    expect(await message(loadFormulas(big))).toBe(
      `${big}: no formula fits 85 × 8 ({"more than 8 atoms of an element":1,"element outside the 85":1}); use another file`,
    );
    const single = save('single.csv', 'formula\nNa\nK\n');
    expect(await message(prepareData(single, { rules: 'icsd', out: at('x.csv') }))).toBe(
      `${single}: the rules icsd leave no row (removed: one row per formula, the lowest energy: 0; no single elements: 2; at most 8 atoms of an element: 0; no Kr or He: 0; fits 85 × 8: 0); choose other rules`,
    );
    expect(await message(prepareData(single, { rules: 'mp-gap', out: at('x.csv') }))).toBe(
      `${single}: has no band gap column; name one with --gap-column, there are formula`,
    );
    expect(await message(prepareData(single, { rules: 'best', out: at('x.csv') }))).toBe(
      '--rules best: no such rules; choose one of oqmd, mp, icsd, icsd-filter, mp-gap, none',
    );
    expect(existsSync(at('x.csv'))).toBe(false);
  });

  test('splitRows: shares from 0 to below 1, whole seeds, parts in ascending order', () => {
    for (const fraction of [-0.1, 1, 1.5, Number.NaN]) {
      expect(() => splitRows(5, fraction, 1)).toThrow(
        new ConfigError(`leave-out fraction ${fraction} is not at least 0 and below 1`),
      );
    }
    for (const seed of [0.5, Number.NaN, 2 ** 53]) {
      expect(() => splitRows(5, 0.1, seed)).toThrow(new ConfigError(`seed ${seed} is not a whole number`));
    }
    const { train, leaveOut } = splitRows(5, 0.5, 1);
    expect([train.length, leaveOut.length]).toEqual([2, 3]);
    for (const part of [train, leaveOut]) expect([...part]).toEqual([...part].sort((a, b) => a - b));
  });

  test('byElementCount names only what is there; uniqueRows keeps the first of each', () => {
    expect(byElementCount(pack('NaCl', 'KBr', 'KMnO4'))).toEqual({ 2: 2, 3: 1 });
    expect(byElementCount(pack())).toEqual({});
    const { packed, rows } = uniqueRows(pack('NaCl', 'KBr', 'NaCl', 'MgO', 'KBr'));
    expect(rows).toBe(3);
    expect([...packed]).toEqual([...pack('NaCl', 'KBr', 'MgO').packed]);
  });
});

describe('the default set', () => {
  test('its defaults, and what it refuses, in full', () => {
    expect([defaultCount, defaultSeed]).toEqual([20_000, 1]);
    for (const count of [0, 200_001, 1.5]) {
      expect(() => synthesize({ count })).toThrow(
        new ConfigError(`synth: count ${count} is not a whole number from 1 to 200,000`),
      );
    }
    expect(() => synthesize({ count: 1, seed: 0.5 })).toThrow(new ConfigError('synth: seed 0.5 is not a whole number'));
  });
});

describe('figures', () => {
  const training = pack('NaCl', 'NaCl', 'Fe2O3', 'KMnO4', 'Fe3O4', 'PmCl3');
  const leaveOut = pack('MgO', 'CaTiO3', 'LiF');
  const generated = pack('Na2Cl2', 'NaCl', 'MgO', 'Fe3O4', 'LiFe', 'KMnO4', 'BaTiO3', 'NaClO4', 'CuFeS2');

  test('every one against its definition', () => {
    const seed = 4;
    const result = evaluateFormulas({
      generated,
      training,
      leaveOut,
      others: { A: pack('BaTiO3', 'Ba2Ti2O6', 'LiF'), B: pack('CsI') },
      seed,
    });
    const reduced = reducedRows(generated);
    const rates = validityRates(reduced);
    const unique = uniqueRows(reduced);
    const uniqueRates = validityRates(unique);
    const share = (part: number, whole: number): number => part / whole;
    expect(result).toMatchObject({
      rule: 'paper',
      reduced: true,
      seed,
      generated: 9,
      unique: 8,
      uniqueness: share(8, 9),
      chargeNeutral: rates.chargeNeutral,
      electronegativityBalanced: rates.electronegativityBalanced,
      uniqueChargeNeutral: uniqueRates.chargeNeutral,
      uniqueElectronegativityBalanced: uniqueRates.electronegativityBalanced,
      // LiFe, BaTiO3, NaClO4, CuFeS2 are in neither.
      novel: 4,
      novelty: share(4, 8),
      // NaCl, Fe3O4 and KMnO4 of five; MgO of three.
      recoveredTraining: share(3, 5),
      recoveredLeaveOut: share(1, 3),
      confirmed: { A: 1, B: 0 },
      training: { ...validityRates(training), unique: 5 },
      leaveOut: { ...validityRates(leaveOut), unique: 3 },
    });
    expect(result.training).toMatchObject({ count: 6, chargeNeutral: 5 / 6, electronegativityBalanced: 4 / 6 });

    const sizes = countByElements(reduced);
    const trainingSizes = countByElements(training);
    // As the evaluation draws them: formula by formula, with the size of each generated one, or one drawn from training's.
    const rowsOf = (draw: (words: Uint32Array, row: number) => boolean): PackedFormulas => {
      const packed = new Uint32Array(9 * rowWords);
      for (let row = 0; row < 9; row++) expect(draw(packed, row)).toBe(true);
      return { packed, rows: 9 };
    };
    const uniform = uniformDraw(seed);
    const frequency = frequencyDraw(training, seed);
    const size = sizeDraw(trainingSizes, seed);
    const draws = {
      uniform: rowsOf((words, row) => uniform(words, row, rowElements(reduced.packed, row))),
      frequency: rowsOf((words, row) => frequency(words, row, size())),
    };
    expect(countByElements(draws.uniform)).toEqual(sizes);
    const trainingSet = PackedSet.of(training);
    const leaveOutSet = PackedSet.of(leaveOut);
    const found = (wanted: PackedSet, drawn: PackedFormulas, n?: number): number => {
      const set = PackedSet.of(drawn);
      let hits = 0;
      let all = 0;
      for (let row = 0; row < wanted.size; row++) {
        if (n !== undefined && rowElements(wanted.packed, row) !== n) continue;
        all++;
        if (set.has(wanted.packed, row)) hits++;
      }
      return hits / all;
    };
    const part = (formulas: PackedFormulas, n: number): PackedFormulas => {
      const rows = Array.from({ length: formulas.rows }, (_, row) => row).filter(
        (row) => rowElements(formulas.packed, row) === n,
      );
      return {
        packed: Uint32Array.from(rows.flatMap((row) => [...formulas.packed.subarray(4 * row, 4 * row + 4)])),
        rows: rows.length,
      };
    };
    for (const [name, drawn] of Object.entries(draws) as ['uniform' | 'frequency', PackedFormulas][]) {
      expect(result.baselines[name]).toMatchObject({
        ...validityRates(drawn),
        unique: PackedSet.of(drawn).size,
        recoveredTraining: found(trainingSet, drawn),
        recoveredLeaveOut: found(leaveOutSet, drawn),
        totalVariation: {
          elementCount: totalVariation(countByElements(drawn), trainingSizes),
          elements: totalVariation(elementOccurrences(drawn), elementOccurrences(training)),
        },
      });
    }
    expect(result.totalVariation).toMatchObject({
      elementCount: totalVariation(sizes, trainingSizes),
      elements: totalVariation(elementOccurrences(reduced), elementOccurrences(training)),
    });

    expect(Object.keys(result.byElementCount)).toEqual(['2', '3']);
    let neutral = 0;
    let balanced = 0;
    for (const n of [2, 3]) {
      const row = result.byElementCount[n];
      expect(row).toMatchObject({
        generated: validityRates(part(reduced, n)),
        training: validityRates(part(training, n)),
        uniform: validityRates(part(draws.uniform, n)),
        frequency: validityRates(part(draws.frequency, n)),
        recoveredTraining: found(trainingSet, reduced, n),
        recoveredLeaveOut: found(leaveOutSet, reduced, n),
        frequencyRecoveredTraining: found(trainingSet, draws.frequency, n),
        frequencyRecoveredLeaveOut: found(leaveOutSet, draws.frequency, n),
      });
      neutral += (row.training.count / 6) * row.generated.chargeNeutral!;
      balanced += (row.training.count / 6) * row.generated.electronegativityBalanced!;
    }
    expect(result.reweighted.chargeNeutral).toBeCloseTo(neutral, 12);
    expect(result.reweighted.electronegativityBalanced).toBeCloseTo(balanced, 12);
    expect(result.reweighted.covered).toBe(1);
  });

  test('sizes that one side lacks: null, not zero; covered says how much of training is compared', () => {
    const result = evaluateFormulas({
      generated: pack('NaCl', 'BaTi2O4'),
      training: pack('KBr', 'KMnCl2O4', 'LiF'),
      seed: 1,
    });
    expect(Object.keys(result.byElementCount)).toEqual(['2', '3', '4']);
    expect(result.byElementCount[3]).toMatchObject({
      recoveredTraining: null,
      training: { count: 0, chargeNeutral: null },
    });
    expect(result.byElementCount[4]).toMatchObject({
      generated: { count: 0, chargeNeutral: null, electronegativityBalanced: null },
      recoveredTraining: 0,
      recoveredLeaveOut: null,
      frequencyRecoveredLeaveOut: null,
    });
    expect(result.reweighted).toEqual({ chargeNeutral: 1, electronegativityBalanced: 1, covered: 2 / 3 });
    const apart = evaluateFormulas({ generated: pack('BaTiO3'), training: pack('KBr'), seed: 1 });
    expect(apart.reweighted).toEqual({ chargeNeutral: null, electronegativityBalanced: null, covered: 0 });
    expect(apart.totalVariation).toEqual({
      elementCount: 1,
      elements: expect.closeTo(1, 12),
      pairs: expect.closeTo(1, 12),
      stoichiometries: 1,
    });
    const beside = evaluateFormulas({
      generated: pack('NaCl'),
      training: pack('KBr'),
      leaveOut: pack('BaTiO3'),
      seed: 1,
    });
    expect(Object.keys(beside.byElementCount)).toEqual(['2', '3']);
  });

  test('formulas of eight elements are counted like others', () => {
    const eight = 'LiNaKMgCaTiOF';
    const composition = parseFormula(eight);
    const verdict = judge(composition);
    const result = evaluateFormulas({ generated: pack(eight, 'NaCl'), training: pack(eight, 'KBr'), seed: 1 });
    expect(result.byElementCount[8]).toMatchObject({
      generated: { count: 1, chargeNeutral: Number(verdict.chargeNeutral) },
      training: { count: 1 },
      recoveredTraining: 1,
    });
    expect(verdict.chargeNeutral).toBe(true);
    expect(result.chargeNeutral).toBe(1);
    expect(result.byElementCount[8].generated.electronegativityBalanced).toBe(
      Number(verdict.electronegativityBalanced),
    );
  });

  test('nothing generated, nothing to train on, and an empty leave-out set', () => {
    expect(() => evaluateFormulas({ generated: pack(), training, seed: 1 })).toThrow(
      new DataError('evaluate: nothing was generated; train longer or decode by another rule'),
    );
    expect(() => evaluateFormulas({ generated, training: pack(), seed: 1 })).toThrow(
      new DataError('evaluate: the training set is empty; name the set the model was trained on'),
    );
    const result = evaluateFormulas({ generated, training, leaveOut: pack(), seed: 1 });
    expect(result).toMatchObject({
      recoveredLeaveOut: null,
      leaveOut: { count: 0, unique: 0, chargeNeutral: null },
    });
  });

  test('total variation of empty counts', () => {
    const none = new Uint32Array(3);
    const some = Uint32Array.of(1, 0, 3);
    expect(totalVariation(none, none)).toBe(0);
    expect(totalVariation(none, some)).toBe(0.5);
    expect(totalVariation(some, none)).toBe(0.5);
    expect(totalVariation(some, Uint32Array.of(0, 5, 0))).toBe(1);
    expect(totalVariation(some, Uint32Array.of(2, 0, 6))).toBe(0);
  });

  test('reducedRows copies', () => {
    const given = pack('Na2Cl2', 'KBr');
    const before = [...given.packed];
    expect([...reducedRows(given).packed]).toEqual([...pack('NaCl', 'KBr').packed]);
    expect([...given.packed]).toEqual(before);
    // Only its rows, where the words behind are more.
    expect(reducedRows({ packed: given.packed, rows: 1 }).packed.length).toBe(rowWords);
  });
});
