/** The autoencoder of formulas: the critic's convolutions down to a latent vector, the generator back up. */
import * as b from '../autograd/build.ts';
import type { Executor } from '../autograd/executor.ts';
import { grad } from '../autograd/grad.ts';
import type { Node } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { Stream, seedKey } from '../autograd/philox.ts';
import type { Plan } from '../autograd/plan.ts';
import { ConfigError } from '../errors.ts';
import type { AeConfig } from './config.ts';
import { criticNetwork, generatorNetwork, type NormMode, ParameterSet } from './layers.ts';
import {
  batchRows,
  dataOf,
  eachBatch,
  type Measurement,
  networkState,
  type StateVariable,
  stateRows,
  type Trainer,
  trainingNorm,
  update,
} from './training.ts';

const streams = { rows: 0, initial: 2, mirror: 3 };

export interface Autoencoder {
  parameters: ParameterSet;
  counts: { encoder: number; decoder: number };
  /** Cells [n, 85, 8, 1] → latents [n, latent]. */
  encode(x: Node, weights: readonly Node[], norm: NormMode): Node;
  /** Latents [n, latent] → cells [n, 85, 8, 1]. */
  decode(z: Node, weights: readonly Node[], norm: NormMode): Node;
  /** One after the other: cells → cells. */
  apply(x: Node, weights: readonly Node[], norm: NormMode): Node;
}

/** Both networks over one parameter set, so that one optimiser dispatch updates all. */
export function autoencoder(config: AeConfig): Autoencoder {
  const parameters = new ParameterSet();
  const encoder = criticNetwork(config.encoder, config.decoder.latent, parameters, 'encoder.');
  const encoderCount = parameters.count;
  const decoder = generatorNetwork(config.decoder, parameters, 'decoder.');
  const { eps } = config.batchNorm;
  const encode: Autoencoder['encode'] = (x, weights, norm) => encoder.apply(x, { weights, norm, eps });
  const decode: Autoencoder['decode'] = (z, weights, norm) => decoder.apply(z, { weights, norm, eps });
  return {
    parameters,
    counts: { encoder: encoderCount, decoder: parameters.count - encoderCount },
    encode,
    decode,
    apply: (x, weights, norm) => decode(encode(x, weights, norm), weights, norm),
  };
}

/** Keeps logarithms finite where a cell is 0 or 1 in f32. */
const tiny = 1e-7;

/**
 * How far cells y in (0, 1) are from a formula's x: the paper's negative Dice coefficient over the batch, or the binary
 * cross-entropy of a row's cells, averaged over rows. A wrong cell whose sigmoid has gone to 0 has no gradient in Dice; in
 * cross-entropy it has the greatest, so that rare counts are learned.
 */
function reconstructionLoss(config: AeConfig, y: Node, x: Node): Node {
  if (config.loss !== 'crossEntropy') return b.diceLoss(y, x);
  const on = b.mul(x, b.log(b.scale(y, 1, tiny)));
  const off = b.mul(b.scale(x, -1, 1), b.log(b.scale(y, -1, 1 + tiny)));
  return b.scale(b.sum(b.add(on, off)), -1 / x.shape[0]);
}

/** @param rows number of packed rows in the variable `data` */
export function aeTrainer(config: AeConfig, rows: number): Trainer {
  const graph = newGraph();
  const key = seedKey(config.seed);
  const ae = autoencoder(config);
  const step = graph.variable('step', [2], 'u32');
  const data = graph.variable('data', [rows, 4], 'u32');
  const state = networkState(graph, 'autoencoder', ae.parameters, config.optimiser, config.seed, streams.initial);
  const drawn = b.sampleRows(step, { rows, batch: config.batch, draw: 0, draws: 1, stream: streams.rows, key });
  const x = b.unfold(data, drawn);
  const weights = ae.parameters.views(state.node);
  const norm = trainingNorm(ae.parameters);
  const loss = reconstructionLoss(config, ae.apply(x, weights, norm.mode), x);
  const gradient = ae.parameters.pack(grad(loss, weights));
  const next = update(config.optimiser, state.node, gradient, step, {
    decay: config.decay,
    every: 1,
    offset: 0,
    clip: 0,
  });
  const updates: [Node, Node][] = [
    [state.node, next],
    [step, b.increment(step)],
  ];
  if (config.mirror) mirrored(config, state);
  const saved: StateVariable[] = [state];
  const moments = norm.packed();
  if (moments) {
    const running = graph.variable('autoencoder.running', [ae.parameters.runningSize]);
    saved.push({ node: running, initial: () => ae.parameters.initialRunning() });
    updates.push([running, b.ema(running, moments, config.batchNorm.decay)]);
  }
  return {
    config,
    outputs: { loss },
    updates,
    state: saved,
    step,
    data,
    counts: ae.counts,
    checks: () => [{ name: 'autoencoder', loss, gradient, state }],
    measure: (executor, leaveOut) => aeMeasure(config, executor, dataOf(leaveOut) as Uint32Array),
  };
}

