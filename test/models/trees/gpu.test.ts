/** Histograms of the kernels against the processor's: whole numbers, so equal to the bit. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Stream } from '../../../src/autograd/philox.ts';
import { type Device, openDevice } from '../../../src/kernels/device.ts';
import { binTable } from '../../../src/models/trees/bins.ts';
import { GpuHistogrammer, measure } from '../../../src/models/trees/gpu.ts';
import { histogram, histogramStride } from '../../../src/models/trees/grow.ts';
import { gradientBits, trainTrees } from '../../../src/models/trees/train.ts';
import { describeGpu } from '../../gpu.ts';
import { noise, settings, targetOf } from './made.ts';

describeGpu('histograms on a device', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ limits: 'default' });
  });
  afterAll(() => device.destroy());

  it.each([
    [1, 1],
    [63, 3],
    [257, 5],
    [5000, 9],
  ])('are the processor’s: %i rows, %i columns', async (rows, columns) => {
    const binned = binTable(noise(rows, columns, { missing: 0.1 }), 256);
    const engine = new GpuHistogrammer(device, binned);
    const stream = new Stream(rows);
    const bits = gradientBits(rows);
    const unit = 2 ** bits;
    // The largest there are among them.
    const gradients = Int32Array.from({ length: rows }, (_, row) =>
      row % 5 === 0 ? unit * (row % 2 === 0 ? 1 : -1) : Math.round((2 * stream.uniform() - 1) * unit),
    );
    engine.begin(gradients, bits);
    const all = Uint16Array.from({ length: columns }, (_, c) => c);
    for (const chosen of [all, all.filter((c) => c % 4 === columns % 4)]) {
      if (chosen.length === 0) continue;
      const order = Uint32Array.from([...Array(rows).keys()].filter((row) => row % 3 !== 1 || rows < 3));
      const own = new Float64Array(columns * histogramStride);
      const found = new Float64Array(columns * histogramStride);
      histogram(
        binned,
        own,
        order,
        0,
        order.length,
        chosen,
        Float64Array.from(order, (row) => gradients[row]),
      );
      await engine.build(found, order, chosen);
      expect(found).toEqual(own);
      expect(own.some((v) => v !== 0)).toBe(true);
    }
    engine.destroy();
  });

  it('give the same trees to the bit, whatever share the device sums', async () => {
    const table = noise(1500, 7, { missing: 0.05 });
    const target = targetOf(table);
    for (const config of [
      settings({ trees: 3, learningRate: 0.3, rowShare: 0.7, growth: { kind: 'leaf', leaves: 9 } }),
      settings({ trees: 2, loss: 'absolute', growth: { kind: 'depth', depth: 7 } }),
    ]) {
      const plain = await trainTrees(table, target, config);
      for (const least of [1, 500]) {
        const engines: GpuHistogrammer[] = [];
        const engine = async (...[binned]: [Parameters<typeof measure>[1], number]) => {
          const made = new GpuHistogrammer(device, binned);
          made.least = least;
          engines.push(made);
          return made;
        };
        expect(await trainTrees(table, target, config, { engine })).toEqual(plain);
        for (const made of engines) made.destroy();
      }
    }
  });

  it('are timed, and asked only where they are faster; no buffer is left', async () => {
    const before = device.buffersAlive;
    const binned = binTable(noise(3000, 4), 256);
    const engine = new GpuHistogrammer(device, binned);
    const times = await measure(engine, binned, 30);
    expect(times[0].rows).toBe(3000);
    const faster = times.filter((t) => t.device < t.processor).map((t) => t.rows);
    expect(engine.least).toBe(faster.length > 0 ? Math.min(...faster) : Number.POSITIVE_INFINITY);
    engine.destroy();
    expect(device.buffersAlive).toBe(before);
  });
});
