/** `matgan screen`: filters, models, known sets, order, interruption, bad input. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { matganElements } from '../../src/chem/elements.ts';
import { readProvenance } from '../../src/chem/provenance.ts';
import { formulaText } from '../../src/chem/rows.ts';

import type { Regressor } from '../../src/models/regressor.ts';
import { readTrees, writeTrees } from '../../src/models/trees/files.ts';
import { type ScreenOptions, screen, screeningFolder } from '../../src/report/screening.ts';
import { temporaryFolder, tinyElemNet } from '../models/tiny.ts';
import { matganHere } from './here.ts';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const generated = at('generated.csv');
beforeAll(() => {
  const formulas = ['NaCl', 'Na2Cl2', 'Li2O', 'Fe0.95O', 'HeO', 'Xx', '', 'LiFePO4', 'FeO', 'Na3Cl', 'LiCoO2', 'Li4O2'];
  writeFileSync(generated, `formula\n${formulas.join('\n')}\n`);
  writeFileSync(at('icsd.csv'), 'formula\nNaCl\nLiMnO2\n');
  writeFileSync(at('mp.csv'), 'formula\nNaCl\nLi2O\n');
});
const known = { icsd: at('icsd.csv'), mp: at('mp.csv') };

/** Says a number for each formula, and remembers which it was asked. */
function model(value: (formula: string) => number, asked: string[] = []): Regressor {
  return {
    kind: 'elemnet',
    target: 'made up',
    sha256: 'f'.repeat(64),
    note: 'made up',
    run: async (words, rows) => {
      const formulas = Array.from({ length: rows }, (_, row) => formulaText(words, row));
      asked.push(...formulas);
      return { values: formulas.map(value), uncertainties: formulas.map((f) => f.length / 10) };
    },
    compositions: () => Promise.reject(new Error('a screening has packed rows')),
    destroy: () => {},
  };
}
const energies: Record<string, number> = { NaCl: -2, Li2O: -1.9, LiFePO4: -2.5, FeO: -1.2, Na3Cl: 0.1, LiCoO2: -1.6 };
const energy = (asked?: string[]): Regressor => model((formula) => energies[formula] ?? 9, asked);

/** Rows of the CSV that a screening writes, as objects. */
async function rowsOf(options: Partial<ScreenOptions>): Promise<Record<string, string>[]> {
  await screen(generated, { out: at('out.csv'), ...options });
  const [head, ...lines] = readFileSync(at('out.csv'), 'utf8').trim().split('\n');
  return lines.map((line) => Object.fromEntries(line.split(',').map((cell, i) => [head.split(',')[i], cell])));
}
const formulasOf = async (options: Partial<ScreenOptions>): Promise<string[]> =>
  (await rowsOf(options)).map(({ formula }) => formula);

const noModels = ['--energy-model', 'none', '--gap-model', 'none'];

