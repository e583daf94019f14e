/** `matgan train trees` and the export of what it makes. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readNumbers, writeTable } from '../../src/chem/tables.ts';
import { readTrees } from '../../src/models/trees/files.ts';
import { predict } from '../../src/models/trees/forest.ts';
import { temporaryFolder } from '../models/tiny.ts';
import { noise, targetOf } from '../models/trees/made.ts';
import { matganHere } from './here.ts';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const table = noise(300, 3, { missing: 0.1 });
const target = targetOf(table);
const cell = (row: number, c: number): string => {
  const v = table.values[3 * row + c];
  return Number.isNaN(v) ? '' : String(v);
};
const train = (...more: string[]) =>
  matganHere('train', 'trees', '--data', at('t.csv'), '--target', 'y', '--device', 'reference', ...more);

beforeAll(async () => {
  const lines = Array.from(
    { length: 300 },
    (_, row) => `g${row % 50},${[0, 1, 2].map((c) => cell(row, c))},${target[row]}`,
  );
  writeFileSync(at('none.yaml'), 'leaveOut: 0\n');
  writeFileSync(at('t.csv'), `name,a,b,c,y\n${lines.join('\n')}\n`);
});

describe('a table of numbers', () => {
  it('is read by columns; text is left out, empty cells are missing', async () => {
    const read = await readNumbers(at('t.csv'), { target: 'y', group: 'name' });
    expect(read).toMatchObject({ rows: 300, columns: ['a', 'b', 'c'], leftOut: [] });
    expect(read.values).toEqual(table.values);
    expect(read.target).toEqual(target);
    expect([...read.groups!.slice(48, 53)]).toEqual([48, 49, 0, 1, 2]);
    expect((await readNumbers(at('t.csv'), { target: 'y' })).leftOut).toEqual(['name']);
    const some = await readNumbers(at('t.csv'), { columns: ['C', 'a'] });
    expect(some.columns).toEqual(['c', 'a']);
    expect(some.target).toHaveLength(0);
    expect(some.values[1]).toBe(table.values[0]);
  });

  it('is the same from Parquet and JSON lines', async () => {
    for (const name of ['t.parquet', 't.jsonl.gz']) {
      const columns = ['a', 'b', 'c'].map((own, c) => ({
        name: own,
        type: 'real' as const,
        value: (row: number) => table.values[3 * row + c],
      }));
      await writeTable(at(name), [...columns, { name: 'y', type: 'real', value: (row) => target[row] }], 300);
      const read = await readNumbers(at(name), { target: 'y' });
      expect(read.values).toEqual(table.values);
      expect(read.target).toEqual(target);
    }
  });

  const put = (name: string, text: string): string => {
    writeFileSync(at(name), text);
    return at(name);
  };
  it.each<[string, string, Parameters<typeof readNumbers>[1], RegExp]>([
    ['no such target', 'a,y\n1,2\n', { target: 'z' }, /has no column "z" \(--target\); there are "a", "y"/],
    ['no such column', 'a,y\n1,2\n', { target: 'y', columns: ['q'] }, /has no column "q" \(--columns\)/],
    ['a target of text', 'a,y\n1,2\n1,x\n', { target: 'y' }, /column "y" has 1 cells that are no numbers/],
    ['an empty target', 'a,y\n1,2\n1,\n', { target: 'y' }, /row 2: its "y" is empty; leave the row out/],
    ['a NaN target', 'a,y\n1,2\n1,NaN\n', { target: 'y' }, /row 2: its "y" is NaN/],
    ['a column of text that is asked for', 'a,y\nu,2\n', { target: 'y', columns: ['a'] }, /column "a" has 1 cells/],
    [
      'the target as a feature',
      'a,y\n1,2\n',
      { target: 'y', columns: ['y'] },
      /is the target, it can't be a feature too/,
    ],
    ['a column twice', 'a,y\n1,2\n', { columns: ['a', 'A'] }, /named twice/],
    ['text alone', 'a,y\nu,2\n', { target: 'y' }, /no columns of numbers beside the target; there are "a", "y"/],
    ['a line too long', 'a,y\n1,2\n1,2,3,4\n', { target: 'y' }, /line 3: is no row of this table \(1 such lines\)/],
  ])('%s is refused', async (_, text, options, message) => {
    await expect(readNumbers(put('bad.csv', text), options)).rejects.toThrow(message);
  });
});

describe('matgan train trees', () => {
  it('trains, measures, writes a model that predicts, and exports it', async () => {
    const model = at('m.safetensors');
    const made = await train('--out', model, '--group', 'name', '--preset', 'paper', '--trees', '20', '--json');
    expect(made.status).toBe(0);
    const result = JSON.parse(made.stdout);
    expect(result).toMatchObject({ rows: 270, columns: 3, trees: 20, out: model });
    expect(result.mae).toBeLessThan(1);
    expect(result.importances[0].column).toBe('a');
    const { forest, columns, target: named, data, measured, config } = readTrees(model);
    expect([columns, named, data.rows, config.trees]).toEqual([['a', 'b', 'c'], 'y', 270, 20]);
    expect(measured.mae).toBe(result.mae);
    expect(data.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(predict(forest, table.values).every(Number.isFinite)).toBe(true);

    expect(await train('--out', model)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/it exists; take another name, or --force/),
    });
    const again = at('n.safetensors');
    await train('--out', again, '--group', 'name', '--preset', 'paper', '--trees', '20');
    expect(readFileSync(again)).toEqual(readFileSync(model));

    const exported = await matganHere('export', model, '--out', at('m.onnx'), '--json');
    expect(exported.status).toBe(0);
    expect(JSON.parse(exported.stdout)).toMatchObject({ model: 'trees', trees: 20 });
    for (const [more, message] of [
      [['--out', at('x.safetensors')], /trees go to a name that ends in \.onnx/],
      [['--out', at('m.onnx')], /it exists/],
      [['--out', at('x.onnx'), '--float16'], /--float16 is nothing that trees have/],
    ] as const) {
      expect(await matganHere('export', model, ...more)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(message),
      });
    }
    expect(readdirSync(folder).filter((name) => /tmp|partial/.test(name))).toEqual([]);
  });

  it('reports on the rows left out, with uncertainties where the settings have them', async () => {
    const [model, report] = [at('u.safetensors'), at('report')];
    const own = 'earlyStopping: { share: 0.3, patience: 20 }\nleaveOut: 0.2\nuncertainty: { leafRows: 10 }\n';
    writeFileSync(at('uncertain.yaml'), own);
    const all = ['--config', at('uncertain.yaml'), '--trees', '40', '--group', 'name', '--report', report];
    const made = await train('--out', model, ...all, '--json');
    expect(made.status).toBe(0);
    const result = JSON.parse(made.stdout);
    expect(readTrees(model).measured).toEqual({
      mae: result.mae,
      rmse: result.rmse,
      r2: result.r2,
      coverage: result.coverage,
    });
    const written = JSON.parse(readFileSync(join(report, 'properties.json'), 'utf8'));
    expect(written).toMatchObject({ target: 'y', rows: 60, within: result.within });
    expect(written.mae).toBeCloseTo(result.mae, 10);
    expect(written.within[0]).toBe(result.coverage);
    expect(written).not.toHaveProperty('byElements');
    expect(readdirSync(report)).toEqual(expect.arrayContaining(['calibration.svg', 'parity.svg', 'importances.csv']));
    expect(readFileSync(join(report, 'parity.svg'), 'utf8').match(/<circle/g)).toHaveLength(60);
    const [head, ...lines] = readFileSync(join(report, 'importances.csv'), 'utf8').trim().split('\n');
    expect(head).toBe('column,permutation,gain,splits');
    const rises = lines.map((line) => Number(line.split(',')[1]));
    expect(rises).toEqual([...rises].sort((a, b) => b - a));
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^a,0\.\d/);

    const plain = at('plain');
    const paper = await train('--out', at('q.safetensors'), '--preset', 'paper', '--trees', '5', '--report', plain);
    expect(paper.stderr).toMatch(/mean absolute error/);
    expect(paper.stderr).not.toMatch(/uncertaint/);
    expect(readdirSync(plain)).not.toContain('calibration.svg');
    expect(JSON.parse(readFileSync(join(plain, 'properties.json'), 'utf8'))).not.toHaveProperty('within');
    writeFileSync(at('few.yaml'), 'earlyStopping: { share: 0.05, patience: 3 }\n');
    const few = await train('--out', at('few.safetensors'), '--trees', '3', '--config', at('few.yaml'));
    expect(few.stderr).toMatch(/too few rows were watched to learn an uncertainty from/);
  });

  it('shows its settings, and takes a file of one’s own', async () => {
    writeFileSync(at('own.yaml'), 'growth: { kind: leaf, leaves: 4 }\nearlyStopping: { share: 0.2, patience: 3 }\n');
    const { stdout } = await train('--config', at('own.yaml'), '--seed', '9', '--print-config');
    expect(JSON.parse(stdout)).toMatchObject({
      seed: 9,
      growth: { kind: 'leaf', leaves: 4 },
      earlyStopping: { patience: 3 },
    });
    const { status, stderr } = await train('--config', at('own.yaml'), '--out', at('o.safetensors'), '--trees', '200');
    expect([status, stderr]).toEqual([0, expect.stringMatching(/mae .*\nmost gain: a .*\nwrote \d+ bytes/s)]);
  });

  it.each<[string, string[], RegExp]>([
    ['no --out', [], /it needs --out FILE\.safetensors/],
    ['another ending', ['--out', at('x.json')], /ends in \.safetensors/],
    ['no such folder', ['--out', at('no/x.safetensors')], /does not exist; create it first/],
    ['no such preset', ['--out', at('x.safetensors'), '--preset', 'bst'], /there is none \(did you mean best\?\)/],
    ['no such column', ['--out', at('x.safetensors'), '--columns', 'a', 'zz'], /has no column "zz"/],
    ['a report on a file', ['--out', at('x.safetensors'), '--report', at('t.csv')], /--report .* it cannot be made/],
    [
      'a report of nothing',
      ['--out', at('x.safetensors'), '--config', at('none.yaml'), '--report', at('r')],
      /--report needs rows to measure on; give leaveOut a share/,
    ],
  ])('%s: one line, 2', async (_, more, message) => {
    const { status, stdout, stderr } = await train(...more);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toMatch(message);
    expect(existsSync(at('x.safetensors'))).toBe(false);
  });
});
