/** How good a property model's predictions are, and how honest their uncertainties. */
import { type Calibration, coverage, quantile } from '../models/calibration.ts';
import { type Chart, drawLines, drawPoints } from './chart.ts';
import { html } from './html.ts';

/** Predictions beside the truth, row by row. */
export interface Judged {
  values: ArrayLike<number>;
  /** What the model says that 68.27 % of the errors stay below, where it says so. */
  uncertainties?: ArrayLike<number>;
  truth: ArrayLike<number>;
  /** Number of elements of each formula, where rows are formulas. */
  elements?: ArrayLike<number>;
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
  byElements?: Record<string, Errors>;
  /** How an elemnet's uncertainties follow from its members' spread. */
  calibration?: Calibration;
  /** Where there are uncertainties: share of the errors within one, two and three; a normal distribution has 0.683, 0.954, 0.997. */
  within?: readonly [number, number, number];
  /** And rows by rising uncertainty, in tenths: the mean claimed, and what 68.27 % of the errors stay below. */
  bins?: readonly (Errors & { uncertainty: number; observed: number })[];
}

const bins = 10;

/** Errors, coverage and tenths; NaN for what rows that are all alike, or none, cannot say. */
export function propertyReport(target: string, judged: Judged, calibration?: Calibration): PropertyReport {
  const { values, uncertainties, truth, elements } = judged;
  const rows = truth.length;
  const errors = Float64Array.from({ length: rows }, (_, i) => Math.abs(values[i] - truth[i]));
  const mean = (list: ArrayLike<number>, of: (v: number, i: number) => number = (v) => v): number => {
    let sum = 0;
    for (let i = 0; i < list.length; i++) sum += of(list[i], i);
    return sum / list.length;
  };
  const middle = mean(truth);
  const squares = mean(errors, (e) => e * e);
  const numbersOf = (list: ArrayLike<number>): Record<string, Errors> => {
    const found: Record<string, Errors> = {};
    for (let n = 1; n <= 85; n++) {
      const some = errors.filter((_, i) => list[i] === n);
      if (some.length > 0) found[n] = { rows: some.length, mae: mean(some) };
    }
    return found;
  };
  const honesty = (claimed: ArrayLike<number>): Pick<PropertyReport, 'within' | 'bins'> => {
    const order = Array.from(errors.keys()).sort((a, b) => claimed[a] - claimed[b]);
    const many = Math.min(bins, rows);
    const tenths = Array.from({ length: many }, (_, k) => {
      const some = order.slice(Math.floor((k * rows) / many), Math.floor(((k + 1) * rows) / many));
      const sorted = Float64Array.from(some, (i) => errors[i]).sort();
      const uncertainty = mean(some, (i) => claimed[i]);
      return { rows: some.length, uncertainty, observed: quantile(sorted, coverage), mae: mean(sorted) };
    });
    const within = (times: number): number => mean(errors, (e, i) => (e <= times * claimed[i] ? 1 : 0));
    return { within: [within(1), within(2), within(3)], bins: tenths };
  };
  return {
    target,
    rows,
    mae: mean(errors),
    rmse: Math.sqrt(squares),
    r2: 1 - squares / mean(truth, (v) => (v - middle) ** 2),
    maeOfMean: mean(truth, (v) => Math.abs(v - middle)),
    ...(elements && { byElements: numbersOf(elements) }),
    ...(calibration && { calibration }),
    ...(uncertainties && honesty(uncertainties)),
  };
}

/** The charts of a report, by the name of their files. */
export function propertyCharts(report: PropertyReport, { values, truth }: Judged): Record<string, Chart> {
  const { bins, target, mae, rows } = report;
  const about = `${target}, ${rows} rows, mean absolute error ${mae.toFixed(4)}`;
  const ends = bins && [bins[0], bins[bins.length - 1]].map((bin) => bin?.uncertainty ?? 0);
  return {
    parity: drawPoints({
      title: html`Predictions and truth <span>${about}</span>`,
      xLabel: 'truth',
      yLabel: 'prediction',
      points: Array.from(values, (value, i) => [truth[i], value] as const),
    }),
    ...(bins &&
      ends && {
        calibration: drawLines({
          title: html`Uncertainty claimed, and what 68 % of the errors stay below <span>tenths of ${rows} rows</span>`,
          xLabel: 'uncertainty claimed',
          series: [
            { name: 'observed', points: bins.map(({ uncertainty, observed }) => [uncertainty, observed] as const) },
            { name: 'ideal', points: ends.map((end) => [end, end] as const) },
          ],
        }),
      }),
  };
}
