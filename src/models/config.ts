import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { checkSize } from './size.ts';

const whole = (least: number, most = 1_000_000_000) => z.number().int().min(least).max(most);
const pair = z.tuple([whole(1, 64), whole(1, 64)]);

/** `batch`: over the batch, by channel; `layer`: each sample by itself, over all its features. */
const norm = z.enum(['batch', 'layer', 'none']);
export type NormKind = z.infer<typeof norm>;
/**
 * `sigmoid`: each cell by itself; `softmax`: the eight counts and "absent" of an element exclude one another, at a
 * temperature that its logits are divided by (1 unless said).
 */
const output = z.union([z.enum(['sigmoid', 'softmax']), z.strictObject({ softmax: z.number().positive().max(100) })]);
const activation = z.union([z.literal('relu'), z.strictObject({ leakyRelu: z.number().min(0).max(1) })]);
/** `he`: normal with variance 2/fan-in (He et al. 2015); `normal`: N(0, 1), as the released weights started. */
const initial = z.enum(['he', 'normal']);

const convLayer = z.strictObject({
  filters: whole(1, 4096),
  kernel: pair,
  strides: pair,
  /** Norm after this layer; the network's `norm` unless said. */
  norm: norm.optional(),
});

/** Latent vector → 85×8×1 cells. */
const convGenerator = z.strictObject({
  kind: z.literal('conv'),
  latent: whole(1, 4096),
  /** Height, width and channels that the first, fully connected layer makes. */
  head: z.tuple([whole(1, 85), whole(1, 8), whole(1, 4096)]),
  /** Transposed convolutions, each with the height and width that it makes; the last one makes 85×8×1. */
  layers: z
    .array(convLayer.extend({ size: z.tuple([whole(1, 85), whole(1, 8)]) }))
    .min(1)
    .max(64),
  norm,
  activation,
  output,
  initial,
});
const denseGenerator = z.strictObject({
  kind: z.literal('dense'),
  latent: whole(1, 4096),
  /** Widths of the hidden layers. */
  hidden: z.array(whole(1, 16_384)).max(32),
  /**
   * The network changes a draft instead of starting from noise alone: a formula drawn from training's frequencies (how many elements,
   * which, how many atoms of each) comes in beside the latent vector, and `strength` is what its states have over the others in the
   * logits that come out. A start at chance, and all that it then learns is chemistry.
   */
  draft: z.strictObject({ strength: z.number().positive().max(100) }).optional(),
  norm,
  activation,
  output,
  /** Start of the last bias: a number (0 unless said), or logits of the cells' frequencies in training. */
  outputBias: z.union([z.literal('frequencies'), z.number().min(-20).max(20)]).optional(),
  initial,
});
const generator = z.discriminatedUnion('kind', [convGenerator, denseGenerator]);
const decoder = z.discriminatedUnion('kind', [convGenerator, denseGenerator.omit({ draft: true })]);

/** 85×8×1 cells → features → a number (critic) or a latent vector (encoder). */
const convCritic = z.strictObject({
  kind: z.literal('conv'),
  layers: z.array(convLayer).min(1).max(64),
  norm,
  activation,
  initial,
});
const denseCritic = z.strictObject({
  kind: z.literal('dense'),
  hidden: z.array(whole(1, 16_384)).max(32),
  /** Weight of one more input, the number of elements (the sum of all cells); none unless said. */
  sizeInput: z.number().positive().max(100).optional(),
  norm,
  activation,
  initial,
});
const critic = z.discriminatedUnion('kind', [convCritic, denseCritic]);

const rate = z.number().min(0).max(10);
const beta = z.number().min(0).lt(1);
const optimiser = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('adam'), learningRate: rate, beta1: beta, beta2: beta, eps: z.number().positive() }),
  z.strictObject({ name: z.literal('rmsProp'), learningRate: rate, rho: beta, eps: z.number().positive() }),
  z.strictObject({ name: z.literal('sgd'), learningRate: rate, momentum: beta }),
]);

