/** The tester tested: a wrong rule or a wrong kernel must not get past it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  dense,
  exp,
  leakyRelu,
  mul,
  reshape,
  scale,
  square,
  stopGradient,
  sum,
} from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { type CheckRow, checkOp, gradcheck, gradgradcheck } from '../../src/autograd/gradcheck.ts';
import { type Node, type Op, type OpTable, sizeOf } from '../../src/autograd/graph.ts';
import { ops } from '../../src/autograd/ops/index.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { type Call, grid, type Lowered } from '../../src/kernels/kernel.ts';
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

/** The row that fails at an order, which must be one of the reference. */
function failure(rows: readonly CheckRow[], order: number): CheckRow {
  const row = rows.find((r) => !r.pass && r.order === order && r.executor === 'reference');
  expect(row, `order ${order}`).toBeDefined();
  return row!;
}

describe('a wrong element is found and named', () => {
  /** x² whose rule passes on to an op of its own what the gradient is multiplied by, element by element. */
  const table = (shape: readonly number[], first: number, second: number, wrong: number): OpTable => {
    const spoilt = (factor: number) => (data: Float64Array, out: Float64Array) => {
      data.forEach((v, i) => {
        out[i] = i === wrong ? factor * v : v;
      });
    };
    /** The identity but for one element: where it stands in a rule it spoils the rule. */
    const spoil = (factor: number, rule: Op['vjp']): Op => ({
      ...good,
      shape: ([x]) => x.shape,
      vjp: rule,
      reference: ([x], _attrs, out) => spoilt(factor)(x.data, out.data),
    });
    return {
      own: {
        ...good,
        vjp: (node, g) => [
          () => {
            const [x] = node.inputs;
            // The first-order fault is in the value, the second-order one in the rule of `later`, whose value is right.
            const later = x.graph.apply('later', [scale(x, 2)]);
            return x.graph.apply('now', [mul(g, later)]);
          },
        ],
        reference: ([x], _attrs, out) => {
          x.data.forEach((v, i) => {
            out.data[i] = v * v;
          });
        },
        lowering: { expand: (node) => square(node.inputs[0]) },
        samples: [{ inputs: [{ shape, draw: 'normal' }] }],
      },
      now: spoil(first, (node, g) => [() => node.graph.apply('now', [g])]),
      later: spoil(1, (node, g) => [() => node.graph.apply('spoilt', [g])]),
      spoilt: spoil(second, (_node, g) => [() => g]),
    };
  };

  it.each<[string, readonly number[], number, number[]]>([
    ['of a few', [3, 5], 8, [1, 3]],
    ['of thousands', [65, 70], 4321, [61, 51]],
  ])('%s, first and second order', async (_, shape, wrong, element) => {
    const check = (first: number, second: number) =>
      checkOp('own', { own: table(shape, first, second, wrong), variants: false });
    const one = failure(await check(1.001, 1), 1);
    expect(one.at).toMatchObject({ tensor: 'gradient of input 0', element });
    expect(one.at!.actual / one.at!.expected).toBeCloseTo(1.001, 6);
    expect(one.detail).toContain(`sample 0 ([${shape}]), gradient of input 0, element [${element}]: the rule gives`);
    expect(one.detail).toMatch(/differences give \S+ \(too (large|small) by \S+\)$/);
    const rows = await check(1, 0.9);
    expect(rows.find(({ order }) => order === 1)!.pass).toBe(true);
    const two = failure(rows, 2);
    expect(two.at).toMatchObject({ tensor: 'second gradient of input 0', element });
    expect(two.at!.actual / two.at!.expected).toBeCloseTo(0.9, 5);
  });

  it('the right input of several', async () => {
    const pair = { shape: [7, 11], draw: 'normal' as const };
    const vjp: Op['vjp'] = (node, g) => {
      const [a, b] = node.inputs;
      return [() => mul(g, b), () => mul(g, scale(a, 1, 0.25))];
    };
    const rows = await checkOp('own', { own: { own: { ...ops.mul, vjp, samples: [{ inputs: [pair, pair] }] } } });
    expect(failure(rows, 1).at!.tensor).toBe('gradient of input 1');
  });
});

