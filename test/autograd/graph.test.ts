import { describe, expect, it } from 'vitest';
import {
  add,
  batchNorm,
  batchNormGrad,
  concat,
  dense,
  expand,
  fill,
  mul,
  relu,
  reshape,
  rows,
  scale,
  square,
  sum,
  sumTo,
  view,
} from '../../src/autograd/build.ts';
import { expandOps } from '../../src/autograd/compile.ts';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { type Node, substitute, topological, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { ShapeError } from '../../src/errors.ts';

const value = (node: Node, seed = 1): Value => {
  const random = new Stream(seed, node.id);
  return {
    shape: node.shape,
    data: Float64Array.from({ length: node.shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
  };
};

describe('graph', () => {
  it('equal expressions are one node', () => {
    const graph = newGraph();
    const x = graph.variable('x', [2, 3]);
    expect(graph.variable('x', [2, 3])).toBe(x);
    expect(relu(x)).toBe(relu(x));
    expect(add(square(x), relu(x))).toBe(add(square(x), relu(x)));
    expect(scale(x, 2)).not.toBe(scale(x, 3));
    expect(add(x, relu(x))).not.toBe(add(relu(x), x));
    expect(graph.constant(1)).toBe(graph.constant(1));
    expect(graph.constant(0)).not.toBe(graph.constant(-0));
    expect(graph.constant(Number.NaN)).toBe(graph.constant(Number.NaN));
  });

  it('neutral calls add nothing', () => {
    const x = newGraph().variable('x', [2, 3]);
    expect(scale(x, 1)).toBe(x);
    expect(reshape(x, [2, 3])).toBe(x);
    expect(expand(x, [2, 3])).toBe(x);
    expect(view(x, 0, [2, 3])).toBe(x);
    expect(sumTo(x, [2, 3])).toBe(x);
  });

  it.each<[string, (x: Node, u: Node) => unknown, RegExp]>([
    ['a name taken by another shape', (x) => x.graph.variable('x', [3, 2]), /variable x: \[3,2\] but it is \[2,3\]/],
    ['a name taken by another type', (x) => x.graph.variable('x', [2, 3], 'u32'), /already/],
    ['a dimension of zero', (x) => x.graph.variable('z', [2, 0]), /\[2,0\] has a dimension that is no whole number/],
    ['a fractional dimension', (x) => x.graph.variable('z', [1.5]), /no whole number/],
    [
      'shapes that do not broadcast',
      (x) => add(x, x.graph.variable('v', [2])),
      /add: \[2,3\] and \[2\] do not broadcast/,
    ],
    ['words where numbers belong', (x, u) => add(x, u), /add: input 1 is u32, it takes f32/],
    ['a node of another graph', (x) => add(x, newGraph().variable('y', [2, 3])), /another graph/],
    ['an unknown op', (x) => x.graph.apply('conv3d', [x]), /no such op/],
    ['a gradient of what is no scalar', (x) => grad(x, [x]), /not a scalar; give a cotangent/],
    ['a cotangent of another shape', (x) => grad(x, [x], sum(x)), /cotangent \[\] for an output \[2,3\]/],
    ['a row beyond the end', (x) => rows(x, 1, 3), /does not fit/],
    ['rows of other lengths', (x) => concat([x, x.graph.variable('w', [2, 4])]), /concat: \[2,4\] beside \[2,3\]/],
  ])('%s is a ShapeError', (_, call, message) => {
    const graph = newGraph();
    const x = graph.variable('x', [2, 3]);
    const u = graph.variable('u', [2, 3], 'u32');
    expect(() => call(x, u)).toThrow(ShapeError);
    expect(() => call(x, u)).toThrow(message);
  });

  it('topological order puts inputs first, and 20,000 ops deep is no problem', () => {
    let x = newGraph().variable('x', [1]);
    for (let i = 0; i < 20_000; i++) x = scale(x, 1, 1);
    const order = topological([x]);
    expect(order).toHaveLength(20_001);
    const place = new Map(order.map((node, i) => [node, i]));
    for (const node of order) for (const input of node.inputs) expect(place.get(input)!).toBeLessThan(place.get(node)!);
  });

  it('substitute rebuilds what depends on a replaced node, and nothing else', () => {
    const graph = newGraph();
    const [x, y, z] = ['x', 'y', 'z'].map((name) => graph.variable(name, [2]));
    const kept = relu(y);
    const [result] = substitute([mul(square(x), kept)], new Map([[x, z]]));
    expect(result).toBe(mul(square(z), kept));
  });
});

describe('grad', () => {
  it('what the output does not depend on has gradient zero', () => {
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [3]));
    const [gx, gy] = grad(sum(square(x)), [x, y]);
    expect(gy).toBe(fill(graph, 0, [3]));
    expect([...evaluate([gx], () => ({ shape: [3], data: Float64Array.of(1, -2, 3) }))[0].data]).toEqual([2, -4, 6]);
  });

  it('adds up several uses, and the gradient of a node on the way', () => {
    const x = newGraph().variable('x', [2]);
    const y = square(x);
    const out = sum(add(mul(y, x), y));
    const [gx, gy] = grad(out, [x, y]);
    const at = { shape: [2], data: Float64Array.of(2, -3) };
    // x³ + x²: 3x² + 2x; in y, at x held fixed: x + 1.
    expect([...evaluate([gx], () => at)[0].data]).toEqual([16, 21]);
    expect([...evaluate([gy], () => at)[0].data]).toEqual([3, -2]);
  });

  it('third and fourth derivatives come by themselves', () => {
    let d = newGraph().variable('x', []);
    const x = d;
    d = mul(square(d), square(d));
    for (const wanted of [32, 48, 48, 24, 0]) {
      [d] = grad(d, [x]);
      expect(evaluate([d], () => ({ shape: [], data: Float64Array.of(2) }))[0].data[0]).toBeCloseTo(wanted, 10);
    }
  });
});

describe('expandOps', () => {
  it('batch norm and its gradient, written out, have the values of the whole', () => {
    const graph = newGraph();
    const x = graph.variable('x', [5, 4, 3]);
    const gamma = graph.variable('gamma', [3]);
    const beta = graph.variable('beta', [3]);
    const g = graph.variable('g', [5, 4, 3]);
    const whole = [batchNorm(x, gamma, beta, 1e-5), batchNormGrad(x, gamma, g, 1e-5)];
    const parts = expandOps(whole);
    expect(topological(parts).map(({ op }) => op)).toEqual(
      expect.arrayContaining(['moments', 'normalise', 'batchNormApplyGrad']),
    );
    expect(topological(parts).some(({ op }) => op === 'batchNorm' || op === 'batchNormGrad')).toBe(false);
    // Both share one node of moments: forward and backward pass compute them once.
    expect(topological(parts).filter(({ op }) => op === 'moments')).toHaveLength(1);
    const [a, b] = [whole, parts].map((nodes) => evaluate(nodes, (node) => value(node)));
    a.forEach(({ data }, i) => {
      data.forEach((v, k) => {
        expect(b[i].data[k]).toBeCloseTo(v, 11);
      });
    });
  });

  it('leaves other graphs as they are', () => {
    const x = newGraph().variable('x', [2, 2]);
    const y = dense(relu(x), x);
    expect(expandOps([y])[0]).toBe(y);
  });
});

describe('the reference executor', () => {
  it('keeps variables, runs updates together, and says what is wrong', async () => {
    const executor = new ReferenceExecutor();
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [2]));
    executor.write(x, Float32Array.of(1, 2));
    executor.write(y, Float32Array.of(10, 20));
    // Both new values come from the old ones.
    const sumOfBoth = add(x, y);
    const plan = await executor.plan({
      outputs: [sumOfBoth],
      updates: [
        [x, sumOfBoth],
        [y, scale(x, 2)],
      ],
    });
    await expect(plan.read(sumOfBoth)).rejects.toThrow(/has not run/);
    plan.run();
    expect(await plan.read(sumOfBoth)).toEqual(Float32Array.of(11, 22));
    expect(await executor.read(x)).toEqual(Float32Array.of(11, 22));
    expect(await executor.read(y)).toEqual(Float32Array.of(2, 4));
    expect(() => executor.write(x, new Float32Array(3))).toThrow(/variable x: 3 elements for \[2\]/);
    expect(() => executor.write(scale(x, 2), new Float32Array(2))).toThrow(/is not a variable/);
  });
});