/**
 * Lets the decoder start as the encoder's transpose: both then keep the matrix of a formula nearly apart from others, and
 * training begins from a rough identity instead of noise.
 * @throws ConfigError where the networks are not mirror images of dense layers
 */
function mirrored(config: AeConfig, state: StateVariable): void {
  const { encoder, decoder } = config;
  const weights = state.parameters!.list.filter(({ name }) => name.endsWith('.weights'));
  const down = weights.filter(({ name }) => name.startsWith('encoder.'));
  const up = weights.filter(({ name }) => name.startsWith('decoder.')).reverse();
  const fits = down.every(({ shape: [n, m] }, i) => up[i]?.shape[0] === m && up[i].shape[1] === n);
  if (encoder.kind !== 'dense' || decoder.kind !== 'dense' || down.length !== up.length || !fits) {
    throw new ConfigError('mirror: it takes a dense encoder and a dense decoder whose widths are the same backwards');
  }
  const { initial } = state;
  state.initial = (rows) => {
    const data = initial(rows) as Float32Array;
    const random = new Stream(config.seed, streams.mirror);
    down.forEach(({ shape: [n, m], offset }, layer) => {
      const gain = layer === 0 ? config.mirror!.gain : 1;
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < m; j++) {
          const w = random.normal() / Math.sqrt(m);
          data[offset + i * m + j] = w;
          data[up[layer].offset + j * n + i] = gain * w;
        }
      }
    });
    return data;
  };
}

/** Rows measured at a time. */
const measureBatch = 64;

/**
 * Loss and exact decoding of packed rows by the autoencoder in an executor's variables, with running moments.
 * It measures the weights as they are when it runs.
 */
export async function aeMeasure(config: AeConfig, executor: Executor, packed: Uint32Array): Promise<Measurement> {
  const rows = packed.length / 4;
  const batch = Math.min(measureBatch, rows);
  const graph = newGraph();
  const ae = autoencoder(config);
  const flat = graph.variable('autoencoder', [stateRows[config.optimiser.name].length, ae.parameters.size]);
  const running = graph.variable('autoencoder.running', [Math.max(1, ae.parameters.runningSize)]);
  const data = graph.variable('measure.data', [rows, 4], 'u32');
  const chosen = graph.variable('measure.rows', [batch], 'u32');
  const x = b.unfold(data, chosen);
  const y = ae.apply(x, ae.parameters.views(flat), { train: false, running });
  const loss = reconstructionLoss(config, y, x);
  const formulas = b.decode(y, config.decoding);
  let plan: Plan;
  try {
    executor.write(data, packed);
    plan = await executor.plan({ outputs: [loss, formulas] });
  } catch (error) {
    executor.forget([data, chosen]);
    throw error;
  }
  const run = async (): Promise<{ lossLeaveOut: number; exactLeaveOut: number }> => {
    let total = 0;
    let exact = 0;
    let batches = 0;
    await eachBatch(rows, batch, async (start, fresh) => {
      executor.write(chosen, batchRows(start, batch));
      plan.run();
      total += (await plan.read(loss))[0];
      const decoded = await plan.read(formulas);
      // Rows that were measured before don't count again.
      for (let i = fresh - start; i < batch; i++) {
        let same = true;
        for (let w = 0; w < 4; w++) same &&= decoded[i * 4 + w] === packed[(start + i) * 4 + w];
        if (same) exact++;
      }
      batches++;
    });
    return { lossLeaveOut: total / batches, exactLeaveOut: exact / rows };
  };
  const destroy = (): void => {
    plan.destroy();
    executor.forget([data, chosen]);
  };
  return { run, destroy };
}
