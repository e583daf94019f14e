/**
 * ElemNet (Jha et al., Scientific Reports 8:17593, 2018): a property of a compound, such as its formation energy per atom, from the
 * fractions of its elements and nothing else. The paper's network is seventeen fully connected layers; the `residual` one adds what helps.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import * as b from '../autograd/build.ts';
import { type Executor, GpuExecutor } from '../autograd/executor.ts';
import { grad } from '../autograd/grad.ts';
import { type Graph, type Node, sizeOf } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { seedKey } from '../autograd/philox.ts';
import type { Data, Plan } from '../autograd/plan.ts';
import { elementCount, type PackedFormulas } from '../chem/encoding.ts';
import { packedFractions } from '../chem/fractions.ts';
import { CheckpointError, ConfigError } from '../errors.ts';
import { type Calibration, calibrate } from './calibration.ts';
import { assemble, type Checkpoint } from './checkpoint.ts';
import type { ElemNetConfig } from './config.ts';
import { ElementSums } from './elementSums.ts';
import { ParameterSet } from './layers.ts';
import { Pace } from './pace.ts';
import { fractionsOf, type TableRows, tableOf, tableSize, targetsAt, targetsOf } from './table.ts';
import { type Measurement, networkState, type StateVariable, stateRows, type Trainer, update } from './training.ts';

const streams = { rows: 0, initial: 1, firstMask: 16 };
/** Zeroes a share of x's elements; `draw` tells the masks of one step apart. */
type Dropout = (x: Node, draw: number, rate: number) => Node;
const noDropout: Dropout = (x) => x;

interface Member {
  /** Fractions [n, 85] → what goes into the rest [n, width]. */
  first(fractions: Node, weights: readonly Node[]): Node;
  /** → one number a row [n, 1], in deviations of the training targets from their mean. */
  rest(x: Node, weights: readonly Node[], dropout: Dropout): Node;
  /** Where `first` is a bias and a part of each element by itself: indices of its parameters. */
  sums?: { bias: number; linear: number; bumps?: number };
}

export interface ElemNet {
  parameters: ParameterSet;
  members: readonly Member[];
}

/** All members over one parameter set, so that one optimiser dispatch updates them. */
export function elemNet({ network, members }: Pick<ElemNetConfig, 'network' | 'members'>): ElemNet {
  const parameters = new ParameterSet();
  const names = Array.from({ length: members }, (_, m) => (members === 1 ? '' : `member${m}.`));
  return {
    parameters,
    members: names.map((prefix) =>
      network.kind === 'plain'
        ? plainMember(network.blocks, parameters, prefix)
        : residualMember(network, parameters, prefix),
    ),
  };
}

type Layer = (x: Node, weights: readonly Node[]) => Node;
type Dense = Layer & { weights: number; bias: number };

/** A fully connected layer. @param deviation of the initial weights; He's for ReLU unless said */
function dense(
  parameters: ParameterSet,
  name: string,
  inputs: number,
  outputs: number,
  deviation = Math.sqrt(2 / inputs),
): Dense {
  const w = parameters.add(`${name}.weights`, [inputs, outputs], { deviation });
  const bias = parameters.add(`${name}.bias`, [outputs], { constant: 0 });
  const layer: Layer = (x, weights) => b.add(b.dense(x, weights[w]), weights[bias]);
  return Object.assign(layer, { weights: w, bias });
}

type Blocks = Extract<ElemNetConfig['network'], { kind: 'plain' }>['blocks'];

/** ElemNet as published: ReLU after every layer but the last, dropout after blocks of layers. */
function plainMember(blocks: Blocks, parameters: ParameterSet, prefix: string): Member {
  let width: number = elementCount;
  const layers = blocks.flatMap(({ units, layers, keep }) =>
    Array.from({ length: layers }, (_, i) => {
      // A row's fractions sum to 1 over about three elements: its first layer needs wider weights to keep the variance.
      const first = width === elementCount;
      const layer = dense(parameters, `${prefix}dense${units}.${i}`, width, units, first ? Math.SQRT2 : undefined);
      width = units;
      return { layer, rate: i === layers - 1 ? 1 - keep : 0 };
    }),
  );
  const out = dense(parameters, `${prefix}out`, width, 1, Math.sqrt(1 / width));
  return {
    first: (fractions) => fractions,
    rest: (fractions, weights, dropout) => {
      let x = fractions;
      layers.forEach(({ layer, rate }, i) => {
        x = b.relu(layer(x, weights));
        if (rate > 0) x = dropout(x, i, rate);
      });
      return out(x, weights);
    },
  };
}

