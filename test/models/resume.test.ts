/** Stopping and going on gives the same bits as never stopping, and training leaves nothing behind. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { GpuExecutor } from '../../src/autograd/executor.ts';
import type { Config } from '../../src/models/config.ts';
import { findCheckpoint } from '../../src/models/run.ts';
import { describeGpu } from '../gpu.ts';
import {
  bitsOf,
  logOf,
  openGpu,
  temporaryFolder,
  tinyAe,
  tinyDenseAe,
  tinyDenseGan,
  tinyElemNet,
  tinyFilter,
  tinyGan,
  tinyPlainElemNet,
  trainTiny,
} from './tiny.ts';

const models: [string, Config][] = [
  ['GAN with gradient penalty and averaging', tinyGan()],
  [
    'GAN with clipping and RMSProp, learning rates that fall',
    tinyGan({
      constraint: { name: 'clipping', clip: 0.05 },
      criticOptimiser: { name: 'rmsProp', learningRate: 1e-3, rho: 0.9, eps: 1e-8 },
      generatorOptimiser: { name: 'sgd', learningRate: 1e-2, momentum: 0.5 },
      decay: { from: 20, to: 90 },
      averaging: 0,
    }),
  ],
  ['autoencoder', tinyAe()],
  ['dense GAN with a size input', tinyDenseGan()],
  ['dense autoencoder', tinyDenseAe()],
  ['filter with dropout', tinyFilter({ dropout: 0.3 })],
  ['ElemNet: two members, averaged', tinyElemNet()],
  ['ElemNet with dropout', tinyPlainElemNet()],
  ['dense autoencoder with cross-entropy', tinyDenseAe({ loss: 'crossEntropy' })],
];

describeGpu('100 steps', () => {
  it.each(models)('%s: stopped at 50 and resumed = unbroken, to the bit', async (_, config) => {
    const whole = temporaryFolder();
    const parted = temporaryFolder();
    const first = await openGpu();
    try {
      const unbroken = await trainTiny(first, { folder: whole, config, measureEvery: 10 });
      expect(unbroken).toMatchObject({ step: 100, finished: true });
      const paused = await trainTiny(first, { folder: parted, config, measureEvery: 10, pauseAt: 50 });
      expect(paused).toMatchObject({ step: 50, finished: false });
    } finally {
      first.destroy();
    }
    expect(bitsOf(parted)).not.toEqual(bitsOf(whole));
    expect(findCheckpoint(parted).step).toBe(50);
    // A device of its own: nothing is handed over but the folder.
    const second = await openGpu();
    try {
      const from = findCheckpoint(parted);
      const resumed = await trainTiny(second, { folder: parted, config, measureEvery: 10, from });
      expect(resumed).toMatchObject({ step: 100, finished: true });
    } finally {
      second.destroy();
    }
    expect(bitsOf(parted)).toEqual(bitsOf(whole));
    expect(logOf(parted)).toEqual(logOf(whole));
    const steps = logOf(whole).map(({ step }) => step);
    expect(steps).toEqual([10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    const state = bitsOf(whole);
    // Batch norm's moments; filters and ElemNets have none.
    expect(Object.keys(state).some((name) => name.endsWith('running'))).toBe(
      !['filter', 'elemnet'].includes(config.model),
    );
    expect(state.step).toBe('6400000000000000');
  });
});

describeGpu('one device, many runs', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(() => gpu.destroy());

  it('how often the log and the checkpoint are written changes no bit', async () => {
    const config = tinyGan({ steps: 23 });
    const [often, seldom] = [temporaryFolder(), temporaryFolder()];
    await trainTiny(gpu, { folder: often, config, logEvery: 1, checkpointEvery: 3, measureEvery: 2 });
    await trainTiny(gpu, { folder: seldom, config, logEvery: 1000, checkpointEvery: 1000, measureEvery: 1000 });
    expect(bitsOf(often)).toEqual(bitsOf(seldom));
    expect(logOf(often)).toHaveLength(23);
    expect(logOf(often).at(-1)).toEqual(logOf(seldom).at(-1));
  });

  it('another seed gives another run, the same seed the same', async () => {
    const run = async (seed: number): Promise<Record<string, string>> => {
      const folder = temporaryFolder();
      await trainTiny(gpu, { folder, config: tinyGan({ steps: 3, seed }) });
      return bitsOf(folder);
    };
    const [a, b, c] = [await run(1), await run(1), await run(2)];
    expect(a).toEqual(b);
    const weights = (bits: Record<string, string>): string => bits['critic/weights/conv1.filter'];
    expect(weights(a)).not.toBe(weights(c));
  });

  it('1,000 steps: as many buffers and bytes as after the first, and a process that does not grow', async () => {
    const config = tinyGan({ steps: 1000, criticSteps: 1 });
    const seen: { step: number; buffers: number; bytes: number; rss: number }[] = [];
    await trainTiny(gpu, {
      folder: temporaryFolder(),
      config,
      logEvery: 100,
      checkpointEvery: 200,
      onLog: ({ step }) => {
        const { buffersAlive, bytesAlive } = gpu.device;
        seen.push({ step, buffers: buffersAlive, bytes: bytesAlive, rss: process.memoryUsage.rss() });
      },
    });
    expect(seen.map(({ step }) => step)).toEqual([100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
    expect(new Set(seen.map(({ buffers }) => buffers)).size).toBe(1);
    expect(new Set(seen.map(({ bytes }) => bytes)).size).toBe(1);
    // 10 kB a step would be 8 MB: the garbage collector's own tides are larger than that at the start, so the second
    // half alone is held to 24 MB.
    const [half, end] = [seen[4].rss, seen[9].rss];
    expect((end - half) / 2 ** 20).toBeLessThan(24);
  });

  it('a run gives back all that it took but its variables, and a second one takes no more', async () => {
    const config = tinyGan({ steps: 2 });
    await trainTiny(gpu, { config });
    const { buffersAlive, bytesAlive } = gpu.device;
    for (let i = 0; i < 3; i++) await trainTiny(gpu, { config });
    expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual([buffersAlive, bytesAlive]);
  });
});
