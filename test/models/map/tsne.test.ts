import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stream } from '../../../src/autograd/philox.ts';
import { ConfigError, DataError, DeviceError } from '../../../src/errors.ts';
import { type Device, openDevice } from '../../../src/kernels/device.ts';
import {
  type Affinities,
  checkNeighbours,
  type Features,
  GpuMapEngine,
  type MapEngine,
  negativeEntropy,
} from '../../../src/models/map/engine.ts';
import {
  conditionalRow,
  forces,
  ReferenceMapEngine,
  smallest,
  squaredDistances,
} from '../../../src/models/map/reference.ts';
import {
  affinities,
  descend,
  neighbourCount,
  placeAmong,
  scaled,
  startFrom,
  symmetrise,
  tsne,
} from '../../../src/models/map/tsne.ts';
import { describeGpu } from '../../gpu.ts';
import { blobs, noise, purity } from './blobs.ts';

/** Unit round-off of f32. */
const unit = 2 ** -24;
const reference = new ReferenceMapEngine();

const golden = JSON.parse(readFileSync(new URL('../../golden/tsne/vectors.json', import.meta.url), 'utf8')) as {
  perplexity: number;
  dims: number;
  points: number[];
  joint: number[];
  embeddings: { dimensions: 2 | 3; y: number[]; divergence: number; gradient: number[] }[];
};
const goldenPoints: Features = { points: 60, dims: golden.dims, values: Float32Array.from(golden.points) };

/** P with an entry for every pair, as a matrix [n, n]. */
function denseOf({ points, rows, columns, values }: Affinities): Float64Array {
  const out = new Float64Array(points * points);
  for (let i = 0; i < points; i++)
    for (let at = rows[i]; at < rows[i + 1]; at++) out[i * points + columns[at]] = values[at];
  return out;
}

/** P of a matrix, its diagonal left out. */
function sparseOf(matrix: readonly number[], points: number): Affinities {
  const others = Array.from({ length: points * points }, (_, at) => at).filter(
    (at) => at % points !== Math.floor(at / points),
  );
  return {
    points,
    rows: Uint32Array.from({ length: points + 1 }, (_, i) => i * (points - 1)),
    columns: Uint32Array.from(others, (at) => at % points),
    values: Float32Array.from(others, (at) => matrix[at]),
  };
}

/** Affinities at random, of points that are neighbours at random. */
function randomAffinities(points: number, k: number, seed = 5): Affinities {
  const random = new Stream(seed);
  const index = new Uint32Array(points * k);
  for (let i = 0; i < points; i++) {
    const far = Float64Array.from({ length: points }, () => random.uniform());
    index.set(smallest(far, k, i), i * k);
  }
  const weights = Float64Array.from(index, () => random.uniform());
  for (let i = 0; i < points; i++) {
    const row = weights.subarray(i * k, (i + 1) * k);
    const sum = row.reduce((a, b) => a + b, 0);
    row.forEach((w, m) => {
      row[m] = w / sum;
    });
  }
  return symmetrise({ k, index, distance: new Float32Array(0) }, weights);
}