type Residual = Extract<ElemNetConfig['network'], { kind: 'residual' }>;

/** Blocks x + f(x) over a first layer that also sees bumps over each fraction, and mean and variance of learned element vectors. */
function residualMember(config: Residual, parameters: ParameterSet, prefix: string): Member {
  const { width, blocks, hidden, norm, dropout: rate, bumps, embedding } = config;
  const first = dense(parameters, `${prefix}fractions`, elementCount, width, 1);
  const onBumps =
    bumps.length > 0
      ? parameters.add(`${prefix}bumps.weights`, [elementCount * bumps.length, width], { deviation: 0.3 })
      : undefined;
  const vectors =
    embedding > 0
      ? {
          elements: parameters.add(`${prefix}elements`, [elementCount, embedding], { deviation: 0.5 }),
          mean: parameters.add(`${prefix}mean.weights`, [embedding, width], { deviation: 1 / Math.sqrt(embedding) }),
          variance: parameters.add(`${prefix}variance.weights`, [embedding, width], {
            deviation: 1 / Math.sqrt(embedding),
          }),
        }
      : undefined;
  const normed = (name: string): Layer => {
    if (norm === 'none') return (x) => x;
    const gamma = parameters.add(`${name}.gamma`, [width], { constant: 1 });
    const beta = parameters.add(`${name}.beta`, [width], { constant: 0 });
    return (x, weights) => b.layerNorm(x, weights[gamma], weights[beta], 1e-5);
  };
  const layers = Array.from({ length: blocks }, (_, i) => ({
    norm: normed(`${prefix}block${i}.norm`),
    down: dense(parameters, `${prefix}block${i}.in`, width, hidden),
    // Blocks start as little more than the identity: the deeper the network, the less each adds.
    up: dense(parameters, `${prefix}block${i}.out`, hidden, width, 0.3 / Math.sqrt(hidden)),
  }));
  const lastNorm = normed(`${prefix}norm`);
  const out = dense(parameters, `${prefix}out`, width, 1, Math.sqrt(0.1 / width));
  return {
    first: (fractions, weights) => {
      // Each kind of input has weights of its own: a sum of products is the product of what stands side by side.
      let x = first(fractions, weights);
      if (onBumps !== undefined) x = b.add(x, b.dense(bumpsOver(fractions, bumps), weights[onBumps]));
      if (!vectors) return x;
      const elements = weights[vectors.elements];
      const mean = b.dense(fractions, elements);
      const variance = b.sub(b.dense(fractions, b.square(elements)), b.square(mean));
      return b.add(x, b.add(b.dense(mean, weights[vectors.mean]), b.dense(variance, weights[vectors.variance])));
    },
    rest: (start, weights, dropout) => {
      let x = start;
      layers.forEach(({ norm, down, up }, i) => {
        const h = b.relu(down(norm(x, weights), weights));
        x = b.add(x, up(rate > 0 ? dropout(h, i, rate) : h, weights));
      });
      return out(b.relu(lastNorm(x, weights)), weights);
    },
    sums: vectors ? undefined : { bias: first.bias, linear: first.weights, bumps: onBumps },
  };
}

/** Fractions [n, 85] → [n, 85·k]: for each element there is, exp(−((f − at)/width)²) at each of k places; 0 for the others. */
function bumpsOver(fractions: Node, bumps: Residual['bumps']): Node {
  const [n] = fractions.shape;
  const { graph } = fractions;
  const row = (values: readonly number[]): Node =>
    b.reshape(b.concat(values.map((value) => b.fill(graph, value, [1]))), [1, 1, values.length]);
  const x = b.reshape(fractions, [n, elementCount, 1]);
  const there = b.leakyReluGrad(x, b.fill(graph, 1, x.shape), 0);
  const away = b.mul(b.sub(x, row(bumps.map(({ at }) => at))), row(bumps.map(({ width }) => 1 / width)));
  return b.reshape(b.mul(b.exp(b.neg(b.square(away))), there), [n, elementCount * bumps.length]);
}

