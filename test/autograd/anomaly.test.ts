/** NaN and infinities in a step: which tensor had one first, where, and that looking changes nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  conv2d,
  layerNorm,
  leakyRelu,
  log,
  moments,
  mul,
  reshape,
  scale,
  sqrt,
  sum,
} from '../../src/autograd/build.ts';
import { type Executor, GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { type Node, topological } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import type { Anomaly } from '../../src/autograd/plan.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const filled = (n: number, own: Record<number, number> = {}): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => own[i] ?? 1 + (i % 7) / 8);

async function anomalyOf(executor: Executor, outputs: Node[], values: [Node, Float32Array][]) {
  const plan = await executor.plan({ outputs }, { detectAnomaly: true });
  for (const [variable, data] of values) executor.write(variable, data);
  plan.run();
  const found = await plan.anomaly();
  plan.destroy();
  executor.forget(values.map(([variable]) => variable));
  return found;
}
const brief = (found: Anomaly | undefined) => found && [found.node.op, found.element, found.value];

function cases(executor: () => Executor): void {
  it('nothing is found where every number is one', async () => {
    const x = newGraph().variable('x', [130]);
    expect(await anomalyOf(executor(), [sum(mul(x, x))], [[x, filled(130)]])).toBeUndefined();
  });

  it.each([0, 1, 63, 64, 129])('the op that makes it, not those that inherit it: element %i', async (at) => {
    const x = newGraph().variable('x', [130]);
    const root = sqrt(x);
    const found = await anomalyOf(executor(), [sum(scale(log(add(root, x)), 2))], [[x, filled(130, { [at]: -1 })]]);
    expect(brief(found)).toEqual(['sqrt', at, 'NaN']);
    expect(found!.node).toBe(root);
  });

  it('an overflow is an infinity; the first of several elements is named', async () => {
    const x = newGraph().variable('x', [5, 7]);
    const found = await anomalyOf(executor(), [mul(x, x)], [[x, filled(35, { 33: 1e30, 8: -1e20 })]]);
    expect(brief(found)).toEqual(['mul', 8, 'an infinity']);
  });

  it('a variable that the run begins with comes before every op', async () => {
    const graph = newGraph();
    const [x, y] = [graph.variable('x', [3]), graph.variable('y', [3])];
    const values: [Node, Float32Array][] = [
      [x, filled(3, { 1: -1 })],
      [y, filled(3, { 2: nan })],
    ];
    expect(brief(await anomalyOf(executor(), [add(sqrt(x), y)], values))).toEqual(['variable', 2, 'NaN']);
    values[1] = [y, filled(3, { 0: -inf })];
    expect(brief(await anomalyOf(executor(), [add(sqrt(x), y)], values))).toEqual(['variable', 0, 'an infinity']);
  });

  it('a tensor that is not the output of anything read, and whose memory others take over', async () => {
    const x = newGraph().variable('x', [64]);
    // √ of a negative number, then only the sign survives.
    const early = sqrt(scale(x, -1));
    let y = leakyRelu(early, 0.5);
    for (let i = 0; i < 6; i++) y = add(mul(y, x), scale(x, i + 1));
    expect(brief(await anomalyOf(executor(), [sum(y)], [[x, filled(64)]]))).toEqual(['sqrt', 0, 'NaN']);
  });

  it('it is looked for anew in every run', async () => {
    const graph = newGraph();
    const x = graph.variable('x', [3]);
    const plan = await executor().plan({ outputs: [sqrt(x)] }, { detectAnomaly: true });
    for (const [value, wanted] of [
      [-1, 'sqrt'],
      [1, undefined],
      [nan, 'variable'],
    ] as const) {
      executor().write(x, Float32Array.of(1, value, 1));
      plan.run();
      expect((await plan.anomaly())?.node.op).toBe(wanted);
    }
    plan.destroy();
    executor().forget([x]);
  });

  it('a plan that was not asked to look finds nothing', async () => {
    const x = newGraph().variable('x', [3]);
    const plan = await executor().plan({ outputs: [sqrt(x)] });
    executor().write(x, Float32Array.of(-1, -1, -1));
    plan.run();
    expect(await plan.anomaly()).toBeUndefined();
    plan.destroy();
    executor().forget([x]);
  });
}

describe('anomalies on the reference', () => {
  const reference = new ReferenceExecutor();
  cases(() => reference);

  it('what overflows an f32 is one, though f64 holds it', async () => {
    const x = newGraph().variable('x', [2]);
    const found = await anomalyOf(reference, [mul(x, x)], [[x, Float32Array.of(1, 1e25)]]);
    expect(brief(found)).toEqual(['mul', 1, 'an infinity']);
  });
});

describeGpu('anomalies on the GPU', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    // NaN in every new buffer: what no kernel writes must not be taken for a result.
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
  });
  afterAll(() => gpu.destroy());
  cases(() => gpu);

  it('sees the last element of a tensor larger than one grid', async () => {
    const size = 64 * 65_536 + 3;
    const x = newGraph().variable('x', [size]);
    const found = await anomalyOf(gpu, [sqrt(x)], [[x, filled(size, { [size - 1]: -1 })]]);
    expect(brief(found)).toEqual(['sqrt', size - 1, 'NaN']);
  });

  it('changes no bit of the results', async () => {
    const graph = newGraph();
    const [x, f] = [graph.variable('x', [3, 9, 8, 4]), graph.variable('f', [3, 3, 4, 6])];
    const y = conv2d(x, f, { strides: [2, 1], padding: [1, 1, 1, 1] });
    const outputs = [reshape(moments(y), [12]), ...grad(sum(mul(y, y)), [x, f])];
    const results: Buffer[] = [];
    for (const detectAnomaly of [false, true]) {
      const plan = await gpu.plan({ outputs }, { detectAnomaly });
      gpu.write(x, filled(3 * 9 * 8 * 4));
      gpu.write(f, filled(3 * 3 * 4 * 6));
      plan.run();
      for (const output of outputs) results.push(Buffer.from((await plan.read(output)).buffer));
      plan.destroy();
    }
    gpu.forget([x, f]);
    expect(results.slice(3)).toEqual(results.slice(0, 3));
  });
});

describe('scopes', () => {
  it('name a node after where it was traced first; gradients after what they are of', () => {
    const graph = newGraph();
    const x = graph.variable('x', [3]);
    const y = graph.within('critic', () => graph.within('conv0', () => sqrt(x)));
    expect(y.scope).toBe('critic conv0');
    expect(graph.within('elsewhere', () => sqrt(x))).toBe(y);
    expect(graph.within('critic', () => graph.within('alone', () => log(x), true)).scope).toBe('alone');
    const [first] = grad(sum(y), [x]);
    expect(first.scope).toBe('gradient of critic conv0');
    const scopes = topological(grad(sum(first), [x])).map(({ scope }) => scope);
    expect(scopes).toContain('gradient of gradient of critic conv0');
    // A rule by an expression on stand-ins, which two layers of one shape share.
    const [gamma, beta] = [graph.variable('gamma', [3]), graph.variable('beta', [3])];
    const image = graph.variable('image', [5, 3]);
    const norm = (z: Node, name: string): Node => graph.within(name, () => layerNorm(z, gamma, beta, 1e-5));
    const second = norm(scale(norm(image, 'norm0'), 2), 'norm1');
    const seen = topological(grad(sum(mul(second, second)), [image])).filter(({ op }) => op === 'rsqrt');
    expect(seen.map(({ scope }) => scope).sort()).toEqual(['gradient of norm0', 'gradient of norm1']);
    expect(scale(x, 3).scope).toBe('');
    expect(() =>
      graph.within('broken', () => {
        throw new Error('inside');
      }),
    ).toThrow('inside');
    expect(scale(x, 4).scope).toBe('');
  });
});
