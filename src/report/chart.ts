/**
 * Charts as SVG: no DOM, no scripts. Inside a page colours are the page's variables, so they follow light and dark; in a file of
 * its own (`chartFile`) they are resolved, with title and legend inside.
 */
import { type Content, html, Markup } from './html.ts';

const width = 520;
const height = 270;
const margin = { left: 56, right: 20, top: 10, bottom: 40 };
const innerWidth = width - margin.left - margin.right;
const innerHeight = height - margin.top - margin.bottom;
/** Colours that the page has for series. */
export const colours = 8;

const colour = (i: number): string => `var(--s${i % colours})`;
const fixed = (v: number): string => v.toFixed(1);

/** About `count` round numbers that span [low, high]. */
export function ticks(low: number, high: number, count: number): number[] {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999)!;
  const result: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k <= high / step + 1e-9; k++) result.push(k * step);
  return result;
}

/** Short text of a number: 12k, 1.5M, 0.25. */
export function short(v: number): string {
  const size = Math.abs(v);
  if (size >= 999_500) return `${Number((v / 1e6).toPrecision(3))}M`;
  if (size >= 1000) return `${Number((v / 1e3).toPrecision(3))}k`;
  if (size > 0 && size < 1e-3) return v.toExponential(0);
  return String(Number(v.toPrecision(3)));
}

const legend = (names: readonly string[]): Content =>
  names.length > 1 &&
  html`<div class="legend">${names.map(
    (name, i) => html`<span><i style="background:${colour(i)}"></i>${name}</span>`,
  )}</div>`;

/** A chart that is drawn, whatever it is put into. */
export interface Chart {
  readonly caption: Content;
  /** Names of its series, in the order of the colours. */
  readonly names: readonly string[];
  readonly label: string;
  readonly inside: Content;
}

/** A chart in a page. */
export function figure({ caption, names, label, inside }: Chart): Markup {
  return html`<figure><figcaption>${caption}</figcaption>${legend(names)}
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">${inside}</svg></figure>`;
}

/** The light colours of the page. */
const resolved: Readonly<Record<string, string>> = {
  '--s0': '#0b7a75',
  '--s1': '#6b7680',
  '--s2': '#c9a227',
  '--s3': '#b8c1c7',
  '--s4': '#a4478f',
  '--s5': '#3a6ea5',
  '--s6': '#b3452c',
  '--s7': '#5a4a9c',
};
/** The family of the font that `chartPng` brings along. */
export const fontFamily = 'DejaVu Sans';
/** Width of a letter of 12 pixels, about. */
const letter = 7.2;
/** And of one of 14. */
const titleLetter = 8;

/** A chart as a file of SVG that needs nothing else: XML, colours and fonts named, title and legend inside. */
export function chartFile({ caption, names, label, inside }: Chart): string {
  const [head, ...rest] = html`${caption}`.text.split(/\s*<span>/).map((part) => part.replace(/<[^>]*>/g, '').trim());
  const whole = [head, ...rest].join(': ');
  // What does not fit goes below, smaller.
  const fits = rest.length === 0 || whole.length * titleLetter < width - 24;
  const lines = fits ? [whole] : [head, rest.join(': ')];
  let [x, y] = [0, 26 + 18 * lines.length];
  const entries = names.length > 1 ? names : [];
  const places = entries.map((name) => {
    const wide = 18 + letter * name.length + 14;
    if (x > 0 && x + wide > width - 20) [x, y] = [0, y + 18];
    const place = { x: x + 12, y };
    x += wide;
    return place;
  });
  const top = entries.length > 0 ? y + 12 : 14 + 18 * lines.length;
  const marks = entries.map(
    (name, i) =>
      html`<rect x="${places[i].x}" y="${places[i].y - 10}" width="12" height="12" rx="3" fill="${colour(i)}"/><text x="${places[i].x + 18}" y="${places[i].y}">${name}</text>`,
  );
  const { text } =
    html`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + top}" viewBox="0 0 ${width} ${height + top}" font-family="${fontFamily}, Verdana, sans-serif" font-size="12" role="img" aria-label="${label}">
<style>text { fill: #5d6a70 } .strong { fill: #1d2529 } .grid { stroke: #e2e0d8 } .axis { stroke: #5d6a70 }</style>
<rect width="${width}" height="${height + top}" fill="#ffffff"/>
${lines.map((line, i) => html`<text class="strong" x="12" y="${22 + 18 * i}" font-size="${14 - 2 * i}">${new Markup(line)}</text>`)}
${marks}
<g transform="translate(0 ${top})">${inside}</g>
</svg>
`;
  return text.replace(/var\((--s\d)\)/g, (_, name: string) => resolved[name]);
}

/** Horizontal lines with their numbers. */
const valueAxis = (marks: readonly number[], y: (v: number) => number, text: (v: number) => string): Content =>
  marks.map(
    (
      v,
    ) => html`<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${fixed(y(v))}" y2="${fixed(y(v))}"/>
<text x="${margin.left - 8}" y="${fixed(y(v) + 4)}" text-anchor="end">${text(v)}</text>`,
  );

