/**
 * A sample filter: a discriminator that learns to tell a generator's formulas from real ones, and keeps of the generator's those
 * that it might have taken for real, by discriminator rejection sampling (Azadi et al., ICLR 2019, arXiv:1810.06758). At the optimum its logit is
 * ln p(x)/q(x), so formulas kept with a probability in proportion to exp(logit) are distributed as the real ones.
 *
 * It sees formulas as they were decoded, not the generator's cells: what a critic on soft cells cannot see (how many elements are left after
 * decoding, multiples such as Na2Cl2) it sees as plainly as chemistry.
 */
import * as b from '../autograd/build.ts';
import type { Executor } from '../autograd/executor.ts';
import { grad } from '../autograd/grad.ts';
import type { Graph, Node } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { countCount, elementCount } from '../autograd/ops/random.ts';
import { open01, philox, seedKey } from '../autograd/philox.ts';
import type { Plan } from '../autograd/plan.ts';
import { type PackedFormulas, rowWords } from '../chem/encoding.ts';
import { CheckpointError, ConfigError } from '../errors.ts';
import type { FilterConfig } from './config.ts';
import { ParameterSet } from './layers.ts';
import {
  batchRows,
  dataOf,
  eachBatch,
  type Measurement,
  networkState,
  type StateVariable,
  stateRows,
  type Trainer,
  update,
} from './training.ts';

const streams = { real: 0, generated: 1, initial: 2, sieve: 3, firstMask: 16 };
const slope = 0.2;
/** Weight of the number of elements beside inputs that are 0 or 1, and of an element's number of atoms. */
const sizeScale = 0.25;
const atomScale = 0.25;

/** Zeroes a share of x's elements; `draw` tells the masks of one step apart. */
type Dropout = (x: Node, draw: number) => Node;

export interface FilterNetwork {
  parameters: ParameterSet;
  /** Cells [n, 85, 8, 1], in one or more parts → logits [n, 1], the logarithm of how much more often real formulas are this one. */
  apply(parts: readonly Node[], weights: readonly Node[], dropout?: Dropout): Node;
}

/** Dense layers over the cells, which elements are there, how many atoms of each, and how many elements. */
export function filterNetwork({ hidden }: Pick<FilterConfig, 'hidden'>): FilterNetwork {
  const parameters = new ParameterSet();
  const he = (fanIn: number) => ({ deviation: Math.sqrt(2 / (1 + slope * slope) / fanIn) });
  const cellInputs = elementCount * countCount;
  // A formula sets about three of the 85 × 8 cells: that is the fan-in that counts.
  const set = 3;
  const [cellWeights, elementWeights, atomWeights, sizeWeights] = (
    [
      ['cells', cellInputs],
      ['elements', elementCount],
      ['atoms', elementCount],
      ['size', 1],
    ] as const
  ).map(([name, inputs]) => parameters.add(`${name}.weights`, [inputs, hidden[0]], he(4 * set)));
  const firstBias = parameters.add('first.bias', [hidden[0]], { constant: 0 });
  const layers = [...hidden.slice(1), 1].map((units, i) => {
    const last = i === hidden.length - 1;
    const name = last ? 'out' : `dense${i}`;
    const deviation = last ? { deviation: 1 / Math.sqrt(hidden[i]) } : he(hidden[i]);
    return {
      weights: parameters.add(`${name}.weights`, [hidden[i], units], deviation),
      bias: parameters.add(`${name}.bias`, [units], { constant: 0 }),
    };
  });
  return {
    parameters,
    apply: (parts, weights, dropout = (x) => x) => {
      // All of these are sums of cells: their weights join those of the cells, and one product does it all.
      const [units] = hidden;
      const { graph } = weights[0];
      const atoms = b.concat(Array.from({ length: countCount }, (_, c) => b.fill(graph, (c + 1) * atomScale, [1])));
      const each = b.reshape(weights[cellWeights], [elementCount, countCount, units]);
      const byAtoms = b.mul(
        b.reshape(weights[atomWeights], [elementCount, 1, units]),
        b.reshape(atoms, [1, countCount, 1]),
      );
      const shared = b.add(
        b.reshape(weights[elementWeights], [elementCount, 1, units]),
        b.reshape(b.scale(weights[sizeWeights], sizeScale), [1, 1, units]),
      );
      const joined = b.reshape(b.add(b.add(each, byAtoms), shared), [cellInputs, units]);
      const sums = parts.map((cells) => b.dense(b.reshape(cells, [cells.shape[0], cellInputs]), joined));
      let x = b.add(sums.length === 1 ? sums[0] : b.concat(sums), weights[firstBias]);
      layers.forEach((layer, i) => {
        x = dropout(b.leakyRelu(x, slope), i);
        x = b.add(b.dense(x, weights[layer.weights]), weights[layer.bias]);
      });
      return x;
    },
  };
}

