import { DataError } from '../errors.ts';
import { frequencyFormulas, scaleHistogram, uniformFormulas } from './baseline.ts';
import {
  countByElements,
  elementCount,
  maxPairs,
  type PackedFormulas,
  PackedSet,
  pairAt,
  reducePacked,
  rowElements,
  rowWords,
} from './encoding.ts';
import { flagCN, flagEN, judgePacked, ruleName } from './validity.ts';

/**
 * What a generator is worth: validity per number of elements, uniqueness, novelty, recovery, and how far its distributions are
 * from training's, each beside generators without a network. Everything works on packed rows, so a million formulas
 * take seconds.
 */

/** Rates of some rows; null where there are none. */
export interface Rates {
  readonly count: number;
  /** Share of rows that are charge-neutral, 0 to 1. */
  readonly chargeNeutral: number | null;
  /** Share of rows that are electronegativity-balanced. */
  readonly electronegativityBalanced: number | null;
}

/** What a baseline reaches with as many samples as were generated. */
export interface BaselineResult extends Rates {
  readonly unique: number;
  readonly recoveredTraining: number;
  readonly recoveredLeaveOut: number | null;
  readonly reweighted: ReweightedRates;
  readonly totalVariation: Distances;
}

/** Rates averaged with training's shares of the numbers of elements, over the numbers that the rows have. */
export interface ReweightedRates {
  readonly chargeNeutral: number | null;
  readonly electronegativityBalanced: number | null;
  /** Share of training whose number of elements occurs among the rows; below 1 the average is of that part. */
  readonly covered: number;
}

/** Total-variation distances to training, 0 (equal) to 1 (nothing in common). */
export interface Distances {
  /** Of the number of elements of a formula. */
  readonly elementCount: number;
  /** Of the elements: each one's share of all (formula, element) pairs. */
  readonly elements: number;
}

export interface ElementCountResult {
  readonly generated: Rates;
  readonly training: Rates;
  /** Uniform random formulas with the generated numbers of elements. */
  readonly uniform: Rates;
  /** Training's element and count frequencies, with training's numbers of elements. */
  readonly frequency: Rates;
  /** Share of the training (leave-out) formulas of this size that were generated; null where there are none. */
  readonly recoveredTraining: number | null;
  readonly recoveredLeaveOut: number | null;
  readonly frequencyRecoveredTraining: number | null;
  readonly frequencyRecoveredLeaveOut: number | null;
}

/** All numbers of an evaluation, plain JSON. Shares are 0 to 1; `unique` and `novel` are counts. */
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
  /** The same shares of the different formulas. */
  readonly uniqueChargeNeutral: number;
  readonly uniqueElectronegativityBalanced: number;
  /** Different formulas that are neither in training nor in leave-out. */
  readonly novel: number;
  /** novel / unique. */
  readonly novelty: number;
  /** Share of the different training formulas that were generated. */
  readonly recoveredTraining: number;
  /** Share of the different leave-out formulas that were generated; null without leave-out. */
  readonly recoveredLeaveOut: number | null;
  readonly training: Rates & { readonly unique: number };
  readonly leaveOut: (Rates & { readonly unique: number }) | null;
  readonly reweighted: ReweightedRates;
  readonly totalVariation: Distances;
  /** Number of elements → rates. */
  readonly byElementCount: Record<string, ElementCountResult>;
  readonly baselines: { readonly uniform: BaselineResult; readonly frequency: BaselineResult };
  /** Name of another data set → novel formulas that it holds. */
  readonly confirmed: Record<string, number>;
}

export interface EvaluationInput {
  readonly generated: PackedFormulas;
  readonly training: PackedFormulas;
  readonly leaveOut?: PackedFormulas;
  /** Other data sets in which novel formulas are looked up. */
  readonly others?: Record<string, PackedFormulas>;
  readonly seed: number;
  /** Divide every formula by its greatest common divisor first (default true). The paper does not. */
  readonly reduce?: boolean;
}

/** A copy with every row in lowest terms. */
export function reducedRows({ packed, rows }: PackedFormulas): PackedFormulas {
  const copy = packed.slice(0, rows * rowWords);
  for (let row = 0; row < rows; row++) reducePacked(copy, row);
  return { packed: copy, rows };
}

