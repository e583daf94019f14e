import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadFormulas } from '../../src/chem/dataset.ts';
import { countByElements } from '../../src/chem/encoding.ts';
import { distributionOf } from '../../src/report/distribution.ts';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-distribution-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const sorted = (...values: number[]): Float64Array => Float64Array.from(values).sort();

describe('distributionOf', () => {
  test('shares, quantiles and thresholds are those of the numbers', () => {
    const many = Float64Array.from({ length: 1000 }, (_, i) => i / 1000);
    const { sets, edges } = distributionOf('x', [{ name: 'a', values: many, without: 3 }], [0.25, 0, 2]);
    expect(sets.a).toMatchObject({ rows: 1003, without: 3, below: { 0.25: 0.25, 0: 0, 2: 1 }, fromFirst: 0 });
    expect(sets.a.mean).toBeCloseTo(0.4995, 12);
    expect(sets.a.quantiles).toEqual([0.05, 0.25, 0.5, 0.75, 0.95]);
    expect(sets.a.shares.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect(edges[0]).toBeCloseTo(0.005, 9);
  });

  test('tables that share nothing are 1 apart, equal ones 0, half of each half', () => {
    const low = sorted(0, 0.1, 0.2, 0.3);
    const high = sorted(10, 10.1, 10.2, 10.3);
    const { sets } = distributionOf('x', [
      { name: 'low', values: low, without: 0 },
      { name: 'same', values: low, without: 0 },
      { name: 'high', values: high, without: 0 },
      { name: 'half', values: sorted(...low, ...high), without: 0 },
    ]);
    expect(Object.values(sets).map(({ fromFirst }) => fromFirst)).toEqual([0, 0, 1, 0.5]);
  });

  test.each([
    ['no numbers at all', [[]]],
    ['one number', [[5]]],
    ['an empty table beside others', [[1, 2], []]],
  ])('%s', (_, tables) => {
    const spreads = tables.map((values, i) => ({ name: `${i}`, values: sorted(...values), without: 0 }));
    const { sets, edges } = distributionOf('x', spreads, [0]);
    expect(edges.every(Number.isFinite)).toBe(true);
    for (const [i, values] of tables.entries()) {
      expect(sets[i].below[0]).toBe(values.length === 0 ? null : 0);
      expect(sets[i].shares.reduce((a, b) => a + b)).toBeCloseTo(values.length === 0 ? 0 : 1, 12);
    }
  });
});

describe('matgan distribution', () => {
  writeFileSync(at('a.csv'), 'formula,energy\nNaCl,-2\nKCl,-2.1\nLiF,\nMgO,high\n');
  writeFileSync(at('b.csv'), 'formula,truth\nNaCl,1\nKCl,-0.5\n');

  test('tables side by side, with columns of their own', async () => {
    const sets = ['--set', `a=${at('a.csv')}`, `b=${at('b.csv')}:truth`];
    const { status, stdout, stderr } = await matganHere(
      ...['distribution', ...sets, '--column', 'energy', '--below', '0', '--out', at('out')],
    );
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stdout).toMatch(/a .* 2 .*-2\.050.*100\.0 %/);
    expect(stdout).toMatch(/b .* 2 .*0\.250.*50\.0 %/);
    expect(stderr).toContain('1 rows of energy are no numbers (row 4: "high")');
    const found = JSON.parse(readFileSync(join(at('out'), 'distribution.json'), 'utf8'));
    expect(found.sets.a).toMatchObject({ rows: 4, without: 2, below: { 0: 1 } });
    expect(readFileSync(join(at('out'), 'distribution.svg'), 'utf8')).toContain('Distribution of energy');
  });

  test.each([
    ['a file without a name', ['--set', 'a.csv'], 'NAME=FILE'],
    ['a name twice', ['--set', `a=${at('a.csv')}`, `a=${at('b.csv')}`], 'the name is taken'],
    ['a file that is not there', ['--set', `a=${at('none.csv')}`], 'none.csv'],
    ['a column that is not there', ['--set', `b=${at('b.csv')}`], 'energy'],
    ['a threshold that is none', ['--set', `a=${at('a.csv')}`, '--below', 'low'], '--below low'],
    ['a column of text', ['--set', `a=${at('a.csv')}:formula`], 'holds no numbers'],
  ])('%s is refused with what to do', async (_, args, message) => {
    const { status, stderr } = await matganHere('distribution', ...args, '--column', 'energy', '--out', at('bad'));
    expect(status).toBe(2);
    expect(stderr.trim().split('\n').at(-1)).toContain(message);
  });
});

describe('matgan data random', () => {
  writeFileSync(at('like.csv'), 'formula\nNaCl\nKBr\nLiF\nNaClO3\nKClO3\n');

  test.each(['uniform', 'frequency'])(
    '%s: the numbers of elements of the table, mixed, the same bits again',
    async (kind) => {
      const args = ['data', 'random', '--like', at('like.csv'), '--kind', kind, '--count', '1000', '--out'];
      expect((await matganHere(...args, at(`${kind}.csv`))).status).toBe(0);
      expect((await matganHere(...args, at(`${kind}-2.csv`))).status).toBe(0);
      const text = readFileSync(at(`${kind}.csv`), 'utf8');
      expect(readFileSync(at(`${kind}-2.csv`), 'utf8')).toBe(text);
      const elements = (formula: string): number => formula.match(/[A-Z][a-z]?/g)!.length;
      const sizes = text.trim().split('\n').slice(1).map(elements);
      expect([2, 3].map((n) => sizes.filter((size) => size === n).length)).toEqual([600, 400]);
      // The first rows are no less a sample than the last.
      expect(sizes.slice(0, 100)).toContain(3);
      // Only elements that the table has are drawn by frequency.
      expect(/Xe|Fe|Al/.test(text)).toBe(kind === 'uniform');
    },
  );

  test('a table without formulas, and a count that is none', async () => {
    writeFileSync(at('none.csv'), 'formula\nXx\n');
    const args = ['data', 'random', '--out', at('x.csv'), '--like'];
    expect((await matganHere(...args, at('none.csv'), '--count', '5')).status).toBe(2);
    expect((await matganHere(...args, at('like.csv'), '--count', '0')).status).toBe(2);
    const { packed, rows } = await loadFormulas(at('like.csv'));
    expect(Array.from(countByElements({ packed, rows })).slice(0, 4)).toEqual([0, 0, 3, 2]);
  });
});
