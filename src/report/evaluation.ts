/** Pages about a run: how its losses went, and what its formulas are worth. */
import { readFileSync, statSync } from 'node:fs';
import { type PackedFormulas, PackedSet, unpackRow } from '../chem/encoding.ts';
import { formatFormula } from '../chem/formula.ts';
import { type EvaluationResult, reducedRows } from '../chem/metrics.ts';
import { randomStream } from '../chem/random.ts';
import { judge } from '../chem/validity.ts';
import { DataError } from '../errors.ts';
import { barChart, lineChart } from './chart.ts';
import { type Content, formulaMarkup, html, htmlTable, type Markup, page } from './html.ts';
import { type Curve, sampleCurves } from './progress.ts';
import { percent } from './table.ts';

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

/** A generated formula to be shown. */
export interface Example {
  readonly formula: string;
  readonly chargeNeutral: boolean;
  readonly electronegativityBalanced: boolean;
  readonly oxidationStates: Record<string, number> | null;
}

export interface Examples {
  /** In neither set, and balanced. */
  readonly balanced: readonly Example[];
  /** In neither set, and not charge-neutral. */
  readonly failed: readonly Example[];
  /** Left out of training, and found again. */
  readonly recovered: readonly Example[];
}

/** Different generated formulas, drawn at random: the same ones for the same seed. */
export function pickExamples(
  sets: { generated: PackedFormulas; training: PackedFormulas; leaveOut?: PackedFormulas },
  seed: number,
  most: { balanced: number; failed: number; recovered: number } = { balanced: 24, failed: 8, recovered: 12 },
): Examples {
  const generated = PackedSet.of(reducedRows(sets.generated));
  const training = PackedSet.of(reducedRows(sets.training));
  const leaveOut = sets.leaveOut ? PackedSet.of(reducedRows(sets.leaveOut)) : null;
  const { packed } = generated;
  const random = randomStream(seed, 'examples');
  const order = Uint32Array.from({ length: generated.size }, (_, i) => i);
  const examples = { balanced: [] as Example[], failed: [] as Example[], recovered: [] as Example[] };
  for (let i = 0; i < order.length; i++) {
    // A shuffle that stops as soon as enough is found.
    const j = i + random.below(order.length - i);
    [order[i], order[j]] = [order[j], order[i]];
    const row = order[i];
    const full = (kind: keyof Examples): boolean => examples[kind].length >= most[kind];
    if (full('balanced') && full('failed') && (full('recovered') || !leaveOut)) break;
    if (training.has(packed, row)) continue;
    const composition = unpackRow(packed, row);
    const example = { formula: formatFormula(composition), ...judge(composition) };
    const kind = leaveOut?.has(packed, row)
      ? 'recovered'
      : example.electronegativityBalanced
        ? 'balanced'
        : example.chargeNeutral
          ? null
          : 'failed';
    if (kind && !full(kind)) examples[kind].push(example);
  }
  return examples;
}

const superscripts = '⁰¹²³⁴⁵⁶⁷⁸⁹';
const charge = (n: number): string =>
  n === 0
    ? '⁰'
    : `${Math.abs(n) === 1 ? '' : [...String(Math.abs(n))].map((d) => superscripts[Number(d)]).join('')}${n > 0 ? '⁺' : '⁻'}`;

const exampleList = (title: string, about: string, examples: readonly Example[]): Content =>
  examples.length > 0 &&
  html`<h3>${title}</h3><p class="note">${about}</p><ul class="examples">${examples.map(
    ({ formula, chargeNeutral, electronegativityBalanced, oxidationStates }) =>
      html`<li class="${electronegativityBalanced ? 'balanced' : chargeNeutral ? 'neutral' : 'neither'}">${formulaMarkup(formula)}<small>${
        oxidationStates
          ? Object.entries(oxidationStates)
              .sort(([, a], [, b]) => b - a)
              .map(([symbol, n]) => `${symbol}${charge(n)}`)
              .join(' ')
          : 'no neutral choice of charges'
      }</small></li>`,
  )}</ul>`;

const count = (n: number): string => n.toLocaleString('en');
/** A share where there may be none. */
const share = (value: number | null): string => (value === null ? '–' : percent(value));
const seriesNames = ['generated', 'training', 'frequencies', 'uniform'] as const;
/** Fewer samples than this make a rate uncertain by several points. */
const fewSamples = 30;

