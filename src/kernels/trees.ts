/** Kernels of boosted trees: no ops of a graph. From sizes to dispatches, as lower.ts does for ops. */
import { type Call, grid, type Kernel } from './kernel.ts';

export const treesKernels = {
  histogram: { files: ['treesHistogram'], entry: 'main', bindings: ['read', 'read', 'read', 'read', 'write'] },
  combine: { files: ['treesCombine'], entry: 'main', bindings: ['read', 'write'] },
} as const satisfies Record<string, Kernel>;

/** Numbers that a word of codes makes: (high, low, rows) of 256 bins of four columns. */
export const wordSums = 3072;

export interface HistogramSizes {
  /** Rows of the node. */
  rows: number;
  /** Words of codes a row of the table has, and how many of them are wanted. */
  across: number;
  words: number;
  /** Stretches that the rows are cut into. */
  stretches: number;
  /** Bits of the lower half of a gradient. */
  half: number;
}

/** A node's histograms, in order. */
export function histogramCalls(s: HistogramSizes): Record<'histogram' | 'combine', Omit<Call, 'buffers'>> {
  const stretch = Math.ceil(s.rows / s.stretches);
  const size = s.words * wordSums;
  return {
    histogram: {
      kernel: treesKernels.histogram,
      params: [s.rows, s.across, s.words, stretch, s.stretches, s.half],
      workgroups: [s.words, s.stretches, 1],
      flops: 12 * s.rows * s.words,
      bytes: 12 * s.rows * s.words + 4 * size * s.stretches,
    },
    combine: {
      kernel: treesKernels.combine,
      params: [size, s.stretches],
      workgroups: grid(size),
      flops: size * s.stretches,
      bytes: 4 * size * (s.stretches + 1),
    },
  };
}