describe('screen', () => {
  it('reduces, judges once, counts what is no formula by reason, keeps the order', async () => {
    const result = await screen(generated, { out: at('all.parquet') });
    expect(result).toMatchObject({
      rows: 12,
      unusable: {
        'more than 8 atoms of an element': 1,
        'element outside the 85': 1,
        'unknown element': 1,
        missing: 1,
      },
      removed: { repeats: 2 },
      passed: 6,
      kept: 6,
    });
    expect(await formulasOf({})).toEqual(['NaCl', 'Li2O', 'LiFePO4', 'FeO', 'Na3Cl', 'LiCoO2']);
    expect(await readProvenance(at('all.parquet'))).toMatchObject({ kept: 6, rows: 12 });
    expect(existsSync(screeningFolder(at('all.parquet')))).toBe(false);
  });

  it('filters by elements, validity, energy and gap; models see only what is left', async () => {
    expect(await formulasOf({ contains: ['Li', 'O'], elements: [3, 4] })).toEqual(['LiFePO4', 'LiCoO2']);
    expect(await formulasOf({ elements: [2, 2], rule: 'balanced' })).toEqual(['NaCl', 'Li2O', 'FeO']);
    expect(await formulasOf({ elements: [2, 2], rule: 'neutral' })).toContain('Na3Cl');
    const asked: string[] = [];
    const gap = model((formula) => formula.length, asked);
    const rows = await rowsOf({ energy: energy(), energies: [-2, -1.5], gap, gaps: [4, 5] });
    expect(asked).toEqual(['NaCl', 'Li2O', 'LiCoO2']);
    expect(rows).toMatchObject([
      {
        formula: 'NaCl',
        predicted_energy_ev_per_atom: '-2.0',
        energy_uncertainty_ev_per_atom: '0.4',
        predicted_gap_ev: '4.0',
      },
      { formula: 'Li2O', predicted_energy_ev_per_atom: '-1.9', predicted_gap_ev: '4.0' },
    ]);
  });

  it('sorts, and keeps the first', async () => {
    expect(await formulasOf({ sort: 'formula', top: 3 })).toEqual(['FeO', 'Li2O', 'LiCoO2']);
    expect(await formulasOf({ energy: energy(), sort: 'energy' })).toEqual([
      ...['LiFePO4', 'NaCl', 'Li2O', 'LiCoO2', 'FeO', 'Na3Cl'],
    ]);
    const falling = await formulasOf({ energy: energy(), sort: 'energy', falling: true, top: 2 });
    expect(falling).toEqual(['Na3Cl', 'FeO']);
  });

  it('says yes and no as generate --judge does, in Parquet as truth values', async () => {
    const rows = await rowsOf({ elements: [2, 2] });
    expect(rows.map((row) => [row.charge_neutral, row.electronegativity_balanced])).toEqual([
      ['true', 'true'],
      ['true', 'true'],
      ['true', 'true'],
      [expect.stringMatching(/true|false/), 'false'],
    ]);
  });

  it('knows formulas and the nearest known ones', async () => {
    const rows = await rowsOf({ known, nearest: 3 });
    expect(rows.map((row) => [row.formula, row.known, row.nearest_known, row.distance])).toEqual([
      ['NaCl', '"icsd', ' mp"', 'NaCl'], // the comma in quotes
      ['Li2O', 'mp', 'Li2O', '0.0'],
      ['LiFePO4', '', 'LiMnO2', expect.stringMatching(/^0\.357/)],
      ['FeO', '', '', ''],
      ['Na3Cl', '', '', ''],
      ['LiCoO2', '', '', ''],
    ]);
    expect(await formulasOf({ known, onlyNew: true, rule: 'balanced' })).toEqual(['LiFePO4', 'FeO', 'LiCoO2']);
  });

  it('goes on from the parts that an interruption left, and from no others', async () => {
    const out = at('resumed.csv');
    const options = { out, partRows: 2, sort: 'energy' as const };
    let left = 2;
    const failing = energy();
    const run: Regressor['run'] = async (words, rows) => {
      if (left-- === 0) throw new Error('interrupted');
      return failing.run(words, rows);
    };
    await expect(screen(generated, { ...options, energy: { ...failing, run } })).rejects.toThrow('interrupted');
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(screeningFolder(out))).toEqual(expect.arrayContaining(['0.parquet', '1.parquet']));
    // A damaged part is made anew.
    writeFileSync(join(screeningFolder(out), '1.parquet'), 'PAR1');
    const asked: string[] = [];
    const result = await screen(generated, { ...options, energy: energy(asked) });
    expect(result.resumed).toBe(1);
    expect(asked).toEqual(['LiFePO4', 'FeO', 'Na3Cl', 'LiCoO2']);
    const text = readFileSync(out, 'utf8');
    expect(existsSync(screeningFolder(out))).toBe(false);
    // Another filter: nothing of what was left fits.
    left = 1;
    await expect(screen(generated, { ...options, energy: { ...failing, run } })).rejects.toThrow('interrupted');
    const other = await screen(generated, { ...options, energy: energy(), energies: [-9, 9] });
    expect(other.resumed).toBe(0);
    expect(readFileSync(out, 'utf8')).toBe(text);
  });

  it('tells repeats apart in files, where memory is short', async () => {
    const pairs = matganElements.slice(0, 20).flatMap((a) => matganElements.slice(30, 40).map((b) => `${a}${b}`));
    writeFileSync(at('many.csv'), `formula\n${[...pairs, ...pairs].join('\n')}\n`);
    const result = await screen(at('many.csv'), { out: at('many.out.csv'), memory: 0, partRows: 64 });
    expect(result).toMatchObject({ passed: 200, removed: { repeats: 200 } });
    const [, ...lines] = readFileSync(at('many.out.csv'), 'utf8').trim().split('\n');
    expect(new Set(lines.map((line) => line.split(',')[0])).size).toBe(200);
  });

  it('leaves an empty table where no formula is left, and says so', async () => {
    const { status, stderr } = await matganHere(
      'screen',
      generated,
      '--out',
      at('none.csv'),
      '--contains',
      'Xe',
      ...noModels,
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/removed: contains 8\nno formula is left of 12 rows; the table is empty/);
    expect(readFileSync(at('none.csv'), 'utf8').trim()).toBe(
      'formula,elements,charge_neutral,electronegativity_balanced',
    );
  });

  it('makes a page that loads nothing', async () => {
    await screen(generated, { out: at('p.csv'), html: at('p.html'), known, energy: energy(), sort: 'energy', top: 2 });
    const text = readFileSync(at('p.html'), 'utf8');
    expect(text).toContain('default-src &#39;none&#39;');
    expect(text).not.toMatch(/(src|href)="(?!data:)/);
    expect(text.match(/<tr>/g)).toHaveLength(3);
    expect(text).toMatch(/type="search"/);
    expect(text.indexOf('LiFePO')).toBeLessThan(text.indexOf('NaCl'));
  });

  it.each<[string, Partial<ScreenOptions>, RegExp]>([
    ['energies without a model', { energies: [-1, 0] }, /energies need a model; name one with --energy-model/],
    ['gaps without a model', { sort: 'gap' }, /gaps need a model/],
    ['new to what?', { onlyNew: true }, /--new needs a data set/],
    ['no element', { contains: ['He'] }, /--contains He: it is none of the 85/],
    ['over its own input', { out: generated }, /write over a file/],
    ['a page over the table', { html: at('out.csv') }, /write over a file/],
  ])('%s is refused', async (_, options, message) => {
    await expect(screen(generated, { out: at('out.csv'), ...options })).rejects.toThrow(message);
  });

  it('leaves a folder alone that is not its own', async () => {
    const out = at('mine.csv');
    writeFileSync(screeningFolder(out), 'mine');
    await expect(screen(generated, { out })).rejects.toThrow(/is no folder of an interrupted screening; move it away/);
    expect(readFileSync(screeningFolder(out), 'utf8')).toBe('mine');
  });
});