/** Tiles, charts and tables of an evaluation, and examples. */
export function evaluationSection(result: EvaluationResult, examples?: Examples): Markup {
  const { training, leaveOut, baselines, totalVariation } = result;
  const { uniform, frequency } = baselines;
  const sizes = Object.entries(result.byElementCount);
  const tile = (label: string, value: string, ...beside: string[]): Content =>
    html`<div class="tile"><div class="label">${label}</div><div class="value">${value}</div>${beside.map((line) => html`<div class="beside">${line}</div>`)}</div>`;
  const validity = (kind: 'chargeNeutral' | 'electronegativityBalanced', title: Content): Markup =>
    barChart({
      title,
      xLabel: 'elements',
      top: 1,
      series: seriesNames,
      groups: sizes.map(([n, { generated, training: real, frequency: often, uniform: random }]) => ({
        label: n,
        below: count(generated.count),
        faint: generated.count < fewSamples,
        values: [generated[kind], real[kind], often[kind], random[kind]],
      })),
    });
  const trainingRows = sizes.reduce((total, [, { training: real }]) => total + real.count, 0);
  const baselineText = (kind: 'chargeNeutral' | 'electronegativityBalanced'): string[] => [
    `training ${share(training[kind])}`,
    `frequencies ${share(frequency[kind])}`,
    `uniform ${share(uniform[kind])}`,
  ];

  return html`<div class="tiles">
${tile('charge-neutral', percent(result.chargeNeutral), ...baselineText('chargeNeutral'))}
${tile('electronegativity-balanced', percent(result.electronegativityBalanced), ...baselineText('electronegativityBalanced'))}
${tile('different', percent(result.uniqueness), `${count(result.unique)} of ${count(result.generated)}`)}
${tile('new', percent(result.novelty), `${count(result.novel)} of the different are in neither set`)}
${
  result.recoveredLeaveOut === null
    ? tile(
        'training found again',
        percent(result.recoveredTraining),
        `frequencies ${share(frequency.recoveredTraining)}`,
      )
    : tile(
        'left-out formulas found',
        percent(result.recoveredLeaveOut),
        `frequencies ${share(frequency.recoveredLeaveOut)}`,
        `of training ${share(result.recoveredTraining)}`,
      )
}
</div>

<h2>Validity by number of elements</h2>
<p>Formulas of many elements are charge-neutral by chance more often than those of few, so each number of elements is compared with its own baselines. Small numbers: formulas generated; pale where they are fewer than ${fewSamples}.</p>
<div class="charts">
${validity('chargeNeutral', html`Charge-neutral <span>share of formulas</span>`)}
${validity('electronegativityBalanced', html`Electronegativity-balanced <span>share of formulas</span>`)}
</div>
${htmlTable(
  ['elements', 'generated', ...['CN', 'EN'].flatMap((kind) => seriesNames.map((name) => html`${kind}<br>${name}`))],
  sizes.map(([n, row]) => [
    n,
    count(row.generated.count),
    ...(['chargeNeutral', 'electronegativityBalanced'] as const).flatMap((kind) =>
      [row.generated, row.training, row.frequency, row.uniform].map((rates) => share(rates[kind])),
    ),
  ]),
)}

<h2>Does it look like training?</h2>
<div class="charts">
${barChart({
  title: html`Number of elements <span>share of formulas; total variation ${totalVariation.elementCount.toFixed(2)}</span>`,
  xLabel: 'elements',
  series: ['generated', 'training'],
  groups: sizes.map(([n, { generated, training: real }]) => ({
    label: n,
    values: [generated.count / result.generated, real.count / trainingRows],
  })),
})}
${barChart({
  title: html`Formulas found again <span>share of ${leaveOut ? 'the left-out' : 'training'} set</span>`,
  xLabel: 'elements',
  series: ['generated', 'frequencies'],
  groups: sizes
    .map(([n, row]) => ({
      label: n,
      values: leaveOut
        ? [row.recoveredLeaveOut, row.frequencyRecoveredLeaveOut]
        : [row.recoveredTraining, row.frequencyRecoveredTraining],
    }))
    .filter(({ values }) => values[0] !== null),
})}
</div>

<h2>Beside generators without a network</h2>
<p>As many formulas from each: <b>frequencies</b> draws elements and counts as often as training has them, <b>uniform</b> all alike, with the generated numbers of elements. Reweighted: averaged with training's shares of the numbers of elements. Distance: total variation to training, 0 the same, 1 nothing in common.</p>
${htmlTable(
  [
    '',
    'formulas',
    'different',
    'CN',
    'EN',
    'CN reweighted',
    'EN reweighted',
    'distance, sizes',
    'distance, elements',
    'training found',
    'left-out found',
  ],
  [
    [
      'generated',
      count(result.generated),
      count(result.unique),
      share(result.chargeNeutral),
      share(result.electronegativityBalanced),
      share(result.reweighted.chargeNeutral),
      share(result.reweighted.electronegativityBalanced),
      totalVariation.elementCount.toFixed(3),
      totalVariation.elements.toFixed(3),
      share(result.recoveredTraining),
      share(result.recoveredLeaveOut),
    ],
    ...(
      [
        ['frequencies', frequency],
        ['uniform', uniform],
      ] as const
    ).map(([name, row]) => [
      name,
      count(row.count),
      count(row.unique),
      share(row.chargeNeutral),
      share(row.electronegativityBalanced),
      share(row.reweighted.chargeNeutral),
      share(row.reweighted.electronegativityBalanced),
      row.totalVariation.elementCount.toFixed(3),
      row.totalVariation.elements.toFixed(3),
      share(row.recoveredTraining),
      share(row.recoveredLeaveOut),
    ]),
    ...(
      [
        ['training', training],
        ['left out', leaveOut],
      ] as const
    )
      .map(
        ([name, row]) =>
          row && [
            name,
            count(row.count),
            count(row.unique),
            share(row.chargeNeutral),
            share(row.electronegativityBalanced),
            share(name === 'training' ? row.chargeNeutral : null),
            share(name === 'training' ? row.electronegativityBalanced : null),
            '–',
            '–',
            '–',
            '–',
          ],
      )
      .filter((row) => row !== null),
  ],
)}
${
  Object.keys(result.confirmed).length > 0 &&
  html`<h3>New formulas that another data set holds</h3>${htmlTable(
    ['data set', 'formulas'],
    Object.entries(result.confirmed).map(([name, n]) => [name, count(n)]),
  )}`
}
${
  examples &&
  html`<h2>Examples</h2>
${exampleList('New and balanced', 'Drawn at random among the generated formulas that neither set holds; below each the oxidation states that balance it.', examples.balanced)}
${exampleList('Left out of training, and found', 'The model never saw these.', examples.recovered)}
${exampleList('New and not charge-neutral', 'What still goes wrong.', examples.failed)}`
}
<h2>How to read this</h2>
<p class="note"><b>CN</b>: one oxidation state for each element (SMACT's list of 2014), charges that sum to zero, amounts without a common divisor. <b>EN</b>: some such choice also has every cation less electronegative than every anion; it implies CN. Rule “${result.rule}”${result.reduced && ', judged in lowest terms'}; seed ${result.seed}. Shares of generated formulas count repeats; different and new ones do not.</p>`;
}