/** ln(1 + e^x), without overflow. */
const softplus = (x: Node): Node => b.add(b.relu(x), b.log(b.scale(b.exp(b.neg(b.abs(x))), 1, 1)));

/**
 * One step on as many real as generated formulas: logistic loss of both.
 * @param rows packed rows in the variable `data`: `config.pool` generated ones, then the real ones
 * @throws ConfigError where no real rows are left
 */
export function filterTrainer(config: FilterConfig, rows: number): Trainer {
  const { pool, batch, dropout: rate } = config;
  if (rows <= pool) throw new ConfigError(`filter: ${rows} rows hold no real ones behind a pool of ${pool}`);
  const graph = newGraph();
  const key = seedKey(config.seed);
  const network = filterNetwork(config);
  const { parameters } = network;
  const step = graph.variable('step', [2], 'u32');
  const data = graph.variable('data', [rows, rowWords], 'u32');
  const state = networkState(graph, 'filter', parameters, config.optimiser, config.seed, streams.initial);
  const draw = (first: number, count: number, stream: number): Node =>
    b.unfold(data, b.sampleRows(step, { rows: count, first, batch, draw: 0, draws: 1, stream, key }));
  const parts = [draw(pool, rows - pool, streams.real), draw(0, pool, streams.generated)];
  const weights = parameters.views(state.node);
  const dropout: Dropout = (x, i) =>
    rate === 0 ? x : b.mul(x, b.randomMask(step, x.shape, { key, stream: streams.firstMask + i, rate }));
  const logits = network.apply(parts, weights, dropout);
  const onReal = b.mean(softplus(b.neg(b.rows(logits, 0, batch))));
  const onGenerated = b.mean(softplus(b.rows(logits, batch, 2 * batch)));
  const loss = b.add(onReal, onGenerated);
  const gradient = parameters.pack(grad(loss, weights));
  const next = update(config.optimiser, state.node, gradient, step, {
    decay: config.decay,
    every: 1,
    offset: 0,
    clip: 0,
  });
  return {
    config,
    outputs: { loss },
    updates: [
      [state.node, next],
      [step, b.increment(step)],
    ],
    state: [state],
    step,
    data,
    counts: { filter: parameters.count },
    checks: () => [{ name: 'filter', loss, gradient, state }],
    measuredRows: mostMeasured,
    measure: (executor, leaveOut) => filterMeasure(config, executor, dataOf(leaveOut) as Uint32Array),
  };
}

/** Rows measured at most, and at a time. */
const mostMeasured = 8192;
const measureBatch = 256;

/** Logits of packed rows from the filter in an executor's variables: one plan, run as often as one likes. */
async function logitPlan(
  config: FilterConfig,
  executor: Executor,
  packed: Uint32Array,
): Promise<{ run: () => Promise<Float32Array>; destroy: () => void }> {
  const rows = packed.length / rowWords;
  const batch = Math.min(measureBatch, rows);
  const graph = newGraph();
  const { apply } = filterOn(graph, config, stateRows[config.optimiser.name]);
  const data = graph.variable('measure.data', [rows, rowWords], 'u32');
  const chosen = graph.variable('measure.rows', [batch], 'u32');
  const logits = apply(b.unfold(data, chosen));
  let plan: Plan;
  try {
    executor.write(data, packed);
    plan = await executor.plan({ outputs: [logits] });
  } catch (error) {
    executor.forget([data, chosen]);
    throw error;
  }
  const run = async (): Promise<Float32Array> => {
    const all = new Float32Array(rows);
    await eachBatch(rows, batch, async (start) => {
      executor.write(chosen, batchRows(start, batch));
      plan.run();
      all.set((await plan.read(logits)) as Float32Array, start);
    });
    return all;
  };
  const destroy = (): void => {
    plan.destroy();
    executor.forget([data, chosen]);
  };
  return { run, destroy };
}

/** The filter's variable in a graph, and what it makes of cells. @param rows of the variable, the weights first */
export function filterOn(
  graph: Graph,
  config: FilterConfig,
  rows: readonly string[],
): { state: StateVariable; apply: (cells: Node) => Node } {
  const { parameters, apply } = filterNetwork(config);
  const node = graph.variable('filter', [rows.length, parameters.size]);
  const weights = parameters.views(node);
  const initial = (): Float32Array => new Float32Array(rows.length * parameters.size);
  return { state: { node, rows, parameters, initial }, apply: (cells) => apply([cells], weights) };
}

/** The loss on rows that training leaves alone: the first half real ones, the second generated. */
async function filterMeasure(config: FilterConfig, executor: Executor, packed: Uint32Array): Promise<Measurement> {
  const { run, destroy } = await logitPlan(config, executor, packed);
  return {
    run: async () => {
      const logits = await run();
      const half = logits.length / 2;
      let loss = 0;
      logits.forEach((logit, i) => {
        const z = i < half ? -logit : logit;
        loss += (Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)))) / half;
      });
      return { lossLeaveOut: loss };
    },
    destroy,
  };
}

