/** Narrow models and a few made-up rows: every kind of layer and update of the real ones, a few milliseconds a step. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type Executor, GpuExecutor } from '../../src/autograd/executor.ts';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import { type PackedFormulas, writePairs } from '../../src/chem/encoding.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
import {
  type AeConfig,
  checkConfig,
  type ElemNetConfig,
  type FilterConfig,
  type GanConfig,
} from '../../src/models/config.ts';
import { madeUpTable } from '../../src/models/elemnet.ts';
import {
  checkpointName,
  type LogLine,
  logName,
  makeTrainer,
  type RegressionData,
  type RunOptions,
  type RunResult,
  type TrainingData,
  train,
} from '../../src/models/run.ts';
import { tableFingerprint } from '../../src/models/table.ts';
import type { Trainer } from '../../src/models/training.ts';

const folders: string[] = [];
/** A new empty folder, removed after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'matgan-test-'));
  folders.push(folder);
  return folder;
}
afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const adam = { name: 'adam', learningRate: 1e-3, beta1: 0.5, beta2: 0.9, eps: 1e-8 } as const;
const common = {
  seed: 5,
  batch: 4,
  steps: 100,
  leaveOut: 0.1,
  decay: 'none',
  decoding: 'argmax',
  batchNorm: { eps: 1e-5, decay: 0.9 },
};
const generator = {
  kind: 'conv',
  latent: 8,
  head: [6, 4, 4],
  layers: [
    { filters: 4, kernel: [5, 5], strides: [2, 2], size: [11, 8] },
    { filters: 3, kernel: [3, 3], strides: [2, 1], size: [22, 8] },
    { filters: 2, kernel: [3, 3], strides: [2, 1], size: [43, 8] },
    { filters: 1, kernel: [3, 3], strides: [2, 1], size: [85, 8] },
  ],
  norm: 'batch',
  activation: 'relu',
  output: 'sigmoid',
  initial: 'he',
};
const critic = {
  kind: 'conv',
  layers: [
    { filters: 2, kernel: [3, 3], strides: [2, 1] },
    { filters: 4, kernel: [3, 3], strides: [2, 1] },
    { filters: 4, kernel: [5, 5], strides: [4, 2] },
  ],
  norm: 'none',
  activation: { leakyRelu: 0.2 },
  initial: 'he',
};

/** WGAN-GP with two critic updates a step, batch norm in the generator, an average of its weights. */
export const tinyGan = (own: object = {}): GanConfig =>
  checkConfig(
    {
      model: 'gan',
      ...common,
      generator,
      critic,
      constraint: { name: 'gradientPenalty', lambda: 10 },
      criticSteps: 2,
      generatorOptimiser: adam,
      criticOptimiser: adam,
      averaging: 0.99,
      ...own,
    },
    'tiny GAN',
  ) as GanConfig;

/** An autoencoder with batch norm on both sides. */
export const tinyAe = (own: object = {}): AeConfig =>
  checkConfig(
    { model: 'ae', ...common, encoder: { ...critic, norm: 'batch' }, decoder: generator, optimiser: adam, ...own },
    'tiny AE',
  ) as AeConfig;

/** The demo's kind of GAN: dense, softmax over counts, a size input, a bias from frequencies, a penalty on some rows. */
export const tinyDenseGan = (own: object = {}): GanConfig =>
  tinyGan({
    generator: {
      kind: 'dense',
      latent: 6,
      hidden: [9, 7],
      norm: 'batch',
      activation: 'relu',
      output: { softmax: 0.5 },
      outputBias: 'frequencies',
      initial: 'he',
    },
    critic: {
      kind: 'dense',
      hidden: [7, 5],
      sizeInput: 0.5,
      norm: 'none',
      activation: { leakyRelu: 0.2 },
      initial: 'he',
    },
    constraint: { name: 'gradientPenalty', lambda: 10, rows: 3 },
    ...own,
  });

/** The demo's kind of autoencoder: dense, the decoder starting as the encoder's mirror image. */
export const tinyDenseAe = (own: object = {}): AeConfig =>
  tinyAe({
    encoder: { kind: 'dense', hidden: [12], norm: 'batch', activation: { leakyRelu: 0.2 }, initial: 'he' },
    decoder: {
      kind: 'dense',
      latent: 8,
      hidden: [12],
      norm: 'batch',
      activation: { leakyRelu: 0.2 },
      output: 'sigmoid',
      outputBias: -2,
      initial: 'he',
    },
    mirror: { gain: 2 },
    ...own,
  });

