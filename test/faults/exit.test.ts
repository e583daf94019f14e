/**
 * Every process ends by itself, soon, and with the right code. Times are from the last output, or from the signal, so
 * that a busy machine counts for little.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { findCheckpoint } from '../../src/models/run.ts';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder, tinyDenseAe } from '../models/tiny.ts';
import { type Ended, lastLine, matgan, type Started, start, tinyArguments } from './cli.ts';

/** Milliseconds that an end may take: two seconds, and where others want the cores too as much more as they take. */
const soon = 2000 * Math.max(1, loadavg()[0] / availableParallelism());
const shown: string[] = [];
function note(what: string, milliseconds: number): void {
  shown.push(`${what}: ${milliseconds.toFixed(0)} ms`);
}

const folder = temporaryFolder();
const gan = tinyArguments(6);
/** Many pipelines; a step of a second or more with few. */
const big = [...gan.slice(0, 2), '--preset', 'icsd', '--batch', '32'];
const slow = [...gan, '--batch', '4096', '--steps', '1000'];
const run = join(folder, 'run');

beforeAll(async () => {
  writeFileSync(join(folder, 'ae.json'), JSON.stringify(tinyDenseAe({ steps: 4 })));
  if (process.env.MATGAN_ADAPTER !== 'none') await matgan('train', 'gan', '--out', run, ...gan);
});

describeGpu('a command that is done', () => {
  const at = (name: string): string => join(folder, name);
  it.each<[string, number, string[]]>([
    ['train gan', 0, ['train', 'gan', '--out', at('gan'), ...gan]],
    [
      'train ae',
      0,
      ['train', 'ae', '--out', at('ae'), ...gan.slice(0, 2), '--preset', 'ae', '--config', at('ae.json')],
    ],
    ['generate', 0, ['generate', run, '--count', '64', '--out', at('new.csv')]],
    ['gradcheck', 0, ['gradcheck', '--op', 'relu', 'dense']],
    ['bench', 0, ['bench', '--quick', '--filter', 'leakyRelu ']],
    ['devices', 0, ['devices', '--no-ceilings']],
    ['check', 0, ['check', '--formula', 'NaCl']],
    ['train with bad data', 2, ['train', 'gan', '--out', at('none'), '--data', at('gone.csv')]],
    ['generate with a bad run', 2, ['generate', at('gone'), '--count', '1', '--out', at('x.csv')]],
    ['check with a bad formula', 2, ['check', '--formula', 'Xx']],
  ])('%s ends with %i', { timeout: 120_000 }, async (name, code, args) => {
    const end = await matgan(...args);
    expect([end.code, end.signal], end.stderr).toEqual([code, null]);
    expect(end.silent).toBeLessThan(soon);
    note(name, end.silent);
  });
});

