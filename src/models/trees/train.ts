/** Gradient boosting (Friedman, Annals of Statistics 29, 2001): each tree follows the gradient of the loss on a draw of the rows. */
import { setImmediate as turn } from 'node:timers/promises';
import { Stream } from '../../autograd/philox.ts';
import { ConfigError, DataError } from '../../errors.ts';
import { coverage, quantile } from '../calibration.ts';
import { type Binned, binTable, checkTable, missingBin, type Table } from './bins.ts';
import type { TreesConfig } from './config.ts';
import { type ErrorForest, errorSizes, type Forest, predict, uncertaintiesOf } from './forest.ts';
import { Grower, type Histogrammer } from './grow.ts';

/** Streams of random numbers: what is set aside, and from here on one for each tree. */
const streams = { aside: 0, leaveOut: 1, halves: 2, firstTree: 16 };
/** Fewer rows than this say nothing of an uncertainty. */
const leastWatched = 20;

/** What training tells after each tree. */
export interface TreeLog {
  trees: number;
  /** Mean loss of the training rows: squared error, or absolute. */
  loss: number;
  /** Of the rows that early stopping watches. */
  validation?: number;
}

export interface TreesOptions {
  /** Names of the columns, for messages. */
  names?: readonly string[];
  /** Rows with the same number stay together when some are set aside: [rows]. */
  groups?: Uint32Array;
  /** Makes what sums histograms of many rows instead of the processor, where something does. */
  engine?: (binned: Binned, bits: number) => Promise<Histogrammer | undefined>;
  onTree?: (log: TreeLog) => void;
  /** Asked after each tree; true ends training with the trees that there are. */
  interrupted?: () => boolean;
}

export interface Trained {
  forest: Forest;
  /** Where the settings have an uncertainty, and at least 20 rows were watched. */
  error?: ErrorForest;
  history: TreeLog[];
}

/** Rows to train on, or of them. */
interface Rows {
  table: Table;
  target: Float64Array;
  groups?: Uint32Array;
}

/** Those of the rows for which `counts` says so. */
function rowsOf({ table, target, groups }: Rows, counts: (row: number) => boolean): Rows {
  const { columns, values } = table;
  const own = Uint32Array.from(indices(table.rows, counts));
  const x = new Float32Array(own.length * columns);
  for (let i = 0; i < own.length; i++) x.set(values.subarray(own[i] * columns, (own[i] + 1) * columns), i * columns);
  return {
    table: { rows: own.length, columns, values: x },
    target: Float64Array.from(own, (row) => target[row]),
    groups: groups && Uint32Array.from(own, (row) => groups[row]),
  };
}

/** @throws DataError naming the first row without a finite target */
export function checkTarget(target: Float64Array, rows: number): void {
  if (target.length !== rows) throw new DataError(`target: ${target.length} values for ${rows} rows`);
  const bad = target.findIndex((v) => !Number.isFinite(v) || Math.abs(v) > 1e30);
  if (bad >= 0) throw new DataError(`target: row ${bad + 1} is ${target[bad]}; leave the row out, or give it a number`);
}

/**
 * Draws about a share of the rows, whole groups at a time.
 * @returns 1 for each row that is drawn. Some row is left on either side where there are two groups
 */
export function setAside(
  rows: number,
  share: number,
  seed: number,
  groups?: Uint32Array,
  stream: number = streams.aside,
): Uint8Array {
  const index = new Map<number, number>();
  const group = Uint32Array.from({ length: rows }, (_, row) => {
    const key = groups ? groups[row] : row;
    let at = index.get(key);
    if (at === undefined) index.set(key, (at = index.size));
    return at;
  });
  const count = index.size;
  const wanted = share === 0 || count < 2 ? 0 : Math.min(count - 1, Math.max(1, Math.round(share * count)));
  const drawn = drawOf(count, wanted, new Stream(seed, stream));
  return Uint8Array.from(group, (at) => drawn[at]);
}

