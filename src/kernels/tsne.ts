/** t-SNE's kernels: no ops of a graph, since nothing is differentiated through them. From sizes to dispatches, as lower.ts does for ops. */
import type { AdapterInfo } from './device.ts';
import { type Call, grid, type Kernel } from './kernel.ts';

export const tsneKernels = {
  distances: { files: ['tsneDistances'], entry: 'main', bindings: ['read', 'read', 'write'] },
  neighbours: { files: ['tsneNeighbours'], entry: 'main', bindings: ['read', 'write', 'write'] },
  perplexity: { files: ['tsnePerplexity'], entry: 'main', bindings: ['read', 'write'] },
  repulsion: { files: ['tsneRepulsion'], entry: 'main', bindings: ['read', 'write'] },
  attraction: {
    files: ['tsneAttraction'],
    entry: 'main',
    bindings: ['read', 'read', 'read', 'read', 'read', 'write', 'write'],
  },
  totals: { files: ['tsneUpdate'], entry: 'totals', bindings: ['read', 'read', 'write', 'readwrite', 'readwrite'] },
  update: { files: ['tsneUpdate'], entry: 'main', bindings: ['read', 'read', 'readwrite', 'readwrite', 'readwrite'] },
} as const satisfies Record<string, Kernel>;

/** Points that a thread of the repulsion takes: positions and forces are padded to a multiple. */
export const block = 8;
export const padded = (points: number): number => Math.ceil(points / block) * block;
/** Where padding lies: 1e18² is a number, and the weight of such a pair squared is 0. */
export const farAway = 1e18;

/** A kernel, its parameters and its threads; whoever places it knows the buffers. */
type Unplaced = Omit<Call, 'buffers'>;

/** Queries whose distances are in memory at a time: [padded, tile] floats within a binding, and within a cache where there is one. */
export function tileOf(info: AdapterInfo, points: number, mostBytes: number): number {
  const wanted = info.software ? 256 : 4096;
  const most = Math.floor(mostBytes / (4 * padded(points)) / 64) * 64;
  return Math.max(0, Math.min(wanted, most));
}

export interface NeighbourSizes {
  tile: number;
  /** First query of the tile. */
  first: number;
  queries: number;
  points: number;
  dims: number;
  k: number;
  /** Whether queries are the points themselves, none of which is its own neighbour. */
  itself: boolean;
}

/** Distances of a tile of queries, and their k nearest points. */
export function neighbourCalls(s: NeighbourSizes): { distances: Unplaced; neighbours: Unplaced } {
  const all = padded(s.points);
  const pairs = s.tile * all;
  return {
    distances: {
      kernel: tsneKernels.distances,
      params: [s.tile, s.first, padded(s.queries), s.points, all, s.dims, s.itself ? 1 : 0],
      workgroups: grid(pairs / 16),
      flops: 3 * s.dims * pairs,
      bytes: 4 * (pairs + s.dims * (all + s.tile)),
    },
    neighbours: {
      kernel: tsneKernels.neighbours,
      params: [s.tile, s.first, s.queries, s.points, s.k],
      workgroups: grid(s.tile),
      bytes: 4 * 17 * s.tile * s.points,
    },
  };
}

export const perplexityCall = (points: number, k: number, perplexity: number): Unplaced => ({
  kernel: tsneKernels.perplexity,
  params: [points, k, { f32: Math.log(perplexity) }],
  workgroups: grid(points),
  flops: 25 * 48 * points * k,
  bytes: 8 * points * k,
});

export interface StepSizes {
  points: number;
  dimensions: 2 | 3;
  /** Shares of the repulsion's sums: more keep a card busy. */
  stretches: number;
  /** Entries of P. */
  entries: number;
  exaggeration: number;
  rate: number;
  momentum: number;
  longest: number;
}

/** Threads that keep a graphics card busy. */
const cardThreads = 65_536;

/** Stretches that the repulsion is cut into. */
export const stretchesOf = ({ software }: AdapterInfo, points: number): number =>
  software ? 1 : Math.max(1, Math.min(64, Math.ceil(points / 64), Math.ceil(cardThreads / (padded(points) / block))));

/** One step of the descent, in order. */
export function stepCalls(s: StepSizes): Record<'repulsion' | 'attraction' | 'totals' | 'update', Unplaced> {
  const all = padded(s.points);
  const stretch = Math.ceil(all / s.stretches / 4) * 4;
  const { dimensions, points, stretches } = s;
  const update = [
    points,
    all,
    dimensions,
    { f32: s.exaggeration },
    { f32: s.rate },
    { f32: s.momentum },
    { f32: s.longest },
  ];
  return {
    repulsion: {
      kernel: tsneKernels.repulsion,
      constants: { DIMENSIONS: dimensions },
      params: [all, stretch, stretches],
      workgroups: grid((all / block) * stretches),
      flops: (dimensions === 3 ? 14 : 11) * all * all,
      bytes: 4 * dimensions * all + 16 * all * stretches,
    },
    attraction: {
      kernel: tsneKernels.attraction,
      params: [points, all, dimensions, stretches],
      workgroups: grid(points),
      flops: 20 * s.entries,
      bytes: 8 * s.entries + 16 * all * (stretches + 2),
    },
    totals: { kernel: tsneKernels.totals, params: update, workgroups: [1, 1, 1], bytes: 32 * points },
    update: { kernel: tsneKernels.update, params: update, workgroups: grid(points), bytes: 100 * points },
  };
}
