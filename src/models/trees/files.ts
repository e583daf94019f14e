/** Trees on disk: a safetensors file with the arrays of a forest, and what is known of it as metadata. docs/trees.md describes it. */
import { z } from 'zod';
import { CheckpointError, MatganError } from '../../errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../safetensors.ts';
import { checkTreesConfig, type TreesConfig } from './config.ts';
import type { ErrorForest, Forest } from './forest.ts';

const format = 'matgan-webgpu trees 1';
/** Deepest leaf of a tree: configurations allow no more. */
const deepest = 64;

/** What the numbers of a row are. */
export interface Inputs {
  /** Names of the columns, in order. */
  columns: readonly string[];
  /** Fingerprint of the descriptors that made them, empty for columns of a user's own table. */
  descriptors: string;
}

export interface TreesModel extends Inputs {
  forest: Forest;
  /** How far its predictions are off, where that was learned. */
  error?: ErrorForest;
  config: TreesConfig;
  /** What is predicted: the name of a column. */
  target: string;
  /** Rows trained on, and SHA-256 of the file that they came from (empty where they came from none). */
  data: { rows: number; fingerprint: string };
  /** Errors on rows set aside, by name. */
  measured: Readonly<Record<string, number>>;
}

const text = z.string().max(1000);
const inputsSchema = z.strictObject({ columns: z.array(text).min(1).max(65_535), descriptors: text });
const errorSchema = z.strictObject({ scale: z.number().min(0).max(1e30) });
const factsSchema = z.strictObject({
  target: text,
  data: z.strictObject({ rows: z.number().int().min(0), fingerprint: text }),
  measured: z.record(text, z.number()),
});

/** Writes a model whole or not at all. @throws DataError where it cannot be written */
export function writeTrees(path: string, model: TreesModel): void {
  const { forest, error, config, columns, descriptors, target, data, measured } = model;
  writeSafetensors(
    path,
    { ...tensorsOf(forest), ...(error && tensorsOf(error.forest, errorPrefix)) },
    {
      format,
      config: JSON.stringify(config),
      inputs: JSON.stringify({ columns, descriptors }),
      facts: JSON.stringify({ target, data, measured }),
      ...(error && { error: JSON.stringify({ scale: error.scale }) }),
    },
  );
}

/** Before the names of the tensors of the errors' forest. */
const errorPrefix = 'error.';
const dtypes = { base: 'F32', starts: 'U32', split: 'I32', value: 'F32', right: 'U32', gain: 'F32' } as const;

function tensorsOf(forest: Forest, prefix = ''): Record<string, Tensor> {
  const arrays = { ...forest, base: Float32Array.of(forest.base) };
  const names = Object.keys(dtypes) as (keyof typeof dtypes)[];
  return Object.fromEntries(
    names.map((name) => {
      const data = arrays[name];
      return [`${prefix}${name}`, { dtype: dtypes[name], shape: [data.length], data } as Tensor];
    }),
  );
}

/** Whether a file says of itself that it holds trees; false for what cannot be read. */
export function isTrees(path: string): boolean {
  try {
    return readSafetensors(path).metadata.format === format;
  } catch (error) {
    if (error instanceof MatganError) return false;
    throw error;
  }
}

/** Reads a model. Everything is checked that predicting relies on. @throws CheckpointError naming what is wrong */
export function readTrees(path: string): TreesModel {
  const { tensors, metadata } = readSafetensors(path);
  const fail = (what: string, cause?: unknown): never => {
    throw new CheckpointError(`${path}: ${what}`, { cause });
  };
  if (metadata.format !== format) fail(`it holds no trees (format ${JSON.stringify(metadata.format ?? null)})`);
  const json = <T>(key: string, read: (value: unknown) => T): T => {
    let value: unknown;
    try {
      value = JSON.parse(metadata[key] ?? '');
    } catch (cause) {
      return fail(`its metadata ${key} is no JSON`, cause);
    }
    try {
      return read(value);
    } catch (cause) {
      const why = cause instanceof z.ZodError ? cause.issues[0] : undefined;
      return fail(`its ${key}: ${why ? `${why.path.join('.')}: ${why.message}` : (cause as Error).message}`, cause);
    }
  };
  const config = json('config', (value) => checkTreesConfig(value, 'settings'));
  const inputs = json('inputs', (value) => inputsSchema.parse(value));
  const facts = json('facts', (value) => factsSchema.parse(value));
  if (new Set(inputs.columns).size < inputs.columns.length) fail('two of its columns have one name');
  const columns = inputs.columns.length;
  const names = Object.keys(tensors);
  const known = new Set(Object.keys(dtypes));
  const isError = (name: string): boolean => name.startsWith(errorPrefix);
  const unknown = names.find((name) => !known.has(isError(name) ? name.slice(errorPrefix.length) : name));
  if (unknown !== undefined) fail(`it has an unknown tensor ${unknown}`);
  const forest = forestOf(tensors, '', columns, fail);
  const hasErrors = names.some(isError);
  if (hasErrors !== (metadata.error !== undefined))
    fail(`it has ${hasErrors ? 'tensors of errors without their scale' : 'the scale of errors without their tensors'}`);
  if (!hasErrors) return { forest, config, ...inputs, ...facts };
  const { scale } = json('error', (value) => errorSchema.parse(value));
  const error: ErrorForest = { forest: forestOf(tensors, errorPrefix, columns, fail), scale };
  if (error.forest.base < 0) fail(`${errorPrefix}base is ${error.forest.base}, and no error is below 0`);
  return { forest, error, config, ...inputs, ...facts };
}

