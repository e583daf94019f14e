/** Formulas out of a trained generator. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { pairAt } from '../../src/chem/encoding.ts';
import { CheckpointError } from '../../src/errors.ts';
import type { Checkpoint } from '../../src/models/checkpoint.ts';
import { type GanConfig, loadConfig } from '../../src/models/config.ts';
import { findCheckpoint } from '../../src/models/run.ts';
import { defaultBatch, drawSamples, type SampleOptions, sample } from '../../src/models/sampler.ts';
import { generatorSize } from '../../src/models/size.ts';
import { describeGpu } from '../gpu.ts';
import { openGpu, temporaryFolder, tinyAe, tinyGan, trainTiny } from './tiny.ts';

const hex = ({ packed }: { packed: Uint32Array }): string => Array.from(packed, (word) => word.toString(16)).join(' ');
const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Counts of each row's elements. */
function counts({ packed, rows }: { packed: Uint32Array; rows: number }): number[][] {
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: 8 }, (_, p) => pairAt(packed, row, p))
      .filter((pair) => pair !== 0)
      .map((pair) => pair & 255),
  );
}

/** A checkpoint of an untrained generator whose last bias decides how many cells are on. */
async function checkpointWith(config: GanConfig, bias: number): Promise<Checkpoint> {
  const folder = temporaryFolder();
  await trainTiny(new ReferenceExecutor(), { folder, config: { ...config, batch: 2, steps: 1 } });
  const checkpoint = findCheckpoint(folder);
  for (const name of ['generator/weights/transposed3.bias', 'generator.average/average/transposed3.bias']) {
    checkpoint.tensors[name]?.data.fill(bias as never);
  }
  return checkpoint;
}

