import { DataError } from '../errors.ts';
import { matganElements } from './elements.ts';
import {
  countByElements,
  elementCount,
  maxCount,
  maxPairs,
  type PackedFormulas,
  pairAt,
  reducePacked,
  rowWords,
  writePairs,
} from './encoding.ts';
import { gcd } from './formula.ts';
import { randomStream, WeightedChoice } from './random.ts';

/**
 * Generators without a network: what chance alone reaches. A rate or a recovery means nothing without one of these beside it,
 * since charge neutrality rises with the number of elements by chance and frequent elements recover frequent formulas.
 * All give packed formulas, duplicates included, and the same ones for the same seed. Drawn counts are divided by their greatest
 * common divisor unless that is turned off, as the paper's decoding does: that alone is worth 4 points of CN.
 */

/** How many formulas to draw with 0, 1, 2 … 8 elements; see `countByElements` of encoding.ts. */
export type ElementHistogram = ArrayLike<number>;

/** Writes one formula with `n` elements into a row; false where there can be none. */
export type SizedDraw = (words: Uint32Array, row: number, n: number) => boolean;
/** Writes one formula into a row; false where there can be none. */
export type Draw = (words: Uint32Array, row: number) => boolean;

/** A stream of uniform random reduced formulas: different elements of the 85 and counts 1 … 8, all equally likely among those in lowest terms. */
export function uniformDraw(seed: number): SizedDraw {
  const random = randomStream(seed, 'uniform');
  const pairs = new Uint16Array(maxPairs);
  return (words, row, n) => {
    let divisor: number;
    do {
      divisor = 0;
      for (let p = 0; p < n; p++) {
        let e: number;
        do e = random.below(elementCount);
        while (holds(pairs, p, e));
        const count = random.below(maxCount) + 1;
        divisor = gcd(divisor, count);
        pairs[p] = ((e + 1) << 8) | count;
      }
    } while (divisor > 1);
    writePairs(words, row, pairs, n);
    return n > 0;
  };
}

/** A stream of numbers of elements, as often as the histogram has them. */
export function sizeDraw(histogram: ElementHistogram, seed: number): () => number {
  const random = randomStream(seed, 'sizes');
  const choice = new WeightedChoice(Array.from(histogram, (count, n) => (n === 0 ? 0 : count)));
  return () => choice.draw(random);
}

/** All formulas of a histogram, the small ones first. */
function drawAll(histogram: ElementHistogram, draw: SizedDraw): PackedFormulas {
  const packed = new Uint32Array(total(histogram) * rowWords);
  let row = 0;
  for (let n = 1; n <= maxPairs; n++) {
    for (let i = 0; i < (histogram[n] ?? 0); i++) if (draw(packed, row, n)) row++;
  }
  return { packed: packed.subarray(0, row * rowWords), rows: row };
}

/** Formulas of `uniformDraw` with given numbers of elements. */
export function uniformFormulas(histogram: ElementHistogram, seed: number): PackedFormulas {
  return drawAll(histogram, uniformDraw(seed));
}

function total(histogram: ElementHistogram): number {
  let rows = 0;
  for (let n = 1; n <= maxPairs; n++) rows += histogram[n] ?? 0;
  return rows;
}

/** True where one of the first `n` pairs has the element. */
function holds(pairs: Uint16Array, n: number, e: number): boolean {
  for (let p = 0; p < n; p++) if (pairs[p] >> 8 === e + 1) return true;
  return false;
}

/** How often each cell of the 85 × 8 matrix is set in the training rows. */
function cellCounts({ packed, rows }: PackedFormulas): Float64Array {
  const counts = new Float64Array(elementCount * maxCount);
  for (let row = 0; row < rows; row++) {
    for (let p = 0; p < maxPairs; p++) {
      const pair = pairAt(packed, row, p);
      if (pair === 0) break;
      counts[((pair >> 8) - 1) * maxCount + (pair & 0xff) - 1]++;
    }
  }
  return counts;
}

/** Draws of a count for each element, and each element's share of the training rows. */
function frequencies(training: PackedFormulas): { share: Float64Array; drawCount: WeightedChoice[] } {
  const cells = cellCounts(training);
  const share = new Float64Array(elementCount);
  const drawCount: WeightedChoice[] = [];
  for (let e = 0; e < elementCount; e++) {
    const counts = cells.subarray(e * maxCount, (e + 1) * maxCount);
    share[e] = counts.reduce((sum, count) => sum + count, 0) / training.rows;
    drawCount.push(new WeightedChoice(counts));
  }
  return { share, drawCount };
}

/** Draws of an element that is there already before the others are drawn by themselves; the odds stay the same. */
const mostTries = 100;

