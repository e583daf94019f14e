import { matganElements } from './elements.ts';
import { elementCount, maxPairs, pairAt } from './encoding.ts';

/** How formulas are spread over numbers of elements, elements, pairs of elements and stoichiometries, and how far two such spreads are apart. */

/** Total-variation distances, 0 (equal) to 1 (nothing in common). */
export interface Distances {
  /** Of the number of elements of a formula. */
  readonly elementCount: number;
  /** Of the elements: each one's share of all (formula, element) pairs. */
  readonly elements: number;
  /** Of the unordered pairs of elements that occur in one formula. */
  readonly pairs: number;
  /** Of the sorted counts: AB2O4 and CaAl2O4 are both AB2C4. */
  readonly stoichiometries: number;
}

/** Half the sum of absolute differences of two distributions given as counts: 0 to 1. Nothing counted is at 0.5 from something. */
export function totalVariation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [x, y] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    x += a[i];
    y += b[i];
  }
  let distance = 0;
  for (let i = 0; i < a.length; i++) distance += Math.abs(a[i] / (x || 1) - b[i] / (y || 1));
  return distance / 2;
}

/** Numbers that `patternOf` gives lie below this. */
const patternCount = 1 << (2 * maxPairs);
const sorted = new Uint8Array(maxPairs);

/**
 * The sorted counts of a row as one number: with zeros put in front to make eight of them they rise from 0 … 8; adding 0 … 7
 * makes them different numbers of 0 … 15, a bit each.
 */
function patternOf(words: Uint32Array, row: number): number {
  let n = 0;
  for (; n < maxPairs; n++) {
    const pair = pairAt(words, row, n);
    if (pair === 0) break;
    const count = pair & 0xff;
    let j = n;
    for (; j > 0 && sorted[j - 1] > count; j--) sorted[j] = sorted[j - 1];
    sorted[j] = count;
  }
  let pattern = (1 << (maxPairs - n)) - 1;
  for (let i = 0; i < n; i++) pattern |= 1 << (sorted[i] + maxPairs - n + i);
  return pattern;
}

/** A pattern in letters: AB2C4. */
function patternName(pattern: number): string {
  let name = '';
  let place = 0;
  for (let bit = 0; bit < 2 * maxPairs; bit++) {
    if (!(pattern & (1 << bit))) continue;
    const count = bit - place++;
    if (count > 0) name += `${String.fromCharCode(65 + name.replace(/\d/g, '').length)}${count > 1 ? count : ''}`;
  }
  return name;
}

/** Running counts of formulas. */
export class Distributions {
  readonly sizes = new Uint32Array(maxPairs + 1);
  readonly elements = new Uint32Array(elementCount);
  /** Pair of the elements i < j at 85 i + j. */
  readonly pairs = new Uint32Array(elementCount * elementCount);
  readonly patterns = new Uint32Array(patternCount);
  private readonly present = new Uint8Array(maxPairs);

  add(words: Uint32Array, row: number): void {
    const { present } = this;
    let n = 0;
    for (; n < maxPairs; n++) {
      const pair = pairAt(words, row, n);
      if (pair === 0) break;
      const e = (pair >> 8) - 1;
      this.elements[e]++;
      // Rows are sorted by element, so the earlier one is the smaller.
      for (let i = 0; i < n; i++) this.pairs[present[i] * elementCount + e]++;
      present[n] = e;
    }
    this.sizes[n]++;
    this.patterns[patternOf(words, row)]++;
  }

  distance(other: Distributions): Distances {
    return {
      elementCount: totalVariation(this.sizes, other.sizes),
      elements: totalVariation(this.elements, other.elements),
      pairs: totalVariation(this.pairs, other.pairs),
      stoichiometries: totalVariation(this.patterns, other.patterns),
    };
  }
}

/** Shares in two sets, each of one thing. */
export interface Shares {
  readonly name: string;
  readonly generated: number;
  readonly training: number;
}

function shares(a: Uint32Array, b: Uint32Array, name: (i: number) => string, most: number): Shares[] {
  const sum = (counts: Uint32Array): number => counts.reduce((x, y) => x + y, 0) || 1;
  const [x, y] = [sum(a), sum(b)];
  const there = [...a.keys()].filter((i) => a[i] + b[i] > 0);
  there.sort((i, j) => b[j] / y + a[j] / x - b[i] / y - a[i] / x || i - j);
  return there.slice(0, most).map((i) => ({ name: name(i), generated: a[i] / x, training: b[i] / y }));
}

/** Shares of every element that occurs, the most frequent ones first. */
export const elementShares = (generated: Distributions, training: Distributions): Shares[] =>
  shares(generated.elements, training.elements, (e) => matganElements[e], elementCount);

/** Shares of the most frequent stoichiometries of both. */
export const patternShares = (generated: Distributions, training: Distributions, most = 20): Shares[] =>
  shares(generated.patterns, training.patterns, patternName, most);
