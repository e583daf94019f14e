/** t-SNE from features to positions: the same steps on either engine. docs/map.md says why each is as it is. */
import { Stream } from '../../autograd/philox.ts';
import { ConfigError, DataError } from '../../errors.ts';
import type { Affinities, Descended, Features, MapEngine, Neighbours } from './engine.ts';

export interface TsneOptions {
  /** Effective number of neighbours; at most one less than the points. */
  perplexity: number;
  dimensions: 2 | 3;
  /** All of them, the exaggerated ones included. */
  iterations: number;
  seed: number;
  /** Start, row-major [points, dimensions]; the first features (principal components) unless given. */
  start?: Float32Array;
  onProgress?: (iteration: number, divergence: number) => void;
}

/** Early exaggeration and how long it lasts, as in most implementations (Belkina et al. 2019). */
const exaggeration = 12;
const exaggerated = 250;

/** Refuses what cannot be mapped. @throws DataError, ConfigError */
export function checkFeatures({ points, dims, values }: Features, perplexity: number): void {
  if (values.length !== points * dims)
    throw new DataError(`features: ${values.length} values for [${points}, ${dims}]`);
  if (points < 2) throw new DataError(`a map needs at least 2 points, there is ${points}; give it more formulas`);
  const bad = values.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) {
    const where = `point ${Math.floor(bad / dims)}, feature ${bad % dims}`;
    throw new DataError(`features: ${where} is ${values[bad]}; every one must be a finite number`);
  }
  if (!(perplexity >= 1 && perplexity <= points - 1)) {
    const most = points - 1;
    throw new ConfigError(
      `perplexity ${perplexity}: with ${points} points it takes 1 to ${most}; lower it to ${Math.min(most, Math.max(1, Math.floor(most / 3)))}`,
    );
  }
}

/** Features of size 1 at most, by a power of two: no rounding, no overflow, and t-SNE takes any scale for the same. */
export function scaled(features: Features, by = features): Features {
  let size = 0;
  for (const v of by.values) size = Math.max(size, Math.abs(v));
  const factor = size > 0 ? 2 ** -(Math.floor(Math.log2(size)) + 1) : 1;
  return { ...features, values: features.values.map((v) => v * factor) };
}

/** Neighbours that each point has: three times the perplexity, beyond which affinities are below a thousandth. */
export const neighbourCount = (points: number, perplexity: number): number =>
  Math.max(1, Math.min(points - 1, Math.floor(3 * perplexity)));

/** P from conditional affinities: (p[j|i] + p[i|j]) / 2n, rows in order of column. */
export function symmetrise({ k, index }: Neighbours, conditional: ArrayLike<number>): Affinities {
  const points = index.length / k;
  const half = 1 / (2 * points);
  // Who names whom, by the named: columns come in order because rows are walked in order.
  const starts = new Uint32Array(points + 1);
  for (const j of index) starts[j + 1]++;
  for (let i = 0; i < points; i++) starts[i + 1] += starts[i];
  const fill = starts.slice();
  const by = new Uint32Array(index.length);
  const weight = new Float64Array(index.length);
  for (let i = 0; i < points; i++) {
    for (let at = i * k; at < (i + 1) * k; at++) {
      const to = fill[index[at]]++;
      by[to] = i;
      weight[to] = conditional[at];
    }
  }
  const rows = new Uint32Array(points + 1);
  const columns = new Uint32Array(2 * index.length);
  const values = new Float32Array(2 * index.length);
  let n = 0;
  for (let i = 0; i < points; i++) {
    let a = i * k;
    let b = starts[i];
    while (a < (i + 1) * k || b < starts[i + 1]) {
      const own = a < (i + 1) * k ? index[a] : points;
      const other = b < starts[i + 1] ? by[b] : points;
      columns[n] = Math.min(own, other);
      let p = 0;
      if (own <= other) p += conditional[a++];
      if (other <= own) p += weight[b++];
      values[n++] = p * half;
    }
    rows[i + 1] = n;
  }
  return { points, rows, columns: columns.slice(0, n), values: values.slice(0, n) };
}