/** Mean and deviation of the training targets: constant, and saved with the model. */
function targetVariable(graph: Graph): StateVariable {
  return {
    node: graph.variable('elemnet.target', [2]),
    initial: (rows) => {
      if (!rows || !('values' in rows)) return Float32Array.of(0, 1);
      const targets = targetsOf(rows);
      const mean = targets.reduce((sum, value) => sum + value / targets.length, 0);
      const variance = targets.reduce((sum, value) => sum + (value - mean) ** 2 / targets.length, 0);
      // Targets that are all the same have none.
      return Float32Array.of(mean, Math.sqrt(variance) || 1);
    },
  };
}

/** What turns the members' spread into an uncertainty; set whenever the run measures. */
const calibrationVariable = (graph: Graph): StateVariable => ({
  node: graph.variable('elemnet.calibration', [2]),
  initial: () => Float32Array.of(0, 1),
});

/**
 * One step on `batch` rows of the variable `data`, a table (src/models/table.ts): mean absolute error, each member by itself.
 * @throws ConfigError where there are no rows
 */
export function elemNetTrainer(config: ElemNetConfig, rows: number): Trainer {
  if (rows < 1) throw new ConfigError('elemnet: no rows to train on');
  const { batch, averaging, seed, optimiser } = config;
  const graph = newGraph();
  const key = seedKey(seed);
  const { parameters, members } = elemNet(config);
  const step = graph.variable('step', [2], 'u32');
  const data = graph.variable('data', [tableSize(rows)]);
  const state = networkState(graph, 'elemnet', parameters, optimiser, seed, streams.initial);
  const target = targetVariable(graph);
  const drawn = b.sampleRows(step, { rows, batch, draw: 0, draws: 1, stream: streams.rows, key });
  const fractions = b.gather(b.view(data, 0, [rows, elementCount]), drawn);
  const values = b.gather(b.view(data, targetsAt(rows), [rows, 1]), drawn);
  const [mean, deviation] = [0, 1].map((at) => b.view(target.node, at, [1, 1]));
  const wanted = b.div(b.sub(values, mean), deviation);
  const weights = parameters.views(state.node);
  const losses = members.map((member, m) => {
    const dropout: Dropout = (x, draw, rate) =>
      b.mul(x, b.randomMask(step, x.shape, { key, stream: streams.firstMask + 64 * m + draw, rate }));
    const found = member.rest(member.first(fractions, weights), weights, dropout);
    return b.mean(b.abs(b.sub(found, wanted)));
  });
  // The sum: each member's gradient is what it would be alone.
  const total = losses.reduce((sum, loss) => b.add(sum, loss));
  const loss = b.mul(b.scale(total, 1 / members.length), b.reshape(deviation, []));
  const gradient = parameters.pack(grad(total, weights));
  const next = update(optimiser, state.node, gradient, step, { decay: config.decay, every: 1, offset: 0, clip: 0 });
  const updates: [Node, Node][] = [
    [state.node, next],
    [step, b.increment(step)],
  ];
  const saved = [state, target, calibrationVariable(graph)];
  if (averaging > 0) {
    const { size } = parameters;
    const node = graph.variable('elemnet.average', [1, size]);
    saved.push({
      node,
      rows: ['average'],
      parameters,
      initial: (training) => (state.initial(training) as Float32Array).slice(0, size),
    });
    updates.push([node, b.ema(node, b.view(next, 0, [1, size]), averaging)]);
  }
  return {
    config,
    outputs: { loss },
    updates,
    state: saved,
    step,
    data,
    counts: { elemnet: parameters.count },
    checks: () => [{ name: 'elemnet', loss: total, gradient, state }],
    measuredRows: mostMeasured,
    measure: (executor, rows) => elemNetMeasure(config, executor, rows as TableRows),
  };
}

