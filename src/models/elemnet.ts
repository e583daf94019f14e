/** Training an ElemNet (elemnetNetwork.ts). */
import * as b from '../autograd/build.ts';
import type { Executor } from '../autograd/executor.ts';
import { grad } from '../autograd/grad.ts';
import type { Node } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { seedKey } from '../autograd/philox.ts';
import { elementCount, type PackedFormulas } from '../chem/encoding.ts';
import { packedFractions } from '../chem/fractions.ts';
import { ConfigError } from '../errors.ts';
import { calibrate } from './calibration.ts';
import type { ElemNetConfig } from './config.ts';
import { calibrationVariable, type Dropout, elemNet, streams, targetVariable } from './elemnetNetwork.ts';
import { predictBatch, predictorOn } from './predictor.ts';
import { fractionsOf, type TableRows, tableOf, tableSize, targetsAt, targetsOf } from './table.ts';
import { type Measurement, networkState, type StateVariable, type Trainer, update } from './training.ts';

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

/** What predicting needs of a model, for a file that is handed on: the averaged weights alone where it has them. */
export const elemNetState = (config: ElemNetConfig, rows: number): StateVariable[] =>
  elemNetTrainer(config, rows).state.filter(({ node }) => config.averaging === 0 || node.attrs.name !== 'elemnet');

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
