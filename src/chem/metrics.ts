import { DataError } from '../errors.ts';
import { type Draw, frequencyDraw, independentDraw, sizeDraw, uniformDraw } from './baseline.ts';
import { type Interval, wilson } from './confidence.ts';
import { type Distances, Distributions, elementShares, patternShares, type Shares } from './distributions.ts';

import { maxPairs, type PackedFormulas, PackedSet, reducePacked, rowElements, rowWords } from './encoding.ts';
import { type Enumeration, enumeration } from './enumeration.ts';
import { NearestIndex, type NearestSummary, summarise } from './nearest.ts';
import { randomStream } from './random.ts';
import { formulaText } from './rows.ts';
import { flagCN, flagEN, Judge, ruleName } from './validity.ts';

/**
 * What a generator is worth: validity per number of elements, uniqueness, novelty, recovery, nearness to training, and how far its
 * distributions are from training's, each beside generators without a network and beside the enumeration of all formulas.
 *
 * Each generator's rows are looked at once, in their order, a block at a time; what a smaller number of samples would have given
 * is read off on the way. Memory: the packed rows (16 bytes each) and one set of the different formulas (about 35 bytes
 * each), one generator after the other, so ten million rows take about 600 MB.
 */

/** Rates of some rows; null where there are none. */
export interface Rates {
  readonly count: number;
  /** Share of rows that are charge-neutral, 0 to 1. */
  readonly chargeNeutral: number | null;
  /** Share of rows that are electronegativity-balanced. */
  readonly electronegativityBalanced: number | null;
  /** Wilson's 95 % intervals of the two. */
  readonly intervals: {
    readonly chargeNeutral: Interval | null;
    readonly electronegativityBalanced: Interval | null;
  };
}

/** Rates averaged with training's shares of the numbers of elements, over the numbers that the rows have. */
export interface ReweightedRates {
  readonly chargeNeutral: number | null;
  readonly electronegativityBalanced: number | null;
  /** Share of training whose number of elements occurs among the rows; below 1 the average is of that part. */
  readonly covered: number;
}

/** What the first `samples` formulas give. Shares are 0 to 1; `unique`, `novel` and `validUniqueNew` are counts. */
export interface CurvePoint {
  readonly samples: number;
  readonly unique: number;
  readonly uniqueness: number;
  readonly novel: number;
  readonly novelty: number;
  /** Different formulas that are electronegativity-balanced and in neither set. */
  readonly validUniqueNew: number;
  readonly chargeNeutral: number;
  readonly electronegativityBalanced: number;
  readonly uniqueChargeNeutral: number;
  readonly uniqueElectronegativityBalanced: number;
  readonly recoveredTraining: number;
  readonly recoveredLeaveOut: number | null;
  /** Number of elements → recovery; null where a set has none of that size. */
  readonly byElementCount: Readonly<
    Record<string, { readonly recoveredTraining: number | null; readonly recoveredLeaveOut: number | null }>
  >;
  /** Name of another data set → new formulas that it holds. */
  readonly confirmed: Readonly<Record<string, number>>;
  readonly totalVariation: Distances;
}

/** What is known of the formulas of one size that a generator gave. */
interface SizePass {
  readonly all: Rates;
  readonly different: Rates;
  readonly novel: Rates;
  readonly recoveredTraining: number | null;
  readonly recoveredLeaveOut: number | null;
  readonly confirmed: Readonly<Record<string, number>>;
}

/** What one generator gave. */
export interface Pass {
  readonly all: Rates;
  readonly different: Rates;
  readonly novel: Rates;
  readonly sizes: readonly SizePass[];
  readonly reweighted: ReweightedRates;
  readonly curve: readonly CurvePoint[];
  readonly elements: readonly Shares[];
  readonly stoichiometries: readonly Shares[];
  readonly mostFrequent: readonly { readonly formula: string; readonly count: number }[];
}

/** What a baseline reaches with as many samples as were generated. */
export interface BaselineResult extends Rates {
  readonly unique: number;
  readonly uniqueChargeNeutral: number | null;
  readonly uniqueElectronegativityBalanced: number | null;
  readonly novel: number;
  readonly validUniqueNew: number;
  readonly recoveredTraining: number;
  readonly recoveredLeaveOut: number | null;
  readonly reweighted: ReweightedRates;
  readonly totalVariation: Distances;
  readonly confirmed: Readonly<Record<string, number>>;
  readonly curve: readonly CurvePoint[];
}

