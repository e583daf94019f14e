/** Predictions of a trained ElemNet, or of one in training. */
import { setTimeout as sleep } from 'node:timers/promises';
import * as b from '../autograd/build.ts';
import { type Executor, GpuExecutor } from '../autograd/executor.ts';
import { type Graph, type Node, sizeOf } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { seedKey } from '../autograd/philox.ts';
import type { Data, Plan } from '../autograd/plan.ts';
import { elementCount } from '../chem/encoding.ts';
import { CheckpointError } from '../errors.ts';
import type { Calibration } from './calibration.ts';
import { assemble, type Checkpoint } from './checkpoint.ts';
import type { ElemNetConfig } from './config.ts';
import { ElementSums } from './elementSums.ts';
import { calibrationVariable, type Dropout, elemNet, type Member, streams, targetVariable } from './elemnetNetwork.ts';
import type { ParameterSet } from './layers.ts';
import { Pace } from './pace.ts';
import { type StateVariable, stateRows } from './training.ts';

const noDropout: Dropout = (x) => x;
/** Rows of a plan that predicts. */
export const predictBatch = 512;
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
export async function predictorOn(
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

/** A trained model made ready: it keeps its variables in the executor until it is destroyed. */
export interface PropertyModel extends Predictor {
  /** By the first of several members alone: cheaper, and less accurate. */
  rough?(fractions: Float32Array): Promise<Float32Array>;
  readonly calibration: Calibration;
}
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
