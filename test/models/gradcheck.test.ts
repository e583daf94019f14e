/** Losses of whole models: right ones pass, a gradient with one fault in one parameter does not. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { openDevice } from '../../src/kernels/device.ts';
import type { Config } from '../../src/models/config.ts';
import { checkModel, checkTrainer } from '../../src/models/gradcheck.ts';
import { makeTrainer } from '../../src/models/run.ts';
import type { LossCheck, Trainer } from '../../src/models/training.ts';
import { describeGpu } from '../gpu.ts';
import { tinyAe, tinyDenseAe, tinyDenseGan, tinyElemNet, tinyGan, tinyPlainElemNet, tinyRows } from './tiny.ts';

const models: [string, Config, string[]][] = [
  ['convolutions', tinyGan(), ['critic', 'generator']],
  ['dense layers', tinyDenseGan(), ['critic', 'generator']],
  ['batch norm in the critic', tinyGan({ critic: { ...tinyGan().critic, norm: 'batch' } }), ['critic', 'generator']],
  ['autoencoder', tinyAe(), ['autoencoder']],
  ['dense autoencoder', tinyDenseAe(), ['autoencoder']],
  ['ElemNet', tinyElemNet(), ['elemnet']],
  ['ElemNet with dropout', tinyPlainElemNet(), ['elemnet']],
  ['dense autoencoder with cross-entropy', tinyDenseAe({ loss: 'crossEntropy' }), ['autoencoder']],
];

/** The trainer with the gradient of one loss changed. */
const spoilt = (trainer: Trainer, loss: string, change: (check: LossCheck) => LossCheck['gradient']): Trainer => ({
  ...trainer,
  checks: () => trainer.checks().map((c) => (c.name === loss ? { ...c, gradient: change(c) } : c)),
});

/** The gradient with 1% more at one element of the flat vector. */
const oneElement =
  (i: number) =>
  ({ gradient }: LossCheck): LossCheck['gradient'] =>
    b.add(gradient, b.pack([b.scale(b.view(gradient, i, [1]), 0.01)], [i], gradient.shape[0]));

describe('losses of whole models against differences', () => {
  it.each(models)('%s', async (_, config, losses) => {
    const rows = await checkModel(config, { name: 'tiny' });
    expect(rows.map(({ op, order, executor }) => [op, order, executor])).toEqual(
      losses.map((loss) => [`tiny ${loss}`, 1, 'reference']),
    );
    expect(rows.filter(({ pass }) => !pass)).toEqual([]);
  });

  const rows = tinyRows(30);
  it.each(['critic', 'generator'])('a factor in the whole gradient of the %s', async (loss) => {
    const trainer = spoilt(makeTrainer(tinyGan(), 30), loss, ({ gradient }) => b.scale(gradient, 1.001));
    const failed = (await checkTrainer(trainer, rows)).filter(({ pass }) => !pass);
    expect(failed.map(({ op }) => op)).toEqual([`gan ${loss}`]);
    expect(failed[0].detail).toMatch(
      /^gradient of the loss in \S+, element \[[\d,]+\]: the rules give \S+, differences/,
    );
    expect(failed[0].at!.actual / failed[0].at!.expected).toBeCloseTo(1.001, 4);
  });

  it('one element of one parameter, which is named', async () => {
    const trainer = makeTrainer(tinyGan(), 30);
    const { list } = trainer.checks()[0].state.parameters!;
    const parameter = list.find(({ name }) => /conv2/.test(name))!;
    const wrong = spoilt(trainer, 'critic', oneElement(parameter.offset + 5));
    const [row] = (await checkTrainer(wrong, rows)).filter(({ pass }) => !pass);
    const [, , , filters] = parameter.shape;
    expect(row.at).toMatchObject({ tensor: parameter.name, element: [0, 0, Math.floor(5 / filters), 5 % filters] });
  });
});

describeGpu('losses of whole models on the GPU', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }));
  });
  afterAll(() => gpu.destroy());

  it.each(models)('%s', async (_, config, losses) => {
    const rows = await checkModel(config, { gpu, seed: 3 });
    expect(rows).toHaveLength(3 * losses.length);
    expect(rows.filter(({ pass }) => !pass)).toEqual([]);
    for (const row of rows) if (row.executor === 'gpu') expect(row.deterministic).toBe(true);
  });
});
