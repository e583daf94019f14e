import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { checkFormula } from '../../src/cli/check.ts';

const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'matgan-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function matgan(args: readonly string[], input?: string) {
  return spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8', input, timeout: 60_000 });
}

describe('matgan check', () => {
  test('--json: a line per formula, errors among them, exit code 2 for those', () => {
    const formulas = ['NaCl', 'Fe3O4', 'Na2Cl2', 'CuAu', 'Ca(OH)2', 'CuSO4·5H2O', 'Xx2', ''];
    const { status, stdout } = matgan(['check', '--json', '--formula', ...formulas]);
    expect(status).toBe(2);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ formula }) => formula)).toEqual(formulas);
    expect(lines[0]).toEqual({
      formula: 'NaCl',
      reduced: 'NaCl',
      chargeNeutral: true,
      electronegativityBalanced: true,
      oxidationStates: { Na: 1, Cl: -1 },
    });
    expect(lines[1]).toMatchObject({ chargeNeutral: false, electronegativityBalanced: false, oxidationStates: null });
    expect(lines[2]).toMatchObject({ reduced: 'NaCl', chargeNeutral: true });
    expect(lines[5]).toMatchObject({ oxidationStates: { Cu: 2, S: 6, O: -2, H: 1 } });
    for (const line of lines.slice(6)) {
      expect(line).toMatchObject({
        reduced: null,
        chargeNeutral: null,
        electronegativityBalanced: null,
        oxidationStates: null,
      });
      expect(typeof line.error).toBe('string');
    }
  });

  test('reads standard input and tables; 0 when all were judged', () => {
    const { status, stdout } = matgan(['check', '-', '--json'], 'NaCl\r\nKBr\n');
    expect(status).toBe(0);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).formula),
    ).toEqual(['NaCl', 'KBr']);
    const path = join(folder, 'table.csv');
    writeFileSync(path, 'id,formula\n1,NaCl\n2,Fe3O4\n');
    const table = matgan(['check', path]);
    expect(table.status).toBe(0);
    expect(table.stdout).toMatch(/NaCl.*yes.*yes.*Na\+1 Cl-1/);
    expect(table.stdout).toMatch(/Fe3O4.*no.*no/);
  });

  test('mistakes end with 2 and one line', () => {
    for (const [args, message] of [
      [['check'], /nothing to judge/],
      [['check', join(folder, 'nowhere')], /no such file/],
      [['check', folder], /is a folder/],
      [['check', '--rule', 'mine', '--formula', 'NaCl'], /rule/],
    ] as const) {
      const { status, stdout, stderr } = matgan(args);
      expect(status).toBe(2);
      expect(stdout).toBe('');
      expect(stderr).toMatch(message);
      expect(stderr.trim().split('\n')).toHaveLength(1);
    }
    expect(matgan(['check', '--help']).stdout).toContain('Exit code');
  });

  test('--no-reduce judges the formula as written', () => {
    expect(checkFormula('Na2Cl2', { reduce: false })).toMatchObject({ reduced: 'NaCl', chargeNeutral: false });
    expect(checkFormula('Na2Cl2', { reduce: true })).toMatchObject({ reduced: 'NaCl', chargeNeutral: true });
  });
});

describe('matgan data', () => {
  test('synth, then prepare: JSON alone on standard output, files whole', () => {
    const out = join(folder, 'default.csv.gz');
    const made = matgan(['data', 'synth', '--count', '500', '--seed', '3', '--out', out, '--json']);
    expect(made.status).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ count: 500, seed: 3, kept: 500 });
    const prepared = join(folder, 'ready.parquet');
    const { status, stdout, stderr } = matgan(['data', 'prepare', out, '--rules', 'icsd', '--out', prepared, '--json']);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ rows: 500, unusable: {}, kept: 500 });
    expect(result.steps.length).toBe(5);
    for (const step of result.steps)
      expect(Object.keys(step)).toEqual(expect.arrayContaining(['rule', 'removed', 'left']));
    expect(JSON.parse(made.stdout).fingerprint).toBe(result.fingerprint);
    expect(existsSync(`${prepared}.provenance.json`)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
    expect(readFileSync(prepared).subarray(0, 4).toString()).toBe('PAR1');
    const table = matgan(['data', 'prepare', out, '--rules', 'mp', '--out', prepared]);
    expect(table.stdout).toMatch(/no Kr or He.*63,922/);
  });

  test.each([
    [['data', 'synth', '--count', '0', '--out', 'x.csv'], /count/],
    [['data', 'synth', '--seed', 'x', '--out', 'x.csv'], /seed/],
    [['data', 'synth', '--out', join(folder, 'no', 'x.csv')], /does not exist/],
    [['data', 'prepare', join(folder, 'no.csv'), '--rules', 'mp', '--out', join(folder, 'x.csv')], /no such file/],
    [['data', 'prepare', bin, '--rules', 'best', '--out', join(folder, 'x.csv')], /choose one of oqmd, mp, icsd/],
    [['data', 'prepare', bin, '--out', join(folder, 'x.csv')], /--rules/],
  ])('%j is refused', (args, message) => {
    const { status, stdout, stderr } = matgan(args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
    expect(existsSync(join(folder, 'x.csv'))).toBe(false);
  });
});