export interface Series {
  name: string;
  /** In order of x. */
  points: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  title: Content;
  xLabel: string;
  series: readonly Series[];
  /** Text of a value on the axis. */
  format?: (v: number) => string;
  /** Limits of the value axis, where they are given by the thing itself. */
  range?: readonly [number, number];
  /** Powers of ten are equally far apart; values of x that are not positive are left out. */
  logarithmic?: boolean;
}

/** Mean of neighbouring values, `reach` to each side. */
function smooth(points: Series['points'], reach: number): [number, number][] {
  return points.map(([x], i) => {
    const near = points.slice(Math.max(0, i - reach), i + reach + 1);
    return [x, near.reduce((total, [, y]) => total + y, 0) / near.length];
  });
}

/** At most `most` points: the means of runs. */
function thin(points: Series['points'], most: number): Series['points'] {
  const run = Math.ceil(points.length / most);
  if (run === 1) return points;
  return Array.from({ length: Math.ceil(points.length / run) }, (_, i) => {
    const part = points.slice(i * run, (i + 1) * run);
    const mean = (k: 0 | 1): number => part.reduce((total, p) => total + p[k], 0) / part.length;
    return [mean(0), mean(1)] as const;
  });
}

/**
 * Lines over a common axis. Values that are no numbers are left out; a rare spike (the first penalties of a GAN) leaves
 * the picture at its edge instead of flattening the rest. Noisy series are drawn pale, with their running mean on top.
 */
export const lineChart = (chart: LineChart): Markup => figure(drawLines(chart));

/** `lineChart`, not yet in a page. */
export function drawLines({ title, xLabel, series, format = short, range, logarithmic = false }: LineChart): Chart {
  const scale = (v: number): number => (logarithmic ? Math.log10(v) : v);
  const clean = series.map(({ name, points }) => ({
    name,
    points: thin(
      points.filter(([x, y]) => Number.isFinite(scale(x)) && Number.isFinite(y)),
      600,
    ),
  }));
  const all = clean.flatMap(({ points }) => points);
  const names = series.map(({ name }) => name);
  const label = `${names.join(', ')} over ${xLabel}`;
  if (all.length === 0) {
    const nothing = html`<text x="${width / 2}" y="${height / 2}" text-anchor="middle">no values</text>`;
    return { caption: title, names, label, inside: nothing };
  }
  const values = all.map(([, y]) => y).sort((a, b) => a - b);
  const at = (share: number): number => values[Math.round(share * (values.length - 1))];
  // Six times the width of the middle 80 % leaves every steady curve whole, and a spike outside.
  const reach = 6 * (at(0.9) - at(0.1));
  const usual = [Math.max(at(0.01), at(0.5) - reach), Math.min(at(0.99), at(0.5) + reach)];
  let [low, high] = range ?? (reach > 0 ? usual : [at(0), at(1)]);
  const pad = range ? 0 : (high - low || Math.abs(high) || 1) * 0.08;
  [low, high] = [low - pad, high + pad];
  const xs = all.map(([x]) => scale(x));
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const x = (v: number): number => margin.left + ((scale(v) - first) / (last - first || 1)) * innerWidth;
  const marks = logarithmic
    ? ticks(Math.ceil(first - 1e-9), Math.floor(last + 1e-9), 8)
        .filter(Number.isInteger)
        .map((power) => 10 ** power)
    : ticks(first, last, 5);
  const y = (v: number): number => margin.top + (1 - (v - low) / (high - low)) * innerHeight;
  // Far outside the clip a coordinate only needs to be outside.
  const place = (v: number): number => Math.min(3 * height, Math.max(-2 * height, y(v)));
  const path = (points: Series['points']): string =>
    points.map(([px, py], i) => `${i ? 'L' : 'M'}${fixed(x(px))} ${fixed(place(py))}`).join('');
  return {
    caption: title,
    names,
    label,
    inside: html`${valueAxis(ticks(low, high, 6), y, format)}
${marks.map((v) => html`<text x="${fixed(x(v))}" y="${height - 22}" text-anchor="middle">${short(v)}</text>`)}
<text x="${margin.left + innerWidth / 2}" y="${height - 5}" text-anchor="middle">${xLabel}</text>
<svg x="${margin.left}" y="${margin.top - 2}" width="${innerWidth}" height="${innerHeight + 4}" viewBox="${margin.left} ${margin.top - 2} ${innerWidth} ${innerHeight + 4}" fill="none" stroke-linejoin="round">${clean.map(
      ({ points }, i) => {
        if (points.length === 1) {
          return html`<circle cx="${fixed(x(points[0][0]))}" cy="${fixed(y(points[0][1]))}" r="3" fill="${colour(i)}"/>`;
        }
        const noisy = points.length > 60;
        return html`<path d="${path(points)}" stroke="${colour(i)}" stroke-width="${noisy ? 1 : 2}" opacity="${noisy ? 0.35 : 1}"/>${
          noisy &&
          html`<path d="${path(smooth(points, Math.ceil(points.length / 40)))}" stroke="${colour(i)}" stroke-width="2"/>`
        }`;
      },
    )}</svg>`,
  };
}

