/** Trees as flat arrays: what a model file holds, and what predicting walks. */
import { DataError } from '../../errors.ts';

/**
 * Trees one behind the other, each in preorder: a node's left child follows it. Values below or equal to a threshold go left,
 * in float32.
 */
export interface Forest {
  columns: number;
  /** What every row starts from. */
  base: number;
  /** First node of each tree, and the number of nodes: [trees + 1]. */
  starts: Uint32Array;
  /** Of an inner node twice its column, plus 1 where missing values go left; −1 of a leaf. */
  split: Int32Array;
  /** Threshold of an inner node, what a leaf adds. */
  value: Float32Array;
  /** Right child of an inner node, counted from its tree's first; 0 of a leaf. */
  right: Uint32Array;
  /** Fall of the training rows' squared error (of gradients) by each column's splits: [columns]. */
  gain: Float32Array;
}

/** Rows that stay in a cache while each tree passes. */
const block = 512;

/**
 * Predictions of rows: base and leaves summed in float64, in order of trees.
 * @param values [rows, columns], NaN where a value is missing @param trees so many of the first, all unless given
 * @throws DataError where `values` is no whole number of rows
 */
export function predict(forest: Forest, values: Float32Array, trees = forest.starts.length - 1): Float64Array {
  const { columns, base, starts, split, value, right } = forest;
  const rows = values.length / columns;
  if (!Number.isInteger(rows)) throw new DataError(`features: ${values.length} values for rows of ${columns} columns`);
  const out = new Float64Array(rows).fill(base);
  for (let from = 0; from < rows; from += block) {
    const to = Math.min(rows, from + block);
    for (let tree = 0; tree < trees; tree++) {
      const start = starts[tree];
      for (let row = from; row < to; row++) {
        const at = row * columns;
        let node = start;
        for (let s = split[node]; s >= 0; s = split[node]) {
          const v = values[at + (s >> 1)];
          // Neither below nor above: missing.
          if (v <= value[node]) node++;
          else if (v > value[node] || (s & 1) === 0) node = start + right[node];
          else node++;
        }
        out[row] += value[node];
      }
    }
  }
  return out;
}

/** What each column is worth: its share of all gain, and how many splits it has. */
export function importances(forest: Forest): { gain: Float64Array; splits: Uint32Array } {
  const splits = new Uint32Array(forest.columns);
  for (const s of forest.split) if (s >= 0) splits[s >> 1]++;
  const total = forest.gain.reduce((sum, g) => sum + g, 0);
  return { gain: Float64Array.from(forest.gain, (g) => (total > 0 ? g / total : 0)), splits };
}

/** Depth of the deepest leaf of each tree. */
export function depths({ starts, split, right }: Forest): number[] {
  return Array.from({ length: starts.length - 1 }, (_, tree) => {
    const start = starts[tree];
    const depth = new Uint32Array(starts[tree + 1] - start);
    let most = 0;
    for (let i = 0; i < depth.length; i++) {
      most = Math.max(most, depth[i]);
      if (split[start + i] >= 0) depth[i + 1] = depth[right[start + i]] = depth[i] + 1;
    }
    return most;
  });
}
