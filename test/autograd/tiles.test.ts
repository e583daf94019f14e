// Kernels that GPUs like, on whatever adapter there is: each against the f64 reference. A selection, because a software adapter's compiler
// takes a second or more for a tiled kernel; scripts/gpu/variants.ts tries every variant at every sample.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { fuseEpilogues } from '../../src/autograd/fuse.ts';
import { type Graph, type Node, sizeOf } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { targetOf } from '../../src/kernels/lower.ts';

let executor: GpuExecutor;
beforeAll(async () => {
  // Poisoned buffers: what no thread writes shows. Default limits: tiles must fit in them.
  executor = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
});
afterAll(() => executor.destroy());

/** ‖gpu − reference‖/‖reference‖ of an expression with one variant forced, and which variants there were. */
async function off(variant: string, build: (graph: Graph) => Node, fuse = false) {
  const graph = newGraph();
  const output = build(graph);
  const random = new Stream(3);
  const values = new Map<string, Float32Array>();
  const [expected] = evaluate([output], (node) => {
    const data = Float32Array.from({ length: sizeOf(node.shape) }, () => random.normal());
    values.set(node.attrs.name, data);
    executor.write(node, data);
    return { shape: node.shape, data: Float64Array.from(data) };
  });
  const offered: string[] = [];
  const choose = (_op: string, _sizes: string, names: readonly string[]): string => {
    offered.push(...names);
    return variant;
  };
  let actual: Float32Array;
  try {
    const plan = await executor.plan(
      { outputs: [output] },
      { fuse, target: { ...targetOf(executor.device.info), choose } },
    );
    plan.run();
    actual = (await plan.read(output)) as Float32Array;
    plan.destroy();
  } finally {
    executor.forget([...values.keys()].map((name) => graph.variable(name, shapeOf(graph, output, name))));
  }
  let difference = 0;
  let norm = 0;
  actual.forEach((v, i) => {
    difference += (v - expected.data[i]) ** 2;
    norm += expected.data[i] ** 2;
  });
  expect(offered).toContain(variant);
  return Math.sqrt(difference / norm);
}
function shapeOf(_graph: Graph, root: Node, name: string): Node['shape'] {
  const stack = [root];
  for (const node of stack) {
    if (node.op === 'variable' && node.attrs.name === name) return node.shape;
    stack.push(...node.inputs);
  }
  throw new Error(name);
}

const same = { strides: [2, 1] as [number, number], padding: [1, 1, 1, 1] as [number, number, number, number] };
const wide = { strides: [2, 2] as [number, number], padding: [2, 2, 1, 2] as [number, number, number, number] };
/** Fours throughout and odd sizes; strides whose phases have unlike numbers of taps. */
const products: [string, (g: Graph) => Node][] = [
  ['dense, fours', (g) => b.dense(g.variable('x', [36, 72]), g.variable('w', [72, 40]))],
  [
    'dense, odd, both transposed',
    (g) => b.dense(g.variable('x', [67, 37]), g.variable('w', [35, 67]), { transposeX: true, transposeW: true }),
  ],
  ['conv2d, fours', (g) => b.conv2d(g.variable('x', [3, 9, 8, 8]), g.variable('f', [5, 5, 8, 12]), wide)],
  ['conv2d, one channel', (g) => b.conv2d(g.variable('x', [2, 9, 8, 1]), g.variable('f', [3, 3, 1, 5]), same)],
  [
    'conv2dInputGrad, fours',
    (g) => b.conv2dInputGrad(g.variable('y', [3, 5, 4, 12]), g.variable('f', [5, 5, 8, 12]), { ...wide, size: [9, 8] }),
  ],
  [
    'conv2dInputGrad, odd',
    (g) => b.conv2dInputGrad(g.variable('y', [2, 5, 8, 5]), g.variable('f', [3, 3, 3, 5]), { ...same, size: [9, 8] }),
  ],
  [
    'conv2dWeightGrad, fours',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [3, 9, 8, 8]), g.variable('y', [3, 5, 4, 12]), { ...wide, kernel: [5, 5] }),
  ],
  [
    'conv2dWeightGrad, odd',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [2, 9, 7, 3]), g.variable('y', [2, 5, 7, 5]), { ...same, kernel: [3, 3] }),
  ],
];

describe('tiled products', () => {
  it.each(products)('%s', async (_, build) => {
    expect(await off('tile 32x32/4', build)).toBeLessThan(2e-6);
  });
  it.each(products.filter(([name]) => name.includes('fours')))('%s, eight by eight a thread', async (_, build) => {
    expect(await off('tile 64x64/8', build)).toBeLessThan(2e-6);
  });
  it.each(products.filter(([name]) => name.includes('odd')))('%s, the depth shared out', async (_, build) => {
    expect(await off('tile 32x32/4 by 2', build)).toBeLessThan(2e-6);
  });
});

