/** Whole models: the gradients of their losses against differences, and those of the GPU against the reference. */
import { type CheckRow, type Named, runTwice, Tally, tolerances } from '../autograd/compare.ts';
import { differences, differenceTolerance } from '../autograd/differences.ts';
import type { Executor } from '../autograd/executor.ts';
import { indexOf, type Node, sizeOf, type Value } from '../autograd/graph.ts';
import { Stream } from '../autograd/philox.ts';
import { evaluate } from '../autograd/reference.ts';
import { synthesize } from '../chem/synth.ts';
import type { Config } from './config.ts';
import { madeUpTable } from './elemnet.ts';
import { makeTrainer } from './run.ts';
import { dataOf, type LossCheck, type Trainer, type TrainingRows } from './training.ts';

/**
 * Steps of the differences. Thousands of leaky ReLUs have a kink somewhere near, and at each the slope of a gradient
 * penalty jumps: a direction passes if the differences at one step agree. A wrong gradient agrees at none.
 */
const steps = [1e-6, 1e-7, 1e-8] as const;

/**
 * Deviation of what is added to each initial weight. Biases begin at 0 and most cells of a formula are 0: without it
 * thousands of activations would stand on the kink itself, where there is no derivative to compare with.
 */
const nudge = 0.05;

/** Numbers the nudges' random streams apart from those of models. */
const weightStream = 1000;

/** Random directions through all weights of a network. */
const directions = 3;

export interface ModelCheckOptions {
  gpu?: Executor;
  /** Rows of a batch; 4 unless said: batch norm of 2 rows is nearly a step. */
  batch?: number;
  /** Of weights, data and noise; the configuration's unless said. */
  seed?: number;
  /** What rows are called; the model's kind unless said. */
  name?: string;
}

/** Checks the losses of a configuration with weights near the initial ones, on formulas of the default set. */
export async function checkModel(config: Config, options: ModelCheckOptions = {}): Promise<CheckRow[]> {
  const batch = options.batch ?? 4;
  const small = { ...config, batch, seed: options.seed ?? config.seed };
  if (small.model === 'gan' && small.constraint.name === 'gradientPenalty' && small.constraint.rows) {
    small.constraint = { ...small.constraint, rows: Math.min(batch, small.constraint.rows) };
  }
  const rows = Math.max(64, batch);
  const packed = { packed: synthesize().packed.slice(0, 4 * rows), rows };
  const data = config.model === 'elemnet' ? madeUpTable(packed) : packed;
  return checkTrainer(makeTrainer(small, rows), data, { name: config.model, ...options });
}

/**
 * Checks every loss of a trainer: its gradient in all weights by the rules (a gradient penalty's to second order) against
 * central differences in f64 along random directions, and loss and gradient on the GPU against the reference.
 */
export async function checkTrainer(
  trainer: Trainer,
  rows: TrainingRows,
  { gpu, name = trainer.config.model }: ModelCheckOptions = {},
): Promise<CheckRow[]> {
  const values = new Map<Node, Value>();
  const give = (node: Node, data: ArrayLike<number>): void => {
    values.set(node, { shape: node.shape, data: Float64Array.from(data) });
  };
  trainer.state.forEach(({ node, initial, parameters }, i) => {
    const data = initial(rows);
    const random = new Stream(trainer.config.seed, weightStream + i);
    if (parameters) for (let k = 0; k < parameters.size; k++) data[k] += nudge * random.normal();
    give(node, data);
  });
  give(trainer.step, [0, 0]);
  give(trainer.data, dataOf(rows));

  const result: CheckRow[] = [];
  for (const check of trainer.checks()) {
    const { loss, gradient, state } = check;
    const op = `${name} ${check.name}`;
    const nodes = [loss, gradient];
    const lookUp = (node: Node): Value => values.get(node)!;
    const [expected, rule] = evaluate(nodes, lookUp);
    const reference = new Tally(op, 1, 'reference');
    const slope = differences(loss, state.node, inState(check, rule), values, { full: 0, directions, steps });
    const { element, error, rule: actual, differences: numeric } = slope;
    const place = element === undefined ? undefined : parameterAt(check, element);
    reference.row.samples = directions;
    reference.add({
      error,
      tolerance: differenceTolerance,
      what: `gradient of the loss${place ? ` in ${place.tensor}` : ' along random directions'}`,
      tensor: place?.tensor ?? 'all',
      at: place && { element: place.element, actual, expected: numeric },
      words: `the rules give ${actual}, differences give ${numeric}`,
    });
    if (gpu) {
      const runs = await runTwice(gpu, nodes, values);
      const allowed = tolerances(nodes, lookUp);
      const value = new Tally(op, 0, 'gpu');
      value.addValues('the loss', expected, runs[0], allowed[0], () => ({ tensor: 'a scalar', element: [] }));
      const device = new Tally(op, 1, 'gpu');
      device.addValues('gradient of the loss', rule, runs[1], allowed[1], (i) => parameterAt(check, i));
      value.row.samples = device.row.samples = 1;
      result.push(value.row, reference.row, device.row);
    } else result.push(reference.row);
  }
  return result;
}

/** A gradient [size] laid out as the state variable [rows, size] is; only the first row, the weights, has one. */
function inState({ state }: LossCheck, { data }: Value): Float64Array {
  const all = new Float64Array(sizeOf(state.node.shape));
  all.set(data);
  return all;
}

/** The parameter that a flat element of the weights belongs to. */
function parameterAt({ state }: LossCheck, i: number): Named {
  const found = state.parameters?.at(i);
  return found
    ? { tensor: found.name, element: found.index }
    : { tensor: 'no parameter', element: indexOf(i, state.node.shape) };
}
