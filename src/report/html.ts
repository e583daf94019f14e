/** HTML that opens from a file, without a network. Everything put into a template is escaped. */
import { createHash } from 'node:crypto';

/** Text that is HTML (or SVG) already. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Content = Markup | string | number | null | undefined | false | readonly Content[];

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
/** Text made safe for elements and quoted attributes; control characters, which XML has no place for, are dropped. */
export const escapeText = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to go.
  text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '').replace(/[&<>"']/g, (c) => entities[c]);

function render(content: Content): string {
  if (content instanceof Markup) return content.text;
  if (content === null || content === undefined || content === false) return '';
  if (typeof content === 'object') return content.map(render).join('');
  return escapeText(String(content));
}

/** A template whose values are escaped unless they are Markup; lists are joined, null and false are nothing. */
export function html(parts: TemplateStringsArray, ...values: Content[]): Markup {
  return new Markup(parts.reduce((text, part, i) => text + render(values[i - 1]) + part));
}

/** A table: the first `textColumns` columns are names, the others numbers. */
export function htmlTable(head: readonly Content[], rows: readonly (readonly Content[])[], textColumns = 1): Markup {
  const kind = (i: number): string => (i < textColumns ? 'name' : 'number');
  return html`<div class="scroll"><table>
<thead><tr>${head.map((cell, i) => html`<th scope="col" class="${kind(i)}">${cell}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell, i) => html`<td class="${kind(i)}">${cell}</td>`)}</tr>`)}</tbody>
</table></div>`;
}

/** A formula with its counts as subscripts. */
export const formulaMarkup = (formula: string): Markup =>
  html`<span class="formula">${formula
    .split(/(\d+)/)
    .map((part, i) => (i % 2 === 1 ? html`<sub>${part}</sub>` : part))}</span>`;

const style = `
:root {
  color-scheme: light dark;
  --page: #fbfaf7; --card: #ffffff; --ink: #1d2529; --soft: #5d6a70; --line: #e2e0d8;
  --s0: #0b7a75; --s1: #6b7680; --s2: #c9a227; --s3: #b8c1c7; --s4: #a4478f; --s5: #3a6ea5; --s6: #b3452c; --s7: #5a4a9c; --good: #0b7a75; --bad: #b3452c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14191c; --card: #1c2327; --ink: #e6ebed; --soft: #9aa8ae; --line: #313b40;
    --s0: #3cc4b8; --s1: #a9b5bc; --s2: #e0bd4f; --s3: #55636b; --s4: #d58cc5; --s5: #7fb2e5; --s6: #ee8d75; --s7: #a99be8; --good: #3cc4b8; --bad: #ee8d75;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 4px; }
h3 { font-size: 16px; margin: 28px 0 2px; }
p { margin: 4px 0 12px; max-width: 78ch; }
.lead, .note { color: var(--soft); }
.note { font-size: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px; margin: 24px 0 8px; }
.tile, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 14px 16px; }
.tile .label { font-size: 13px; color: var(--soft); }
.tile .value { font-size: 30px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .beside { font-size: 13px; color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 16px; margin: 16px 0; }
figure { margin: 0; max-width: 680px; padding: 14px 14px 8px; min-width: 0; }
figcaption { font-weight: 600; font-size: 15px; padding: 0 2px 4px; }
figcaption span { font-weight: 400; color: var(--soft); }
figure > svg { display: block; width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); } svg text.strong { fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); padding: 0 2px 6px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 0 6px 18px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; white-space: normal; line-height: 1.3; }
th[role] { cursor: pointer; } th[aria-sort=ascending]::after { content: " ↑"; } th[aria-sort=descending]::after { content: " ↓"; }
.number { text-align: right; } .name { text-align: left; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(232px, 100%), 1fr)); gap: 8px; margin: 12px 0; padding: 0; list-style: none; }
.examples li { background: var(--card); border: 1px solid var(--line); border-left: 3px solid var(--s3); border-radius: 6px; padding: 6px 10px; overflow-wrap: anywhere; }
.examples li.balanced { border-left-color: var(--good); } .examples li.neither { border-left-color: var(--bad); }
.words { list-style: none; margin: 12px 0; padding: 0; max-width: 88ch; } .words li { border-left: 3px solid var(--s3); padding: 2px 0 2px 12px; margin: 0 0 8px; }
.words li.good { border-left-color: var(--good); } .words li.bad { border-left-color: var(--bad); }
.formula { font-weight: 600; } .formula sub { font-size: 0.72em; line-height: 0; }
.examples small { display: block; color: var(--soft); font-size: 12px; }
footer { margin-top: 48px; font-size: 13px; color: var(--soft); }
@media print { body { background: #fff; } figure, .tile { break-inside: avoid; } }
`;

/**
 * A whole page as text. It can load nothing: its own policy forbids it, and any script but the one given here.
 * @param script text of ours, nothing of a user's in it
 */
export function page(title: string, body: Content, script?: string): string {
  const hash = script && createHash('sha256').update(script).digest('base64');
  const policy = `default-src 'none'; style-src 'unsafe-inline'; img-src data:${hash ? `; script-src 'sha256-${hash}'` : ''}`;
  return `${
    html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body><main>
${body}
</main>${script && html`<script>${new Markup(script)}</script>`}</body>
</html>`.text
  }\n`;
}

/** Sorts a table by the column whose head is clicked: numbers as numbers, what is empty last. */
export const sortScript = `for (const head of document.querySelectorAll('th')) {
  head.tabIndex = 0;
  head.setAttribute('role', 'columnheader button');
  const sort = () => {
    const table = head.closest('table');
    const column = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of head.parentElement.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
    const compare = (a, b) => {
      if (a === '' || b === '') return a === b ? 0 : a === '' ? 1 : -1;
      const gap = parseFloat(a) - parseFloat(b);
      return (Number.isNaN(gap) ? a.localeCompare(b) : gap) * (down ? -1 : 1);
    };
    keyed.sort(([a], [b]) => compare(a, b));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  head.addEventListener('click', sort);
  head.addEventListener('keydown', (event) => { if (event.key === 'Enter') sort(); });
}`;
