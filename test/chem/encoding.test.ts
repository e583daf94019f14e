import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { elementIndex, matganElements } from '../../src/chem/elements.ts';
import {
  countByElements,
  decodeMatrices,
  decodeMatrix,
  encodeMatrix,
  matrixCells,
  PackedSet,
  packedKey,
  packFormula,
  packPlain,
  reducePacked,
  rowElements,
  rowWords,
  takeRows,
  unpackRow,
} from '../../src/chem/encoding.ts';
import { parseFormula, reduceFormula } from '../../src/chem/formula.ts';
import { FormulaError } from '../../src/errors.ts';

const pack = (text: string): Uint32Array => packFormula(parseFormula(text));
const compositions = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...matganElements), fc.integer({ min: 1, max: 8 })), {
    minLength: 1,
    maxLength: 8,
    selector: ([symbol]) => symbol,
  })
  .map((pairs) => new Map(pairs));

describe('packed formulas', () => {
  test('have the documented bits', () => {
    // O is element 6 of the 85 (H Li Be B C N O), Fe element 22.
    expect([elementIndex('O'), elementIndex('Fe')]).toEqual([6, 22]);
    const low = (7 << 8) | 3;
    const high = (23 << 8) | 2;
    expect([...pack('Fe2O3')]).toEqual([((high << 16) | low) >>> 0, 0, 0, 0]);
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(compositions, (composition) => {
        const words = packFormula(composition);
        const again = unpackRow(words);
        expect(Object.fromEntries(again)).toEqual(Object.fromEntries(composition));
        expect([...again.keys()].map(elementIndex)).toEqual([...again.keys()].map(elementIndex).sort((a, b) => a - b));
        expect(rowElements(words, 0)).toBe(composition.size);
        const matrix = encodeMatrix(words);
        expect(matrix.length).toBe(matrixCells);
        expect(matrix.reduce((a, b) => a + b, 0)).toBe(composition.size);
        for (const [symbol, count] of composition) expect(matrix[elementIndex(symbol) * 8 + count - 1]).toBe(1);
        for (const rule of ['paper', 'argmax'] as const) {
          const decoded = decodeMatrix(matrix, 0, rule);
          if (composition.size < 2) expect(decoded).toBeNull();
          else expect([...decoded!]).toEqual([...words]);
        }
      }),
      { numRuns: 500, seed: 1 },
    );
  });

  test.each([
    ['NaCl9', 'more than 8 atoms of an element'],
    ['HeO', 'element outside the 85'],
    ['Fe0.5O', 'fractional amount'],
    ['HLiBeBCNOFNa', 'more than 8 elements'],
  ])('%s does not fit: %s', (text, kind) => {
    try {
      pack(text);
    } catch (error) {
      expect(error).toBeInstanceOf(FormulaError);
      expect((error as { kind?: string }).kind).toBe(kind);
      return;
    }
    throw new Error(`${text} was packed`);
  });

  test('are divided by the greatest common divisor in place, and only their own row', () => {
    const words = new Uint32Array([...pack('Na2Cl2'), ...pack('K4Mn4O8'), ...pack('Fe2O3')]);
    expect([reducePacked(words, 0), reducePacked(words, 1), reducePacked(words, 2)]).toEqual([2, 4, 1]);
    expect([...words]).toEqual([...pack('NaCl'), ...pack('KMnO2'), ...pack('Fe2O3')]);
    expect(reducePacked(new Uint32Array(4), 0)).toBe(0);
  });
});

describe('decoding', () => {
  const cell = (symbol: string, count: number): number => elementIndex(symbol) * 8 + count - 1;
  const matrix = (cells: Record<number, number>): Float32Array => {
    const values = new Float32Array(matrixCells);
    for (const [at, value] of Object.entries(cells)) values[Number(at)] = value;
    return values;
  };

  test('paper: the largest count of at least 0.2 wins, whatever the values', () => {
    const values = matrix({ [cell('Na', 1)]: 0.99, [cell('Na', 3)]: 0.21, [cell('Cl', 2)]: 0.5, [cell('O', 1)]: 0.19 });
    expect([...decodeMatrix(values, 0, 'paper')!]).toEqual([...pack('Na3Cl2')]);
    // 0.5 is reached, so Cl stays; Na takes its greatest cell.
    expect([...decodeMatrix(values, 0, 'argmax')!]).toEqual([...pack('NaCl2')]);
  });

  test('drops empty, one-element, too large and undefined results', () => {
    expect(decodeMatrix(new Float32Array(matrixCells), 0, 'paper')).toBeNull();
    expect(decodeMatrix(new Float32Array(matrixCells).fill(Number.NaN), 0, 'paper')).toBeNull();
    expect(decodeMatrix(new Float32Array(matrixCells).fill(Number.NaN), 0, 'argmax')).toBeNull();
    const nine = Object.fromEntries(matganElements.slice(0, 9).map((symbol) => [cell(symbol, 1), 1]));
    expect(decodeMatrix(matrix(nine), 0, 'paper')).toBeNull();
    expect(decodeMatrix(matrix({ [cell('Na', 1)]: 1 }), 0, 'argmax')).toBeNull();
    const nan = matrix({ [cell('Na', 1)]: Number.NaN, [cell('Na', 2)]: 0.6, [cell('Cl', 1)]: 0.6 });
    expect([...decodeMatrix(nan, 0, 'argmax')!]).toEqual([...pack('Na2Cl')]);
  });

  test('many at once, the dropped ones left out', () => {
    const values = new Float32Array(3 * matrixCells);
    encodeMatrix(pack('NaCl'), 0, values, 0);
    encodeMatrix(pack('Fe2O3'), 0, values, 2 * matrixCells);
    const { packed, rows } = decodeMatrices(values, 3, 'paper');
    expect(rows).toBe(2);
    expect([...packed]).toEqual([...pack('NaCl'), ...pack('Fe2O3')]);
  });
});

