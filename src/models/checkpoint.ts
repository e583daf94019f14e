/** A model on disk: every variable of its training state, by parameter, with its configuration and counters. */
import { basename } from 'node:path';
import type { Executor } from '../autograd/executor.ts';
import { sizeOf } from '../autograd/graph.ts';
import type { Data } from '../autograd/plan.ts';
import { CheckpointError } from '../errors.ts';
import { type Config, checkConfig } from './config.ts';
import { type HalfTensor, readSafetensors, type Tensor, writeSafetensors } from './safetensors.ts';
import type { StateVariable, Trainer } from './training.ts';

const format = 'matgan-webgpu checkpoint 1';

/** What a checkpoint says beside its tensors. */
export interface CheckpointFacts {
  config: Config;
  /** Steps done. */
  step: number;
  /** Fingerprint and number of the training rows, and the file that they came from (null: the default set). */
  data: { fingerprint: string; rows: number; source: string | null };
  /** Seconds of training so far, and the adapter of the last part. */
  seconds: number;
  adapter: string;
}

export interface Checkpoint extends CheckpointFacts {
  path: string;
  /** True for an exported model: the optimisers' state is not in it, and it cannot be resumed. */
  weightsOnly: boolean;
  tensors: Record<string, Tensor>;
}

interface Part {
  name: string;
  shape: number[];
  offset: number;
  row: string | null;
}

/** False for what only the optimiser needs: moments, velocities. */
const isWeight = ({ row }: Part): boolean => row === null || row === 'weights' || row === 'average';

/** Names and places of a variable's tensors, and of which of its rows they are. */
function parts({ node, rows, parameters }: StateVariable): Part[] {
  const { name } = node.attrs;
  if (!rows || !parameters) return [{ name, shape: [...node.shape], offset: 0, row: null }];
  return rows.flatMap((row, r) =>
    parameters.list.map((p) => ({
      name: `${name}/${row}/${p.name}`,
      shape: [...p.shape],
      offset: r * parameters.size + p.offset,
      row,
    })),
  );
}

/**
 * Reads the state back from the executor and writes it whole, beside the old file first.
 * @throws CheckpointError where the state is no longer finite: the last good checkpoint stays
 */
export async function saveCheckpoint(
  path: string,
  trainer: Trainer,
  executor: Executor,
  facts: CheckpointFacts,
): Promise<void> {
  const tensors: Record<string, Tensor> = {};
  for (const variable of trainer.state) {
    const data = (await executor.read(variable.node)) as Float32Array;
    for (const { name, shape, offset } of parts(variable)) {
      const values = data.slice(offset, offset + sizeOf(shape));
      if (!values.every(Number.isFinite)) {
        throw new CheckpointError(
          `training diverged: ${name} is not finite after step ${facts.step}; try lower learning rates`,
        );
      }
      tensors[name] = { dtype: 'F32', shape, data: values };
    }
  }
  tensors.step = { dtype: 'U32', shape: [2], data: (await executor.read(trainer.step)) as Uint32Array };
  writeSafetensors(path, tensors, metadataOf(facts));
}

/** What a file says beside its tensors. */
const metadataOf = ({ config, step, data, seconds, adapter }: CheckpointFacts): Record<string, string> => ({
  format,
  model: config.model,
  step: String(step),
  config: JSON.stringify(config),
  data: JSON.stringify(data),
  seconds: String(seconds),
  adapter,
});

/**
 * Writes what these variables of a checkpoint are without their optimisers, as a checkpoint that cannot be resumed.
 * @throws CheckpointError where a tensor is missing, of another shape or not finite; DataError where one is beyond float16
 */
export function writeWeights(
  path: string,
  checkpoint: Checkpoint,
  state: readonly StateVariable[],
  options: { float16?: boolean } = {},
): void {
  const dtype = options.float16 ? 'F16' : 'F32';
  const tensors: Record<string, Tensor | HalfTensor> = {};
  for (const variable of state) {
    for (const { name, shape, data, ...part } of tensorsOf(checkpoint, variable)) {
      // What is no parameter (moments, frequencies) is small, and its digits may count.
      if (isWeight({ name, shape, ...part })) tensors[name] = { dtype: part.row === null ? 'F32' : dtype, shape, data };
    }
  }
  tensors.step = { dtype: 'U32', shape: [2], data: stepOf(checkpoint) };
  // A file that is handed on names its data, not the folder that it lay in.
  const { source, ...data } = checkpoint.data;
  const facts = { ...checkpoint, data: { ...data, source: source === null ? null : basename(source) } };
  writeSafetensors(path, tensors, { ...metadataOf(facts), weights: dtype });
}