/** Marks `wanted` of n, each set equally likely (Knuth's selection sampling). */
function drawOf(n: number, wanted: number, stream: Stream): Uint8Array {
  const drawn = new Uint8Array(n);
  let left = wanted;
  for (let i = 0; i < n && left > 0; i++) {
    if (stream.below(n - i) < left) {
      drawn[i] = 1;
      left--;
    }
  }
  return drawn;
}

/** Bits of a gradient as a whole number: histograms on the device sum its halves in 32 bits each, whatever the rows. */
export const gradientBits = (rows: number): number => Math.min(30, 2 * (31 - Math.ceil(Math.log2(rows + 1))));

/** The middle of numbers, the mean of two where there are an even number. Sorts in place. */
export function median(values: Float64Array): number {
  values.sort();
  const n = values.length;
  return n === 0 ? 0 : n % 2 === 1 ? values[n >> 1] : values[n / 2 - 1] / 2 + values[n / 2] / 2;
}

/**
 * Trains on a table. The same table, settings and seed give the same bits, on the processor or any device.
 * @param target [rows] @throws DataError, ConfigError
 */
export async function trainTrees(
  table: Table,
  target: Float64Array,
  config: TreesConfig,
  options: TreesOptions = {},
): Promise<Trained> {
  const { rows, columns } = table;
  checkTable(table, options.names);
  checkTarget(target, rows);
  if (columns > 65_535) throw new DataError(`features: ${columns} columns are too many; it takes 65535`);
  const { earlyStopping, seed } = config;
  const watched = earlyStopping ? setAside(rows, earlyStopping.share, seed, options.groups) : new Uint8Array(rows);
  const train = Uint32Array.from(indices(rows, (row) => watched[row] === 0));
  const validation = Uint32Array.from(indices(rows, (row) => watched[row] === 1));
  if (earlyStopping && validation.length === 0) {
    throw new ConfigError(`earlyStopping: ${rows} rows in one group leave none to watch; leave it out`);
  }
  const binned = binTable(table, config.bins, (row) => watched[row] === 0);
  const sampled = Math.max(1, Math.round(config.rowShare * train.length));
  const engine = await options.engine?.(binned, gradientBits(sampled));
  const boosting = new Boosting(binned, target, train, config, sampled, engine);
  const history: TreeLog[] = [];
  let best = { loss: Number.POSITIVE_INFINITY, trees: 0 };
  if (earlyStopping) best.loss = boosting.loss(validation);
  for (let tree = 1; tree <= config.trees; tree++) {
    await boosting.add();
    const log: TreeLog = { trees: tree, loss: boosting.loss(train) };
    if (earlyStopping) {
      log.validation = boosting.loss(validation);
      if (log.validation < best.loss) best = { loss: log.validation, trees: tree };
    }
    history.push(log);
    options.onTree?.(log);
    // Signals and timers get through.
    await turn();
    if (options.interrupted?.()) break;
    if (earlyStopping && tree - best.trees >= earlyStopping.patience) break;
    // Nothing is left to learn: every later tree would be the same single leaf.
    if (log.loss === 0) break;
  }
  const forest = boosting.forest(earlyStopping ? best.trees : undefined);
  if (!config.uncertainty || validation.length < leastWatched) return { forest, history };
  const unseen = rowsOf({ table, target, groups: options.groups }, (row) => watched[row] === 1);
  const error = await trainErrors(forest, unseen, config, config.uncertainty);
  return { forest, error, history };
}

/**
 * Trains a forest on the absolute errors of another, and scales it: each half of the rows by a forest of the other half, so that the
 * scale is one of rows that were not trained on.
 */
