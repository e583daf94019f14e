/** Disks that are full: one line that says so, exit code 2, the last good files untouched, and going on once there is space. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GpuExecutor } from '../../src/autograd/executor.ts';
import { DataError } from '../../src/errors.ts';
import { findCheckpoint, type RunOptions } from '../../src/models/run.ts';
import { describeGpu } from '../gpu.ts';
import { bitsOf, logOf, openGpu, temporaryFolder, tinyDenseGan, trainTiny } from '../models/tiny.ts';
import { bits, type Ended, lastLine, matgan, start, tinyArguments } from './cli.ts';

// A real file system of 1 MB, where this process may mount one.
const disk = temporaryFolder();
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk]).status === 0;
const withDisk = mounted
  ? describeGpu
  : (name: string, body: () => void) => describe.skip(`${name} (no right to mount)`, body);
afterAll(() => {
  if (mounted) spawnSync('umount', [disk]);
});

const filler = join(disk, 'filler');
const page = 4096;
/** Fills the disk but for so many bytes. */
function fill(leave: number): void {
  rmSync(filler, { force: true });
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(filler, Buffer.alloc(Number(bavail) * Number(bsize) - leave));
}
const free = (): void => rmSync(filler, { force: true });

const files = ['checkpoint.safetensors', 'config.json', 'log.jsonl'];

