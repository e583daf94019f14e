/** Graphs, builders and op refusals at their edges. The reference executor is enough for all of it. */
import { describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { grad, viaExpression } from '../../src/autograd/grad.ts';
import {
  Graph,
  type Node,
  type Op,
  sameShape,
  showIndex,
  showShape,
  sizeOf,
  substitute,
  topological,
} from '../../src/autograd/graph.ts';
import { newGraph, ops } from '../../src/autograd/ops/index.ts';
import { viewBase } from '../../src/autograd/ops/shape.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { decodeMatrix, encodeMatrix, matrixCells } from '../../src/chem/encoding.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { ShapeError } from '../../src/errors.ts';

/** 1, 2, 3, … in every variable. */
const counting = (node: Node) => ({
  shape: node.shape,
  data: Float64Array.from({ length: sizeOf(node.shape) }, (_, i) => i + 1),
});
const computed = (node: Node): number[] => [...evaluate([node], counting)[0].data];
const message = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(ShapeError);
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
};

describe('shapes', () => {
  it('sizes, names and places', () => {
    expect([sizeOf([]), sizeOf([3]), sizeOf([2, 3, 4])]).toEqual([1, 3, 24]);
    expect([showShape([]), showShape([2, 3])]).toEqual(['[]', '[2,3]']);
    expect([sameShape([], []), sameShape([2], [2, 1]), sameShape([2, 1], [2]), sameShape([2, 3], [2, 4])]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect([showIndex(0, [2, 3]), showIndex(5, [2, 3]), showIndex(23, [2, 3, 4]), showIndex(0, [])]).toEqual([
      '[0,0]',
      '[1,2]',
      '[1,2,3]',
      '[]',
    ]);
  });
});

describe('graphs', () => {
  it('every node knows its graph, inputs, type and number', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2]);
    const step = graph.variable('step', [2], 'u32');
    const next = b.increment(step);
    const y = b.relu(x);
    expect([x.dtype, step.dtype, next.dtype, y.dtype]).toEqual(['f32', 'u32', 'u32', 'f32']);
    expect([x.op, y.op, y.inputs, y.graph === graph]).toEqual(['variable', 'relu', [x], true]);
    expect([x, step, next, y].map(({ id }) => id)).toEqual([0, 1, 2, 3]);
    expect(x.attrs).toEqual({ name: 'x' });
    expect(graph.constant(3)).toMatchObject({ op: 'constant', attrs: { value: 3 }, shape: [], dtype: 'f32' });
  });

  it('scopes nest, replace one another, and end where they began, also by a throw', () => {
    const graph = newGraph();
    const [inner, replaced] = graph.within('outer', () => [
      graph.within('inner', () => graph.variable('a', [1])),
      graph.within('other', () => graph.variable('b', [1]), true),
    ]);
    expect(() =>
      graph.within('fails', () => {
        throw new Error('x');
      }),
    ).toThrow('x');
    expect([inner.scope, replaced.scope, graph.variable('c', [1]).scope]).toEqual(['outer inner', 'other', '']);
  });

  it('placeholders are told apart by number, shape and type', () => {
    const graph = newGraph();
    const first = graph.placeholder(0, [2], 'f32');
    expect(graph.placeholder(0, [2], 'f32')).toBe(first);
    for (const other of [
      graph.placeholder(1, [2], 'f32'),
      graph.placeholder(0, [3], 'f32'),
      graph.placeholder(0, [2], 'u32'),
    ]) {
      expect(other).not.toBe(first);
    }
    expect(first).toMatchObject({ op: 'placeholder', attrs: { index: 0 }, shape: [2] });
  });

  it('refusals in full', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2, 3]);
    const u = graph.variable('u', [2], 'u32');
    expect(message(() => graph.variable('x', [3, 2]))).toBe('variable x: [3,2] but it is [2,3] already');
    expect(message(() => graph.variable('x', [2, 3], 'u32'))).toBe('variable x: [2,3] but it is [2,3] already');
    for (const shape of [[2, 0], [-1], [1.5], [Number.NaN]]) {
      expect(message(() => graph.variable('y', shape))).toBe(
        `variable: [${shape}] has a dimension that is no whole number of at least 1`,
      );
    }
    expect(message(() => graph.apply('conv3d', [x]))).toMatch(/^conv3d: there is no such op; the table has \w+, \w+/);
    expect(message(() => b.relu(u))).toBe('relu: input 0 is u32, it takes f32');
    expect(message(() => b.increment(x))).toBe('increment: input 0 is f32, it takes u32');
    expect(message(() => b.add(x, newGraph().variable('y', [2, 3])))).toBe('add: input 1 belongs to another graph');
  });

  it('topological: each node once, inputs first, in the order of the roots', () => {
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [2]));
    const both = b.add(b.relu(x), y);
    expect(topological([])).toEqual([]);
    expect(topological([x, x])).toEqual([x]);
    expect(topological([both, b.relu(x), b.square(both)])).toEqual([x, b.relu(x), y, both, b.square(both)]);
  });

  it('substitute: a root itself, a rewriting, and scopes kept', () => {
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [2]));
    const scoped = graph.within('layer', () => b.square(x));
    expect(substitute([x, y], new Map([[x, y]]))).toEqual([y, y]);
    const [moved] = substitute([scoped], new Map([[x, y]]));
    expect([moved, moved.scope]).toEqual([b.square(y), 'layer']);
    const [rewritten] = substitute([b.relu(b.square(x))], new Map(), (node) =>
      node.op === 'square' ? b.mul(node.inputs[0], node.inputs[0]) : node,
    );
    expect(rewritten).toBe(b.relu(b.mul(x, x)));
  });
});

