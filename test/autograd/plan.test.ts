/** Plans on the GPU against the reference executor: memory that is shared, updated in place, packed and viewed. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  adam,
  add,
  concat,
  dense,
  ema,
  expand,
  increment,
  leakyRelu,
  max,
  mean,
  mul,
  pack,
  relu,
  reshape,
  rows,
  scale,
  sgd,
  square,
  stopGradient,
  sub,
  sum,
  view,
} from '../../src/autograd/build.ts';
import { type Executor, GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { runOnce } from '../../src/autograd/gradcheck.ts';
import { type Graph, type Node, sizeOf, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import type { Step } from '../../src/autograd/plan.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { DeviceError, ShapeError } from '../../src/errors.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

/** Small whole numbers: sums and products of a few of them are exact in f32, so results are compared bit by bit. */
function whole(nodes: readonly Node[], seed: number): Map<Node, Value> {
  return new Map(
    nodes.map((node, i) => {
      const random = new Stream(seed, i);
      return [
        node,
        { shape: node.shape, data: Float64Array.from({ length: sizeOf(node.shape) }, () => random.below(7) - 3) },
      ];
    }),
  );
}

/** A net of two layers with Adam over one packed state, and a counter: the shape of every training step. */
function trainingStep(graph: Graph): { step: Step; state: Node; counter: Node; x: Node; y: Node } {
  const x = graph.variable('x', [33, 5]);
  const y = graph.variable('y', [33, 3]);
  const shapes = [[5, 17], [17], [17, 3], [3]];
  const offsets: number[] = [];
  let size = 0;
  for (const shape of shapes) {
    offsets.push(size);
    size = Math.ceil((size + sizeOf(shape)) / 64) * 64;
  }
  const state = graph.variable('state', [3, size]);
  const counter = graph.variable('counter', [2], 'u32');
  const [w1, b1, w2, b2] = shapes.map((shape, i) => view(state, offsets[i], shape));
  const prediction = add(dense(leakyRelu(add(dense(x, w1), b1), 0.2), w2), b2);
  const loss = mean(square(sub(prediction, y)));
  const gradient = pack(grad(loss, [w1, b1, w2, b2]), offsets, size);
  const attrs = { learningRate: 0.01, decayFrom: 0, decayTo: 0, every: 1, offset: 0, clip: 0 };
  const updated = adam(state, gradient, counter, { ...attrs, beta1: 0.5, beta2: 0.9, eps: 1e-8 });
  return {
    step: {
      outputs: [loss],
      updates: [
        [state, updated],
        [counter, increment(counter)],
      ],
    },
    state,
    counter,
    x,
    y,
  };
}

async function train(executor: Executor, steps: number, disturb: (w: number) => number = (w) => w) {
  const { step, state, counter, x, y } = trainingStep(newGraph());
  const random = new Stream(3);
  const normal = (node: Node, f: (v: number) => number = (v) => v): Float32Array =>
    Float32Array.from({ length: sizeOf(node.shape) }, () => f(random.normal()));
  executor.write(x, normal(x));
  executor.write(y, normal(y));
  const weights = normal(state, (v) => disturb(0.3 * v));
  weights.fill(0, state.shape[1]);
  executor.write(state, weights);
  executor.write(counter, Uint32Array.of(0, 0));
  const plan = await executor.plan(step);
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    plan.run();
    losses.push((await plan.read(step.outputs![0]))[0]);
  }
  const result = {
    losses,
    weights: (await executor.read(state)).slice(0, state.shape[1]),
    counter: await executor.read(counter),
  };
  plan.destroy();
  executor.forget([x, y, state, counter]);
  return result;
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
};

