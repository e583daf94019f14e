/** Training steps of the GAN: what keeps the critic in bounds, GPU against reference, and what happens when it fails. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Executor, type GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import type { Node } from '../../src/autograd/graph.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { CheckpointError, DeviceError } from '../../src/errors.ts';
import type { Config } from '../../src/models/config.ts';
import { checkpointName, findCheckpoint, makeTrainer } from '../../src/models/run.ts';
import { initialise, type Trainer } from '../../src/models/training.ts';
import { describeGpu } from '../gpu.ts';
import {
  bitsOf,
  forget,
  logOf,
  openGpu,
  temporaryFolder,
  tinyAe,
  tinyData,
  tinyDenseAe,
  tinyDenseGan,
  tinyGan,
  trainTiny,
} from './tiny.ts';

const rmsProp = { name: 'rmsProp', learningRate: 0.01, rho: 0.9, eps: 1e-8 };

/** Runs steps of a model and reads its losses and its state; the weights may be disturbed at the start. */
async function stepsOf(
  executor: Executor,
  config: Config,
  steps: number,
  disturb?: (w: number) => number,
): Promise<{ losses: number[]; state: Map<string, Float32Array>; trainer: Trainer }> {
  const { train } = tinyData();
  const trainer = makeTrainer(config, train.rows);
  const outputs = Object.values(trainer.outputs);
  const plan = await executor.plan({ outputs, updates: trainer.updates });
  initialise(executor, trainer, train);
  if (disturb) {
    for (const { node, parameters, initial } of trainer.state) {
      const data = initial(train);
      if (parameters) for (let i = 0; i < parameters.size; i++) data[i] = disturb(data[i]);
      executor.write(node, data);
    }
  }
  executor.write(trainer.data, train.packed);
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    plan.run();
    for (const output of outputs) losses.push((await plan.read(output))[0]);
  }
  const state = new Map<string, Float32Array>();
  for (const { node } of trainer.state) {
    state.set(node.attrs.name, (await executor.read(node)) as Float32Array);
  }
  plan.destroy();
  forget(executor, trainer);
  return { losses, state, trainer };
}

/** Where a parameter of the generator begins. */
const placeOf = (config: Config, name: string): number =>
  makeTrainer(config, 30)
    .state.find(({ node }) => node.attrs.name === 'generator')!
    .parameters!.list.find((parameter) => parameter.name === name)!.offset;

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
};