/** Rows that a measurement and a calibration look at, at most. */
const mostMeasured = 16_384;
/** Passes with dropout that tell how sure a single network is. */
const dropoutPasses = 8;

/** Predictions in the target's unit, and how far members (or passes with dropout) lie apart: a standard deviation. */
export interface Predicted {
  values: Float32Array;
  spreads: Float32Array;
}

export interface Predictor {
  /** @param fractions [n, 85], any number of rows */
  run(fractions: Float32Array): Promise<Predicted>;
  destroy(): void;
}

/** Batches handed to the device before the first of them is waited for: who asks can do other work meanwhile. */
const ahead = 16;

/**
 * Asks for one batch after the other, several ahead on a device, and uses what comes back in order. The last batch may overlap the one
 * before it. On a software adapter most of the waiting is slept through: polling would take a core that computes.
 */
async function eachAhead(
  executor: Executor,
  pace: Pace,
  rows: number,
  batch: number,
  ask: (start: number) => Promise<Data>,
  use: (start: number, found: Data) => void,
): Promise<void> {
  const most = executor.kind === 'gpu' ? ahead : 1;
  const polite = executor instanceof GpuExecutor && executor.device.info.software;
  const waiting: { start: number; read: Promise<Data> }[] = [];
  let fresh = 0;
  let since = performance.now();
  try {
    while (fresh < rows || waiting.length > 0) {
      for (; waiting.length < most && fresh < rows; fresh += batch) {
        const start = Math.max(0, Math.min(fresh, rows - batch));
        const read = ask(start);
        // Whoever comes to wait for it sees the error; until then it must not count as one that nobody caught.
        read.catch(() => {});
        waiting.push({ start, read });
      }
      // Half of them: the device has the other half to go on with.
      const now = waiting.splice(0, Math.max(1, Math.min(waiting.length, most / 2)));
      const left = polite ? pace.sleep(now.length) - (performance.now() - since) : 0;
      if (left > 2) await sleep(left);
      const awake = performance.now();
      for (const { start, read } of now) use(start, await read);
      pace.note(performance.now() - since, performance.now() - awake, now.length);
      since = performance.now();
    }
  } finally {
    await Promise.allSettled(waiting.map(({ read }) => read));
  }
}

/** What a prediction needs of a model's state, in a graph of its own. */
function predictingState(graph: Graph, config: ElemNetConfig, parameters: ParameterSet): StateVariable {
  const rows = config.averaging > 0 ? ['average'] : stateRows[config.optimiser.name];
  const name = config.averaging > 0 ? 'elemnet.average' : 'elemnet';
  const node = graph.variable(name, [rows.length, parameters.size]);
  return { node, rows, parameters, initial: () => new Float32Array(rows.length * parameters.size) };
}

/** What the plan of a predictor takes of each batch of fractions. */
interface Inputs {
  node: Node;
  /** Of each member. */
  starts: Node[];
  /** @param fractions of at most a batch of rows */
  of(fractions: Float32Array): Float32Array;
}

/** The fractions themselves. */
function plainInputs(
  graph: Graph,
  name: string,
  members: readonly Member[],
  weights: readonly Node[],
  batch: number,
): Inputs {
  const node = graph.variable(`${name}.fractions`, [batch, elementCount]);
  const padded = new Float32Array(batch * elementCount);
  const of = (fractions: Float32Array): Float32Array => {
    padded.set(fractions);
    return padded;
  };
  return { node, starts: members.map((member) => member.first(node, weights)), of };
}

/** What the first layers make of them, where that can be worked out by element: half of the arithmetic is spared. */
function summedInputs(graph: Graph, name: string, sums: ElementSums, batch: number): Inputs {
  const { members, width } = sums;
  const node = graph.variable(`${name}.sums`, [members * batch, width]);
  const starts = Array.from({ length: members }, (_, m) => b.rows(node, m * batch, (m + 1) * batch));
  const out = new Float32Array(members * batch * width);
  const of = (fractions: Float32Array): Float32Array => {
    for (let row = 0; row < fractions.length / elementCount; row++) sums.write(fractions, row, out, batch);
    return out;
  };
  return { node, starts, of };
}

