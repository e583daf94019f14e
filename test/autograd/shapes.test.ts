/** Random shapes, and values that are no ordinary numbers: the GPU against the reference. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  add,
  conv2d,
  conv2dInputGrad,
  conv2dWeightGrad,
  dense,
  leakyRelu,
  max,
  mul,
  relu,
  samePadding,
  scale,
  sigmoid,
  sum,
} from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { runOnce } from '../../src/autograd/gradcheck.ts';
import { type Node, sizeOf, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

const seed = 20_240_601;

describeGpu('kernels at random shapes', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
  });
  afterAll(() => gpu.destroy());

  /** Within the op's own roundings, relative to the norm. */
  async function close(node: Node): Promise<void> {
    const values = new Map<Node, Value>(
      node.inputs.map((input, i) => {
        const random = new Stream(sizeOf(node.shape), i);
        const data = Float64Array.from({ length: sizeOf(input.shape) }, () => Math.fround(random.normal()));
        return [input, { shape: input.shape, data }];
      }),
    );
    const [expected] = evaluate([node], (variable) => values.get(variable)!);
    const [actual] = await runOnce(gpu, [node], values);
    let difference = 0;
    let norm = 0;
    let magnitude = 0;
    expected.data.forEach((v, i) => {
      difference += (v - actual[i]) ** 2;
      norm += v ** 2;
      magnitude = Math.max(magnitude, Math.abs(v));
    });
    // A lone element may be a sum that cancels to almost nothing: its terms are about 1, √depth of them.
    const roundings = node.graph.ops[node.op].roundings(node);
    const floor = expected.data.length < 16 ? Math.sqrt(expected.data.length) * 4 : 0;
    const what = `${node.op} ${JSON.stringify(node.attrs)} of ${node.inputs.map(({ shape }) => `[${shape}]`)}`;
    expect(Math.sqrt(difference), what).toBeLessThanOrEqual(roundings * 2 ** -24 * Math.max(Math.sqrt(norm), floor));
  }

  const size = (most: number) => fc.integer({ min: 1, max: most });

  it('dense, each factor either way round', async () => {
    const sizes = fc.tuple(size(70), size(70), size(70), fc.boolean(), fc.boolean());
    await fc.assert(
      fc.asyncProperty(sizes, async ([rows, depth, columns, transposeX, transposeW]) => {
        const graph = newGraph();
        const x = graph.variable('x', transposeX ? [depth, rows] : [rows, depth]);
        const w = graph.variable('w', transposeW ? [columns, depth] : [depth, columns]);
        await close(dense(x, w, { transposeX, transposeW }));
      }),
      { numRuns: 60, seed },
    );
  });

  it('dense, long sums that are split', async () => {
    const sizes = fc.tuple(size(20), fc.integer({ min: 100, max: 5000 }), size(20), fc.boolean(), fc.boolean());
    await fc.assert(
      fc.asyncProperty(sizes, async ([rows, depth, columns, transposeX, transposeW]) => {
        const graph = newGraph();
        const x = graph.variable('x', transposeX ? [depth, rows] : [rows, depth]);
        const w = graph.variable('w', transposeW ? [columns, depth] : [depth, columns]);
        await close(dense(x, w, { transposeX, transposeW }));
      }),
      { numRuns: 20, seed },
    );
  });

  it('filter gradients over many positions', async () => {
    const fours = fc.constantFrom(1, 3, 4, 8);
    const sizes = fc.tuple(fc.constantFrom(3, 8, 32), fc.integer({ min: 20, max: 85 }), fours, fours);
    await fc.assert(
      fc.asyncProperty(sizes, async ([batch, height, channels, filters]) => {
        const graph = newGraph();
        const x = graph.variable('x', [batch, height, 8, channels]);
        const y = graph.variable('y', [batch, Math.ceil(height / 2), 8, filters]);
        const padding = samePadding([height, 8], [3, 3], [2, 1]);
        await close(conv2dWeightGrad(x, y, { strides: [2, 1], padding, kernel: [3, 3] }));
      }),
      { numRuns: 12, seed },
    );
  });

  it('the convolution triad, any stride, kernel and padding', async () => {
    const pair = (most: number) => fc.tuple(size(most), size(most));
    const pad = fc.integer({ min: 0, max: 3 });
    // Both kinds of kernel: channels in fours and batches that fill a tile of 8, and all the others.
    const channel = fc.oneof(size(19), fc.constantFrom(4, 8, 12, 20));
    const sizes = fc.record({
      batch: fc.oneof(size(4), fc.constantFrom(6, 7, 8, 13)),
      image: pair(14),
      kernel: pair(5),
      strides: pair(4),
      padding: fc.tuple(pad, pad, pad, pad),
      channels: channel,
      filters: channel,
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ batch, image, kernel, strides, padding, channels, filters }) => {
        const [oh, ow] = [0, 1].map(
          (i) => Math.floor((image[i] + padding[2 * i] + padding[2 * i + 1] - kernel[i]) / strides[i]) + 1,
        );
        fc.pre(oh >= 1 && ow >= 1);
        const graph = newGraph();
        const x = graph.variable('x', [batch, ...image, channels]);
        const f = graph.variable('f', [...kernel, channels, filters]);
        const y = graph.variable('y', [batch, oh, ow, filters]);
        await close(conv2d(x, f, { strides, padding }));
        await close(conv2dInputGrad(y, f, { strides, padding, size: image }));
        await close(conv2dWeightGrad(x, y, { strides, padding, kernel }));
      }),
      { numRuns: 60, seed },
    );
  });

  it('sums and greatest elements over any run of axes', async () => {
    const shapes = fc.tuple(size(9), size(300), size(9), size(5), fc.nat(3), fc.nat(3));
    await fc.assert(
      fc.asyncProperty(shapes, async ([a, b, c, d, i, j]) => {
        const x = newGraph().variable('x', [a, b, c, d]);
        const axes = [0, 1, 2, 3].slice(Math.min(i, j), Math.max(i, j) + 1);
        await close(sum(x, axes, true));
        await close(max(x, axes, true));
      }),
      { numRuns: 40, seed },
    );
  });

  it('broadcasting, as NumPy has it', async () => {
    const axis = fc.tuple(size(7), fc.boolean(), fc.boolean());
    const cases = fc.tuple(fc.array(axis, { minLength: 1, maxLength: 4 }), fc.nat(4), fc.nat(4));
    await fc.assert(
      fc.asyncProperty(cases, async ([axes, skipA, skipB]) => {
        const graph = newGraph();
        const operand = (name: string, side: 1 | 2, skip: number): Node =>
          graph.variable(name, axes.map((entry) => (entry[side] ? 1 : entry[0])).slice(Math.min(skip, axes.length)));
        const [a, b] = [operand('a', 1, skipA), operand('b', 2, skipB)];
        await close(add(a, b));
        await close(mul(a, b));
      }),
      { numRuns: 60, seed },
    );
  });

  it('NaN and the infinities go through as IEEE 754 has them', async () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [8]));
    const values = new Map<Node, Value>([
      [x, { shape: [8], data: Float64Array.of(nan, inf, -inf, inf, 0, -0, -1, 3e38) }],
      [y, { shape: [8], data: Float64Array.of(1, 1, 1, -inf, inf, nan, -inf, 3e38) }],
    ]);
    const nodes = [
      relu(x),
      leakyRelu(x, 0.5),
      add(x, y),
      mul(x, y),
      scale(x, 2),
      sum(x),
      sum(y),
      sigmoid(x),
      max(x),
      max(y),
    ];
    const actual = await runOnce(gpu, nodes, values);
    const expected = evaluate(nodes, (node) => values.get(node)!).map(({ data }) => [...data].map(Math.fround));
    // -0 and 0 are not told apart: a device may flush the sign.
    nodes.forEach(({ op }, i) => {
      expect(
        Array.from(actual[i], (v) => v + 0),
        op,
      ).toEqual(expected[i].map((v) => v + 0));
    });
    expect(Array.from(actual[0]).slice(0, 3)).toEqual([nan, inf, 0]);
    expect(actual[5][0]).toBeNaN();
  });
});