describeGpu('training', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(() => gpu.destroy());

  it('clipping holds every critic weight to ±clip, and nothing else', async () => {
    const clip = 0.03;
    const folder = temporaryFolder();
    await trainTiny(gpu, {
      folder,
      config: tinyGan({ steps: 20, constraint: { name: 'clipping', clip }, criticOptimiser: rmsProp }),
    });
    const { tensors } = findCheckpoint(folder);
    let atBound = 0;
    let critic = 0;
    let widest = 0;
    for (const [name, { data }] of Object.entries(tensors)) {
      const most = Math.max(...Array.from(data as Float32Array, Math.abs));
      if (name.startsWith('critic/weights/')) {
        expect(most, name).toBeLessThanOrEqual(Math.fround(clip));
        critic += data.length;
        atBound += (data as Float32Array).filter((w) => Math.abs(w) === Math.fround(clip)).length;
      } else if (name.startsWith('generator/weights/')) widest = Math.max(widest, most);
    }
    // He's weights are wider than that, so most have been clipped.
    expect(atBound / critic).toBeGreaterThan(0.3);
    expect(widest).toBeGreaterThan(clip);
    expect(logOf(folder)[0]).not.toHaveProperty('gradientPenalty');
  });

  it('the gradient penalty brings the slopes of a critic that is too steep towards 1', async () => {
    const config = tinyGan({ steps: 300, criticOptimiser: { ...tinyGan().criticOptimiser, learningRate: 3e-3 } });
    // He's weights times 3 in four layers: slopes of a hundred times the usual.
    const { train } = tinyData();
    const trainer = makeTrainer(config, train.rows);
    const plan = await gpu.plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
    initialise(gpu, trainer, train);
    const critic = trainer.state.find(({ node }) => node.attrs.name === 'critic')!;
    gpu.write(
      critic.node,
      (critic.initial(train) as Float32Array).map((w) => 3 * w),
    );
    gpu.write(trainer.data, train.packed);
    const penalty = async (): Promise<number> => (await plan.read(trainer.outputs.gradientPenalty))[0];
    plan.run();
    const first = await penalty();
    for (let i = 0; i < 149; i++) plan.run();
    let last = 0;
    for (let i = 0; i < 10; i++) {
      plan.run();
      last += (await penalty()) / 10;
    }
    plan.destroy();
    forget(gpu, trainer);
    expect(first).toBeGreaterThan(100);
    expect(last).toBeLessThan(0.05 * first);
  });

  it.each<[string, Config, number?]>([
    ['GAN with gradient penalty', tinyGan()],
    [
      'GAN with clipping and batch norm in the critic',
      tinyGan({
        critic: { ...tinyGan().critic, norm: 'batch' },
        constraint: { name: 'clipping', clip: 0.05 },
        criticOptimiser: rmsProp,
      }),
    ],
    [
      'GAN with gradient penalty and layer norm in the critic',
      tinyGan({ critic: { ...tinyGan().critic, norm: 'layer' } }),
    ],
    [
      'GAN with gradient penalty and batch norm in the critic',
      tinyGan({ critic: { ...tinyGan().critic, norm: 'batch' } }),
      // The penalty of a critic with batch norm begins at 160: with 0.01 it is 1e9 a step later, on both executors.
      1e-6,
    ],
    ['autoencoder', tinyAe()],
    ['dense GAN with a size input', tinyDenseGan()],
    ['dense autoencoder', tinyDenseAe()],
  ])('%s: three steps on the GPU are those of the reference', async (_, config, learningRate = 0.01) => {
    // SGD for what moves the weights: Adam divides a gradient by its own size, so that a sign that round-off decides
    // would move a weight a whole step.
    const sgd = { name: 'sgd', learningRate, momentum: 0.9 };
    const changed = (
      config.model === 'gan'
        ? { ...config, generatorOptimiser: sgd, criticOptimiser: sgd }
        : { ...config, optimiser: sgd }
    ) as Config;
    const onGpu = await stepsOf(gpu, changed, 3);
    const exact = await stepsOf(new ReferenceExecutor(), changed, 3);
    // How far a change in the last place of each weight carries through three steps of exact arithmetic. Every op
    // rounds its own results in the same way, and a step is some hundred ops deep: sums of independent roundings
    // grow with the root of their number, and 30 leaves a factor of three.
    const sign = new Stream(4);
    const other = await stepsOf(
      new ReferenceExecutor(),
      changed,
      3,
      (w) => w * (1 + 2 ** -23 * (sign.uniform() < 0.5 ? -1 : 1)),
    );
    for (const [name, values] of exact.state) {
      const bound = 30 * Math.max(distance(other.state.get(name)!, values), 2 ** -24);
      expect(bound, name).toBeLessThan(1e-3);
      expect(distance(onGpu.state.get(name)!, values), name).toBeLessThan(bound);
    }
    expect(onGpu.losses.every(Number.isFinite)).toBe(true);
    expect(distance(onGpu.losses, exact.losses)).toBeLessThan(
      30 * Math.max(distance(other.losses, exact.losses), 2 ** -24),
    );
    // And they did move.
    const [[name, values]] = exact.state;
    const start = exact.trainer.state
      .find(({ node }) => node.attrs.name === name)!
      .initial(tinyData().train) as Float32Array;
    expect(distance(values, start)).toBeGreaterThan(1e-6);
  });

  it('the averaged weights follow the weights', async () => {
    const { state } = await stepsOf(gpu, tinyGan({ averaging: 0.5 }), 8);
    const average = state.get('generator.average')!;
    const weights = state.get('generator')!.slice(0, average.length);
    const gap = distance(average, weights);
    expect(gap).toBeGreaterThan(0);
    expect(gap).toBeLessThan(0.05);
  });

  it('the losses in the log are finite, and the critic learns to tell', async () => {
    const folder = temporaryFolder();
    await trainTiny(gpu, { folder, config: tinyGan({ steps: 60 }), logEvery: 5 });
    const log = logOf(folder);
    expect(log).toHaveLength(12);
    for (const line of log) {
      expect(Object.keys(line).sort()).toEqual(['gradientPenalty', 'lossCritic', 'lossGenerator', 'seconds', 'step']);
      for (const [name, value] of Object.entries(line)) expect(Number.isFinite(value), name).toBe(true);
    }
    expect(log.at(-1)!.lossCritic).toBeLessThan(log[0].lossCritic);
  });

  it('the autoencoder learns its rows', async () => {
    const folder = temporaryFolder();
    const config = tinyAe({ steps: 200, optimiser: { ...tinyAe().optimiser, learningRate: 0.02 } });
    await trainTiny(gpu, { folder, config, measureEvery: 100 });
    const log = logOf(folder);
    // From next to nothing (two or three cells of 680) to something; Dice is between −1 and 0.
    expect(log[0].loss).toBeLessThan(0);
    expect(log.at(-1)!.loss).toBeLessThan(2 * log[0].loss);
    expect(log.at(-1)!.loss).toBeGreaterThan(-1);
    expect(log.filter((line) => 'exactLeaveOut' in line).map(({ step }) => step)).toEqual([100, 200]);
  });

  it('a learning rate of 10: stops with a CheckpointError, and the last checkpoint stays good', async () => {
    const folder = temporaryFolder();
    const sane = tinyGan({ steps: 40, criticOptimiser: { name: 'sgd', learningRate: 1e-4, momentum: 0.9 } });
    await trainTiny(gpu, { folder, config: sane, pauseAt: 10 });
    const before = readFileSync(join(folder, checkpointName));
    const from = findCheckpoint(folder);
    // Plain descent: Adam's steps are bounded, and a net of leaky ReLU takes long to overflow with those.
    const wild = { ...sane.criticOptimiser, learningRate: 10 };
    const config = tinyGan({ steps: 500, criticOptimiser: wild });
    const run = trainTiny(gpu, { folder, config, from, logEvery: 5, checkpointEvery: 500 });
    await expect(run).rejects.toThrow(CheckpointError);
    await expect(run).rejects.toThrow(
      /^training diverged: (lossCritic|gradientPenalty|lossGenerator) is (NaN|-?Infinity) at step \d+; .*checkpoint\.safetensors holds the last good state\. Try lower learning rates; --detect-anomaly names the first tensor at fault$/,
    );
    expect(readFileSync(join(folder, checkpointName)).equals(before)).toBe(true);
    // Nothing stands in the way of going on from it.
    const resumed = await trainTiny(gpu, { folder, config: sane, from: findCheckpoint(folder) });
    expect(resumed).toMatchObject({ step: 40, finished: true });
    expect(logOf(folder).map(({ step }) => step)).toEqual([10, 20, 30, 40]);
  });

  it('--detect-anomaly names the first tensor that overflows, at its step, and saves nothing after it', async () => {
    const folder = temporaryFolder();
    const wild = { name: 'sgd', learningRate: 0.01, momentum: 0.9 };
    const config = tinyGan({
      steps: 50,
      critic: { ...tinyGan().critic, norm: 'batch' },
      criticOptimiser: wild,
      generatorOptimiser: wild,
    });
    const run = trainTiny(gpu, { folder, config, detectAnomaly: true, logEvery: 1000, checkpointEvery: 1 });
    await expect(run).rejects.toThrow(CheckpointError);
    const message = String(await run.catch((error: Error) => error.message));
    // The penalty's gradient throws the weights far out, and the next variance over them overflows.
    expect(message).toMatch(
      /^training diverged: the first tensor with (an infinity|NaN) is \w+ \[[\d,]*\] \((.*critic on \w+: |generator )\w+\d\), at \[[\d,]*\], made from .*, in step (\d+); .*checkpoint\.safetensors holds the last good state$/,
    );
    const step = Number(/in step (\d+)/.exec(message)![1]);
    expect(findCheckpoint(folder).step).toBe(step - 1);
  });

  it('--detect-anomaly names the parameter whose update overflows', async () => {
    const descent = (learningRate: number) => ({ name: 'sgd', learningRate, momentum: 0.9 });
    const config = tinyGan({ steps: 3, criticOptimiser: descent(10) });
    const folder = temporaryFolder();
    await trainTiny(gpu, { folder, config: tinyGan({ steps: 3, criticOptimiser: descent(1e-4) }), pauseAt: 1 });
    const from = findCheckpoint(folder);
    (from.tensors['critic/velocity/conv1.filter'].data as Float32Array)[5] = 3e38;
    await expect(trainTiny(gpu, { folder, config, from, detectAnomaly: true })).rejects.toThrow(
      /the first tensor with an infinity is sgd \[2,\d+\], at weights conv1\.filter \[0,0,1,1\], made from critic \[2,\d+\] and pack/,
    );
  });

  it('a NaN that no loss shows is not saved', async () => {
    const folder = temporaryFolder();
    const config = tinyGan({ steps: 20 });
    await trainTiny(gpu, { folder, config, pauseAt: 10 });
    const before = bitsOf(folder);
    const from = findCheckpoint(folder);
    // A checkpoint with a NaN is refused when it is read, so the device has to make it: the second weight's average.
    const spoilt: Executor = Object.create(gpu, {
      read: {
        value: async (variable: Node) => {
          const data = await gpu.read(variable);
          if (variable.attrs.name === 'generator.average') data[placeOf(config, 'head.bias') + 1] = Number.NaN;
          return data;
        },
      },
    });
    const run = trainTiny(spoilt, { folder, config, from });
    await expect(run).rejects.toThrow(
      /^training diverged: generator\.average\/average\/head\.bias is not finite after step 20/,
    );
    expect(bitsOf(folder)).toEqual(before);
  });

  it('a run that fails gives its buffers back', async () => {
    const config = tinyGan({ steps: 20 });
    const folder = temporaryFolder();
    await trainTiny(gpu, { folder, config, pauseAt: 10 });
    const { buffersAlive } = gpu.device;
    const from = findCheckpoint(folder);
    delete from.tensors['critic/m/out.bias'];
    await expect(trainTiny(gpu, { folder, config, from })).rejects.toThrow(CheckpointError);
    expect(gpu.device.buffersAlive).toBe(buffersAlive);
  });
});

describeGpu('a device that is lost in mid-training', () => {
  it('is a DeviceError; the last checkpoint loads, and another device goes on from it to the same bits', async () => {
    const config = tinyGan({ steps: 60 });
    const folder = temporaryFolder();
    const gpu = await openGpu();
    const run = trainTiny(gpu, {
      folder,
      config,
      checkpointEvery: 20,
      onLog: ({ step }) => {
        if (step === 30) gpu.device.gpu.destroy();
      },
    });
    await expect(run).rejects.toThrow(DeviceError);
    await expect(run).rejects.toThrow(/the device was lost/);
    expect(findCheckpoint(folder).step).toBe(20);
    gpu.destroy();

    const other = await openGpu();
    try {
      await trainTiny(other, { folder, config, checkpointEvery: 20, from: findCheckpoint(folder) });
      const unbroken = temporaryFolder();
      await trainTiny(other, { folder: unbroken, config });
      expect(bitsOf(folder)).toEqual(bitsOf(unbroken));
      expect(logOf(folder)).toEqual(logOf(unbroken));
    } finally {
      other.destroy();
    }
  });
});
