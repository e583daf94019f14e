import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadFormulas } from '../../src/chem/dataset.ts';
import { formulaText } from '../../src/chem/rows.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { describeGpu } from '../gpu.ts';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-map-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => join(folder, name);
const all = synthesize();
const formulas = Array.from({ length: 120 }, (_, row) => formulaText(all.packed, row));
writeFileSync(
  file('a.csv'),
  `formula,decodes\n${formulas
    .slice(0, 70)
    .map((f, i) => `${f},${i % 3 > 0}`)
    .join('\n')}\n`,
);
writeFileSync(file('b.csv'), `formula\n${formulas.slice(60).join('\n')}\n`);
writeFileSync(file('one.csv'), 'formula\nNaCl\n');
mkdirSync(file('full'));
writeFileSync(file('full/mine.txt'), 'keep me');

const a = ['map', '--set', `a=${file('a.csv')}`];
const quick = ['--iterations', '20', '--perplexity', '8', '--json'];

describe('matgan map refuses', () => {
  it.each<[string, string[], RegExp]>([
    ['a missing file', ['map', '--set', `a=${file('none.csv')}`], /none\.csv: no such file/],
    ['no set', ['map'], /it needs --set NAME=FILE, or --run FOLDER/],
    ['a run that is none', ['map', '--run', file('none')], /none/],
    ['a set without a name', ['map', '--set', file('a.csv')], /it takes NAME=FILE or NAME=FILE:COUNT/],
    ['two sets of one name', [...a, '--set', `a=${file('b.csv')}`], /there are two named a/],
    ['one formula', ['map', '--set', `a=${file('one.csv')}`], /a map needs at least 2 points, there is 1/],
    ['a count of 0', ['map', '--set', `a=${file('a.csv')}:0`], /it takes a count from 1 to 1000000/],
    ['more than the file has', ['map', '--set', `a=${file('b.csv')}:61`], /61 formulas are wanted/],
    ['an unknown label column', [...a, '--label-column', 'kind'], /has no column "kind" \(--label-column\)/],
    ['too high a perplexity', [...a, '--perplexity', '70'], /perplexity 70: with 70 points it takes 1 to 69/],
    ['a perplexity of 0', [...a, '--perplexity', '0'], /from 1 to 1000/],
    ['more landmarks than there can be', [...a, '--landmarks', '100001'], /from 2 to 100000/],
    ['four dimensions', [...a, '--dimensions', '4'], /Allowed choices are 2, 3, both/],
    [
      'a folder in use',
      [...a, '--out', file('full')],
      /full: it exists and is not empty; take another name, or --force/,
    ],
    ['a file for a folder', [...a, '--out', file('a.csv')], /a\.csv: is a file; name a folder/],
  ])('%s', async (_, args, message) => {
    const out = args.includes('--out') ? [] : ['--out', file('refused')];
    const { status, stdout, stderr } = await matganHere(...args, ...out, '--device', 'reference');
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(existsSync(file('refused'))).toBe(false);
    expect(readdirSync(file('full'))).toEqual(['mine.txt']);
  });
});

describe('matgan map --device reference', () => {
  it('writes all but the picture, which takes a device', async () => {
    const out = file('reference');
    const run = await matganHere(...a, '--out', out, ...quick, '--device', 'reference');
    expect(run.stderr).toContain('runs on the f64 reference executor');
    expect(run.status).toBe(0);
    expect(readdirSync(out).sort()).toEqual(['index.html', 'map.csv', 'map.json', 'map.png', 'map.svg']);
    const record = JSON.parse(run.stdout);
    expect(record).toMatchObject({ formulas: 70, mappedExactly: 70, placed: 0, perplexity: 8, iterations: 20 });
    expect(record.maps.map((m: { dimensions: number }) => m.dimensions)).toEqual([2, 3]);
    // The coordinates are a table that every command reads.
    const again = await loadFormulas(join(out, 'map.csv'));
    expect(again.rows).toBe(70);
  });

  it('takes the rows of a run', async () => {
    // The model that ships was trained on a file that is not shipped.
    const run = await matganHere('map', '--run', 'icsd', '--out', file('run'), ...quick, '--device', 'reference');
    expect(run.stderr).toMatch(/icsd.*no such file|points would take hours/);
    expect(run.status).toBe(2);
  });

  it('refuses what would take hours', async () => {
    writeFileSync(
      file('many.csv'),
      `formula\n${Array.from({ length: all.rows }, (_, i) => formulaText(all.packed, i)).join('\n')}\n`,
    );
    const many = await matganHere(
      'map',
      '--set',
      `a=${file('many.csv')}`,
      '--out',
      file('never'),
      '--device',
      'reference',
    );
    expect(many.stderr).toMatch(/points would take hours; at most 2000/);
    expect(many.status).toBe(2);
  });
});

describeGpu('matgan map', () => {
  it('writes figures, coordinates and a page; the same ones again', async () => {
    const sets = [...a, '--set', `b=${file('b.csv')}:50`, '--landmarks', '80', '--seed', '3'];
    const first = await matganHere(...sets, '--out', file('first'), ...quick);
    expect(first.stderr).toContain('wrote ');
    expect(first.status).toBe(0);
    const names = ['index.html', 'map-3d.png', 'map.csv', 'map.json', 'map.png', 'map.svg'];
    expect(readdirSync(file('first')).sort()).toEqual(names);
    expect(JSON.parse(first.stdout)).toMatchObject({ formulas: 120, mappedExactly: 80, placed: 40 });
    const lines = readFileSync(file('first/map.csv'), 'utf8').trim().split('\n');
    expect(lines[0]).toBe('formula,set,mapped,x2,y2,x3,y3,z3');
    expect(lines).toHaveLength(121);
    expect(lines.filter((line) => line.includes(',placed,'))).toHaveLength(40);
    const again = await matganHere(...sets, '--out', file('again'), ...quick);
    expect(again.status).toBe(0);
    for (const name of names.filter((n) => n !== 'map.json')) {
      expect(readFileSync(file(`again/${name}`)).equals(readFileSync(file(`first/${name}`))), name).toBe(true);
    }
  });

  it('has a group for each label, on a plane alone, and writes into a full folder when told', async () => {
    const labels = [...a, '--label-column', 'decodes', '--dimensions', '2'];
    const { status, stdout } = await matganHere(...labels, '--out', file('full'), '--force', ...quick);
    expect(status).toBe(0);
    expect(readdirSync(file('full')).sort()).toEqual([
      'index.html',
      'map.csv',
      'map.json',
      'map.png',
      'map.svg',
      'mine.txt',
    ]);
    const { groups } = JSON.parse(stdout);
    expect(groups.map(({ name }: { name: string }) => name).sort()).toEqual(['false', 'true']);
  });
});
