import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { describeTable } from '../../src/chem/describe.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { describeCompositions, descriptorNames, descriptorSet } from '../../src/chem/magpie.ts';
import { readProvenance } from '../../src/chem/provenance.ts';
import { readTable } from '../../src/chem/tables.ts';

const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'matgan-describe-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

function matgan(...args: string[]) {
  return spawnSync(process.execPath, [bin, 'describe', ...args], { encoding: 'utf8', timeout: 120_000 });
}

/** Cells of a CSV file without quotes. */
const cells = (file: string): string[][] =>
  readFileSync(file, 'utf8').trim().split('\n').map((line) => line.split(',')); // biome-ignore format: one line

const mixed = 'id,formula\n7,NaCl\n8,HeH2\n9,Fe0.95O\n10,Xx2\n11,\n12,Ca(OH)2\n';

describe('describeTable', () => {
  test('rows in order with their numbers, all digits; what cannot be described is listed by row and reason', async () => {
    writeFileSync(at('mixed.csv'), mixed);
    const result = await describeTable(at('mixed.csv'), { out: at('mixed.out.csv') });
    expect(result).toMatchObject({
      rows: 6,
      kept: 3,
      unusable: { 'missing elemental value': 1, 'unknown element': 1, missing: 1 },
      missing: {},
      descriptors: descriptorSet(),
    });
    const [head, ...rows] = cells(at('mixed.out.csv'));
    expect(head).toEqual(['row', 'formula', ...descriptorNames]);
    expect(rows.map(([row, formula]) => [row, formula])).toEqual([
      ['1', 'NaCl'],
      ['3', 'Fe0.95O'],
      ['6', 'Ca(OH)2'],
    ]);
    for (const [, formula, ...values] of rows) {
      expect(values.map(Number)).toEqual([...describeCompositions([parseFormula(formula)])]);
    }
    const rejected = readFileSync(result.rejectedFile!, 'utf8');
    expect(rejected).toMatch(/^2,HeH2,.*He has no MeltingT/m);
    expect(rejected).toMatch(/^4,Xx2,.*Xx is not an element/m);
    expect(rejected).toMatch(/^5,"",the formula is missing/m);
    expect(await readProvenance(at('mixed.out.csv'))).toMatchObject({ kept: 3, descriptors: descriptorSet() });
  });

  test('missing values as empty cells, counted by name', async () => {
    writeFileSync(at('mixed.csv'), mixed);
    const result = await describeTable(at('mixed.csv'), { out: at('empty.csv'), missing: 'nan' });
    expect(result.kept).toBe(4);
    expect(result.missing).toEqual({ 'He MeltingT': 1, 'He Electronegativity': 1, 'He Pauling electronegativity': 1 });
    const [head, , helium] = cells(at('empty.csv'));
    expect(helium[1]).toBe('HeH2');
    expect(helium[head.indexOf('MagpieData mean MeltingT')]).toBe('');
    expect(helium[head.indexOf('MagpieData mean Number')]).not.toBe('');
  });

  test('more rows than a part holds: Parquet in order, with its descriptors inside, nothing left beside it', async () => {
    const there = at('a [part]*');
    mkdirSync(there);
    const formulas = Array.from({ length: 20_000 }, (_, i) => `Na${(i % 8) + 1}Cl${(Math.floor(i / 8) % 8) + 1}`);
    writeFileSync(at('many.csv'), `formula\n${formulas.join('\n')}\n`);
    const out = join(there, 'many.parquet');
    expect((await describeTable(at('many.csv'), { out })).kept).toBe(20_000);
    expect(readdirSync(there)).toEqual(['many.parquet']);
    const read: string[] = [];
    // The table's own column stands in for an energy, so that numbers are compared as well.
    await readTable(out, { energyColumn: '10-norm' }, (text, norm) => {
      const wanted = describeCompositions([parseFormula(text!)])[descriptorNames.indexOf('10-norm')];
      if (Math.abs(norm - wanted) < 1e-12) read.push(text!);
    });
    expect(read).toEqual(formulas);
    expect((await readProvenance(out))!.descriptors).toEqual(descriptorSet());
  }, 120_000);

  test('a failure leaves nothing behind', async () => {
    writeFileSync(at('bad.csv'), 'formula\nXx\nQq2\n');
    const before = readdirSync(folder).sort();
    await expect(describeTable(at('bad.csv'), { out: at('bad.parquet') })).rejects.toThrow(
      /none of the 2 rows.*2 × unknown element/,
    );
    await expect(describeTable(at('no.csv'), { out: at('bad.parquet') })).rejects.toThrow(/no such file/);
    await expect(describeTable(at('bad.csv'), { out: at('bad.csv') })).rejects.toThrow(/is the file that is read/);
    expect(readdirSync(folder).sort()).toEqual(before);
  });
});

describe('matgan describe', () => {
  test('--formula --json: a line a formula, exit code 2 where one cannot be described', () => {
    const { status, stdout } = matgan('--json', '--formula', 'Fe2O3', 'HeH2');
    expect(status).toBe(2);
    const lines = stdout.trim().split('\n').map((line) => JSON.parse(line)); // biome-ignore format: one line
    expect(lines[0].descriptors['MagpieData mean Number']).toBeCloseTo(15.2, 12);
    expect(Object.keys(lines[0].descriptors)).toEqual(descriptorNames);
    expect(lines[1]).toMatchObject({ formula: 'HeH2', descriptors: null });
    expect(lines[1].error).toMatch(/He has no MeltingT/);
  });

  test('a file: JSON alone on standard output', () => {
    writeFileSync(at('two.csv'), 'NaCl\nKBr\n');
    const { status, stdout, stderr } = matgan(at('two.csv'), '--out', at('two.parquet'), '--json');
    expect(stderr).toMatch(/wrote 2 formulas with 145 descriptors/);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ rows: 2, kept: 2, unusable: {}, rejectedFile: null });
  });

  test.each<[string[], RegExp]>([
    [[at('mixed.csv')], /--out/],
    [['--out', at('x.csv')], /file to read/],
    [[at('mixed.csv'), '--formula', 'NaCl'], /not both/],
    [[at('nowhere.csv'), '--out', at('x.csv')], /no such file/],
    [[at('mixed.csv'), '--out', at('no/x.csv')], /does not exist/],
    [['--missing', 'zero', '--formula', 'NaCl'], /refuse, empty/],
  ])('%j is refused in one line', (args, message) => {
    const { status, stdout, stderr } = matgan(...args);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect([status, stdout]).toEqual([2, '']);
    expect(existsSync(at('x.csv'))).toBe(false);
  });
});