/** Rows by number of elements, and how many of each pass. */
interface Tally {
  readonly rows: Uint32Array;
  readonly neutral: Uint32Array;
  readonly balanced: Uint32Array;
}

function tally(formulas: PackedFormulas): Tally {
  const flags = judgePacked(formulas.packed, formulas.rows);
  const neutral = new Uint32Array(maxPairs + 1);
  const balanced = new Uint32Array(maxPairs + 1);
  for (let row = 0; row < formulas.rows; row++) {
    if (flags[row] === 0) continue;
    const n = rowElements(formulas.packed, row);
    if (flags[row] & flagCN) neutral[n]++;
    if (flags[row] & flagEN) balanced[n]++;
  }
  return { rows: countByElements(formulas), neutral, balanced };
}

const sum = (values: Uint32Array): number => values.reduce((a, b) => a + b, 0);
const share = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole);

function ratesOf(count: number, neutral: number, balanced: number): Rates {
  return { count, chargeNeutral: share(neutral, count), electronegativityBalanced: share(balanced, count) };
}

function overall({ rows, neutral, balanced }: Tally): Rates {
  return ratesOf(sum(rows), sum(neutral), sum(balanced));
}

function at({ rows, neutral, balanced }: Tally, n: number): Rates {
  return ratesOf(rows[n], neutral[n], balanced[n]);
}

/** Charge-neutral and balanced shares of packed formulas, as they stand. */
export function validityRates(formulas: PackedFormulas): Rates {
  return overall(tally(formulas));
}