/** Sixteen of the depth in one tap, rows and columns that are no whole tiles, phases with unlike numbers of taps. */
const panels: [string, (g: Graph) => Node][] = [
  ['dense', (g) => b.dense(g.variable('x', [70, 48]), g.variable('w', [48, 36]))],
  [
    'dense, left transposed',
    (g) => b.dense(g.variable('x', [70, 68]), g.variable('w', [70, 36]), { transposeX: true }),
  ],
  [
    'dense, right transposed',
    (g) => b.dense(g.variable('x', [19, 64]), g.variable('w', [36, 64]), { transposeW: true }),
  ],
  ['conv2d', (g) => b.conv2d(g.variable('x', [3, 9, 8, 16]), g.variable('f', [5, 5, 16, 36]), wide)],
  [
    'conv2dInputGrad',
    (g) =>
      b.conv2dInputGrad(g.variable('y', [3, 5, 4, 16]), g.variable('f', [5, 5, 36, 16]), { ...wide, size: [9, 8] }),
  ],
  [
    'conv2dWeightGrad',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [3, 9, 7, 8]), g.variable('y', [3, 5, 7, 12]), { ...same, kernel: [3, 3] }),
  ],
];
describe('products in panels', () => {
  it.each(panels)('%s', async (_, build) => {
    for (const variant of ['panel 64x64/8', 'panel 128x32/4', 'panel 64x64/4 by 2'])
      expect(await off(variant, build), variant).toBeLessThan(1e-6);
  });
});

/** More than a subgroup's rows and columns, and not whole multiples of them; taps that meet the image at one end only. */
const bySubgroups: [string, (g: Graph) => Node][] = [
  ['dense', (g) => b.dense(g.variable('x', [37, 70]), g.variable('w', [70, 92]))],
  ['dense, few rows', (g) => b.dense(g.variable('x', [3, 300]), g.variable('w', [300, 4]))],
  [
    'dense, left transposed',
    (g) => b.dense(g.variable('x', [130, 18]), g.variable('w', [130, 76]), { transposeX: true }),
  ],
  [
    'dense, right transposed',
    (g) => b.dense(g.variable('x', [19, 66]), g.variable('w', [36, 66]), { transposeW: true }),
  ],
  ['conv2d', (g) => b.conv2d(g.variable('x', [18, 9, 8, 3]), g.variable('f', [5, 5, 3, 72]), wide)],
  [
    'conv2d, windows beyond the image',
    (g) =>
      b.conv2d(g.variable('x', [2, 3, 2, 2]), g.variable('f', [5, 6, 2, 4]), {
        strides: [3, 2],
        padding: [4, 5, 5, 5],
      }),
  ],
  [
    'conv2dInputGrad',
    (g) => b.conv2dInputGrad(g.variable('y', [18, 5, 4, 5]), g.variable('f', [5, 5, 72, 5]), { ...wide, size: [9, 8] }),
  ],
  [
    'conv2dInputGrad, stride over the kernel',
    (g) =>
      b.conv2dInputGrad(g.variable('y', [3, 3, 3, 2]), g.variable('f', [2, 3, 8, 2]), {
        strides: [3, 2],
        padding: [1, 0, 0, 1],
        size: [7, 6],
      }),
  ],
  [
    'conv2dWeightGrad',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [3, 9, 8, 18]), g.variable('y', [3, 5, 4, 72]), { ...wide, kernel: [5, 5] }),
  ],
  [
    'conv2dWeightGrad, few channels',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [2, 9, 7, 3]), g.variable('y', [2, 5, 7, 4]), { ...same, kernel: [3, 3] }),
  ],
];
describe('products by subgroups of eight lanes', () => {
  it('are on offer', () => {
    // lavapipe has them; elsewhere this file's others say nothing about them.
    expect(targetOf(executor.device.info).subgroups).toBe(executor.device.info.software);
  });
  it.each(bySubgroups)('%s', async (_, build) => {
    for (const variant of ['subgroup 16x64', 'subgroup 16x32'])
      expect(await off(variant, build), variant).toBeLessThan(1e-6);
  });
});

/** More than 32 rows; even numbers of terms but for the weight gradient's, whose rows begin and end in the padding. */
const tall: [string, (g: Graph) => Node][] = [
  ['dense', (g) => b.dense(g.variable('x', [37, 71]), g.variable('w', [71, 92]))],
  ['dense, left transposed', (g) => b.dense(g.variable('x', [5, 34]), g.variable('w', [5, 36]), { transposeX: true })],
  ['conv2d', (g) => b.conv2d(g.variable('x', [34, 5, 4, 6]), g.variable('f', [3, 3, 6, 72]), same)],
  [
    'conv2dInputGrad',
    (g) => b.conv2dInputGrad(g.variable('y', [34, 3, 4, 6]), g.variable('f', [3, 3, 72, 6]), { ...same, size: [5, 4] }),
  ],
  [
    'conv2dWeightGrad',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [3, 9, 7, 36]), g.variable('y', [3, 5, 7, 72]), { ...same, kernel: [3, 3] }),
  ],
];
describe('products by subgroups, 32 rows and two terms a round', () => {
  it.each(tall)('%s', async (_, build) => {
    for (const variant of ['subgroup 32x64', 'subgroup 32x32'])
      expect(await off(variant, build), variant).toBeLessThan(1e-6);
  });
  it('are not offered where a pair of terms would not lie side by side', async () => {
    const odd = (g: Graph): Node => b.conv2d(g.variable('x', [34, 5, 4, 3]), g.variable('f', [3, 3, 3, 8]), same);
    await expect(off('subgroup 32x64', odd)).rejects.toThrow();
  });
});