export interface EvaluationPage {
  title?: string;
  /** A sentence below the title: what was trained, on what, for how long. */
  lead?: Content;
  result: EvaluationResult;
  examples?: Examples;
  /** Logs to be drawn, by title. */
  losses?: Readonly<Record<string, readonly LossLine[]>>;
}

/** The whole report as one file of HTML that needs nothing else. */
export function evaluationPage({
  title = 'MatGAN evaluation',
  lead,
  result,
  examples,
  losses = {},
}: EvaluationPage): string {
  const text =
    lead ??
    `${count(result.generated)} generated formulas beside ${count(result.training.unique)} of training${
      result.leaveOut ? ` and ${count(result.leaveOut.unique)} left out of it` : ''
    }.`;
  return page(
    title,
    html`<h1>${title}</h1><p class="lead">${text}</p>
${evaluationSection(result, examples)}
${Object.entries(losses).map(([name, lines]) => lossSection(name, lines))}`,
  );
}

/** A page with nothing but loss curves: for a run that has generated nothing yet. */
export function lossPage(losses: Readonly<Record<string, readonly LossLine[]>>, title = 'MatGAN training'): string {
  return page(title, html`<h1>${title}</h1>${Object.entries(losses).map(([name, lines]) => lossSection(name, lines))}`);
}