describe('builders', () => {
  const graph = newGraph();
  const x = graph.variable('x', [2, 3, 4]);
  const scalar = graph.variable('scalar', []);

  it('reductions: axes from the end, twice the same, apart from one another, kept or not', () => {
    expect(b.sum(x, [-1])).toBe(b.sum(x, [2]));
    expect(b.sum(x, [0, 0, -3])).toBe(b.sum(x, [0]));
    expect([b.sum(x).shape, b.sum(x, [0, 2]).shape, b.sum(x, [0, 2], true).shape]).toEqual([[], [3], [1, 3, 1]]);
    expect([b.max(x, [1]).shape, b.max(x, [1], true).shape, b.mean(x, [1, 2]).shape]).toEqual([[2, 4], [2, 1, 4], [2]]);
    expect(computed(b.sum(x))).toEqual([300]);
    expect(computed(b.sum(x, [0, 2]))).toEqual([68, 100, 132]);
    expect(computed(b.sum(x, [1, 2]))).toEqual([78, 222]);
    expect(computed(b.max(x, [0, 1]))).toEqual([21, 22, 23, 24]);
    expect(computed(b.mean(x, [0]))).toEqual(Array.from({ length: 12 }, (_, i) => i + 7));
    expect(computed(b.mean(x))).toEqual([12.5]);
    // Neighbouring axes are one reduction, others one each.
    const count = (node: Node, op: string): number => topological([node]).filter((n) => n.op === op).length;
    expect([count(b.sum(x, [0, 1]), 'sum'), count(b.sum(x, [1, 2]), 'sum'), count(b.sum(x, [0, 2]), 'sum')]).toEqual([
      1, 1, 2,
    ]);
    expect([b.sum(scalar), b.max(scalar), b.mean(scalar)]).toEqual([scalar, scalar, scalar]);
  });

  it('sumTo undoes broadcasting and nothing else', () => {
    expect(b.sumTo(x, [2, 3, 4])).toBe(x);
    expect(computed(b.sumTo(x, [3, 4]))).toEqual(Array.from({ length: 12 }, (_, i) => 2 * i + 14));
    expect(computed(b.sumTo(x, [2, 1, 4]))).toEqual([15, 18, 21, 24, 51, 54, 57, 60]);
    expect(computed(b.sumTo(x, [1, 1]))).toEqual([300]);
    expect(b.sumTo(x, [1, 1]).shape).toEqual([1, 1]);
    const thin = graph.variable('thin', [2, 1]);
    expect(b.sumTo(thin, [1]).shape).toEqual([1]);
    expect(computed(b.sumTo(thin, [2, 1]))).toEqual([1, 2]);
  });

  it('a constant factor is a scaling, where the result keeps its shape', () => {
    const three = graph.constant(3);
    expect(b.mul(x, three)).toBe(b.scale(x, 3));
    expect(b.mul(three, x)).toBe(b.scale(x, 3));
    expect(b.mul(x, b.fill(graph, 3, [2, 3, 4]))).toBe(b.scale(x, 3));
    expect(b.mul(b.fill(graph, 3, [2, 3, 4]), x)).toBe(b.scale(x, 3));
    // A constant that is larger, or that adds axes, shapes the result.
    expect(b.mul(scalar, b.fill(graph, 3, [2])).shape).toEqual([2]);
    expect(computed(b.mul(scalar, b.fill(graph, 3, [2])))).toEqual([3, 3]);
    const one = graph.variable('one', [1]);
    expect(b.mul(one, b.fill(graph, 3, [1, 1])).shape).toEqual([1, 1]);
    expect(b.mul(x, b.fill(graph, 3, [4]))).not.toBe(b.scale(x, 3));
    expect(b.mul(x, x).op).toBe('mul');
    expect([b.scale(x, 1), b.scale(x, 1, 1) === x, b.scale(x, 2, 0).op, b.neg(x)]).toEqual([
      x,
      false,
      'scale',
      b.scale(x, -1),
    ]);
  });

  it('an expanded operand broadcasts by itself', () => {
    const row = graph.variable('row', [4]);
    const wide = b.expand(row, [2, 3, 4]);
    expect(b.add(x, wide)).toBe(b.add(x, row));
    expect(b.sub(wide, x)).toBe(b.sub(row, x));
    // Not where the result would lose axes.
    const narrow = b.expand(scalar, [4]);
    expect(b.add(narrow, x).inputs[0]).toBe(narrow);
    expect(b.add(narrow, b.expand(graph.variable('other', []), [4])).shape).toEqual([4]);
    expect(b.add(wide, wide).shape).toEqual([2, 3, 4]);
  });

  it('views, rows, packs and concatenation', () => {
    expect(b.view(x, 0, [24]).op).toBe('view');
    expect(b.view(x, 0, [2, 3, 4])).toBe(x);
    expect(b.rows(x, 0, 2)).toBe(x);
    expect(computed(b.rows(x, 1, 2))).toEqual(Array.from({ length: 12 }, (_, i) => i + 13));
    const y = graph.variable('y', [1, 3, 4]);
    const joined = b.concat([y, x, y]);
    expect(joined.shape).toEqual([4, 3, 4]);
    expect(computed(joined).slice(0, 14)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2]);
    expect(computed(joined).slice(36)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(message(() => b.concat([x, graph.variable('z', [2, 3, 5])]))).toBe('concat: [2,3,5] beside [2,3,4]');
    expect(computed(b.pack([graph.variable('two', [2])], [1], 5))).toEqual([0, 1, 2, 0, 0]);
    const nested = b.view(b.view(b.relu(x), 4, [20]), 3, [5]);
    expect(viewBase(nested)).toEqual({ base: b.relu(x), offset: 7 });
    expect(viewBase(x)).toEqual({ base: x, offset: 0 });
    expect(viewBase(b.stopGradient(b.reshape(nested, [1, 5])))).toEqual({ base: b.relu(x), offset: 7 });
  });

  it.each<[[number, number], [number, number], [number, number], [number, number, number, number]]>([
    [
      [85, 8],
      [3, 3],
      [2, 1],
      [1, 1, 1, 1],
    ],
    [
      [43, 8],
      [3, 3],
      [2, 1],
      [1, 1, 1, 1],
    ],
    [
      [4, 4],
      [5, 2],
      [2, 2],
      [1, 2, 0, 0],
    ],
    [
      [7, 6],
      [2, 3],
      [1, 4],
      [0, 1, 0, 1],
    ],
    [
      [4, 4],
      [1, 1],
      [4, 2],
      [0, 0, 0, 0],
    ],
  ])('samePadding of %j by %j at %j', (size, kernel, strides, padding) => {
    expect(b.samePadding(size, kernel, strides)).toEqual(padding);
  });

  it('dense and convolutions fill in what is not said, and copy what is', () => {
    const m = graph.variable('m', [2, 2]);
    expect(b.dense(m, m).attrs).toEqual({ transposeX: false, transposeW: false });
    expect(b.dense(m, m, { transposeX: true }).attrs).toEqual({ transposeX: true, transposeW: false });
    const strides: [number, number] = [1, 1];
    const padding: [number, number, number, number] = [0, 0, 0, 0];
    const conv = b.conv2d(graph.variable('i', [1, 2, 2, 1]), graph.variable('f', [1, 1, 1, 1]), { strides, padding });
    strides[0] = 9;
    padding[0] = 9;
    expect(conv.attrs).toEqual({ strides: [1, 1], padding: [0, 0, 0, 0] });
  });
});

