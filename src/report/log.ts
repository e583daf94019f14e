/** Logs of runs, and how their figures went. */
import { readFileSync, statSync } from 'node:fs';
import { DataError } from '../errors.ts';
import { type Chart, drawLines, figure, lineChart } from './chart.ts';
import { type Content, html, htmlTable, type Markup, page } from './html.ts';
import { type Curve, sampleCurves } from './progress.ts';

/** A line of a run's log.jsonl: `step`, `seconds`, and whatever was measured. */
export type LossLine = Readonly<Record<string, number>>;

/** A million lines. */
const longestLog = 200_000_000;

/**
 * Reads a log.jsonl; a last line that was cut short is left out.
 * @throws DataError where the file cannot be read or holds no line of a log.
 */
export function readLog(file: string): LossLine[] {
  let text: string;
  try {
    // Asked before it is opened: a pipe would wait, a device never end.
    const found = statSync(file);
    if (!found.isFile()) throw new Error('it is no plain file');
    if (found.size > longestLog) throw new Error(`${found.size} bytes are too many for a log`);
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new DataError(`${file}: cannot be read (${(cause as Error).message}); name the log of a run`, { cause });
  }
  const lines: LossLine[] = [];
  const rows = text.split('\n').filter((row) => row.trim() !== '');
  rows.forEach((row, i) => {
    try {
      const line = JSON.parse(row);
      if (typeof line !== 'object' || line === null || typeof line.step !== 'number') throw new Error('it has no step');
      const odd = Object.keys(line).find((key) => line[key] !== null && typeof line[key] !== 'number');
      if (odd !== undefined) throw new Error(`${JSON.stringify(odd)} is no number`);
      lines.push(line);
    } catch (cause) {
      if (i === rows.length - 1 && lines.length > 0) return;
      throw new DataError(`${file}: line ${i + 1} is no line of a log (${(cause as Error).message})`, { cause });
    }
  });
  if (lines.length === 0) throw new DataError(`${file}: holds no line; train first`);
  return lines;
}

/** What the fields of a log mean, in the order in which they are drawn; fields of one entry share a chart. */
const knownCurves: readonly Curve[] = [
  { fields: { lossCritic: 'critic' }, title: 'Critic: E[f(fake)] − E[f(real)]' },
  { fields: { lossGenerator: 'generator' }, title: 'Generator: −E[f(fake)]' },
  { fields: { gradientPenalty: 'penalty' }, title: 'Gradient penalty: E[(slope − 1)²]' },
  { fields: { loss: 'training', lossLeaveOut: 'left out' }, title: 'Dice loss' },
  { fields: { exactLeaveOut: 'left out' }, title: 'Left-out formulas decoded exactly', percent: true },
  ...sampleCurves,
];

const duration = (seconds: number): string =>
  seconds < 90
    ? `${seconds.toFixed(0)} s`
    : seconds < 5400
      ? `${(seconds / 60).toFixed(1)} min`
      : `${(seconds / 3600).toFixed(1)} h`;

/** Charts of every figure in a log. */
export function lossSection(title: string, lines: readonly LossLine[]): Markup {
  const own = new Set(['step', 'seconds']);
  const fields = [...new Set(lines.flatMap(Object.keys))].filter(
    (field) => !own.has(field) && lines.some((line) => Number.isFinite(line[field])),
  );
  const known = knownCurves.filter((curve) => fields.some((field) => field in curve.fields));
  const others = fields.filter((field) => !knownCurves.some((curve) => field in curve.fields));
  const curves = [...known, ...others.map((field) => ({ fields: { [field]: field }, title: field, percent: false }))];
  const last = lines[lines.length - 1];
  return html`<h2>${title}</h2>
<p class="note">${last.step.toLocaleString('en')} steps${Number.isFinite(last.seconds) && ` in ${duration(last.seconds)}`}. Pale: as measured; strong: running mean.</p>
<div class="charts">${curves.map((curve) =>
    lineChart({
      title: curve.title,
      xLabel: 'step',
      ...(curve.percent ? { format: (v) => `${Math.round(100 * v)} %`, range: [0, 1] as const } : {}),
      series: Object.entries(curve.fields)
        .filter(([field]) => fields.includes(field))
        .map(([field, name]) => ({
          name,
          points: lines.filter((line) => field in line).map((line) => [line.step, line[field]] as const),
        })),
    }),
  )}</div>`;
}

/** A page with nothing but loss curves: for a run that has generated nothing yet. */
export function lossPage(losses: Readonly<Record<string, readonly LossLine[]>>, title = 'MatGAN training'): string {
  return page(title, html`<h1>${title}</h1>${Object.entries(losses).map(([name, lines]) => lossSection(name, lines))}`);
}

/** A run among others. */
export interface NamedLog {
  readonly name: string;
  readonly lines: readonly LossLine[];
}

/** Learning curves of several runs: a chart for each known figure that any of them logged, by the figure's field, over `seconds` or `step`. */
export function learningCurves(runs: readonly NamedLog[], over: 'seconds' | 'step'): Record<string, Chart> {
  const charts: Record<string, Chart> = {};
  for (const { fields, title, percent } of knownCurves) {
    for (const [field, name] of Object.entries(fields)) {
      const series = runs
        .map((run) => ({
          name: run.name,
          points: run.lines.flatMap((line) =>
            Number.isFinite(line[field]) && Number.isFinite(line[over]) ? [[line[over], line[field]] as const] : [],
          ),
        }))
        .filter(({ points }) => points.length > 0);
      if (series.length === 0) continue;
      charts[field] = drawLines({
        title: Object.keys(fields).length > 1 ? html`${title} <span>${name}</span>` : title,
        xLabel: over === 'seconds' ? 'seconds of training' : 'step',
        ...(percent ? { format: (v) => `${Math.round(100 * v)} %` } : {}),
        series,
      });
    }
  }
  return charts;
}

/** A page of learning curves, and a table of what each run logged last. */
export function learningPage(
  runs: readonly NamedLog[],
  charts: Readonly<Record<string, Chart>>,
  title = 'MatGAN runs compared',
): string {
  const last = (lines: readonly LossLine[], field: string): Content => {
    const line = lines.findLast((entry) => Number.isFinite(entry[field]));
    return line ? Number(line[field].toPrecision(4)).toLocaleString('en') : '–';
  };
  const fields = ['step', 'seconds', ...Object.keys(charts)];
  return page(
    title,
    html`<h1>${title}</h1><p class="lead">What each logged last; the fields are explained in docs/training.md.</p>
${htmlTable(
  ['', ...runs.map(({ name }) => name)],
  fields.map((field) => [field, ...runs.map(({ lines }) => last(lines, field))]),
)}
<div class="charts">${Object.values(charts).map(figure)}</div>`,
  );
}
