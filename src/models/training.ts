/** What every trained model has in common: variables that make up its state, an optimiser, a step counter. */
import * as b from '../autograd/build.ts';
import type { Executor } from '../autograd/executor.ts';
import type { Graph, Node } from '../autograd/graph.ts';
import { Stream } from '../autograd/philox.ts';
import type { Data } from '../autograd/plan.ts';
import type { PackedFormulas } from '../chem/encoding.ts';
import type { Config, OptimiserConfig } from './config.ts';
import type { NormMode, ParameterSet } from './layers.ts';
import type { TableRows } from './table.ts';

/** Rows to train on: packed formulas, or a regressor's table. */
export type TrainingRows = PackedFormulas | TableRows;

/** What the variable `data` of a trainer holds. */
export const dataOf = (rows: TrainingRows): Data => ('packed' in rows ? rows.packed : rows.values);

/** A saved variable: one tensor a (row, parameter) where it holds a network's parameters, else one tensor whole. */
export interface StateVariable {
  node: Node;
  /** What the rows of [rows, size] are; each row is laid out as `parameters`. */
  rows?: readonly string[];
  parameters?: ParameterSet;
  /** The value that training starts from; `rows` are the training rows, for what starts from their frequencies. */
  initial: (rows?: TrainingRows) => Data;
}

/** A model being trained: `plan.run()` is one step. */
export interface Trainer {
  readonly config: Config;
  /** One step as a plan; rows of the training set are read from the variable `data`. */
  readonly outputs: Readonly<Record<string, Node>>;
  readonly updates: readonly (readonly [Node, Node])[];
  readonly state: readonly StateVariable[];
  readonly step: Node;
  /** Training rows, as `dataOf` has them. */
  readonly data: Node;
  /** Trainable numbers of each network. */
  readonly counts: Readonly<Record<string, number>>;
  /** Each loss with its gradient in a network's weights, for `checkTrainer`. */
  checks: () => readonly LossCheck[];
  /** Left-out rows to measure at most; 512 unless said. */
  measuredRows?: number;
  /** Figures beside the losses, from a plan of their own: loss and exact decoding of rows left out. */
  measure?: (executor: Executor, leaveOut: TrainingRows) => Promise<Measurement>;
}

/** A loss, and its gradient [size] in the weights, which are the first row of a state variable. */
export interface LossCheck {
  name: string;
  loss: Node;
  gradient: Node;
  state: StateVariable;
}

/** Figures of the weights as they are when it runs. */
export interface Measurement {
  run(): Promise<Record<string, number>>;
  destroy(): void;
}

/** Rows of an optimiser's state: the weights first. */
export const stateRows: Record<OptimiserConfig['name'], readonly string[]> = {
  adam: ['weights', 'm', 'v'],
  rmsProp: ['weights', 'v'],
  sgd: ['weights', 'velocity'],
};

export interface Schedule {
  decay: Config['decay'];
  /** Updates of this optimiser a step, and which of them this is. */
  every: number;
  offset: number;
  clip: number;
}

/** One update of all parameters: state and gradient to state, in place. */
export function update(o: OptimiserConfig, state: Node, gradient: Node, step: Node, s: Schedule): Node {
  const decay = s.decay === 'none' ? { from: 0, to: 0 } : s.decay;
  const common = {
    learningRate: o.learningRate,
    decayFrom: decay.from * s.every,
    decayTo: decay.to * s.every,
    every: s.every,
    offset: s.offset,
    clip: s.clip,
  };
  switch (o.name) {
    case 'adam':
      return b.adam(state, gradient, step, { ...common, beta1: o.beta1, beta2: o.beta2, eps: o.eps });
    case 'rmsProp':
      return b.rmsProp(state, gradient, step, { ...common, rho: o.rho, eps: o.eps });
    case 'sgd':
      return b.sgd(state, gradient, step, { ...common, momentum: o.momentum });
  }
}

/** The optimiser state of one parameter set, with its initial weights. */
export function networkState(
  graph: Graph,
  name: string,
  parameters: ParameterSet,
  optimiser: OptimiserConfig,
  seed: number,
  stream: number,
  logits?: (rows: PackedFormulas) => ArrayLike<number>,
): StateVariable {
  const rows = stateRows[optimiser.name];
  return {
    node: graph.variable(name, [rows.length, parameters.size]),
    rows,
    parameters,
    initial: (training) => {
      const data = new Float32Array(rows.length * parameters.size);
      // Who starts from frequencies trains on formulas.
      const formulas = training && 'packed' in training ? training : undefined;
      data.set(parameters.initialise(new Stream(seed, stream), formulas && logits?.(formulas)));
      return data;
    },
  };
}

/** Batch norm in training mode, and the moments that a pass has seen, packed as the running ones are. */
export function trainingNorm(parameters: ParameterSet): { mode: NormMode; packed: () => Node | undefined } {
  const seen: (Node | undefined)[] = new Array(parameters.norms.length).fill(undefined);
  return {
    mode: { train: true, seen },
    packed: () =>
      seen.length === 0
        ? undefined
        : b.pack(
            seen.map((node) => node!),
            parameters.norms.map(({ offset }) => offset),
            parameters.runningSize,
          ),
  };
}

/** Sets every state variable to its initial value, the counter to zero. */
export function initialise(executor: Executor, trainer: Trainer, rows?: TrainingRows): void {
  for (const { node, initial } of trainer.state) executor.write(node, initial(rows));
  executor.write(trainer.step, new Uint32Array(2));
}

/**
 * Goes through rows in batches of one size, in order. The last batch reaches back to be whole; only fewer rows than one batch don't fill it.
 * @param use gets the first row of a batch, and the first of its rows that was in none before
 */
export async function eachBatch(
  rows: number,
  batch: number,
  use: (start: number, fresh: number) => Promise<void>,
): Promise<void> {
  for (let fresh = 0; fresh < rows; fresh += batch) await use(Math.max(0, Math.min(fresh, rows - batch)), fresh);
}

/** Row numbers of a batch that begins at `start`. */
export const batchRows = (start: number, batch: number): Uint32Array =>
  Uint32Array.from({ length: batch }, (_, i) => start + i);