async function trainErrors(
  main: Forest,
  { table, target, groups }: Rows,
  config: TreesConfig,
  { leaves, ...own }: NonNullable<TreesConfig['uncertainty']>,
): Promise<ErrorForest> {
  const errors = predict(main, table.values).map((v, row) => Math.abs(v - target[row]));
  const settings: TreesConfig = {
    ...config,
    ...own,
    loss: 'squared',
    growth: { kind: 'leaf', leaves },
    minGain: 0,
    earlyStopping: undefined,
    uncertainty: undefined,
  };
  const all: Rows = { table, target: errors, groups };
  const grow = async (rows: Rows): Promise<Forest> => (await trainTrees(rows.table, rows.target, settings)).forest;
  const forest = await grow(all);
  const half = setAside(table.rows, 0.5, config.seed, groups, streams.halves);
  const ratios: number[] = [];
  for (const side of [0, 1]) {
    const [theirs, ours] = [rowsOf(all, (row) => half[row] !== side), rowsOf(all, (row) => half[row] === side)];
    // One group is no two halves.
    const sizes = errorSizes(theirs.table.rows > 0 ? await grow(theirs) : forest, ours.table.values);
    // A half without errors learns nothing of the other's.
    sizes.forEach((size, i) => {
      ratios.push(ours.target[i] / Math.max(size, forest.base / 10, Number.MIN_VALUE));
    });
  }
  return { forest, scale: forest.base > 0 ? quantile(Float64Array.from(ratios).sort(), coverage) : 0 };
}

/** Rows that were left out of training, and what the model says of them. */
export interface Unseen {
  table: Table;
  target: Float64Array;
  predicted: Float64Array;
  uncertainties?: Float64Array;
}

/**
 * Trains on all but a share of the rows (`leaveOut`), and measures on these: `mae`, `rmse` and `r2`, with an uncertainty `coverage`,
 * the share of the errors within it; nothing where none are left out.
 * @returns also the number of rows trained on. @throws DataError, ConfigError
 */
export async function trainMeasured(
  table: Table,
  target: Float64Array,
  config: TreesConfig,
  options: TreesOptions = {},
): Promise<Trained & { measured: Record<string, number>; trained: number; unseen?: Unseen }> {
  const { rows } = table;
  checkTable(table, options.names);
  checkTarget(target, rows);
  const { groups } = options;
  const apart = setAside(rows, config.leaveOut, config.seed, groups, streams.leaveOut);
  const all = { table, target, groups };
  const train = rowsOf(all, (row) => apart[row] === 0);
  const made = await trainTrees(train.table, train.target, config, { ...options, groups: train.groups });
  const trained = train.table.rows;
  if (trained === rows) return { ...made, measured: {}, trained };
  const left = rowsOf(all, (row) => apart[row] === 1);
  const { values } = left.table;
  const predicted = predict(made.forest, values);
  const uncertainties = made.error && uncertaintiesOf(made.error, values);
  const measured: Record<string, number> = errorsOf(predicted, left.target);
  if (uncertainties) {
    const within = predicted.filter((v, row) => Math.abs(v - left.target[row]) <= uncertainties[row]);
    measured.coverage = within.length / predicted.length;
  }
  return { ...made, measured, trained, unseen: { table: left.table, target: left.target, predicted, uncertainties } };
}

/** Mean absolute and root mean square error, and the share of the variance explained (0 where there is none). */
export function errorsOf(predicted: Float64Array, target: Float64Array): { mae: number; rmse: number; r2: number } {
  const n = target.length;
  const centre = mean(target);
  let [absolute, squared, variance] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    absolute += Math.abs(predicted[i] - target[i]);
    squared += (predicted[i] - target[i]) ** 2;
    variance += (target[i] - centre) ** 2;
  }
  return { mae: absolute / n, rmse: Math.sqrt(squared / n), r2: variance > 0 ? 1 - squared / variance : 0 };
}

function* indices(rows: number, counts: (row: number) => boolean): Generator<number> {
  for (let row = 0; row < rows; row++) if (counts(row)) yield row;
}

