/** Inputs and digests of make.py, the same here. */
import { readFileSync } from 'node:fs';
import { sizeOf, type Value } from '../../../src/autograd/graph.ts';

/** A tensor made from a hash: f32(shift + scale·u) with u in [−1, 1), or 1 where u is above a threshold and 0 elsewhere. */
export interface Spec {
  shape: number[];
  seed: number;
  scale?: number;
  shift?: number;
  above?: number;
}

/** What is kept of a tensor. */
export interface Digest {
  shape: number[];
  norm: number;
  /** Product with the hashed vector of seed 4242. */
  dot: number;
  /** All elements up to 48, else 48 of them at hashed places; up to 24 of a network's tensors. */
  values: number[];
}

export interface OpCase {
  op: string;
  inputs: Spec[];
  attrs: Record<string, unknown>;
  output: Digest;
  /** Of every input; none for an op without a gradient. */
  first: Digest[];
  /** Of every input and the cotangent. */
  second: Digest[];
}
export interface OptimiserCase {
  op: string;
  size: number;
  steps: number;
  attrs: Record<string, unknown>;
  output: Digest;
}
interface Parameters {
  parameters: { name: string; shape: number[] }[];
}
export interface NetworkCase extends Parameters {
  network: string;
  input: Spec;
  output: Digest;
  /** Of every parameter, then of the input. */
  first: Digest[];
  /** Of those and the cotangent. */
  second: Digest[];
}
export interface CriticStep extends Parameters {
  critic: string;
  inputs: { real: Spec; fake: Spec; share: Spec };
  outputs: Record<'loss' | 'penalty' | 'slopes', Digest>;
  gradients: Digest[];
}

/** One update of a preset's networks: the critic's, the generator's, or the autoencoder's whole step. */
export interface TrainingStep extends Parameters {
  preset: string;
  /** Of the critic. */
  norm: 'none' | 'batch' | 'layer';
  step: 'critic' | 'generator' | 'whole';
  inputs: { noise?: Spec; real?: Spec; share?: Spec };
  /** loss, and a critic's penalty and slopes. */
  outputs: Record<string, Digest>;
  gradients: Digest[];
  adam: { learningRate: number; beta1: number; beta2: number };
  /** What Adam adds where |gradient| > cut, zero elsewhere; null where the whole gradient is round-off. */
  updates: ((Digest & { cut: number }) | null)[];
}

const read = (name: string) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
export const opVectors = (): { torch: string; ops: OpCase[]; optimisers: OptimiserCase[] } => read('ops.json');
export const networkVectors = (): {
  torch: string;
  networks: NetworkCase[];
  criticSteps: CriticStep[];
  trainingSteps: TrainingStep[];
} => read('networks.json');

function word(seed: number, place: number): number {
  let h = (Math.imul(place, 0x9e3779b1) + Math.imul(seed, 0x85ebca6b) + 0x165667b1) >>> 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  h ^= h >>> 16;
  return h >>> 0;
}
const unit = (seed: number, place: number): number => (word(seed, place) >>> 8) / 2 ** 23 - 1;

export function tensorOf({ shape, seed, scale = 1, shift = 0, above }: Spec): Value {
  const data = Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    const u = unit(seed, i);
    return above === undefined ? Math.fround(shift + scale * u) : Number(u > above);
  });
  return { shape, data };
}

/** Places of a digest's values in a tensor of n elements, of which it keeps so many. */
export const places = (n: number, kept = Math.min(n, 48)): number[] =>
  Array.from({ length: kept }, (_, k) => (n === kept ? k : word(977, k) % n));

/**
 * How far a tensor is from a digest, as a share of its norm: the worst of norm, product and values. Results that are
 * zero but for round-off (the gradient of a bias before a batch norm) are measured against `floor`.
 */
export function distance({ norm, dot, values }: Digest, actual: ArrayLike<number>, floor = 1e-3): number {
  const n = actual.length;
  let square = 0;
  let product = 0;
  for (let i = 0; i < n; i++) {
    square += actual[i] ** 2;
    product += actual[i] * unit(4242, i);
  }
  if (values.length > n) return Infinity;
  const at = places(n, values.length);
  const scale = Math.max(norm, floor);
  const gap = Math.hypot(...values.map((v, k) => v - actual[at[k]]));
  const share = Math.max(Math.hypot(...values), scale * Math.sqrt(at.length / n));
  return Math.max(Math.abs(Math.sqrt(square) - norm) / scale, Math.abs(product - dot) / scale, gap / share);
}

/**
 * The same vector with one thing of each digest off by that share of its norm (of a thousandth of the greatest norm, where
 * that is more): to try the comparison.
 */
export function perturbed<T extends object>(vector: T, what: 'norm' | 'dot' | 'values', share = 1e-6): T {
  const digests: Digest[] = [];
  const copy = JSON.parse(JSON.stringify(vector), (_, value) => {
    if (value && typeof value === 'object' && 'dot' in value) digests.push(value);
    return value;
  });
  const least = 1e-3 * Math.max(...digests.map(({ norm }) => norm));
  for (const digest of digests) {
    const by = share * Math.max(digest.norm, least);
    if (what === 'values') digest.values[0] += by;
    else digest[what] += by;
  }
  return copy;
}
