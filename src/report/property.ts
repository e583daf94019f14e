/** How good a property model's predictions are, and how honest their uncertainties. */
import { type Calibration, coverage, uncertainty } from '../models/calibration.ts';
import { type Chart, drawLines, drawPoints } from './chart.ts';
import { html } from './html.ts';

/** Predictions beside the truth, row by row. */
export interface Judged {
  values: ArrayLike<number>;
  /** Deviations between an ensemble's members. */
  spreads: ArrayLike<number>;
  truth: ArrayLike<number>;
  /** Number of elements of each formula. */
  elements: ArrayLike<number>;
}

interface Errors {
  rows: number;
  /** Mean absolute error, in the target's unit. */
  mae: number;
}

export interface PropertyReport extends Errors {
  target: string;
  rmse: number;
  /** Share of the truth's variance that predictions explain. */
  r2: number;
  /** Mean absolute error of saying the truth's mean of every row. */
  maeOfMean: number;
  byElements: Record<string, Errors>;
  calibration: Calibration;
  /** Share of the errors within one, two and three uncertainties; a normal distribution has 0.683, 0.954, 0.997. */
  within: readonly [number, number, number];
  /** Rows by rising uncertainty, in tenths: the mean claimed, and what 68.27 % of the errors stay below. */
  bins: readonly (Errors & { uncertainty: number; observed: number })[];
}

const bins = 10;

/** Errors, coverage and tenths; NaN for what rows that are all alike, or none, cannot say. */
export function propertyReport(target: string, judged: Judged, calibration: Calibration): PropertyReport {
  const { values, spreads, truth, elements } = judged;
  const rows = truth.length;
  const errors = Float64Array.from({ length: rows }, (_, i) => Math.abs(values[i] - truth[i]));
  const claimed = Float64Array.from({ length: rows }, (_, i) => uncertainty(spreads[i], calibration));
  const mean = (list: ArrayLike<number>, of: (v: number, i: number) => number = (v) => v): number => {
    let sum = 0;
    for (let i = 0; i < list.length; i++) sum += of(list[i], i);
    return sum / list.length;
  };
  const middle = mean(truth);
  const squares = mean(errors, (e) => e * e);
  const byElements: Record<string, Errors> = {};
  for (let n = 1; n <= 85; n++) {
    const some = errors.filter((_, i) => elements[i] === n);
    if (some.length > 0) byElements[n] = { rows: some.length, mae: mean(some) };
  }
  const order = Array.from(claimed.keys()).sort((a, b) => claimed[a] - claimed[b]);
  const tenths = Array.from({ length: Math.min(bins, rows) }, (_, k, many = Math.min(bins, rows)) => {
    const some = order.slice(Math.floor((k * rows) / many), Math.floor(((k + 1) * rows) / many));
    const sorted = Float64Array.from(some, (i) => errors[i]).sort();
    return {
      rows: some.length,
      uncertainty: mean(some, (i) => claimed[i]),
      observed: sorted[Math.min(sorted.length - 1, Math.floor(coverage * sorted.length))],
      mae: mean(sorted),
    };
  });
  const within = (times: number): number => mean(errors, (e, i) => (e <= times * claimed[i] ? 1 : 0));
  return {
    target,
    rows,
    mae: mean(errors),
    rmse: Math.sqrt(squares),
    r2: 1 - squares / mean(truth, (v) => (v - middle) ** 2),
    maeOfMean: mean(truth, (v) => Math.abs(v - middle)),
    byElements,
    calibration,
    within: [within(1), within(2), within(3)],
    bins: tenths,
  };
}

/** The charts of a report, by the name of their files. */
export function propertyCharts(report: PropertyReport, { values, truth }: Judged): Record<string, Chart> {
  const { bins, target, mae, rows } = report;
  const about = `${target}, ${rows} rows, mean absolute error ${mae.toFixed(4)}`;
  const top = bins.at(-1)?.uncertainty ?? 1;
  return {
    parity: drawPoints({
      title: html`Predictions and truth <span>${about}</span>`,
      xLabel: 'truth',
      yLabel: 'prediction',
      points: Array.from(values, (value, i) => [truth[i], value] as const),
    }),
    calibration: drawLines({
      title: html`Uncertainty claimed, and what 68 % of the errors stay below <span>tenths of ${rows} rows</span>`,
      xLabel: 'uncertainty claimed',
      series: [
        { name: 'observed', points: bins.map(({ uncertainty, observed }) => [uncertainty, observed] as const) },
        {
          name: 'ideal',
          points: [
            [bins[0]?.uncertainty ?? 0, bins[0]?.uncertainty ?? 0],
            [top, top],
          ],
        },
      ],
    }),
  };
}
