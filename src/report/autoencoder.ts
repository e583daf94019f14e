/** The page of an autoencoder study: what it can and can't write down, beside the paper's figures. */
import type { Share } from '../chem/confidence.ts';
import type { Mistakes, SetName, SetStudy, Study } from '../models/study.ts';
import { barChart } from './chart.ts';
import { type Content, formulaMarkup, html, htmlTable, page } from './html.ts';
import { percent } from './table.ts';

/** Figures of the paper for OQMD: exact decoding in percent, and what of either kind GAN-OQMD made (text to its Fig. 7). */
export const paperFigures = { training: 96.31, leaveOut: 95.5, foundDecodable: 60.26, foundUndecodable: 5 } as const;

/** A row that is not decoded. */
export interface Failure {
  readonly formula: string;
  /** What came out; null for nothing. */
  readonly decoded: string | null;
  readonly set: SetName;
}

export interface StudyPage {
  readonly study: Study;
  /** The model in a sentence: run, steps, data, adapter. */
  readonly lead: Content;
  /** Some rows that fail, drawn evenly. */
  readonly failures: readonly Failure[];
}

export const setTitles: Record<SetName, string> = { training: 'training', leaveOut: 'left out', other: 'other data' };
const mistakeTitles: Record<keyof Mistakes, string> = {
  nothing: 'nothing comes out (no element, one, or more than eight)',
  counts: 'right elements, a wrong count',
  missing: 'an element is missing',
  added: 'an element too many',
  exchanged: 'elements exchanged',
};

const count = (n: number): string => n.toLocaleString('en');
const range = ({ interval }: Share): string =>
  interval === null ? '–' : `${(100 * interval[0]).toFixed(2)}–${(100 * interval[1]).toFixed(2)} %`;
const two = ({ share }: Share): string => (share === null ? '–' : `${(100 * share).toFixed(2)} %`);
/** Rows that an element must have for its rate to be charted: below that one failure is several percent. */
const fewRows = 30;

export function studyPage({ study, lead, failures }: StudyPage): string {
  const sets = Object.entries(study.sets) as [SetName, SetStudy][];
  const other = study.rule === 'argmax' ? 'paper' : 'argmax';
  const tile = (label: string, value: string, ...beside: string[]): Content =>
    html`<div class="tile"><div class="label">${label}</div><div class="value">${value}</div>${beside.map((line) => html`<div class="beside">${line}</div>`)}</div>`;
  const bars = (title: Content, xLabel: string, of: (set: SetStudy) => Record<string, Share>): Content => {
    const labels = [...new Set(sets.flatMap(([, set]) => Object.keys(of(set))))].sort((a, b) => Number(a) - Number(b));
    return barChart({
      title,
      xLabel,
      series: sets.map(([name]) => setTitles[name]),
      format: (v) => `${Number((100 * v).toPrecision(2))} %`,
      groups: labels.map((label) => ({
        label,
        below: count(of(sets[0][1])[label]?.of ?? 0),
        values: sets.map(([, set]) => of(set)[label]?.share ?? null),
      })),
    });
  };
  const worst = study.elements.filter(({ of }) => of >= fewRows).sort((a, b) => b.share! - a.share!);
  const generated = sets.flatMap(([name, set]) => (set.generated ? [[name, set.generated] as const] : []));
  const failed = sets.reduce((total, [, set]) => total + set.rows - set.exact[study.rule].count, 0);

  return page(
    'Autoencoder study',
    html`<h1>Autoencoder study</h1><p class="lead">${lead}</p>
<div class="tiles">${sets.map(([name, set]) =>
      tile(
        `${setTitles[name]}, decoded exactly`,
        two(set.exact[study.rule]),
        `95 %: ${range(set.exact[study.rule])}`,
        `${count(set.exact[study.rule].count)} of ${count(set.rows)}, rule “${study.rule}”`,
        `rule “${other}”: ${two(set.exact[other])}`,
        ...(name === 'other' ? [] : [`paper, OQMD: ${paperFigures[name]} %`]),
      ),
    )}</div>
<p>${
      failed === 0
        ? 'Every formula comes out as it went in.'
        : `${count(failed)} formulas do not come out as they went in. Below: which ones, and how they come out instead.`
    } The table beside this page lists every formula with what it decodes to.</p>

<h2>Which formulas fail</h2>
<div class="charts">
${bars(html`By number of elements <span>share not decoded</span>`, 'elements', (set) => set.failedBySize)}
${bars(html`By the greatest number of atoms of one element <span>share not decoded</span>`, 'atoms', (set) => set.failedByAtoms)}
${
  worst.length > 0 &&
  barChart({
    title: html`Elements that fail most <span>share of their formulas not decoded; all sets, ${fewRows} formulas or more</span>`,
    xLabel: 'element',
    series: ['not decoded'],
    format: (v) => `${Number((100 * v).toPrecision(2))} %`,
    groups: worst.slice(0, 16).map(({ element, share }) => ({ label: element, values: [share] })),
  })
}
</div>
<h2>How they come out</h2>
${htmlTable(
  ['', ...sets.map(([name]) => setTitles[name])],
  (Object.keys(mistakeTitles) as (keyof Mistakes)[]).map((kind) => [
    mistakeTitles[kind],
    ...sets.map(([, set]) => count(set.mistakes[kind])),
  ]),
)}
${
  failures.length > 0 &&
  html`<h3>Some of them</h3>${htmlTable(
    ['formula', 'comes out as', 'set'],
    failures.map(({ formula, decoded, set }) => [
      formulaMarkup(formula),
      decoded === null ? 'nothing' : formulaMarkup(decoded),
      setTitles[set],
    ]),
    3,
  )}`
}
${
  generated.length > 0 &&
  html`<h2>Does a generator find what the autoencoder can’t write?</h2>
<p>The paper’s GAN-OQMD finds ${paperFigures.foundDecodable} % of the formulas that its autoencoder decodes and ${paperFigures.foundUndecodable} % of the others: both networks then lack the same formulas.</p>
${htmlTable(
  ['set', 'decodable, found', '95 %', 'of', 'not decodable, found', '95 %', 'of'],
  generated.map(([name, { decodable, undecodable }]) => [
    setTitles[name],
    two(decodable),
    range(decodable),
    count(decodable.of),
    two(undecodable),
    range(undecodable),
    count(undecodable.of),
  ]),
)}`
}
<h2>Every element</h2>
${htmlTable(
  ['element', 'formulas', 'not decoded', 'share', '95 %'],
  study.elements.map((share) => [share.element, count(share.of), count(share.count), two(share), range(share)]),
)}
<h2>How to read this</h2>
<p class="note">Exactly: the same elements with the same counts. Rule “argmax”: an element is there where its greatest cell is at least 0.5, and that cell tells the count. Rule “paper”: the greatest count whose cell is at least 0.2, as in the released code. An element’s failures are those of the formulas that hold it, whatever part of them went wrong. Intervals: 95 %, Wilson’s score.</p>`,
  );
}

/** Exact decoding as lines for the console table: set, rows, both rules, the paper. */
export function studyRows(study: Study): (string | number)[][] {
  return (Object.entries(study.sets) as [SetName, SetStudy][]).map(([name, set]) => [
    setTitles[name],
    set.rows,
    two(set.exact.argmax),
    two(set.exact.paper),
    name === 'other' ? '' : percent(paperFigures[name] / 100),
  ]);
}
