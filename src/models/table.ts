/** Rows that a regressor trains on: fractions of elements and a target each, laid out as one variable. */
import { createHash } from 'node:crypto';
import { alignment } from '../autograd/compile.ts';
import { elementCount } from '../chem/encoding.ts';

export interface TableRows {
  /** All rows' fractions, 85 each, and from `targetsAt` on all their targets. */
  readonly values: Float32Array;
  readonly rows: number;
}

/** Where the targets begin: what a kernel reads begins at the device's alignment. */
export const targetsAt = (rows: number): number => Math.ceil((rows * elementCount) / alignment) * alignment;

/** Numbers of a table of so many rows. */
export const tableSize = (rows: number): number => targetsAt(rows) + rows;

/** The table of chosen rows (all unless said). @param fractions [n, 85]; @param targets [n] */
export function tableOf(
  fractions: Float32Array,
  targets: ArrayLike<number>,
  chosen: ArrayLike<number> = Array.from(targets, (_, i) => i),
): TableRows {
  const rows = chosen.length;
  const values = new Float32Array(tableSize(rows));
  for (let i = 0; i < rows; i++) {
    const from = chosen[i] * elementCount;
    values.set(fractions.subarray(from, from + elementCount), i * elementCount);
    values[targetsAt(rows) + i] = targets[chosen[i]];
  }
  return { values, rows };
}

/** A table's fractions [rows, 85]. */
export const fractionsOf = ({ values, rows }: TableRows): Float32Array => values.subarray(0, rows * elementCount);

/** A table's targets [rows]. */
export const targetsOf = ({ values, rows }: TableRows): Float32Array => values.subarray(targetsAt(rows));

/** SHA-256 over a table's numbers, hexadecimal: names a data set whatever file it came from. */
export const tableFingerprint = ({ values }: TableRows): string =>
  createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex');
