/** The tester tested: a wrong rule or a wrong kernel must not get past it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dense, mul, reshape, scale, stopGradient } from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { checkOp } from '../../src/autograd/gradcheck.ts';
import type { Op } from '../../src/autograd/graph.ts';
import { ops } from '../../src/autograd/ops/index.ts';
import { openDevice } from '../../src/kernels/device.ts';
import type { Call, Lowered } from '../../src/kernels/kernel.ts';
import * as lower from '../../src/kernels/lower.ts';
import { describeGpu } from '../gpu.ts';

/** x² + x, rightly done: what the wrong ones differ from. */
const good: Op = {
  summary: 'x² + x',
  shape: ([x]) => x.shape,
  vjp: (node, g) => [() => mul(g, scale(node.inputs[0], 2, 1))],
  reference: ([x], _attrs, out) => {
    x.data.forEach((v, i) => {
      out.data[i] = v * v + v;
    });
  },
  roundings: () => 2,
  lowering: { expand: (node) => mul(node.inputs[0], scale(node.inputs[0], 1, 1)) },
  samples: [{ inputs: [{ shape: [5, 13], draw: 'normal' }] }],
  errors: [],
};

async function failed(op: Op, gpu?: GpuExecutor): Promise<string[]> {
  const rows = await checkOp('own', { own: { own: op }, gpu });
  return rows.filter((row) => !row.pass).map(({ order, executor }) => `${order} ${executor}`);
}

describe('wrong gradient rules are caught on the reference', () => {
  it('the right one passes', async () => {
    expect(await failed(good)).toEqual([]);
  });

  it.each<[string, Op['vjp']]>([
    ['a factor', (node, g) => [() => mul(g, scale(node.inputs[0], 2.0001, 1))]],
    ['a sign', (node, g) => [() => mul(g, scale(node.inputs[0], -2, 1))]],
    ['a missing term', (node, g) => [() => mul(g, scale(node.inputs[0], 2))]],
    ['no cotangent', (node) => [() => scale(node.inputs[0], 2, 1)]],
    ['the value in place of the input', (node, g) => [() => mul(g, scale(node, 2, 1))]],
  ])('%s', async (_, vjp) => {
    expect(await failed({ ...good, vjp })).toContain('1 reference');
  });

  it('a rule right in value but constant to its own gradient: second order', async () => {
    const vjp: Op['vjp'] = (node, g) => [() => mul(g, scale(stopGradient(node.inputs[0]), 2, 1))];
    expect(await failed({ ...good, vjp })).toEqual(['2 reference']);
  });

  it('a transposed index, where the shapes hide it', async () => {
    const square = { shape: [4, 4], draw: 'normal' as const };
    const attrs = { transposeX: false, transposeW: false };
    const base: Op = { ...ops.dense, samples: [{ inputs: [square, square], attrs }] };
    expect(await failed(base)).toEqual([]);
    const vjp: Op['vjp'] = (node, g) => {
      const [x, w] = node.inputs;
      return [() => dense(g, w), () => dense(x, g, { transposeX: true })];
    };
    expect(await failed({ ...base, vjp })).toContain('1 reference');
  });

  it('a batch norm whose input gets no gradient, which a plain sum of the output would call right', async () => {
    const vjp: Op['vjp'] = (node, g) => {
      const [dx, ...rest] = (ops.batchNorm.vjp as Extract<Op['vjp'], CallableFunction>)(node, g);
      return [() => scale(dx!(), 0), ...rest];
    };
    const base: Op = { ...ops.batchNorm, samples: ops.batchNorm.samples.slice(0, 2) };
    expect(await failed(base)).toEqual([]);
    expect(await failed({ ...base, vjp })).toContain('1 reference');
  });

  it('a gradient for the wrong input', async () => {
    const vjp: Op['vjp'] = (node, g) => [() => mul(g, node.inputs[0]), () => mul(g, node.inputs[1])];
    const pair = { shape: [3, 5], draw: 'normal' as const };
    expect(await failed({ ...ops.mul, vjp, samples: [{ inputs: [pair, pair] }] })).toContain('1 reference');
  });

  it('a gradient of the wrong shape is an error', async () => {
    const vjp: Op['vjp'] = (_node, g) => [() => reshape(g, [65])];
    await expect(failed({ ...good, vjp })).rejects.toThrow(/gradient rule gives \[65\] for input 0 of \[5,13\]/);
  });
});

describeGpu('wrong kernels are caught on the GPU', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice(), { poison: true });
  });
  afterAll(() => gpu.destroy());

  const size = 130;
  /** Doubling, with a lowering to spoil. */
  const doubled = (kernels: () => Lowered): Op => ({
    ...good,
    vjp: (_node, g) => [() => scale(g, 2)],
    reference: ([x], _attrs, out) => {
      x.data.forEach((v, i) => {
        out.data[i] = 2 * v;
      });
    },
    lowering: { kernels },
    samples: [{ inputs: [{ shape: [size], draw: 'normal' }] }],
  });
  /** The kernel that it uses, with its one call changed. */
  const changed = (change: Partial<Call>): Lowered => ({
    temps: [],
    calls: [
      {
        kernel: { files: ['../test/kernels/doubled'], entry: 'main', bindings: ['read', 'write'] },
        params: [size, { f32: 2 }],
        workgroups: [3, 1, 1],
        buffers: [{ input: 0 }, 'out'],
        ...change,
      },
    ],
  });

  it('the right one passes', async () => {
    expect(
      await failed(
        doubled(() => changed({})),
        gpu,
      ),
    ).toEqual([]);
  });

  it.each<[string, () => Lowered]>([
    ['one element at the end is never written', () => changed({ params: [size - 1, { f32: 2 }] })],
    ['the last workgroup is not dispatched', () => changed({ workgroups: [2, 1, 1] })],
    ['nothing is dispatched', () => ({ temps: [], calls: [] })],
    ['a parameter is off by one part in 100,000', () => changed({ params: [size, { f32: 2.00002 }] })],
    ['a number is handed over as an integer', () => changed({ params: [size, 2] })],
    ['another function runs', () => lower.unary('square', size)],
  ])('%s', async (_, kernels) => {
    expect(await failed(doubled(kernels), gpu)).toEqual(['0 gpu']);
  });

  it('an op whose expansion is another expression', async () => {
    const lowering: Op['lowering'] = { expand: (node) => mul(node.inputs[0], node.inputs[0]) };
    expect(await failed({ ...good, lowering }, gpu)).toContain('0 gpu');
  });
});