/** A tree as it goes into the forest. */
interface Tree {
  split: Int32Array;
  value: Float32Array;
  right: Uint32Array;
}

/** The state of boosting between two trees. */
class Boosting {
  readonly predicted: Float64Array;
  private readonly base: number;
  private readonly trees: Tree[] = [];
  private readonly gains: Float64Array[] = [];
  private readonly residual: Float64Array;
  private readonly whole: Int32Array;
  private readonly grower: Grower;
  private readonly binned: Binned;
  private readonly target: Float64Array;
  private readonly train: Uint32Array;
  private readonly config: TreesConfig;
  private readonly sample: Uint8Array;
  private readonly scratch: Float64Array;

  constructor(
    binned: Binned,
    target: Float64Array,
    train: Uint32Array,
    config: TreesConfig,
    sampled: number,
    engine?: Histogrammer,
  ) {
    const { rows } = binned;
    this.binned = binned;
    this.target = target;
    this.train = train;
    this.config = config;
    const own = Float64Array.from(train, (row) => target[row]);
    this.base = Math.fround(config.loss === 'absolute' ? median(own) : mean(own));
    this.predicted = new Float64Array(rows).fill(this.base);
    this.residual = new Float64Array(rows);
    this.whole = new Int32Array(rows);
    this.sample = new Uint8Array(rows);
    const { growth, leafRows, l2 } = config;
    this.scratch = new Float64Array(sampled);
    const limits = {
      depth: growth.depth ?? 64,
      leaves: growth.kind === 'leaf' ? growth.leaves : Number.POSITIVE_INFINITY,
      leafRows,
      l2,
    };
    this.grower = new Grower(binned, sampled, limits, engine);
  }

  /** Mean loss of rows. */
  loss(rows: Uint32Array): number {
    const { target, predicted } = this;
    const absolute = this.config.loss === 'absolute';
    let sum = 0;
    for (let i = 0; i < rows.length; i++) {
      const d = target[rows[i]] - predicted[rows[i]];
      sum += absolute ? Math.abs(d) : d * d;
    }
    return sum / rows.length;
  }

  /** Grows one more tree. */
  async add(): Promise<void> {
    const { config, train, target, predicted, residual, whole, grower, sample, binned } = this;
    const stream = new Stream(config.seed, streams.firstTree + this.trees.length);
    const absolute = config.loss === 'absolute';
    const sampled = grower.order.length;
    let largest = 0;
    for (let i = 0; i < train.length; i++) {
      const row = train[i];
      const d = target[row] - predicted[row];
      residual[row] = d;
      largest = Math.max(largest, Math.abs(d));
    }
    // A power of two: residuals that are whole numbers of it stay exact.
    const bits = gradientBits(sampled);
    // Residuals below 2^-400 are none, and squares of the scale stay numbers.
    const scale = largest === 0 ? 1 : 2 ** (bits - (absolute ? 0 : Math.max(-400, Math.ceil(Math.log2(largest)))));
    for (let i = 0; i < train.length; i++) {
      const row = train[i];
      whole[row] = Math.round((absolute ? Math.sign(residual[row]) : residual[row]) * scale);
    }
    sample.fill(0);
    const drawn = sampled === train.length ? undefined : drawOf(train.length, sampled, stream);
    let n = 0;
    for (let i = 0; i < train.length; i++) {
      if (drawn && drawn[i] === 0) continue;
      grower.order[n++] = train[i];
      sample[train[i]] = 1;
    }
    grower.gains.fill(0);
    await grower.grow(whole, sampled, this.columns(stream), config.minGain * scale * scale, 1 / (scale * scale), bits);
    const leaves = this.leaves();
    for (let node = 0; node < grower.nodes; node++) {
      if (grower.column[node] >= 0) continue;
      for (let i = grower.start[node]; i < grower.end[node]; i++) predicted[grower.order[i]] += leaves[node];
    }
    // Rows that the tree has not seen find their leaf.
    const { codes, rows } = binned;
    const { column, bin, missingLeft, left, right } = grower;
    for (let row = 0; row < rows; row++) {
      if (sample[row] === 1) continue;
      let node = 0;
      while (column[node] >= 0) {
        const code = codes[column[node] * rows + row];
        const goesLeft = code <= bin[node] || (code === missingBin && missingLeft[node] === 1);
        node = goesLeft ? left[node] : right[node];
      }
      predicted[row] += leaves[node];
    }
    this.trees.push(preorder(grower, leaves));
    this.gains.push(grower.gains.slice());
  }

