/** A trained property model, whatever its kind: formulas in, numbers out. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { openExecutor } from '../autograd/open.ts';
import { elementCount } from '../chem/encoding.ts';
import { type Composition, FormulaFault } from '../chem/formula.ts';
import { packedFractions, refuseStrangers, writeFractions } from '../chem/fractions.ts';
import { Describer, descriptorCount, descriptorNames, descriptorSet } from '../chem/magpie.ts';
import { ConfigError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { type Calibration, uncertainty } from './calibration.ts';
import { propertyModel } from './predictor.ts';
import { bestName, findCheckpoint, shippedFile } from './run.ts';
import { checkInputs, isTrees, readTrees } from './trees/files.ts';
import { type ErrorForest, type Forest, predict, uncertaintiesOf } from './trees/forest.ts';

/** Of each row its number, and what 68.27 % of the errors stay below where the model knows. */
export interface Predictions {
  values: ArrayLike<number>;
  uncertainties?: ArrayLike<number>;
}

interface Facts {
  readonly kind: 'elemnet' | 'trees';
  /** Name of the column that it was trained to predict. */
  readonly target: string;
  /** SHA-256 of the model's file, hexadecimal. */
  readonly sha256: string;
  /** What to tell the user: what computes, how far it is off on rows set aside. */
  readonly note: string;
  /** Of an elemnet: from its members' spread to an uncertainty. */
  readonly calibration?: Calibration;
}

export interface Regressor extends Facts {
  /** @param words packed rows, 4 words each */
  run(words: Uint32Array, rows: number): Promise<Predictions>;
  /** Cheaper and less accurate values, where the model has them. */
  rough?(words: Uint32Array, rows: number): Promise<Predictions>;
  /** Of formulas as they stand, fractional ones too; those that can't be predicted are NaN, and their faults say why, by place. */
  compositions(formulas: readonly Composition[]): Promise<Predictions & { faults: ReadonlyMap<number, FormulaFault> }>;
  destroy(): void;
}

/** What the kinds differ in: the numbers that they make of a formula, and what they make of these. */
interface Inside {
  /** Numbers of a formula. */
  width: number;
  packed(words: Uint32Array, row: number, out: Float32Array, at: number): void;
  /** @throws FormulaFault */
  write(formula: Composition, out: Float32Array, at: number): void;
  /** @param inputs [rows, width] */
  predict(inputs: Float32Array): Promise<Predictions>;
  /** Cheaper, where that can be. */
  rough?(inputs: Float32Array): Promise<Predictions>;
  destroy(): void;
}

/** Rows that are described at a time: 5 MB. */
const chunk = 8192;
/** Share of the residual that is left to the trees that a rough prediction leaves out, were every tree to fit perfectly. */
const roughResidual = 0.001;

/** The model that ships for a property, whatever lies in the working folder. */
export const shippedModel = (property: 'energy' | 'gap'): string =>
  join(packageRoot, 'models', `${property}.safetensors`);

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
  const file = shippedFile(path) ?? path;
  if (isTrees(file)) return openTrees(file, option);
  const checkpoint = findCheckpoint(path, existsSync(join(path, bestName)) ? 'best' : 'last');
  const { config } = checkpoint;
  if (config.model !== 'elemnet') {
    throw new ConfigError(
      `${option} ${path}: it is a model of kind ${config.model}; it takes one of "train elemnet" or "train trees"`,
    );
  }
  const { executor, note } = await openExecutor(device, { boundsChecks: false });
  try {
    const model = await propertyModel(executor, checkpoint);
    const { calibration } = model;
    return regressor(
      { kind: 'elemnet', target: config.target, sha256: sha256Of(checkpoint.path), note, calibration },
      {
        width: elementCount,
        packed: packedFractions,
        write: writeFractions,
        predict: async (fractions) => {
          const { values, spreads } = await model.run(fractions);
          return { values, uncertainties: spreads.map((spread) => uncertainty(spread, calibration)) };
        },
        rough: model.rough && (async (fractions) => ({ values: await model.rough!(fractions) })),
        destroy: () => {
          model.destroy();
          executor.destroy();
        },
      },
    );
  } catch (error) {
    executor.destroy();
    throw error;
  }
}

