/** What the command line does with its arguments and with errors, in this process. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { integer, real, standardOptions } from '../../src/cli/common.ts';
import { commands } from '../../src/cli/main.ts';
import { trainingProgress } from '../../src/cli/train.ts';
import { matganHere, onTerminal } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-main-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());
const at = (name: string): string => join(folder, name);
const save = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};

/** `matgan check` replaced by something that fails. */
function failing(error: unknown): void {
  const entry = commands.find(({ name }) => name === 'check')!;
  const command = (): Command =>
    standardOptions(new Command('check'), 'matgan check').action(() => {
      throw error;
    });
  vi.spyOn(entry, 'load').mockResolvedValue(command);
}

describe('errors that nobody foresaw', () => {
  it('are our fault: one line, 1, and how to see more', async () => {
    failing(new TypeError('first line\n  second line'));
    expect(await matganHere('check')).toEqual({
      status: 1,
      stdout: '',
      stderr: 'TypeError: first line second line (this is a fault in matgan, --debug shows where)\n',
    });
  });

  it('a stack with --debug', async () => {
    failing(new TypeError('bad'));
    const { status, stderr } = await matganHere('check', '--debug');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^TypeError: bad\n\s+at .*main\.test\.ts/);
    expect(stderr).not.toContain('fault in matgan');
  });

  it.each([[[]], [['--debug']]])('something thrown that is no Error: %j', async (args) => {
    failing('a text');
    const { status, stderr } = await matganHere('check', ...args);
    expect(status).toBe(1);
    expect(stderr).toBe('a text (this is a fault in matgan, --debug shows where)\n');
  });
});

describe('help', () => {
  it('matgan help COMMAND is that command’s help', async () => {
    const { status, stdout } = await matganHere('help', 'check');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Usage: matgan check/);
    expect(stdout).toContain('--no-reduce');
  });
});

describe('numbers on the command line', () => {
  it.each(['5', '+5', ' 5', '10'])('a whole number from 5 to 10: %j', (text) => {
    expect(integer(5, 10)(text)).toBe(Number(text));
  });
  it.each(['4', '11', '5.5', '', 'x', '5e0', '0x6', '9007199254740993'])('none: %j', (text) => {
    expect(() => integer(5, 10)(text)).toThrow('It takes a whole number from 5 to 10.');
  });
  it('without an upper end', () => {
    expect(integer(0)('9007199254740991')).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => integer(0)('9007199254740993')).toThrow('It takes a whole number of at least 0.');
    expect(() => integer(0)('-1')).toThrow('It takes a whole number of at least 0.');
  });
  it.each(['-1', '1', '0.25', '2.5e-1'])('a number from -1 to 1: %j', (text) => {
    expect(real(-1, 1)(text)).toBe(Number(text));
  });
  it.each(['-1.001', '1.001', '', ' ', 'x', 'NaN', 'Infinity', '-Infinity'])('none: %j', (text) => {
    expect(() => real(-1, 1)(text)).toThrow('It takes a number from -1 to 1.');
  });
});

describe('matgan check', () => {
  it('for people: long formulas are cut, control characters harmless, errors fill the row', async () => {
    const long = `${'NaCl'.repeat(12)}O`;
    const { status, stdout } = await matganHere('check', '--formula', long, 'Na\u001b[31mCl', 'Fe3O4');
    expect(status).toBe(2);
    expect(stdout).toContain(`${long.slice(0, 37)}...`);
    expect(stdout).not.toContain(long.slice(0, 38));
    expect(stdout).toContain('Na?[31mCl');
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toMatch(/Fe3O4 .* no .* no /);
    expect(stdout).toMatch(/character 3: .* does not belong in a formula/);
  });

  it('a formula of 40 characters is shown whole', async () => {
    const formula = 'NaCl'.repeat(10);
    expect((await matganHere('check', '--formula', formula)).stdout).toContain(` ${formula} `);
  });

  it('a long table comes in groups of 500, each with its head; exit code 0', async () => {
    const file = save('many.csv', `formula\n${'NaCl\n'.repeat(501)}`);
    const { status, stdout } = await matganHere('check', file);
    expect(status).toBe(0);
    expect(stdout.match(/oxidation states/g)).toHaveLength(2);
    expect(stdout.match(/Na\+1 Cl-1/g)).toHaveLength(501);
  });

  it('rows without a formula and lines that are no rows are told, in both forms; the same on a terminal', async () => {
    const file = save('odd.csv', 'formula,e\nNaCl,1\n,2\nKBr,1,2\n');
    const json = await matganHere('check', file, '--json');
    expect(json.status).toBe(2);
    const lines = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ formula }) => formula)).toEqual(['NaCl', '', 'KBr,1,2']);
    expect(lines[1].error).toContain('the formula is empty');
    expect(lines[2]).toEqual({
      formula: 'KBr,1,2',
      reduced: null,
      chargeNeutral: null,
      electronegativityBalanced: null,
      oxidationStates: null,
      error: `line 4 of ${file} is no row of the table`,
    });
    const table = await matganHere('check', file);
    expect(table.status).toBe(2);
    expect(table.stdout).toContain('is no row of the table');
    const terminal = await onTerminal('stdout', () => matganHere('check', file));
    expect(terminal.stdout).toBe(table.stdout);
  });
});

describe('matgan data', () => {
  it('for people: counts with thousands separated, the paper’s beside them, and where rejected rows are', async () => {
    const out = at('synth.csv');
    const made = await matganHere('data', 'synth', '--count', '12000', '--out', out);
    expect(made.status).toBe(0);
    expect(made.stdout).toMatch(/elements .* formulas/);
    expect(made.stderr).toBe(`wrote 12000 formulas to ${out}\n`);
    writeFileSync(out, 'Xx2,2\n', { flag: 'a' });
    const prepared = at('prepared.csv');
    const { status, stdout, stderr } = await matganHere(
      ...['data', 'prepare', out, '--rules', 'icsd-filter', '--out', prepared],
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/rows of the file .* 12,001 .* 28,137/);
    expect(stdout).toMatch(/unusable: unknown element .* 1 /);
    expect(stderr).toBe(`rows that could not be used: ${prepared}.rejected.csv\nwrote 12000 formulas to ${prepared}\n`);
    expect(readFileSync(`${prepared}.rejected.csv`, 'utf8')).toMatch(/^row,text,reason\n12001,Xx2,/);
  });
});

describe('progress of training', () => {
  const line = { step: 20, seconds: 1, loss: 0.123456, other: 1234.5 };

  it('off a terminal: the log’s lines with four digits', () => {
    let text = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((part) => {
      text += part;
      return true;
    });
    const progress = trainingProgress(10, 30, 4);
    progress.step(11);
    progress.losses(line);
    progress.stop();
    expect(text).toMatch(/^step 20\/30 loss 0\.1235 other 1235 \d+ samples\/s\n$/);
  });

  it('on a terminal: a bar that shows the last losses', async () => {
    let text = '';
    await onTerminal('stderr', () => {
      vi.spyOn(process.stderr, 'write').mockImplementation((part) => {
        text += part;
        return true;
      });
      // The bar moves the cursor, which a stream that is no terminal cannot.
      for (const name of ['cursorTo', 'clearLine', 'moveCursor'] as const) process.stderr[name] ??= () => true;
      const progress = trainingProgress(0, 30, 4);
      progress.losses(line);
      progress.step(30);
      progress.stop();
    });
    expect(text).toMatch(/30\/30 \| loss 0\.1235 other 1235 \| \d+ samples\/s/);
  });
});
