/** A trained property model, whatever its kind: packed formulas in, numbers out. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openExecutor } from '../autograd/open.ts';
import { elementCount } from '../chem/encoding.ts';
import { packedFractions } from '../chem/fractions.ts';
import { Describer, descriptorCount, descriptorNames, descriptorSet } from '../chem/magpie.ts';
import { ConfigError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { uncertainty } from './calibration.ts';
import { propertyModel } from './elemnet.ts';
import { bestName, findCheckpoint } from './run.ts';
import { checkInputs, isTrees, readTrees } from './trees/files.ts';
import { predict } from './trees/forest.ts';

export interface Regressor {
  readonly kind: 'elemnet' | 'trees';
  /** Name of the column that it was trained to predict. */
  readonly target: string;
  /** SHA-256 of the model's file, hexadecimal. */
  readonly sha256: string;
  /** What to tell the user: what computes, how far it is off on rows set aside. */
  readonly note: string;
  /** Uncertainties where the model has them: trees have none. @param words packed rows, 4 words each */
  run(words: Uint32Array, rows: number): Promise<{ values: ArrayLike<number>; uncertainties?: ArrayLike<number> }>;
  destroy(): void;
}

/** Rows that are described at a time: 5 MB. */
const chunk = 8192;

/**
 * Opens a model of "train elemnet" (run folder, file or name of one that ships) or of "train trees --descriptors magpie".
 * @param option names it in errors
 * @throws ConfigError for a model of another kind, CheckpointError for one that is damaged or was trained on other descriptors
 */
export async function openRegressor(
  path: string,
  option: string,
  device: 'auto' | 'gpu' | 'reference',
): Promise<Regressor> {
  const shipped = join(packageRoot, 'models', `${path}.safetensors`);
  const file = /^[\w-]+$/.test(path) && !existsSync(path) && existsSync(shipped) ? shipped : path;
  if (isTrees(file)) return openTrees(file);
  const checkpoint = findCheckpoint(path, existsSync(join(path, bestName)) ? 'best' : 'last');
  const { config } = checkpoint;
  if (config.model !== 'elemnet') {
    throw new ConfigError(`${option} ${path}: it is a model of kind ${config.model}; it takes an elemnet or trees`);
  }
  const { executor, note } = await openExecutor(device, { boundsChecks: false });
  try {
    const model = await propertyModel(executor, checkpoint);
    return {
      kind: 'elemnet',
      target: config.target,
      sha256: sha256Of(checkpoint.path),
      note,
      run: async (words, rows) => {
        const values = new Float32Array(rows);
        const uncertainties = new Float32Array(rows);
        const fractions = new Float32Array(Math.min(rows, chunk) * elementCount);
        for (let from = 0; from < rows; from += chunk) {
          const count = Math.min(chunk, rows - from);
          for (let i = 0; i < count; i++) packedFractions(words, from + i, fractions, i * elementCount);
          const found = await model.run(fractions.subarray(0, count * elementCount));
          values.set(found.values, from);
          uncertainties.set(
            found.spreads.map((spread) => uncertainty(spread, model.calibration)),
            from,
          );
        }
        return { values, uncertainties };
      },
      destroy: () => {
        model.destroy();
        executor.destroy();
      },
    };
  } catch (error) {
    executor.destroy();
    throw error;
  }
}

function openTrees(path: string): Regressor {
  const model = readTrees(path);
  checkInputs(path, model, { columns: descriptorNames, descriptors: descriptorSet().fingerprint });
  const describer = new Describer();
  const errors = Object.entries(model.measured).map(([name, value]) => `${name} ${value.toPrecision(3)}`);
  return {
    kind: 'trees',
    target: model.target,
    sha256: sha256Of(path),
    note: `trees for ${model.target}; ${errors.length > 0 ? `on rows set aside: ${errors.join(', ')}` : 'never measured'}`,
    run: async (words, rows) => {
      const values = new Float64Array(rows);
      const matrix = new Float32Array(Math.min(rows, chunk) * descriptorCount);
      for (let from = 0; from < rows; from += chunk) {
        const count = Math.min(chunk, rows - from);
        for (let i = 0; i < count; i++) describer.row(words, from + i, matrix, i * descriptorCount);
        values.set(predict(model.forest, matrix.subarray(0, count * descriptorCount)), from);
      }
      return { values };
    },
    destroy: () => {},
  };
}

const sha256Of = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