/** How many times a share is that of the enumeration; null where one of them is missing or nothing of the enumeration passes. */
export interface Enrichment {
  readonly chargeNeutral: number | null;
  readonly electronegativityBalanced: number | null;
  /** Ends of the two intervals against each other: at least 95 %. */
  readonly intervals: {
    readonly chargeNeutral: Interval | null;
    readonly electronegativityBalanced: Interval | null;
  };
}

export interface ElementCountResult {
  readonly generated: Rates;
  /** The different ones of the generated, and those of them that are new. */
  readonly unique: Rates;
  readonly novel: Rates;
  readonly training: Rates;
  readonly leaveOut: Rates | null;
  /** Uniform random formulas with the generated numbers of elements. */
  readonly uniform: Rates;
  /** Uniform random formulas, each number of elements from 2 to 8 as often. */
  readonly uniformRandom: Rates;
  /** Cells of the matrix drawn independently at training's frequencies. */
  readonly independent: Rates;
  /** Training's element and count frequencies, with training's numbers of elements. */
  readonly frequency: Rates;
  /** All formulas of this size. */
  readonly enumeration: Enumeration | null;
  /** Different generated formulas against all that there are. */
  readonly enrichment: Enrichment;
  /** Share of the training (leave-out) formulas of this size that were generated; null where there are none. */
  readonly recoveredTraining: number | null;
  readonly recoveredLeaveOut: number | null;
  readonly frequencyRecoveredTraining: number | null;
  readonly frequencyRecoveredLeaveOut: number | null;
  readonly confirmed: Readonly<Record<string, number>>;
}

/** How near the different new formulas are to training; the left-out ones say how near real unseen compounds are. */
export interface NearestResult {
  readonly novel: NearestSummary | null;
  readonly leaveOut: NearestSummary | null;
  readonly frequency: NearestSummary | null;
  /** Of the new formulas among the first so many samples. */
  readonly bySamples: readonly { readonly samples: number; readonly mean: number; readonly median: number }[];
}

/** Another data set. */
export interface OtherResult {
  /** Different formulas in it, and those of them that neither training nor leave-out has. */
  readonly formulas: number;
  readonly candidates: number;
  /** Candidates that were generated, and those that the frequency baseline gave. */
  readonly found: number;
  readonly frequencyFound: number;
}

/** All numbers of an evaluation, plain JSON. Shares are 0 to 1; `unique`, `novel` and `validUniqueNew.count` are counts. */
export interface EvaluationResult {
  readonly rule: string;
  /** True where formulas were divided by the greatest common divisor before anything was counted. */
  readonly reduced: boolean;
  readonly seed: number;
  /** Formulas that were generated and decoded, repeats included. */
  readonly generated: number;
  /** Different formulas among them. */
  readonly unique: number;
  /** unique / generated. */
  readonly uniqueness: number;
  /** Shares of the generated formulas, repeats included. */
  readonly chargeNeutral: number;
  readonly electronegativityBalanced: number;
  /** Wilson's 95 % intervals of the two. */
  readonly intervals: Rates['intervals'];
  /** The same shares of the different formulas. */
  readonly uniqueChargeNeutral: number;
  readonly uniqueElectronegativityBalanced: number;
  /** Different formulas that are neither in training nor in leave-out. */
  readonly novel: number;
  /** novel / unique. */
  readonly novelty: number;
  /** Formulas that are balanced and different and new: their number, and the share of all that were generated. */
  readonly validUniqueNew: { readonly count: number; readonly share: number };
  /** Share of the different training formulas that were generated. */
  readonly recoveredTraining: number;
  /** Share of the different leave-out formulas that were generated; null without leave-out. */
  readonly recoveredLeaveOut: number | null;
  readonly training: Rates & { readonly unique: number };
  /** `totalVariation`: what two samples of the same source differ by. */
  readonly leaveOut: (Rates & { readonly unique: number; readonly totalVariation: Distances }) | null;
  /** Different leave-out formulas that are in training too: they count for training alone. */
  readonly overlap: number;
  readonly reweighted: ReweightedRates;
  readonly totalVariation: Distances;
  /** Number of elements → rates. */
  readonly byElementCount: Record<string, ElementCountResult>;
  readonly baselines: {
    readonly uniform: BaselineResult;
    readonly uniformRandom: BaselineResult;
    readonly independent: BaselineResult;
    readonly frequency: BaselineResult;
  };
  /** Different generated formulas against all that there are: mixed as generated, and of 2 to 4 elements thrown together. */
  readonly enrichment: { readonly matched: Enrichment; readonly binaryToQuaternary: Enrichment };
  /** Name of another data set → novel formulas that it holds. */
  readonly confirmed: Record<string, number>;
  readonly others: Record<string, OtherResult>;
  readonly nearest: NearestResult;
  /** What fewer samples would have given. */
  readonly curve: readonly CurvePoint[];
  readonly distributions: { readonly elements: readonly Shares[]; readonly stoichiometries: readonly Shares[] };
  readonly mostFrequent: Pass['mostFrequent'];
}