/** Rows of a filter's training, as `filterTrainer` wants them, and of its measurement. */
export interface FilterRows {
  train: PackedFormulas;
  leaveOut: PackedFormulas;
}

/**
 * Puts real and generated rows together: generated ones in front, and a share of both set apart, of the real ones evenly: tables are often
 * sorted.
 * @param generated at least `config.pool` rows and as many as are set apart of the real ones
 */
export function filterRows(config: FilterConfig, real: PackedFormulas, generated: PackedFormulas): FilterRows {
  const { pool } = config;
  const apart = apartOf(config, real.rows);
  const rows = pool + real.rows - apart;
  const train = new Uint32Array(rows * rowWords);
  const leaveOut = new Uint32Array(2 * apart * rowWords);
  train.set(generated.packed.subarray(0, pool * rowWords));
  leaveOut.set(generated.packed.subarray(pool * rowWords, (pool + apart) * rowWords), apart * rowWords);
  let [left, used] = [0, pool];
  for (let row = 0; row < real.rows; row++) {
    // The apart-th parts of all rows each give their last one.
    const leaves = Math.floor(((row + 1) * apart) / real.rows) > left;
    const [into, at] = leaves ? [leaveOut, left++] : [train, used++];
    into.set(real.packed.subarray(row * rowWords, (row + 1) * rowWords), at * rowWords);
  }
  return { train: { packed: train, rows }, leaveOut: { packed: leaveOut, rows: 2 * apart } };
}

/** Real rows that training leaves alone: of the training rows, so that what is left out for evaluation stays unseen. */
const apartOf = ({ leaveOut }: FilterConfig, real: number): number =>
  Math.min(mostMeasured / 2, Math.max(1, Math.floor(leaveOut * real)));

/** Generated rows that a filter's training takes. */
export const generatedRows = (config: FilterConfig, real: number): number => config.pool + apartOf(config, real);

/**
 * The offset m for which formulas kept with probability min(1, exp(logit − m)) are the share `keep` of all, by bisection.
 * @param logits of a sample; @returns −∞ for a share of 1
 */
export function keepOffset(logits: ArrayLike<number>, keep: number): number {
  if (keep >= 1) return Number.NEGATIVE_INFINITY;
  const kept = (m: number): number => {
    let sum = 0;
    for (let i = 0; i < logits.length; i++) sum += Math.min(1, Math.exp(logits[i] - m));
    return sum / logits.length;
  };
  let [low, high] = [-200, 200];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (kept(middle) > keep) low = middle;
    else high = middle;
  }
  return high;
}

/** Samples that may come before one is kept, times the share that should be. */
const patience = 100_000;

/**
 * Keeps formulas by their logits, each with probability min(1, exp(logit − offset)). The draw belongs to the sample's number: the same
 * seed keeps the same ones wherever drawing begins.
 */
export class Sieve {
  private readonly offset: number;
  private readonly most: number;
  private readonly key: readonly [number, number];
  /** Samples since one was kept. */
  private refused = 0;

  /** @param logits of a sample, by which the offset is set so that the share `keep` stays */
  constructor(logits: ArrayLike<number>, keep: number, seed: number) {
    this.offset = keepOffset(logits, keep);
    this.most = patience / keep;
    this.key = seedKey(seed);
  }

  /** One that keeps every formula, and drops only samples that are none. */
  static all(): Sieve {
    return new Sieve([], 1, 0);
  }

  /**
   * Zeroes the packed rows that go; those after the first `most` that stay go too.
   * @param first number of the first row's sample
   * @returns how many stay. @throws CheckpointError where hardly anything ever does
   */
  take(words: Uint32Array, rows: number, most: number, first = 0, logits?: ArrayLike<number>): number {
    const { key, offset } = this;
    let kept = 0;
    for (let row = 0; row < rows; row++) {
      const at = row * rowWords;
      if (words[at] === 0) {
        this.refused++;
        continue;
      }
      const sample = first + row;
      const [word] = philox([sample >>> 0, Math.floor(sample / 2 ** 32), streams.sieve, 0x73696576], key, drawn);
      const stays = kept < most && open01(word) < Math.exp((logits?.[row] ?? 0) - offset);
      this.refused = stays ? 0 : this.refused + 1;
      if (stays) kept++;
      else words.fill(0, at, at + rowWords);
    }
    if (kept < most && this.refused > this.most) {
      throw new CheckpointError(
        `none of the last ${this.refused} samples was kept: the generator needs more training, or its filter is another one's`,
      );
    }
    return kept;
  }
}
const drawn = new Uint32Array(4);