test('PackedSet and packedKey agree with a plain set, also after growing', () => {
  fc.assert(
    fc.property(fc.array(compositions, { maxLength: 60 }), (list) => {
      const words = new Uint32Array(list.length * rowWords);
      for (const [i, composition] of list.entries()) words.set(packFormula(composition), i * rowWords);
      const set = new PackedSet(1);
      const keys = new Set<string>();
      for (let row = 0; row < list.length; row++) {
        const key = packedKey(words, row);
        expect(set.has(words, row)).toBe(keys.has(key));
        expect(set.add(words, row)).toBe(!keys.has(key));
        keys.add(key);
      }
      expect(set.size).toBe(keys.size);
      for (let i = 0; i < set.size; i++) expect(set.indexOf(set.packed, i)).toBe(i);
    }),
    { numRuns: 100, seed: 2 },
  );
  const rows = 5000;
  const many = new Uint32Array(rows * rowWords);
  for (let row = 0; row < rows; row++)
    many[row * rowWords] = ((1 + (row % 85)) << 8) | (1 + (Math.floor(row / 85) % 8));
  expect(PackedSet.of({ packed: many, rows }).size).toBe(680);
});

test('takeRows copies rows in the order asked for; countByElements counts them', () => {
  const words = new Uint32Array([...pack('NaCl'), ...pack('O'), ...pack('KMnO2')]);
  expect([...takeRows(words, [2, 0])]).toEqual([...pack('KMnO2'), ...pack('NaCl')]);
  expect([...countByElements({ packed: words, rows: 3 })]).toEqual([0, 1, 1, 1, 0, 0, 0, 0, 0]);
});

describe('plain formulas read in one go', () => {
  const long = (text: string): string | null => {
    try {
      return packFormula(reduceFormula(parseFormula(text))).join();
    } catch (error) {
      if (error instanceof FormulaError) return null;
      throw error;
    }
  };
  const short = (text: string): string | null => {
    const words = new Uint32Array(3 * rowWords).fill(7);
    const packed = packPlain(text, words, 1);
    // The neighbours are never touched, and neither is the row where nothing is read.
    expect([...words.subarray(0, 4), ...words.subarray(8)]).toEqual(new Array(8).fill(7));
    const row = words.subarray(4, 8).join();
    if (!packed) expect(row).toBe('7,7,7,7');
    return packed ? row : null;
  };

  test('every plain one that fits is read, in lowest terms, as the long way reads it', () => {
    fc.assert(
      fc.property(compositions, fc.integer({ min: 1, max: 100 }), (composition, times) => {
        const text = [...composition].map(([symbol, n]) => `${symbol}${n * times === 1 ? '' : n * times}`).join('');
        expect(short(text)).toBe(long(text));
        expect(short(text)).not.toBeNull();
      }),
      { seed: 5, numRuns: 2000 },
    );
  });

  test('whatever else is read is read alike, and nothing is that the long way refuses', () => {
    const piece = fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...matganElements) },
      { weight: 3, arbitrary: fc.integer({ min: 0, max: 20 }).map(String) },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          ...['D', 'T', 'He', 'Kr', 'Xx', 'x', '0', '00', '1000000', '.', '.5', '(', ')', ' ', '₂', '+', 'é', '·5H2O'],
        ),
      },
    );
    let read = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join('');
        const words = short(text);
        if (words === null) return;
        read++;
        expect(words, text).toBe(long(text));
      }),
      { seed: 6, numRuns: 20_000 },
    );
    expect(read).toBeGreaterThan(500);
  });

  test.each([
    '',
    'Na2Na',
    'NaCl9',
    'He',
    'Na0',
    'Na1234567',
    'LiBeBCNOFNaMg',
    'na',
    'Nacl',
    '2Na',
    'Fe.5O',
    'Infinity',
  ])('%j is left to the long way', (text) => {
    expect(short(text)).toBeNull();
  });
});