/** Runs a part of the work, or takes its result from where it was kept; what it gives is plain JSON. */
export type Stage = <T>(name: string, work: () => T) => T;

export interface EvaluationInput {
  readonly generated: PackedFormulas;
  readonly training: PackedFormulas;
  readonly leaveOut?: PackedFormulas;
  /** Other data sets in which novel formulas are looked up. */
  readonly others?: Record<string, PackedFormulas>;
  readonly seed: number;
  /** Divide every formula by its greatest common divisor first (default true). The paper does not. */
  readonly reduce?: boolean;
  readonly stage?: Stage;
}

/** A copy with every row in lowest terms. */
export function reducedRows({ packed, rows }: PackedFormulas): PackedFormulas {
  const copy = packed.slice(0, rows * rowWords);
  for (let row = 0; row < rows; row++) reducePacked(copy, row);
  return { packed: copy, rows };
}

/** Rows by number of elements, and how many of each pass. */
class Tally {
  readonly rows = new Uint32Array(maxPairs + 1);
  readonly neutral = new Uint32Array(maxPairs + 1);
  readonly balanced = new Uint32Array(maxPairs + 1);

  add(n: number, flags: number): void {
    this.rows[n]++;
    if (flags & flagCN) this.neutral[n]++;
    if (flags & flagEN) this.balanced[n]++;
  }

  at(n: number): Rates {
    return ratesOf(this.rows[n], this.neutral[n], this.balanced[n]);
  }

  overall(): Rates {
    return ratesOf(sum(this.rows), sum(this.neutral), sum(this.balanced));
  }
}

const sum = (values: Uint32Array): number => values.reduce((a, b) => a + b, 0);
const share = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole);

function ratesOf(count: number, neutral: number, balanced: number): Rates {
  return {
    count,
    chargeNeutral: share(neutral, count),
    electronegativityBalanced: share(balanced, count),
    intervals: { chargeNeutral: wilson(neutral, count), electronegativityBalanced: wilson(balanced, count) },
  };
}

function tally({ packed, rows }: PackedFormulas): Tally {
  const judge = new Judge();
  const counts = new Tally();
  for (let row = 0; row < rows; row++) counts.add(rowElements(packed, row), judge.row(packed, row));
  return counts;
}

/** Charge-neutral and balanced shares of packed formulas, as they stand. */
export function validityRates(formulas: PackedFormulas): Rates {
  return tally(formulas).overall();
}

function reweight(rows: Tally, training: Tally): ReweightedRates {
  let [covered, neutral, balanced] = [0, 0, 0];
  for (let n = 0; n <= maxPairs; n++) {
    if (rows.rows[n] === 0) continue;
    covered += training.rows[n];
    neutral += (training.rows[n] * rows.neutral[n]) / rows.rows[n];
    balanced += (training.rows[n] * rows.balanced[n]) / rows.rows[n];
  }
  return {
    chargeNeutral: share(neutral, covered),
    electronegativityBalanced: share(balanced, covered),
    covered: covered / sum(training.rows),
  };
}

export function distributionsOf({ packed, rows }: PackedFormulas): Distributions {
  const counts = new Distributions();
  for (let row = 0; row < rows; row++) counts.add(packed, row);
  return counts;
}

