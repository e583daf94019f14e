/** Settings of gradient-boosted trees: data/presets/trees/NAME.yaml. */
import { z } from 'zod';
import { packageRoot } from '../../paths.ts';
import { layered, namesIn, readPreset, refuse } from '../config.ts';

const share = z.number().positive().max(1);

const settingsSchema = z.strictObject({
  model: z.literal('trees'),
  /** Seed of the rows and columns that each tree sees, and of what is set aside. */
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  /** Share of the rows set aside to measure the model; groups stay whole. */
  leaveOut: z.number().min(0).max(0.9),
  /** `absolute`: trees follow signs of residuals, leaves are medians. */
  loss: z.enum(['squared', 'absolute']),
  trees: z.number().int().min(1).max(100_000),
  learningRate: z.number().positive().max(1),
  /** `depth`: every node down to a depth; `leaf`: the leaf that gains most first, up to a number of leaves. */
  growth: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('depth'), depth: z.number().int().min(0).max(64) }),
    z.strictObject({
      kind: z.literal('leaf'),
      leaves: z.number().int().min(1).max(65_536),
      depth: z.number().int().min(0).max(64).optional(),
    }),
  ]),
  /** Codes of a column at most, one of them for missing values. */
  bins: z.number().int().min(2).max(256),
  /** λ added to the number of rows in gains and in leaves of the squared loss. */
  l2: z.number().min(0).max(1e9),
  /** Least rows of a leaf: also least weight, since each row weighs 1 in both losses. */
  leafRows: z.number().int().min(1).max(1_000_000_000),
  /** Least fall of the squared error that is worth a split. */
  minGain: z.number().min(0).max(1e30),
  /** Rows that a tree sees, drawn anew for each without replacement. */
  rowShare: share,
  /** Columns that a tree sees, drawn anew for each. */
  columnShare: share,
  /** Stop when so many trees in a row don't better the loss on this share of the training rows; none unless given. */
  earlyStopping: z
    .strictObject({ share: z.number().positive().max(0.9), patience: z.number().int().min(1).max(100_000) })
    .optional(),
  /** A second forest for the size of the errors, trained on the rows that early stopping watches; none unless given. */
  uncertainty: z
    .strictObject({
      trees: z.number().int().min(1).max(10_000),
      learningRate: z.number().positive().max(1),
      leaves: z.number().int().min(1).max(65_536),
      leafRows: z.number().int().min(1).max(1_000_000_000),
    })
    .optional(),
});
export const treesSchema = settingsSchema.refine(({ uncertainty, earlyStopping }) => !uncertainty || earlyStopping, {
  path: ['uncertainty'],
  message: 'it learns from the rows of earlyStopping; give that too',
});
export type TreesConfig = z.infer<typeof treesSchema>;

const folder = `${packageRoot}/data/presets/trees`;

/** Names of the presets for trees. */
export const treesPresetNames = (): string[] => namesIn(folder);

/**
 * A preset, with the settings of a YAML or JSON file and of the command line laid over it.
 * @throws ConfigError naming the key at fault
 */
export function loadTreesConfig(options: {
  preset: string;
  file?: string;
  overrides?: Record<string, unknown>;
}): TreesConfig {
  const preset = readPreset(folder, options.preset);
  return checkTreesConfig(layered(preset, options), options.file ?? `preset ${options.preset}`, preset);
}

/** Settings checked against their schema. @throws ConfigError */
export function checkTreesConfig(value: unknown, source: string, known: unknown = value): TreesConfig {
  const result = treesSchema.safeParse(value);
  return result.success ? result.data : refuse(result.error.issues, value, source, known);
}