describeGpu('sampling', () => {
  let gpu: GpuExecutor;
  let averaged: Checkpoint;
  let last: Checkpoint;
  beforeAll(async () => {
    gpu = await openGpu();
    averaged = await checkpointWith(tinyGan({ criticSteps: 1 }), -2);
    last = await checkpointWith(tinyGan({ criticSteps: 1, averaging: 0 }), -2);
  });
  afterAll(() => gpu.destroy());
  const draw = (options: Partial<SampleOptions> = {}, from = averaged) =>
    sample(gpu, from, { count: 200, seed: 3, batch: 32, ...options });

  it('the same seed gives the same formulas, on the same device and another; another seed gives others', async () => {
    const first = await draw();
    expect(first.rows).toBeGreaterThan(10);
    expect(first.packed).toHaveLength(4 * first.rows);
    expect(hex(await draw())).toBe(hex(first));
    expect(hex(await draw({ seed: 4 }))).not.toBe(hex(first));
    const other = await openGpu();
    try {
      expect(hex(await sample(other, averaged, { count: 200, seed: 3, batch: 32 }))).toBe(hex(first));
    } finally {
      other.destroy();
    }
  });

  it.each([1, 31, 32, 33, 65])('%i samples: the first of more', async (count) => {
    const all = await draw({ count: 96 });
    const seen: number[] = [];
    const some = await draw({ count, onProgress: (n) => seen.push(n) });
    expect(some.rows).toBeLessThanOrEqual(count);
    expect(hex(all).startsWith(hex(some))).toBe(true);
    expect(seen).toHaveLength(Math.ceil(count / 32));
    expect(seen.at(-1)).toBe(count);
  });

  it('leaving out the first batches gives the rest of the same samples', async () => {
    const words = async (count: number, skipBatches?: number): Promise<number[]> => {
      const drawn: number[] = [];
      await drawSamples(gpu, averaged, { count, seed: 3, batch: 32, skipBatches }, (w, rows) => {
        drawn.push(...w.subarray(0, 4 * rows));
      });
      return drawn;
    };
    const all = await words(128);
    expect(await words(64, 2)).toEqual(all.slice(4 * 64));
    expect(await words(32)).toEqual(all.slice(0, 4 * 32));
  });

  it('every row has two to eight elements with counts from 1 to 8, and no empty row comes out', async () => {
    for (const rule of ['argmax', 'paper'] as const) {
      // The paper's threshold is 0.2, a logit of −1.4.
      const from = rule === 'paper' ? await checkpointWith(tinyGan({ criticSteps: 1 }), -3.4) : averaged;
      const rows = counts(await draw({ rule }, from));
      expect(rows.length).toBeGreaterThan(0);
      for (const row of rows) {
        expect(row.length).toBeGreaterThanOrEqual(rule === 'paper' ? 2 : 1);
        expect(row.length).toBeLessThanOrEqual(8);
        for (const n of row) expect(n >= 1 && n <= 8).toBe(true);
      }
    }
  });

  it('reduced: each divided by the divisor of its own counts; otherwise as they come', async () => {
    const raw = await draw({ count: 1000 }, last);
    const reduced = await draw({ count: 1000, reduce: true }, last);
    expect(reduced.rows).toBe(raw.rows);
    const before = counts(raw);
    const after = counts(reduced);
    expect(after).toEqual(before.map((row) => row.map((n) => n / row.reduce(gcd))));
    expect(before.some((row) => row.reduce(gcd) > 1)).toBe(true);
  });

  it('the averaged weights are what generates, where there are some', async () => {
    const first = hex(await draw());
    const changed = { ...averaged, tensors: { ...averaged.tensors } };
    const name = 'generator/weights/transposed3.bias';
    changed.tensors[name] = { dtype: 'F32', shape: [1], data: Float32Array.of(9) };
    expect(hex(await draw({}, changed))).toBe(first);
    const average = 'generator.average/average/transposed3.bias';
    changed.tensors[average] = { dtype: 'F32', shape: [1], data: Float32Array.of(-1.9) };
    expect(hex(await draw({}, changed))).not.toBe(first);
  });

  it('a dead generator: no rows, however many are asked for', async () => {
    for (const bias of [-100, 100]) {
      const dead = await checkpointWith(tinyGan({ criticSteps: 1 }), bias);
      const { packed, rows } = await draw({ count: 500, rule: 'paper' }, dead);
      expect(rows).toBe(0);
      expect(packed).toHaveLength(0);
    }
  });

  it('batches in flight give the same rows as one at a time, in order', async () => {
    const one = hex(await draw({ count: 300 }));
    const { info } = gpu.device;
    const software = info.software;
    try {
      // As on a graphics card: several batches are on their way before the first is waited for.
      info.software = false;
      expect(hex(await draw({ count: 300 }))).toBe(one);
      // Fewer batches than fit, and a count that is no multiple.
      expect(one.startsWith(hex(await draw({ count: 33 })))).toBe(true);
    } finally {
      info.software = software;
    }
  });

  it('what a batch is given to is not called again after it threw, and the buffers go back', async () => {
    const { info } = gpu.device;
    const software = info.software;
    await draw();
    const before = gpu.device.buffersAlive;
    for (const card of [true, false]) {
      info.software = !card;
      let calls = 0;
      const run = drawSamples(gpu, averaged, { count: 500, seed: 1, batch: 32 }, () => {
        if (++calls === 2) throw new Error('disk full');
      });
      await expect(run).rejects.toThrow('disk full');
      expect(calls).toBe(2);
    }
    info.software = software;
    expect(gpu.device.buffersAlive).toBe(before);
  });

  it('a batch of its own choice: small on a processor, up to 4096 within the limits of a card', () => {
    const { info, limits } = gpu.device;
    const software = info.software;
    const config = tinyGan();
    const paper = loadConfig('gan', { preset: 'icsd', overrides: {} });
    expect(defaultBatch(new ReferenceExecutor(), config)).toBe(16);
    expect(defaultBatch(gpu, config)).toBe(128);
    info.software = false;
    try {
      expect(defaultBatch(gpu, config)).toBe(4096);
      const batch = defaultBatch(gpu, paper);
      expect(Math.log2(batch) % 1).toBe(0);
      expect(batch * 4 * generatorSize((paper as GanConfig).generator).activations).toBeLessThanOrEqual(
        Math.max(limits.maxStorageBufferBindingSize, 128),
      );
    } finally {
      info.software = software;
    }
  });

  it('gives its buffers back', async () => {
    await draw();
    const { buffersAlive, bytesAlive } = gpu.device;
    await draw();
    await draw({ seed: 9 });
    expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual([buffersAlive, bytesAlive]);
  });

  it('the reference executor decodes nearly the same formulas', async () => {
    const onGpu = counts(await draw({ count: 16, batch: 8 }, last));
    const exact = counts(await sample(new ReferenceExecutor(), last, { count: 16, seed: 3, batch: 8 }));
    // A cell within round-off of the threshold may go either way.
    const same = exact.filter((row, i) => row.join() === onGpu[i]?.join()).length;
    expect(exact.length).toBeGreaterThan(0);
    expect(same).toBeGreaterThanOrEqual(exact.length - 1);
  });
});

describe('sampling from what is no generator', () => {
  it('an autoencoder is refused by name', async () => {
    const folder = temporaryFolder();
    await trainTiny(new ReferenceExecutor(), { folder, config: tinyAe({ steps: 1, batch: 2 }) });
    const run = sample(new ReferenceExecutor(), findCheckpoint(folder), { count: 3, seed: 1 });
    await expect(run).rejects.toThrow(CheckpointError);
    await expect(run).rejects.toThrow(/checkpoint\.safetensors: it is a model of kind ae; generating takes a gan/);
  });

  it('a missing tensor is named', async () => {
    const checkpoint = await checkpointWith(tinyGan({ criticSteps: 1, averaging: 0 }), 0);
    delete checkpoint.tensors['generator.running'];
    const run = sample(new ReferenceExecutor(), checkpoint, { count: 3, seed: 1 });
    await expect(run).rejects.toThrow(/tensor generator\.running is missing/);
  });
});
