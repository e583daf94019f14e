/** What generate can be asked for: elements, numbers of them, and formulas like others. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { descriptorNames, descriptorSet } from '../../src/chem/magpie.ts';
import { loadTreesConfig } from '../../src/models/trees/config.ts';
import { writeTrees } from '../../src/models/trees/files.ts';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-generate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const table = at('like.csv');
writeFileSync(table, 'formula,band_gap_ev\nNaCl,5\nNaBr,4.2\nGaAs,1.4\nInSb,0.2\nLiGaAs2,1.1\n');
/** Trees that say 5 of formulas with fluorine, and 1 of all others. */
const model = at('fluorides.safetensors');
const maximum = descriptorNames.indexOf('MagpieData maximum Electronegativity');
writeTrees(model, {
  forest: {
    columns: descriptorNames.length,
    base: 0,
    starts: Uint32Array.of(0, 3),
    split: Int32Array.of(2 * maximum, -1, -1),
    value: Float32Array.of(3.7, 1, 5),
    right: Uint32Array.of(2, 0, 0),
    gain: new Float32Array(descriptorNames.length),
  },
  config: loadTreesConfig({ preset: 'best' }),
  columns: descriptorNames,
  descriptors: descriptorSet().fingerprint,
  target: 'made up',
  data: { rows: 0, fingerprint: '' },
  measured: {},
});
const formulasOf = (name: string): string[] =>
  readFileSync(at(name), 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',')[0]);
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

  it('gaps that a model predicts: each formula is in range, drafts and the rate of hits are told', async () => {
    const args = ['--count', '20', '--gap', '4..6', '--gap-model', model];
    const { status, stdout } = await ask('gap.csv', ...args);
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ requested: 20, decoded: 20, written: 20 });
    expect(result.hitRate).toBeGreaterThan(0.5);
    expect(result.hits / result.samples).toBe(result.hitRate);
    expect(result.drafts.drawn).toBeGreaterThan(result.drafts.hits);
    expect(formulasOf('gap.csv')).toHaveLength(20);
    for (const formula of formulasOf('gap.csv')) expect(formula).toMatch(/F(?!e|r)/);
    await ask('again.csv', ...args);
    expect(readFileSync(at('again.csv'), 'utf8')).toBe(readFileSync(at('gap.csv'), 'utf8'));
  });

  it('with elements and numbers of them; energies likewise', async () => {
    const { status } = await ask(
      'both.csv',
      ...['--count', '12', '--energy', '4..', '--energy-model', model, '--contains', 'Li', '--elements', '3'],
    );
    expect(status).toBe(0);
    for (const formula of formulasOf('both.csv')) {
      expect(formula).toMatch(/(?=.*Li).*F(?!e|r)/);
      expect(formula.match(/[A-Z]/g)).toHaveLength(3);
    }
    expect(formulasOf('both.csv')).toHaveLength(12);
  });

  // Setting the filter takes the reference some hundred samples.
  it('through a filter: the rate is of what the filter kept', { timeout: 240_000 }, async () => {
    const args = ['--count', '6', '--gap', '4..', '--gap-model', model, '--out', at('kept.csv'), '--keep', '0.5'];
    const { status, stdout } = await matganHere('generate', 'icsd', ...args, '--device', 'reference', '--json');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result.offered).toBeLessThan(0.8 * result.samples);
    expect(result.hitRate).toBe(result.hits / result.offered);
    for (const formula of formulasOf('kept.csv')) expect(formula).toMatch(/F(?!e|r)/);
  });

  it("with --like and a model the range is the model's: all rows are taken", async () => {
    const like = ['--like', table, '--gap', '..2', '--gap-model', model];
    const { status, stderr } = await ask('liked.csv', '--count', '10', ...like);
    expect(status).toBe(0);
    expect(stderr).toContain('drafts like 5 of 5 formulas');
  });

  it('takes the model that ships where none is named', async () => {
    const { status, stderr } = await ask('shipped.csv', '--count', '3', '--gap', '0..9');
    expect([status, stderr]).toEqual([0, expect.stringContaining('--gap-model: band_gap_ev; trees')]);
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
    ['a model without a range', ['--energy-model', model], /--energy-model: say which predictions are wanted/],
    ['a model of another kind', ['--gap', '1', '--gap-model', 'icsd'], /--gap-model icsd: it is a model of kind gan/],
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
