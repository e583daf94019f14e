import { describe, expect, it } from 'vitest';
import { randomNormal, randomUniform } from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { runOnce } from '../../src/autograd/gradcheck.ts';
import type { Op } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { shuffledRow } from '../../src/autograd/ops/random.ts';
import { open01, philox, Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

type Words4 = [number, number, number, number];
/** philox4x32-10 in kat_vectors of Random123 (D. E. Shaw Research): counter, key, result. */
const published: [Words4, [number, number], Words4][] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

/** Mean, variance, skewness and kurtosis. */
function momentsOf(data: ArrayLike<number>): number[] {
  const n = data.length;
  const values = Array.from(data);
  const mean = values.reduce((total, v) => total + v, 0) / n;
  const central = (k: number): number => values.reduce((total, v) => total + (v - mean) ** k, 0) / n;
  const variance = central(2);
  return [mean, variance, central(3) / variance ** 1.5, central(4) / variance ** 2];
}

/** Standard normal within five standard errors: of the mean 1/n, variance 2/n, skewness 6/n, kurtosis 24/n. */
function expectNormal(data: ArrayLike<number>): void {
  const [mean, variance, skewness, kurtosis] = momentsOf(data);
  const n = data.length;
  expect(Math.abs(mean)).toBeLessThan(5 * Math.sqrt(1 / n));
  expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
  expect(Math.abs(skewness)).toBeLessThan(5 * Math.sqrt(6 / n));
  expect(Math.abs(kurtosis - 3)).toBeLessThan(5 * Math.sqrt(24 / n));
}

const noise = (
  op: typeof randomNormal,
  step: [number, number],
  size: number,
  stream = 0,
  key: [number, number] = [5, 6],
) => {
  const graph = newGraph();
  const counter = graph.variable('step', [2], 'u32');
  const node = op(counter, [size], { stream, key });
  return { node, counter, value: { shape: [2], data: Float64Array.from(step) } };
};

describe('Philox', () => {
  it.each(published)('gives the published words for counter %j, key %j', (counter, key, words) => {
    expect([...philox(counter, key)]).toEqual(words);
  });

  it('open01 stays inside (0, 1) and is exact in f32', () => {
    for (const word of [0, 1, 511, 512, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const u = open01(word);
      expect(u).toBeGreaterThan(0);
      expect(u).toBeLessThan(1);
      expect(Math.fround(u)).toBe(u);
    }
  });

  it('host streams repeat with their seed and differ with seed and number', () => {
    const draw = (seed: number, stream: number): number[] => {
      const random = new Stream(seed, stream);
      return Array.from({ length: 8 }, () => random.word());
    };
    expect(draw(3, 0)).toEqual(draw(3, 0));
    expect(draw(3, 0)).not.toEqual(draw(3, 1));
    expect(draw(3, 0)).not.toEqual(draw(4, 0));
    expect(draw(3, 0)).not.toEqual(draw(3 + 2 ** 32, 0));
    const random = new Stream(9);
    expectNormal(Float64Array.from({ length: 20_000 }, () => random.normal()));
  });

  it('the noise of two steps, streams and seeds has nothing in common', () => {
    const draw = (step: [number, number], stream: number, key: [number, number]): Float64Array => {
      const { node, value } = noise(randomUniform, step, 1000, stream, key);
      return evaluate([node], () => value)[0].data;
    };
    const all = [
      draw([0, 0], 0, [1, 0]),
      draw([1, 0], 0, [1, 0]),
      draw([0, 1], 0, [1, 0]),
      draw([0, 0], 1, [1, 0]),
      draw([0, 0], 0, [2, 0]),
      draw([0, 0], 0, [1, 1]),
    ];
    for (const [i, a] of all.entries()) {
      for (const b of all.slice(i + 1)) {
        const correlation = a.reduce((total, v, k) => total + (v - 0.5) * (b[k] - 0.5), 0) / (a.length / 12);
        // A correlation of 1,000 independent pairs has standard error 1/√1000.
        expect(Math.abs(correlation)).toBeLessThan(5 / Math.sqrt(1000));
      }
    }
  });

  it('normal noise has the moments of a normal', () => {
    const { node, value } = noise(randomNormal, [3, 0], 40_000);
    expectNormal(evaluate([node], () => value)[0].data);
  });
});

describe('sampleRows', () => {
  it.each([1, 2, 3, 7, 64, 65, 1000])('each of %i rows comes once an epoch, in another order each time', (rows) => {
    const epochs = [0, 1, 2].map((epoch) =>
      Array.from({ length: rows }, (_, i) => shuffledRow(BigInt(epoch * rows + i), rows, 0, [8, 9])),
    );
    for (const order of epochs) {
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, i) => i));
    }
    if (rows >= 64) {
      expect(epochs[0]).not.toEqual(epochs[1]);
      expect(epochs[0]).not.toEqual(Array.from({ length: rows }, (_, i) => i));
      // A shuffle leaves about one row where it was.
      expect(epochs[0].filter((row, i) => row === i).length).toBeLessThan(8);
    }
  });

  it('goes on beyond 2^32 draws', () => {
    const rows = 25_323;
    const start = (2n ** 32n / BigInt(rows)) * BigInt(rows);
    const seen = new Set(Array.from({ length: rows }, (_, i) => shuffledRow(start + BigInt(i), rows, 1, [1, 2])));
    expect(seen.size).toBe(rows);
  });
});

