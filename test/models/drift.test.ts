/** A hundred steps on the GPU go the way of the same steps in f64. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Executor, type GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import type { Config } from '../../src/models/config.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { initialise } from '../../src/models/training.ts';
import { describeGpu } from '../gpu.ts';
import { forget, openGpu, tinyData, tinyDenseAe, tinyDenseGan, tinyGan } from './tiny.ts';

const told = [1, 10, 30, 100];

/** Weights of all networks after some steps. */
async function trajectory(executor: Executor, config: Config) {
  const { train } = tinyData();
  const trainer = makeTrainer(config, train.rows);
  const plan = await executor.plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
  initialise(executor, trainer, train);
  const networks = trainer.state.filter(({ rows }) => rows?.[0] === 'weights');
  executor.write(trainer.data, train.packed);
  const seen: number[][] = [];
  for (let step = 1; step <= 100; step++) {
    plan.run();
    if (!told.includes(step)) continue;
    const weights: number[] = [];
    for (const { node, parameters } of networks) {
      weights.push(...((await executor.read(node)) as Float32Array).subarray(0, parameters!.size));
    }
    seen.push(weights);
  }
  plan.destroy();
  forget(executor, trainer);
  return seen;
}

/** Initial weights of all networks. */
function weightsOf(config: Config): number[] {
  const { train } = tinyData();
  const networks = makeTrainer(config, train.rows).state.filter(({ rows }) => rows?.[0] === 'weights');
  return networks.flatMap(({ initial, parameters }) => [...initial(train).subarray(0, parameters!.size)]);
}

const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.hypot(...a.map((v, i) => v - b[i])) / Math.hypot(...b);

describeGpu('drift over 100 steps', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(() => gpu.destroy());

  it.each<[string, Config]>([
    ['GAN with gradient penalty', tinyGan({ criticSteps: 1 })],
    ['dense GAN with a size input', tinyDenseGan({ criticSteps: 1 })],
    ['dense autoencoder', tinyDenseAe()],
  ])('%s', { timeout: 180_000 }, async (_, config) => {
    const onGpu = await trajectory(gpu, config);
    const exact = await trajectory(new ReferenceExecutor(), config);
    const start = weightsOf(config);
    told.forEach((step, i) => {
      const way = distance(exact[i], start);
      expect(way, `step ${step}`).toBeGreaterThan(1e-5);
      // Adam divides a gradient by its own size: where it is nothing but round-off (a bias before a batch norm), a weight
      // may go another way altogether. The whole must go the same way all the same.
      expect(distance(onGpu[i], exact[i]), `step ${step}`).toBeLessThan(0.05 * way);
    });
  });
});
