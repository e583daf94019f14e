/** Trees as flat arrays: what a model file holds, and what predicting walks. */
import { Stream } from '../../autograd/philox.ts';
import { DataError } from '../../errors.ts';

/** Of random numbers; training has others. */
const shuffleStream = 3;

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

/** How far the predictions of another forest are off. */
export interface ErrorForest {
  /** Predicts absolute errors. */
  forest: Forest;
  /** What to multiply them with, so that 68.27 % of the errors lie within. */
  scale: number;
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

/** Absolute errors as a forest predicts them, but none below a tenth of the mean of those that it was trained on. */
export const errorSizes = (forest: Forest, values: Float32Array): Float64Array =>
  predict(forest, values).map((size) => Math.max(size, forest.base / 10));

/** What 68.27 % of the errors stay below, in the target's unit. @param values [rows, columns] */
export const uncertaintiesOf = ({ forest, scale }: ErrorForest, values: Float32Array): Float64Array =>
  errorSizes(forest, values).map((size) => scale * size);

/** What each column is worth: its share of all gain, and how many splits it has. */
export function importances(forest: Forest): { gain: Float64Array; splits: Uint32Array } {
  const splits = new Uint32Array(forest.columns);
  for (const s of forest.split) if (s >= 0) splits[s >> 1]++;
  const total = forest.gain.reduce((sum, g) => sum + g, 0);
  return { gain: Float64Array.from(forest.gain, (g) => (total > 0 ? g / total : 0)), splits };
}

/** Numbers of a permutation's working memory, at most: 256 MB. */
const mostShuffled = 2 ** 25;

/**
 * By how much the mean absolute error rises when a column's values are dealt to other rows, for each column. One shuffle, of the
 * first rows where there are too many for the memory.
 * @param values [rows, columns], of rows that nothing was trained on @param target [rows]
 */
export function permutationImportances(
  forest: Forest,
  values: Float32Array,
  target: ArrayLike<number>,
  seed: number,
): Float64Array {
  const { columns, starts, split, value, right } = forest;
  const rows = Math.min(target.length, Math.max(1, Math.floor(mostShuffled / columns)));
  const predicted = predict(forest, values.subarray(0, rows * columns));
  const stream = new Stream(seed, shuffleStream);
  const dealt = Uint32Array.from({ length: rows }, (_, row) => row);
  for (let i = rows - 1; i > 0; i--) {
    const j = stream.below(i + 1);
    [dealt[i], dealt[j]] = [dealt[j], dealt[i]];
  }
  // Only trees that meet a column on a row's way answer differently, from the first such node on.
  const change = new Float64Array(rows * columns);
  const met = new Int32Array(columns).fill(-1);
  const nodes = new Uint32Array(64);
  for (let tree = 0; tree + 1 < starts.length; tree++) {
    const start = starts[tree];
    const next = (node: number, v: number): number =>
      v <= value[node] || (!(v > value[node]) && (split[node] & 1) === 1) ? node + 1 : start + right[node];
    met.fill(-1);
    for (let row = 0; row < rows; row++) {
      const at = row * columns;
      let n = 0;
      let node = start;
      for (; split[node] >= 0; node = next(node, values[at + (split[node] >> 1)])) {
        const column = split[node] >> 1;
        if (met[column] === row) continue;
        met[column] = row;
        nodes[n++] = node;
      }
      const other = dealt[row] * columns;
      for (let i = 0; i < n; i++) {
        const column = split[nodes[i]] >> 1;
        let end = nodes[i];
        for (; split[end] >= 0; ) {
          const c = split[end] >> 1;
          end = next(end, values[(c === column ? other : at) + c]);
        }
        change[at + column] += value[end] - value[node];
      }
    }
  }
  const rise = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    const error = predicted[row] - target[row];
    for (let c = 0; c < columns; c++) rise[c] += (Math.abs(error + change[row * columns + c]) - Math.abs(error)) / rows;
  }
  return rise;
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