  /** Columns of a tree in the order in which equal gains count: drawn for each, so that no column is preferred for its place. */
  private columns(stream: Stream): Uint16Array {
    const { length } = this.binned.columns;
    const wanted = Math.max(1, Math.round(this.config.columnShare * length));
    const all = Uint16Array.from({ length }, (_, c) => c);
    for (let i = 0; i < wanted; i++) {
      const j = i + stream.below(length - i);
      [all[i], all[j]] = [all[j], all[i]];
    }
    return all.slice(0, wanted);
  }

  /** What each leaf adds: the mean residual (shrunk by λ) or the median, times the learning rate, as float32. */
  private leaves(): Float32Array {
    const { grower, residual, config, scratch } = this;
    const out = new Float32Array(grower.nodes);
    for (let node = 0; node < grower.nodes; node++) {
      if (grower.column[node] >= 0) continue;
      const start = grower.start[node];
      const end = grower.end[node];
      let value: number;
      if (config.loss === 'absolute') {
        for (let i = start; i < end; i++) scratch[i - start] = residual[grower.order[i]];
        value = median(scratch.subarray(0, end - start));
      } else {
        let sum = 0;
        for (let i = start; i < end; i++) sum += residual[grower.order[i]];
        value = sum / (end - start + config.l2);
      }
      out[node] = config.learningRate * value;
    }
    return out;
  }

  /** The first so many trees, all unless given. */
  forest(trees = this.trees.length): Forest {
    const kept = this.trees.slice(0, trees);
    const starts = new Uint32Array(trees + 1);
    kept.forEach(({ split }, i) => {
      starts[i + 1] = starts[i] + split.length;
    });
    const nodes = starts[trees];
    const columns = this.binned.columns.length;
    const forest: Forest = {
      columns,
      base: this.base,
      starts,
      split: new Int32Array(nodes),
      value: new Float32Array(nodes),
      right: new Uint32Array(nodes),
      gain: Float32Array.from({ length: columns }, (_, c) =>
        this.gains.slice(0, trees).reduce((sum, gains) => sum + gains[c], 0),
      ),
    };
    kept.forEach((tree, i) => {
      for (const name of ['split', 'value', 'right'] as const) forest[name].set(tree[name], starts[i]);
    });
    return forest;
  }
}

/** A grown tree's nodes, each followed by its left child. */
function preorder(grower: Grower, leaves: Float32Array): Tree {
  const { nodes, column, missingLeft, threshold } = grower;
  const tree = { split: new Int32Array(nodes), value: new Float32Array(nodes), right: new Uint32Array(nodes) };
  let n = 0;
  const parents: number[] = [];
  const stack = [0];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    const at = n++;
    // A right child comes when all to the left of it are done; its parent is then on top.
    if (at > 0 && tree.split[at - 1] < 0) tree.right[parents.pop()!] = at;
    if (column[node] < 0) {
      tree.split[at] = -1;
      tree.value[at] = leaves[node];
      continue;
    }
    tree.split[at] = 2 * column[node] + missingLeft[node];
    tree.value[at] = threshold[node];
    parents.push(at);
    stack.push(grower.right[node], grower.left[node]);
  }
  return tree;
}

const mean = (values: Float64Array): number => values.reduce((sum, v) => sum + v, 0) / values.length;
