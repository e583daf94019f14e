/** Tensors as large as WebGPU guarantees, 128 MiB, are right to the last element; one element more is refused by name. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { type Node, sizeOf } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { DeviceError } from '../../src/errors.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

/** Elements of 128 MiB, the least that an implementation has to bind. */
const most = 2 ** 25;

describeGpu('at the default limits', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }));
    expect(gpu.device.limits.maxStorageBufferBindingSize).toBe(most * 4);
  });
  afterAll(() => gpu.destroy());

  /** Runs one node whose variables are given, and gives their memory back. */
  async function computed(node: Node, variables: [Node, Float32Array][]): Promise<Float32Array> {
    const plan = await gpu.plan({ outputs: [node] });
    for (const [variable, data] of variables) gpu.write(variable, data);
    plan.run();
    const value = (await plan.read(node)) as Float32Array;
    plan.destroy();
    gpu.forget(variables.map(([variable]) => variable));
    return value;
  }
  /** Small whole numbers: every sum below is exact in f32. */
  const whole = (n: number): Float32Array => new Float32Array(n).map((_, i) => ((i * 7) % 5) - 2);

  it('an elementwise op of 128 MiB: every element', { timeout: 120_000 }, async () => {
    const x = newGraph().variable('x', [most / 8, 8]);
    const data = whole(most);
    const y = await computed(b.scale(x, 3, 1), [[x, data]]);
    expect(y.length).toBe(most);
    expect(y.findIndex((v, i) => v !== 3 * data[i] + 1)).toBe(-1);
  });

  it('a sum over 128 MiB, all and by column', { timeout: 120_000 }, async () => {
    const x = newGraph().variable('x', [most / 32, 32]);
    const data = whole(most);
    const columns = new Float64Array(32);
    for (let i = 0; i < most; i++) columns[i % 32] += data[i];
    expect([...(await computed(b.sum(x, [0]), [[x, data]]))]).toEqual([...columns]);
    const total = columns.reduce((sum, v) => sum + v, 0);
    expect((await computed(b.sum(x), [[x, data]]))[0]).toBe(total);
  });

  it('a convolution whose image has 128 MiB: its first and its last sample', { timeout: 120_000 }, async () => {
    const graph = newGraph();
    const image = [most / 1024, 16, 8, 8];
    const x = graph.variable('x', image);
    const f = graph.variable('f', [3, 3, 8, 1]);
    const [data, filter] = [whole(most), whole(72)];
    const attrs = { strides: [2, 2], padding: [1, 1, 1, 1] } as const;
    const y = await computed(b.conv2d(x, f, attrs), [
      [x, data],
      [f, filter],
    ]);
    const one = newGraph();
    const [part, same] = [one.variable('x', [1, 16, 8, 8]), one.variable('f', [3, 3, 8, 1])];
    const alone = (from: number): Promise<Float32Array> =>
      computed(b.conv2d(part, same, attrs), [
        [part, data.slice(from, from + 1024)],
        [same, filter],
      ]);
    const size = y.length / image[0];
    expect([...y.slice(0, size)]).toEqual([...(await alone(0))]);
    expect([...y.slice(-size)]).toEqual([...(await alone(most - 1024))]);
    expect(new Set(y.slice(-size)).size).toBeGreaterThan(3);
  });

  it.each<[string, (x: Node) => Node, RegExp]>([
    [
      'a result',
      (x) => b.expand(x, [most + 64]),
      /^expand \[33554496\]: 134217984 bytes are over this device's limit of 134217728 for one buffer; use a smaller batch or model$/,
    ],
    [
      'a result in the middle, with its place in the model',
      (x) => x.graph.within('critic conv3', () => b.sum(b.relu(b.expand(x, [2 ** 13, 2 ** 13])))),
      /^(expand|relu) \[8192,8192\] \(critic conv3\): 268435456 bytes are over/,
    ],
    ['a variable', (x) => b.mul(x, x.graph.variable('weights', [most + 1])), /^weights: 134217744 bytes are over/],
    ['a pack', (x) => b.pack([x, x], [0, most], most + 1), /^pack \[33554433\]: 134217744 bytes are over/],
  ])('%s above 128 MiB is refused by name, and leaves nothing behind', async (_, build, message) => {
    const x = newGraph().variable('x', [1]);
    const before = [gpu.device.buffersAlive, gpu.device.bytesAlive];
    const refused = gpu.plan({ outputs: [build(x)] });
    await expect(refused).rejects.toThrow(DeviceError);
    await expect(refused).rejects.toThrow(message);
    gpu.forget([x]);
    expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual(before);
    // And the device goes on.
    expect((await computed(b.scale(x, 2), [[x, Float32Array.of(4)]]))[0]).toBe(8);
  });

  it('an op whose scratch would be too large does without', { timeout: 120_000 }, async () => {
    // One image channel: of few images a matrix product with all taps is made first, 9 times the image here.
    const build = (batch: number): { node: Node; y: Node; f: Node } => {
      const graph = newGraph();
      const [y, f] = [graph.variable('y', [batch, 85, 8, 1]), graph.variable('f', [3, 3, 1, 1])];
      return { node: b.conv2dInputGrad(y, f, { strides: [1, 1], padding: [1, 1, 1, 1], size: [85, 8] }), y, f };
    };
    const batch = 6000;
    expect(sizeOf([batch, 85, 8, 9])).toBeGreaterThan(most);
    const [data, filter] = [whole(batch * 680), whole(9)];
    const run = ({ node, y, f }: ReturnType<typeof build>, images: Float32Array): Promise<Float32Array> =>
      computed(node, [
        [y, images],
        [f, filter],
      ]);
    const x = await run(build(batch), data);
    for (const at of [0, 680 * (batch - 1)]) {
      expect([...x.slice(at, at + 680)]).toEqual([...(await run(build(1), data.slice(at, at + 680)))]);
    }
  });
});