describe('gradients', () => {
  it('refusals in full', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2]);
    const state = graph.variable('state', [2]);
    expect(message(() => grad(x, [x]))).toBe('grad: the output is [2], not a scalar; give a cotangent of that shape');
    expect(message(() => grad(x, [x], b.sum(x)))).toBe('grad: cotangent [] for an output [2]');
    expect(message(() => grad(b.sum(b.ema(state, x, 0.5)), [x]))).toBe(
      'grad: ema has no gradient: an update of state is the end of a graph',
    );
    // Where it is not on the way it does not matter.
    expect(computed(grad(b.sum(b.mul(b.ema(state, state, 0.5), x)), [x])[0])).toEqual([1, 2]);
  });

  it('a rule of another shape is caught, by input and shapes', () => {
    const wrong: Op = { ...ops.relu, vjp: (_node, g) => [() => b.reshape(g, [1, 2])] };
    const graph = new Graph({ ...ops, wrong });
    const x = graph.variable('x', [2]);
    expect(message(() => grad(b.sum(graph.apply('wrong', [x])), [x]))).toBe(
      'wrong: its gradient rule gives [1,2] for input 0 of [2]',
    );
  });

  it('of the output itself, with and without a cotangent; stopGradient stops', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2]);
    const y = b.sum(x);
    expect(grad(y, [y])).toEqual([graph.constant(1)]);
    const g = graph.variable('g', [2]);
    expect(grad(x, [x], g)).toEqual([g]);
    expect(grad(b.sum(b.stopGradient(x)), [x])).toEqual([b.fill(graph, 0, [2])]);
    expect(computed(grad(b.sum(b.mul(b.stopGradient(x), x)), [x])[0])).toEqual([1, 2]);
    expect(computed(grad(b.square(x), [x], g)[0])).toEqual([2, 8]);
  });

  it('viaExpression: stand-ins keep an input that depends on another from counting twice', () => {
    const product: Op = {
      ...ops.mul,
      shape: ([a]) => a.shape,
      vjp: viaExpression(([p, q]) => b.mul(p, q)),
    };
    const graph = new Graph({ ...ops, product });
    const x = graph.variable('x', [2]);
    const y = b.square(x);
    const out = b.sum(graph.apply('product', [x, y]));
    // d(x·y)/dx at y held fixed is y; through y as well it is 3x².
    expect(computed(grad(out, [x, y])[1])).toEqual([1, 2]);
    expect(computed(grad(out, [x])[0])).toEqual([3, 12]);
  });

  it('each rule’s new nodes are traced in a scope that names where they come from', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2]);
    const y = graph.within('layer', () => b.sigmoid(x));
    const [g] = grad(b.sum(y), [x]);
    expect(g.scope).toBe('gradient of layer');
    expect(grad(b.sum(b.tanh(x)), [x])[0].scope).toBe('gradient of tanh');
  });
});