const common = {
  /** Seed of initial weights, noise, order of rows and the leave-out split. */
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  batch: whole(1, 65_536),
  /** Training length in optimiser steps of the generator (or the autoencoder). */
  steps: whole(1),
  /** Share of the rows set aside before training. */
  leaveOut: z.number().min(0).max(0.9),
  /** Learning rates fall linearly to zero between these steps, whatever `steps` is; `none` for never. */
  decay: z.union([z.literal('none'), z.strictObject({ from: whole(0), to: whole(1) })]),
  /** How cells become formulas: the released code's rule, or the greatest cell of at least 0.5. */
  decoding: z.enum(['paper', 'argmax']),
  batchNorm: z.strictObject({ eps: z.number().positive().max(1), decay: z.number().min(0).lt(1) }),
};

const ganSchema = z
  .strictObject({
    model: z.literal('gan'),
    ...common,
    generator,
    critic,
    /** What keeps the critic Lipschitz: WGAN-GP with λ (on the first `rows` of a batch, all unless said), or clipping. */
    constraint: z.discriminatedUnion('name', [
      z.strictObject({
        name: z.literal('gradientPenalty'),
        lambda: z.number().positive().max(1e6),
        rows: whole(1, 65_536).optional(),
      }),
      z.strictObject({ name: z.literal('clipping'), clip: z.number().positive().max(1e3) }),
    ]),
    /** Critic updates before each of the generator. */
    criticSteps: whole(1, 100),
    generatorOptimiser: optimiser,
    criticOptimiser: optimiser,
    /** Decay of the average of the generator's weights that generating uses; 0 for the last weights themselves. */
    averaging: z.number().min(0).lt(1),
  })
  .refine(({ batch, constraint }) => constraint.name !== 'gradientPenalty' || (constraint.rows ?? 1) <= batch, {
    path: ['constraint', 'rows'],
    message: 'it is more than the batch has',
  });
const aeSchema = z.strictObject({
  model: z.literal('ae'),
  ...common,
  encoder: critic,
  decoder,
  /**
   * Dense networks only: the decoder starts as the encoder's transpose, its last layer times `gain`; the encoder then
   * has variance 1/fan-out.
   */
  mirror: z.strictObject({ gain: z.number().positive().max(100) }).optional(),
  /** The paper's Dice loss unless said. */
  loss: z.enum(['dice', 'crossEntropy']).optional(),
  optimiser,
});

/** Tells a generator's formulas from real ones; its samples are then kept by what it says. */
const filterSchema = z.strictObject({
  model: z.literal('filter'),
  seed: common.seed,
  batch: common.batch,
  steps: common.steps,
  /** Share of the generator's training rows that only measure the filter. */
  leaveOut: z.number().positive().max(0.5),
  decay: common.decay,
  /** Widths of the hidden layers. */
  hidden: z.array(whole(1, 16_384)).min(1).max(32),
  /** Share of each hidden layer's outputs that a step leaves out. */
  dropout: z.number().min(0).max(0.95),
  /** Generated formulas to learn from. */
  pool: whole(1, 2 ** 24),
  /** Share of the generator's formulas that are kept. */
  keep: z.number().positive().max(1),
  optimiser,
});

/** ElemNet as published: fully connected layers and ReLU. */
const plainNetwork = z.strictObject({
  kind: z.literal('plain'),
  /** Layers of one width, and the share of the last one's outputs that dropout keeps (1: no dropout). */
  blocks: z
    .array(z.strictObject({ units: whole(1, 16_384), layers: whole(1, 32), keep: z.number().min(0.05).max(1) }))
    .min(1)
    .max(32),
});
/** Blocks x + f(x), each of two layers. */
const residualNetwork = z.strictObject({
  kind: z.literal('residual'),
  width: whole(1, 16_384),
  blocks: whole(0, 64),
  /** Width inside a block. */
  hidden: whole(1, 16_384),
  norm: z.enum(['layer', 'none']),
  /** Share of a block's inner outputs that a step leaves out. */
  dropout: z.number().min(0).max(0.95),
  /** Further inputs: for each element that is there, exp(−((fraction − at)/width)²). */
  bumps: z.array(z.strictObject({ at: z.number().min(0).max(1), width: z.number().min(1e-3).max(10) })).max(64),
  /** Further inputs: mean and variance, weighted by fractions, of learned vectors of this length; 0 for none. */
  embedding: whole(0, 4096),
});

