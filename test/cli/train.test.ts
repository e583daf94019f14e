/** `matgan train` and `matgan generate` as a user meets them: what they leave, what they say, how they end. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matganElements } from '../../src/chem/elements.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { describeGpu } from '../gpu.ts';
import { tinyGan } from '../models/tiny.ts';

const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'matgan-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

function matgan(...args: string[]) {
  return spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8', timeout: 60_000 });
}
const data = at('data.csv');
const config = at('config.json');
const run = at('run');
const tiny = ['--data', data, '--preset', 'icsd', '--config', config];

beforeAll(() => {
  const names = matganElements;
  // 100 of A B, 100 of A B2, none twice.
  const formulas = Array.from({ length: 200 }, (_, i) => `${names[i % 50]}${names[50 + (i % 30)]}${i % 2 ? '2' : ''}`);
  const rows = [...new Set(formulas.map((formula, i) => (i % 3 === 0 ? `${formula}O` : formula)))];
  writeFileSync(data, `name,formula\n${rows.map((formula, i) => `row ${i},${formula}`).join('\n')}\n`);
  writeFileSync(config, JSON.stringify({ ...tinyGan({ averaging: 0 }), steps: 4 }));
});

describeGpu('matgan train gan, then generate', () => {
  it('--steps 4: a run folder with settings, log and checkpoint; JSON alone on standard output', () => {
    const { status, stdout, stderr } = matgan(
      ...['train', 'gan', ...tiny, '--steps', '4', '--out', run, '--log-every', '2', '--sample-size', '9', '--json'],
    );
    expect(stderr).toMatch(/training on \d+ formulas, \d+ left out\n/);
    expect(stderr).toMatch(/\ndone: 4 steps, [\d.]+ steps\/s/);
    expect(status).toBe(0);
    expect(readdirSync(run).sort()).toEqual(['best.safetensors', 'checkpoint.safetensors', 'config.json', 'log.jsonl']);
    expect(JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'))).toMatchObject({
      model: 'gan',
      steps: 4,
      batch: 4,
    });
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ step }) => step)).toEqual([2, 4]);
    expect(Object.keys(lines[0]).sort()).toEqual(['gradientPenalty', 'lossCritic', 'lossGenerator', 'seconds', 'step']);
    // The last step is sampled whatever the beat.
    expect(lines[1]).toMatchObject({ sampleDecoded: expect.any(Number), sampleValidUniqueNew: expect.any(Number) });
    expect(stderr).toMatch(/\nbest by "balanced": step 4, -?[\d.]+; .*best\.safetensors\n/);
    expect(readFileSync(join(run, 'log.jsonl'), 'utf8')).toBe(stdout);
  });

  it('generate writes a table of formulas, and counts', () => {
    const file = at('new.csv');
    const args = ['generate', run, '--count', '50', '--out', file, '--rule', 'argmax', '--seed', '3'];
    const { status, stdout } = matgan(...args, '--json');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ requested: 50, rule: 'argmax', step: 4 });
    expect(result.decoded).toBeLessThanOrEqual(50);
    expect(result.unique).toBeLessThanOrEqual(result.decoded);
    const [header, ...rows] = readFileSync(file, 'utf8').trim().split('\n');
    expect(header).toMatch(/formula/);
    expect(rows.filter((row) => row !== '')).toHaveLength(result.written);
    for (const row of rows) if (row !== '') expect(() => parseFormula(row.split(',')[0])).not.toThrow();
    const best = matgan('generate', run, '--best', '--count', '5', '--out', at('best.csv'), '--json');
    expect(JSON.parse(best.stdout)).toMatchObject({ requested: 5, step: 4 });
    // An existing file is not written over.
    const again = matgan(...args);
    expect(again.status).toBe(2);
    expect(again.stderr).toMatch(/^DataError: .*new\.csv: it exists; take another name, or --force\n$/);
    const forced = matgan(...args, '--force', '--json');
    expect(forced.status).toBe(0);
    expect(JSON.parse(forced.stdout)).toMatchObject({ decoded: result.decoded, unique: result.unique });
  });

  it('--resume goes on where --steps grew; data and settings cannot change', () => {
    const { status, stderr } = matgan('train', 'gan', '--out', run, '--resume', '--steps', '6');
    expect(stderr).toMatch(/resuming at step 4/);
    expect(stderr).toMatch(/done: 6 steps/);
    expect(status).toBe(0);
    const seed = matgan('train', 'gan', '--out', run, '--resume', '--seed', '9');
    expect([seed.status, seed.stderr]).toEqual([
      2,
      "ConfigError: --seed can't change in a resumed run; only --steps may grow\n",
    ]);
    const model = matgan('train', 'ae', '--out', run, '--resume');
    expect(model.status).toBe(2);
    expect(model.stderr).toMatch(/it holds a model of kind gan; use "train gan"\n$/);
    const other = at('other.csv');
    writeFileSync(other, 'formula\nNaCl\nKBr\nCaO\nMgS\n');
    const changed = matgan('train', 'gan', '--out', run, '--resume', '--data', other, '--steps', '8');
    expect(changed.status).toBe(2);
    expect(changed.stderr).toMatch(/other\.csv: not the rows that this run was trained on/);
    expect(existsSync(join(run, 'lock'))).toBe(false);
  });

  it('Ctrl-C: the step is finished, the checkpoint written, how to go on is said, 130; and going on works', async () => {
    const out = at('interrupted run');
    const child = spawn(
      process.execPath,
      [
        bin,
        'train',
        'gan',
        ...tiny,
        '--steps',
        '100000',
        '--out',
        out,
        '--log-every',
        '1',
        '--checkpoint-every',
        '1',
        '--json',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    let lines = '';
    const seen = new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk) => {
        lines += chunk;
        if (lines.split('\n').length > 3) resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    await Promise.race([seen, ended]);
    // A second process is kept out while this one trains.
    const second = matgan('train', 'gan', '--out', out, '--resume', '--steps', '100000');
    expect(second.stderr).toMatch(new RegExp(`DataError: .*: process ${child.pid} is training in it; wait`));
    expect(second.status).toBe(2);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(stderr).toMatch(/finishing the step/);
    expect(stderr).toMatch(
      /stopped: \d+ steps, .*; go on with: matgan train gan --out '.*interrupted run' --resume\n$/,
    );
    expect(readdirSync(out).sort()).toEqual(['checkpoint.safetensors', 'config.json', 'log.jsonl']);
    const last = JSON.parse(lines.trim().split('\n').at(-1)!).step;
    expect(stderr).toContain(`stopped: ${last} steps`);
    const resumed = matgan('train', 'gan', '--out', out, '--resume', '--steps', String(last + 2));
    expect(resumed.stderr).toContain(`resuming at step ${last}\n`);
    expect(resumed.stderr).toMatch(/done: \d+ steps/);
    expect(resumed.status).toBe(0);
  });
});

describe('what a user gets wrong ends with 2 and one line, and leaves nothing', () => {
  const out = at('never');
  it.each<[string, string[], RegExp]>([
    ['--steps 0', ['train', 'gan', '--steps', '0', '--out', out], /--steps.*whole number of at least 1/],
    ['--steps many', ['train', 'gan', '--steps', 'many', '--out', out], /--steps.*whole number/],
    ['--seed x', ['train', 'ae', '--seed', 'x', '--out', out], /--seed.*whole number of at least 0/],
    ['--batch 1e3', ['train', 'ae', '--batch', '1e3', '--out', out], /--batch.*whole number/],
    [
      'an unknown criterion',
      ['train', 'gan', '--best', 'exact', '--out', out],
      /--best.*balanced, new, recovery, none/,
    ],
    ['--patience 0', ['train', 'ae', '--patience', '0', '--out', out], /--patience.*whole number of at least 1/],
    [
      '--patience without a criterion',
      ['train', 'gan', '--data', data, '--patience', '2', '--best', 'none', '--out', out],
      /^ConfigError: --patience: it needs a criterion/,
    ],
    [
      '--patience without samples',
      ['train', 'gan', '--data', data, '--patience', '2', '--sample-every', '0', '--out', out],
      /^ConfigError: --patience: it counts samples/,
    ],
    ['--sample-every of an autoencoder', ['train', 'ae', '--sample-every', '5', '--out', out], /unknown option/],
    ['--best of a file', ['generate', data, '--best', '--count', '1', '--out', at('x.csv')], /it is no run folder/],
    ['--epochs beside --steps', ['train', 'ae', '--epochs', '1', '--steps', '1', '--out', out], /cannot be used with/],
    ['missing data', ['train', 'gan', '--data', at('gone.csv'), '--out', out], /^DataError: .*gone\.csv/],
    ['a directory', ['train', 'gan', '--data', folder, '--out', out], /^DataError: .*(director|folder)/],
    [
      'a wrong column',
      ['train', 'gan', '--data', data, '--formula-column', 'formla', '--out', out],
      /^DataError: .*formla.*name.*formula/,
    ],
    [
      'an existing output folder',
      ['train', 'gan', '--data', data, '--out', folder],
      /it is there already and not empty/,
    ],
    ['a file for a folder', ['train', 'gan', '--data', data, '--out', data], /data\.csv: it is a file/],
    ['no --out', ['train', 'gan', '--data', data], /needs --out FOLDER/],
    ['an unknown preset', ['train', 'gan', '--preset', 'icdd', '--out', out], /did you mean icsd\?/],
    ['--resume of nothing', ['train', 'gan', '--out', out, '--resume'], /^CheckpointError: .*there is no such run/],
    ['--resume of no run', ['train', 'gan', '--out', folder, '--resume'], /no checkpoint\.safetensors in it/],
    ['--count -1', ['generate', run, '--count', '-1', '--out', at('x.csv')], /--count.*whole number from 1/],
    ['generate from nothing', ['generate', at('gone'), '--count', '1', '--out', at('x.csv')], /there is no such run/],
    ['generate from data', ['generate', data, '--count', '1', '--out', at('x.csv')], /^CheckpointError: .*data\.csv/],
    ['generate to nowhere', ['generate', run, '--count', '1', '--out', at('no/x.csv')], /^DataError: .*no/],
  ])('%s', (_, args, message) => {
    mkdirSync(folder, { recursive: true });
    const before = readdirSync(folder).sort();
    const { status, stdout, stderr } = matgan(...args);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(status).toBe(2);
    expect(readdirSync(folder).sort()).toEqual(before);
  });
});
