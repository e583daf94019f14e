/** Samples during training: what they say, that they change nothing, the best checkpoint, and when patience ends. */
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Executor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { packFormula } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { evaluateFormulas } from '../../src/chem/metrics.ts';
import { SampleJudge } from '../../src/chem/samples.ts';
import { CheckpointError } from '../../src/errors.ts';
import { Best, criteria, criteriaFor } from '../../src/models/best.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
import { bestName, checkpointName, findCheckpoint, logName, type RunOptions } from '../../src/models/run.ts';
import { sample } from '../../src/models/sampler.ts';
import { describeGpu } from '../gpu.ts';
import {
  bitsOf,
  logOf,
  openGpu,
  temporaryFolder,
  tinyData,
  tinyDenseAe,
  tinyDenseGan,
  tinyGan,
  trainTiny,
} from './tiny.ts';

const naCl = packFormula(parseFormula('NaCl'));
const executor = new ReferenceExecutor();
const config = tinyDenseGan({ steps: 24, criticSteps: 1, decoding: 'paper' });
const sampled = { config, sampleEvery: 4, sampleSize: 40, logEvery: 3, checkpointEvery: 5, best: 'balanced' } as const;
const go = (folder: string, more: Partial<RunOptions> = {}, on: Executor = executor) =>
  trainTiny(on, { folder, ...sampled, ...more });
const resume = (folder: string, more: Partial<RunOptions> = {}, on: Executor = executor) =>
  go(folder, { from: findCheckpoint(folder), ...more }, on);
const samplesOf = (folder: string) => logOf(folder).filter((line) => 'sampleDecoded' in line);
const bestOf = (folder: string) => readCheckpoint(join(folder, bestName));

describe('a sample', () => {
  it('is what generating draws from that state, judged as evaluation does', async () => {
    const folder = temporaryFolder();
    const data = tinyData();
    await go(folder, { data, sampleSize: 300 });
    const last = samplesOf(folder).at(-1)!;
    expect(last.step).toBe(24);
    const drawn = await sample(executor, findCheckpoint(folder), { count: 300, seed: config.seed, reduce: true });
    expect(last.sampleDecoded).toBe(drawn.rows / 300);
    expect(drawn.rows).toBeGreaterThan(5);
    const result = evaluateFormulas({ generated: drawn, training: data.train, leaveOut: data.leaveOut, seed: 1 });
    expect(last).toMatchObject({
      sampleCN: result.chargeNeutral,
      sampleEN: result.electronegativityBalanced,
      sampleUnique: result.uniqueness,
      sampleSizesTV: result.totalVariation.elementCount,
      sampleElementsTV: result.totalVariation.elements,
      sampleRecovery: result.recoveredLeaveOut,
    });
    expect(last.sampleCNReweighted).toBeCloseTo(result.reweighted.chargeNeutral!, 12);
    expect(last.sampleENReweighted).toBeCloseTo(result.reweighted.electronegativityBalanced!, 12);
  });

  it('counts only what is valid, different and new; nothing decoded is as far off as can be', () => {
    const { train, leaveOut } = tinyData(200);
    const judge = new SampleJudge({ training: train, leaveOut }, 300, 3);
    const nothing = judge.judge({ packed: new Uint32Array(0), rows: 0 });
    expect(nothing).toEqual({
      sampleDecoded: 0,
      sampleValidUniqueNew: 0,
      sampleSizesTV: 1,
      sampleElementsTV: 1,
      sampleRecovery: 0,
      ...(judge.baseline > 0 && { sampleRecoveryRatio: 0 }),
    });
    // Training itself: nothing new, no distance.
    expect(judge.judge(train)).toMatchObject({
      sampleDecoded: 200 / 300,
      sampleValidUniqueNew: 0,
      sampleSizesTV: 0,
      sampleElementsTV: 0,
    });
    expect(judge.judge(leaveOut)).toMatchObject({ sampleValidUniqueNew: 0, sampleRecovery: 1 });
    // One good formula a hundred times over: Na Cl, in words of packed rows.
    const words = new Uint32Array(400);
    for (let row = 0; row < 100; row++) words.set(naCl, 4 * row);
    expect(judge.judge({ packed: words, rows: 100 })).toMatchObject({
      sampleCN: 1,
      sampleEN: 1,
      sampleUnique: 0.01,
      sampleValidUniqueNew: 1 / 300,
    });
  });

  it('no criterion takes a collapsed generator for a better one', () => {
    const collapsed = { sampleDecoded: 1, sampleCN: 1, sampleEN: 1, sampleCNReweighted: 1, sampleENReweighted: 1 };
    const line = {
      ...collapsed,
      sampleUnique: 0.001,
      sampleValidUniqueNew: 0.001,
      sampleSizesTV: 0.8,
      sampleElementsTV: 0.97,
    };
    const fair = { sampleDecoded: 0.9, sampleValidUniqueNew: 0.4, sampleSizesTV: 0.3, sampleElementsTV: 0.1 };
    for (const name of criteriaFor('gan')) {
      const value = (figures: object, ratio: number): number =>
        criteria[name].value({ ...figures, sampleRecoveryRatio: ratio } as Record<string, number>);
      expect(value(line, 0.01), name).toBeLessThan(value(fair, 1));
    }
  });
});