describe('the f64 reference of t-SNE', () => {
  it('has the affinities, the divergence and the gradient of scikit-learn', async () => {
    const neighbours = await reference.nearest(goldenPoints, undefined, 59);
    const joint = (weights: ArrayLike<number>): Float64Array => denseOf(symmetrise(neighbours, weights));
    const at = (perplexity: number): Promise<Float32Array> => reference.conditional(neighbours, perplexity);
    const { perplexity } = golden;
    // scikit-learn stops at an entropy within 1e-5: what that leaves open is seen by asking for as much more and less.
    const [exact, more, less] = await Promise.all([0, 1, -1].map((s) => at(perplexity * Math.exp(s * 1e-5))));
    const open = joint(exact.map((p, m) => Math.max(Math.abs(more[m] - p), Math.abs(less[m] - p))));
    const p = joint(exact);
    // Its distances are rounded to f32 too: an exponent of up to 20 makes 20 roundings of each.
    golden.joint.forEach((expected, m) => {
      expect(Math.abs(p[m] - expected)).toBeLessThanOrEqual(1.01 * open[m] + 24 * unit * expected);
    });
    const sparse = sparseOf(golden.joint, 60);
    for (const { dimensions, y, divergence, gradient } of golden.embeddings) {
      const found = forces(sparse, y, dimensions);
      for (const [m, g] of gradient.entries()) expect(found.gradient[m]).toBeCloseTo(g, 12);
      // P rounded to f32 adds up to 1 within as many roundings; the formula takes it for 1.
      expect(Math.abs(found.divergence - divergence)).toBeLessThan(unit * Math.log(found.z));
    }
  });

  it.each([2, 3] as const)(
    'has the gradient that differences of the divergence give, in %i dimensions',
    (dimensions) => {
      const p = randomAffinities(23, 6);
      // The formula of the divergence takes P's sum for 1: 23 points hold it closely enough for differences.
      const y = Float64Array.from(noise(23, dimensions).values);
      const { gradient } = forces(p, y, dimensions);
      const h = 1e-5;
      for (let m = 0; m < y.length; m++) {
        const at = (v: number): number => {
          const moved = y.slice();
          moved[m] = v;
          return forces(p, moved, dimensions).divergence;
        };
        expect((at(y[m] + h) - at(y[m] - h)) / (2 * h)).toBeCloseTo(gradient[m], 6);
      }
      expect(Math.hypot(...gradient)).toBeGreaterThan(0.01);
    },
  );

  it('gives rows the perplexity that is asked for, and shares alike where that cannot be', () => {
    const row = conditionalRow(squaredDistances(noise(50, 4), 0, noise(50, 4)).slice(1), 12);
    const entropy = -row.reduce((sum, p) => sum + p * Math.log(p), 0);
    expect(Math.exp(entropy)).toBeCloseTo(12, 9);
    expect([...conditionalRow([0, 0, 0, 1], 2)]).toEqual([1 / 3, 1 / 3, 1 / 3, 0]);
    expect([...conditionalRow([5, 5], 2)]).toEqual([0.5, 0.5]);
  });

  it('makes P symmetric, with the sum 1, in order of column', async () => {
    const p = await affinities(reference, noise(40, 3), 5);
    const dense = denseOf(p);
    let sum = 0;
    for (let i = 0; i < 40; i++) {
      expect(dense[i * 40 + i]).toBe(0);
      for (let j = 0; j < 40; j++) {
        expect(dense[i * 40 + j]).toBe(dense[j * 40 + i]);
        sum += dense[i * 40 + j];
      }
      const columns = [...p.columns.subarray(p.rows[i], p.rows[i + 1])];
      expect(columns).toEqual([...new Set(columns)].sort((a, b) => a - b));
    }
    expect(Math.abs(sum - 1)).toBeLessThan(1e-6);
  });
});

describe('neighbours that a device found', () => {
  const features = noise(700, 5);
  const k = 4;
  const inF32 = async () => {
    const { index, distance } = await reference.nearest(features, undefined, k);
    return { k, index: index.slice(), distance: Float32Array.from(distance) };
  };

  it('are taken where distances are those of the points', async () => {
    const found = await inF32();
    expect(() => checkNeighbours(features, features, found)).not.toThrow();
  });

  it.each([
    ['rows of the tile before', (i: number) => (i + 700 - 256) % 700, 0],
    ['rows of the point before', (i: number) => (i + 699) % 700, 0],
    ['a last point that nobody wrote', (i: number) => i, 699],
  ])('are refused: %s', async (_, from, wrong) => {
    const found = await inF32();
    const moved = { k, index: found.index.slice(), distance: found.distance.slice() };
    for (let i = 0; i < 700; i++) {
      for (let m = 0; m < k; m++) {
        moved.index[i * k + m] = found.index[from(i) * k + m];
        moved.distance[i * k + m] = i === wrong && wrong > 0 ? 0 : found.distance[from(i) * k + m];
      }
    }
    expect(() => checkNeighbours(features, features, moved)).toThrow(DeviceError);
  });
});

describe('t-SNE refuses', () => {
  const options = { perplexity: 5, dimensions: 2, iterations: 10, seed: 1 } as const;
  it.each<[string, Features, number, RegExp, typeof DataError | typeof ConfigError]>([
    ['one point', noise(1, 3), 5, /needs at least 2 points, there is 1/, DataError],
    ['no point', noise(0, 3), 5, /needs at least 2 points, there is 0/, DataError],
    [
      'more neighbours than points',
      noise(60, 3),
      60,
      /perplexity 60: with 60 points it takes 1 to 59; lower it to 19/,
      ConfigError,
    ],
    ['a perplexity below 1', noise(60, 3), 0.5, /perplexity 0.5/, ConfigError],
    ['a perplexity that is no number', noise(60, 3), Number.NaN, /perplexity NaN/, ConfigError],
    [
      'NaN',
      { points: 3, dims: 1, values: Float32Array.of(0, Number.NaN, 1) },
      1,
      /point 1, feature 0 is NaN/,
      DataError,
    ],
    [
      'an infinity',
      { points: 3, dims: 1, values: Float32Array.of(0, 2, 1 / 0) },
      1,
      /point 2, feature 0 is Infinity/,
      DataError,
    ],
  ])('%s', async (_, features, perplexity, message, kind) => {
    const refused = tsne(reference, features, { ...options, perplexity });
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toBeInstanceOf(kind);
  });
});

