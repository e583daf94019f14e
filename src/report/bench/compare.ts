/** Two results of `matgan bench`, row by row. */
import type { ResultRow, Results } from './results.ts';

/** One row that both have. Ratios are of times, the later over the earlier: above 1 is slower. */
export interface ComparedRow {
  name: string;
  variant?: string;
  baseMs: number;
  newMs: number;
  ratio: number;
  /** What the ratio could be as well: quartile over quartile. */
  interval: readonly [low: number, high: number];
  /** The ratio as it were if both adapters, or both moments, had the same ceilings; null where a file has none. */
  normalised: number | null;
  verdict: 'slower' | 'faster' | 'same';
}

export interface Comparison {
  /** Set where the two were measured on different adapters. */
  warning?: string;
  rows: ComparedRow[];
  /** Rows of the earlier that the later has not: regressions may hide there. */
  missing: string[];
  /** Rows of the later alone. */
  added: string[];
  /** Slower beyond noise and tolerance. */
  regressions: string[];
}

const keyOf = ({ name, variant }: ResultRow): string => (variant ? `${name} (${variant})` : name);

/** Quartiles of a row; older files have their distance alone. */
const quartiles = ({ medianMs, spreadMs, quartilesMs }: ResultRow): readonly [number, number] =>
  quartilesMs ?? [Math.max(0, medianMs - spreadMs / 2), medianMs + spreadMs / 2];

/** How much faster the ceiling that binds a row has become: FLOP/s where its operations take longer than its bytes. */
function ceilingRatio(row: ResultRow, base: Results, later: Results): number | null {
  if (!base.ceilings || !later.ceilings || row.flops === undefined || row.bytes === undefined) return null;
  const compute = row.flops / base.ceilings.fmaGflops > row.bytes / base.ceilings.copyGbps;
  const which = compute ? 'fmaGflops' : 'copyGbps';
  return later.ceilings[which] / base.ceilings[which];
}

/**
 * Holds later results against earlier ones. The noise of a ratio is estimated from the quartiles, which do not draw closer
 * with the number of samples: what disturbs a machine for a second disturbs all samples of a row. A row is slower where its
 * lower quartile is above the upper one of before, and its median by more than the tolerance; faster likewise.
 * @param tolerance share of the time, e.g. 0.1
 */
export function compareResults(base: Results, later: Results, tolerance: number): Comparison {
  const before = new Map(base.rows.map((row) => [keyOf(row), row]));
  const rows: ComparedRow[] = [];
  const added: string[] = [];
  for (const row of later.rows) {
    const old = before.get(keyOf(row));
    before.delete(keyOf(row));
    if (!old) {
      added.push(keyOf(row));
      continue;
    }
    const ratio = row.medianMs / old.medianMs;
    const [oldLow, oldHigh] = quartiles(old);
    const [low, high] = quartiles(row);
    const interval = [low / oldHigh, oldLow > 0 ? high / oldLow : Number.POSITIVE_INFINITY] as const;
    const ceiling = ceilingRatio(row, base, later);
    const slower = ratio > 1 + tolerance && interval[0] > 1;
    const faster = ratio < 1 / (1 + tolerance) && interval[1] < 1;
    rows.push({
      name: row.name,
      ...(row.variant && { variant: row.variant }),
      baseMs: old.medianMs,
      newMs: row.medianMs,
      ratio,
      interval,
      normalised: ceiling === null ? null : ratio * ceiling,
      verdict: slower ? 'slower' : faster ? 'faster' : 'same',
    });
  }
  const [from, to] = [base.adapter ?? 'an unnamed adapter', later.adapter ?? 'an unnamed adapter'];
  return {
    ...(from !== to && {
      warning: `different adapters: ${from}, then ${to}; only the normalised ratios mean anything`,
    }),
    rows,
    missing: [...before.keys()],
    added,
    regressions: rows
      .filter(({ verdict }) => verdict === 'slower')
      .map(({ name, variant }) => (variant ? `${name} (${variant})` : name)),
  };
}