/** The forest of the tensors whose names begin so, checked. @param fail ends with what is wrong */
function forestOf(
  tensors: Readonly<Record<string, Tensor>>,
  prefix: string,
  columns: number,
  fail: (what: string) => never,
): Forest {
  const array = (name: keyof typeof dtypes): Tensor['data'] => {
    const tensor = tensors[prefix + name];
    if (!tensor) return fail(`the tensor ${prefix}${name} is missing`);
    if (tensor.dtype !== dtypes[name] || tensor.shape.length !== 1) {
      return fail(
        `tensor ${prefix}${name} is ${tensor.dtype} [${tensor.shape}]; it takes ${dtypes[name]} and one dimension`,
      );
    }
    return tensor.data;
  };
  const base = array('base') as Float32Array;
  if (base.length !== 1 || !Number.isFinite(base[0])) fail(`${prefix}base is no finite number`);
  const forest: Forest = {
    columns,
    base: base[0],
    starts: array('starts') as Uint32Array,
    split: array('split') as Int32Array,
    value: array('value') as Float32Array,
    right: array('right') as Uint32Array,
    gain: array('gain') as Float32Array,
  };
  checkForest(forest, prefix === '' ? fail : (what) => fail(`${prefix.slice(0, -1)}: ${what}`));
  return forest;
}

/**
 * Holds that every tree is one: each node is reached once, by a way of at most 64 splits, and all numbers are numbers.
 * @param fail ends with what is wrong
 */
export function checkForest(forest: Forest, fail: (what: string) => never): void {
  const { columns, starts, split, value, right, gain } = forest;
  const nodes = split.length;
  if (value.length !== nodes || right.length !== nodes) {
    fail(`split, value and right have ${nodes}, ${value.length} and ${right.length} nodes`);
  }
  if (gain.length !== columns) fail(`gain has ${gain.length} numbers for ${columns} columns`);
  const badGain = gain.findIndex((g) => !(g >= 0) || g === Number.POSITIVE_INFINITY);
  if (badGain >= 0) fail(`the gain of column ${badGain} is ${gain[badGain]}`);
  if (starts.length < 1 || starts[0] !== 0 || starts[starts.length - 1] !== nodes) {
    fail(`starts must run from 0 to the ${nodes} nodes`);
  }
  // Right children whose turn comes when what is left of them is done: the nodes come in just this order.
  const pending = new Uint32Array(deepest);
  for (let tree = 0; tree + 1 < starts.length; tree++) {
    const start = starts[tree];
    const size = starts[tree + 1] - start;
    if (!(starts[tree + 1] > start && starts[tree + 1] <= nodes))
      fail(`tree ${tree} starts at ${start} and has no nodes`);
    let waiting = 0;
    for (let node = 0; node < size; node++) {
      const at = start + node;
      const where = (): string => `tree ${tree}, node ${node}`;
      if (!Number.isFinite(value[at])) fail(`${where()}: its ${split[at] < 0 ? 'value' : 'threshold'} is ${value[at]}`);
      if (split[at] >= 0) {
        if (split[at] >> 1 >= columns) fail(`${where()}: column ${split[at] >> 1} of ${columns}`);
        if (right[at] <= node + 1 || right[at] >= size) {
          fail(`${where()}: its right child ${right[at]} is none of the nodes from ${node + 2} to ${size - 1}`);
        }
        if (waiting === deepest) fail(`${where()}: it lies more than ${deepest} splits deep`);
        pending[waiting++] = right[at];
        continue;
      }
      if (split[at] !== -1 || right[at] !== 0)
        fail(`${where()}: a leaf has split -1 and right 0, not ${split[at]} and ${right[at]}`);
      const next = waiting === 0 ? size : pending[--waiting];
      if (next !== node + 1) fail(`${where()}: ${next} should follow it, as the right child that is next`);
    }
    if (waiting > 0) fail(`tree ${tree} ends before its last leaf`);
  }
}

/**
 * Refuses inputs that a model was not trained on.
 * @throws CheckpointError naming the descriptors, or the first column that differs
 */
export function checkInputs(path: string, model: Inputs, given: Inputs): void {
  const fail = (what: string): never => {
    throw new CheckpointError(`${path}: ${what}; train it anew, or give it what it was trained on`);
  };
  const name = (descriptors: string): string => (descriptors === '' ? 'none' : descriptors.slice(0, 40));
  if (model.descriptors !== given.descriptors) {
    fail(`it was trained on descriptors ${name(model.descriptors)}, these are ${name(given.descriptors)}`);
  }
  if (model.columns.length !== given.columns.length) {
    fail(`it takes ${model.columns.length} columns, not ${given.columns.length}`);
  }
  const at = model.columns.findIndex((column, c) => column !== given.columns[c]);
  if (at >= 0) fail(`its column ${at + 1} is ${model.columns[at]}, not ${given.columns[at]}`);
}
