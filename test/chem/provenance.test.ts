/** What a data file says about itself: written, read back, held against its rows; and what a stranger may have put there. */

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dataInfo, loadFormulas, prepareData, splitData } from '../../src/chem/dataset.ts';
import { provenanceName, readProvenance } from '../../src/chem/provenance.ts';
import { DataError } from '../../src/errors.ts';
import { loadConfig } from '../../src/models/config.ts';
import { loadTrainingData } from '../../src/models/run.ts';
import { matganHere } from '../cli/here.ts';
import { tinyDenseGan } from '../models/tiny.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-provenance-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const table = at('table.csv');
const lines = ['NaCl,-2', 'Na2Cl2,-3', 'Fe,0', 'Fe2O3,-1', 'He2O,-1', 'Xx2,1', "it's", 'KBr,', 'MgO,-3', 'CaO,-3'];
beforeAll(() => writeFileSync(table, `formula,e_form\n${lines.join('\n')}\n`));

/** A Parquet file of NaCl and what a stranger says of it: an SQL expression. */
async function hostile(name: string, sql: string, rows = `SELECT 'NaCl' AS formula`): Promise<string> {
  const connection = await (await DuckDBInstance.create(':memory:')).connect();
  await connection.run(`COPY (${rows}) TO '${at(name)}' (FORMAT parquet, KV_METADATA {matgan: ${sql}})`);
  connection.closeSync();
  return at(name);
}