/** How often each of the 85 elements occurs, one per formula that has it. */
export function elementOccurrences(formulas: PackedFormulas): Uint32Array {
  return distributionsOf(formulas).elements;
}

/** Writes the next rows, at most `count`, to the beginning of a block; how many. */
type Source = (block: Uint32Array, count: number) => number;

/** Rows that are there already. */
function rowsSource({ packed, rows }: PackedFormulas, reduce: boolean): Source {
  let at = 0;
  return (block, count) => {
    const some = Math.min(count, rows - at);
    block.set(packed.subarray(at * rowWords, (at + some) * rowWords));
    if (reduce) for (let row = 0; row < some; row++) reducePacked(block, row);
    at += some;
    return some;
  };
}

function drawSource(draw: Draw): Source {
  return (block, count) => {
    let row = 0;
    while (row < count && draw(block, row)) row++;
    return row;
  };
}

/** Numbers of samples at which figures are read off: 1, 2, 5, 10, …, the paper's 300,000 and 340,000, and the last one. */
export function curvePoints(samples: number): number[] {
  const points = [300_000, 340_000].filter((k) => k < samples);
  for (let power = 100; power < samples; power *= 10) {
    points.push(...[power, 2 * power, 5 * power].filter((k) => k < samples));
  }
  return [...points, samples].sort((a, b) => a - b);
}

/** What formulas are held against. */
class Known {
  readonly trainingSet: PackedSet;
  /** Without what training has too. */
  readonly leaveOutSet: PackedSet | null;
  readonly trainingTally: Tally;
  readonly trainingDistributions: Distributions;
  /** Different formulas by number of elements. */
  readonly trainingSizes: Uint32Array;
  readonly leaveOutSizes: Uint32Array | null;
  readonly others: readonly (readonly [string, PackedSet])[];
  readonly overlap: number;

  constructor(training: PackedFormulas, leaveOut: PackedFormulas | null, others: Record<string, PackedFormulas>) {
    this.trainingSet = PackedSet.of(training);
    this.trainingTally = tally(training);
    this.trainingDistributions = distributionsOf(training);
    this.trainingSizes = sizesOf(this.trainingSet);
    const overlapping = new PackedSet();
    if (leaveOut) {
      this.leaveOutSet = new PackedSet(leaveOut.rows);
      for (let row = 0; row < leaveOut.rows; row++) {
        const into = this.trainingSet.has(leaveOut.packed, row) ? overlapping : this.leaveOutSet;
        into.add(leaveOut.packed, row);
      }
    } else this.leaveOutSet = null;
    this.overlap = overlapping.size;
    this.leaveOutSizes = this.leaveOutSet ? sizesOf(this.leaveOutSet) : null;
    this.others = Object.entries(others).map(([name, formulas]) => [name, PackedSet.of(formulas)]);
  }

  isKnown(words: Uint32Array, row: number): boolean {
    return this.trainingSet.has(words, row) || (this.leaveOutSet?.has(words, row) ?? false);
  }
}

function sizesOf({ packed, size }: PackedSet): Uint32Array {
  const counts = new Uint32Array(maxPairs + 1);
  for (let row = 0; row < size; row++) counts[rowElements(packed, row)]++;
  return counts;
}

/** Flag of a member that is in neither training nor leave-out, beside those of the verdict. */
const flagNew = 4;
const blockRows = 4096;

/** Different formulas of a generator in order of arrival, with their flags, and how many there were after so many samples. */
interface Members {
  readonly set: PackedSet;
  readonly flags: Uint8Array;
  readonly after: readonly { readonly samples: number; readonly unique: number }[];
}

