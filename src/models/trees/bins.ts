/** Columns of numbers as bins of one byte each, at quantiles of the training rows. */
import { DataError } from '../../errors.ts';

/** The code of a missing value (NaN); what is there has codes from 0. */
export const missingBin = 255;
/** Rows that quantiles are taken from, at most: evenly spread ones. */
const mostSampled = 200_000;

/** A matrix of numbers, row-major [rows, columns], NaN where one is missing. */
export interface Table {
  rows: number;
  columns: number;
  values: Float32Array;
}

/** Where a column's bins part: value v has the code of the first cut c with v ≤ c, the number of cuts where there is none. */
export interface Cuts {
  /** Ascending; each lies between two values of the training rows. */
  cuts: Float32Array;
  /** Least and greatest training value of each bin: one more than cuts, or none where all values are missing. */
  low: Float32Array;
  high: Float32Array;
}

export interface Binned {
  rows: number;
  columns: readonly Cuts[];
  /** [columns, rows]. */
  codes: Uint8Array;
}

/** @throws DataError for sizes that disagree, and for an infinite value, by row and column */
export function checkTable({ rows, columns, values }: Table, names?: readonly string[]): void {
  if (columns < 1 || rows < 1)
    throw new DataError(`a table of ${rows} rows and ${columns} columns has nothing to learn`);
  if (values.length !== rows * columns)
    throw new DataError(`features: ${values.length} values for [${rows}, ${columns}]`);
  for (let i = 0; i < values.length; i++) {
    if (values[i] === Number.POSITIVE_INFINITY || values[i] === Number.NEGATIVE_INFINITY) {
      const column = i % columns;
      throw new DataError(
        `features: row ${Math.floor(i / columns) + 1}, column ${names?.[column] ?? column} is ${values[i]}; it takes a number, or NaN for a missing one`,
      );
    }
  }
}

/** A float32 c with a ≤ c < b, in the middle where there is one: x ≤ c then means the same in float32 and float64. */
export function between(a: number, b: number): number {
  const middle = Math.fround(a / 2 + b / 2);
  return middle >= a && middle < b ? middle : a;
}

/**
 * Cuts of one column: one between any two neighbouring values where they are few, else at quantiles.
 * @param sorted ascending, without NaN @param most bins for values, 1 to 255
 */
export function cutsOf(sorted: Float32Array, most: number): Cuts {
  const n = sorted.length;
  // Where runs of equal values start.
  const starts: number[] = [];
  for (let i = 0; i < n; i++) if (i === 0 || sorted[i] !== sorted[i - 1]) starts.push(i);
  const ends: number[] = [];
  if (starts.length <= most) for (let i = 1; i <= starts.length; i++) ends.push(starts[i] ?? n);
  else {
    // Each bin takes values until it has its share of what is left; a value with more than that has a bin of its own.
    let left = n;
    let from = 0;
    for (let run = 0; run < starts.length; run++) {
      const end = starts[run + 1] ?? n;
      const next = (starts[run + 2] ?? n) - end;
      const share = left / (most - ends.length);
      const size = end - from;
      // Rather too small than too large by more.
      if (end === n || (ends.length < most - 1 && (size >= share || size + next - share > share - size))) {
        ends.push(end);
        left -= size;
        from = end;
      }
    }
  }
  const low = Float32Array.from(ends, (_, i) => sorted[i === 0 ? 0 : ends[i - 1]]);
  const high = Float32Array.from(ends, (end) => sorted[end - 1]);
  const cuts = new Float32Array(Math.max(0, ends.length - 1));
  for (let i = 0; i < cuts.length; i++) cuts[i] = between(high[i], low[i + 1]);
  return { cuts, low, high };
}

/** The code of a value. */
export function codeOf(cuts: Float32Array, value: number): number {
  if (Number.isNaN(value)) return missingBin;
  let low = 0;
  let high = cuts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value <= cuts[middle]) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Bins a table. Cuts come from the rows for which `counts` says so, all unless given.
 * @param bins most codes of a column, 2 to 256, one of them for missing values
 */
export function binTable({ rows, columns, values }: Table, bins: number, counts?: (row: number) => boolean): Binned {
  const chosen: number[] = [];
  for (let row = 0; row < rows; row++) if (!counts || counts(row)) chosen.push(row);
  const step = Math.max(1, chosen.length / mostSampled);
  const sampled = Math.min(chosen.length, mostSampled);
  const codes = new Uint8Array(rows * columns);
  const column = new Float32Array(sampled);
  const all: Cuts[] = [];
  for (let c = 0; c < columns; c++) {
    let n = 0;
    for (let i = 0; i < sampled; i++) {
      const v = values[chosen[Math.floor(i * step)] * columns + c];
      // −0 and 0 are one value, whichever sorts first.
      if (!Number.isNaN(v)) column[n++] = v + 0;
    }
    const made = cutsOf(column.subarray(0, n).sort(), bins - 1);
    all.push(made);
    const at = c * rows;
    for (let row = 0; row < rows; row++) codes[at + row] = codeOf(made.cuts, values[row * columns + c]);
  }
  return { rows, columns: all, codes };
}