describe('kernels by whole workgroups', () => {
  it('a matrix product of few outputs', async () => {
    const build = (g: Graph): Node => b.dense(g.variable('x', [5, 259]), g.variable('w', [259, 1]));
    expect(await off('dot', build)).toBeLessThan(1e-6);
  });
  it('transposed convolution to one channel', async () => {
    const build = (g: Graph): Node =>
      b.conv2dInputGrad(g.variable('y', [2, 5, 4, 12]), g.variable('f', [5, 5, 1, 12]), { ...wide, size: [9, 8] });
    expect(await off('direct', build)).toBeLessThan(1e-6);
  });
  it('weight gradient of one channel', async () => {
    const build = (g: Graph): Node =>
      b.conv2dWeightGrad(g.variable('x', [5, 9, 8, 1]), g.variable('y', [5, 5, 8, 5]), { ...same, kernel: [3, 3] });
    expect(await off('direct', build)).toBeLessThan(1e-6);
  });
  it.each([
    [[70, 3], [0]],
    [[3, 20_000], [1]],
    [[9000, 33], [0]],
  ] as [number[], number[]][])('sum of %j over %j', async (shape, axes) => {
    expect(await off('tree', (g) => b.sum(g.variable('x', shape), axes))).toBeLessThan(2e-6);
  });
  it.each([[[2, 3]], [[9001, 5]], [[600, 70]]] as [number[]][])('moments of %j', async (shape) => {
    expect(await off('tree', (g) => b.moments(g.variable('x', shape)))).toBeLessThan(1e-6);
  });
});

describe('epilogues', () => {
  const bias = (g: Graph): Node =>
    b.add(b.dense(g.variable('x', [9, 20]), g.variable('w', [20, 12])), g.variable('b', [12]));
  it.each([
    ['none', bias],
    ['relu', (g: Graph) => b.relu(bias(g))],
    ['leaky relu', (g: Graph) => b.leakyRelu(bias(g), 0.3)],
    ['sigmoid', (g: Graph) => b.sigmoid(bias(g))],
    [
      'the derivative of leaky relu',
      (g: Graph) =>
        b.leakyReluGrad(g.variable('a', [9, 12]), b.dense(g.variable('x', [9, 20]), g.variable('w', [20, 12])), 0.3),
    ],
  ])('%s: in kernels of each kind', async (_, build) => {
    const [fused] = fuseEpilogues([build(newGraph())]);
    expect(fused.op).toBe('dense');
    // Each way to end: joined, apart, and where the shares of a depth are added up.
    for (const variant of ['threads', 'subgroup 16x32', 'tile 32x32/4', 'tile 32x32/4 by 2']) {
      expect(await off(variant, build, true), variant).toBeLessThan(1e-6);
    }
  });

  it('joined or not, the bits are the same', async () => {
    const graph = newGraph();
    const x = graph.variable('image', [8, 6, 5, 8]);
    const y = b.conv2d(x, graph.variable('filter', [3, 2, 8, 8]), { strides: [2, 1], padding: [1, 0, 1, 0] });
    const output = b.leakyRelu(b.add(y, graph.variable('bias', [8])), 0.2);
    const random = new Stream(5);
    for (const name of ['image', 'filter', 'bias']) {
      const node = graph.variable(name, shapeOf(graph, output, name));
      executor.write(
        node,
        Float32Array.from({ length: sizeOf(node.shape) }, () => random.normal()),
      );
    }
    const results: (Float32Array | Uint32Array)[] = [];
    for (const fuse of [false, true]) {
      const plan = await executor.plan({ outputs: [output] }, { fuse });
      expect(plan.stats.dispatches).toBe(fuse ? 1 : 3);
      plan.run();
      results.push(await plan.read(output));
      plan.destroy();
    }
    expect(results[1]).toEqual(results[0]);
  });

  it('what somebody else wants stays apart', () => {
    const graph = newGraph();
    const sum = bias(graph);
    const output = b.relu(sum);
    expect(fuseEpilogues([output, sum]).map(({ op }) => op)).toEqual(['relu', 'dense']);
    expect(fuseEpilogues([b.mul(output, sum)])[0].inputs.map(({ op }) => op)).toEqual(['relu', 'dense']);
  });
});