describe('ops refuse, in full', () => {
  const graph = newGraph();
  let count = 0;
  const v = (...shape: number[]): Node => graph.variable(`v${count++}`, shape);
  const u = (...shape: number[]): Node => graph.variable(`v${count++}`, shape, 'u32');
  const conv = { strides: [1, 1] as [number, number], padding: [0, 0, 0, 0] as [number, number, number, number] };
  const at = { key: [1, 2] as [number, number], stream: 0 };

  it.each<[string, () => unknown, string]>([
    ['add', () => b.add(v(2, 3), v(2)), 'add: [2,3] and [2] do not broadcast: 3 against 2'],
    [
      'add',
      () => b.add(v(2, 1, 2, 1, 2, 1), v(1, 2, 1, 2, 1, 2)),
      'add: [2,1,2,1,2,1] and [1,2,1,2,1,2] broadcast in more than four groups of axes',
    ],
    ['expand', () => b.expand(v(2, 3), [3]), 'expand: [2,3] does not broadcast to [3]'],
    ['expand', () => b.expand(v(3), [2]), 'expand: [3] and [2] do not broadcast: 3 against 2'],
    ['reshape', () => b.reshape(v(2, 3), [4]), 'reshape: [2,3] has 6 elements, [4] wants 4'],
    ['view', () => b.view(v(4), 3, [2]), 'view: [2] at 3 does not fit into the 4 elements of [4]'],
    ['view', () => b.view(v(4), -1, [2]), 'view: [2] at -1 does not fit into the 4 elements of [4]'],
    ['view', () => b.view(v(4), 0.5, [2]), 'view: [2] at 0.5 does not fit into the 4 elements of [4]'],
    ['pack', () => b.pack([v(3), v(3)], [0, 2], 9), 'pack: input 1, [3] at 2, overlaps or leaves [9]'],
    ['pack', () => b.pack([v(3)], [7], 9), 'pack: input 0, [3] at 7, overlaps or leaves [9]'],
    ['pack', () => b.pack([v(3)], [-1], 9), 'pack: input 0, [3] at -1, overlaps or leaves [9]'],
    ['pack', () => b.pack([v(3)], [0.5], 9), 'pack: input 0, [3] at 0.5, overlaps or leaves [9]'],
    ['sum', () => graph.apply('sum', [v(3)], { from: 0, to: 2 }), 'sum: axes 0 to 2 of [3]'],
    ['sum', () => graph.apply('sum', [v(3)], { from: -1, to: 1 }), 'sum: axes -1 to 1 of [3]'],
    ['max', () => graph.apply('max', [v(3)], { from: 0.5, to: 1 }), 'max: axes 0.5 to 1 of [3]'],
    ['max', () => graph.apply('max', [v(3)], { from: 0, to: 0.5 }), 'max: axes 0 to 0.5 of [3]'],
    ['dense', () => b.dense(v(3), v(3, 2)), 'dense: it takes two matrices, not [3] and [3,2]'],
    ['dense', () => b.dense(v(2, 3), v(3)), 'dense: it takes two matrices, not [2,3] and [3]'],
    ['dense', () => b.dense(v(2, 3), v(4, 5)), 'dense: input [2,3] has 3 features, weights [4,5] want 4'],
    [
      'conv2d',
      () => b.conv2d(v(1, 2, 2), v(1, 1, 1, 1), conv),
      'conv2d: it takes images [n,h,w,c] and a filter [kh,kw,in,out], not [1,2,2] and [1,1,1,1]',
    ],
    [
      'conv2d',
      () => b.conv2d(v(1, 2, 2, 1), v(1, 1, 1), conv),
      'conv2d: it takes images [n,h,w,c] and a filter [kh,kw,in,out], not [1,2,2,1] and [1,1,1]',
    ],
    [
      'conv2d',
      () => b.conv2d(v(1, 2, 2, 1), v(1, 1, 2, 1), conv),
      'conv2d: input [1,2,2,1] has 1 channel, filter [1,1,2,1] wants 2',
    ],
    [
      'conv2d',
      () => b.conv2d(v(1, 2, 2, 3), v(1, 1, 2, 1), conv),
      'conv2d: input [1,2,2,3] has 3 channels, filter [1,1,2,1] wants 2',
    ],
    ...[[1], [0, 1], [1, 0], [1, 1.5]].map((strides): [string, () => unknown, string] => [
      'conv2d',
      () => b.conv2d(v(1, 2, 2, 1), v(1, 1, 1, 1), { ...conv, strides: strides as [number, number] }),
      `conv2d: strides [${strides}] are not two whole numbers of at least 1`,
    ]),
    ...[
      [0, 0, 0],
      [0, 0, 0, -1],
      [0, 0.5, 0, 0],
    ].map((padding): [string, () => unknown, string] => [
      'conv2d',
      () => b.conv2d(v(1, 2, 2, 1), v(1, 1, 1, 1), { ...conv, padding: padding as [number, number, number, number] }),
      `conv2d: padding [${padding}] is not top, bottom, left, right of at least 0`,
    ]),
    [
      'conv2d',
      () => b.conv2d(v(1, 2, 5, 1), v(3, 1, 1, 1), conv),
      'conv2d: filter [3,1,1,1] is larger than the padded input [1,2,5,1]',
    ],
    [
      'conv2d',
      () => b.conv2d(v(1, 5, 2, 1), v(1, 3, 1, 1), conv),
      'conv2d: filter [1,3,1,1] is larger than the padded input [1,5,2,1]',
    ],
    [
      'conv2dInputGrad',
      () => b.conv2dInputGrad(v(1, 4, 4, 2), v(1, 1, 1, 2), { ...conv, size: [5, 4] }),
      'conv2dInputGrad: output [1,4,4,2] where these sizes, strides and padding make [1,5,4,2]',
    ],
    [
      'conv2dWeightGrad',
      () => b.conv2dWeightGrad(v(2, 4, 4, 1), v(1, 4, 4, 2), { ...conv, kernel: [1, 1] }),
      'conv2dWeightGrad: output [1,4,4,2] where these sizes, strides and padding make [2,4,4,2]',
    ],
    ['moments', () => b.moments(v(3)), 'moments: [3] has no channel axis beside others'],
    ['batchNorm', () => b.batchNorm(v(4, 3), v(2), v(3), 1e-5), 'batchNorm: gamma [2] for 3 channels, it wants [3]'],
    ['batchNorm', () => b.batchNorm(v(4, 3), v(3), v(2), 1e-5), 'batchNorm: beta [2] for 3 channels, it wants [3]'],
    [
      'batchNormGrad',
      () => b.batchNormGrad(v(4, 3), v(3), v(3, 4), 1e-5),
      'batchNormGrad: cotangent [3,4] for x [4,3]',
    ],
    [
      'batchNormGrad',
      () => b.batchNormGrad(v(4, 3), v(2), v(4, 3), 1e-5),
      'batchNormGrad: gamma [2] for 3 channels, it wants [3]',
    ],
    [
      'batchNormSums',
      () => b.batchNormSums(v(3, 4), v(4, 3), v(2, 3), 1e-5),
      'batchNormSums: cotangent [3,4] for x [4,3]',
    ],
    [
      'batchNormSums',
      () => b.batchNormSums(v(4, 3), v(4, 3), v(3), 1e-5),
      'batchNormSums: stats [3] for 3 channels, it wants [2,3]',
    ],
    [
      'batchNormApplyGrad',
      () => b.batchNormApplyGrad(v(4, 3), v(4, 3), v(2, 3), v(3), v(3), 1e-5),
      'batchNormApplyGrad: sums [3] for 3 channels, it wants [2,3]',
    ],
    [
      'normalise',
      () => b.normalise(v(4, 3), v(2, 2), v(3), v(3), 1e-5),
      'normalise: stats [2,2] for 3 channels, it wants [2,3]',
    ],
    ['layerNorm', () => b.layerNorm(v(4, 3), v(2), v(3), 1e-5), 'layerNorm: gamma [2] for 3 channels, it wants [3]'],
    ['diceLoss', () => b.diceLoss(v(3), v(4)), 'diceLoss: [3] against [4]'],
    ['gradientPenalty', () => b.gradientPenalty(v(4)), 'gradientPenalty: [4] has no batch axis'],
    ['gradientPenalty', () => b.gradientPenalty(v(4, 2), v(3, 1)), 'gradientPenalty: [3,1] beside [4,2]: unequal rows'],
    ['absentSoftmax', () => b.absentSoftmax(v(4)), 'absentSoftmax: [4] has no axis of states'],
    ['randomNormal', () => b.randomNormal(u(3), [2], at), 'randomNormal: the step counter is [2], not [3]'],
    ['randomUniform', () => b.randomUniform(u(1, 2), [2], at), 'randomUniform: the step counter is [2], not [1,2]'],
    ['increment', () => b.increment(u(3)), 'increment: the step counter is [2], not [3]'],
    ...[0, 1.5, 2 ** 30].map((rows): [string, () => unknown, string] => [
      'sampleRows',
      () => b.sampleRows(u(2), { ...at, rows, batch: 1, draw: 0, draws: 1 }),
      `sampleRows: ${rows} rows, it takes 1 to 2^30 - 1`,
    ]),
    ...[-1, 2].map((draw): [string, () => unknown, string] => [
      'sampleRows',
      () => b.sampleRows(u(2), { ...at, rows: 5, batch: 1, draw, draws: 2 }),
      `sampleRows: draw ${draw} of 2`,
    ]),
    [
      'sampleRows',
      () => b.sampleRows(u(3), { ...at, rows: 5, batch: 1, draw: 0, draws: 2 }),
      'sampleRows: the step counter is [2], not [3]',
    ],
    [
      'randomFormulas',
      () => b.randomFormulas(u(2), v(773), { ...at, batch: 1 }),
      'randomFormulas: sums [773], it takes [774]',
    ],
    [
      'randomFormulas',
      () => b.randomFormulas(u(3), v(774), { ...at, batch: 1 }),
      'randomFormulas: the step counter is [2], not [3]',
    ],
    ['gather', () => b.gather(v(3), u(2)), 'gather: table [3] and rows [2]'],
    ['gather', () => b.gather(v(3, 2), u(2, 1)), 'gather: table [3,2] and rows [2,1]'],
    ['unfold', () => b.unfold(u(3, 3), u(2)), 'unfold: packed [3,3] and rows [2]'],
    ['unfold', () => b.unfold(u(12), u(2)), 'unfold: packed [12] and rows [2]'],
    ['unfold', () => b.unfold(u(3, 4), u(2, 1)), 'unfold: packed [3,4] and rows [2,1]'],
    ['decode', () => b.decode(v(2, 85, 7, 1), 'paper'), 'decode: [2,85,7,1] is not [batch,85,8,1]'],
    ['decode', () => b.decode(v(85, 8, 1), 'argmax'), 'decode: [85,8,1] is not [batch,85,8,1]'],
    ['ema', () => b.ema(v(2), v(3), 0.9), 'ema: average [2] of [3]'],
    ...(
      [
        [[2, 3], [3], [2]],
        [[3, 4], [3], [2]],
        [[3, 3], [3, 1], [2]],
        [[3, 3], [3], [3]],
      ] as const
    ).map(([state, gradient, step]): [string, () => unknown, string] => [
      'adam',
      () =>
        graph.apply('adam', [v(...state), v(...gradient), u(...step)], {
          learningRate: 1,
          decayFrom: 0,
          decayTo: 0,
          every: 1,
          offset: 0,
          clip: 0,
          beta1: 0.5,
          beta2: 0.9,
          eps: 1e-8,
        }),
      `adam: state [${state}], gradient [${gradient}], step [${step}]; it takes [3,p], [p], [2]`,
    ]),
  ])('%s', (_, call, expected) => {
    expect(message(call)).toBe(expected);
  });

  it('and accept what is just inside', () => {
    expect(b.sampleRows(u(2), { ...at, rows: 2 ** 30 - 1, batch: 3, draw: 1, draws: 2 })).toMatchObject({
      shape: [3],
      dtype: 'u32',
    });
    expect(b.conv2d(v(1, 2, 2, 1), v(2, 2, 1, 1), conv).shape).toEqual([1, 1, 1, 1]);
    expect(b.conv2d(v(1, 2, 2, 1), v(4, 3, 1, 1), { ...conv, padding: [1, 1, 0, 1] }).shape).toEqual([1, 1, 1, 1]);
    expect(b.view(v(4), 2, [2]).shape).toEqual([2]);
    expect(b.pack([v(3), v(2)], [0, 3], 5).shape).toEqual([5]);
    expect(b.add(v(2, 1, 2), v(1, 2, 1)).shape).toEqual([2, 2, 2]);
    expect(b.unfold(u(3, 4), u(7)).shape).toEqual([7, 85, 8, 1]);
    expect(b.decode(v(2, 85, 8, 1), 'paper')).toMatchObject({ shape: [2, 4], dtype: 'u32' });
  });
});

