/** The comparison as a table for the terminal and as a page. */
import { barChart } from '../../src/report/chart.ts';
import { html, htmlTable, page } from '../../src/report/html.ts';
import { consoleTable } from '../../src/report/table.ts';
import { bestBatches, us } from './rows.mjs';

export interface Row {
  framework: string;
  mode: string;
  name: string;
  medianMs?: number;
  spreadMs?: number;
  samples?: number;
  gflops?: number;
  /** Their time over ours. */
  ratio?: number;
  why?: string;
  note?: string;
}
export interface StartUp {
  framework: string;
  warmSeconds?: number;
  coldSeconds?: number;
  rssMiB?: number;
  why?: string;
}
export interface Report {
  made: Record<string, unknown>;
  rows: Row[];
  startUp?: StartUp[];
}

const digits = (v: number | undefined): string => (v === undefined ? '' : String(Number(v.toPrecision(3))));
const times = (v: number | undefined): string => (v === undefined ? '' : `${digits(v)}×`);
const who = ({ framework, mode }: { framework: string; mode: string }): string =>
  mode ? `${framework}, ${mode}` : framework;
const head = ['case', 'who', 'median ms', '± ms', 'samples', 'GFLOP/s', 'of ours', ''];
const cells = (row: Row): string[] => [
  row.name,
  who(row),
  digits(row.medianMs),
  digits(row.spreadMs),
  digits(row.samples),
  digits(row.gflops),
  times(row.ratio),
  row.why ?? row.note ?? '',
];
const startHead = ['start to the first AE step', 'driver cache warm, s', 'off, s', 'peak RSS, MiB', ''];
const startCells = (s: StartUp): string[] => [
  s.framework,
  digits(s.warmSeconds),
  digits(s.coldSeconds),
  digits(s.rssMiB),
  s.why ?? '',
];
const bestHead = ['generating at its best batch', 'batch', 'samples a second', 'ours against it'];
const bestCells = (rows: readonly Row[]): string[][] =>
  bestBatches(rows).map((row) => [who(row), String(row.batch), digits(row.perSecond), times(row.ratio)]);

export function terminal({ rows, startUp = [] }: Report): string {
  const clipped = rows.map((row) => cells(row).map((text, i) => (i === 7 ? text.slice(0, 60) : text)));
  const parts = [consoleTable(head, clipped, 2)];
  const best = bestCells(rows);
  if (best.length > 0) parts.push(consoleTable(bestHead, best));
  if (startUp.length > 0) parts.push(consoleTable(startHead, startUp.map(startCells)));
  return `${parts.join('\n')}\n`;
}

export function reportPage({ made, rows, startUp = [] }: Report): string {
  const peers = [...new Set(rows.filter(({ framework }) => framework !== us).map(who))];
  const names = [...new Set(rows.map(({ name }) => name))];
  const charts = [
    ['Whole steps', /^step/],
    ['Convolutions, forward and backward', /^conv/],
  ].flatMap(([title, pattern]) => {
    const chosen = names.filter((name) => (pattern as RegExp).test(name));
    const shown = peers
      .filter((peer) => rows.some((r) => who(r) === peer && chosen.includes(r.name) && r.ratio))
      .slice(0, 5);
    if (shown.length === 0) return [];
    return barChart({
      title: `${title}: their time over ours`,
      xLabel: '',
      series: shown,
      groups: chosen.slice(0, 8).map((name, i) => ({
        label: String(i + 1),
        below: name.replace(/^(step|conv2d)\s*/, '').slice(0, 16),
        values: shown.map((peer) => rows.find((r) => r.name === name && who(r) === peer)?.ratio ?? null),
      })),
      format: (v) => digits(v),
    });
  });
  const best = bestCells(rows);
  return page(
    'Peers in one run',
    html`<h1>Peers in one run</h1>
<p class="lead">Their time over ours, from the same machine; above 1 they are slower. How it is measured: docs/peers.md.</p>
${htmlTable(
  ['', ''],
  Object.entries(made).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
  2,
)}
<div class="charts">${charts}</div>
<h2>All rows</h2>
${htmlTable(head, rows.map(cells), 2)}
${best.length > 0 && html`<h2>Generating</h2>${htmlTable(bestHead, best)}`}
${startUp.length > 0 && html`<h2>Start-up</h2>${htmlTable(startHead, startUp.map(startCells))}`}`,
  );
}
