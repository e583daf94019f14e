import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../../src/paths.ts';
import { Stages } from '../../src/report/stages.ts';
import { describeGpu } from '../gpu.ts';
import { matganHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-evaluate-'));
const file = (name: string): string => join(folder, name);
const run = (...args: string[]) => {
  const bin = join(packageRoot, 'bin/matgan.mjs');
  const result = spawnSync(process.execPath, [bin, 'evaluate', ...args], { encoding: 'utf8', cwd: folder });
  return { ...result, line: result.stderr.trim() };
};
const table = (name: string, formulas: readonly string[], head = 'formula'): void =>
  writeFileSync(file(name), `${[head, ...formulas].join('\n')}\n`);

beforeAll(() => {
  // Ten usable rows, eight different formulas; Na2Cl2 is NaCl. Xx2 and the empty row cannot be used.
  table('generated.csv', [
    'NaCl',
    'Na2Cl2',
    'NaCl',
    'MgO',
    'LiMg',
    'Fe2O3',
    'KBr',
    'LiF',
    'CaTiO3',
    'Na2Fe',
    'Xx2',
    '',
  ]);
  table('train.csv', ['NaCl', 'MgO', 'Al2O3', 'SrTiO3']);
  table('held.csv', ['KBr', 'LiF', 'CsI', 'RbBr']);
  table('other.csv', ['CaTiO3', 'NaCl', 'ZnS']);
  mkdirSync(file('run'));
  writeFileSync(
    file('run/log.jsonl'),
    '{"step":1,"seconds":1,"lossCritic":-1}\n{"step":2,"seconds":2,"lossCritic":-2}\n',
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inputs = ['--generated', 'generated.csv', '--train', 'train.csv'];

describe('matgan evaluate', () => {
  it('counts, and writes JSON and a page', () => {
    const others = ['--leave-out', 'held.csv', '--other', 'A=other.csv', 'B=train.csv'];
    const { status, stdout, stderr } = run(...inputs, ...others, '--run', 'run', '--out', 'new/out', '--json');
    expect(stderr).toContain('rows that could not be used');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({
      generated: 10,
      unique: 8,
      recoveredTraining: 0.5,
      recoveredLeaveOut: 0.5,
      novel: 4,
      confirmed: { A: 1, B: 0 },
      rule: 'paper',
    });
    // NaCl three times, MgO, Fe2O3, KBr, LiF, CaTiO3 and, by the list of 2014, Na2Fe; not LiMg.
    expect(result.chargeNeutral).toBeCloseTo(0.9, 12);
    expect(result.electronegativityBalanced).toBeLessThanOrEqual(result.chargeNeutral);
    expect(Object.keys(result.byElementCount)).toEqual(['2', '3']);
    expect(result.byElementCount['2'].generated.count).toBe(9);
    expect(result.byElementCount['3'].recoveredTraining).toBe(0);
    expect(result.files.generated).toMatchObject({ read: 12, used: 10 });
    expect(Object.values<number>(result.files.generated.unusable).reduce((a, b) => a + b, 0)).toBe(2);

    const names = readdirSync(file('new/out'));
    expect(names.filter((name) => !/\.(svg|png)$/.test(name)).sort()).toEqual(['evaluation.json', 'index.html']);
    for (const name of names.filter((n) => n.endsWith('.svg'))) expect(names).toContain(name.replace('.svg', '.png'));
    expect(names).toContain('uniqueness.png');
    const written = JSON.parse(readFileSync(file('new/out/evaluation.json'), 'utf8'));
    expect(written).toMatchObject(result);
    expect(written.examples.recovered.map((e: { formula: string }) => e.formula).sort()).toEqual(['KBr', 'LiF']);
    const page = readFileSync(file('new/out/index.html'), 'utf8');
    expect(page).toContain('90.0 %');
    expect(page).toContain('Critic: E[f(fake)]');

    const again = run(...inputs, '--out', 'new/out');
    expect(again.status).toBe(2);
    expect(again.line).toMatch(/^DataError: new\/out: it exists and is not empty; take another name, or --force$/);
    expect(JSON.parse(readFileSync(file('new/out/evaluation.json'), 'utf8'))).toEqual(written);
    expect(run(...inputs, '--out', 'new/out', '--force', '--json').status).toBe(0);
    expect(JSON.parse(readFileSync(file('new/out/evaluation.json'), 'utf8')).recoveredLeaveOut).toBe(null);
  });

  it('the same seed gives the same text; people get tables', () => {
    const [a, b] = [run(...inputs, '--seed', '3'), run(...inputs, '--seed', '3')];
    expect(a.status).toBe(0);
    expect(a.stdout).toBe(b.stdout);
    expect(a.stdout).toMatch(/generated .* 10 .* 8 .* 90\.0 %/);
    expect(a.stdout).toContain('6 of 8 different formulas are new (75.0 %)');
  });

  it.each<[string, string[], RegExp]>([
    ['no --train', ['--generated', 'generated.csv'], /it needs --train FILE, or --run FOLDER/],
    ['a missing file', ['--generated', 'none.csv', '--train', 'train.csv'], /^DataError: none\.csv: /],
    ['a folder', ['--generated', 'run', '--train', 'train.csv'], /^DataError: run: /],
    ['an unknown column', [...inputs, '--formula-column', 'colour'], /^DataError: generated\.csv: .*colour.*formula/],
    [
      '--other without a name',
      [...inputs, '--other', 'other.csv'],
      /^ConfigError: --other other\.csv: it takes NAME=FILE/,
    ],
    ['two of one name', [...inputs, '--other', 'A=other.csv', 'A=held.csv'], /two named A/],
    ['a run without a log', [...inputs, '--run', 'new'], /^DataError: .*log\.jsonl: cannot be read/],
    ['--out a file', [...inputs, '--out', 'train.csv'], /^DataError: train\.csv: is a file; name a folder/],
    ['--seed x', [...inputs, '--seed', 'x'], /whole number/],
  ])('%s ends with 2 and one line', (_, args, message) => {
    const { status, stdout, line } = run(...args);
    expect(line).toMatch(message);
    expect(line.split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  });

  it('an empty file and numbers for formulas leave no folder behind', () => {
    table('empty.csv', []);
    table('numbers.csv', ['1', '2.5']);
    for (const name of ['empty.csv', 'numbers.csv']) {
      const { status, line } = run('--generated', name, '--train', 'train.csv', '--out', 'never');
      expect(status).toBe(2);
      expect(line).toMatch(new RegExp(`^DataError: ${name}: `));
    }
    expect(existsSync(file('never'))).toBe(false);
  });
});

describe('matgan evaluate, in this process', () => {
  const here = (...args: string[]) =>
    matganHere(
      'evaluate',
      ...args.map((arg) => (/\.csv$/.test(arg) ? arg.replace(/([\w-]+\.csv)$/, file('$1')) : arg)),
    );

  it('a leave-out file that overlaps training: said in a note, the JSON and the page', async () => {
    table('overlap.csv', ['KBr', 'Na3Cl3', 'MgO']);
    const { status, stdout, stderr } = await here(
      ...inputs,
      '--leave-out',
      'overlap.csv',
      '--out',
      file('overlap'),
      '--json',
    );
    expect(status).toBe(0);
    expect(stderr).toContain('leave-out: 2 of 3 formulas are in training too');
    expect(JSON.parse(stdout)).toMatchObject({ overlap: 2, recoveredLeaveOut: 1 });
    expect(readFileSync(file('overlap/index.html'), 'utf8')).toContain('2 of 3 left-out formulas are in training too');
  });

  it('the paper’s figures, words and the four baselines on the console', async () => {
    const { stdout } = await here(...inputs, '--leave-out', 'held.csv', '--paper', 'mp');
    for (const part of ['beside GAN-MP', '73.4 %', '42,453', 'independent', 'uniform, matched', 'are few']) {
      expect(stdout).toContain(part);
    }
    const wrong = await here(...inputs, '--paper', 'cod');
    expect(wrong).toMatchObject({ status: 2, stderr: expect.stringMatching(/paper.*icsd, mp, oqmd/) });
  });

  it('elements outside the 85: counted; an error where there is nothing else', async () => {
    table('strange.csv', ['HeNe', 'KrF2', 'NaCl', 'ArO']);
    const { stderr, stdout } = await here('--generated', 'strange.csv', '--train', 'train.csv', '--json');
    expect(stderr).toContain('3 of 4: 3 × element outside the 85');
    expect(JSON.parse(stdout)).toMatchObject({ generated: 1, files: { generated: { read: 4, used: 1 } } });
    table('strange.csv', ['HeNe', 'KrF2']);
    const none = await here('--generated', 'strange.csv', '--train', 'train.csv');
    expect(none.status).toBe(2);
    expect(none.stderr).toMatch(/DataError: .*none of the 2 rows .*element outside the 85/);
  });

  it('interrupted: the same command goes on, to the same bytes', async () => {
    const args = [...inputs, '--leave-out', 'held.csv', '--seed', '5'];
    expect((await here(...args, '--out', file('unbroken'))).status).toBe(0);
    const whole = readFileSync(file('unbroken/evaluation.json'), 'utf8');
    const write = Stages.prototype.write;
    let left = 4;
    const spy = vi.spyOn(Stages.prototype, 'write').mockImplementation(function (this: Stages, name, bytes) {
      if (left-- === 0) throw new Error('power cut');
      write.call(this, name, bytes);
    });
    const broken = await here(...args, '--out', file('broken'));
    spy.mockRestore();
    expect(broken.status).toBe(1);
    expect(readdirSync(file('broken'))).toEqual(['.stages']);
    const again = await here(...args, '--out', file('broken'));
    expect(again.stderr).toContain('went on with 4 parts of an interrupted evaluation');
    expect(readFileSync(file('broken/evaluation.json'), 'utf8')).toBe(whole);
    expect(readFileSync(file('broken/index.html'), 'utf8')).toBe(readFileSync(file('unbroken/index.html'), 'utf8'));
    expect(existsSync(file('broken/.stages'))).toBe(false);
    // Other inputs do not take parts of these.
    left = 4;
    const other = vi.spyOn(Stages.prototype, 'write').mockImplementation(function (this: Stages, name, bytes) {
      if (left-- === 0) throw new Error('power cut');
      write.call(this, name, bytes);
    });
    await here(...args, '--out', file('changed'));
    other.mockRestore();
    const changed = await here(...inputs, '--leave-out', 'held.csv', '--seed', '6', '--out', file('changed'));
    expect(changed.stderr).not.toContain('went on');
    expect(JSON.parse(readFileSync(file('changed/evaluation.json'), 'utf8')).seed).toBe(6);
  });

  it('draws the learning curves of several runs', async () => {
    mkdirSync(file('second'));
    writeFileSync(
      file('second/log.jsonl'),
      '{"step":1,"seconds":3,"lossCritic":-4}\n{"step":2,"seconds":6,"lossCritic":-5,"sampleENReweighted":0.5}\n',
    );
    const curves = (...args: string[]) => matganHere('evaluate', 'curves', ...args);
    const out = file('curves');
    expect((await curves(file('run'), file('second'), '--out', out)).status).toBe(0);
    const page = readFileSync(join(out, 'index.html'), 'utf8');
    // The last figures of both; where one has none, a dash.
    for (const cell of ['-2', '-5', '0.5', '–']) expect(page).toContain(`<td class="number">${cell}</td>`);
    const chart = readFileSync(join(out, 'lossCritic.svg'), 'utf8');
    expect(chart).toContain('seconds of training');
    expect(chart.match(/<path/g)).toHaveLength(2);
    expect(readdirSync(out)).toEqual(expect.arrayContaining(['lossCritic.png', 'sampleENReweighted.svg']));
    // One of two runs has a sample: one line, and no empty one in the legend.
    expect(readFileSync(join(out, 'sampleENReweighted.svg'), 'utf8')).not.toContain('>run</text>');
    expect((await curves(file('run'), '--out', out)).stderr).toMatch(/not empty; take another name, or --force/);
    const nine = Array.from({ length: 9 }, () => file('run'));
    expect((await curves(...nine, '--out', file('nine'))).stderr).toMatch(/9 runs; it takes one to 8/);
    writeFileSync(file('second/log.jsonl'), '{"step":1}\n');
    expect((await curves(file('second'), '--out', file('no'))).stderr).toMatch(/no log has a figure that is known/);
    expect(existsSync(file('no'))).toBe(false);
  });

  it('compares evaluations in one page', async () => {
    for (const seed of ['1', '2'])
      await here(...inputs, '--leave-out', 'held.csv', '--seed', seed, '--out', file(`seed${seed}`));
    const out = file('compared.html');
    const compare = (...args: string[]) => matganHere('evaluate', 'compare', ...args);
    expect((await compare(file('seed1'), file('seed2'), '--out', out)).status).toBe(0);
    for (const part of ['seed1', 'seed2', 'Left-out formulas found']) expect(readFileSync(out, 'utf8')).toContain(part);
    expect((await compare(file('seed1'), file('seed2'), '--out', out)).stderr).toMatch(/it exists; take another name/);
    expect((await compare(file('seed1'), '--out', file('one.html'))).stderr).toMatch(
      /1 folders; it takes two to eight/,
    );
    const none = await compare(file('seed1'), file('run'), '--out', file('none.html'));
    expect(none).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^DataError: .*evaluation\.json: cannot be read/),
    });
    expect(existsSync(file('none.html'))).toBe(false);
  });

  it.each<[string, string[], RegExp]>([
    [
      'neither formulas nor a count',
      ['--train', 'train.csv'],
      /it needs --generated FILE, or --run RUN with --count N/,
    ],
    ['both', [...inputs, '--count', '5'], /leave one out/],
    ['a count without a run', ['--count', '5', '--train', 'train.csv'], /name a run or a model with --run/],
    ['a rule for formulas', [...inputs, '--rule', 'paper'], /decoded already/],
    ['no such run', ['--run', 'nowhere', '--count', '5'], /nowhere: there is no such run or model/],
    ['no such run beside formulas', [...inputs, '--run', 'nowhere'], /nowhere: there is no such run or model/],
  ])('%s ends with 2 and one line', async (_, args, message) => {
    const { status, stdout, stderr } = await here(...args);
    expect(stderr.trim()).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  });

  it('a run without a checkpoint, and a model whose data is not here', async () => {
    const { status, stderr } = await here('--run', file('run'), '--count', '5', '--train', 'train.csv');
    expect(stderr).toMatch(/^CheckpointError: .*no checkpoint\.safetensors in it; is it a run folder\?\n$/);
    expect(status).toBe(2);
    const shipped = await here(...['--generated', 'generated.csv'], '--run', 'icsd');
    expect(shipped.stderr).toMatch(
      /DataError: .*icsd\.parquet: the data that icsd was trained on is not here; name --train/,
    );
  });
});

describeGpu('matgan evaluate --run MODEL --count N', () => {
  it('draws, says its rule, reports both, and keeps what was drawn when it is interrupted', async () => {
    const args = ['--run', 'icsd', '--count', '150', '--train', file('train.csv'), '--leave-out', file('held.csv')];
    const run = () => matganHere('evaluate', ...args, '--out', file('drawn'), '--json');
    const write = Stages.prototype.write;
    const spy = vi.spyOn(Stages.prototype, 'write').mockImplementation(function (this: Stages, name, bytes) {
      if (name === 'uniform') throw new Error('power cut');
      write.call(this, name, bytes);
    });
    expect((await run()).status).toBe(1);
    spy.mockRestore();
    expect(readdirSync(file('drawn/.stages')).filter((name) => name.startsWith('drawn-'))).toHaveLength(2);
    const { status, stdout, stderr } = await run();
    expect(status).toBe(0);
    expect(stderr).toContain('went on with');
    const { decoding, decodings, generated } = JSON.parse(stdout);
    expect(decoding).toMatchObject({ rule: 'argmax', requested: 150, decoded: generated });
    expect(decodings).toMatchObject({ own: 'argmax', rows: [{ rule: 'argmax', samples: 150 }, { rule: 'paper' }] });
    expect(decodings.rows[0].decoded).toBe(generated);
    expect(readdirSync(file('drawn'))).toEqual(expect.arrayContaining(['generated.parquet', 'index.html']));
    expect(readFileSync(file('drawn/index.html'), 'utf8')).toContain('Two rules of decoding');
  }, 300_000);
});