describe('optimisers by hand', () => {
  const common = { learningRate: 0.1, decayFrom: 0, decayTo: 0, every: 1, offset: 0, clip: 0 };
  /** The state after one update, from weights 1, 2 and moments as given. */
  const updated = (name: 'adam' | 'rmsProp' | 'sgd', own: object, state: number[], g: number[], step = 0): number[] => {
    const graph = newGraph();
    const [s, gradient] = [graph.variable('s', [state.length / 2, 2]), graph.variable('g', [2])];
    const counter = graph.variable('step', [2], 'u32');
    const data = new Map<Node, number[]>([
      [s, state],
      [gradient, g],
      [counter, [step, 0]],
    ]);
    const node = graph.apply(name, [s, gradient, counter], { ...common, ...own });
    return [...evaluate([node], (v) => ({ shape: v.shape, data: Float64Array.from(data.get(v)!) }))[0].data];
  };
  const close = (actual: number[], expected: number[]): void => {
    expect(actual).toHaveLength(expected.length);
    actual.forEach((v, i) => {
      expect(v).toBeCloseTo(expected[i], 12);
    });
  };

  it('sgd, with momentum and clipping', () => {
    close(updated('sgd', { momentum: 0.5 }, [1, 2, 4, -8], [1, 1]), [0.7, 2.3, 3, -3]);
    close(updated('sgd', { momentum: 0, clip: 0.5 }, [1, -2, 0, 0], [0, 0]), [0.5, -0.5, 0, 0]);
    close(updated('sgd', { momentum: 0, clip: 5 }, [1, -2, 0, 0], [0, 0]), [1, -2, 0, 0]);
  });

  it('rmsProp', () => {
    // v = 0.9·4 + 0.1·9; w = 1 − 0.1·3/(√v + 1).
    const v = 0.9 * 4 + 0.1 * 9;
    close(updated('rmsProp', { rho: 0.9, eps: 1 }, [1, 2, 4, 0], [3, 0]), [1 - 0.3 / (Math.sqrt(v) + 1), 2, v, 0]);
  });

  it('adam, its bias corrected by the number of the update', () => {
    const [beta1, beta2, eps] = [0.5, 0.75, 0.25];
    for (const [step, own, t] of [
      [0, {}, 1],
      [2, {}, 3],
      [2, { every: 5, offset: 3 }, 14],
    ] as const) {
      const m = beta1 * 1 + (1 - beta1) * 3;
      const v = beta2 * 2 + (1 - beta2) * 9;
      const w = 1 - (0.1 * (m / (1 - beta1 ** t))) / (Math.sqrt(v / (1 - beta2 ** t)) + eps);
      const state = updated('adam', { beta1, beta2, eps, ...own }, [1, 2, 1, 0, 2, 0], [3, 0], step);
      close(state, [w, 2, m, 0, v, 0]);
    }
  });

  it('the rate falls in a line from one update to another, and is 0 behind', () => {
    const moved = (step: number, own: object): number =>
      1 - updated('sgd', { momentum: 0, ...own }, [1, 0, 0, 0], [1, 0], step)[0];
    const decay = { decayFrom: 10, decayTo: 20 };
    expect(moved(0, decay)).toBeCloseTo(0.1, 12);
    expect(moved(9, decay)).toBeCloseTo(0.1, 12);
    expect(moved(14, decay)).toBeCloseTo(0.05, 12);
    expect(moved(19, decay)).toBeCloseTo(0, 12);
    expect(moved(99, decay)).toBeCloseTo(0, 12);
    expect(moved(99, { decayFrom: 10, decayTo: 10 })).toBeCloseTo(0.1, 12);
    expect(moved(99, { decayFrom: 11, decayTo: 10 })).toBeCloseTo(0.1, 12);
  });
});

