import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  fingerprintOf,
  loadFormulas,
  prepareData,
  rejectedName,
  splitRows,
  uniqueRows,
  writeFormulas,
} from '../../src/chem/dataset.ts';
import { packFormula, unpackRow } from '../../src/chem/encoding.ts';
import { formatFormula, parseFormula } from '../../src/chem/formula.ts';
import { readProvenance } from '../../src/chem/provenance.ts';
import { judgePacked } from '../../src/chem/validity.ts';
import { ConfigError, DataError } from '../../src/errors.ts';
import { sharedData } from './shared-data.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const out = (name: string): string => join(folder, name);

function save(name: string, content: string): string {
  writeFileSync(out(name), content);
  return out(name);
}

const small = save(
  'small.csv',
  `formula,formation_energy,band_gap
K4Mn4O8,-1.0,0
KMnO2,-2.0,1.5
KMnO2,,0
Fe,0,0
CuH10SO9,-1,2
KrF2,-1,2
Xx2,0,0
NaCl,-2,5
He2O,-1,1
3.5,0,0
`,
);

describe('prepareData', () => {
  test('mp: counts after each rule, reduced formulas, lowest energies', async () => {
    const result = await prepareData(small, { rules: 'mp', out: out('mp.csv') });
    expect(result.rows).toBe(10);
    expect(result.unusable).toEqual({ 'unknown element': 1, 'a number, not a formula': 1 });
    expect(result.steps.map(({ removed, left }) => [removed, left])).toEqual([
      [2, 6],
      [1, 5],
      [1, 4],
      [2, 2],
      [0, 2],
    ]);
    expect(result.steps[3]).toMatchObject({ rule: 'no Kr or He', paper: 63_922 });
    expect(result.kept).toBe(2);
    expect(result.byElementCount).toEqual({ 2: 1, 3: 1 });
    expect(readFileSync(out('mp.csv'), 'utf8')).toBe(
      'formula,elements,formation_energy_ev_per_atom,band_gap_ev\nKMnO2,3,-2.0,1.5\nNaCl,2,-2.0,5.0\n',
    );
    const list = readFileSync(out('mp.csv.rejected.csv'), 'utf8').trim().split('\n');
    expect(list.length).toBe(3);
    expect(list[1]).toMatch(/^7,Xx2,/);
    expect(list[2]).toMatch(/^10,3\.5,/);
    const provenance = JSON.parse(readFileSync(out('mp.csv.provenance.json'), 'utf8'));
    expect(provenance).toMatchObject({ rules: 'mp', kept: 2, source: { file: 'small.csv' } });
    expect(provenance.source.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test('oqmd: what does not fit the matrix is counted and listed', async () => {
    const result = await prepareData(small, { rules: 'oqmd', out: out('oqmd.parquet') });
    expect(result.steps.at(-1)).toEqual({ rule: 'fits 85 × 8', removed: 3, left: 2 });
    const list = readFileSync(out('oqmd.parquet.rejected.csv'), 'utf8');
    expect(list).toContain('does not fit 85 × 8: more than 8 atoms of an element');
    expect(list).toContain('does not fit 85 × 8: element outside the 85');
  });

  test('oqmd: energies outside 5σ go, rows without an energy stay', async () => {
    const metals = [
      'Ti',
      'V',
      'Cr',
      'Mn',
      'Fe',
      'Co',
      'Ni',
      'Cu',
      'Zn',
      'Ga',
      'Ge',
      'Y',
      'Zr',
      'Nb',
      'Mo',
      'Ag',
      'Cd',
      'In',
      'Sn',
      'La',
    ];
    const rows = metals.flatMap((metal, i) => [`${metal}O,${-1 + 0.01 * i}`, `${metal}S,${-1 - 0.01 * i}`]);
    const path = save('sigma.csv', `formula,e_form\n${rows.join('\n')}\nLiF,\nNaF,50\n`);
    const { steps, withoutEnergy } = await prepareData(path, { rules: 'oqmd', out: out('sigma.parquet') });
    expect(steps[2]).toMatchObject({ removed: 1, left: 41 });
    expect(withoutEnergy).toBe(1);
  });

  test('mp-gap and icsd-filter', async () => {
    const gap = await prepareData(small, { rules: 'mp-gap', out: out('gap.csv') });
    expect(gap.steps[0]).toEqual({ rule: 'band gap above 0', removed: 3, left: 5 });
    expect(gap.kept).toBe(2);
    const path = save('filter.csv', 'formula\nNaCl\nFe3O4\nPmCl3\n');
    const filtered = await prepareData(path, { rules: 'icsd-filter', out: out('filter.jsonl') });
    expect(filtered.kept).toBe(1);
    await expect(prepareData(path, { rules: 'mp-gap', out: out('x.csv') })).rejects.toThrow(/no band gap column/);
  });

  test('none keeps repeats and single elements', async () => {
    const result = await prepareData(small, { rules: 'none', out: out('none.parquet') });
    expect(result.steps).toEqual([{ rule: 'fits 85 × 8', removed: 3, left: 5 }]);
  });

  test('refusals: unknown rules, nothing usable, nothing left; no output then', async () => {
    await expect(prepareData(small, { rules: 'foo', out: out('no.csv') })).rejects.toThrow(ConfigError);
    await expect(prepareData(small, { rules: '__proto__', out: out('no.csv') })).rejects.toThrow(
      /choose one of oqmd, mp/,
    );
    const words = save('words.csv', 'formula\nhello\nworld\n');
    await expect(prepareData(words, { rules: 'none', out: out('no.csv') })).rejects.toThrow(
      /none of the 2 rows.*formula-column/,
    );
    const single = save('single.csv', 'formula\nNa\nK\n');
    await expect(prepareData(single, { rules: 'icsd', out: out('no.csv') })).rejects.toThrow(DataError);
    expect(existsSync(out('no.csv'))).toBe(false);
  });
});

describe('loadFormulas', () => {
  test('reads a raw table and a prepared one alike', async () => {
    const raw = await loadFormulas(small);
    expect(raw.read).toBe(10);
    expect(raw.unusable).toEqual({
      'unknown element': 1,
      'a number, not a formula': 1,
      'more than 8 atoms of an element': 1,
      'element outside the 85': 2,
    });
    expect(raw.duplicates).toBe(2);
    const texts = Array.from({ length: raw.rows }, (_, row) => formatFormula(unpackRow(raw.packed, row)));
    expect(texts).toEqual(['KMnO2', 'Fe', 'NaCl']);
    expect([...raw.energies!]).toEqual([-2, 0, -2]);
    expect([...raw.gaps!]).toEqual([1.5, 0, 5]);
    expect((await loadFormulas(small, { unique: false })).rows).toBe(5);
    await prepareData(small, { rules: 'mp', out: out('again.parquet') });
    const prepared = await loadFormulas(out('again.parquet'));
    expect(prepared.rows).toBe(2);
    expect(prepared.fingerprint).toBe((await readProvenance(out('again.parquet')))!.fingerprint);
    expect(prepared.fingerprint).not.toBe(raw.fingerprint);
  });

  test('a formula takes 16 bytes, whatever the table; repeats are told by energy among those that do not fit, too', async () => {
    const file = out('wide.csv');
    const lines = ['NaCl,-1', 'He2O,-2', 'KBr,', 'Na2Cl2,-3', 'HeHeO,-1', 'KBr,-5', 'He2O,-4', 'Fe9O,0'];
    writeFileSync(file, `formula,energy\n${lines.join('\n')}\n`);
    const { packed, rows, energies, unusable, duplicates } = await loadFormulas(file);
    expect([rows, packed.byteLength, duplicates]).toEqual([2, 32, 2]);
    expect([...energies!]).toEqual([-3, -5]);
    expect(unusable).toEqual({ 'element outside the 85': 3, 'more than 8 atoms of an element': 1 });
    const prepared = await prepareData(file, { rules: 'oqmd', out: out('wide.parquet') });
    expect(prepared.steps.map(({ left }) => left)).toEqual([4, 4, 4, 2]);
    const rejected = readFileSync(rejectedName(out('wide.parquet')), 'utf8')
      .trim()
      .split('\n')
      .slice(1);
    // He2O stands for its row of the lowest energy.
    expect(rejected).toEqual([
      '7,OHe2,does not fit 85 × 8: element outside the 85',
      '8,Fe9O,does not fit 85 × 8: more than 8 atoms of an element',
    ]);
  });

  test('writeFormulas and back', async () => {
    const packed = new Uint32Array([...packFormula(parseFormula('NaCl')), ...packFormula(parseFormula('Fe2O3'))]);
    await writeFormulas(out('w.parquet'), { packed, rows: 2 }, [{ name: 'score', type: 'real', value: (i) => i / 2 }]);
    const again = await loadFormulas(out('w.parquet'));
    expect([...again.packed]).toEqual([...packed]);
    expect(again.fingerprint).toBe(fingerprintOf({ packed, rows: 2 }));
    expect(uniqueRows({ packed: new Uint32Array([...packed, ...packed]), rows: 4 }).rows).toBe(2);
  });
});

test('splitRows parts all rows, the same way for the same seed', () => {
  const { train, leaveOut } = splitRows(27_180, 0.1, 1);
  expect([train.length, leaveOut.length]).toEqual([24_462, 2_718]);
  expect([...train, ...leaveOut].sort((a, b) => a - b)).toEqual(Array.from({ length: 27_180 }, (_, i) => i));
  expect([...splitRows(27_180, 0.1, 1).leaveOut]).toEqual([...leaveOut]);
  expect([...splitRows(27_180, 0.1, 2).leaveOut]).not.toEqual([...leaveOut]);
  // Fixed on purpose: a change of the random stream would change every split ever made.
  expect([...splitRows(10, 0.3, 7).leaveOut]).toEqual([1, 4, 9]);
  expect(splitRows(5, 0, 1).leaveOut.length).toBe(0);
  expect(() => splitRows(5, 1, 1)).toThrow(ConfigError);
});
describe('the real data', () => {
  // Rows of the files after the rules, and CN and EN of what is left.
  const cases: [string, string, number, number, number][] = [
    ['icsd_in_mp.csv.gz', 'icsd', 27_180, 0.797, 0.735],
    ['mp_formation_energy.csv.gz', 'mp', 58_703, 0.755, 0.695],
    ['oqmd.csv.gz', 'oqmd', 301_800, 0.575, 0.432],
  ];
  for (const [file, rules, kept, neutral, balanced] of cases) {
    const path = sharedData(file);
    test.skipIf(!path)(`${file} under the rules ${rules}`, async () => {
      const result = await prepareData(path!, { rules, out: out(`${rules}-real.parquet`) });
      expect(result.kept).toBe(kept);
      const { packed, rows } = await loadFormulas(out(`${rules}-real.parquet`));
      expect(rows).toBe(kept);
      const flags = judgePacked(packed, rows);
      const share = (bit: number): number => flags.reduce((sum, flag) => sum + (flag & bit ? 1 : 0), 0) / rows;
      // The figures to compare with come from 10,000 rows each: standard error half a point.
      expect(Math.abs(share(1) - neutral)).toBeLessThan(0.015);
      expect(Math.abs(share(2) - balanced)).toBeLessThan(0.015);
    });
  }
});