describe('with an elemnet', () => {
  it('predicts energies with uncertainties, as the command does', async () => {
    const rows = Array.from(
      { length: 60 },
      (_, i) => `${matganElements[i % 20]}${matganElements[25 + (i % 30)]},${i % 5}`,
    );
    writeFileSync(at('energies.csv'), `formula,e_form\n${rows.join('\n')}\n`);
    writeFileSync(at('settings.json'), JSON.stringify(tinyElemNet({ steps: 2, target: 'e_form' })));
    const device = ['--device', 'reference'];
    const trained = await matganHere(
      ...[
        'train',
        'elemnet',
        '--data',
        at('energies.csv'),
        '--config',
        at('settings.json'),
        '--out',
        at('run'),
        ...device,
      ],
    );
    expect(trained.status).toBe(0);
    const screened = await matganHere(
      ...[
        'screen',
        generated,
        '--out',
        at('e.csv'),
        '--energy-model',
        at('run'),
        '--max-energy',
        '99',
        '--gap-model',
        'none',
        ...device,
      ],
    );
    expect(screened.stderr).toMatch(/--energy-model: e_form; runs on the f64 reference/);
    const predicted = await matganHere(
      ...['predict', at('run'), '--formulas', at('e.csv'), '--out', at('p.out.csv'), ...device],
    );
    expect(predicted.status).toBe(0);
    const cells = (name: string): string[][] =>
      readFileSync(at(name), 'utf8').trim().split('\n').slice(1).map((line) => line.split(',')); // biome-ignore format: one line
    const own = cells('e.csv').map((row) => [row[0], row[4], row[5]]);
    expect(own).toHaveLength(6);
    const theirs = cells('p.out.csv').map((row) => row.slice(0, 3));
    own.forEach(([formula, value, spread], i) => {
      expect(formula).toBe(theirs[i][0]);
      expect(Number(value)).toBeCloseTo(Number(theirs[i][1]), 5);
      expect(Number(spread)).toBeCloseTo(Number(theirs[i][2]), 5);
    });
  }, 120_000);
});

