/** `matgan train elemnet` and `matgan predict` as a user meets them. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matganElements } from '../../src/chem/elements.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
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
      /it is a model of kind gan; predict takes/,
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
