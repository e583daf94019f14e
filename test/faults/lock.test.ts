/** One run folder, one process: locks are raced for by real processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { DataError } from '../../src/errors.ts';
import { lockOwner, takeLock } from '../../src/models/lock.ts';
import { findCheckpoint, makeRunFolder } from '../../src/models/run.ts';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder, tinyDenseGan, trainTiny } from '../models/tiny.ts';
import { lastLine, start, tinyArguments } from './cli.ts';

const locker = fileURLToPath(new URL('./locker.ts', import.meta.url));

/** A process number that nobody has: of one that has ended. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid!;
}

describe('a lock', () => {
  it.each(['free', 'left by a dead process'])(
    '%s: of three processes at once exactly one takes it, and the others name that one',
    { timeout: 120_000 },
    async (how) => {
      const folder = temporaryFolder();
      const count = 300;
      const dead = await deadPid();
      for (let i = 0; i < count; i++) {
        mkdirSync(join(folder, String(i)));
        if (how !== 'free') writeFileSync(join(folder, String(i), 'lock'), i % 2 ? `${dead} 1 x` : String(dead));
      }
      // Late enough for all three to be there on a busy machine.
      const at = String(Date.now() + 6000);
      const children = [0, 1, 2].map(() =>
        spawn(
          process.execPath,
          ['--import', join(packageRoot, 'node_modules/tsx/dist/esm/index.mjs'), locker, folder, String(count), at],
          {
            stdio: ['pipe', 'pipe', 'inherit'],
          },
        ),
      );
      const results = await Promise.all(
        children.map(
          async (child): Promise<(number | string)[]> => JSON.parse(String((await once(child.stdout, 'data'))[0])),
        ),
      );
      const pids = children.map(({ pid }) => pid!);
      let contested = 0;
      for (let i = 0; i < count; i++) {
        const [owner, ...more] = results.map((result) => result[i]).filter((result) => typeof result === 'number');
        expect(pids, `lock ${i}`).toContain(owner);
        expect(more, `lock ${i} was taken twice`).toEqual([]);
        for (const result of results) {
          if (result[i] !== owner) expect(result[i]).toMatch(`${i}: process ${owner} is training in it; wait`);
        }
        if (owner !== pids[0]) contested++;
        expect(lockOwner(join(folder, String(i), 'lock'))).toBe(owner);
        expect(readdirSync(join(folder, String(i)))).toEqual(['lock']);
      }
      expect(contested).toBeGreaterThan(0);
      for (const child of children) child.stdin.end();
      await Promise.all(children.map((child) => once(child, 'exit')));
      // Each gave back what it held as it ended.
      for (let i = 0; i < count; i++) expect(readdirSync(join(folder, String(i)))).toEqual([]);
    },
  );

  it('of a process number that another process has by now is taken over, where the system tells', async () => {
    const sleeper = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']);
    try {
      const file = join(temporaryFolder(), 'lock');
      writeFileSync(file, `${sleeper.pid} 1 earlier`);
      if (existsSync('/proc/self/stat')) {
        takeLock(file)();
        expect(existsSync(file)).toBe(false);
      } else expect(() => takeLock(file)).toThrow(`process ${sleeper.pid} is training`);
    } finally {
      sleeper.kill('SIGKILL');
    }
  });

  it('of this very process is refused too, but not one of an earlier process with its number', () => {
    const file = join(temporaryFolder(), 'lock');
    writeFileSync(file, `${process.pid} 1 earlier`);
    const release = takeLock(file);
    expect(() => takeLock(file)).toThrow(DataError);
    expect(() => takeLock(file)).toThrow(`process ${process.pid} is training in it`);
    release();
    takeLock(file)();
  });

  it('half taken over by processes that died at it is taken over all the same, and all is tidied up', async () => {
    const folder = temporaryFolder();
    const dead = await deadPid();
    for (const name of ['lock', 'lock.takeover', 'lock.takeover.takeover', `lock.tmp-${dead}`]) {
      writeFileSync(join(folder, name), `${dead} 1 ${name}`);
    }
    makeRunFolder(folder);
    const release = takeLock(join(folder, 'lock'));
    expect(readdirSync(folder).sort()).toEqual(['lock']);
    release();
    writeFileSync(join(folder, 'lock.takeover'), `${dead} 1 x`);
    takeLock(join(folder, 'lock'))();
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('a run folder that changed between reading and locking it', () => {
  const config = tinyDenseGan({ steps: 2, criticSteps: 1 });
  it('is refused: a finished run is not begun again, an older checkpoint does not undo a newer one', async () => {
    const folder = temporaryFolder();
    const executor = new ReferenceExecutor();
    await trainTiny(executor, { folder, config, pauseAt: 1 });
    const from = findCheckpoint(folder);
    await trainTiny(executor, { folder, config, from });
    const before = readFileSync(join(folder, 'checkpoint.safetensors'));
    await expect(trainTiny(executor, { folder, config })).rejects.toThrow(
      /not empty; take another --out, or --resume it/,
    );
    await expect(trainTiny(executor, { folder, config, from })).rejects.toThrow(/another process has trained in it/);
    expect(readFileSync(join(folder, 'checkpoint.safetensors'))).toEqual(before);
    expect(existsSync(join(folder, 'lock'))).toBe(false);
  });
});

describeGpu('matgan train, twice at the same moment', () => {
  const begin = [...tinyArguments(1500), '--checkpoint-every', '50', '--log-every', '50'];
  it('into one new folder, then resumed: exactly one trains, the other names it', { timeout: 240_000 }, async () => {
    const out = join(temporaryFolder(), 'run');
    for (const args of [begin, ['--resume', '--steps', '3000']]) {
      const both = [0, 1].map(() => start(['train', 'gan', '--out', out, ...args]));
      const first = await Promise.race(both.map(async (one, i) => ({ i, end: await one.ended })));
      const winner = both[1 - first.i];
      expect(lastLine(first.end)).toMatch(
        new RegExp(`^DataError: .*run: process ${winner.child.pid} is training in it; wait, or take another folder$`),
      );
      expect(first.end.code).toBe(2);
      // Killed: what comes next finds the lock of a dead process.
      await winner.seen(/step \d+/);
      winner.kill('SIGKILL');
      await winner.ended;
      expect(findCheckpoint(out).step % 50).toBe(0);
      expect(existsSync(join(out, 'lock'))).toBe(true);
    }
  });
});