describeGpu('plans', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice(), { poison: true });
  });
  afterAll(() => gpu.destroy());

  /** The same bits as the reference. */
  async function same(nodes: readonly Node[], values: ReadonlyMap<Node, Value>): Promise<void> {
    const expected = evaluate(nodes, (node) => values.get(node)!);
    const actual = await runOnce(gpu, nodes, values);
    nodes.forEach((node, i) => {
      expect(Array.from(actual[i]), `${node.op} [${node.shape}]`).toEqual([...expected[i].data]);
    });
  }

  it('20 steps of Adam end where the reference ends', async () => {
    const onGpu = await train(gpu, 20);
    const reference = await train(new ReferenceExecutor(), 20);
    // How far a change in the last place of the weights carries: what f32 may do in each of 20 steps.
    const sign = new Stream(4);
    const other = await train(new ReferenceExecutor(), 20, (w) => w * (1 + 2 ** -23 * Math.sign(sign.uniform() - 0.5)));
    const spread = distance(other.weights, reference.weights);
    expect(distance(onGpu.weights, reference.weights)).toBeLessThan(20 * spread);
    expect(distance(onGpu.losses, reference.losses)).toBeLessThan(1e-5);
    expect(onGpu.losses[19]).toBeLessThan(0.8 * onGpu.losses[0]);
    expect(onGpu.counter).toEqual(Uint32Array.of(20, 0));
  });

  it('the same steps give the same bits', async () => {
    expect(await train(gpu, 5)).toEqual(await train(gpu, 5));
  });

  it('views: of views, unaligned, of a computed value, through other views', async () => {
    const graph = newGraph();
    const x = graph.variable('x', [10, 40]);
    const doubled = scale(x, 2);
    const odd = view(doubled, 7, [5, 9]);
    await same(
      [
        view(x, 3, [4]),
        relu(view(x, 64, [2, 64])),
        relu(odd),
        relu(view(odd, 11, [3])),
        add(view(doubled, 1, [50]), view(doubled, 2, [50])),
        stopGradient(reshape(view(doubled, 128, [16, 4]), [64])),
        dense(view(x, 5, [3, 7]), view(doubled, 9, [7, 2])),
      ],
      whole([x], 1),
    );
  });

  it('packs: aligned and not, twice the same value, one another’s readers, inside each other', async () => {
    const graph = newGraph();
    const x = graph.variable('x', [6, 11]);
    const a = scale(x, 2);
    const b = relu(x);
    // c reads a, its neighbour in the pack.
    const c = add(a, b);
    const first = pack([a, b, c], [0, 128, 256], 400);
    const second = pack([b, b, view(x, 3, [5])], [1, 70, 140], 150);
    const third = pack([first, a], [0, 448], 600);
    await same(
      [
        first,
        second,
        third,
        relu(first),
        sum(second),
        view(third, 449, [10]),
        concat([a, c]),
        rows(concat([b, c]), 3, 9),
      ],
      whole([x], 2),
    );
  });

  it('a variable goes straight into a pack, and a constant', async () => {
    const graph = newGraph();
    const x = graph.variable('x', [65]);
    const packed = pack([x, graph.constant(4), expand(graph.constant(-2), [3])], [64, 256, 261], 300);
    await same([packed, scale(packed, 3)], whole([x], 3));
  });

  it('200 random graphs of exact ops: no tensor runs over another', { timeout: 120_000 }, async () => {
    const choice = fc.array(fc.tuple(fc.nat(8), fc.nat(1000), fc.nat(1000)), { minLength: 3, maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(choice, fc.nat(1 << 20), async (choices, seed) => {
        const graph = newGraph();
        const inputs = [graph.variable('x', [4, 33]), graph.variable('y', [4, 33])];
        const nodes: Node[] = [...inputs];
        for (const [op, i, j] of choices) {
          const [a, b] = [nodes[i % nodes.length], nodes[j % nodes.length]];
          const next = [
            () => add(a, b),
            () => sub(a, b),
            () => relu(a),
            () => scale(a, -1, 1),
            () => expand(max(a, [1], true), a.shape),
            () => reshape(rows(concat([a, b]), 2, 6), [4, 33]),
            () => view(pack([a, b], [0, 192], 384), 64, [4, 33]),
            () => view(pack([relu(a)], [31], 200), 1 + (j % 60), [4, 33]),
            () => reshape(reshape(a, [33, 4]), [4, 33]),
          ][op]();
          nodes.push(next);
        }
        // Small enough to be exact: at most 25 doublings of 3.
        await same(nodes.slice(-4), whole(inputs, seed));
      }),
      // Without shrinking: a device that has once reported an error refuses everything after it.
      { numRuns: 200, seed: 20_240_601, endOnFailure: true },
    );
  });

  it('readers of a state run before its update, in the same step', async () => {
    const graph = newGraph();
    const average = graph.variable('average', [65]);
    const x = graph.variable('x', [65]);
    const before = scale(average, 2);
    const after = ema(average, x, 0.5);
    const seen = relu(after);
    for (const executor of [gpu, new ReferenceExecutor()]) {
      executor.write(average, new Float32Array(65).fill(4));
      executor.write(x, new Float32Array(65).fill(8));
      const plan = await executor.plan({ outputs: [seen, before], updates: [[average, after]] });
      plan.run();
      plan.run();
      expect(await plan.read(before), executor.kind).toEqual(new Float32Array(65).fill(12));
      expect(await plan.read(seen), executor.kind).toEqual(new Float32Array(65).fill(7));
      expect(await executor.read(average), executor.kind).toEqual(new Float32Array(65).fill(7));
      plan.destroy();
      executor.forget([average, x]);
    }
  });

  it('updates that use one another’s variables see the old values', async () => {
    const graph = newGraph();
    const [x, y] = ['x', 'y'].map((name) => graph.variable(name, [3]));
    for (const executor of [gpu, new ReferenceExecutor()]) {
      executor.write(x, Float32Array.of(1, 2, 3));
      executor.write(y, Float32Array.of(10, 20, 30));
      const plan = await executor.plan({
        updates: [
          [x, scale(y, 1, 1)],
          [y, add(x, y)],
        ],
      });
      plan.run();
      expect(await executor.read(x), executor.kind).toEqual(Float32Array.of(11, 21, 31));
      expect(await executor.read(y), executor.kind).toEqual(Float32Array.of(11, 22, 33));
      plan.destroy();
      executor.forget([x, y]);
    }
  });

  it('what cannot be ordered or placed is a ShapeError, and nothing is left allocated', async () => {
    const graph = newGraph();
    const state = graph.variable('momentum', [2, 3]);
    const gradient = graph.variable('g', [3]);
    const step = graph.variable('step', [2], 'u32');
    const attrs = { learningRate: 1, decayFrom: 0, decayTo: 0, every: 1, offset: 0, clip: 0, momentum: 0 };
    const updated = sgd(state, gradient, step, attrs);
    const cases: [Step, RegExp][] = [
      [{ outputs: [add(updated, state)] }, /reads a state both before and after it is overwritten; copy it first/],
      [{ outputs: [updated, sgd(state, scale(gradient, 2), step, attrs)] }, /two ops overwrite the same state/],
      [{ outputs: [sgd(scale(state, 2), gradient, step, attrs)] }, /sgd: it works in place and takes a whole variable/],
      [
        { updates: [[gradient, rows(state, 0, 1)]] },
        /update of g: its value is another variable itself; copy it first/,
      ],
    ];
    const plain = await gpu.plan({ updates: [[state, updated]] });
    plain.destroy();
    const { buffersAlive } = gpu.device;
    for (const [step, message] of cases) {
      await expect(gpu.plan(step)).rejects.toThrow(ShapeError);
      await expect(gpu.plan(step)).rejects.toThrow(message);
    }
    expect(gpu.device.buffersAlive).toBe(buffersAlive);
  });

  it('a plan gives its buffers back, and 300 steps allocate nothing', async () => {
    const { step } = trainingStep(newGraph());
    const plan = await gpu.plan(step);
    plan.run();
    await gpu.idle();
    const { buffersAlive, bytesAlive } = gpu.device;
    for (let i = 0; i < 300; i++) plan.run();
    await gpu.idle();
    expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual([buffersAlive, bytesAlive]);
    expect(plan.stats.dispatches).toBeGreaterThan(10);
    const profile = await plan.profile();
    if (gpu.device.features.has('timestamp-query')) expect(profile).toHaveLength(plan.stats.dispatches);
    plan.destroy();
    expect(gpu.device.buffersAlive).toBeLessThan(buffersAlive);
  });

  it('a tensor over the limits is a DeviceError that names size and limit', async () => {
    const graph = newGraph();
    const huge = graph.variable('huge', [2 ** 24, 2 ** 12]);
    expect(() => gpu.write(huge, new Float32Array(1))).toThrow(ShapeError);
    await expect(gpu.plan({ outputs: [relu(huge)] })).rejects.toThrow(DeviceError);
    await expect(gpu.plan({ outputs: [relu(huge)] })).rejects.toThrow(
      /huge: 274877906944 bytes are over this device's limit of \d+/,
    );
    const small = graph.variable('small', [1]);
    await expect(gpu.plan({ outputs: [relu(expand(small, [2 ** 24, 2 ** 12]))] })).rejects.toThrow(
      /over this device's limit/,
    );
    // The device is as good as before.
    await same([relu(small)], whole([small], 1));
  });

  it('what is not an output cannot be read', async () => {
    const x = newGraph().variable('unread', [3]);
    const plan = await gpu.plan({ outputs: [relu(x)] });
    await expect(plan.read(scale(x, 2))).rejects.toThrow(/no output of the plan/);
    plan.destroy();
  });
});

describeGpu('a lost device', () => {
  it('reaches whoever runs, reads or waits, as a DeviceError', async () => {
    const gpu = new GpuExecutor(await openDevice());
    const x = newGraph().variable('x', [3]);
    const out = mul(x, x);
    const plan = await gpu.plan({ outputs: [out] });
    plan.run();
    await gpu.idle();
    gpu.device.gpu.destroy();
    await gpu.device.gpu.lost;
    await new Promise((resolve) => setImmediate(resolve));
    expect(() => plan.run()).toThrow(DeviceError);
    expect(() => plan.run()).toThrow(/the device was lost/);
    await expect(plan.read(out)).rejects.toThrow(DeviceError);
    await expect(gpu.idle()).rejects.toThrow(DeviceError);
    await expect(gpu.read(x)).rejects.toThrow(DeviceError);
  });
});
