/** The first rows of a screening as a page that opens from a file: sorted by a click, searched by elements and words. */
import type { Cell } from '../chem/tables.ts';
import { type Content, formulaMarkup, html, htmlTable, page, sortScript } from './html.ts';
import type { Screened } from './screening.ts';

/** Column names of a screened table. */
export const names = {
  energy: 'predicted_energy_ev_per_atom',
  energyUncertainty: 'energy_uncertainty_ev_per_atom',
  gap: 'predicted_gap_ev',
  gapUncertainty: 'gap_uncertainty_ev',
} as const;

type Row = Readonly<Record<string, Cell>>;

/** Words that begin like an element's symbol match whole elements: Li finds Li2O, C finds no CaO. */
const searchScript = `const box = document.querySelector('input[type=search]');
const said = document.querySelector('output');
const all = [...document.querySelector('table').tBodies[0].rows];
const search = () => {
  const tests = box.value.trim().split(/[\\s,]+/).filter(Boolean).map((word) => {
    if (/^[A-Z][a-z]?$/.test(word)) {
      const own = new RegExp(word + '(?![a-z])');
      return (row) => own.test(row.cells[0].textContent);
    }
    return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  });
  let shown = 0;
  for (const row of all) {
    row.hidden = !tests.every((test) => test(row));
    if (!row.hidden) shown++;
  }
  said.textContent = shown + ' of ' + all.length + ' rows';
};
box.addEventListener('input', search);
search();`;

const number = (value: unknown, digits: number): string => (typeof value === 'number' ? value.toFixed(digits) : '');
const count = (n: number): string => n.toLocaleString('en');

/** @param rows the first of the table, by column. @param sort what they are sorted by. @param notes what to say of the models */
export function screeningPage(
  screened: Screened,
  rows: readonly Row[],
  sort: string | undefined,
  notes: readonly string[],
): string {
  const { source, removed, passed, kept, models, known } = screened;
  const sets = Object.entries(known);
  const columns: [string, (row: Row) => Content][] = [
    ['formula', (row) => formulaMarkup(String(row.formula))],
    ...(sets.length === 0
      ? []
      : [
          ['known in', (row: Row) => String(row.known ?? '')] as [string, (row: Row) => Content],
          ['nearest known', (row: Row) => row.nearest_known && formulaMarkup(String(row.nearest_known))] as [
            string,
            (row: Row) => Content,
          ],
          ['distance', (row: Row) => number(row.distance, 3)] as [string, (row: Row) => Content],
        ]),
    ['elements', (row) => Number(row.elements)],
    ['CN', (row) => (row.charge_neutral ? 'yes' : 'no')],
    ['EN', (row) => (row.electronegativity_balanced ? 'yes' : 'no')],
  ];
  for (const [key, unit] of [
    ['energy', 'eV/atom'],
    ['gap', 'eV'],
  ] as const) {
    if (!models[key]) continue;
    columns.push([`${key}, ${unit}`, (row) => number(row[names[key]], 3)]);
    const own = names[`${key}Uncertainty`];
    if (rows.some((row) => own in row)) columns.push(['±', (row) => number(row[own], 3)]);
  }
  const fell = Object.entries(removed).filter(([, n]) => n > 0);
  return page(
    `Screening of ${source.file}`,
    html`<h1>Screening of ${source.file}</h1>
<p class="lead">${count(passed)} different formulas of ${count(screened.rows)} rows passed${
      fell.length > 0 && html`; removed: ${fell.map(([what, n]) => `${what} ${count(n)}`).join(', ')}`
    }. ${sort ? `Sorted by ${sort}.` : 'In the order of the file.'}${rows.length < kept && ` The first ${count(rows.length)} are shown.`}</p>
${sets.length > 0 && html`<p class="note">Known formulas: ${sets.map(([name, n]) => `${name} ${count(n)}`).join(', ')}. The distance is the share of atoms to exchange.</p>`}
${notes.map((text) => html`<p class="note">${text}</p>`)}
<p><label>Search <input type="search" placeholder="Li O"></label> <output></output></p>
${htmlTable(
  columns.map(([name]) => name),
  rows.map((row) => columns.map(([, cell]) => cell(row))),
  sets.length > 0 ? 3 : 1,
)}
<footer>CN: charges can cancel. EN: and anions are the more electronegative. Predictions are a model’s, no calculation’s: of formulas unlike its training rows they say little.</footer>`,
    `${sortScript}\n${searchScript}`,
  );
}