describe('the best checkpoint', () => {
  it('is the state of the best sample, to the bit, and --resume keeps it', async () => {
    const [whole, parted] = [temporaryFolder(), temporaryFolder()];
    const result = await go(whole);
    const values = samplesOf(whole).map((line) => criteria.balanced.value(line));
    const at = values.indexOf(Math.max(...values));
    expect(result.best).toEqual({ value: values[at], step: samplesOf(whole)[at].step });
    expect(bestOf(whole).step).toBe(result.best!.step);
    // Between two beats: what an interruption leaves out of turn must not stay.
    for (const pauseAt of [7, 13]) {
      if (pauseAt === 7) await go(parted, { pauseAt });
      else await resume(parted, { pauseAt });
      expect(logOf(parted).at(-1)!.step).toBe(pauseAt);
    }
    await resume(parted);
    expect(bitsOf(parted)).toEqual(bitsOf(whole));
    expect(logOf(parted)).toEqual(logOf(whole));
    expect(bestOf(parted).step).toBe(bestOf(whole).step);
    expect(bestOf(parted).tensors).toEqual(bestOf(whole).tensors);
    // The state that training paused at is the best one itself.
    const there = temporaryFolder();
    await go(there, { pauseAt: result.best!.step });
    expect(bestOf(there).tensors).toEqual(bestOf(whole).tensors);
    expect(findCheckpoint(whole, 'best').step).toBe(result.best!.step);
  });

  it('of a process killed between the checkpoint and its copy is made again; a lost or damaged one begins anew', async () => {
    const folder = temporaryFolder();
    const { best } = await go(folder, { pauseAt: 4 });
    expect(best?.step).toBe(4);
    const good = readFileSync(join(folder, bestName));
    for (const damage of [() => {}, () => writeFileSync(join(folder, bestName), 'half')]) {
      rmSync(join(folder, bestName));
      damage();
      writeFileSync(join(folder, `${bestName}.tmp-4194303`), good.subarray(0, 9));
      await resume(folder, { pauseAt: 4 });
      expect(readFileSync(join(folder, bestName))).toEqual(good);
      expect(readdirSync(folder).sort()).toEqual([bestName, checkpointName, 'config.json', logName]);
    }
    await resume(folder, { pauseAt: 6 });
    rmSync(join(folder, bestName));
    const later = await resume(folder, { pauseAt: 8 });
    expect(later.best?.step).toBe(8);
  });

  it('is never written through a link', async () => {
    const [folder, outside] = [temporaryFolder(), temporaryFolder()];
    writeFileSync(join(outside, 'mine'), 'kept');
    await go(folder, { pauseAt: 2 });
    symlinkSync(join(outside, 'mine'), join(folder, bestName));
    await resume(folder, { pauseAt: 8 });
    expect(readFileSync(join(outside, 'mine'), 'utf8')).toBe('kept');
    expect(bestOf(folder).step).toBeGreaterThan(0);
  });

  it('of an autoencoder goes by the rows left out', async () => {
    const folder = temporaryFolder();
    const options = { config: tinyDenseAe({ steps: 6 }), measureEvery: 2, best: 'loss' } as const;
    const { best } = await trainTiny(executor, { folder, ...options });
    const values = logOf(folder).filter((line) => 'lossLeaveOut' in line);
    const least = Math.min(...values.map(({ lossLeaveOut }) => lossLeaveOut));
    expect(best).toEqual({ value: -least, step: values.find((line) => line.lossLeaveOut === least)!.step });
    expect(bestOf(folder).step).toBe(best!.step);
  });

  it('is not there where nothing was measured', async () => {
    const folder = temporaryFolder();
    const { best } = await go(folder, { sampleEvery: undefined });
    expect(best).toBe(undefined);
    expect(existsSync(join(folder, bestName))).toBe(false);
    expect(() => findCheckpoint(folder, 'best')).toThrow(CheckpointError);
    expect(() => findCheckpoint(folder, 'best')).toThrow(/no best\.safetensors in it; training writes one/);
    expect(() => findCheckpoint(join(folder, checkpointName), 'best')).toThrow(/it is no run folder/);
  });

  it('a value that is no number is never the best', () => {
    const best = new Best('loss');
    expect(best.look({ step: 1, exactLeaveOut: 0, lossLeaveOut: Number.NaN })).toBe(false);
    expect(best.look({ step: 2, exactLeaveOut: 0, lossLeaveOut: -0.5 })).toBe(true);
    expect(best.look({ step: 3, loss: -9 })).toBe(false);
    expect([best.step, best.since]).toEqual([2, 0]);
    expect(best.look({ step: 4, exactLeaveOut: 0, lossLeaveOut: -0.5 })).toBe(false);
    expect(best.since).toBe(1);
  });
});

