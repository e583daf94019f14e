/** Ops and optimisers against PyTorch: values, gradients and gradients of gradients. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { opRows, optimiserRow, type Row } from '../golden/torch/agree.ts';
import { type Digest, distance, opVectors, places, tensorOf } from '../golden/torch/vectors.ts';
import { describeGpu } from '../gpu.ts';

const { ops, optimisers } = opVectors();
const names = [...new Set(ops.map(({ op }) => op))];

/** Both in f64: what is left is the order of sums. */
const f64 = 1e-9;
const wrong = (rows: readonly Row[]): Row[] =>
  rows.filter(({ reference, gpu, allowed }) => !(reference < f64) || (gpu !== undefined && !(gpu <= allowed! + f64)));

describe('the reference against PyTorch', () => {
  it.each(names)('%s', async (name) => {
    const cases = ops.filter(({ op }) => op === name);
    for (const vector of cases) {
      const rows = await opRows(vector);
      expect(rows).toHaveLength(1 + vector.first.length + vector.second.length);
      expect(wrong(rows)).toEqual([]);
    }
  });

  it.each(['adam', 'rmsProp', 'sgd'])('%s: ten steps', async (name) => {
    const cases = optimisers.filter(({ op }) => op === name);
    expect(cases).toHaveLength(3);
    for (const vector of cases) expect(wrong([await optimiserRow(vector)])).toEqual([]);
  });
});

describe('the comparison itself', () => {
  const { data } = tensorOf({ shape: [5, 200], seed: 3 });
  const weights = tensorOf({ shape: [1000], seed: 4242 }).data;
  const digest: Digest = {
    shape: [5, 200],
    norm: Math.hypot(...data),
    dot: data.reduce((total, v, i) => total + v * weights[i], 0),
    values: places(1000).map((i) => data[i]),
  };

  it('sees one element that is wrong by a millionth, two that are exchanged, and a tensor cut short', () => {
    expect(distance(digest, data)).toBeLessThan(1e-14);
    for (const i of [0, 499, 999]) {
      const off = data.slice();
      off[i] += 1e-6 * digest.norm;
      expect(distance(digest, off)).toBeGreaterThan(f64);
    }
    const exchanged = data.slice();
    [exchanged[10], exchanged[11]] = [exchanged[11], exchanged[10]];
    expect(distance(digest, exchanged)).toBeGreaterThan(1e-4);
    expect(distance(digest, data.slice(0, 40))).toBe(Infinity);
    expect(distance(digest, data.slice().fill(Number.NaN))).toBeNaN();
    expect(distance(digest, data.slice().fill(Number.NaN)) < f64).toBe(false);
  });
});

describeGpu('the GPU against PyTorch', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice(), { poison: true });
  });
  afterAll(() => gpu.destroy());

  it.each(names)('%s', async (name) => {
    for (const vector of ops.filter(({ op }) => op === name)) expect(wrong(await opRows(vector, gpu))).toEqual([]);
  });

  it.each(optimisers.map((vector) => [`${vector.op} ${JSON.stringify(vector.attrs)}`, vector] as const))(
    '%s',
    async (_, vector) => expect(wrong([await optimiserRow(vector, gpu)])).toEqual([]),
  );
});
