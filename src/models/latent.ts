/** Walks in an autoencoder's latent space: from one formula to another, and around one. */
import { Stream } from '../autograd/philox.ts';
import {
  type PackedFormulas,
  PackedSet,
  packFormula,
  reducePacked,
  rowElements,
  rowWords,
  unpackRow,
} from '../chem/encoding.ts';
import { formatFormula, parseFormula, reduceFormula } from '../chem/formula.ts';
import { judge } from '../chem/validity.ts';
import { ConfigError, DataError } from '../errors.ts';
import type { Codec } from './codec.ts';
import type { Rule } from './study.ts';

/** A decoded formula, in lowest terms, with the paper's verdict. */
export interface Judged {
  readonly formula: string;
  readonly elements: number;
  readonly chargeNeutral: boolean;
  readonly electronegativityBalanced: boolean;
  /** In the data that were given to compare with; null without any. */
  readonly known: boolean | null;
}

/** A stretch of a path on which one formula comes out; null where nothing does. */
export interface Stretch {
  /** Place of its first and last point, 0 (from) to 1 (to). */
  readonly from: number;
  readonly to: number;
  readonly points: number;
  readonly found: Judged | null;
}

export interface Path {
  readonly from: string;
  readonly to: string;
  readonly rule: Rule;
  /** True where the end decodes to the formula itself. */
  readonly exact: { readonly from: boolean; readonly to: boolean };
  readonly stretches: readonly Stretch[];
}

export interface Neighbour extends Judged {
  /** How often it came out. */
  readonly times: number;
  /** Root mean square over the latents' components of its own latent vector's distance, in their standard deviations over the data. */
  readonly distance: number;
}

export interface Neighbourhood {
  readonly formula: string;
  readonly rule: Rule;
  readonly radius: number;
  readonly samples: number;
  /** Samples that decode to a formula, and to the formula itself. */
  readonly decoded: number;
  readonly same: number;
  /** Different formulas other than the formula itself, the nearest first. */
  readonly neighbours: readonly Neighbour[];
}

/**
 * A formula as a packed row, in lowest terms.
 * @throws FormulaError where it cannot be read or does not fit 85 × 8; DataError where it has one element: such rows decode to nothing
 */
export function packedFormula(text: string): Uint32Array {
  const composition = reduceFormula(parseFormula(text));
  const words = packFormula(composition);
  if (composition.size < 2)
    throw new DataError(`formula ${text}: it has one element, which never decodes; name a compound`);
  return words;
}

/** The verdict on a packed row in lowest terms. */
function judged(words: Uint32Array, row: number, known: PackedSet | undefined): Judged {
  const composition = unpackRow(words, row);
  const { chargeNeutral, electronegativityBalanced } = judge(composition);
  return {
    formula: formatFormula(composition),
    elements: rowElements(words, row),
    chargeNeutral,
    electronegativityBalanced,
    known: known ? known.has(words, row) : null,
  };
}

const equalRows = (a: Uint32Array, i: number, b: Uint32Array, j: number): boolean => {
  for (let w = 0; w < rowWords; w++) if (a[i * rowWords + w] !== b[j * rowWords + w]) return false;
  return true;
};

/** Latent vectors of a few formulas, all in memory. */
async function latentsOf(codec: Codec, formulas: PackedFormulas): Promise<Float32Array> {
  const all = new Float32Array(formulas.rows * codec.latent);
  await codec.encode(formulas, (latents, from) => all.set(latents, from * codec.latent));
  return all;
}

/** The straight path between two formulas' latent vectors, in `steps` equal steps; neighbouring equal results are one stretch. */
export async function interpolate(
  codec: Codec,
  ends: { readonly from: string; readonly to: string },
  steps: number,
  rule: Rule,
  known?: PackedSet,
): Promise<Path> {
  if (!(steps >= 1)) throw new ConfigError(`interpolate: ${steps} steps make no path; take at least 1`);
  const packed = new Uint32Array(2 * rowWords);
  packed.set(packedFormula(ends.from));
  packed.set(packedFormula(ends.to), rowWords);
  const latents = await latentsOf(codec, { packed, rows: 2 });
  const { latent } = codec;
  const points = new Float32Array((steps + 1) * latent);
  for (let step = 0; step <= steps; step++) {
    const t = step / steps;
    for (let k = 0; k < latent; k++) points[step * latent + k] = (1 - t) * latents[k] + t * latents[latent + k];
  }
  const words = (await codec.decode(points))[rule];
  const exact = { from: equalRows(words, 0, packed, 0), to: equalRows(words, steps, packed, 1) };
  const stretches: Stretch[] = [];
  for (let step = 0; step <= steps; step++) reducePacked(words, step);
  for (let first = 0; first <= steps; ) {
    let last = first;
    while (last < steps && equalRows(words, first, words, last + 1)) last++;
    const found = words[first * rowWords] === 0 ? null : judged(words, first, known);
    stretches.push({ from: first / steps, to: last / steps, points: last - first + 1, found });
    first = last + 1;
  }
  const text = (row: number): string => formatFormula(unpackRow(packed, row));
  return { from: text(0), to: text(1), rule, exact, stretches };
}