/** Looks at the rows of a generator, at most `samples`. */
function look(source: Source, samples: number, known: Known): { pass: Pass; members: Members } {
  const { trainingSet, leaveOutSet, trainingSizes, leaveOutSizes, others } = known;
  const judge = new Judge();
  const set = new PackedSet();
  let flags = new Uint8Array(1024);
  let counts = new Uint32Array(1024);
  const [all, different, novel] = [new Tally(), new Tally(), new Tally()];
  const distributions = new Distributions();
  const foundTraining = new Uint32Array(maxPairs + 1);
  const foundLeaveOut = new Uint32Array(maxPairs + 1);
  const confirmed = others.map(() => new Uint32Array(maxPairs + 1));
  const curve: CurvePoint[] = [];
  const after: { samples: number; unique: number }[] = [];
  const points = curvePoints(samples);
  const block = new Uint32Array(Math.min(blockRows, samples) * rowWords);

  const recovery = (n: number) => ({
    recoveredTraining: share(foundTraining[n], trainingSizes[n]),
    recoveredLeaveOut: leaveOutSizes ? share(foundLeaveOut[n], leaveOutSizes[n]) : null,
  });
  const readOff = (seen: number): void => {
    const [total, kinds, fresh] = [all.overall(), different.overall(), novel.overall()];
    after.push({ samples: seen, unique: set.size });
    curve.push({
      samples: seen,
      unique: set.size,
      uniqueness: set.size / seen,
      novel: fresh.count,
      novelty: fresh.count / set.size,
      validUniqueNew: sum(novel.balanced),
      chargeNeutral: total.chargeNeutral!,
      electronegativityBalanced: total.electronegativityBalanced!,
      uniqueChargeNeutral: kinds.chargeNeutral!,
      uniqueElectronegativityBalanced: kinds.electronegativityBalanced!,
      recoveredTraining: sum(foundTraining) / trainingSet.size,
      recoveredLeaveOut: leaveOutSet ? share(sum(foundLeaveOut), leaveOutSet.size) : null,
      byElementCount: Object.fromEntries(
        [...trainingSizes.keys()]
          .filter((n) => trainingSizes[n] + (leaveOutSizes?.[n] ?? 0) > 0)
          .map((n) => [n, recovery(n)]),
      ),
      confirmed: Object.fromEntries(others.map(([name], i) => [name, sum(confirmed[i])])),
      totalVariation: distributions.distance(known.trainingDistributions),
    });
  };

  let seen = 0;
  for (let next = 0; next < points.length; ) {
    const got = source(block, Math.min(blockRows, points[next] - seen));
    for (let row = 0; row < got; row++) {
      const before = set.size;
      const member = set.insert(block, row);
      const n = rowElements(block, row);
      if (set.size > before) {
        if (member === flags.length) {
          flags = grow(flags, new Uint8Array(2 * member));
          counts = grow(counts, new Uint32Array(2 * member));
        }
        let verdict = judge.row(block, row);
        different.add(n, verdict);
        if (trainingSet.has(block, row)) foundTraining[n]++;
        else if (leaveOutSet?.has(block, row)) foundLeaveOut[n]++;
        else {
          novel.add(n, verdict);
          verdict |= flagNew;
          for (let i = 0; i < others.length; i++) if (others[i][1].has(block, row)) confirmed[i][n]++;
        }
        flags[member] = verdict;
      }
      counts[member]++;
      all.add(n, flags[member]);
      distributions.add(block, row);
    }
    seen += got;
    if (seen === points[next]) {
      readOff(seen);
      next++;
    } else if (got === 0) {
      // A source that ran dry: what there is ends the curve.
      if (seen > 0 && curve.at(-1)?.samples !== seen) readOff(seen);
      break;
    }
  }
  const pass: Pass = {
    all: all.overall(),
    different: different.overall(),
    novel: novel.overall(),
    sizes: Array.from({ length: maxPairs + 1 }, (_, n) => ({
      all: all.at(n),
      different: different.at(n),
      novel: novel.at(n),
      ...recovery(n),
      confirmed: Object.fromEntries(others.map(([name], i) => [name, confirmed[i][n]])),
    })),
    reweighted: reweight(all, known.trainingTally),
    curve,
    elements: elementShares(distributions, known.trainingDistributions),
    stoichiometries: patternShares(distributions, known.trainingDistributions),
    mostFrequent: mostFrequent(set, counts),
  };
  return { pass, members: { set, flags, after } };
}

function grow<T extends Uint8Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}

/** The formulas that came most often, the first of equals before the others. */
function mostFrequent({ packed, size }: PackedSet, counts: Uint32Array, most = 10): Pass['mostFrequent'] {
  const top: number[] = [];
  for (let member = 0; member < size; member++) {
    if (top.length === most && counts[member] <= counts[top[most - 1]]) continue;
    let i = top.length;
    while (i > 0 && counts[top[i - 1]] < counts[member]) i--;
    top.splice(i, 0, member);
    top.length = Math.min(top.length, most);
  }
  return top.map((member) => ({ formula: formulaText(packed, member), count: counts[member] }));
}

