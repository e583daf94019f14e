/** Ops and optimisers against PyTorch: values, gradients and gradients of gradients. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fill } from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import type { Op } from '../../src/autograd/graph.ts';
import { newGraph, ops as table } from '../../src/autograd/ops/index.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { opRows, optimiserRow, wrong } from '../golden/torch/agree.ts';
import { type Digest, distance, opVectors, perturbed, places, tensorOf } from '../golden/torch/vectors.ts';
import { describeGpu } from '../gpu.ts';

const { ops, optimisers } = opVectors();
const names = [...new Set(ops.map(({ op }) => op))];

/** Ops without vectors, and why: nothing of theirs can be differentiated, nor does PyTorch have the like. */
const without = {
  randomNormal: "noise is Philox's, held bit for bit by philox.test.ts",
  randomUniform: "noise is Philox's, held bit for bit by philox.test.ts",
  randomMask: "its noise is Philox's, held by ops.test.ts against the reference",
  sampleRows: 'row numbers are integers',
  randomFormulas: "its noise is Philox's, held by ops.test.ts against the reference",
  iota: 'row numbers are integers',
  gather: 'it moves rows of data, which nothing trains',
  unfold: 'formulas are integers',
  unfoldDense: 'it is put in for dense and unfold, to which fuse.test.ts holds it',
  decode: 'formulas are integers',
  increment: 'the counter is an integer',
};

describe('the vectors from PyTorch', () => {
  it.each(Object.keys(table) as (keyof typeof table)[])('hold %s', (name) => {
    const op: Op = table[name];
    if (name in without || optimisers.some((vector) => vector.op === name)) {
      expect(op.vjp).toHaveProperty('none');
      return;
    }
    const cases = ops.filter((vector) => vector.op === name);
    expect(cases.length).toBeGreaterThan(0);
    if (typeof op.vjp !== 'function' || name === 'equal') {
      // Values alone; the rule of equal gives nothing to either input.
      expect(['equal', 'ema']).toContain(name);
      return;
    }
    for (const { inputs, attrs, first, second } of cases) {
      const graph = newGraph();
      const output = graph.apply(
        name,
        inputs.map(({ shape }, i) => graph.variable(`x${i}`, shape)),
        attrs,
      );
      const rules = op.vjp(output, fill(graph, 1, output.shape));
      // A gradient where the rule gives one, zeros where it gives none, and the second ones of each and of the cotangent.
      expect(first.map(({ norm }) => norm > 0)).toEqual(rules.map((rule) => rule !== null));
      expect(second).toHaveLength(inputs.length + 1);
    }
  });
});

describe('the reference against PyTorch', () => {
  it.each(names)('%s', async (name) => {
    const cases = ops.filter(({ op }) => op === name);
    for (const vector of cases) {
      const rows = await opRows(vector);
      expect(rows).toHaveLength(1 + vector.first.length + vector.second.length);
      expect(wrong(rows)).toEqual([]);
    }
  });

  it.each(['norm', 'dot', 'values'] as const)(
    'fails in every row of a vector whose %s is off by a millionth',
    async (what) => {
      for (const vector of ops) {
        const rows = await opRows(perturbed(vector, what));
        expect(wrong(rows)).toHaveLength(rows.length);
      }
      for (const vector of optimisers) expect(wrong([await optimiserRow(perturbed(vector, what))])).toHaveLength(1);
    },
  );

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
      expect(distance(digest, off)).toBeGreaterThan(1e-9);
    }
    const exchanged = data.slice();
    [exchanged[10], exchanged[11]] = [exchanged[11], exchanged[10]];
    expect(distance(digest, exchanged)).toBeGreaterThan(1e-4);
    expect(distance(digest, data.slice(0, 40))).toBe(Infinity);
    expect(distance(digest, data.slice().fill(Number.NaN))).toBeNaN();
    expect(distance(digest, data.slice().fill(Number.NaN)) < 1e-9).toBe(false);
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