describe('provenance', () => {
  test('is inside a Parquet file and nowhere else, without times and paths: the same input gives the same bytes', async () => {
    writeFileSync(provenanceName(at('a.parquet')), 'of an earlier run');
    const prepared = await prepareData(table, { rules: 'mp', out: at('a.parquet') });
    expect(existsSync(provenanceName(at('a.parquet')))).toBe(false);
    const { out: _, rejectedFile: __, ...facts } = prepared;
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await readProvenance(at('a.parquet'))).toEqual({ ...facts, version });
    expect(facts.steps.map(({ removed }) => removed)).toEqual([1, 1, 0, 1, 0]);
    await prepareData(table, { rules: 'mp', out: at("it's [b].parquet") });
    expect(readFileSync(at("it's [b].parquet"))).toEqual(readFileSync(at('a.parquet')));
    expect((await readProvenance(at("it's [b].parquet")))?.rules).toBe('mp');
  });

  test('is beside the other formats', async () => {
    for (const name of ['a.csv', 'a.jsonl.gz']) {
      const { fingerprint } = await prepareData(table, { rules: 'mp', out: at(name) });
      expect(await readProvenance(at(name))).toMatchObject({ rules: 'mp', fingerprint });
    }
    rmSync(provenanceName(at('a.csv')));
    expect(await readProvenance(at('a.csv'))).toBeNull();
    expect(await dataInfo(at('a.csv'))).toMatchObject({ rows: 5, elements: 8, provenance: null, verified: null });
  });

  test('matgan data info shows it, and refuses rows that are others', async () => {
    await prepareData(table, { rules: 'mp', out: at('whole.parquet') });
    const told = await matganHere('data', 'info', at('whole.parquet'));
    expect(told.status).toBe(0);
    expect(told.stdout).toMatch(/^rules mp, by version .*\nfrom table\.csv \(SHA-256 [0-9a-f]{64}\)\n5 formulas of 8 /);
    expect(told.stdout).toContain(', as the file says\n');
    expect(told.stdout).toMatch(/no Kr or He +│ +1 │ +5 │ 63,922/);
    const json = JSON.parse((await matganHere('data', 'info', at('whole.parquet'), '--json')).stdout);
    expect(json).toMatchObject({ rows: 5, verified: true, provenance: { rules: 'mp', kept: 5 } });

    const facts = JSON.stringify({ ...json.provenance, fingerprint: 'a'.repeat(64) }).replaceAll("'", "''");
    const other = await matganHere('data', 'info', await hostile('other.parquet', `'${facts}'`));
    expect(other).toMatchObject({ status: 2, stdout: '' });
    expect(other.stderr).toMatch(
      /^DataError: .*other\.parquet: its rows \([0-9a-f]+\) are not those of its provenance/,
    );
    const bare = await matganHere('data', 'info', table);
    expect(bare.stdout).toMatch(/table\.csv says nothing of where it came from\n/);
  });

  test.each<[string, string, RegExp]>([
    ['huge', `repeat('x', 2000000)`, /metadata "matgan" has over 1048576 bytes/],
    ['no JSON', `'{"rules":'`, /its provenance: is no JSON/],
    ['no object', `'[1]'`, /its provenance: it: /],
    ['nothing', `'null'`, /its provenance: it: /],
    ['bytes', `'\\xFF\\x00'::BLOB`, /metadata cannot be read .*; check that the file is whole/],
    ['nested', `repeat('[', 500000)`, /its provenance: (is no JSON|it: )/],
    ['nested, closed', `repeat('[', 200000) || repeat(']', 200000)`, /its provenance: /],
    ['kept a text', `'{"kept":"4"}'`, /its provenance: kept: /],
    ['negative', `'{"rows":-1}'`, /its provenance: rows: /],
    ['beyond whole numbers', `'{"rows":1e300}'`, /its provenance: rows: /],
    ['steps of another kind', `'{"steps":[{"rule":7}]}'`, /its provenance: steps\.0\.rule: /],
    ['an endless list', `'{"steps":[' || repeat('{"rule":"x","removed":0,"left":0},', 200) || '1]}'`, /steps/],
    ['a long name', `'{"rules":"' || repeat('x', 5000) || '"}'`, /its provenance: rules: /],
    ['a false digest', `'{"fingerprint":"zz"}'`, /fingerprint: is no SHA-256/],
    ['__proto__', `'{"unusable":{"__proto__":{"x":1}},"kept":"x"}'`, /its provenance: /],
  ])('of a stranger, %s: one line', async (name, sql, message) => {
    const file = await hostile(`${name.replaceAll(/\W/g, '-')}.parquet`, sql);
    for (const reading of [readProvenance(file), dataInfo(file)]) {
      const error: unknown = await reading.catch((e) => e);
      expect(error).toBeInstanceOf(DataError);
      expect((error as Error).message).toMatch(message);
      expect((error as Error).message).not.toContain('\n');
      expect((error as Error).message.length).toBeLessThan(2100);
    }
    // Whoever wants the rows alone has them.
    expect((await loadFormulas(file)).rows).toBe(1);
  });

  test('of a stranger, unknown fields and control characters', async () => {
    const facts = `'{"rules":"\\u001b[2J\\u202e","extra":{"deep":[1]},"__proto__":{"kept":1},"unusable":{"\\u001b]0;x\\u0007":1},"rows":1}'`;
    const { status, stdout } = await matganHere('data', 'info', await hostile('odd.parquet', facts));
    expect(status).toBe(0);
    for (const control of ['\u001b', '\u0007', '\u202e']) expect(stdout).not.toContain(control);
    expect(stdout).toContain('rules ·[2J·');
    const named = await readProvenance(await hostile('named.parquet', facts));
    expect(named?.kept).toBeUndefined();
    expect(named).not.toHaveProperty('extra');
  });

  test('other people’s Parquet, no Parquet under its name, a large file beside, nothing at all', async () => {
    const connection = await (await DuckDBInstance.create(':memory:')).connect();
    await connection.run(`COPY (SELECT 'NaCl' AS formula) TO '${at('theirs.parquet')}' (FORMAT parquet)`);
    connection.closeSync();
    expect(await readProvenance(at('theirs.parquet'))).toBeNull();
    writeFileSync(at('x.csv'), 'formula\nNaCl\n');
    writeFileSync(provenanceName(at('x.csv')), Buffer.alloc(2 ** 21, ' '));
    await expect(readProvenance(at('x.csv'))).rejects.toThrow(/has 2097152 bytes, too many/);
    expect(await readProvenance(at('nowhere'))).toBeNull();
    expect(await readProvenance(folder)).toBeNull();
    writeFileSync(at('cut.parquet'), readFileSync(at('theirs.parquet')).subarray(0, 100));
    await expect(readProvenance(at('cut.parquet'))).rejects.toThrow(/metadata cannot be read/);
  });
});