/**
 * Reads a checkpoint and checks what it says of itself, not yet its tensors.
 * @throws CheckpointError
 */
export function readCheckpoint(path: string): Checkpoint {
  const { tensors, metadata } = readSafetensors(path);
  if (metadata.format !== format) {
    throw new CheckpointError(
      `${path}: it is not a checkpoint of this program (format ${JSON.stringify(metadata.format)})`,
    );
  }
  try {
    const config = checkConfig(JSON.parse(metadata.config), path);
    const data = JSON.parse(metadata.data) as CheckpointFacts['data'];
    const step = /^\d+$/.test(metadata.step) ? Number(metadata.step) : Number.NaN;
    const seconds = Number(metadata.seconds);
    if (!Number.isSafeInteger(step) || step < 0) throw new CheckpointError(`step ${metadata.step}`);
    if (typeof data?.fingerprint !== 'string' || !Number.isSafeInteger(data.rows) || data.rows < 1) {
      throw new CheckpointError('it does not say which data it was trained on');
    }
    if (data.rows >= 2 ** 30) throw new CheckpointError(`${data.rows} rows are more than training takes`);
    if (data.source !== null && typeof data.source !== 'string') throw new CheckpointError('data source');
    return {
      path,
      weightsOnly: metadata.weights !== undefined,
      tensors,
      config,
      data,
      step,
      seconds: seconds >= 0 && Number.isFinite(seconds) ? seconds : 0,
      adapter: String(metadata.adapter),
    };
  } catch (cause) {
    throw new CheckpointError(`${path}: damaged metadata: ${(cause as Error).message}`, { cause });
  }
}

/** A variable's tensors, each as the model wants it: what is missing costs no memory. Exported models have no optimiser's. */
function tensorsOf(checkpoint: Checkpoint, variable: StateVariable): (Part & { data: Float32Array })[] {
  return parts(variable).flatMap((part) => {
    const { name, shape } = part;
    const tensor = checkpoint.tensors[name];
    if (!tensor && checkpoint.weightsOnly && !isWeight(part)) return [];
    if (!tensor) throw new CheckpointError(`${checkpoint.path}: tensor ${name} is missing; is it of another model?`);
    if (tensor.dtype !== 'F32' || tensor.shape.join() !== shape.join()) {
      throw new CheckpointError(
        `${checkpoint.path}: tensor ${name} is ${tensor.dtype} [${tensor.shape}], the model wants F32 [${shape}]`,
      );
    }
    if (!tensor.data.every(Number.isFinite)) {
      throw new CheckpointError(`${checkpoint.path}: tensor ${name} is not finite; use an earlier checkpoint`);
    }
    return [{ ...part, data: tensor.data }];
  });
}

/** A saved variable put together from its tensors; throws where one is missing, has another shape or is not finite. The optimiser's rows of an exported model are zeros. */
export function assemble(checkpoint: Checkpoint, variable: StateVariable): Data {
  const tensors = tensorsOf(checkpoint, variable);
  const data = new Float32Array(sizeOf(variable.node.shape));
  for (const tensor of tensors) data.set(tensor.data, tensor.offset);
  return data;
}

/** Refuses what was exported: it has no optimiser state. @throws CheckpointError */
export function checkResumable({ path, weightsOnly }: Checkpoint): void {
  if (!weightsOnly) return;
  throw new CheckpointError(
    `${path}: it was exported without its optimisers and cannot be trained on; resume the run that it came from`,
  );
}

/**
 * Checks that a checkpoint is of this model: every tensor is there in its shape, and the counter says the step. Takes no memory,
 * so it comes before anything that the configuration sizes.
 * @throws CheckpointError
 */
export function checkState(trainer: Trainer, checkpoint: Checkpoint): void {
  checkResumable(checkpoint);
  for (const variable of trainer.state) tensorsOf(checkpoint, variable);
  stepOf(checkpoint);
}

/** The step counter's two words. */
function stepOf(checkpoint: Checkpoint): Uint32Array {
  const { step } = checkpoint.tensors;
  if (step?.dtype !== 'U32' || step.data.length !== 2 || step.data[0] + step.data[1] * 2 ** 32 !== checkpoint.step) {
    throw new CheckpointError(`${checkpoint.path}: its step counter does not say ${checkpoint.step}`);
  }
  return step.data;
}

/** Puts a checkpoint's state into the executor's variables. All is checked before anything is written. */
export function restore(executor: Executor, trainer: Trainer, checkpoint: Checkpoint): void {
  const step = stepOf(checkpoint);
  const values = trainer.state.map((variable) => assemble(checkpoint, variable));
  trainer.state.forEach(({ node }, i) => {
    executor.write(node, values[i]);
  });
  executor.write(trainer.step, step);
}
