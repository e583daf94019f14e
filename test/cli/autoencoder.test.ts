/** `matgan autoencoder …` in this process and on the reference executor: no adapter is needed. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { unpackRow } from '../../src/chem/encoding.ts';
import { formatFormula, reduceFormula } from '../../src/chem/formula.ts';
import { readTable } from '../../src/chem/tables.ts';
import { temporaryFolder, tinyDenseAe, tinyDenseGan, tinyRows } from '../models/tiny.ts';
import { matganHere, onTerminal } from './here.ts';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const reference = ['--device', 'reference'];
const formulas = (rows: number, first = 0): string[] => {
  const { packed } = tinyRows(rows, first);
  return Array.from({ length: rows }, (_, row) => formatFormula(reduceFormula(unpackRow(packed, row))));
};
const write = (name: string, rows: readonly string[]): string => {
  writeFileSync(at(name), `formula\n${rows.join('\n')}\n`);
  return at(name);
};
const data = write('data.csv', formulas(40));
const autoencoder = (...args: string[]) => matganHere('autoencoder', ...args, ...reference);

beforeAll(async () => {
  writeFileSync(at('ae.json'), JSON.stringify(tinyDenseAe({ decoding: 'paper' })));
  writeFileSync(at('gan.json'), JSON.stringify(tinyDenseGan()));
  const ae = ['--data', data, '--preset', 'demo-ae', '--config', at('ae.json'), '--steps', '2', '--measure-every', '1'];
  expect(await matganHere('train', 'ae', ...ae, '--out', at('ae'), ...reference)).toMatchObject({ status: 0 });
  const gan = ['--data', data, '--config', at('gan.json'), '--steps', '1', '--sample-every', '0'];
  expect(await matganHere('train', 'gan', ...gan, '--out', at('gan'), ...reference)).toMatchObject({ status: 0 });
});

describe('matgan autoencoder study', () => {
  it('writes figures, a page and a row for every formula; the rows parted as the run parted them', async () => {
    const out = at('study');
    const generated = write('generated.csv', formulas(9));
    const { status, stdout, stderr } = await autoencoder('study', at('ae'), '--generated', generated, '--out', out);
    expect(status).toBe(0);
    expect(stdout).toMatch(/decoded exactly .*rule argmax .*rule paper .*paper, OQMD/);
    expect(stdout).toMatch(/training .* 36 .*96\.3 %/);
    expect(stdout).toMatch(/left out .* 4 .*95\.5 %/);
    expect(stderr).toContain(`wrote study.json, index.html and decoding.parquet into ${out}\n`);
    expect(readdirSync(out).sort()).toEqual(['decoding.parquet', 'index.html', 'study.json']);
    const study = JSON.parse(readFileSync(join(out, 'study.json'), 'utf8'));
    expect(study).toMatchObject({ rule: 'paper', model: { step: 2 }, generated: { different: 9 } });
    const { training, leaveOut } = study.sets;
    expect([training.rows, leaveOut.rows]).toEqual([36, 4]);
    const found = [training, leaveOut].flatMap(({ generated: { decodable, undecodable } }) => [decodable, undecodable]);
    expect(found.reduce((total, { count }) => total + count, 0)).toBe(9);
    const seen: string[] = [];
    const table = await readTable(join(out, 'decoding.parquet'), { formulaColumn: 'formula' }, (text) => {
      seen.push(text!);
    });
    expect(table.columns).toEqual(['formula', 'elements', 'set', 'decoded', 'decoded_other_rule', 'label']);
    expect(seen.sort()).toEqual(formulas(40).sort());
    const page = readFileSync(join(out, 'index.html'), 'utf8');
    expect(page).toContain('paper, OQMD: 95.5 %');
    expect(page.match(/<script|https?:|NaN|undefined/g)).toBe(null);
    // A folder with something in it is not written into unasked.
    const again = await autoencoder('study', at('ae'), '--out', out);
    expect([again.status, again.stderr]).toEqual([
      2,
      expect.stringMatching(/it exists and is not empty; .*--force\n$/),
    ]);
    const forced = await autoencoder('study', at('ae'), '--out', out, '--force', '--rule', 'argmax', '--json');
    expect(forced.status).toBe(0);
    expect(JSON.parse(forced.stdout)).toMatchObject({ rule: 'argmax', sets: { training: { rows: 36 } } });
  });

  it('other data are studied whole; the best checkpoint where asked', async () => {
    const other = write('other.csv', ['NaCl', 'KBr', 'NaCl', 'Fe', 'CaTiO3']);
    const { status, stdout, stderr } = await autoencoder(
      ...['study', at('ae'), '--data', other, '--best', '--out', at('other'), '--json'],
    );
    expect(status).toBe(0);
    expect(stderr).toContain('not the rows that the model was trained on');
    const { sets, model } = JSON.parse(stdout);
    expect(Object.keys(sets)).toEqual(['other']);
    // A single element counts as a row that is not decoded.
    expect(sets.other.rows).toBe(4);
    expect(sets.other.failedBySize[1]).toMatchObject({ count: 1, of: 1 });
    expect(model.step).toBeGreaterThan(0);
  });

  it('shows a bar on a terminal', async () => {
    const { stderr } = await onTerminal('stderr', () => autoencoder('study', at('ae'), '--out', at('bar')));
    expect(stderr).toContain('40/40 formulas');
  });
});

describe('matgan autoencoder interpolate, near, encode', () => {
  it('a path, for people and as JSON', async () => {
    const path = ['interpolate', at('ae'), '--from', 'NaCl', '--to', 'LiFePO4', '--steps', '5'];
    const { status, stdout } = await autoencoder(...path);
    expect(status).toBe(0);
    expect(stdout).toMatch(/path .*formula .*CN .*EN .*data/);
    const json = await autoencoder(...path, '--data', data, '--json');
    const { from, to, stretches } = JSON.parse(json.stdout);
    expect([from, to]).toEqual(['NaCl', 'LiFePO4']);
    expect(stretches.reduce((total: number, { points }: { points: number }) => total + points, 0)).toBe(6);
  });

  it('a neighbourhood, for people and as JSON', async () => {
    const around = ['near', at('ae'), '--formula', 'LiFePO4', '--count', '30', '--radius', '2'];
    const { status, stdout } = await autoencoder(...around);
    expect(status).toBe(0);
    expect(stdout).toMatch(/\n30 points: \d+ decode to a formula, \d+ of them to LiFePO4 itself; \d+ others\n$/);
    const json = await autoencoder(...around, '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({ formula: 'LiFePO4', samples: 30, radius: 2, rule: 'paper' });
  });

  it('latent vectors of the run’s rows; an existing table is not written over', async () => {
    const out = at('latents.csv');
    const { status, stdout } = await autoencoder('encode', at('ae'), '--out', out, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ rows: 40, latent: 8, out });
    const [head, ...rows] = readFileSync(out, 'utf8').trim().split('\n');
    expect(head).toBe('formula,elements,set,z0,z1,z2,z3,z4,z5,z6,z7');
    expect(rows).toHaveLength(40);
    const again = await autoencoder('encode', at('ae'), '--out', out);
    expect([again.status, again.stderr]).toEqual([
      2,
      expect.stringMatching(/it exists; take another name, or --force\n$/),
    ]);
    expect((await autoencoder('encode', at('ae'), '--out', out, '--force', '--data', data)).status).toBe(0);
  });
});

describe('what a user gets wrong ends with 2 and one line, and leaves nothing', () => {
  const out = at('never');
  const ae = at('ae');
  it.each<[string, string[], RegExp]>([
    [
      'a GAN',
      ['study', at('gan'), '--out', out],
      /^CheckpointError: .*it is a model of kind gan; this takes an autoencoder/,
    ],
    ['a GAN to encode', ['encode', at('gan'), '--out', at('never.csv')], /^CheckpointError: .*of kind gan/],
    ['a GAN to walk in', ['near', at('gan'), '--formula', 'NaCl'], /^CheckpointError: .*of kind gan/],
    ['nothing', ['study', at('gone'), '--out', out], /there is no such run/],
    ['no --out', ['study', ae], /required option '--out <folder>'/],
    ['a file for a folder', ['study', ae, '--out', data], /is a file; name a folder/],
    ['empty data', ['study', ae, '--data', write('empty.csv', []), '--out', out], /^DataError: .*empty\.csv/],
    [
      'data without a formula',
      ['study', ae, '--data', write('none.csv', ['x1', '?']), '--out', out],
      /^DataError: .*none\.csv/,
    ],
    ['missing data', ['encode', ae, '--data', at('gone.csv'), '--out', at('never.csv')], /^DataError: .*gone\.csv/],
    ['missing generated', ['study', ae, '--generated', at('gone.csv'), '--out', out], /^DataError: .*gone\.csv/],
    ['an element outside the 85', ['near', ae, '--formula', 'HeO'], /^FormulaError: .*He is none of the 85/],
    ['a single element', ['near', ae, '--formula', 'Fe2'], /^DataError: formula Fe2: it has one element/],
    [
      'a single element at an end',
      ['interpolate', ae, '--from', 'NaCl', '--to', 'O2'],
      /^DataError: formula O2: it has one/,
    ],
    ['no formula', ['interpolate', ae, '--from', 'table salt', '--to', 'NaCl'], /^FormulaError: /],
    [
      'zero steps',
      ['interpolate', ae, '--from', 'NaCl', '--to', 'KBr', '--steps', '0'],
      /--steps.*whole number from 1/,
    ],
    ['zero points', ['near', ae, '--formula', 'NaCl', '--count', '0'], /--count.*whole number from 1/],
    ['a negative radius', ['near', ae, '--formula', 'NaCl', '--radius', '-1'], /--radius.*number from 0/],
    ['a radius without end', ['near', ae, '--formula', 'NaCl', '--radius', 'Infinity'], /--radius.*number from 0/],
    [
      'one formula for a spread',
      ['near', ae, '--formula', 'NaCl', '--data', write('one.csv', ['NaCl'])],
      /^DataError: .*one\.csv/,
    ],
    ['an unknown form', ['encode', ae, '--out', at('never.txt.gz')], /the ending is none of/],
    ['an unknown rule', ['study', ae, '--rule', 'best', '--out', out], /--rule.*argmax, paper/],
    ['a name that is none', ['studdy', ae], /unknown command 'studdy'/],
  ])('%s', async (_, args, message) => {
    mkdirSync(folder, { recursive: true });
    const before = readdirSync(folder).sort();
    const named = args[0] === 'studdy' ? args : [...args, ...reference];
    const { status, stdout, stderr } = await matganHere('autoencoder', ...named);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(status).toBe(2);
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  it('a run whose data changed', async () => {
    const before = readFileSync(data, 'utf8');
    try {
      writeFileSync(data, `${before}CsAu\n`);
      const { status, stderr } = await autoencoder('study', ae, '--out', out);
      expect([status, stderr]).toEqual([
        2,
        expect.stringMatching(/it has changed since the model was trained; name --data\n$/),
      ]);
    } finally {
      writeFileSync(data, before);
    }
  });
});
