import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { DataError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { elements, matganElements } from './elements.ts';
import { maxPairs, type PackedFormulas, pairAt } from './encoding.ts';
import { type Composition, FormulaFault, formatFormula } from './formula.ts';

/**
 * The 145 attributes of a composition by Ward et al. 2016 (npj Comput. Mater. 2, 16028), as matminer computes them: 6 norms of
 * the fractions, 6 statistics of each of 22 elemental properties, 4 shares of the valence electrons, 3 ionic attributes.
 * All are of the fractions alone, so Fe4O6, Fe2O3 and Fe0.4O0.6 have the same; fractional amounts are as good as whole ones.
 *
 * An element that lacks a value (helium's electronegativity) is refused by name, or gives NaN where that is asked for: never
 * a zero, and never the mean of the other elements, which is what matminer puts in unless told not to.
 */

/** The elemental properties, by Magpie's names, in Ward's order. */
const properties = [
  ...['Number', 'MendeleevNumber', 'AtomicWeight', 'MeltingT', 'Column', 'Row', 'CovalentRadius', 'Electronegativity'],
  ...['NsValence', 'NpValence', 'NdValence', 'NfValence', 'NValence'],
  ...['NsUnfilled', 'NpUnfilled', 'NdUnfilled', 'NfUnfilled', 'NUnfilled'],
  ...['GSvolume_pa', 'GSbandgap', 'GSmagmom', 'SpaceGroupNumber'],
];
const statistics = ['minimum', 'maximum', 'range', 'mean', 'avg_dev', 'mode'];
const norms = [0, 2, 3, 5, 7, 10];

/** The 145 names in order, as matminer labels them: `MagpieData mean Electronegativity`. */
export const descriptorNames: readonly string[] = [
  ...norms.map((p) => `${p}-norm`),
  ...properties.flatMap((property) => statistics.map((statistic) => `MagpieData ${statistic} ${property}`)),
  ...['s', 'p', 'd', 'f'].map((orbital) => `frac ${orbital} valence electrons`),
  ...['compound possible', 'max ionic char', 'avg ionic char'],
];

/** Columns of a descriptor matrix: 145. */
export const descriptorCount = descriptorNames.length;

const [propertyCount, statisticCount] = [properties.length, statistics.length];
const firstProperty = norms.length;
const firstShare = firstProperty + propertyCount * statisticCount;
const firstIonic = firstShare + 4;
/** Places of the electrons in s, p, d and f, which follow one another, and in all. */
const [electronsS, electrons] = [properties.indexOf('NsValence'), properties.indexOf('NValence')];

/** Amounts that close to the greatest count as equal to it in a mode (matminer's numpy.isclose). */
const closeAmounts = 1e-5;
/** A charge per atom of no more than this is none. */
const closeCharge = 1e-8;

interface Table {
  /** [elements, 22] by atomic number - 1; NaN where there is no value. */
  readonly values: Float64Array;
  /** 1 - exp(-(difference of electronegativities)²/4) of each pair of elements; NaN where one has none. */
  readonly ionic: Float64Array;
  /** Common oxidation states. */
  readonly states: readonly Int8Array[];
  /** What an element lacks, by name. */
  readonly lacking: readonly (readonly string[])[];
  readonly fingerprint: string;
}

let read: Table | undefined;

/** data/magpie.json, read once. */
function table(): Table {
  read ??= readTable();
  return read;
}

function readTable(): Table {
  const file = JSON.parse(readFileSync(`${packageRoot}/data/magpie.json`, 'utf8')) as {
    properties: string[];
    elements: Record<string, [(number | null)[], number | null, number[]]>;
  };
  if (file.properties.join() !== properties.join())
    throw new DataError('data/magpie.json: has other properties; check it out again');
  const size = elements.length;
  const values = new Float64Array(size * propertyCount).fill(Number.NaN);
  const scale = new Float64Array(size).fill(Number.NaN);
  const states = elements.map(({ symbol }, z) => {
    const [row, electronegativity, common] = file.elements[symbol] ?? [[], null, []];
    for (const [p, value] of row.entries()) values[z * propertyCount + p] = value ?? Number.NaN;
    scale[z] = electronegativity ?? Number.NaN;
    return Int8Array.from(common).sort();
  });
  const ionic = new Float64Array(size * size);
  for (let a = 0; a < size; a++)
    for (let b = 0; b < size; b++) ionic[a * size + b] = 1 - Math.exp(-0.25 * (scale[a] - scale[b]) ** 2);
  const lacking = elements.map((_, z) => [
    ...properties.filter((_, p) => Number.isNaN(values[z * propertyCount + p])),
    ...(Number.isNaN(scale[z]) ? ['Pauling electronegativity'] : []),
  ]);
  const hash = createHash('sha256').update(JSON.stringify([setName, descriptorNames, file.elements]));
  return { values, ionic, states, lacking, fingerprint: hash.digest('hex') };
}

/** Name with the version of what is computed; a new number where any attribute changes its meaning. */
const setName = 'magpie-145 v1';

/** What a model was trained on: `name` of the attributes and SHA-256 over that, their names and the elemental values. */
export function descriptorSet(): { readonly name: string; readonly count: number; readonly fingerprint: string } {
  return { name: setName, count: descriptorCount, fingerprint: table().fingerprint };
}

/** What to do where an element lacks a value: refuse the formula, or make NaN of the attributes that need it. */
export type Missing = 'refuse' | 'nan';

/** Values that a composition's elements lack, in order of atomic number; a single element needs no Pauling electronegativity. */
export function missingValues(composition: Composition): { readonly element: string; readonly property: string }[] {
  const { lacking } = table();
  return elements.flatMap(({ symbol }, z) =>
    composition.has(symbol)
      ? lacking[z]
          .filter((property) => composition.size > 1 || properties.includes(property))
          .map((property) => ({ element: symbol, property }))
      : [],
  );
}

const numberOf: ReadonlyMap<string, number> = new Map(elements.map(({ symbol }, z) => [symbol, z]));
const numberOfRow = Uint8Array.from(matganElements, (symbol) => numberOf.get(symbol)!);

/** A matrix of attributes, row by row, or a part of one. */
export type Matrix = Float32Array | Float64Array;

/** Computes attributes row by row; its working memory is made once. */
export class Describer {
  private readonly table = table();
  private readonly refuses: boolean;
  // The elements of the formula at hand, ascending: atomic number - 1, and amount.
  private readonly z = new Int32Array(elements.length);
  private readonly amounts = new Float64Array(elements.length);
  private n = 0;
  private unknown = '';
  /** Places of the most frequent elements, and places in `values` of all. */
  private readonly top = new Int32Array(elements.length);
  private readonly base = new Int32Array(elements.length);
  /** Kept apart from `out`, which may be f32. */
  private readonly means = new Float64Array(propertyCount);
  private readonly bits = new Uint32Array(2 * wideWords);

  constructor(missing: Missing = 'refuse') {
    this.refuses = missing === 'refuse';
  }

  /**
   * Writes the 145 attributes of a packed row to `out` from `at` on.
   * @throws FormulaError for an empty row
   */
  row(words: Uint32Array, row: number, out: Matrix, at: number): void {
    let n = 0;
    for (; n < maxPairs; n++) {
      const pair = pairAt(words, row, n);
      if (pair === 0) break;
      this.z[n] = numberOfRow[(pair >> 8) - 1];
      this.amounts[n] = pair & 0xff;
    }
    this.n = n;
    if (n === 0) throw new FormulaFault('empty', `row ${row} has no element; leave it out`);
    this.fill(out, at);
  }

  /**
   * Writes the 145 attributes of a composition, of any elements and positive amounts, to `out` from `at` on.
   * @throws FormulaError where an element lacks a value (and that is refused), is none, or an amount is not between 1e-100 and
   *   1e100;
   *   and where more than a million sums of charges would have to be looked at
   */
  composition(composition: Composition, out: Matrix, at: number): void {
    this.n = 0;
    this.unknown = '';
    composition.forEach(this.take);
    const fail = (kind: FormulaFault['kind'], what: string): never => {
      throw new FormulaFault(kind, `formula ${formatFormula(composition)}: ${what}`);
    };
    if (this.unknown !== '') fail('unknown element', `${this.unknown} is not an element; check the spelling`);
    if (this.n === 0) throw new FormulaFault('empty', 'the formula is empty; write one such as NaCl');
    for (let i = 0; i < this.n; i++) {
      if (!(this.amounts[i] > 1e-100 && this.amounts[i] < 1e100)) {
        const { symbol } = elements[this.z[i]];
        fail('amount out of range', `the amount of ${symbol}, ${this.amounts[i]}, is not between 1e-100 and 1e100`);
      }
      if (this.refuses && this.table.lacking[this.z[i]].length > 0) {
        const [lack] = missingValues(composition);
        if (lack)
          fail(
            'missing elemental value',
            `${lack.element} has no ${lack.property}; leave it out, or take NaN (--missing empty)`,
          );
      }
    }
    if (!this.fill(out, at)) {
      fail('too many combinations', `${this.n} elements with these amounts have too many combinations of charges`);
    }
  }

  /** Puts an element into its place; a property, so that no row makes a closure. */
  private readonly take = (amount: number, symbol: string): void => {
    const number = numberOf.get(symbol);
    if (number === undefined) {
      this.unknown = symbol;
      return;
    }
    const { z, amounts } = this;
    let i = this.n++;
    for (; i > 0 && z[i - 1] > number; i--) {
      z[i] = z[i - 1];
      amounts[i] = amounts[i - 1];
    }
    z[i] = number;
    amounts[i] = amount;
  };

  /** All 145; false where the charges were too many to judge. */
  private fill(out: Matrix, at: number): boolean {
    const { z, amounts, n, top, base, means } = this;
    const { values, ionic } = this.table;
    let total = 0;
    let most = 0;
    for (let i = 0; i < n; i++) {
      base[i] = z[i] * propertyCount;
      total += amounts[i];
      if (amounts[i] > most) most = amounts[i];
    }
    let tops = 0;
    let [p2, p3, p5, p7, p10] = [0, 0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      if (most - amounts[i] <= closeAmounts * most) top[tops++] = base[i];
      const x = amounts[i] / total;
      const x2 = x * x;
      const x5 = x2 * x2 * x;
      p2 += x2;
      p3 += x2 * x;
      p5 += x5;
      p7 += x5 * x2;
      p10 += x5 * x5;
    }
    out[at] = n;
    out[at + 1] = Math.sqrt(p2);
    out[at + 2] = Math.cbrt(p3);
    out[at + 3] = p5 ** (1 / 5);
    out[at + 4] = p7 ** (1 / 7);
    out[at + 5] = p10 ** (1 / 10);

    for (let p = 0, to = at + firstProperty; p < propertyCount; p++, to += statisticCount) {
      let least = values[base[0] + p];
      let greatest = least;
      let sum = least * amounts[0];
      for (let i = 1; i < n; i++) {
        const value = values[base[i] + p];
        if (value < least) least = value;
        if (value > greatest) greatest = value;
        sum += value * amounts[i];
      }
      const mean = sum / total;
      means[p] = mean;
      let deviation = 0;
      for (let i = 0; i < n; i++) deviation += Math.abs(values[base[i] + p] - mean) * amounts[i];
      let mode = values[top[0] + p];
      for (let i = 1; i < tops; i++) {
        const value = values[top[i] + p];
        if (value < mode || Number.isNaN(value)) mode = value;
      }
      // Comparisons pass over NaN; a sum does not.
      if (Number.isNaN(mean)) least = greatest = mean;
      out[to] = least;
      out[to + 1] = greatest;
      out[to + 2] = greatest - least;
      out[to + 3] = mean;
      out[to + 4] = deviation / total;
      out[to + 5] = mode;
    }
    return this.rest(out, at, total, ionic);
  }

  private rest(out: Matrix, at: number, total: number, ionic: Float64Array): boolean {
    const { z, amounts, n, means } = this;
    for (let k = 0; k < 4; k++) out[at + firstShare + k] = means[electronsS + k] / means[electrons];

    let strongest = 0;
    let sum = 0;
    for (let i = 0; i < n; i++) {
      for (let j = i + 1; j < n; j++) {
        const character = ionic[z[i] * elements.length + z[j]];
        if (character > strongest) strongest = character;
        sum += character * amounts[i] * amounts[j];
      }
    }
    out[at + firstIonic + 1] = Number.isNaN(sum) ? sum : strongest;
    out[at + firstIonic + 2] = sum / total / total;
    // As in matminer: an element alone counts as possible.
    const possible = n === 1 ? 1 : this.neutral(total);
    out[at + firstIonic] = possible;
    return possible >= 0;
  }

  /** 1 where one common state of each element can bring the charge to zero, 0 where not, -1 where there are too many to try. */
  private neutral(total: number): number {
    const { z, amounts, n } = this;
    const { states } = this.table;
    let low = 0;
    let high = 0;
    let whole = true;
    for (let i = 0; i < n; i++) {
      const own = states[z[i]];
      if (own.length === 0) return 0;
      low += amounts[i] * own[0];
      high += amounts[i] * own[own.length - 1];
      whole &&= Number.isInteger(amounts[i]);
    }
    const tolerance = whole ? 0 : closeCharge * total;
    if (low > tolerance || high < -tolerance) return 0;
    // Every element at its lowest state; sums of the rises from there are bits of a set.
    const target = -low;
    if (whole && target < 32) return this.rises(target);
    if (whole && target < 32 * wideWords) return this.wideRises(target);
    return sumsMeet(states, z, amounts, n, tolerance);
  }

  private rises(target: number): number {
    const { z, amounts, n } = this;
    const { states } = this.table;
    let set = 1;
    for (let i = 0; i < n; i++) {
      const own = states[z[i]];
      let next = set;
      for (let s = 1; s < own.length; s++) {
        const rise = (own[s] - own[0]) * amounts[i];
        if (rise > target) break;
        next |= set << rise;
      }
      set = next;
    }
    return (set >>> target) & 1;
  }

  /** `rises` for sets of up to 32 · wideWords bits. */
  private wideRises(target: number): number {
    const { z, amounts, n, bits } = this;
    const { states } = this.table;
    const words = (target >> 5) + 1;
    bits.fill(0, 0, words);
    bits[0] = 1;
    for (let i = 0; i < n; i++) {
      const own = states[z[i]];
      bits.copyWithin(wideWords, 0, words);
      for (let s = 1; s < own.length; s++) {
        const rise = (own[s] - own[0]) * amounts[i];
        if (rise > target) break;
        const skip = rise >> 5;
        const shift = rise & 31;
        for (let w = words - 1; w >= skip; w--) {
          let word = bits[w - skip] << shift;
          if (shift !== 0 && w > skip) word |= bits[w - skip - 1] >>> (32 - shift);
          bits[wideWords + w] |= word;
        }
      }
      bits.copyWithin(0, wideWords, wideWords + words);
    }
    return (bits[target >> 5] >>> (target & 31)) & 1;
  }
}

/** Words of a set of sums: formulas of up to some hundred atoms. */
const wideWords = 64;
/** Sums of charges of half the elements, at most. */
const mostSums = 200_000;

/**
 * Any amounts: do the charges that one half of the elements can have meet those of the other half with the sign changed?
 * @returns 1, 0, or -1 where there are too many
 */
function sumsMeet(
  states: readonly Int8Array[],
  z: Int32Array,
  amounts: Float64Array,
  n: number,
  tolerance: number,
): number {
  const sums = (from: number, to: number): Float64Array | null => {
    let some = Float64Array.of(0);
    for (let i = from; i < to; i++) {
      const own = states[z[i]];
      if (some.length * own.length > mostSums) return null;
      const next = new Float64Array(some.length * own.length);
      for (let s = 0; s < own.length; s++)
        for (let k = 0; k < some.length; k++) next[s * some.length + k] = some[k] + own[s] * amounts[i];
      some = next.sort();
      let kept = 1;
      for (let k = 1; k < some.length; k++) if (some[k] !== some[kept - 1]) some[kept++] = some[k];
      some = some.slice(0, kept);
    }
    return some;
  };
  const half = n >> 1;
  const [one, other] = [sums(0, half), sums(half, n)];
  if (!one || !other) return -1;
  for (let i = 0, j = other.length - 1; i < one.length && j >= 0; ) {
    const charge = one[i] + other[j];
    if (Math.abs(charge) <= tolerance) return 1;
    if (charge < 0) i++;
    else j--;
  }
  return 0;
}

function matrixFor<T extends Matrix>(rows: number, out: T | undefined): T {
  const size = rows * descriptorCount;
  if (out === undefined) return new Float64Array(size) as Matrix as T;
  if (out.length >= size) return out;
  throw new DataError(`descriptors of ${rows} formulas are ${size} numbers, and there is room for ${out.length}`);
}

/**
 * Attributes of packed formulas, [rows, 145] row by row, written into `out` where one is given.
 * @throws FormulaError for an empty row; DataError where `out` is too short
 */
export function describePacked<T extends Matrix = Float64Array>({ packed, rows }: PackedFormulas, out?: T): T {
  const matrix = matrixFor(rows, out);
  const describer = new Describer();
  for (let row = 0; row < rows; row++) describer.row(packed, row, matrix, row * descriptorCount);
  return matrix;
}

/**
 * Attributes of compositions of any elements and amounts, [rows, 145] row by row, written into `out` where one is given.
 * @throws FormulaError as `Describer.composition`; DataError where `out` is too short
 */
export function describeCompositions<T extends Matrix = Float64Array>(
  compositions: readonly Composition[],
  options: { readonly missing?: Missing; readonly out?: T } = {},
): T {
  const matrix = matrixFor(compositions.length, options.out);
  const describer = new Describer(options.missing);
  for (const [row, composition] of compositions.entries()) {
    describer.composition(composition, matrix, row * descriptorCount);
  }
  return matrix;
}