describe('the reference executor', () => {
  it('unwritten variables are zero, words stay words, and nothing is shared with the caller', async () => {
    const executor = new ReferenceExecutor();
    const graph = newGraph();
    const x = graph.variable('x', [2]);
    const step = graph.variable('step', [2], 'u32');
    expect(await executor.read(x)).toEqual(new Float32Array(2));
    expect(await executor.read(step)).toEqual(new Uint32Array(2));
    const mine = Float32Array.of(1, 2);
    executor.write(x, mine);
    mine[0] = 9;
    const read = await executor.read(x);
    expect(read).toEqual(Float32Array.of(1, 2));
    read[1] = 9;
    expect(await executor.read(x)).toEqual(Float32Array.of(1, 2));
    const plan = await executor.plan({ outputs: [b.scale(x, 3)], updates: [[step, b.increment(step)]] });
    plan.run();
    expect(await plan.read(b.scale(x, 3))).toEqual(Float32Array.of(3, 6));
    expect(await executor.read(step)).toEqual(Uint32Array.of(1, 0));
    expect([await plan.profile(), await plan.anomaly(), plan.stats.dispatches]).toEqual([[], undefined, 0]);
    plan.destroy();
    executor.forget([x]);
    expect(await executor.read(x)).toEqual(new Float32Array(2));
    executor.write(x, mine);
    executor.destroy();
    expect(await executor.read(x)).toEqual(new Float32Array(2));
  });

  it('the first number that is none, by element and kind, once it is asked for', async () => {
    const executor = new ReferenceExecutor();
    const x = newGraph().variable('x', [3]);
    const [root, log] = [b.sqrt(x), b.log(x)];
    const plan = await executor.plan({ outputs: [root, log] }, { detectAnomaly: true });
    executor.write(x, Float32Array.of(1, 4, 9));
    plan.run();
    expect(await plan.anomaly()).toBeUndefined();
    executor.write(x, Float32Array.of(1, -4, 0));
    plan.run();
    expect(await plan.anomaly()).toEqual({ node: root, element: 1, value: 'NaN' });
    executor.write(x, Float32Array.of(1, 4, 0));
    plan.run();
    expect(await plan.anomaly()).toEqual({ node: log, element: 2, value: 'an infinity' });
    const unasked = await executor.plan({ outputs: [log] });
    unasked.run();
    expect(await unasked.anomaly()).toBeUndefined();
  });
});