/**
 * The sums of a trained model; undefined where its first layer is no such sum.
 * @param flat its parameters; @param most members, all of them unless said
 */
export function elementSums(
  config: Pick<ElemNetConfig, 'network' | 'members'>,
  flat: Float32Array,
  most = config.members,
): ElementSums | undefined {
  const { network } = config;
  const { parameters, members } = elemNet(config);
  if (network.kind !== 'residual' || members.some(({ sums }) => !sums)) return undefined;
  const part = (index: number): Float32Array => {
    const { offset, shape } = parameters.list[index];
    return flat.subarray(offset, offset + sizeOf(shape));
  };
  const of = members.slice(0, most).map(({ sums }) => {
    const { bias, linear, bumps } = sums!;
    return { bias: part(bias), linear: part(linear), bumps: bumps === undefined ? new Float32Array(0) : part(bumps) };
  });
  return new ElementSums(of, network.bumps);
}

/**
 * Rows of formulas to predictions, by the model in an executor's variables: one plan for batches of `batch` rows.
 * @param sums of the model, where its weights stay as they are
 * @param most members that predict; all of them unless said
 */
async function predictorOn(
  executor: Executor,
  config: ElemNetConfig,
  batch: number,
  sums?: ElementSums,
  most = config.members,
): Promise<Predictor & { state: readonly StateVariable[] }> {
  const graph = newGraph();
  const { parameters, members: all } = elemNet(config);
  const members = all.slice(0, most);
  const state = predictingState(graph, config, parameters);
  const target = targetVariable(graph);
  // Several predictors of a model share its state, not what they are asked.
  const name = `predict.${members.length}`;
  const step = graph.variable(`${name}.step`, [2], 'u32');
  const weights = parameters.views(state.node);
  const inputs = sums ? summedInputs(graph, name, sums, batch) : plainInputs(graph, name, members, weights, batch);
  const key = seedKey(config.seed);
  const passes = members.map((member, m) => member.rest(inputs.starts[m], weights, noDropout));
  const byDropout = all.length === 1 && hasDropout(config);
  for (let p = 0; byDropout && p < dropoutPasses; p++) {
    const dropout: Dropout = (x, draw, rate) =>
      b.mul(x, b.randomMask(step, x.shape, { key, stream: streams.firstMask + 64 * (p + 1) + draw, rate }));
    passes.push(members[0].rest(inputs.starts[0], weights, dropout));
  }
  const [mean, deviation] = [0, 1].map((at) => b.view(target.node, at, [1, 1]));
  const found = b.add(b.mul(passes.length === 1 ? passes[0] : b.concat(passes), deviation), mean);
  const own = [inputs.node, step];
  executor.write(step, new Uint32Array(2));
  let plan: Plan;
  try {
    plan = await executor.plan({ outputs: [found] });
  } catch (error) {
    executor.forget(own);
    throw error;
  }
  const pace = new Pace();
  const run = async (fractions: Float32Array): Promise<Predicted> => {
    const rows = fractions.length / elementCount;
    const values = new Float32Array(rows);
    const spreads = new Float32Array(rows);
    const ask = (start: number): Promise<Data> => {
      const some = fractions.subarray(start * elementCount, Math.min(rows, start + batch) * elementCount);
      executor.write(inputs.node, inputs.of(some));
      plan.run();
      return plan.read(found);
    };
    await eachAhead(executor, pace, rows, batch, ask, (start, predicted) => {
      for (let row = start; row < Math.min(rows, start + batch); row++) {
        const of = Array.from(passes, (_, p) => predicted[p * batch + row - start]);
        // With dropout the plain pass is the prediction, and the others only say how sure it is.
        const spread = byDropout ? of.slice(1) : of;
        const middle = spread.reduce((sum, value) => sum + value, 0) / spread.length;
        values[row] = byDropout ? of[0] : middle;
        const squares = spread.reduce((sum, value) => sum + (value - middle) ** 2, 0);
        spreads[row] = Math.sqrt(squares / Math.max(1, spread.length - 1));
      }
    });
    return { values, spreads };
  };
  const destroy = (): void => {
    plan.destroy();
    executor.forget(own);
  };
  return { run, destroy, state: [state, target] };
}

