import type { CurvePoint, EvaluationResult } from '../chem/metrics.ts';
import { type Chart, drawBars, drawLines, type Series } from './chart.ts';
import { html } from './html.ts';

/** The charts of an evaluation, by the name of their files. */

/** Fewer samples than this make a rate uncertain by several points. */
export const fewSamples = 30;
const percentAxis = (v: number): string => `${Number((100 * v).toPrecision(2))} %`;

/** A figure of a curve over the number of samples. */
export const along = (
  name: string,
  curve: readonly CurvePoint[],
  value: (point: CurvePoint) => number | null,
): Series => ({
  name,
  points: curve.flatMap((point) => {
    const y = value(point);
    return y === null ? [] : [[point.samples, y] as const];
  }),
});

/** Lines over the number of samples, from 0 to the greatest value. */
export function curveChart(title: string, about: string, series: readonly Series[], most?: number): Chart {
  const top = most ?? Math.max(1e-3, ...series.flatMap(({ points }) => points.map(([, y]) => y))) * 1.08;
  return drawLines({
    title: html`${title} <span>${about}</span>`,
    xLabel: 'samples',
    logarithmic: true,
    range: [0, top],
    format: percentAxis,
    series,
  });
}

const distances = (v: number): string => v.toFixed(2);

export function evaluationFigures(result: EvaluationResult): Record<string, Chart> {
  const { baselines, curve, nearest, totalVariation } = result;
  const { frequency, independent } = baselines;
  const sizes = Object.entries(result.byElementCount);
  const trainingRows = sizes.reduce((total, [, { training }]) => total + training.count, 0);
  const validity = (kind: 'chargeNeutral' | 'electronegativityBalanced', title: string): Chart =>
    drawBars({
      title: html`${title} <span>share of formulas</span>`,
      xLabel: 'elements',
      top: 1,
      series: ['generated', 'training', 'frequencies', 'independent', 'enumeration'],
      groups: sizes.map(([n, row]) => ({
        label: n,
        below: row.generated.count.toLocaleString('en'),
        faint: row.generated.count < fewSamples,
        values: [
          row.generated[kind],
          row.training[kind],
          row.frequency[kind],
          row.independent[kind],
          row.enumeration?.[kind] ?? null,
        ],
      })),
    });
  const leaveOut = result.recoveredLeaveOut !== null;
  const set = leaveOut ? 'left-out' : 'training';
  const recovered = (point: CurvePoint): number | null =>
    leaveOut ? point.recoveredLeaveOut : point.recoveredTraining;
  const bySize = sizes.filter(([, row]) => (leaveOut ? row.recoveredLeaveOut : row.recoveredTraining) !== null);

  const charts: Record<string, Chart> = {
    'charge-neutral': validity('chargeNeutral', 'Charge-neutral'),
    'electronegativity-balanced': validity('electronegativityBalanced', 'Electronegativity-balanced'),
    'element-count': drawBars({
      title: html`Number of elements <span>share of formulas; total variation ${totalVariation.elementCount.toFixed(2)}</span>`,
      xLabel: 'elements',
      series: ['generated', 'training'],
      groups: sizes.map(([n, { generated, training }]) => ({
        label: n,
        values: [generated.count / result.generated, training.count / trainingRows],
      })),
    }),
    'recovery-by-size': drawBars({
      title: html`Formulas found again <span>share of the ${set} set</span>`,
      xLabel: 'elements',
      series: ['generated', 'frequencies'],
      groups: bySize.map(([n, row]) => ({
        label: n,
        values: leaveOut
          ? [row.recoveredLeaveOut, row.frequencyRecoveredLeaveOut]
          : [row.recoveredTraining, row.frequencyRecoveredTraining],
      })),
    }),
    uniqueness: curveChart(
      'Different formulas',
      'share of the samples',
      [
        along('generated', curve, (p) => p.uniqueness),
        along('frequencies', frequency.curve, (p) => p.uniqueness),
        along('independent', independent.curve, (p) => p.uniqueness),
      ],
      1,
    ),
    recovery: curveChart('Recovery', `share of the ${set} set`, [
      along('generated', curve, recovered),
      along('frequencies', frequency.curve, recovered),
      along('independent', independent.curve, recovered),
    ]),
    'recovery-by-size-curve': curveChart(
      'Recovery by number of elements',
      `share of the ${set} set`,
      ['2', '3', '4'].flatMap((n) => {
        const at = (p: CurvePoint): number | null => {
          const row = p.byElementCount[n];
          return row ? (leaveOut ? row.recoveredLeaveOut : row.recoveredTraining) : null;
        };
        return [along(n, curve, at), along(`${n}, frequencies`, frequency.curve, at)];
      }),
    ),
    'valid-unique-new': curveChart('Balanced, different and new', 'share of the samples', [
      along('generated', curve, (p) => p.validUniqueNew / p.samples),
      along('frequencies', frequency.curve, (p) => p.validUniqueNew / p.samples),
      along('independent', independent.curve, (p) => p.validUniqueNew / p.samples),
    ]),
    novelty: curveChart(
      'New formulas',
      'share of the different ones',
      [along('generated', curve, (p) => p.novelty), along('frequencies', frequency.curve, (p) => p.novelty)],
      1,
    ),
    distances: drawLines({
      title: html`Distance to training <span>total variation</span>`,
      xLabel: 'samples',
      logarithmic: true,
      range: [0, 1],
      format: distances,
      series: [
        along('number of elements', curve, (p) => p.totalVariation.elementCount),
        along('elements', curve, (p) => p.totalVariation.elements),
        along('pairs of elements', curve, (p) => p.totalVariation.pairs),
        along('stoichiometries', curve, (p) => p.totalVariation.stoichiometries),
      ],
    }),
    elements: drawBars({
      title: html`Elements that differ most <span>share of all elements in formulas</span>`,
      xLabel: '',
      format: (v) => `${Number((100 * v).toPrecision(2))} %`,
      series: ['generated', 'training'],
      groups: [...result.distributions.elements]
        .sort((a, b) => Math.abs(b.generated - b.training) - Math.abs(a.generated - a.training))
        .slice(0, 12)
        .map(({ name, generated, training }) => ({ label: name, values: [generated, training] })),
    }),
    stoichiometries: drawBars({
      title: html`Most frequent stoichiometries <span>share of formulas</span>`,
      xLabel: '',
      format: (v) => `${Number((100 * v).toPrecision(2))} %`,
      series: ['generated', 'training'],
      groups: result.distributions.stoichiometries
        .slice(0, 10)
        .map(({ name, generated, training }) => ({ label: name, values: [generated, training] })),
    }),
  };
  const spread = [
    ['new', nearest.novel],
    ['left out', nearest.leaveOut],
    ['new, frequencies', nearest.frequency],
  ] as const;
  if (nearest.novel) {
    charts.nearest = drawLines({
      title: html`Nearest training formula <span>share of formulas</span>`,
      xLabel: 'share of atoms exchanged',
      range: [0, Math.max(...spread.flatMap(([, summary]) => summary?.histogram ?? [])) * 1.08],
      format: percentAxis,
      series: spread.flatMap(([name, summary]) =>
        summary ? [{ name, points: summary.histogram.map((share, i) => [(i + 0.5) / 20, share] as const) }] : [],
      ),
    });
  }
  return charts;
}
