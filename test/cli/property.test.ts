/** `matgan train elemnet` and `matgan predict` as a user meets them. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matganElements } from '../../src/chem/elements.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { Describer, descriptorCount } from '../../src/chem/magpie.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
import { readTrees, writeTrees } from '../../src/models/trees/files.ts';
import { predict, uncertaintiesOf } from '../../src/models/trees/forest.ts';
import { describeGpu } from '../gpu.ts';
import { tinyElemNet } from '../models/tiny.ts';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-property-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const write = (name: string, lines: readonly string[]): string => {
  writeFileSync(at(name), `${lines.join('\n')}\n`);
  return at(name);
};
const settings = at('settings.json');
const table = at('table.csv');
const run = at('run');
beforeAll(() => {
  writeFileSync(settings, JSON.stringify(tinyElemNet({ steps: 12, target: 'e_form' })));
  const rows = Array.from({ length: 60 }, (_, i) => {
    const [a, b] = [matganElements[i % 20], matganElements[25 + (i % 30)]];
    return `${a}${1 + (i % 3)}${b},${(i % 7) - 3}`;
  });
  write('table.csv', ['formula,e_form', ...rows, 'HeO,1', 'NaCl,', 'KCl,nan']);
});
const train = (...more: string[]) =>
  matganHere('train', 'elemnet', '--data', table, '--config', settings, '--out', run, ...more);

describeGpu('train elemnet, then predict', () => {
  it('leaves a run with a report on the test rows, stops and goes on', async () => {
    const paused = await train('--pause-at', '6', '--log-every', '3');
    expect(paused.stderr).toMatch(
      /63 rows read: 60 formulas with e_form, 1 rows without, 0 repeat a formula .*\nnot usable: 1 × element outside the 85; row 61: .*He is none/,
    );
    expect(paused.stderr).toMatch(
      /\nnot usable: 1 × the target is not finite; row 63: "nan"\n12 rows are kept for the final test\n/,
    );
    expect(paused.stderr).toMatch(/\nstopped: 6 steps/);
    expect(existsSync(join(run, 'properties.json'))).toBe(false);
    const { status, stdout, stderr } = await matganHere(
      ...['train', 'elemnet', '--data', table, '--out', run, '--resume', '--log-every', '3', '--json'],
    );
    expect(stderr).toMatch(/resuming at step 6\n/);
    expect(stderr).toMatch(/mean absolute error/);
    expect(status).toBe(0);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    // Six steps are a pass over the training rows.
    expect(lines.find(({ step }) => step === 12)).toMatchObject({
      loss: expect.any(Number),
      lossLeaveOut: expect.any(Number),
    });
    const { test } = lines.at(-1);
    expect(test).toMatchObject({ target: 'e_form', rows: 12, mae: expect.any(Number) });
    expect(JSON.parse(readFileSync(join(run, 'properties.json'), 'utf8'))).toEqual(test);
    expect(
      readdirSync(run)
        .filter((name) => name.endsWith('.svg'))
        .sort(),
    ).toEqual(['calibration.svg', 'parity.svg']);
    expect(readFileSync(join(run, 'parity.svg'), 'utf8').match(/<circle/g)).toHaveLength(12);
  }, 300_000);

  it('predicts what can be read, says why not of the rest, and compares', async () => {
    const formulas = write('some.csv', ['formula,truth', 'NaCl,1', 'Fe0.95O,2', 'HeO,3', 'Xx,4', 'LiF,', 'MgO,inf']);
    const out = at('out.csv');
    const { status, stdout, stderr } = await matganHere(
      ...['predict', run, '--formulas', formulas, '--out', out, '--truth', 'truth', '--report', at('report'), '--json'],
    );
    expect(stderr).toMatch(/4 of 6 formulas predicted .*\nnot predicted: row 3: .*He is none of the 85/);
    expect(stderr).toMatch(/truth not usable: 1 × the target is not finite; row 6: "inf"/);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ rows: 6, predicted: 4, target: 'e_form', report: { rows: 2 } });
    const lines = readFileSync(out, 'utf8').trim().split('\n');
    expect(lines[0]).toBe('formula,truth,predicted_e_form,uncertainty,error');
    expect(lines[1]).toMatch(/^NaCl,1\.0,-?[\d.e-]+,[\d.e-]+,$/);
    expect(lines[3]).toMatch(/^HeO,3\.0,,,.*He is none/);
    expect(readdirSync(at('report')).sort()).toEqual(
      expect.arrayContaining(['calibration.svg', 'parity.svg', 'properties.json']),
    );
  }, 300_000);

  it('exports what predicting needs: the same predictions', async () => {
    const file = at('model.safetensors');
    expect((await matganHere('export', run, '--best', '--out', file)).status).toBe(0);
    const [own, exported] = [at('own.csv'), at('exported.csv')];
    for (const [model, out] of [
      [run, own],
      [file, exported],
    ]) {
      expect((await matganHere('predict', model, '--formulas', table, '--out', out)).status).toBe(0);
    }
    expect(readFileSync(exported, 'utf8')).toBe(readFileSync(own, 'utf8'));
    expect(Object.keys(readCheckpoint(file).tensors).some((name) => name.startsWith('elemnet/'))).toBe(false);
  }, 300_000);

  it.each([
    [
      'another kind of model',
      ['predict', 'icsd', '--formulas', table, '--out', at('x.csv')],
      /predict icsd: it is a model of kind gan; it takes one of "train elemnet" or "train trees"/,
    ],
    ['nowhere to write', ['predict', run, '--formulas', table], /it needs --out FILE or --report DIR/],
    [
      'a report without truth',
      ['predict', run, '--formulas', table, '--report', at('r')],
      /name its column with --truth/,
    ],
    [
      'a report on top of a file',
      ['predict', run, '--formulas', table, '--truth', 'e_form', '--report', table],
      /--report .*it cannot be made/,
    ],
    [
      'a truth that is not there',
      ['predict', run, '--formulas', table, '--out', at('x.csv'), '--truth', 'gap'],
      /no column "gap" \(--truth\)/,
    ],
    ['generating from it', ['generate', run, '--count', '5', '--out', at('x.csv')], /elemnet/],
    [
      'resuming with another target',
      ['train', 'elemnet', '--out', run, '--resume', '--target', 'gap'],
      /--target can't change/,
    ],
  ])('%s: exit code 2', async (_, args, message) => {
    const { status, stderr } = await matganHere(...args);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });
});

describe('train trees on formulas, then predict', () => {
  const model = at('gap.safetensors');
  const plain = at('plain.safetensors');
  const gaps = at('gaps.csv');
  beforeAll(async () => {
    const rows = Array.from({ length: 300 }, (_, i) => {
      const [a, b] = [matganElements[(7 * i) % 40], matganElements[40 + (i % 41)]];
      return `${a}${1 + (i % 3)}${b},${(i % 5) + (i % 41) / 10}`;
    });
    writeFileSync(gaps, `formula,gap\n${rows.join('\n')}\n`);
    writeFileSync(at('trees.yaml'), 'earlyStopping: { share: 0.3, patience: 20 }\nuncertainty: { leafRows: 10 }\n');
    const all = ['train', 'trees', '--data', gaps, '--target', 'gap', '--device', 'reference', '--trees', '20'];
    for (const [out, ...more] of [
      [model, '--config', at('trees.yaml'), '--descriptors', 'magpie'],
      [plain, '--preset', 'paper', '--descriptors', 'magpie'],
    ]) {
      const { status, stderr } = await matganHere(...all, '--out', out, ...more);
      expect([status, stderr]).toEqual([0, expect.stringMatching(/wrote/)]);
    }
  }, 120_000);
  const cells = (name: string): string[][] =>
    readFileSync(at(name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(','));

  it('predicts formulas, fractional ones too, with uncertainties; refuses others by row; compares', async () => {
    const texts = ['NaCl,1', 'Fe0.95O,2', 'HeO,3', 'Xx,4', 'LiF,', ',1', 'Na2Cl2,1'];
    const formulas = write('mixed.csv', ['formula,truth', ...texts]);
    const { status, stdout, stderr } = await matganHere(
      ...['predict', model, '--formulas', formulas, '--out', at('t.csv'), '--truth', 'truth', '--report', at('trees')],
      '--json',
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/4 of 7 formulas predicted .*\nnot predicted: row 3: .*He is none of the 85/);
    const { report, ...rest } = JSON.parse(stdout);
    expect(rest).toMatchObject({ rows: 7, predicted: 4, target: 'gap' });
    expect(report).toMatchObject({ rows: 3, byElements: { 2: { rows: 3 } } });
    expect(report.within).toHaveLength(3);
    expect(report).not.toHaveProperty('calibration');
    expect(readdirSync(at('trees'))).toEqual(
      expect.arrayContaining(['calibration.svg', 'parity.svg', 'properties.json']),
    );
    const [head, ...lines] = cells('t.csv');
    expect(head).toEqual(['formula', 'truth', 'predicted_gap', 'uncertainty', 'error']);
    expect(lines[2].slice(0, 4)).toEqual(['HeO', '3.0', '', '']);
    expect(lines[3].slice(0, 4)).toEqual(['Xx', '4.0', '', '']);
    expect(lines[5][4]).not.toBe('');
    // The same formula, reduced or not.
    expect(lines[6].slice(2)).toEqual(lines[0].slice(2));
    const { forest, error } = readTrees(model);
    const values = new Float32Array(descriptorCount);
    for (const row of [0, 1, 4]) {
      new Describer().composition(parseFormula(lines[row][0]), values, 0);
      expect(Number(lines[row][2])).toBeCloseTo(predict(forest, values)[0], 10);
      expect(Number(lines[row][3])).toBeCloseTo(uncertaintiesOf(error!, values)[0], 10);
      expect(Number(lines[row][3])).toBeGreaterThan(0);
    }
  });

  it('says the same in a screening', async () => {
    const formulas = write('screened.csv', ['formula', 'NaCl', 'LiFePO4', 'Na2Cl2', 'KBr']);
    const out = at('s.csv');
    const page = at('s.html');
    const screened = await matganHere(
      'screen',
      formulas,
      '--out',
      out,
      '--html',
      page,
      '--energy-model',
      'none',
      '--gap-model',
      model,
    );
    expect(screened.status).toBe(0);
    const predicted = await matganHere('predict', model, '--formulas', out, '--out', at('sp.csv'));
    expect(predicted.status).toBe(0);
    const [head, ...lines] = cells('s.csv');
    expect(head.slice(-2)).toEqual(['predicted_gap_ev', 'gap_uncertainty_ev']);
    expect(lines.map((line) => [line[0], ...line.slice(-2)])).toEqual(
      cells('sp.csv')
        .slice(1)
        .map((line) => line.slice(0, 3)),
    );
    expect(readFileSync(page, 'utf8')).toMatch(/<th[^>]*>±/);
    await matganHere(
      'screen',
      formulas,
      '--out',
      at('s2.csv'),
      '--html',
      page,
      '--energy-model',
      'none',
      '--gap-model',
      plain,
    );
    expect(cells('s2.csv')[0].at(-1)).toBe('predicted_gap_ev');
    expect(readFileSync(page, 'utf8')).not.toMatch(/<th[^>]*>±/);
  });

  it('without an uncertainty leaves the column and the chart out', async () => {
    const { status, stderr } = await matganHere(
      ...['predict', plain, '--formulas', gaps, '--out', at('q.csv'), '--truth', 'gap', '--report', at('plain')],
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/mean absolute error/);
    expect(stderr).not.toMatch(/uncertaint/);
    expect(cells('q.csv')[0]).toEqual(['formula', 'gap', 'predicted_gap', 'error']);
    expect(readdirSync(at('plain'))).not.toContain('calibration.svg');
  });

  it('refuses trees on columns of a table, and broken ones', async () => {
    const own = at('own.safetensors');
    writeTrees(own, { ...readTrees(model), descriptors: '' });
    const broken = readFileSync(model);
    writeFileSync(at('broken.safetensors'), broken.subarray(0, broken.length - 4));
    for (const [file, message] of [
      [
        own,
        /predict .*own\.safetensors: its trees were trained on columns of a table.*train them with --descriptors magpie/,
      ],
      [at('broken.safetensors'), /broken\.safetensors/],
    ] as const) {
      const { status, stderr } = await matganHere('predict', file, '--formulas', gaps, '--out', at('no.csv'));
      expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(existsSync(at('no.csv'))).toBe(false);
    }
  });
});

describe('before any work', () => {
  it.each([
    ['no data', ['train', 'elemnet', '--out', at('n')], /it needs --data FILE/],
    [
      'no such column',
      ['train', 'elemnet', '--data', table, '--target', 'gap', '--out', at('n')],
      /no column "gap" \(--target\)/,
    ],
    ['a preset of another kind', ['train', 'elemnet', '--preset', 'icsd', '--out', at('n')], /is for "train gan"/],
  ])('%s: exit code 2', async (_, args, message) => {
    const { status, stderr } = await matganHere(...args);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });
});