/** A property from the fractions of elements. */
const elemnetSchema = z.strictObject({
  model: z.literal('elemnet'),
  /** Column of the table that it learns, and predicts. */
  target: z.string().min(1).max(200),
  seed: common.seed,
  batch: common.batch,
  steps: common.steps,
  /** Share of the rows to test on in the end; of the others, the share to validate on: for the best state, early stopping, calibration. */
  leaveOut: common.leaveOut,
  validation: z.number().min(0).max(0.5),
  /** Stop after so many measurements in a row that are no better; one a pass over the rows unless --measure-every says. */
  patience: whole(1),
  decay: common.decay,
  network: z.discriminatedUnion('kind', [plainNetwork, residualNetwork]),
  /** Networks that are trained side by side on the same rows; their mean predicts, and their spread says how sure it is. */
  members: whole(1, 64),
  optimiser,
  /** Decay of the average of the weights that predicts; 0 for the last weights themselves. */
  averaging: z.number().min(0).lt(1),
});

export type GanConfig = z.infer<typeof ganSchema>;
export type AeConfig = z.infer<typeof aeSchema>;
export type FilterConfig = z.infer<typeof filterSchema>;
export type ElemNetConfig = z.infer<typeof elemnetSchema>;
export type Config = GanConfig | AeConfig | FilterConfig | ElemNetConfig;
export type GeneratorConfig = z.infer<typeof generator>;
export type CriticConfig = z.infer<typeof critic>;
export type OptimiserConfig = z.infer<typeof optimiser>;
export type ActivationConfig = z.infer<typeof activation>;
export type ModelKind = Config['model'];

const schemas = { gan: ganSchema, ae: aeSchema, filter: filterSchema, elemnet: elemnetSchema };
const presetFolder = `${packageRoot}/data/presets`;

/** Names of the presets, `data/presets/NAME.yaml`. */
export const presetNames = (): string[] => namesIn(presetFolder);

/** Names of the presets of a folder. */
export const namesIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.slice(0, -5))
    .sort();

/** A preset of a folder, unchecked. @throws ConfigError where there is none of that name */
export function readPreset(folder: string, name: string): Record<string, unknown> {
  const names = namesIn(folder);
  if (!names.includes(name)) {
    throw new ConfigError(`preset ${name}: there is none${nearest(name, names)}; there are ${names.join(', ')}`);
  }
  return readYaml(`${folder}/${name}.yaml`);
}

/** A preset with a file and settings of the command line laid over it. */
export const layered = (
  preset: Record<string, unknown>,
  options: { file?: string; overrides?: Record<string, unknown> },
): Record<string, unknown> =>
  overlay(overlay(preset, options.file === undefined ? {} : readYaml(options.file)), options.overrides ?? {});

/**
 * A preset, with the settings of a YAML or JSON file of the user's and of the command line laid over it. `kind` is what
 * the preset must be for; undefined takes either.
 * @throws ConfigError naming the key at fault, with the nearest right one for a misspelt key.
 */
export function loadConfig<Kind extends ModelKind = ModelKind>(
  kind: Kind | undefined,
  options: { preset: string; file?: string; overrides?: Record<string, unknown> },
): Extract<Config, { model: Kind }> {
  const preset = readPreset(presetFolder, options.preset);
  if (kind && preset.model !== kind) {
    throw new ConfigError(`preset ${options.preset} is for "train ${preset.model}", not "train ${kind}"`);
  }
  const config = checkConfig(layered(preset, options), options.file ?? `preset ${options.preset}`, preset);
  return config as Extract<Config, { model: Kind }>;
}

/**
 * A configuration checked against its schema.
 * @param known settings whose keys are right, to suggest one for a misspelt key
 */
