/** The slow and obvious way: every value of every column tried as a threshold, at every node. What the histograms are held against. */
import type { Table } from './bins.ts';

export interface ReferenceLimits {
  depth: number;
  leafRows: number;
  l2: number;
}

/** A split that no other beats: Σ² / (rows + λ) of both sides, less that of the node. */
export interface ReferenceSplit {
  column: number;
  /** Values up to this one go left; Infinity parts those that are there from the missing. */
  value: number;
  missingLeft: boolean;
  gain: number;
}

export type ReferenceNode = { value: number } | { split: ReferenceSplit; left: ReferenceNode; right: ReferenceNode };

const sumOf = (rows: readonly number[], g: ArrayLike<number>): number => rows.reduce((sum, row) => sum + g[row], 0);

/** Whether a value goes left. */
const goesLeft = (v: number, { value, missingLeft }: Pick<ReferenceSplit, 'value' | 'missingLeft'>): boolean =>
  Number.isNaN(v) ? missingLeft : v <= value;

/** The best split of rows, undefined where none gains. Of equal ones the first column's, its least value's. */
export function bestSplit(
  { columns, values }: Table,
  g: ArrayLike<number>,
  rows: readonly number[],
  { leafRows, l2 }: ReferenceLimits,
): ReferenceSplit | undefined {
  const score = (part: readonly number[]): number => sumOf(part, g) ** 2 / (part.length + l2);
  let best: ReferenceSplit | undefined;
  for (let column = 0; column < columns; column++) {
    const at = (row: number): number => values[row * columns + column];
    const missing = rows.some((row) => Number.isNaN(at(row)));
    const there = [...new Set(rows.map(at).filter((v) => !Number.isNaN(v)))].sort((a, b) => a - b);
    const candidates = there
      .slice(0, -1)
      .flatMap((value) => (missing ? [false, true] : [false]).map((missingLeft) => ({ value, missingLeft })));
    if (missing && there.length > 0) candidates.push({ value: Number.POSITIVE_INFINITY, missingLeft: false });
    for (const candidate of candidates) {
      const left = rows.filter((row) => goesLeft(at(row), candidate));
      const right = rows.filter((row) => !goesLeft(at(row), candidate));
      if (left.length < leafRows || right.length < leafRows) continue;
      const gain = score(left) + score(right) - score(rows);
      if (gain > (best?.gain ?? 0) + 1e-9) best = { column, ...candidate, gain };
    }
  }
  return best;
}

/** A whole tree, depth first; leaves are Σ / (rows + λ). */
export function referenceTree(
  table: Table,
  g: ArrayLike<number>,
  rows: readonly number[],
  limits: ReferenceLimits,
): ReferenceNode {
  const split = limits.depth > 0 ? bestSplit(table, g, rows, limits) : undefined;
  if (!split) return { value: sumOf(rows, g) / (rows.length + limits.l2) };
  const left = rows.filter((row) => goesLeft(table.values[row * table.columns + split.column], split));
  const right = rows.filter((row) => !left.includes(row));
  const below = { ...limits, depth: limits.depth - 1 };
  return { split, left: referenceTree(table, g, left, below), right: referenceTree(table, g, right, below) };
}

/** What a tree says of a row; missing values go where training's missing ones went. */
export function referenceValue(node: ReferenceNode, { columns, values }: Table, row: number): number {
  let at = node;
  while ('split' in at) at = goesLeft(values[row * columns + at.split.column], at.split) ? at.left : at.right;
  return at.value;
}