/** Rows whose latent vectors tell the spread, at most. */
const spreadRows = 8192;

/** Standard deviation of each component of the latent vectors [latent] over evenly chosen rows of some data. */
export async function latentSpread(codec: Codec, { packed, rows }: PackedFormulas): Promise<Float64Array> {
  const { latent } = codec;
  const many = Math.min(rows, spreadRows);
  if (many < 2)
    throw new DataError(`near: ${rows} formulas tell no spread of the latent vectors; give more with --data`);
  const chosen = new Uint32Array(many * rowWords);
  for (let i = 0; i < many; i++) {
    const row = Math.floor((i * rows) / many);
    chosen.set(packed.subarray(row * rowWords, (row + 1) * rowWords), i * rowWords);
  }
  const mean = new Float64Array(latent);
  const squares = new Float64Array(latent);
  // Welford's running mean and sum of squares: differences of large sums would lose digits.
  let n = 0;
  await codec.encode({ packed: chosen, rows: many }, (latents, _, count) => {
    for (let i = 0; i < count; i++) {
      n++;
      for (let k = 0; k < latent; k++) {
        const value = latents[i * latent + k];
        const off = value - mean[k];
        mean[k] += off / n;
        squares[k] += off * (value - mean[k]);
      }
    }
  });
  return squares.map((sum) => Math.sqrt(sum / (n - 1)));
}

/**
 * Decodes random points around a formula's latent vector. Their offsets are normal in each component, with the component's
 * standard deviation over the data times a radius that rises evenly from 0 to `radius` over the samples, so that the nearest
 * formulas show as well as far ones.
 */
export async function near(
  codec: Codec,
  text: string,
  options: {
    readonly count: number;
    readonly radius: number;
    readonly seed: number;
    readonly rule: Rule;
    readonly spread: Float64Array;
    readonly known?: PackedSet;
  },
): Promise<Neighbourhood> {
  const { count, radius, seed, rule, spread, known } = options;
  if (!(count >= 1)) throw new ConfigError(`near: ${count} samples find nothing; take at least 1`);
  const { latent } = codec;
  const origin = packedFormula(text);
  const centre = await latentsOf(codec, { packed: origin, rows: 1 });
  const random = new Stream(seed);
  const points = new Float32Array(count * latent);
  for (let i = 0; i < count; i++) {
    const reach = (radius * (i + 1)) / count;
    for (let k = 0; k < latent; k++) points[i * latent + k] = centre[k] + reach * spread[k] * random.normal();
  }
  const words = (await codec.decode(points))[rule];
  const set = new PackedSet(count);
  const times: number[] = [];
  let decoded = 0;
  let same = 0;
  for (let i = 0; i < count; i++) {
    if (words[i * rowWords] === 0) continue;
    decoded++;
    reducePacked(words, i);
    if (equalRows(words, i, origin, 0)) {
      same++;
      continue;
    }
    const member = set.insert(words, i);
    times[member] = (times[member] ?? 0) + 1;
  }
  const found = { packed: set.packed.slice(), rows: set.size };
  const own = await latentsOf(codec, found);
  const neighbours = Array.from({ length: set.size }, (_, i) => {
    let sum = 0;
    let components = 0;
    for (let k = 0; k < latent; k++) {
      // A component that never changes measures nothing.
      if (!(spread[k] > 0)) continue;
      sum += ((own[i * latent + k] - centre[k]) / spread[k]) ** 2;
      components++;
    }
    return { ...judged(found.packed, i, known), times: times[i], distance: Math.sqrt(sum / Math.max(1, components)) };
  });
  neighbours.sort((a, b) => a.distance - b.distance || (a.formula < b.formula ? -1 : 1));
  return { formula: formatFormula(unpackRow(origin)), rule, radius, samples: count, decoded, same, neighbours };
}