export function checkConfig(value: unknown, source: string, known: unknown = value): Config {
  const model = (value as { model?: unknown } | null)?.model;
  if (model !== 'gan' && model !== 'ae' && model !== 'filter' && model !== 'elemnet') {
    // Not what it holds: an alias of YAML can make it a circle.
    const what = typeof model === 'object' && model !== null ? 'no text' : JSON.stringify(model);
    throw new ConfigError(`${source}: model is ${what}; it takes gan, ae, filter or elemnet`);
  }
  const result = schemas[model].safeParse(value);
  if (result.success) {
    checkSize(result.data, source);
    return result.data;
  }
  return refuse(result.error.issues, value, source, known);
}

/** Says the most telling complaint about settings. @throws ConfigError always */
export function refuse(issues: readonly z.core.$ZodIssue[], value: unknown, source: string, known: unknown): never {
  const issue = deepest(issues);
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const [key] = issue.keys;
    // Where the preset has a word ("none"), the rest of what was given shows what belongs there.
    const others = [known, value].flatMap((root) => {
      const here = issue.path.reduce<unknown>((at, k) => (at as Record<PropertyKey, unknown> | undefined)?.[k], root);
      return isObject(here) ? Object.keys(here).filter((k) => !issue.keys.includes(k)) : [];
    });
    const there = others.length > 0 ? `; here there are ${[...new Set(others)].join(', ')}` : '';
    throw new ConfigError(`${source}: ${path ? `${path}.` : ''}${key} is no setting${nearest(key, others)}${there}`);
  }
  throw new ConfigError(`${source}: ${path || 'the whole'}: ${issue.message}`);
}

/** The most telling of a union's complaints: the one that got furthest. */
function deepest(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  const unknown = issues.find((issue) => issue.code === 'unrecognized_keys');
  return unknown ?? issues[0];
}

function readYaml(file: string): Record<string, unknown> {
  if (!existsSync(file)) throw new ConfigError(`${file}: there is no such configuration file`);
  const stat = statSync(file);
  if (stat.isDirectory()) throw new ConfigError(`${file}: it is a directory, not a configuration file`);
  // A pipe or a device may never end.
  if (!stat.isFile()) throw new ConfigError(`${file}: it is no plain file; copy its contents into one`);
  // The presets are 2 KB, and some texts take the parser a time that grows with the square of their length.
  if (stat.size > 32_768) throw new ConfigError(`${file}: ${stat.size} bytes are too many for a configuration`);
  let value: unknown;
  try {
    // Warnings would be a second message beside ours. Pretty errors quote their line, each of thousands of them.
    const lineCounter = new LineCounter();
    const document = parseDocument(readFileSync(file, 'utf8'), { logLevel: 'error', prettyErrors: false, lineCounter });
    const [error] = document.errors;
    if (error) {
      const { line, col } = lineCounter.linePos(error.pos[0]);
      throw new ConfigError(`${file}: ${error.message} at line ${line}, column ${col}`);
    }
    // Aliases can make a small file a huge tree.
    value = document.toJS({ maxAliasCount: 20 });
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`${file}: ${(cause as Error).message.split('\n')[0]}`, { cause });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new ConfigError(`${file}: it holds no settings (key: value)`);
  }
  return value as Record<string, unknown>;
}

/** Settings laid over others: objects key by key, everything else replaced whole, null takes a setting out. A new `kind` or `name` starts afresh. */
function overlay(below: Record<string, unknown>, above: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = Object.assign(Object.create(null), below);
  for (const [key, value] of Object.entries(above)) {
    const old = result[key];
    const both = isObject(old) && isObject(value);
    const another = both && ['kind', 'name'].some((tag) => value[tag] !== undefined && value[tag] !== old[tag]);
    if (value === null) delete result[key];
    else result[key] = both && !another ? overlay(old, value) : value;
  }
  return { ...result };
}
const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/** ` (did you mean X?)` where a known word is near. */
export function nearest(word: string, known: readonly string[]): string {
  let best = '';
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const d = distance(word.toLowerCase(), candidate.toLowerCase());
    if (d < least) {
      least = d;
      best = candidate;
    }
  }
  return best ? ` (did you mean ${best}?)` : '';
}

/** Levenshtein's distance of two short words. */
function distance(a: string, b: string): number {
  if (a.length > 64 || b.length > 64) return 64;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