withDisk('a full disk', () => {
  const config = tinyDenseGan({ steps: 60 });
  const whole = temporaryFolder();
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = await openGpu();
    await trainTiny(gpu, { folder: whole, config, logEvery: 1 });
  }, 240_000);
  afterAll(() => gpu.destroy());

  const go = (folder: string, options: Partial<RunOptions>): Promise<unknown> =>
    trainTiny(gpu, { folder, config, logEvery: 1, checkpointEvery: 1000, ...options });

  /** A run that stopped at step 10, on the disk. */
  async function begun(name: string): Promise<string> {
    const folder = join(disk, name);
    mkdirSync(folder);
    await go(folder, { pauseAt: 10 });
    return folder;
  }

  /** Goes on with free space, and is then as if nothing had been. */
  async function recovered(folder: string): Promise<void> {
    expect(findCheckpoint(folder).step).toBe(10);
    expect(readdirSync(folder).sort()).toEqual(files);
    // Every line of the log is whole.
    expect(logOf(folder)).toEqual(logOf(whole).slice(0, logOf(folder).length));
    free();
    await go(folder, { from: findCheckpoint(folder) });
    expect(bitsOf(folder)).toEqual(bitsOf(whole));
    expect(logOf(folder)).toEqual(logOf(whole));
    rmSync(folder, { recursive: true });
  }

  it.each<[string, number, Partial<RunOptions>, RegExp]>([
    ['the checkpoint', 16 * page, { checkpointEvery: 7 }, /checkpoint\.safetensors: cannot be written \(no space left/],
    ['the log', page, {}, /log\.jsonl: cannot be written \(no space left on the disk\)/],
    ['config.json', page, { config: { ...config, steps: 61 } }, /config\.json: cannot be written \(no space left/],
    ['the lock', 0, {}, /run: it can't be written \(no space left on the disk\)/],
  ])('while %s is written', { timeout: 240_000 }, async (_, leave, options, message) => {
    const folder = await begun('run');
    fill(leave);
    const run = go(folder, { from: findCheckpoint(folder), ...options });
    await expect(run).rejects.toThrow(DataError);
    await expect(run).rejects.toThrow(message);
    await recovered(folder);
  });

  it('at the start: known before the first step, and nothing is left in the way', async () => {
    const folder = join(disk, 'new');
    mkdirSync(folder);
    fill(2 * page);
    await expect(go(folder, {})).rejects.toThrow(/checkpoint\.safetensors: cannot be written \(no space left/);
    expect(readdirSync(folder)).toEqual([]);
    free();
    await go(folder, {});
    expect(bitsOf(folder)).toEqual(bitsOf(whole));
    rmSync(folder, { recursive: true });
  });

  it('the commands say it in one line, end with 2, and leave no file', { timeout: 240_000 }, async () => {
    const data = tinyArguments(4);
    const run = join(temporaryFolder(), 'run');
    expect(await matgan('train', 'gan', '--out', run, ...data)).toMatchObject({ code: 0 });
    const before = readdirSync(disk);
    fill(0);
    const ends: Ended[] = [];
    ends.push(await matgan('train', 'gan', '--out', join(disk, 'run'), ...data));
    expect(lastLine(ends[0])).toMatch(/^DataError: .*run: it can't be written \(no space left on the disk\)$/);
    rmSync(join(disk, 'run'), { recursive: true });
    for (const ending of ['csv', 'parquet', 'jsonl.gz']) {
      const out = join(disk, `new.${ending}`);
      ends.push(await matgan('generate', run, '--count', '64', '--rule', 'paper', '--out', out));
      expect(lastLine(ends.at(-1)!)).toMatch(/^DataError: .*new\..*: cannot be written \(.*[nN]o space left/);
    }
    ends.push(await matgan('data', 'prepare', data[1], '--rules', 'icsd', '--out', join(disk, 'rows.parquet')));
    expect(lastLine(ends.at(-1)!)).toMatch(/^DataError: .*rows\.parquet: cannot be written \(.*[nN]o space left/);
    expect(ends.map(({ code }) => code)).toEqual(ends.map(() => 2));
    free();
    expect(readdirSync(disk)).toEqual(before.filter((name) => name !== 'filler'));
  });
});

// On the reference executor: a software adapter keeps its memory in files that have no name, and the limit is on those too.
describe('a limit on the size of files', () => {
  /** The command line with no file over so many kB. */
  const limited = (kilobytes: number, ...args: string[]): Promise<Ended> =>
    start(['-c', `ulimit -f ${kilobytes}; exec "$@"`, 'bash', process.execPath, 'bin/matgan.mjs', ...args], ['bash'])
      .ended;

  it('while a checkpoint or a table is written: 2, one line, the last good one untouched', {
    timeout: 240_000,
  }, async () => {
    const data = tinyArguments(8);
    const [whole, out] = [join(temporaryFolder(), 'whole'), join(temporaryFolder(), 'run')];
    const often = ['--checkpoint-every', '3', '--log-every', '2', '--device', 'reference'];
    expect(await matgan('train', 'gan', '--out', whole, ...data, ...often)).toMatchObject({ code: 0 });

    const first = await limited(64, 'train', 'gan', '--out', out, ...data, ...often);
    const message =
      /^DataError: .*checkpoint\.safetensors: cannot be written \(the file would be larger than the system/;
    expect(lastLine(first)).toMatch(message);
    expect(first.code).toBe(2);
    expect(readdirSync(out)).toEqual([]);
    await matgan('train', 'gan', '--out', out, ...data, ...often, '--pause-at', '4');
    const good = readFileSync(join(out, 'checkpoint.safetensors'));
    const second = await limited(64, 'train', 'gan', '--out', out, '--resume', ...often);
    expect(lastLine(second)).toMatch(message);
    expect(second.code).toBe(2);
    expect(readFileSync(join(out, 'checkpoint.safetensors'))).toEqual(good);
    expect(readdirSync(out).sort()).toEqual(files);
    await matgan('train', 'gan', '--out', out, '--resume', ...often);
    expect(bits(out)).toEqual(bits(whole));
    expect(logOf(out)).toEqual(logOf(whole));

    const table = join(temporaryFolder(), 'new.csv');
    const third = await limited(0, 'generate', whole, '--count', '64', '--out', table, '--device', 'reference');
    expect(lastLine(third)).toMatch(/^DataError: .*new\.csv: cannot be written/);
    expect(third.code).toBe(2);
    expect(readdirSync(join(table, '..'))).toEqual([]);
  });
});