describeGpu('Philox in WGSL', () => {
  /** The words as an op of the test's own: counters and keys [n,6] u32 → [n,4] u32. */
  const words: Op = {
    summary: 'random words',
    dtype: 'u32',
    inputTypes: ['u32'],
    shape: ([x]) => [x.shape[0], 4],
    vjp: { none: 'integers' },
    reference: ([x], _attrs, out) => {
      for (let i = 0; i < x.shape[0]; i++) {
        const [a, b, c, d, k0, k1] = x.data.subarray(6 * i);
        out.data.set(philox([a, b, c, d], [k0, k1]), 4 * i);
      }
    },
    roundings: () => 0,
    lowering: {
      kernels: (node) => ({
        temps: [],
        calls: [
          {
            kernel: {
              files: ['philox', new URL('../kernels/philoxWords.wgsl', import.meta.url).href],
              entry: 'main',
              bindings: ['read', 'write'],
            },
            params: [],
            workgroups: [node.shape[0], 1, 1],
            buffers: [{ input: 0 }, 'out'],
          },
        ],
      }),
    },
    samples: [],
    errors: [],
  };

  it('gives the published words, and those of TypeScript for 1,000 counters and keys', async () => {
    const gpu = new GpuExecutor(await openDevice(), { poison: true });
    try {
      const random = new Stream(31);
      const rows = [
        ...published.map(([counter, key]) => [...counter, ...key]),
        ...Array.from({ length: 1000 }, () => Array.from({ length: 6 }, () => random.word())),
      ];
      const graph = newGraph({ words });
      const x = graph.variable('x', [rows.length, 6], 'u32');
      const value = { shape: x.shape, data: Float64Array.from(rows.flat()) };
      const [result] = await runOnce(gpu, [graph.apply('words', [x])], new Map([[x, value]]));
      const expected = rows.flatMap(([a, b, c, d, k0, k1]) => [...philox([a, b, c, d], [k0, k1])]);
      expect([...Array.from(result)]).toEqual(expected);
      expect(Array.from(result).slice(0, 12)).toEqual(published.flatMap(([, , wanted]) => wanted));
    } finally {
      gpu.destroy();
    }
  });

  it('uniform noise equals that of TypeScript in every bit; normal noise is normal', async () => {
    const gpu = new GpuExecutor(await openDevice(), { poison: true });
    try {
      const uniform = noise(randomUniform, [0xffffffff, 3], 4099, 2);
      const [onGpu] = await runOnce(gpu, [uniform.node], new Map([[uniform.counter, uniform.value]]));
      expect(Array.from(onGpu)).toEqual([...evaluate([uniform.node], () => uniform.value)[0].data]);
      const normal = noise(randomNormal, [1, 0], 100_000);
      const [values] = await runOnce(gpu, [normal.node], new Map([[normal.counter, normal.value]]));
      expectNormal(values);
    } finally {
      gpu.destroy();
    }
  });
});
