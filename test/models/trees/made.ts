/** Tables, targets and settings for the tests of trees. */
import { Stream } from '../../../src/autograd/philox.ts';
import type { Table } from '../../../src/models/trees/bins.ts';
import type { TreesConfig } from '../../../src/models/trees/config.ts';

/** One exact tree, unless told otherwise. */
export const settings = (own: Partial<TreesConfig> = {}): TreesConfig => ({
  model: 'trees',
  seed: 1,
  leaveOut: 0,
  loss: 'squared',
  trees: 1,
  learningRate: 1,
  growth: { kind: 'depth', depth: 3 },
  bins: 256,
  l2: 0,
  leafRows: 1,
  minGain: 0,
  rowShare: 1,
  columnShare: 1,
  ...own,
});

/** A table of noise, with a share of values missing, and `levels` different values a column (0: as many as there are). */
export function noise(
  rows: number,
  columns: number,
  options: { missing?: number; levels?: number; seed?: number } = {},
): Table {
  const { missing = 0, levels = 0, seed = 7 } = options;
  const stream = new Stream(seed);
  const values = Float32Array.from({ length: rows * columns }, () => {
    const v = levels > 0 ? stream.below(levels) : stream.normal();
    return stream.uniform() < missing ? Number.NaN : v;
  });
  return { rows, columns, values };
}
/** A target that depends on the table, with noise: no two splits gain the same. */
export function targetOf({ rows, columns, values }: Table, seed = 3): Float64Array {
  const stream = new Stream(seed);
  return Float64Array.from({ length: rows }, (_, row) => {
    const [a, b] = [values[row * columns], values[row * columns + Math.min(1, columns - 1)]];
    return (Number.isNaN(a) ? -2 : a) + (b > 0 ? 1 : 0) + 0.3 * stream.normal();
  });
}