function openTrees(path: string, option: string): Regressor {
  const model = readTrees(path);
  if (model.descriptors === '') {
    throw new ConfigError(
      `${option} ${path}: its trees were trained on columns of a table, which formulas have not; train them with --descriptors magpie`,
    );
  }
  checkInputs(path, model, { columns: descriptorNames, descriptors: descriptorSet().fingerprint });
  const { forest, error, measured, target, config } = model;
  // Each tree takes a share of what those before it left: the first ones have most of it.
  const few = Math.max(1, Math.ceil(Math.log(roughResidual) / Math.log(1 - config.learningRate)));
  const rough = Math.min(forest.starts.length - 1, few);
  const describer = new Describer();
  const errors = Object.entries(measured).map(([name, value]) => `${name} ${value.toPrecision(3)}`);
  const note = `trees for ${target}; ${errors.length > 0 ? `on rows set aside: ${errors.join(', ')}` : 'never measured'}`;
  return regressor(
    { kind: 'trees', target, sha256: sha256Of(path), note },
    {
      width: descriptorCount,
      packed: (words, row, out, at) => describer.row(words, row, out, at),
      write: (formula, out, at) => {
        // Trees were trained on these alone.
        refuseStrangers(formula);
        describer.composition(formula, out, at);
      },
      predict: (inputs) => byPieces(inputs, forest, error),
      rough: async (inputs) => ({ values: predict(forest, inputs, rough) }),
      destroy: () => {},
    },
  );
}

/** Rows that trees judge between two looks at what else is to be done: a device that another model computes on must not run dry. */
const piece = 1024;

async function byPieces(inputs: Float32Array, forest: Forest, error: ErrorForest | undefined): Promise<Predictions> {
  const rows = inputs.length / forest.columns;
  const values = new Float64Array(rows);
  const uncertainties = error && new Float64Array(rows);
  for (let from = 0; from < rows; from += piece) {
    const some = inputs.subarray(from * forest.columns, Math.min(rows, from + piece) * forest.columns);
    values.set(predict(forest, some), from);
    if (error) uncertainties?.set(uncertaintiesOf(error, some), from);
    await setImmediate();
  }
  return { values, uncertainties };
}

/** A regressor that takes rows a chunk at a time. */
function regressor(facts: Facts, { width, packed, write, predict: full, rough, destroy }: Inside): Regressor {
  /** @param fill false where a row has no inputs */
  const each = async (
    some: Inside['predict'],
    rows: number,
    fill: (row: number, out: Float32Array, at: number) => boolean,
  ): Promise<Predictions> => {
    const values = new Float64Array(rows).fill(Number.NaN);
    let uncertainties: Float64Array | undefined;
    const inputs = new Float32Array(Math.min(rows, chunk) * width);
    for (let from = 0; from < rows; from += chunk) {
      const places: number[] = [];
      for (let row = from; row < Math.min(rows, from + chunk); row++)
        if (fill(row, inputs, places.length * width)) places.push(row);
      const found = await some(inputs.subarray(0, places.length * width));
      if (found.uncertainties) uncertainties ??= new Float64Array(rows).fill(Number.NaN);
      places.forEach((row, i) => {
        values[row] = found.values[i];
        if (uncertainties && found.uncertainties) uncertainties[row] = found.uncertainties[i];
      });
    }
    return { values, uncertainties };
  };
  const run =
    (some: Inside['predict']): Regressor['run'] =>
    (words, rows) =>
      each(some, rows, (row, out, at) => {
        packed(words, row, out, at);
        return true;
      });
  return {
    ...facts,
    run: run(full),
    rough: rough && run(rough),
    compositions: async (formulas) => {
      const faults = new Map<number, FormulaFault>();
      const found = await each(full, formulas.length, (row, out, at) => {
        try {
          write(formulas[row], out, at);
          return true;
        } catch (error) {
          if (!(error instanceof FormulaFault)) throw error;
          faults.set(row, error);
          return false;
        }
      });
      return { ...found, faults };
    },
    destroy,
  };
}

const sha256Of = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