describe('formulas in and out, against the packing of src/chem', () => {
  const random = new Stream(5);
  const run = (node: Node, data: ReadonlyMap<Node, ArrayLike<number>>): number[] => [
    ...evaluate([node], (v) => ({ shape: v.shape, data: Float64Array.from(data.get(v)!) }))[0].data,
  ];

  it('unfold writes the matrices that encodeMatrix writes', () => {
    const { packed, rows } = synthesize({ count: 40, seed: 6 });
    const graph = newGraph();
    const [words, chosen] = [graph.variable('words', [rows, 4], 'u32'), graph.variable('rows', [5], 'u32')];
    const picked = [39, 0, 7, 7, 20];
    const cells = run(b.unfold(words, chosen), new Map([[words, packed] as const, [chosen, Uint32Array.from(picked)]]));
    expect(cells).toEqual(picked.flatMap((row) => [...encodeMatrix(packed, row)]));
  });

  it.each(['paper', 'argmax'] as const)('decode by the rule %s reads what decodeMatrix reads', (rule) => {
    const batch = 60;
    const cells = Float64Array.from({ length: batch * matrixCells }, () => {
      // Few cells are on, some exactly at a threshold, some equal.
      const u = random.uniform();
      return u < 0.985 ? 0.19 * u : [0.2, 0.3, 0.5, 0.5, 0.7, 0.9][random.below(6)];
    });
    const graph = newGraph();
    const node = graph.variable('cells', [batch, 85, 8, 1]);
    const words = run(b.decode(node, rule), new Map([[node, cells]]));
    const expected = Array.from({ length: batch }, (_, n) => decodeMatrix(cells, n * matrixCells, rule));
    expect(words).toEqual(expected.flatMap((row) => (row ? [...row] : [0, 0, 0, 0])));
    const found = expected.filter((row) => row !== null).length;
    expect(found).toBeGreaterThan(5);
    expect(found).toBeLessThan(batch);
  });
});

