import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/paths.ts';

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

    const written1 = readdirSync(file('new/out'));
    expect(written1.filter((name) => !/\.(svg|png)$/.test(name)).sort()).toEqual(['evaluation.json', 'index.html']);
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
