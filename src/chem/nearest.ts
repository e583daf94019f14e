import { elementCount, maxPairs, type PackedFormulas, pairAt } from './encoding.ts';

/**
 * The nearest training formula. The distance of two formulas is half the sum of the absolute differences of their element
 * fractions: 0 for equal ones, 1 where no element is common; it is the share of atoms that would have to be exchanged.
 * It equals 1 less the sum over common elements of the smaller fraction, so only rows with a common element are looked at,
 * by a list of rows for each element.
 */
export class NearestIndex {
  private readonly rows: number;
  /** Rows of element e, and its fraction in each: from start[e] to start[e + 1]. */
  private readonly start = new Uint32Array(elementCount + 1);
  private readonly member: Uint32Array;
  private readonly fraction: Float64Array;
  private readonly overlap: Float64Array;
  private readonly touched: Uint32Array;

  constructor({ packed, rows }: PackedFormulas) {
    this.rows = rows;
    for (let row = 0; row < rows; row++) {
      for (let p = 0; p < maxPairs; p++) {
        const pair = pairAt(packed, row, p);
        if (pair === 0) break;
        this.start[pair >> 8]++;
      }
    }
    for (let e = 0; e < elementCount; e++) this.start[e + 1] += this.start[e];
    const next = this.start.slice(0, elementCount);
    this.member = new Uint32Array(this.start[elementCount]);
    this.fraction = new Float64Array(this.start[elementCount]);
    for (let row = 0; row < rows; row++) {
      const atoms = atomsOf(packed, row);
      for (let p = 0; p < maxPairs; p++) {
        const pair = pairAt(packed, row, p);
        if (pair === 0) break;
        const at = next[(pair >> 8) - 1]++;
        this.member[at] = row;
        this.fraction[at] = (pair & 0xff) / atoms;
      }
    }
    this.overlap = new Float64Array(rows);
    this.touched = new Uint32Array(rows);
  }

  /** Row nearest to a formula (the first of equals), and its distance, 0 to 1; row -1 where no element is common. */
  nearest(words: Uint32Array, row: number): { readonly row: number; readonly distance: number } {
    const { start, member, fraction, overlap, touched } = this;
    const atoms = atomsOf(words, row);
    let touching = 0;
    for (let p = 0; p < maxPairs; p++) {
      const pair = pairAt(words, row, p);
      if (pair === 0) break;
      const own = (pair & 0xff) / atoms;
      const e = (pair >> 8) - 1;
      for (let i = start[e]; i < start[e + 1]; i++) {
        const m = member[i];
        if (overlap[m] === 0) touched[touching++] = m;
        overlap[m] += Math.min(own, fraction[i]);
      }
    }
    let best = 0;
    let found = this.rows === 0 ? -1 : this.rows;
    for (let i = 0; i < touching; i++) {
      const m = touched[i];
      if (overlap[m] > best || (overlap[m] === best && m < found)) {
        best = overlap[m];
        found = m;
      }
      overlap[m] = 0;
    }
    return { row: touching === 0 ? -1 : found, distance: Math.max(0, 1 - best) };
  }
}

function atomsOf(words: Uint32Array, row: number): number {
  let atoms = 0;
  for (let p = 0; p < maxPairs; p++) atoms += pairAt(words, row, p) & 0xff;
  return atoms;
}

/** How far some formulas are from their nearest ones. */
export interface NearestSummary {
  readonly formulas: number;
  readonly mean: number;
  readonly median: number;
  /** The quarter of them at most at the first, three quarters at most at the second. */
  readonly quartiles: readonly [number, number];
  /** Shares in steps of 0.05 from 0 to 1. */
  readonly histogram: readonly number[];
}

const bins = 20;

/** Null where there is none. */
export function summarise(distances: readonly number[]): NearestSummary | null {
  if (distances.length === 0) return null;
  const rising = [...distances].sort((a, b) => a - b);
  const at = (share: number): number => {
    const place = share * (rising.length - 1);
    const low = Math.floor(place);
    return rising[low] + (place - low) * (rising[Math.min(low + 1, rising.length - 1)] - rising[low]);
  };
  const histogram = new Array<number>(bins).fill(0);
  for (const distance of rising) histogram[Math.min(bins - 1, Math.floor(distance * bins + 1e-6))] += 1 / rising.length;
  return {
    formulas: rising.length,
    mean: rising.reduce((a, b) => a + b) / rising.length,
    median: at(0.5),
    quartiles: [at(0.25), at(0.75)],
    histogram,
  };
}