describe('roundings', () => {
  // Of each op's last sample, and fixed on purpose: a tolerance follows from them, and must not grow unseen. A sum of n
  // numbers is n − 1 additions (or its tree's depth), a matrix product or a convolution has one product more.
  const known: Record<string, number> = {
    dense: 131,
    conv2d: 586,
    conv2dInputGrad: 103,
    conv2dWeightGrad: 49,
    moments: 24,
    normalise: 16,
    batchNorm: 48,
    batchNormGrad: 80,
    layerNorm: 300,
    batchNormSums: 32,
    batchNormApplyGrad: 32,
    diceLoss: 188,
    wassersteinCritic: 16,
    wassersteinGenerator: 16,
    gradientPenalty: 188,
    absentSoftmax: 64,
    scale: 4,
    relu: 0,
    leakyRelu: 2,
    sigmoid: 16,
    tanh: 32,
    exp: 16,
    log: 32,
    sqrt: 8,
    rsqrt: 12,
    square: 1,
    reciprocal: 6,
    abs: 0,
    add: 1,
    sub: 1,
    mul: 1,
    div: 6,
    leakyReluGrad: 2,
    sigmoidGrad: 16,
    equal: 0,
    stopGradient: 0,
    expand: 0,
    sum: 70,
    max: 0,
    reshape: 0,
    view: 0,
    pack: 0,
    randomNormal: 64,
    randomUniform: 0,
    randomMask: 1,
    sampleRows: 0,
    randomFormulas: 0,
    iota: 0,
    gather: 0,
    unfold: 0,
    unfoldDense: 8,
    decode: 0,
    increment: 0,
    adam: 64,
    rmsProp: 64,
    sgd: 64,
    ema: 8,
  };

  it.each(Object.keys(ops))('%s', (name) => {
    const op: Op = ops[name as keyof typeof ops];
    const { inputs, attrs = {} } = op.samples[op.samples.length - 1];
    const graph = newGraph();
    const nodes = inputs.map(({ shape }, i) => graph.variable(`x${i}`, shape, op.inputTypes?.[i] ?? 'f32'));
    expect(op.roundings(graph.apply(name, nodes, attrs))).toBe(known[name]);
  });
});
