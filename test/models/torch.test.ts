/** Whole networks and a WGAN-GP step against PyTorch, at the real sizes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { criticRows, networkRows, type Row } from '../golden/torch/agree.ts';
import { networkVectors } from '../golden/torch/vectors.ts';
import { describeGpu } from '../gpu.ts';

const { networks, criticSteps } = networkVectors();

/** Both in f64; on the GPU what the roundings of everything below may add up to. */
const f64 = 1e-9;
const wrong = (rows: readonly Row[]): Row[] =>
  rows.filter(({ reference, gpu, allowed }) => !(reference < f64) || (gpu !== undefined && !(gpu <= allowed! + f64)));

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
  it.each(networks.map((vector) => [vector.network, vector] as const))('%s', async (_, vector) => {
    const rows = await networkRows(vector, gpu());
    expect(rows).toHaveLength(1 + (vector.gradients?.length ?? 0));
    expect(wrong(rows)).toEqual([]);
  });
});

describeBoth('a WGAN-GP step against PyTorch', (gpu) => {
  it.each(criticSteps.map((vector) => [vector.critic, vector] as const))('%s', async (_, vector) => {
    const rows = await criticRows(vector, gpu());
    expect(rows).toHaveLength(3 + vector.parameters.length);
    expect(wrong(rows)).toEqual([]);
    // The penalty counts: without it the gradient would be the loss's alone.
    expect(vector.penalty).toBeGreaterThan(0.01);
  });
});
