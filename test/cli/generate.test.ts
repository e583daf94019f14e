/** What generate can be asked for: elements, numbers of them, and formulas like others. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-generate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const table = at('like.csv');
writeFileSync(table, 'formula,band_gap_ev\nNaCl,5\nNaBr,4.2\nGaAs,1.4\nInSb,0.2\nLiGaAs2,1.1\n');
const given = ['--device', 'reference', '--no-filter', '--batch', '16', '--json'];
const ask = (out: string, ...args: string[]) => matganHere('generate', 'icsd', '--out', at(out), ...given, ...args);

describe('matgan generate, asked for something', () => {
  it('elements and how many: each formula has them, and the rate of hits is told', async () => {
    const { status, stdout } = await ask('li.csv', '--count', '20', '--contains', 'Li', 'O', '--elements', '3..4');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ requested: 20, decoded: 20 });
    expect(result.hitRate).toBeGreaterThan(0.3);
    expect(result.hits / result.samples).toBe(result.hitRate);
    const lines = readFileSync(at('li.csv'), 'utf8').trim().split('\n').slice(1);
    expect(lines).toHaveLength(20);
    for (const line of lines) expect(line).toMatch(/^(?=.*Li)(?=.*O\d*([A-Z]|,)).*,[34]$/);
  });

  it('formulas like those of a table with gaps in a range', async () => {
    const like = ['--like', table, '--gap', '1..3'];
    const { status, stderr } = await ask('alike.csv', '--count', '20', ...like);
    expect(stderr).toContain('drafts like 2 of 5 formulas');
    expect(status).toBe(0);
    const made = readFileSync(at('alike.csv'), 'utf8').trim().split('\n').slice(1);
    // GaAs and LiGaAs2.
    expect(made.filter((line) => /As/.test(line)).length).toBeGreaterThan(10);
    expect(made.filter((line) => /Cl|Br/.test(line)).length).toBeLessThan(5);
  });

  it.each<[string, string[], RegExp]>([
    ['what is no element', ['--contains', 'Xx'], /--contains Xx: it is none of the 85 elements/],
    [
      'more elements than may be',
      ['--contains', 'Li,O,Fe', '--elements', '2'],
      /more elements than a formula may have \(2\)/,
    ],
    ['sizes that training has not', ['--elements', '8'], /has 8 to 8 elements; ask for other numbers/],
    ['a range backwards', ['--elements', '4..3'], /starts above its end/],
    ['a range that is none', ['--elements', '2..3..4'], /range such as/],
    ['gaps of no table', ['--gap', '1..2'], /--gap: of which table\? name it with --like/],
    ['a column that is missing', ['--like', table, '--energy', '..0'], /has no column of formation energies/],
    ['a range without rows', ['--like', table, '--gap', '50..60'], /no row is in the range/],
  ])('%s ends with 2 and one line', async (_, args, message) => {
    const { status, stderr } = await ask('bad.csv', '--count', '3', ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('a generator without drafts says so', async () => {
    const args = ['--count', '3', '--contains', 'Li', '--out', at('conv.csv'), ...given];
    const { status, stderr } = await matganHere('generate', 'icsd-conv', ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(/takes no drafts/);
  });
});