/** Formulas whose nearest ones are looked for, at most: of the last point, and of each earlier one. */
const nearestSample = 2000;
const nearestSamplePerPoint = 500;

/** Distances to training of new formulas drawn at random among the first `unique` members. */
function distancesOf(
  index: NearestIndex,
  { set, flags }: Members,
  unique: number,
  most: number,
  seed: number,
): number[] {
  const random = randomStream(seed, 'nearest');
  const { packed } = set;
  const distances: number[] = [];
  const look = (member: number): void => {
    if (flags[member] & flagNew) distances.push(index.nearest(packed, member).distance);
  };
  // Few are all looked at; of many some are drawn, now and then the same one twice.
  if (unique <= 4 * most) for (let member = 0; member < unique && distances.length < most; member++) look(member);
  else for (let tries = 0; tries < 50 * most && distances.length < most; tries++) look(random.below(unique));
  return distances;
}

function nearestOfSet(index: NearestIndex, set: PackedSet, most: number): number[] {
  const step = Math.max(1, set.size / most);
  const distances: number[] = [];
  for (let at = 0; at < set.size && distances.length < most; at += step)
    distances.push(index.nearest(set.packed, Math.floor(at)).distance);
  return distances;
}

const nothing = ratesOf(0, 0, 0);

/** How many times a share is another one, with the ends of the intervals against each other. */
function enrichmentOf(
  rates: Rates,
  all: Pick<Enumeration, 'intervals' | 'chargeNeutral' | 'electronegativityBalanced'> | null,
): Enrichment {
  const factor = (kind: 'chargeNeutral' | 'electronegativityBalanced'): number | null =>
    rates[kind] === null || !all || all[kind] === 0 ? null : rates[kind] / all[kind];
  const interval = (kind: 'chargeNeutral' | 'electronegativityBalanced'): Interval | null => {
    const own = rates.intervals[kind];
    if (!own || !all || all.intervals[kind][0] === 0) return null;
    return [own[0] / all.intervals[kind][1], own[1] / all.intervals[kind][0]];
  };
  return {
    chargeNeutral: factor('chargeNeutral'),
    electronegativityBalanced: factor('electronegativityBalanced'),
    intervals: {
      chargeNeutral: interval('chargeNeutral'),
      electronegativityBalanced: interval('electronegativityBalanced'),
    },
  };
}

/** The enumeration averaged with weights of the numbers of elements; null where all weights are 0. */
function mixedEnumeration(
  weight: (n: number) => number,
): Pick<Enumeration, 'intervals' | 'chargeNeutral' | 'electronegativityBalanced'> | null {
  const sizes = Array.from({ length: maxPairs }, (_, i) => i + 1);
  const sum = sizes.reduce((total, n) => total + weight(n), 0);
  if (sum === 0) return null;
  const mean = (value: (e: Enumeration) => number): number =>
    sizes.reduce((total, n) => total + (weight(n) / sum) * value(enumeration(n)!), 0);
  const interval = (kind: 'chargeNeutral' | 'electronegativityBalanced'): Interval => [
    mean((e) => e.intervals[kind][0]),
    mean((e) => e.intervals[kind][1]),
  ];
  return {
    chargeNeutral: mean((e) => e.chargeNeutral),
    electronegativityBalanced: mean((e) => e.electronegativityBalanced),
    intervals: {
      chargeNeutral: interval('chargeNeutral'),
      electronegativityBalanced: interval('electronegativityBalanced'),
    },
  };
}

/**
 * Evaluates generated formulas against training, leave-out and other sets, beside baselines with as many samples, see `baseline.ts`,
 * and the enumeration of all formulas.
 * @throws DataError where nothing was generated or training is empty.
 */