function reweight(rows: Tally, training: Tally): ReweightedRates {
  let covered = 0;
  let neutral = 0;
  let balanced = 0;
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

/** How often each of the 85 elements occurs, one per formula that has it. */
export function elementOccurrences({ packed, rows }: PackedFormulas): Uint32Array {
  const counts = new Uint32Array(elementCount);
  for (let row = 0; row < rows; row++) {
    for (let p = 0; p < maxPairs; p++) {
      const pair = pairAt(packed, row, p);
      if (pair === 0) break;
      counts[(pair >> 8) - 1]++;
    }
  }
  return counts;
}

/** Half the sum of absolute differences of two distributions given as counts: 0 to 1. */
export function totalVariation(a: Uint32Array, b: Uint32Array): number {
  const [x, y] = [sum(a) || 1, sum(b) || 1];
  return a.reduce((distance, value, i) => distance + Math.abs(value / x - b[i] / y), 0) / 2;
}

function distances(a: PackedFormulas, b: PackedFormulas): Distances {
  return {
    elementCount: totalVariation(countByElements(a), countByElements(b)),
    elements: totalVariation(elementOccurrences(a), elementOccurrences(b)),
  };
}

/** Members of `wanted` that `found` has too, by number of elements. */
function common(wanted: PackedSet, found: PackedSet): Uint32Array {
  const counts = new Uint32Array(maxPairs + 1);
  const { packed } = wanted;
  for (let row = 0; row < wanted.size; row++) if (found.has(packed, row)) counts[rowElements(packed, row)]++;
  return counts;
}

const formulasOf = (set: PackedSet): PackedFormulas => ({ packed: set.packed, rows: set.size });

/**
 * Evaluates generated formulas against training, leave-out and other sets, beside two baselines with as many samples: uniform
 * random formulas matched to the generated numbers of elements, and training's frequencies.
 * @throws DataError where nothing was generated or training is empty.
 */
export function evaluateFormulas(input: EvaluationInput): EvaluationResult {
  const reduce = input.reduce ?? true;
  const ready = (formulas: PackedFormulas): PackedFormulas => (reduce ? reducedRows(formulas) : formulas);
  const { seed } = input;
  const generated = ready(input.generated);
  const training = ready(input.training);
  const leaveOut = input.leaveOut ? ready(input.leaveOut) : null;
  if (generated.rows === 0)
    throw new DataError('evaluate: nothing was generated; train longer or decode by another rule');
  if (training.rows === 0)
    throw new DataError('evaluate: the training set is empty; name the set the model was trained on');

  const generatedSet = PackedSet.of(generated);
  const trainingSet = PackedSet.of(training);
  const leaveOutSet = leaveOut ? PackedSet.of(leaveOut) : null;
  const generatedTally = tally(generated);
  const trainingTally = tally(training);
  const uniqueRates = overall(tally(formulasOf(generatedSet)));

  const novelSet = new PackedSet(1024);
  const { packed } = generatedSet;
  for (let row = 0; row < generatedSet.size; row++) {
    if (!trainingSet.has(packed, row) && !leaveOutSet?.has(packed, row)) novelSet.add(packed, row);
  }
  const confirmed: Record<string, number> = {};
  for (const [name, other] of Object.entries(input.others ?? {})) {
    confirmed[name] = sum(common(novelSet, PackedSet.of(ready(other))));
  }

  const trainingSizes = countByElements(formulasOf(trainingSet));
  const leaveOutSizes = leaveOutSet ? countByElements(formulasOf(leaveOutSet)) : null;
  const recovery = (found: PackedSet) => {
    const ofTraining = common(trainingSet, found);
    const ofLeaveOut = leaveOutSet ? common(leaveOutSet, found) : null;
    return {
      training: sum(ofTraining) / trainingSet.size,
      leaveOut: ofLeaveOut ? share(sum(ofLeaveOut), leaveOutSet!.size) : null,
      trainingAt: (n: number) => share(ofTraining[n], trainingSizes[n]),
      leaveOutAt: (n: number) => (ofLeaveOut ? share(ofLeaveOut[n], leaveOutSizes![n]) : null),
    };
  };
  const recovered = recovery(generatedSet);

  const baseline = (formulas: PackedFormulas) => {
    const set = PackedSet.of(formulas);
    const counts = tally(formulas);
    const found = recovery(set);
    const result: BaselineResult = {
      ...overall(counts),
      unique: set.size,
      recoveredTraining: found.training,
      recoveredLeaveOut: found.leaveOut,
      reweighted: reweight(counts, trainingTally),
      totalVariation: distances(formulas, training),
    };
    return { counts, found, result };
  };
  const uniform = baseline(uniformFormulas(generatedTally.rows, seed));
  const sizes = scaleHistogram(trainingTally.rows, generated.rows);
  const frequency = baseline(frequencyFormulas(training, sizes, seed, { reduce }));

  const byElementCount: Record<string, ElementCountResult> = {};
  for (let n = 0; n <= maxPairs; n++) {
    if (generatedTally.rows[n] + trainingTally.rows[n] + (leaveOutSizes?.[n] ?? 0) === 0) continue;
    byElementCount[n] = {
      generated: at(generatedTally, n),
      training: at(trainingTally, n),
      uniform: at(uniform.counts, n),
      frequency: at(frequency.counts, n),
      recoveredTraining: recovered.trainingAt(n),
      recoveredLeaveOut: recovered.leaveOutAt(n),
      frequencyRecoveredTraining: frequency.found.trainingAt(n),
      frequencyRecoveredLeaveOut: frequency.found.leaveOutAt(n),
    };
  }
  const rates = overall(generatedTally);
  return {
    rule: ruleName,
    reduced: reduce,
    seed,
    generated: generated.rows,
    unique: generatedSet.size,
    uniqueness: generatedSet.size / generated.rows,
    chargeNeutral: rates.chargeNeutral!,
    electronegativityBalanced: rates.electronegativityBalanced!,
    uniqueChargeNeutral: uniqueRates.chargeNeutral!,
    uniqueElectronegativityBalanced: uniqueRates.electronegativityBalanced!,
    novel: novelSet.size,
    novelty: novelSet.size / generatedSet.size,
    recoveredTraining: recovered.training,
    recoveredLeaveOut: recovered.leaveOut,
    training: { ...overall(trainingTally), unique: trainingSet.size },
    leaveOut: leaveOut && leaveOutSet ? { ...validityRates(leaveOut), unique: leaveOutSet.size } : null,
    reweighted: reweight(generatedTally, trainingTally),
    totalVariation: distances(generated, training),
    byElementCount,
    baselines: { uniform: uniform.result, frequency: frequency.result },
    confirmed,
  };
}