export interface BarChart {
  title: Content;
  xLabel: string;
  /** Names of the bars of a group. */
  series: readonly string[];
  groups: readonly {
    label: string;
    /** A second, smaller line below the label. */
    below?: string;
    /** One value a series; null where there is none. */
    values: readonly (number | null)[];
    /** Pale: few samples stand behind it. */
    faint?: boolean;
  }[];
  /** Text of a value: percentages unless said. */
  format?: (v: number) => string;
  /** Top of the axis; the greatest value unless said. */
  top?: number;
}

/** Groups of bars from zero; the first series is labelled with its values. */
export const barChart = (chart: BarChart): Markup => figure(drawBars(chart));

/** `barChart`, not yet in a page. */
export function drawBars(chart: BarChart): Chart {
  const { title, xLabel, series, groups, format = (v) => `${Math.round(100 * v)} %` } = chart;
  const top = chart.top ?? (Math.max(0, ...groups.flatMap(({ values }) => values.map((v) => v ?? 0))) * 1.1 || 1);
  const y = (v: number): number => margin.top + (1 - Math.min(v, top) / top) * innerHeight;
  const step = innerWidth / Math.max(1, groups.length);
  const bar = Math.min(26, (step * 0.8) / Math.max(1, series.length));
  return {
    caption: title,
    names: series,
    label: `${series.join(', ')} by ${xLabel}`,
    inside: html`${valueAxis(ticks(0, top, 5), y, format)}
${groups.map(({ label, below, values, faint }, g) => {
  const centre = margin.left + (g + 0.5) * step;
  const left = centre - (bar * series.length) / 2;
  return html`<g${faint ? new Markup(' opacity="0.45"') : ''}>${values.map((v, i) =>
    v === null
      ? null
      : html`<rect x="${fixed(left + i * bar + 0.5)}" y="${fixed(y(v))}" width="${fixed(bar - 1)}" height="${fixed(Math.max(0.5, y(0) - y(v)))}" rx="1.5" fill="${colour(i)}"><title>${`${series[i]}, ${label}: ${format(v)}`}</title></rect>`,
  )}${
    typeof values[0] === 'number' &&
    html`<text class="strong" x="${fixed(left + bar / 2)}" y="${fixed(y(values[0]) - 4)}" text-anchor="middle" font-size="11">${format(values[0]).replace(' %', '')}</text>`
  }<text class="strong" x="${fixed(centre)}" y="${height - 24}" text-anchor="middle">${label}</text>
${below && html`<text x="${fixed(centre)}" y="${height - 11}" text-anchor="middle" font-size="10">${below}</text>`}</g>`;
})}
<line class="axis" x1="${margin.left}" x2="${width - margin.right}" y1="${fixed(y(0))}" y2="${fixed(y(0))}"/>
<text x="${margin.left - 8}" y="${height - 24}" text-anchor="end" font-size="10">${xLabel}</text>`,
  };
}

export interface PointChart {
  title: Content;
  xLabel: string;
  yLabel: string;
  /** Both axes have the same limits, and a line where y = x. */
  points: readonly (readonly [x: number, y: number])[];
}

/** Points of two numbers that should be the same, such as a prediction and the truth: at most `most` of them, evenly chosen. */
export function drawPoints({ title, xLabel, yLabel, points }: PointChart, most = 3000): Chart {
  const run = Math.ceil(points.length / most);
  const shown = points.filter(([x, y], i) => i % run === 0 && Number.isFinite(x) && Number.isFinite(y));
  const all = shown.flat();
  const low = all.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = all.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const span = high - low || 1;
  const x = (v: number): number => margin.left + ((v - low) / span) * innerWidth;
  const y = (v: number): number => margin.top + (1 - (v - low) / span) * innerHeight;
  const label = `${yLabel} over ${xLabel}`;
  if (all.length === 0) {
    const nothing = html`<text x="${width / 2}" y="${height / 2}" text-anchor="middle">no values</text>`;
    return { caption: title, names: [yLabel], label, inside: nothing };
  }
  return {
    caption: title,
    names: [yLabel],
    label,
    inside: html`${valueAxis(ticks(low, high, 6), y, short)}
${ticks(low, high, 6).map((v) => html`<text x="${fixed(x(v))}" y="${height - 22}" text-anchor="middle">${short(v)}</text>`)}
<text x="${margin.left + innerWidth / 2}" y="${height - 5}" text-anchor="middle">${xLabel}</text>
<line class="axis" x1="${fixed(x(low))}" y1="${fixed(y(low))}" x2="${fixed(x(high))}" y2="${fixed(y(high))}"/>
<g fill="${colour(0)}" opacity="0.35">${shown.map(([a, b]) => html`<circle cx="${fixed(x(a))}" cy="${fixed(y(b))}" r="1.5"/>`)}</g>`,
  };
}