/**
 * The frequency baseline, formula by formula: the elements are drawn one after the other by the odds p / (1 - p) of their share p of
 * the training rows, without repeats, then a count for each from that element's counts.
 */
export function frequencyDraw(training: PackedFormulas, seed: number, options: { reduce?: boolean } = {}): SizedDraw {
  const random = randomStream(seed, 'frequency');
  const { share, drawCount } = frequencies(training);
  // An element in every row has infinite odds; capped, it is still drawn first.
  const odds = share.map((p) => p / Math.max(1 - p, 1e-6));
  const choice = new WeightedChoice(odds);
  const different = share.reduce((n, p) => n + (p > 0 ? 1 : 0), 0);
  const reduce = options.reduce ?? true;
  const pairs = new Uint16Array(maxPairs);
  return (words, row, n) => {
    if (n > different || n === 0) return false;
    for (let p = 0; p < n; p++) {
      let e = choice.draw(random);
      for (let tries = 1; holds(pairs, p, e); tries++) {
        // Beside an element of every row the others are one draw in millions: put the drawn ones aside instead.
        const rest = tries < mostTries ? choice : new WeightedChoice(odds.map((o, i) => (holds(pairs, p, i) ? 0 : o)));
        e = rest.draw(random);
      }
      pairs[p] = ((e + 1) << 8) | (drawCount[e].draw(random) + 1);
    }
    writePairs(words, row, pairs, n);
    if (reduce) reducePacked(words, row);
    return true;
  };
}

/**
 * What `frequencyDraw` draws by, as running sums that each end at 1: numbers of elements 0 … 8, the elements by their odds, and each
 * one's counts 1 … 8, in single precision. All zeros where there are no rows.
 */
export function frequencySums(training: PackedFormulas): Float32Array {
  const { share } = frequencies(training);
  const cells = cellCounts(training);
  const sums = new Float32Array(maxPairs + 1 + elementCount * (1 + maxCount));
  let at = 0;
  const add = (weights: ArrayLike<number>): void => {
    let total = 0;
    for (let i = 0; i < weights.length; i++) total += weights[i];
    let sum = 0;
    for (let i = 0; i < weights.length; i++, at++) {
      sum += weights[i];
      sums[at] = total > 0 ? sum / total : 0;
    }
  };
  if (training.rows === 0) return sums;
  add(countByElements(training));
  add(share.map((p) => p / Math.max(1 - p, 1e-6)));
  for (let e = 0; e < elementCount; e++) add(cells.subarray(e * maxCount, (e + 1) * maxCount));
  return sums;
}

/** What formulas are asked for: elements that each must have, by index, and how many elements, from and to. */
export interface FormulaTarget {
  readonly contains: readonly number[];
  readonly sizes: readonly [least: number, most: number];
}

/** Whether a packed row is what was asked for. */
export function meetsTarget({ contains, sizes }: FormulaTarget, words: Uint32Array, row = 0): boolean {
  let found = 0;
  let n = 0;
  for (let p = 0; p < maxPairs; p++) {
    const pair = (words[row * rowWords + (p >> 1)] >>> (16 * (p & 1))) & 0xffff;
    if (pair === 0) break;
    n++;
    if (contains.includes((pair >> 8) - 1)) found++;
  }
  return found === contains.length && n >= sizes[0] && n <= sizes[1];
}

/**
 * `frequencySums` for drafts that meet a target, in two parts to be laid over one another: the elements that are asked for (their counts
 * as they come, all of them in every formula), and the others, with as many elements as then are left to draw.
 * @throws DataError where the frequencies have no formula of such sizes, or not one of an element that is asked for
 */
export function targetSums(
  sums: Float32Array,
  { contains, sizes: [least, most] }: FormulaTarget,
): { required: Float32Array; others: Float32Array } {
  const shares = (first: number, n: number): number[] =>
    Array.from({ length: n }, (_, i) => sums[first + i] - (i > 0 ? sums[first + i - 1] : 0));
  const elementsAt = maxPairs + 1;
  const sizeShares = shares(0, maxPairs + 1);
  const odds = shares(elementsAt, elementCount);
  for (const e of contains) {
    if (!(odds[e] > 0)) {
      throw new DataError(
        `${matganElements[e]}: no formula that the generator learned from has it; ask for another element`,
      );
    }
  }
  const count = contains.length;
  const asked = sizeShares.map((share, n) => (n >= Math.max(least, count) && n <= most ? share : 0));
  if (!asked.some((share) => share > 0)) {
    throw new DataError(
      `no formula that the generator learned from has ${Math.max(least, count)} to ${most} elements; ask for other numbers`,
    );
  }
  const running = (weights: readonly number[]): number[] => {
    const total = weights.reduce((a, b) => a + b, 0);
    let sum = 0;
    return weights.map((weight) => {
      sum += weight;
      return total > 0 ? sum / total : 0;
    });
  };
  const table = (ofSizes: readonly number[], ofElements: readonly number[]): Float32Array => {
    const result = sums.slice();
    result.set(running(ofSizes));
    result.set(running(ofElements), elementsAt);
    return result;
  };
  return {
    required: table(
      sizeShares.map((_, n) => (n === count ? 1 : 0)),
      odds.map((_, e) => (contains.includes(e) ? 1 : 0)),
    ),
    others: table(
      sizeShares.map((_, n) => asked[n + count] ?? 0),
      odds.map((share, e) => (contains.includes(e) ? 0 : share)),
    ),
  };
}