export function evaluateFormulas(input: EvaluationInput): EvaluationResult {
  const { seed, generated } = input;
  const reduce = input.reduce ?? true;
  const stage: Stage = input.stage ?? ((_, work) => work());
  if (generated.rows === 0)
    throw new DataError('evaluate: nothing was generated; train longer or decode by another rule');
  if (input.training.rows === 0)
    throw new DataError('evaluate: the training set is empty; name the set the model was trained on');
  const ready = (formulas: PackedFormulas): PackedFormulas => (reduce ? reducedRows(formulas) : formulas);
  const training = ready(input.training);
  const leaveOut = input.leaveOut ? ready(input.leaveOut) : null;
  const others = Object.fromEntries(Object.entries(input.others ?? {}).map(([name, rows]) => [name, ready(rows)]));
  const known = new Known(training, leaveOut, others);
  const samples = generated.rows;
  let index: NearestIndex | undefined;
  const nearestTo = (): NearestIndex => {
    index ??= new NearestIndex({ packed: known.trainingSet.packed, rows: known.trainingSet.size });
    return index;
  };

  /** A generator's pass and a second stage that needs its members, which are let go then. */
  const generator = <T>(name: string, source: () => Source, use: (members: Members) => T): { pass: Pass; used: T } => {
    let looked: ReturnType<typeof look> | undefined;
    const lookOnce = (): ReturnType<typeof look> => {
      looked ??= look(source(), samples, known);
      return looked;
    };
    const pass = stage(name, () => lookOnce().pass);
    const used = stage(`${name} nearest`, () => use(lookOnce().members));
    return { pass, used };
  };
  const novelNearest = (members: Members): NearestSummary | null =>
    summarise(distancesOf(nearestTo(), members, members.set.size, nearestSample, seed));

  const { pass: own, used: nearestOwn } = generator(
    'generated',
    () => rowsSource(generated, reduce),
    (members) => ({
      novel: novelNearest(members),
      bySamples: members.after.flatMap(({ samples: k, unique }) => {
        const summary = summarise(distancesOf(nearestTo(), members, unique, nearestSamplePerPoint, seed));
        return summary ? [{ samples: k, mean: summary.mean, median: summary.median }] : [];
      }),
    }),
  );
  const nearestLeaveOut = stage('leave-out nearest', () =>
    known.leaveOutSet ? summarise(nearestOfSet(nearestTo(), known.leaveOutSet, nearestSample)) : null,
  );

  // One after the other, so that one set of members is in memory at a time.
  const none = (): null => null;
  const frequency = generator(
    'frequency',
    () => {
      const draw = frequencyDraw(training, seed, { reduce });
      const size = sizeDraw(known.trainingTally.rows, seed);
      return drawSource((words, row) => draw(words, row, size()));
    },
    novelNearest,
  );
  const uniform = generator(
    'uniform',
    () => {
      const draw = uniformDraw(seed);
      let at = 0;
      return drawSource((words, row) => at < samples && draw(words, row, rowElements(generated.packed, at++)));
    },
    none,
  );
  const uniformRandom = generator(
    'uniform random',
    () => {
      const draw = uniformDraw(seed + 1);
      const size = sizeDraw([0, 0, 1, 1, 1, 1, 1, 1, 1], seed);
      return drawSource((words, row) => draw(words, row, size()));
    },
    none,
  );
  const independent = generator('independent', () => drawSource(independentDraw(training, seed, { reduce })), none);

  const baseline = ({ pass }: { pass: Pass }): BaselineResult => ({
    ...pass.all,
    unique: pass.different.count,
    uniqueChargeNeutral: pass.different.chargeNeutral,
    uniqueElectronegativityBalanced: pass.different.electronegativityBalanced,
    novel: pass.novel.count,
    validUniqueNew: pass.curve.at(-1)?.validUniqueNew ?? 0,
    recoveredTraining: pass.curve.at(-1)?.recoveredTraining ?? 0,
    recoveredLeaveOut: pass.curve.at(-1)?.recoveredLeaveOut ?? null,
    reweighted: pass.reweighted,
    totalVariation: pass.curve.at(-1)?.totalVariation ?? { elementCount: 1, elements: 1, pairs: 1, stoichiometries: 1 },
    confirmed: pass.curve.at(-1)?.confirmed ?? {},
    curve: pass.curve,
  });
  const leaveOutTally = leaveOut ? tally(leaveOut) : null;
  const byElementCount: Record<string, ElementCountResult> = {};
  for (let n = 0; n <= maxPairs; n++) {
    const size = own.sizes[n];
    if (size.all.count + known.trainingTally.rows[n] + (leaveOutTally?.rows[n] ?? 0) === 0) continue;
    const all = enumeration(n);
    byElementCount[n] = {
      generated: size.all,
      unique: size.different,
      novel: size.novel,
      training: known.trainingTally.at(n),
      leaveOut: leaveOutTally ? leaveOutTally.at(n) : null,
      uniform: uniform.pass.sizes[n].all,
      uniformRandom: uniformRandom.pass.sizes[n].all,
      independent: independent.pass.sizes[n].all,
      frequency: frequency.pass.sizes[n].all,
      enumeration: all,
      enrichment: enrichmentOf(size.different, all),
      recoveredTraining: size.recoveredTraining,
      recoveredLeaveOut: size.recoveredLeaveOut,
      frequencyRecoveredTraining: frequency.pass.sizes[n].recoveredTraining,
      frequencyRecoveredLeaveOut: frequency.pass.sizes[n].recoveredLeaveOut,
      confirmed: size.confirmed,
    };
  }
  const few = [2, 3, 4].map((n) => own.sizes[n].different);
  const passed = (kind: 'chargeNeutral' | 'electronegativityBalanced'): number =>
    few.reduce((total, rates) => total + Math.round(rates.count * (rates[kind] ?? 0)), 0);
  const fewRates = few.some(({ count }) => count > 0)
    ? ratesOf(
        few.reduce((total, { count }) => total + count, 0),
        passed('chargeNeutral'),
        passed('electronegativityBalanced'),
      )
    : nothing;
  const last = own.curve.at(-1)!;
  const leaveOutDistances = leaveOut
    ? distributionsOf(leaveOut).distance(known.trainingDistributions)
    : { elementCount: 0, elements: 0, pairs: 0, stoichiometries: 0 };
  return {
    rule: ruleName,
    reduced: reduce,
    seed,
    generated: samples,
    unique: last.unique,
    uniqueness: last.uniqueness,
    chargeNeutral: last.chargeNeutral,
    electronegativityBalanced: last.electronegativityBalanced,
    intervals: own.all.intervals,
    uniqueChargeNeutral: last.uniqueChargeNeutral,
    uniqueElectronegativityBalanced: last.uniqueElectronegativityBalanced,
    novel: last.novel,
    novelty: last.novelty,
    validUniqueNew: { count: last.validUniqueNew, share: last.validUniqueNew / samples },
    recoveredTraining: last.recoveredTraining,
    recoveredLeaveOut: last.recoveredLeaveOut,
    training: { ...known.trainingTally.overall(), unique: known.trainingSet.size },
    leaveOut:
      leaveOutTally && known.leaveOutSet
        ? {
            ...leaveOutTally.overall(),
            unique: known.leaveOutSet.size + known.overlap,
            totalVariation: leaveOutDistances,
          }
        : null,
    overlap: known.overlap,
    reweighted: own.reweighted,
    totalVariation: last.totalVariation,
    byElementCount,
    baselines: {
      uniform: baseline(uniform),
      uniformRandom: baseline(uniformRandom),
      independent: baseline(independent),
      frequency: baseline(frequency),
    },
    enrichment: {
      matched: enrichmentOf(
        own.different,
        mixedEnumeration((n) => own.sizes[n].different.count),
      ),
      binaryToQuaternary: enrichmentOf(
        fewRates,
        mixedEnumeration((n) => (n >= 2 && n <= 4 ? enumeration(n)!.formulas : 0)),
      ),
    },
    confirmed: { ...last.confirmed },
    others: Object.fromEntries(
      known.others.map(([name, set]) => {
        let candidates = 0;
        for (let row = 0; row < set.size; row++) if (!known.isKnown(set.packed, row)) candidates++;
        const found = last.confirmed[name];
        const frequencyFound = frequency.pass.curve.at(-1)?.confirmed[name] ?? 0;
        return [name, { formulas: set.size, candidates, found, frequencyFound }];
      }),
    ),
    nearest: {
      novel: nearestOwn.novel,
      leaveOut: nearestLeaveOut,
      frequency: frequency.used,
      bySamples: nearestOwn.bySamples,
    },
    curve: own.curve,
    distributions: { elements: own.elements, stoichiometries: own.stoichiometries },
    mostFrequent: own.mostFrequent,
  };
}
