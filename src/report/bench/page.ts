/** Results of `matgan bench` as a page: a roofline and tables that sort, without a network. */
import { short } from '../chart.ts';
import { type Content, html, htmlTable, type Markup, page, sortScript } from '../html.ts';
import { percent } from '../table.ts';
import type { Comparison } from './compare.ts';
import type { BenchReport, BenchRow } from './results.ts';

const width = 1040;
const height = 460;
const margin = { left: 64, right: 20, top: 16, bottom: 44 };
const fixed = (v: number): string => v.toFixed(1);

const groups = ['kernels of the presets', 'sweeps', 'steps', 'generating', 'your own'] as const;
function groupOf({ name, of }: BenchRow): number {
  if (name.startsWith('step ')) return 2;
  if (name.startsWith('generate ')) return 3;
  if (of.includes('own')) return 4;
  return of.length === 1 && of[0] === 'sweep' ? 1 : 0;
}
const colour = (group: number): string => `var(--s${group})`;

/** Whole powers of ten from below the least to above the greatest. */
function decades(values: readonly number[]): number[] {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
}

const text = (v: number): string => (v >= 1e-3 && v < 1e4 ? String(Number(v.toPrecision(3))) : v.toExponential(0));

/**
 * GFLOP/s over FLOP a byte, both logarithmic: under the copy ceiling's slope on the left and the FMA ceiling on the right,
 * with a dot a row. Rows that compute nothing (copies, random integers) have no place in it.
 */
export function roofline({ rows, ceilings }: Pick<BenchReport, 'rows' | 'ceilings'>): Markup {
  const points = rows.filter(({ flops, bytes }) => flops > 0 && bytes > 0);
  const { fmaGflops, copyGbps } = ceilings;
  const ridge = fmaGflops / copyGbps;
  const xs = decades([ridge / 10, ridge * 10, ...points.map(({ flops, bytes }) => flops / bytes)]);
  const ys = decades([fmaGflops * 1.5, fmaGflops / 100, ...points.map(({ gflops }) => gflops)]);
  const scale = (marks: readonly number[], from: number, to: number) => {
    const [low, high] = [Math.log10(marks[0]), Math.log10(marks[marks.length - 1])];
    return (v: number): number => from + ((Math.log10(v) - low) / (high - low)) * (to - from);
  };
  const x = scale(xs, margin.left, width - margin.right);
  const y = scale(ys, height - margin.bottom, margin.top);
  const [left, right] = [xs[0], xs[xs.length - 1]];
  // The slope enters from the left, or from below where the picture begins above it.
  const from = Math.max(left, ys[0] / copyGbps);
  const roof = `M${fixed(x(from))} ${fixed(y(from * copyGbps))}L${fixed(x(ridge))} ${fixed(y(fmaGflops))}H${fixed(x(right))}`;
  const used = groups.map((_, g) => g).filter((g) => points.some((row) => groupOf(row) === g));
  return html`<figure><figcaption>Roofline <span>a dot a row; point at one for its name</span></figcaption>
<div class="legend">${used.map((g) => html`<span><i style="background:${colour(g)}"></i>${groups[g]}</span>`)}</div>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="GFLOP/s over FLOP a byte, with the measured ceilings">
${ys.map(
  (
    v,
  ) => html`<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${fixed(y(v))}" y2="${fixed(y(v))}"/>
<text x="${margin.left - 8}" y="${fixed(y(v) + 4)}" text-anchor="end">${text(v)}</text>`,
)}
${xs.map(
  (
    v,
  ) => html`<line class="grid" x1="${fixed(x(v))}" x2="${fixed(x(v))}" y1="${margin.top}" y2="${height - margin.bottom}"/>
<text x="${fixed(x(v))}" y="${height - margin.bottom + 18}" text-anchor="middle">${text(v)}</text>`,
)}
<text x="${(margin.left + width) / 2}" y="${height - 6}" text-anchor="middle">FLOP a byte</text>
<text x="16" y="${height / 2}" text-anchor="middle" transform="rotate(-90 16 ${height / 2})">GFLOP/s</text>
<path class="axis" d="${roof}" fill="none" stroke-width="2"/>
<text class="strong" x="${width - margin.right - 4}" y="${fixed(y(fmaGflops) - 6)}" text-anchor="end">FMA ${fmaGflops.toFixed(1)} GFLOP/s</text>
<text class="strong" x="${fixed(x(from) + 8)}" y="${fixed(Math.max(margin.top + 12, y(from * copyGbps) - 24))}">copy ${copyGbps.toFixed(1)} GB/s</text>
${points.map(
  (row) =>
    html`<circle cx="${fixed(x(row.flops / row.bytes))}" cy="${fixed(y(row.gflops))}" r="4" fill="${colour(groupOf(row))}" fill-opacity="0.75"><title>${row.name}: ${short(row.medianMs)} ms, ${short(row.gflops)} GFLOP/s (${percent(row.fmaShare)}), ${short(row.gbps)} GB/s (${percent(row.copyShare)})</title></circle>`,
)}
</svg></figure>`;
}