/** As many formulas as weigh as much in `adaptedSums` as the frequencies that there were. */
const evenRows = 64;

/**
 * Frequencies moved towards those of formulas that were drawn from them and chosen: the cross-entropy method's step. The old ones keep a
 * weight of at least a fifth, more where few were chosen, so that nothing that could be drawn ever cannot.
 */
export function adaptedSums(sums: Float32Array, chosen: PackedFormulas): Float32Array {
  const share = Math.min(0.8, chosen.rows / (chosen.rows + evenRows));
  const theirs = frequencySums(chosen);
  const result = sums.slice();
  const mix = (first: number, n: number): void => {
    const last = first + n - 1;
    // A table without rows (no element drawn, or not this one) says nothing.
    if (theirs[last] === 0 || sums[last] === 0) return;
    for (let i = first; i < last; i++) result[i] = (1 - share) * sums[i] + share * theirs[i];
  };
  mix(0, maxPairs + 1);
  mix(maxPairs + 1, elementCount);
  for (let e = 0; e < elementCount; e++) mix(maxPairs + 1 + elementCount + e * maxCount, maxCount);
  return result;
}

/** Formulas of `frequencyDraw` with given numbers of elements. Sizes for which training has too few elements are left out. */
export function frequencyFormulas(
  training: PackedFormulas,
  histogram: ElementHistogram,
  seed: number,
  options: { reduce?: boolean } = {},
): PackedFormulas {
  return drawAll(histogram, frequencyDraw(training, seed, options));
}

/**
 * Independent cells, formula by formula: each element's row of the 85 × 8 matrix is drawn by itself from its training frequencies
 * (absent, or 1 … 8 atoms); results with 2 to 8 elements are kept. False once a hundred thousand draws in a row gave none.
 */
export function independentDraw(training: PackedFormulas, seed: number, options: { reduce?: boolean } = {}): Draw {
  const random = randomStream(seed, 'independent');
  const { share, drawCount } = frequencies(training);
  const reduce = options.reduce ?? true;
  const pairs = new Uint16Array(elementCount);
  return (words, row) => {
    // Training rows of one element each hardly ever give two; as many fruitless draws in a row say so.
    for (let misses = 0; misses < 100_000; misses++) {
      let n = 0;
      for (let e = 0; e < elementCount; e++) {
        if (random.uniform() < share[e]) pairs[n++] = ((e + 1) << 8) | (drawCount[e].draw(random) + 1);
      }
      if (n < 2 || n > maxPairs) continue;
      writePairs(words, row, pairs, n);
      if (reduce) reducePacked(words, row);
      return true;
    }
    return false;
  };
}

/** `count` formulas of `independentDraw`, or as many as it gives. */
export function independentFormulas(
  training: PackedFormulas,
  count: number,
  seed: number,
  options: { reduce?: boolean } = {},
): PackedFormulas {
  const draw = independentDraw(training, seed, options);
  const packed = new Uint32Array(count * rowWords);
  let row = 0;
  while (row < count && draw(packed, row)) row++;
  return { packed: packed.subarray(0, row * rowWords), rows: row };
}

/** Splits `rows` in the proportions of a histogram, so that the parts add up exactly (largest remainders). */
export function scaleHistogram(histogram: ElementHistogram, rows: number): number[] {
  const sum = total(histogram);
  const exact = Array.from({ length: maxPairs + 1 }, (_, n) =>
    n === 0 || sum === 0 ? 0 : ((histogram[n] ?? 0) * rows) / sum,
  );
  const scaled = exact.map(Math.floor);
  const missing = sum === 0 ? 0 : rows - scaled.reduce((a, b) => a + b, 0);
  const order = exact.map((value, n) => ({ n, rest: value - scaled[n] })).sort((a, b) => b.rest - a.rest || a.n - b.n);
  for (let i = 0; i < missing; i++) scaled[order[i].n]++;
  return scaled;
}