describeGpu('Ctrl-C', () => {
  const begun = (more: string[] = slow): Started =>
    start(['train', 'gan', '--out', join(temporaryFolder(), 'run'), ...more]);

  it.each(['SIGINT', 'SIGTERM'] as const)('%s at start-up: the process is gone at once', async (signal) => {
    const started = begun();
    setTimeout(() => started.kill(signal), 300);
    const end = await started.ended;
    expect([130, signal]).toContain(end.code ?? end.signal);
    expect(end.signalled).toBeLessThan(soon);
    note(`${signal} at start-up`, end.signalled);
  });

  // Between the two the initial weights are drawn without a pause: a signal waits for that.
  it.each<[NodeJS.Signals, string]>([
    ['SIGINT', 'while pipelines are made'],
    ['SIGINT', 'in the first step'],
    ['SIGTERM', 'in the first step'],
  ])('%s %s: gone, resumable', { timeout: 120_000 }, async (signal, moment) => {
    const out = join(temporaryFolder(), 'run');
    const started = start(['train', 'gan', '--out', out, ...(moment.includes('first step') ? slow : big)]);
    // The lock is there before pipelines are made, config.json just before the first step.
    const sign = join(out, moment.includes('first step') ? 'config.json' : 'lock');
    while (!existsSync(sign)) await new Promise((resolve) => setTimeout(resolve, 20));
    started.kill(signal);
    const end = await started.ended;
    // Which a shell shows as 130 or 143.
    expect([end.code, end.signal], end.stderr).toEqual([null, signal]);
    expect(end.signalled, `${end.silent} ms after "${lastLine(end)}"`).toBeLessThan(soon);
    expect(readdirSync(out)).not.toContain('lock');
    if (moment.includes('first step')) {
      expect(lastLine(end)).toMatch(/^stopped: 0 steps, .* --resume$/);
      expect(findCheckpoint(out).step).toBe(0);
    } else expect(lastLine(end)).toMatch(/^stopped: 0 steps, |^stopped before the first step; nothing was written$/);
    note(`${signal} ${moment}`, end.signalled);
  });

  it('in a slow step: it is finished, and a second Ctrl-C ends at once', { timeout: 120_000 }, async () => {
    const out = join(temporaryFolder(), 'run');
    const started = start(['train', 'gan', '--out', out, ...slow, '--log-every', '1']);
    await started.seen(/step 1\//);
    await new Promise((resolve) => setTimeout(resolve, 100));
    started.child.kill('SIGINT');
    await started.seen(/finishing the step …; once more to end at once/);
    started.kill('SIGINT');
    const end = await started.ended;
    expect([end.code, end.signal]).toEqual([null, 'SIGINT']);
    expect(existsSync(join(out, 'lock'))).toBe(false);
    expect(end.signalled).toBeLessThan(soon);
    expect(findCheckpoint(out).step).toBeLessThan(3);
    note('second Ctrl-C', end.signalled);
  });

  it.each<[string, string[], RegExp]>([
    ['generate', ['generate', run, '--count', '100000000', '--out', join(folder, 'many.csv')], /runs on/],
    ['gradcheck', ['gradcheck', '--all'], /GPU against/],
    ['devices', ['devices'], /Warning|./],
    ['bench', ['bench', '--quick'], /./],
  ])('%s is gone at once', { timeout: 120_000 }, async (name, args, text) => {
    const started = start(args);
    await Promise.race([started.seen(text), new Promise((resolve) => setTimeout(resolve, 5000))]);
    started.kill('SIGINT');
    const end = await started.ended;
    expect([130, 'SIGINT']).toContain(end.code ?? end.signal);
    expect(end.signalled).toBeLessThan(soon);
    note(`Ctrl-C in ${name}`, end.signalled);
  });
});

describe('Ctrl-C in generate, on the reference executor', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('%s: nothing is left of the table', { timeout: 120_000 }, async (signal) => {
    const trained = join(temporaryFolder(), 'run');
    expect(await matgan('train', 'gan', '--out', trained, ...tinyArguments(1), '--device', 'reference')).toMatchObject({
      code: 0,
    });
    const into = temporaryFolder();
    const started = start([
      ...['generate', trained, '--count', '100000000', '--unique', '--judge', '--batch', '8', '--device', 'reference'],
      ...['--out', join(into, 'many.parquet')],
    ]);
    while (readdirSync(into).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(readdirSync(into)).toEqual([expect.stringMatching(/^\.many\.parquet\..*\.partial$/)]);
    started.kill(signal);
    const end = await started.ended;
    expect([end.code, end.signal], end.stderr).toEqual([null, signal]);
    expect(end.signalled).toBeLessThan(soon);
    expect(readdirSync(into)).toEqual([]);
  });
});

describe('a generator that is slow on the reference executor', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    '%s gets through before its first samples',
    { timeout: 180_000 },
    async (signal) => {
      const into = temporaryFolder();
      const started = start([
        ...['generate', 'icsd', '--count', '100000000', '--device', 'reference', '--out', join(into, 'many.csv')],
      ]);
      while (readdirSync(into).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      await new Promise((resolve) => setTimeout(resolve, 300));
      started.kill(signal);
      const end = await started.ended;
      expect([end.code, end.signal], end.stderr).toEqual([null, signal]);
      // One batch is finished: two seconds of a processor that has nothing else to do. Thirteen of 128 took minutes.
      expect(end.signalled).toBeLessThan(45_000);
      expect(readdirSync(into)).toEqual([]);
      note(`${signal} in generate icsd on the reference`, end.signalled);
    },
  );
});

/** A script of a library's user; `rest` is what it does with an executor, a plan and its output. */
function script(rest: string): Promise<Ended> {
  const file = join(temporaryFolder(), 'mine.mts');
  writeFileSync(
    file,
    `import { build, newGraph, openExecutor } from ${JSON.stringify(join(packageRoot, 'src/index.ts'))};
const { executor } = await openExecutor('gpu');
const x = newGraph().variable('x', [1000]);
executor.write(x, new Float32Array(1000).fill(2));
const y = build.mul(x, x);
const plan = await executor.plan({ outputs: [y], updates: [[x, build.scale(y, 0.5)]] });
for (let i = 0; i < 5; i++) plan.run();
console.log((await plan.read(y))[0]);
${rest}
console.log('end');
`,
  );
  const tsx = join(packageRoot, 'node_modules/tsx/dist/esm/index.mjs');
  return start([file], [process.execPath, '--import', tsx]).ended;
}

describeGpu("a library user's script", () => {
  it.each([
    ['that destroys the executor', 'executor.destroy();'],
    ['that destroys plan and executor', 'plan.destroy(); executor.destroy();'],
    ['that destroys nothing', ''],
    ['that leaves work under way', 'for (let i = 0; i < 100; i++) plan.run();'],
    [
      'whose device was lost',
      'executor.device.gpu.destroy(); await executor.idle().catch((e) => console.log(e.name));',
    ],
  ])('%s ends by itself with 0', { timeout: 60_000 }, async (what, rest) => {
    const end = await script(rest);
    expect([end.code, end.signal], end.stderr).toEqual([0, null]);
    expect(end.stdout).toMatch(/^4\n(DeviceError\n)?end\n$/);
    expect(end.silent).toBeLessThan(soon);
    note(`script ${what}`, end.silent);
  });

  it('that fails ends by itself with 1', { timeout: 60_000 }, async () => {
    const end = await script("if (executor.kind === 'gpu') throw new Error('mine');");
    expect([end.code, end.signal]).toEqual([1, null]);
    expect(end.silent).toBeLessThan(soon);
  });

  it('that only waits uses less than a tenth of a core', { timeout: 60_000 }, async () => {
    const end = await script(`const before = process.cpuUsage();
await new Promise((resolve) => setTimeout(resolve, 3000));
const { user, system } = process.cpuUsage(before);
console.log('idle', (user + system) / 3e6);`);
    const share = Number(/idle (\S+)/.exec(end.stdout)?.[1]);
    expect(share).toBeLessThan(0.1);
    shown.push(`idle: ${(100 * share).toFixed(2)} % of a core`);
  });
});

describe('measured here', () => {
  it('is printed', () => {
    process.stderr.write(`${shown.join('\n')}\n`);
  });
});