describeGpu('t-SNE on the GPU', () => {
  let device: Device;
  let gpu: GpuMapEngine;
  beforeAll(async () => {
    device = await openDevice({ limits: 'default' });
    gpu = new GpuMapEngine(device);
  });
  afterAll(() => device.destroy());

  // Whole numbers that small: their distances are exact in f32, and many are equal.
  const grid = (points: number, dims: number): Features => {
    const random = new Stream(8);
    return { points, dims, values: Float32Array.from({ length: points * dims }, () => random.below(3)) };
  };

  it.each([2, 63, 64, 65, 257, 300])('finds the nearest of %i points, ties by index', async (points) => {
    const features = grid(points, 5);
    for (const k of new Set([1, Math.min(7, points - 1), points - 1])) {
      expect(await gpu.nearest(features, undefined, k)).toEqual(await reference.nearest(features, undefined, k));
    }
  });

  it('finds the nearest among other points, and of one query', async () => {
    for (const [queries, points] of [
      [1, 9],
      [70, 65],
      [300, 1],
    ]) {
      const [q, b] = [grid(queries, 4), grid(points, 4)];
      const k = Math.min(5, points);
      expect(await gpu.nearest(q, b, k)).toEqual(await reference.nearest(q, b, k));
    }
  });

  it('has distances within their roundings', async () => {
    const features = noise(130, 50);
    const { index, distance } = await gpu.nearest(features, undefined, 20);
    for (let i = 0; i < 130; i++) {
      const exact = squaredDistances(features, i, features);
      const near = smallest(exact, 20, i)
        .map((j) => exact[j])
        .sort((a, b) => a - b);
      const found = [...distance.subarray(20 * i, 20 * i + 20)];
      found.forEach((d, m) => {
        const e = exact[index[20 * i + m]];
        // A difference and a multiplication, then a sum of 50 terms of one sign.
        expect(Math.abs(d - e)).toBeLessThanOrEqual((50 + 3) * unit * e);
      });
      found.sort((a, b) => a - b);
      for (const [m, d] of found.entries())
        expect(Math.abs(d - near[m])).toBeLessThanOrEqual((50 + 3) * unit * near[m]);
    }
  });

  it.each([1.5, 10, 40])('gives rows the perplexity %d', async (perplexity) => {
    const neighbours = await gpu.nearest(noise(100, 6), undefined, 60);
    const p = await gpu.conditional(neighbours, perplexity);
    // exp is right to 3 + 2|x| ULP with |x| < 88, sums have 60 terms, twice; entropy is at most 1 + ln 60 such sums.
    const tolerance = (2 * (60 + 3 + 2 * 88) + 8) * unit * (1 + Math.log(60));
    for (let i = 0; i < 100; i++) {
      const row = Array.from(p.subarray(60 * i, 60 * i + 60));
      const entropy = -row.reduce((sum, v) => sum + (v > 0 ? v * Math.log(v) : 0), 0);
      expect(Math.abs(entropy - Math.log(perplexity))).toBeLessThan(tolerance);
      // And the shares are those of distances: what the entropy leaves open is seen by asking for as much more and less.
      const d = neighbours.distance.subarray(60 * i, 60 * i + 60);
      const [exact, more, less] = [0, 1, -1].map((s) => conditionalRow(d, perplexity * Math.exp(s * tolerance)));
      row.forEach((v, m) => {
        const open = Math.max(Math.abs(more[m] - exact[m]), Math.abs(less[m] - exact[m]));
        expect(Math.abs(v - exact[m])).toBeLessThanOrEqual(2 * open + tolerance * exact[m] + 2 ** -126);
      });
    }
  });

  /** Gradient and divergence that one step of the engine shows, with what its roundings allow, against the reference. */
  async function checkStep(engine: MapEngine, p: Affinities, y: Float32Array, dimensions: 2 | 3, exaggeration = 1) {
    const rate = 1024;
    const phase = { iterations: 1, exaggeration, momentum: 0.5, rate };
    const made = await engine.descend(p, y, { dimensions, longest: 1e9, phases: [phase] });
    const exact = forces(p, y, dimensions, exaggeration);
    const { points } = p;
    // w: a difference, three squares and sums, a division of 2.5 ULP: 8 roundings; squared, with its difference and product 20. A sum of
    // n terms in order adds n. What cancels in a sum does not in its terms: bounds are of their sizes.
    const sizes = new Float64Array(points * dimensions);
    let widest = 0;
    for (let i = 0; i < points; i++) {
      for (let j = 0; j < points; j++) {
        if (i === j) continue;
        let below = 1;
        for (let c = 0; c < dimensions; c++) below += (y[i * dimensions + c] - y[j * dimensions + c]) ** 2;
        for (let c = 0; c < dimensions; c++) {
          sizes[i * dimensions + c] += Math.abs(y[i * dimensions + c] - y[j * dimensions + c]) / below ** 2 / exact.z;
        }
      }
      for (let at = p.rows[i]; at < p.rows[i + 1]; at++) {
        const j = p.columns[at];
        let below = 1;
        for (let c = 0; c < dimensions; c++) below += (y[i * dimensions + c] - y[j * dimensions + c]) ** 2;
        widest = Math.max(widest, Math.log(below));
        for (let c = 0; c < dimensions; c++) {
          const pull = (p.values[at] * Math.abs(y[i * dimensions + c] - y[j * dimensions + c])) / below;
          sizes[i * dimensions + c] += exaggeration * pull;
        }
      }
    }
    // Z: n terms a point with the 1 of the point itself, taken off again, then n / 256 and 8 for the points.
    const ofZ = ((points + 20) * unit * (exact.z + points)) / exact.z + (points / 256 + 8) * unit;
    expect(made.history[0].iteration).toBe(0);
    const ofLogs = (points + 40) * unit * widest;
    expect(Math.abs(made.history[0].divergence - exact.divergence)).toBeLessThan(
      ofZ + ofLogs + 1e-6 * unit + 4 * unit * Math.abs(negativeEntropy(p)),
    );
    for (let m = 0; m < y.length; m++) {
      // The gain of a first step is 0.8.
      const gradient = (y[m] - made.positions[m]) / (0.8 * rate);
      const step = (unit * 2 * Math.max(Math.abs(y[m]), Math.abs(made.positions[m]))) / (0.8 * rate);
      const allowed = 4 * sizes[m] * ((points + 30) * unit + ofZ) + step;
      expect(Math.abs(gradient - exact.gradient[m])).toBeLessThanOrEqual(allowed);
    }
    return exact;
  }

  it.each([2, 3, 8, 9, 63, 64, 65, 257])('makes the step of the reference with %i points', async (points) => {
    for (const dimensions of [2, 3] as const) {
      const p = randomAffinities(points, Math.min(points - 1, 7));
      await checkStep(gpu, p, noise(points, dimensions).values, dimensions);
    }
  });

  it('makes it in stretches too, and with exaggeration', async () => {
    for (const stretches of [2, 5, 33]) {
      const cut = new GpuMapEngine(device, stretches);
      await checkStep(cut, randomAffinities(257, 5), noise(257, 2).values, 2);
      await checkStep(cut, randomAffinities(65, 5), noise(65, 3).values, 3, 12);
    }
  });

  it('has the affinities, the divergence and the gradient of scikit-learn', async () => {
    const p = denseOf(await affinities(gpu, goldenPoints, golden.perplexity, { k: 59 }));
    const own = denseOf(await affinities(reference, goldenPoints, golden.perplexity, { k: 59 }));
    const gap = Math.hypot(...p.map((v, at) => v - own[at])) / Math.hypot(...own);
    expect(gap).toBeLessThan(1000 * unit);
    for (const { dimensions, y, divergence } of golden.embeddings) {
      const exact = await checkStep(gpu, sparseOf(golden.joint, 60), Float32Array.from(y), dimensions);
      expect(exact.divergence).toBeCloseTo(divergence, 6);
    }
  });

  it('follows the reference over steps with gains and momentum', async () => {
    const p = await affinities(reference, blobs(100, 4, 6), 8);
    const start = noise(100, 2).values;
    const descent = {
      dimensions: 2,
      longest: 5,
      phases: [
        { iterations: 3, exaggeration: 4, momentum: 0.5, rate: 20 },
        { iterations: 4, exaggeration: 1, momentum: 0.8, rate: 20 },
      ],
    } as const;
    const [a, b] = [await gpu.descend(p, start, descent), await reference.descend(p, start, descent)];
    const gap = Math.hypot(...a.positions.map((v, m) => v - b.positions[m])) / Math.hypot(...b.positions);
    // Seven steps, each a little off where the last one led; a gain or a sign gone wrong shows in the second digit.
    expect(gap).toBeLessThan(2e-5);
    expect(Math.hypot(...b.positions.map((v, m) => v - start[m]))).toBeGreaterThan(1);
    // No step is longer than asked.
    const short = await gpu.descend(p, start, { ...descent, longest: 1e-3 });
    for (let i = 0; i < 100; i++) {
      const moved = Math.hypot(short.positions[2 * i] - start[2 * i], short.positions[2 * i + 1] - start[2 * i + 1]);
      expect(moved).toBeLessThan(7.1e-3);
    }
  });

  it.each([2, 3] as const)('parts clouds, and gives the same bits again, in %i dimensions', async (dimensions) => {
    const features = blobs(300, 6, 10);
    const options = { perplexity: 20, dimensions, iterations: 320, seed: 3 };
    const first = await tsne(gpu, features, options);
    expect(purity(first.positions, dimensions, (i) => i % 6)).toBeGreaterThanOrEqual(0.98);
    expect(first.divergence).toBeLessThan(first.history[0].divergence / 2);
    const again = await tsne(new GpuMapEngine(device), features, options);
    expect(again.positions).toEqual(first.positions);
    expect(again.divergence).toBe(first.divergence);
    const other = await tsne(gpu, features, { ...options, seed: 4 });
    expect(other.positions).not.toEqual(first.positions);
  });

  it('maps equal points, equal data and two points to finite places', async () => {
    const twins = noise(40, 3);
    for (let i = 0; i < 20; i++) twins.values.copyWithin(3 * (20 + i), 3 * i, 3 * i + 3);
    const cases: Features[] = [twins, { points: 30, dims: 4, values: new Float32Array(120).fill(7) }, noise(2, 2)];
    for (const features of cases) {
      const perplexity = Math.min(5, features.points - 1);
      const map = await tsne(gpu, features, { perplexity, dimensions: 2, iterations: 300, seed: 1 });
      expect(map.positions.every(Number.isFinite)).toBe(true);
      expect(Number.isFinite(map.divergence)).toBe(true);
    }
    const map = await tsne(gpu, twins, { perplexity: 5, dimensions: 2, iterations: 300, seed: 1 });
    // Equal points are nearer to one another than to most others.
    const size = Math.max(...map.positions.map(Math.abs));
    const gaps = Array.from({ length: 20 }, (_, i) =>
      Math.hypot(
        map.positions[2 * i] - map.positions[40 + 2 * i],
        map.positions[2 * i + 1] - map.positions[41 + 2 * i],
      ),
    );
    expect(Math.max(...gaps)).toBeLessThan(size / 4);
  });

  it('places further points among landmarks, equal ones exactly', async () => {
    const all = blobs(500, 5, 8);
    const part = (from: number, to: number): Features => ({
      points: to - from,
      dims: 8,
      values: all.values.slice(8 * from, 8 * to),
    });
    const landmarks = part(0, 300);
    const { positions } = await tsne(gpu, landmarks, { perplexity: 15, dimensions: 2, iterations: 280, seed: 1 });
    const placed = await placeAmong(gpu, part(300, 500), landmarks, positions);
    const together = Float32Array.of(...positions, ...placed);
    expect(purity(together, 2, (i) => i % 5)).toBeGreaterThan(0.98);
    expect(await placeAmong(gpu, part(10, 20), landmarks, positions)).toEqual(positions.slice(20, 40));
    expect(await placeAmong(reference, part(300, 310), landmarks, positions)).toHaveLength(20);
  });

  it('takes features of any size for the same', async () => {
    const small = noise(50, 3);
    const large = { ...small, values: small.values.map((v) => v * 2 ** 90) };
    expect(scaled(large)).toEqual(scaled(small));
    expect(await affinities(gpu, large, 5)).toEqual(await affinities(gpu, small, 5));
    expect(startFrom(large, 2, 1)).toHaveLength(100);
    expect(neighbourCount(1000, 30)).toBe(90);
    expect(neighbourCount(10, 5)).toBe(9);
  });

  it('reports its progress, and leaves no buffer behind', async () => {
    await gpu.descend(randomAffinities(9, 3), noise(9, 2).values, { dimensions: 2, longest: 5, phases: [] });
    const before = device.buffersAlive;
    const seen: number[] = [];
    const p = await affinities(gpu, noise(100, 4), 10);
    await descend(gpu, p, noise(100, 2).values, { dimensions: 2, iterations: 120, onProgress: (n) => seen.push(n) });
    expect(seen.at(-1)).toBe(120);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(device.buffersAlive).toBe(before);
  });
});