describe('patience', () => {
  // Without learning every sample is like the first: the second and third are no better.
  const still = (() => {
    const none = { name: 'sgd', learningRate: 0, momentum: 0 } as const;
    return tinyDenseGan({
      steps: 24,
      decoding: 'paper',
      generatorOptimiser: none,
      criticOptimiser: none,
      averaging: 0,
    });
  })();

  it('ends a run that gets no better, the same one whether or not it was interrupted; more of it goes on', async () => {
    const { generator } = still;
    const own = { ...still, generator: { ...generator, norm: 'none' as const } };
    const [whole, parted] = [temporaryFolder(), temporaryFolder()];
    const options = { config: own, patience: 2 };
    const result = await go(whole, options);
    expect(result).toMatchObject({ step: 12, finished: false, outOfPatience: true, best: { step: 4 } });
    expect(findCheckpoint(whole).step).toBe(12);
    await go(parted, { ...options, pauseAt: 9 });
    expect(await resume(parted, options)).toMatchObject({ step: 12, outOfPatience: true });
    expect(logOf(parted)).toEqual(logOf(whole));
    expect(bitsOf(parted)).toEqual(bitsOf(whole));
    // As it stands there is nothing left to do; with more patience it goes on, and without any to the end.
    expect(await resume(parted, options)).toMatchObject({ step: 12, outOfPatience: true });
    expect(await resume(parted, { ...options, patience: 4 })).toMatchObject({ step: 20, outOfPatience: true });
    expect(await resume(parted, { config: own })).toMatchObject({ step: 24, finished: true, outOfPatience: false });
  });
});

describeGpu('on a device', () => {
  it('100 steps with samples: the same bits as without, the same log when resumed, and nothing is allocated', {
    timeout: 240_000,
  }, async () => {
    const [without, whole, parted] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
    const options = {
      config: tinyGan({ decoding: 'paper' }),
      sampleEvery: 10,
      sampleSize: 300,
      best: 'balanced',
      logEvery: 10,
    } as const;
    const gpu = await openGpu();
    const seen = new Set<string>();
    try {
      await trainTiny(gpu, { ...options, folder: without, sampleEvery: undefined });
      await trainTiny(gpu, {
        ...options,
        folder: whole,
        onLog: () => seen.add(`${gpu.device.buffersAlive} ${gpu.device.bytesAlive}`),
      });
      await trainTiny(gpu, { ...options, folder: parted, pauseAt: 50 });
    } finally {
      gpu.destroy();
    }
    expect(seen.size).toBe(1);
    expect(bitsOf(whole)).toEqual(bitsOf(without));
    expect(samplesOf(whole)).toHaveLength(10);
    expect(samplesOf(without)).toEqual([]);
    const second = await openGpu();
    try {
      await trainTiny(second, { ...options, folder: parted, from: findCheckpoint(parted) });
    } finally {
      second.destroy();
    }
    expect(bitsOf(parted)).toEqual(bitsOf(whole));
    expect(logOf(parted)).toEqual(logOf(whole));
    expect(bestOf(parted).tensors).toEqual(bestOf(whole).tensors);
  });

  it('a run gives back what sampling took', async () => {
    const gpu = await openGpu();
    try {
      const options = { config: tinyGan({ steps: 2 }), sampleEvery: 1, sampleSize: 5 };
      await trainTiny(gpu, options);
      const { buffersAlive, bytesAlive } = gpu.device;
      for (let i = 0; i < 2; i++) await trainTiny(gpu, options);
      expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual([buffersAlive, bytesAlive]);
    } finally {
      gpu.destroy();
    }
  });
});