const hasDropout = ({ network }: ElemNetConfig): boolean =>
  network.kind === 'plain' ? network.blocks.some(({ keep }) => keep < 1) : network.dropout > 0;

/** Mean absolute error on rows that training leaves alone, by the weights as they are; sets the calibration from them. */
async function elemNetMeasure(config: ElemNetConfig, executor: Executor, table: TableRows): Promise<Measurement> {
  const predictor = await predictorOn(executor, config, Math.min(predictBatch, table.rows));
  const targets = targetsOf(table);
  const calibration = calibrationVariable(newGraph()).node;
  return {
    run: async () => {
      const { values, spreads } = await predictor.run(fractionsOf(table));
      const errors = values.map((value, i) => Math.abs(value - targets[i]));
      const { floor, slope } = calibrate(spreads, errors);
      executor.write(calibration, Float32Array.of(floor, slope));
      return { lossLeaveOut: errors.reduce((sum, error) => sum + error / errors.length, 0) };
    },
    destroy: predictor.destroy,
  };
}

/** Rows of a plan that predicts. */
const predictBatch = 512;

/** A trained model made ready: it keeps its variables in the executor until it is destroyed. */
export interface PropertyModel extends Predictor {
  /** By the first of several members alone: cheaper, and less accurate. */
  rough?(fractions: Float32Array): Promise<Float32Array>;
  readonly calibration: Calibration;
}

/** What predicting needs of a model, for a file that is handed on: the averaged weights alone where it has them. */
export const elemNetState = (config: ElemNetConfig, rows: number): StateVariable[] =>
  elemNetTrainer(config, rows).state.filter(({ node }) => config.averaging === 0 || node.attrs.name !== 'elemnet');

/** @throws CheckpointError where it is no such model, or damaged */
export async function propertyModel(
  executor: Executor,
  checkpoint: Checkpoint,
  batch = predictBatch,
): Promise<PropertyModel> {
  const { config, path } = checkpoint;
  if (config.model !== 'elemnet') {
    throw new CheckpointError(`${path}: it is a model of kind ${config.model}; predicting takes an elemnet`);
  }
  const [floor, slope] = assemble(checkpoint, calibrationVariable(newGraph()));
  if (!(floor >= 0 && slope >= 0))
    throw new CheckpointError(`${path}: its calibration is ${floor} and ${slope}, not positive`);
  const state = predictingState(newGraph(), config, elemNet(config).parameters);
  const flat = assemble(checkpoint, state) as Float32Array;
  const predictor = await predictorOn(executor, config, batch, elementSums(config, flat));
  try {
    for (const variable of predictor.state) executor.write(variable.node, assemble(checkpoint, variable));
  } catch (error) {
    predictor.destroy();
    throw error;
  }
  // Made when it is first wanted: it compiles.
  let planned: Promise<Predictor> | undefined;
  let single: Predictor | undefined;
  const rough = async (fractions: Float32Array): Promise<Float32Array> => {
    planned ??= predictorOn(executor, config, batch, elementSums(config, flat, 1), 1);
    single = await planned;
    return (await single.run(fractions)).values;
  };
  const destroy = (): void => {
    predictor.destroy();
    single?.destroy();
    executor.forget(predictor.state.map(({ node }) => node));
  };
  return { run: predictor.run, rough: config.members > 1 ? rough : undefined, destroy, calibration: { floor, slope } };
}

/** Made-up rows: fractions of formulas, and a target that follows from them. For checks and timings. */
export function madeUpTable({ packed, rows }: PackedFormulas): TableRows {
  const fractions = new Float32Array(rows * elementCount);
  const targets = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    packedFractions(packed, row, fractions, row * elementCount);
    for (let e = 0; e < elementCount; e++) targets[row] += Math.sin(e) * fractions[row * elementCount + e] ** 2;
  }
  return tableOf(fractions, targets);
}