/** A filter of two hidden layers; of the made-up rows the first 16 are its pool. */
export const tinyFilter = (own: object = {}): FilterConfig =>
  checkConfig(
    {
      model: 'filter',
      seed: 5,
      batch: 8,
      steps: 100,
      leaveOut: 0.1,
      decay: 'none',
      hidden: [12, 8],
      dropout: 0,
      pool: 16,
      keep: 0.5,
      optimiser: { ...adam, beta1: 0.9, learningRate: 3e-3 },
      ...own,
    },
    'tiny filter',
  ) as FilterConfig;

/** Two members that see bumps and vectors of elements, averaged. */
export const tinyElemNet = (own: object = {}): ElemNetConfig =>
  checkConfig(
    {
      model: 'elemnet',
      target: 'energy',
      seed: 5,
      batch: 8,
      steps: 100,
      leaveOut: 0.2,
      validation: 0.2,
      patience: 50,
      decay: { from: 20, to: 100 },
      network: {
        kind: 'residual',
        width: 9,
        blocks: 2,
        hidden: 7,
        norm: 'layer',
        dropout: 0,
        bumps: [
          { at: 0.3, width: 0.2 },
          { at: 0.6, width: 0.1 },
        ],
        embedding: 3,
      },
      members: 2,
      optimiser: { ...adam, beta1: 0.9, beta2: 0.999, learningRate: 3e-3 },
      averaging: 0.9,
      ...own,
    },
    'tiny ElemNet',
  ) as ElemNetConfig;

/** The published kind: one network with dropout. */
export const tinyPlainElemNet = (own: object = {}): ElemNetConfig =>
  tinyElemNet({
    network: {
      kind: 'plain',
      blocks: [
        { units: 12, layers: 2, keep: 0.7 },
        { units: 6, layers: 1, keep: 1 },
      ],
    },
    members: 1,
    averaging: 0,
    decay: 'none',
    ...own,
  });

export function tinyTable(rows = 30, first = 0): RegressionData {
  const [train, leaveOut, test] = [rows, 9, 7].map((n, i) => madeUpTable(tinyRows(n, first + 1000 * i)));
  return { train, leaveOut, test, fingerprint: tableFingerprint(train), source: null };
}

/** Rows of two or three elements, all different. */
export function tinyRows(rows: number, first = 0): PackedFormulas {
  const packed = new Uint32Array(4 * rows);
  for (let row = 0; row < rows; row++) {
    const n = row + first;
    const pairs = [
      ((1 + (n % 20)) << 8) | (1 + (n % 8)),
      ((21 + (n % 31)) << 8) | (1 + ((n >> 3) % 8)),
      ((60 + (n % 23)) << 8) | (1 + (n % 3)),
    ];
    writePairs(packed, row, pairs, 2 + (n % 2));
  }
  return { packed, rows };
}

export function tinyData(rows = 30): TrainingData {
  const training = tinyRows(rows);
  return { train: training, leaveOut: tinyRows(5, 1000), fingerprint: fingerprintOf(training), source: null };
}

export const openGpu = async (): Promise<GpuExecutor> => new GpuExecutor(await openDevice());

/** Trains on the made-up rows in `folder`, quietly, and frees the variables: another model may have other sizes. */
export async function trainTiny(
  executor: Executor,
  options: Partial<RunOptions> & Pick<RunOptions, 'config'>,
): Promise<RunResult> {
  const data = options.config.model === 'elemnet' ? tinyTable() : tinyData();
  try {
    return await train({
      folder: temporaryFolder(),
      executor,
      adapter: 'test',
      data,
      logEvery: 10,
      checkpointEvery: 25,
      measureEvery: 20,
      ...options,
    });
  } finally {
    forget(executor, makeTrainer(options.config, data.train.rows));
  }
}

/** Frees a model's variables. */
export function forget(executor: Executor, { state, step, data }: Trainer): void {
  executor.forget([...state.map(({ node }) => node), step, data]);
}

/** Lines of a run's log without their times. */
export function logOf(folder: string): LogLine[] {
  const file = join(folder, logName);
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({ ...JSON.parse(line), seconds: 0 }));
}

/** A run's state, bit for bit: a name and the bytes of each tensor. */
export function bitsOf(folder: string): Record<string, string> {
  const { tensors } = readCheckpoint(join(folder, checkpointName));
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex'),
    ]),
  );
}
