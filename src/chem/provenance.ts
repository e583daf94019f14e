import { readFileSync } from 'node:fs';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { DataError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { holdsMetadata, isParquet, readMetadata, writeWhole } from './tables.ts';

/**
 * Where a data file came from: inside it where the format has a place for that (Parquet's key-value metadata), else in a file
 * beside it. No time and no path is in it, so that the same input gives the same bytes.
 */

const count = z.number().int().nonnegative();
const text = z.string().max(1000);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'is no SHA-256');

/** What is read back of a stranger's provenance; fields beside these are left alone. */
const schema = z.object({
  /** Of the program that wrote it. */
  version: text.optional(),
  /** Rules that were applied; `synth` for the embedded set. */
  rules: text.optional(),
  source: z.object({ file: text, sha256, formulaColumn: text.optional() }).optional(),
  /** Rows of the source, those without a readable formula by reason, and what each rule removed, in order. */
  rows: count.optional(),
  unusable: z.record(text, count).optional(),
  steps: z
    .array(z.object({ rule: text, removed: count, left: count, paper: count.optional() }))
    .max(100)
    .readonly()
    .optional(),
  kept: count.optional(),
  /** Number of elements → number of formulas. */
  byElementCount: z.record(text, count).optional(),
  withoutEnergy: count.optional(),
  withoutGap: count.optional(),
  paper: z.object({ rows: count.nullable(), kept: count.nullable() }).optional(),
  /** Asked of `data synth`. */
  count: count.optional(),
  seed: count.optional(),
  /** Which part of which rows, for a part. */
  split: z
    .object({
      part: z.enum(['training', 'leave-out']),
      leaveOut: z.number(),
      seed: z.number(),
      of: sha256,
      rows: count,
    })
    .optional(),
  /** SHA-256 of the packed rows. */
  fingerprint: sha256.optional(),
  /** Attributes that the rows have, as `descriptorSet` says. */
  descriptors: z.object({ name: text, count, fingerprint: sha256 }).optional(),
});

export type Provenance = z.infer<typeof schema>;

/** The key in a Parquet file's metadata. */
const key = 'matgan';
/** Characters; ours has two thousand. */
const longest = 1 << 20;

/** Name of the file that says where a data file came from that cannot say so itself. */
export function provenanceName(file: string): string {
  return `${file}.provenance.json`;
}

const version: string = JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8')).version;

/** What goes into a data file about itself: `facts` with the program's version, for `writeTable`. */
export function metadataOf(facts: Provenance): Record<string, string> {
  return { [key]: JSON.stringify({ ...facts, version }) };
}

/**
 * Writes the file beside a data file of a format that has no place for `facts`; of the others removes one that was there, which
 * would mislead.
 * @throws DataError
 */
export async function writeSidecar(file: string, facts: object): Promise<void> {
  const name = provenanceName(file);
  if (holdsMetadata(file)) await rm(name, { force: true });
  else await writeWhole(name, (at) => writeFile(at, `${JSON.stringify({ ...facts, version }, null, 2)}\n`));
}

/**
 * What a data file says about itself, or the file beside it does; null where neither does.
 * @throws DataError for a file that cannot be read, and for provenance that is none
 */
export async function readProvenance(file: string): Promise<Provenance | null> {
  const inside = (await isParquet(file)) ? await readMetadata(file, key, longest) : null;
  const beside = provenanceName(file);
  const found = inside === null ? await stat(beside).catch(() => null) : null;
  if (inside === null && !found?.isFile()) return null;
  const where = inside === null ? beside : `${file}: its provenance`;
  if (found && found.size > longest)
    throw new DataError(`${where}: has ${found.size} bytes, too many for a provenance`);
  let value: unknown;
  try {
    value = JSON.parse(inside ?? (await readFile(beside, 'utf8')));
  } catch (cause) {
    throw new DataError(`${where}: is no JSON; prepare the file again, or read it without`, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw new DataError(`${where}: ${path.slice(0, 3).join('.') || 'it'}: ${message}; prepare the file again`);
}
