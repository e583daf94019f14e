/** How a number is spread in one table and in others: predicted energies of what several generators made, gaps of generated and known formulas. */
import { type Chart, drawLines } from './chart.ts';
import { html } from './html.ts';

/** Numbers of one table, ascending; `of` rows had none. */
export interface Spread {
  readonly name: string;
  readonly values: Float64Array;
  readonly without: number;
}

export interface DistributionSummary {
  readonly rows: number;
  /** Rows without a number. */
  readonly without: number;
  readonly mean: number | null;
  /** The 5th, 25th, 50th, 75th and 95th hundredth. */
  readonly quantiles: readonly (number | null)[];
  /** Share of the numbers below each threshold that was asked for. */
  readonly below: Readonly<Record<string, number | null>>;
  /** Total variation between this table's histogram and the first one's: 0 the same, 1 nothing in common. */
  readonly fromFirst: number | null;
}

export interface Distribution {
  readonly column: string;
  /** Borders of the bins; what lies outside is in the first and the last. */
  readonly edges: readonly number[];
  readonly sets: Readonly<Record<string, DistributionSummary & { readonly shares: readonly number[] }>>;
}

const quantiles = [0.05, 0.25, 0.5, 0.75, 0.95];
const bins = 60;

const at = (sorted: Float64Array, share: number): number | null =>
  sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/** Numbers below a threshold, in sorted ones. */
function countBelow(sorted: Float64Array, threshold: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Compares the numbers of several tables over common bins, which leave out the outermost half per cent of them.
 * @param column for titles @param below thresholds @param spreads numbers in ascending order
 */
export function distributionOf(
  column: string,
  spreads: readonly Spread[],
  below: readonly number[] = [],
): Distribution {
  const ends = (share: number): number[] => spreads.flatMap(({ values }) => at(values, share) ?? []);
  let [low, high] = [Math.min(...ends(0.005)), Math.max(...ends(0.995))];
  if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  const edges = Array.from({ length: bins + 1 }, (_, i) => low + ((high - low) * i) / bins);
  const histograms = spreads.map(({ values }) => {
    const up = edges.map((edge, i) => (i === 0 ? 0 : i === bins ? values.length : countBelow(values, edge)));
    return up.slice(1).map((count, i) => (values.length === 0 ? 0 : (count - up[i]) / values.length));
  });
  const [first] = histograms;
  const sets = spreads.map(({ name, values, without }, s) => {
    const some = values.length > 0;
    const share = (threshold: number): number | null => (some ? countBelow(values, threshold) / values.length : null);
    const apart = histograms[s].reduce((sum, v, i) => sum + Math.abs(v - first[i]) / 2, 0);
    return [
      name,
      {
        rows: values.length + without,
        without,
        mean: some ? values.reduce((sum, v) => sum + v, 0) / values.length : null,
        quantiles: quantiles.map((q) => at(values, q)),
        below: Object.fromEntries(below.map((threshold) => [String(threshold), share(threshold)])),
        fromFirst: some && spreads[0].values.length > 0 ? apart : null,
        shares: histograms[s],
      },
    ] as const;
  });
  return { column, edges, sets: Object.fromEntries(sets) };
}

/** The histograms as lines, each table's bins adding up to 1. */
export function distributionChart({ column, edges, sets }: Distribution): Chart {
  const series = Object.entries(sets).map(([name, { shares }]) => ({
    name,
    points: shares.map((share, i) => [(edges[i] + edges[i + 1]) / 2, share] as const),
  }));
  const top = Math.max(...series.flatMap(({ points }) => points.map(([, y]) => y)), 1e-9);
  return drawLines({
    title: html`Distribution of ${column} <span>share of each table's rows by bin</span>`,
    xLabel: column,
    series,
    format: (v) => `${(100 * v).toFixed(1)} %`,
    range: [0, 1.08 * top],
  });
}