const milliseconds = (ms: number | null): string => (ms === null ? '' : ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3));
const nothing = (v: number, digits: number): string => (v === 0 ? '' : v >= 10 ? v.toFixed(1) : v.toFixed(digits));

const head = [
  'case',
  'median ms',
  '± ms',
  'least ms',
  'samples',
  'device ms',
  'GFLOP/s',
  'of FMA',
  'GB/s',
  'of copy',
  'dispatches',
  'submits',
  'MB moved',
  'MB least',
  'peak MB',
  'error',
];
const megabytes = (bytes: number): string => (bytes / 1e6).toPrecision(3);

function rowTable(rows: readonly BenchRow[]): Markup {
  return htmlTable(
    head,
    rows.map((row) => [
      [
        row.name,
        row.variant && html` <b>${row.variant}</b>`,
        row.perSecond !== undefined &&
          html`<br><small>${short(row.perSecond)} formulas a second${row.best && ', the best batch'}</small>`,
      ],
      milliseconds(row.medianMs),
      milliseconds(row.spreadMs),
      milliseconds(row.minMs),
      row.samples,
      milliseconds(row.deviceMs),
      nothing(row.gflops, 2),
      row.flops ? percent(row.fmaShare) : '',
      nothing(row.gbps, 2),
      percent(row.copyShare),
      row.dispatches,
      row.submits,
      megabytes(row.bytes),
      megabytes(row.leastBytes),
      megabytes(row.memory),
      row.error === null ? row.check : row.error.toExponential(0),
    ]),
  );
}

/** A table of a comparison. */
function comparisonTable({ rows, warning, missing, added }: Comparison): Content {
  return html`<h2>Compared</h2>
${warning && html`<p><strong>${warning}</strong></p>`}
<p class="note">Ratios of medians, above 1 is slower. The interval is quartile over quartile; normalised is the ratio at equal ceilings.</p>
${htmlTable(
  ['case', 'before ms', 'now ms', 'ratio', 'from', 'to', 'normalised', ''],
  rows.map(({ name, variant, baseMs, newMs, ratio, interval: [low, high], normalised, verdict }) => [
    variant ? `${name} (${variant})` : name,
    milliseconds(baseMs),
    milliseconds(newMs),
    ratio.toFixed(2),
    low.toFixed(2),
    high.toFixed(2),
    normalised?.toFixed(2),
    verdict === 'same' ? '' : verdict,
  ]),
)}
${missing.length > 0 && html`<p class="note">Missing here: ${missing.join('; ')}</p>`}
${added.length > 0 && html`<p class="note">New here: ${added.join('; ')}</p>`}`;
}

/** The whole page, as text. */
export function benchPage(report: BenchReport, comparison?: Comparison): string {
  const { adapter, date, commit, node, webgpu, command, ceilings, rows, leftOut } = report;
  const tile = (label: string, value: string, beside: string): Markup =>
    html`<div class="tile"><div class="label">${label}</div><div class="value">${value}</div><div class="beside">${beside}</div></div>`;
  return page(
    `matgan bench: ${adapter}`,
    html`<h1>matgan bench</h1>
<p class="lead">${adapter}, ${date.slice(0, 10)}${commit && `, commit ${commit}`}, Node ${node}${webgpu && `, webgpu ${webgpu}`}<br><code>${command}</code></p>
<div class="tiles">
${tile('FMA', ceilings.fmaGflops.toFixed(1), 'GFLOP/s, f32')}
${tile('copy', ceilings.copyGbps.toFixed(1), 'GB/s, read and written')}
${tile('dispatch', ceilings.dispatchMicroseconds.toFixed(1), 'µs')}
${tile('submit and wait', ceilings.submitMilliseconds.toFixed(2), 'ms')}
</div>
${roofline(report)}
${comparison && comparisonTable(comparison)}
${groups.map((name, g) => {
  const group = rows.filter((row) => groupOf(row) === g);
  return group.length > 0 && html`<h2>${name[0].toUpperCase() + name.slice(1)}</h2>${rowTable(group)}`;
})}
${
  leftOut.length > 0 &&
  html`<h2>Left out</h2>${htmlTable(
    ['case', 'why'],
    leftOut.map(({ name, reason }) => [name, reason]),
    2,
  )}`
}
<p class="note">± is the distance of the quartiles. Device ms is the sum of the dispatches by the device’s timestamps, measured with a pass a
dispatch. MB moved is what the dispatches have to move, each by itself; MB least is what one dispatch an op would. Every kernel was held
against the f64 reference before it was timed: error is ‖gpu − reference‖/‖reference‖. Click a head to sort.</p>`,
    sortScript,
  );
}