describe('with trees on descriptors', () => {
  const gapModel = at('gap.safetensors');
  it('trains on formulas, predicts them, and refuses other descriptors by name', async () => {
    const rows = Array.from(
      { length: 60 },
      (_, i) => `${matganElements[i % 20]}${matganElements[25 + (i % 30)]},${i % 5}`,
    );
    writeFileSync(at('gaps.csv'), `formula,band_gap_ev\n${rows.join('\n')}\nCl,\nNaXx,1\n`);
    const trained = await matganHere(
      ...['train', 'trees', '--data', at('gaps.csv'), '--target', 'band_gap_ev', '--descriptors', 'magpie'],
      ...['--trees', '3', '--device', 'reference', '--out', gapModel],
    );
    expect(trained.stderr).toMatch(/62 rows read: 1 without band_gap_ev, .*\nnot usable: 1 × unknown element; row 62/);
    expect(trained.status).toBe(0);
    const out = at('gaps.out.csv');
    const { status, stderr } = await matganHere(
      ...[
        'screen',
        generated,
        '--out',
        out,
        '--gap-model',
        gapModel,
        '--gap',
        '0..5',
        '--sort',
        'gap',
        '--energy-model',
        'none',
      ],
    );
    expect(stderr).toMatch(/--gap-model: band_gap_ev; trees for band_gap_ev; on rows set aside: mae/);
    expect(status).toBe(0);
    const [head, ...lines] = readFileSync(out, 'utf8').trim().split('\n');
    expect(head).toMatch(/,predicted_gap_ev$/);
    const gaps = lines.map((line) => Number(line.split(',').at(-1)));
    expect(gaps).toEqual([...gaps].sort((a, b) => a - b));
    writeTrees(at('other.safetensors'), { ...readTrees(gapModel), descriptors: 'other ones' });
    const refused = await matganHere(
      'screen',
      generated,
      '--out',
      out,
      '--gap-model',
      at('other.safetensors'),
      '--energy-model',
      'none',
    );
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/other\.safetensors: it was trained on descriptors other ones, these are/);
  }, 120_000);

  it.each<[string[], RegExp]>([
    [['--known', 'icsd.csv'], /--known icsd.csv: it takes NAME=FILE/],
    [['--max-energy', '0', '--energy-model', 'none'], /energies need a model/],
    [['--sort', 'gap', '--gap-model', 'none'], /gaps need a model/],
    [['--descending'], /--descending by what\? name it with --sort/],
    [['--sort', 'size'], /Allowed choices are energy, gap, formula/],
    [['--neutral', '--balanced'], /cannot be used with/],
    [['--energy-model', 'nowhere'], /nowhere: there is no such run or model/],
    [['--energy-model', 'icsd'], /--energy-model icsd: it is a model of kind/],
  ])('%j is a mistake of the user', async (more, message) => {
    const { status, stderr } = await matganHere('screen', generated, '--out', at('bad.csv'), ...more);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });
});