describe('matgan data split', () => {
  const rows = Array.from({ length: 40 }, (_, i) => `Na${1 + (i % 8)}${['Cl', 'F', 'Br', 'I', 'S'][i >> 3]}`);
  const parts = ['--out-train', at('t.parquet'), '--out-leave-out', at('l.csv')];
  beforeAll(() => writeFileSync(at('all.csv'), `formula,e_form\n${rows.map((f, i) => `${f},${i}`).join('\n')}\n`));

  test('makes the parts of training, with their energies and where they came from', async () => {
    await prepareData(at('all.csv'), { rules: 'mp', out: at('all.parquet') });
    const { status, stdout } = await matganHere('data', 'split', at('all.parquet'), '--seed', '5', ...parts, '--json');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    const all = await loadFormulas(at('all.parquet'));
    const data = await loadTrainingData(at('all.parquet'), tinyDenseGan({ seed: 5, leaveOut: 0.1 }));
    expect(result).toMatchObject({
      rows: all.rows,
      leaveOut: 0.1,
      seed: 5,
      training: { fingerprint: data.fingerprint },
    });
    const [train, leftOut] = [await loadFormulas(at('t.parquet')), await loadFormulas(at('l.csv'))];
    expect(train.packed).toEqual(data.train.packed);
    expect(leftOut.packed).toEqual(data.leaveOut.packed);
    expect(train.rows + leftOut.rows).toBe(all.rows);
    const energy = new Map(Array.from(all.energies!, (e, i) => [all.packed.slice(4 * i, 4 * i + 4).join(), e]));
    expect([...train.energies!]).toEqual(
      Array.from(train.energies!, (_, i) => energy.get(train.packed.slice(4 * i, 4 * i + 4).join())),
    );
    expect(await readProvenance(at('t.parquet'))).toMatchObject({
      rules: 'mp',
      source: { file: 'all.csv' },
      kept: train.rows,
      fingerprint: data.fingerprint,
      split: { part: 'training', leaveOut: 0.1, seed: 5, of: all.fingerprint, rows: all.rows },
    });
    expect(await readProvenance(at('l.csv'))).toMatchObject({ split: { part: 'leave-out' }, kept: leftOut.rows });
    expect((await dataInfo(at('t.parquet'))).verified).toBe(true);
    expect((await dataInfo(at('l.csv'))).verified).toBe(true);
  });

  test('its defaults are the presets’', async () => {
    const { leaveOut, seed } = loadConfig('gan', { preset: 'icsd' });
    const { stdout } = await matganHere('data', 'split', at('all.csv'), ...parts, '--json');
    expect(JSON.parse(stdout)).toMatchObject({ leaveOut, seed });
    expect(await readProvenance(at('t.parquet'))).toMatchObject({ source: { file: 'all.csv' } });
  });

  test.each([
    [
      'one name for two files',
      [at('all.csv'), '--out-train', at('p.csv'), '--out-leave-out', at('p.csv')],
      /three names/,
    ],
    ['its own name', [at('all.csv'), '--out-train', at('all.csv'), '--out-leave-out', at('p.csv')], /three names/],
    ['an empty part', [at('all.csv'), ...parts, '--leave-out', '0.001'], /leaves a part empty/],
    ['a share of one', [at('all.csv'), ...parts, '--leave-out', '1'], /not at least 0 and below 1/],
    ['no such file', [at('none.csv'), ...parts], /no such file/],
    ['no second file', [at('all.csv'), '--out-train', at('p.csv')], /--out-leave-out/],
  ])('%s is refused', async (_, args, message) => {
    const before = readFileSync(at('all.csv'));
    const { status, stderr } = await matganHere('data', 'split', ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(readFileSync(at('all.csv'))).toEqual(before);
    expect(existsSync(at('p.csv'))).toBe(false);
  });
});

test('splitData reads the parts of a file with a pattern in its name', async () => {
  writeFileSync(at('odd [1].csv'), readFileSync(at('all.csv')));
  const options = { leaveOut: 0.5, seed: 1, outTrain: at('o [t].parquet'), outLeaveOut: at('o [l].parquet') };
  const { training } = await splitData(at('odd [1].csv'), options);
  expect(await dataInfo(at('o [t].parquet'))).toMatchObject({ rows: training.rows, verified: true });
});
