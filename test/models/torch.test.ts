/** Whole networks to second order and whole training steps against PyTorch, at the real sizes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { criticRows, networkRows, trainingRows, wrong } from '../golden/torch/agree.ts';
import { networkVectors, perturbed } from '../golden/torch/vectors.ts';
import { describeGpu } from '../gpu.ts';

const { networks, criticSteps, trainingSteps } = networkVectors();

/** For a machine that does much else: the autoencoder to second order takes half a minute on two cores of its own. */
const patience = 600_000;

// The GPU's figures hold the reference's beside them: where there is an adapter, one run does for both.
const describeBoth = (name: string, body: (gpu: () => GpuExecutor | undefined) => void): void => {
  if (process.env.MATGAN_ADAPTER === 'none' && !process.env.CI)
    describe(`${name}, reference alone`, () => body(() => undefined));
  describeGpu(`${name}, reference and GPU`, () => {
    let gpu: GpuExecutor;
    beforeAll(async () => {
      gpu = new GpuExecutor(await openDevice(), { poison: true });
    });
    afterAll(() => gpu.destroy());
    body(() => gpu);
  });
};

describeBoth('networks against PyTorch', (gpu) => {
  it.each(networks.map((vector) => [vector.network, vector] as const))(
    '%s',
    async (_, vector) => {
      const rows = await networkRows(vector, gpu());
      expect(rows).toHaveLength(1 + vector.first.length + vector.second.length);
      expect(vector.second).toHaveLength(vector.parameters.length + 2);
      expect(wrong(rows)).toEqual([]);
    },
    patience,
  );
});

describeBoth('a WGAN-GP step against PyTorch', (gpu) => {
  it.each(criticSteps.map((vector) => [vector.critic, vector] as const))('%s', async (_, vector) => {
    const rows = await criticRows(vector, gpu());
    expect(rows).toHaveLength(3 + vector.parameters.length);
    expect(wrong(rows)).toEqual([]);
    // The penalty counts: without it the gradient would be the loss's alone.
    expect(vector.outputs.penalty.norm).toBeGreaterThan(0.01);
  });
});

describeBoth('training steps against PyTorch', (gpu) => {
  const named = trainingSteps.map((vector) => [vector.preset, vector.norm, vector.step, vector] as const);
  it.each(named)(
    '%s, %s norm, %s step',
    async (_preset, _norm, step, vector) => {
      const rows = await trainingRows(vector, gpu());
      const updates = vector.updates.filter((digest) => digest !== null);
      // Loss, and a critic's penalty and slopes.
      expect(rows).toHaveLength((step === 'critic' ? 3 : 1) + vector.parameters.length + updates.length);
      expect(wrong(rows)).toEqual([]);
      // What is left out is round-off: biases in front of a batch norm, and the critic's last, which the loss cancels.
      vector.updates.forEach((digest, i) => {
        if (!digest) expect(vector.parameters[i].name).toMatch(/\.bias$/);
      });
      // The bound sees one element in a million whose update has the wrong sign.
      for (const { part, allowed } of rows) if (part === 'update' && allowed) expect(allowed).toBeLessThan(1e-3);
    },
    patience,
  );
});

describeBoth('a perturbed vector fails', (gpu) => {
  it.each(['norm', 'dot', 'values'] as const)('its %s off by a millionth: every row', async (what) => {
    const [step] = criticSteps;
    const rows = await criticRows(perturbed(step, what));
    expect(wrong(rows)).toHaveLength(rows.length);
    const update = trainingSteps.find((vector) => vector.step === 'generator')!;
    const updated = await trainingRows(perturbed(update, what));
    expect(wrong(updated)).toHaveLength(updated.length);
  });

  it('by a quarter more than the bound: every row of the GPU', async () => {
    const [step] = criticSteps;
    const allowed = await criticRows(step, gpu());
    if (!gpu()) return;
    const worst = Math.max(...allowed.map((row) => row.allowed!));
    const rows = await criticRows(perturbed(step, 'norm', 1.25 * worst), gpu());
    expect(rows.filter((row) => row.gpu! > row.allowed!)).toHaveLength(rows.length);
  });
});