describe('gradcheck and gradgradcheck', () => {
  const x = { shape: [3, 4], draw: 'normal' as const };
  const w = { shape: [4, 5], draw: 'normal' as const };
  const f = (a: Node, b: Node): Node => exp(leakyRelu(dense(a, b), 0.1));

  it('pass for a function of two inputs', async () => {
    const first = await gradcheck(f, [x, w]);
    expect(first).toMatchObject({ pass: true, failures: [] });
    expect(first.rows.map(({ op, order, executor }) => [op, order, executor])).toEqual([['f', 1, 'reference']]);
    const second = await gradgradcheck(f, [x, w], { name: 'a layer' });
    expect(second.rows.map(({ op, order }) => [op, order])).toEqual([['a layer', 2]]);
  });

  it('throw where a gradient is missing, or report it', async () => {
    const g = (a: Node): Node => add(square(a), stopGradient(a));
    await expect(gradcheck(g, [x])).rejects.toThrow(
      /^g, order 1: \[3,4\], gradient of input 0, element \[\d,\d\]: the rule gives \S+, differences give \S+ \(too /,
    );
    await expect(gradcheck(g, [x])).rejects.toMatchObject({ name: 'GradientError' });
    const report = await gradcheck(g, [x], { raise: false });
    expect(report.pass).toBe(false);
    expect(report.failures).toHaveLength(1);
    const h = (a: Node): Node => mul(a, stopGradient(a));
    await expect(gradgradcheck(h, [x])).rejects.toThrow(/order 2: .*second gradient of input 0/);
  });

  it('a kink within the step is met with a smaller one', async () => {
    const near = { shape: [4], values: [3e-6, -4e-6, 1, -1] };
    expect((await gradcheck((a) => sum(leakyRelu(a, 0.2)), [near])).pass).toBe(true);
  });

  it('take ops of one’s own', async () => {
    const own = { twice: good };
    const twice = (a: Node): Node => a.graph.apply('twice', [a]);
    expect((await gradcheck(twice, [x], { own })).pass).toBe(true);
  });

  it.each<[string, Parameters<typeof gradcheck>, RegExp]>([
    ['too few values', [f, [{ shape: [2], values: [1] }, w]], /input 0 has 1 values for \[2\]/],
    [
      'no input to differentiate in',
      [(a) => a.graph.apply('randomNormal', [a], { key: [0, 0], stream: 0, shape: [2] }), [counter()]],
      /has no f32 input/,
    ],
    ['an integer output', [(a) => a.graph.apply('increment', [a]), [counter()]], /gives u32, not f32/],
  ])('refuse %s', async (_, args, message) => {
    await expect(gradcheck(...args)).rejects.toThrow(message);
  });

  function counter() {
    return { shape: [2], values: [0, 0], dtype: 'u32' as const };
  }
});

describeGpu('wrong kernels are caught on the GPU', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice(), { poison: true });
  });
  afterAll(() => gpu.destroy());

  const size = 130;
  const shader = new URL('../kernels/doubled.wgsl', import.meta.url).href;
  /** Doubling, with a lowering to spoil. */
  const doubled = (kernels: (node: Node) => Lowered): Op => ({
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
  const changed = (change: Partial<Call>, elements = size): Lowered => ({
    temps: [],
    calls: [
      {
        kernel: { files: [shader], entry: 'main', bindings: ['read', 'write'] },
        params: [elements, { f32: 2 }],
        workgroups: grid(elements),
        buffers: [{ input: 0 }, 'out'],
        ...change,
      },
    ],
  });

  it('the right one passes', async () => {
    expect(
      await failed(
        doubled((node) => changed({}, sizeOf(node.shape))),
        gpu,
      ),
    ).toEqual([]);
  });

  it('a kernel that is right at the samples and wrong at an odd shape', async () => {
    // 63 elements: the last one is left out.
    const kernels = (node: Node): Lowered => {
      const elements = sizeOf(node.shape);
      return changed(elements === 63 ? { params: [62, { f32: 2 }] } : {}, elements);
    };
    const [row] = (await checkOp('own', { own: { own: doubled(kernels) }, gpu })).filter(({ pass }) => !pass);
    expect(row).toMatchObject({ order: 0, executor: 'gpu' });
    expect(row.detail).toMatch(
      /^variant of sample 0 with 63 for 130 \(\[63\]\), output, element \[62\]: NaN where \S+ is expected: no kernel/,
    );
  });

  it('a kernel that gives other bits in another run', async () => {
    let run = 0;
    const op = doubled((node) => changed({ params: [sizeOf(node.shape), { f32: run++ % 2 ? 2 + 2 ** -22 : 2 }] }));
    const [row] = (await checkOp('own', { own: { own: op }, gpu, order: 0, variants: false })).filter((r) => !r.pass);
    expect(row).toMatchObject({ order: 0, executor: 'gpu', deterministic: false });
    expect(row.error).toBeLessThan(row.tolerance);
    expect(row.detail).toMatch(/^sample 0 \(\[130\]\), output, element \[\d+\]: \S+ in one run, \S+ in another/);
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

  it('a function of nodes on the GPU: values, gradients, second gradients', async () => {
    const inputs = [{ shape: [3, 65], draw: 'normal' as const }];
    const f = (x: Node): Node => exp(scale(square(x), -0.5));
    const { rows } = await gradcheck(f, inputs, { gpu });
    expect(rows.map(({ order, executor }) => `${order} ${executor}`)).toEqual(['0 gpu', '1 reference', '1 gpu']);
    expect((await gradgradcheck(f, inputs, { gpu })).rows.map(({ executor }) => executor)).toEqual([
      'reference',
      'gpu',
    ]);
    const own = { own: doubled((node) => changed({ params: [sizeOf(node.shape) - 1, { f32: 2 }] }, 195)) };
    const wrong = (x: Node): Node => x.graph.apply('own', [x]);
    await expect(gradcheck(wrong, inputs, { gpu, own })).rejects.toThrow(/order 0: .*element \[2,64\]: NaN where/);
  });

  it('an op whose expansion is another expression', async () => {
    const lowering: Op['lowering'] = { expand: (node) => mul(node.inputs[0], node.inputs[0]) };
    expect(await failed({ ...good, lowering }, gpu)).toContain('0 gpu');
  });
});