/** P of features: k nearest neighbours, perplexity, symmetry. @throws DataError, ConfigError */
export async function affinities(
  engine: MapEngine,
  features: Features,
  perplexity: number,
  options: { k?: number; onProgress?: (done: number) => void } = {},
): Promise<Affinities> {
  checkFeatures(features, perplexity);
  const k = options.k ?? neighbourCount(features.points, perplexity);
  const neighbours = await engine.nearest(scaled(features), undefined, k, options.onProgress);
  return symmetrise(neighbours, await engine.conditional(neighbours, perplexity));
}

/** The first features with the first one's standard deviation at 1e-4, and a hundredth of that as noise, which parts equal points. */
export function startFrom({ points, dims, values }: Features, dimensions: number, seed: number): Float32Array {
  let mean = 0;
  for (let i = 0; i < points; i++) mean += values[i * dims] / points;
  let variance = 0;
  for (let i = 0; i < points; i++) variance += (values[i * dims] - mean) ** 2 / points;
  const scale = variance > 0 ? 1e-4 / Math.sqrt(variance) : 0;
  const noise = new Stream(seed, 0x6d6170);
  return Float32Array.from({ length: points * dimensions }, (_, at) => {
    const c = at % dimensions;
    const own = c < dims ? scale * (values[Math.floor(at / dimensions) * dims + c] - (c === 0 ? mean : 0)) : 0;
    return own + 1e-6 * noise.normal();
  });
}

/** Descends to a map of the points behind P. */
export function descend(
  engine: MapEngine,
  p: Affinities,
  start: Float32Array,
  { dimensions, iterations, onProgress }: Pick<TsneOptions, 'dimensions' | 'iterations' | 'onProgress'>,
): Promise<Descended> {
  const early = Math.min(exaggerated, iterations);
  return engine.descend(p, start, {
    dimensions,
    longest: 5,
    // Belkina et al. 2019: points / exaggeration, here in both phases; the gradient has its factor 4. Their least rate of 200 flings
    // points of small maps apart.
    phases: [
      { iterations: early, exaggeration, momentum: 0.5, rate: p.points / exaggeration / 4 },
      { iterations: iterations - early, exaggeration: 1, momentum: 0.8, rate: p.points / 4 },
    ],
    onProgress,
  });
}

/** A map of features that are principal components already. @throws DataError, ConfigError */
export async function tsne(engine: MapEngine, features: Features, options: TsneOptions): Promise<Descended> {
  const p = await affinities(engine, features, options.perplexity);
  return descend(engine, p, options.start ?? startFrom(features, options.dimensions, options.seed), options);
}

/** Neighbours among the landmarks that a further point is placed by, and their effective number. */
const placingNeighbours = 15;
const placingPerplexity = 3;

/**
 * Places further points into a map: the mean of their nearest landmarks' positions, weighted by the affinities of a perplexity
 * of 3; a point that equals landmarks goes where they are. An approximation: further points do not push one another.
 * @returns row-major [queries, dimensions]
 */
export async function placeAmong(
  engine: MapEngine,
  queries: Features,
  landmarks: Features,
  positions: Float32Array,
  onProgress?: (done: number) => void,
): Promise<Float32Array> {
  const dimensions = positions.length / landmarks.points;
  const k = Math.min(placingNeighbours, landmarks.points);
  const near = await engine.nearest(scaled(queries, landmarks), scaled(landmarks), k, onProgress);
  const weights = await engine.conditional(near, Math.min(placingPerplexity, k));
  const out = new Float32Array(queries.points * dimensions);
  for (let i = 0; i < queries.points; i++) {
    const own = near.distance.subarray(i * k, (i + 1) * k);
    const equal = own.some((d) => d === 0);
    let total = 0;
    for (let m = 0; m < k; m++) {
      const weight = equal ? Number(own[m] === 0) : weights[i * k + m];
      total += weight;
      const at = near.index[i * k + m] * dimensions;
      for (let c = 0; c < dimensions; c++) out[i * dimensions + c] += weight * positions[at + c];
    }
    for (let c = 0; c < dimensions; c++) out[i * dimensions + c] /= total;
  }
  return out;
}
