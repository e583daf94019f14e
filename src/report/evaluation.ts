/** Pages about a run: how its losses went, and what its formulas are worth. */
import type { Interval } from '../chem/confidence.ts';
import { type PackedFormulas, PackedSet, reducePacked, rowWords, unpackRow } from '../chem/encoding.ts';
import { formatFormula } from '../chem/formula.ts';
import { type BaselineResult, type EvaluationResult, reducedRows } from '../chem/metrics.ts';
import { randomStream } from '../chem/random.ts';
import { flagCN, flagEN, Judge, judge } from '../chem/validity.ts';
import { figure } from './chart.ts';
import type { Decodings } from './decoding.ts';
import { evaluationFigures, fewSamples } from './figures.ts';
import { type Content, formulaMarkup, html, htmlTable, type Markup, page } from './html.ts';
import { type LossLine, lossSection } from './log.ts';
import type { PaperComparison, PaperRow } from './paper.ts';
import { percent } from './table.ts';
import { inWords } from './words.ts';

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

/**
 * Different generated formulas, drawn at random: the same ones for the same seed. Takes 4 bytes a row, and as much as the formulas
 * that had to be looked at until there were enough.
 */
export function pickExamples(
  sets: { generated: PackedFormulas; training: PackedFormulas; leaveOut?: PackedFormulas },
  seed: number,
  most: { balanced: number; failed: number; recovered: number } = { balanced: 24, failed: 8, recovered: 12 },
): Examples {
  const { packed, rows } = sets.generated;
  const training = PackedSet.of(reducedRows(sets.training));
  const leaveOut = sets.leaveOut ? PackedSet.of(reducedRows(sets.leaveOut)) : null;
  const random = randomStream(seed, 'examples');
  const order = new Uint32Array(rows);
  for (let i = 0; i < rows; i++) order[i] = i;
  const seen = new PackedSet();
  const words = new Uint32Array(rowWords);
  const verdicts = new Judge();
  const examples = { balanced: [] as Example[], failed: [] as Example[], recovered: [] as Example[] };
  const full = (kind: keyof Examples): boolean => examples[kind].length >= most[kind];
  for (let i = 0; i < rows; i++) {
    // A shuffle that stops as soon as enough is found.
    const j = i + random.below(rows - i);
    [order[i], order[j]] = [order[j], order[i]];
    if (full('balanced') && full('failed') && (full('recovered') || !leaveOut)) break;
    words.set(packed.subarray(order[i] * rowWords, (order[i] + 1) * rowWords));
    reducePacked(words);
    if (!seen.add(words, 0) || training.has(words, 0)) continue;
    const flags = verdicts.row(words, 0);
    const kind = leaveOut?.has(words, 0) ? 'recovered' : flags & flagEN ? 'balanced' : flags & flagCN ? null : 'failed';
    if (!kind || full(kind)) continue;
    const composition = unpackRow(words);
    examples[kind].push({ formula: formatFormula(composition), ...judge(composition) });
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
/** A share with its 95 % interval in small. */
const within = (value: number | null, interval: Interval | null): Content =>
  value === null || !interval
    ? '–'
    : html`${percent(value)} <small>${(100 * interval[0]).toFixed(1)}–${(100 * interval[1]).toFixed(1)}</small>`;
const times = (factor: number | null, interval: Interval | null): Content =>
  factor === null
    ? '–'
    : html`${factor.toFixed(2)}${interval && html` <small>${interval[0].toFixed(2)}–${interval[1].toFixed(2)}</small>`}`;
const distance = (v: number): string => v.toFixed(3);

/** A figure of the paper's kind as text. */
export function paperCell(kind: PaperRow['kind'], value: number | null): string {
  if (value === null) return '–';
  return kind === 'share' ? percent(value) : kind === 'count' ? count(value) : value.toFixed(2);
}

const paperSection = ({ name, rows, notes }: PaperComparison): Content => html`<h2>Beside the paper’s ${name}</h2>
${htmlTable(
  ['', 'paper', 'here', 'samples, paper', 'samples, here'],
  rows.map(({ figure: what, kind, paper, ours, paperSamples, ourSamples }) => [
    what,
    paperCell(kind, paper),
    paperCell(kind, ours),
    paperSamples === null ? '–' : count(paperSamples),
    ourSamples === null ? '–' : count(ourSamples),
  ]),
)}
${notes.map((note) => html`<p class="note">${note}</p>`)}`;

const decodingSection = ({ own, rows }: Decodings): Content => html`<h2>Two rules of decoding</h2>
<p>The same noise decoded by both rules; all other figures are of the rule “${own}”. As decoded: nothing divided by the common divisor, as in the paper.</p>
${htmlTable(
  [
    'rule',
    'samples',
    'formulas',
    'different',
    'CN as decoded',
    'EN as decoded',
    'CN',
    'EN',
    'elements a formula',
    'distance, sizes',
    'left-out found',
  ],
  rows.map((row) => [
    row.rule,
    count(row.samples),
    count(row.decoded),
    count(row.unique),
    share(row.asDecoded.chargeNeutral),
    share(row.asDecoded.electronegativityBalanced),
    share(row.chargeNeutral),
    share(row.electronegativityBalanced),
    row.meanElements === null ? '–' : row.meanElements.toFixed(2),
    row.totalVariation === null ? '–' : distance(row.totalVariation.elementCount),
    share(row.recoveredLeaveOut),
  ]),
)}`;

/** What an evaluation has beside the figures of the formulas themselves. */
export interface EvaluationExtras {
  readonly examples?: Examples;
  readonly paper?: PaperComparison;
  readonly decodings?: Decodings;
  /** Sentences about the files: rows that could not be used. */
  readonly notes?: readonly string[];
}

/** Tiles, words, charts and tables of an evaluation, and examples. */
export function evaluationSection(result: EvaluationResult, extras: EvaluationExtras = {}): Markup {
  const { training, leaveOut, baselines, totalVariation, nearest } = result;
  const { uniform, uniformRandom, independent, frequency } = baselines;
  const sizes = Object.entries(result.byElementCount);
  const tile = (label: string, value: string, ...beside: string[]): Content =>
    html`<div class="tile"><div class="label">${label}</div><div class="value">${value}</div>${beside.map((line) => html`<div class="beside">${line}</div>`)}</div>`;
  const charts = evaluationFigures(result);
  const show = (...names: string[]): Content =>
    html`<div class="charts">${names.flatMap((name) => (charts[name] ? [figure(charts[name])] : []))}</div>`;
  const baselineText = (kind: 'chargeNeutral' | 'electronegativityBalanced'): string[] => [
    `training ${share(training[kind])}`,
    `frequencies ${share(frequency[kind])}`,
    `uniform ${share(uniform[kind])}`,
  ];
  const named: readonly (readonly [string, BaselineResult])[] = [
    ['frequencies', frequency],
    ['independent', independent],
    ['uniform, matched', uniform],
    ['uniform', uniformRandom],
  ];
  const others = Object.entries(result.others);
  const points = result.curve.filter(
    ({ samples }, i) => i === result.curve.length - 1 || /^(1|2|34|3)0+$/.test(String(samples)),
  );
  const frequencyAt = (samples: number) => frequency.curve.find((point) => point.samples === samples);

  return html`<div class="tiles">
${tile('charge-neutral', percent(result.chargeNeutral), ...baselineText('chargeNeutral'))}
${tile('electronegativity-balanced', percent(result.electronegativityBalanced), ...baselineText('electronegativityBalanced'))}
${tile('different', percent(result.uniqueness), `${count(result.unique)} of ${count(result.generated)}`)}
${tile('new', percent(result.novelty), `${count(result.novel)} of the different are in neither set`)}
${tile('balanced, different and new', percent(result.validUniqueNew.share), `${count(result.validUniqueNew.count)} formulas`)}
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

<h2>In words</h2>
<ul class="words">${inWords(result).map(({ verdict, text }) => html`<li class="${verdict}">${text}</li>`)}${(extras.notes ?? []).map((text) => html`<li>${text}</li>`)}</ul>
${extras.paper && paperSection(extras.paper)}
${extras.decodings && decodingSection(extras.decodings)}

<h2>Validity by number of elements</h2>
<p>Formulas of many elements are charge-neutral by chance more often than those of few, so each number of elements is compared with its own baselines. Small numbers: formulas generated; pale where they are fewer than ${fewSamples}. <b>Enumeration</b>: all reduced formulas of so many elements with counts from 1 to 8, counted one by one for two and three elements, from ${count(4_000_000)} uniform ones each above.</p>
${show('charge-neutral', 'electronegativity-balanced')}
${(
  [
    ['chargeNeutral', 'Charge-neutral'],
    ['electronegativityBalanced', 'Electronegativity-balanced'],
  ] as const
).map(
  ([kind, title]) => html`<h3>${title}</h3>
${htmlTable(
  [
    'elements',
    'generated',
    'all',
    'different ones',
    'training',
    'left out',
    'frequencies',
    'independent',
    'uniform, matched',
    'enumeration',
    'enrichment',
  ],
  sizes.map(([n, row]) => [
    n,
    count(row.generated.count),
    within(row.generated[kind], row.generated.intervals[kind]),
    within(row.unique[kind], row.unique.intervals[kind]),
    share(row.training[kind]),
    share(row.leaveOut?.[kind] ?? null),
    share(row.frequency[kind]),
    share(row.independent[kind]),
    share(row.uniform[kind]),
    share(row.enumeration?.[kind] ?? null),
    times(row.enrichment[kind], row.enrichment.intervals[kind]),
  ]),
)}`,
)}
<p class="note">Small: 95 % intervals (Wilson); of the enrichment, which divides the share among different formulas by that of the enumeration, the ends of both intervals against each other. Over all sizes, mixed as generated: CN ${times(result.enrichment.matched.chargeNeutral, result.enrichment.matched.intervals.chargeNeutral)}, EN ${times(result.enrichment.matched.electronegativityBalanced, result.enrichment.matched.intervals.electronegativityBalanced)}; all binaries to quaternaries thrown together, as the paper does: EN ${times(result.enrichment.binaryToQuaternary.electronegativityBalanced, result.enrichment.binaryToQuaternary.intervals.electronegativityBalanced)}.</p>

<h2>With the number of samples</h2>
${show('uniqueness', 'recovery', 'recovery-by-size-curve', 'valid-unique-new', 'novelty', 'distances')}
${htmlTable(
  [
    'samples',
    'different',
    'new',
    'balanced, different, new',
    'training found',
    'left-out found',
    'frequencies',
    'of left-out: 2',
    '3',
    '4',
    'frequencies: 2',
    '3',
    '4',
    ...others.map(([name]) => `in ${name}`),
  ],
  points.map((point) => {
    const often = frequencyAt(point.samples);
    return [
      count(point.samples),
      percent(point.uniqueness),
      count(point.novel),
      percent(point.validUniqueNew / point.samples),
      share(point.recoveredTraining),
      share(point.recoveredLeaveOut),
      share(often?.recoveredLeaveOut ?? null),
      ...[2, 3, 4].map((n) => share(point.byElementCount[n]?.recoveredLeaveOut ?? null)),
      ...[2, 3, 4].map((n) => share(often?.byElementCount[n]?.recoveredLeaveOut ?? null)),
      ...others.map(([name]) => count(point.confirmed[name])),
    ];
  }),
)}
<h3>Recovery by number of elements</h3>
${show('recovery-by-size')}
${htmlTable(
  ['elements', 'in training', 'found', 'frequencies', 'left out', 'found', 'frequencies', 'generated', 'new'],
  sizes.map(([n, row]) => [
    n,
    count(row.training.count),
    share(row.recoveredTraining),
    share(row.frequencyRecoveredTraining),
    row.leaveOut ? count(row.leaveOut.count) : '–',
    share(row.recoveredLeaveOut),
    share(row.frequencyRecoveredLeaveOut),
    count(row.generated.count),
    count(row.novel.count),
  ]),
)}

<h2>Does it look like training?</h2>
${show('element-count', 'elements', 'stoichiometries', 'nearest')}
${htmlTable(
  ['total variation to training', 'sizes', 'elements', 'pairs', 'stoichiometries'],
  [
    ['generated', totalVariation] as const,
    ...named.map(([name, row]) => [name, row.totalVariation] as const),
    ...(leaveOut && leaveOut.count > 0 ? [['left out', leaveOut.totalVariation] as const] : []),
  ].map(([name, row]) => [
    name,
    distance(row.elementCount),
    distance(row.elements),
    distance(row.pairs),
    distance(row.stoichiometries),
  ]),
)}
<p class="note">0 the same, 1 nothing in common. The left-out formulas show what so small a sample of the same source differs by.</p>
${
  nearest.novel &&
  html`<h3>Nearest training formula</h3>
<p class="note">Half the sum of differences of element fractions: the share of atoms that would have to be exchanged. Of at most 2,000 different formulas each.</p>
${htmlTable(
  ['', 'formulas', 'a quarter within', 'half within', 'three quarters within', 'mean'],
  (
    [
      ['new', nearest.novel],
      ['left out', nearest.leaveOut],
      ['new, frequencies', nearest.frequency],
    ] as const
  ).flatMap(([name, row]) =>
    row
      ? [
          [
            name,
            count(row.formulas),
            distance(row.quartiles[0]),
            distance(row.median),
            distance(row.quartiles[1]),
            distance(row.mean),
          ],
        ]
      : [],
  ),
)}
${htmlTable(
  ['samples', 'half of the new within', 'mean'],
  nearest.bySamples.map((row) => [count(row.samples), distance(row.median), distance(row.mean)]),
)}`
}

<h2>Beside generators without a network</h2>
<p>As many formulas from each. <b>Frequencies</b>: number of elements, elements and counts as often as training has them; <b>independent</b>: each element’s row of the matrix by itself; <b>uniform, matched</b>: all elements and counts alike, with the generated numbers of elements; <b>uniform</b>: two to eight elements, each as often. Reweighted: averaged with training’s shares of the numbers of elements.</p>
${htmlTable(
  [
    '',
    'formulas',
    'different',
    'CN',
    'EN',
    'CN of different',
    'EN of different',
    'CN reweighted',
    'EN reweighted',
    'balanced, different, new',
    'training found',
    'left-out found',
  ],
  [
    [
      'generated',
      count(result.generated),
      count(result.unique),
      within(result.chargeNeutral, result.intervals.chargeNeutral),
      within(result.electronegativityBalanced, result.intervals.electronegativityBalanced),
      share(result.uniqueChargeNeutral),
      share(result.uniqueElectronegativityBalanced),
      share(result.reweighted.chargeNeutral),
      share(result.reweighted.electronegativityBalanced),
      percent(result.validUniqueNew.share),
      share(result.recoveredTraining),
      share(result.recoveredLeaveOut),
    ],
    ...named.map(([name, row]) => [
      name,
      count(row.count),
      count(row.unique),
      share(row.chargeNeutral),
      share(row.electronegativityBalanced),
      share(row.uniqueChargeNeutral),
      share(row.uniqueElectronegativityBalanced),
      share(row.reweighted.chargeNeutral),
      share(row.reweighted.electronegativityBalanced),
      row.count > 0 ? percent(row.validUniqueNew / row.count) : '–',
      share(row.recoveredTraining),
      share(row.recoveredLeaveOut),
    ]),
    ...(
      [
        ['training', training],
        ['left out', leaveOut],
      ] as const
    ).flatMap(([name, row]) =>
      row
        ? [
            [
              name,
              count(row.count),
              count(row.unique),
              share(row.chargeNeutral),
              share(row.electronegativityBalanced),
              ...Array<string>(2).fill('–'),
              share(name === 'training' ? row.chargeNeutral : null),
              share(name === 'training' ? row.electronegativityBalanced : null),
              ...Array<string>(3).fill('–'),
            ],
          ]
        : [],
    ),
  ],
)}
${
  others.length > 0 &&
  html`<h3>New formulas that another data set holds</h3>${htmlTable(
    ['data set', 'formulas', 'in neither set', 'of these generated', 'by frequencies'],
    others.map(([name, row]) => [
      name,
      count(row.formulas),
      count(row.candidates),
      count(row.found),
      count(row.frequencyFound),
    ]),
  )}`
}
${
  result.mostFrequent.length > 0 &&
  result.mostFrequent[0].count > 1 &&
  html`<h3>Most frequent formulas</h3>${htmlTable(
    ['formula', 'times', 'share'],
    result.mostFrequent.map((row) => [
      formulaMarkup(row.formula),
      count(row.count),
      percent(row.count / result.generated),
    ]),
  )}`
}
${
  extras.examples &&
  html`<h2>Examples</h2>
${exampleList('New and balanced', 'Drawn at random among the generated formulas that neither set holds; below each the oxidation states that balance it.', extras.examples.balanced)}
${exampleList('Left out of training, and found', 'The model never saw these.', extras.examples.recovered)}
${exampleList('New and not charge-neutral', 'What still goes wrong.', extras.examples.failed)}`
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
  paper?: PaperComparison;
  decodings?: Decodings;
  notes?: readonly string[];
  /** Logs to be drawn, by title. */
  losses?: Readonly<Record<string, readonly LossLine[]>>;
}

/** The whole report as one file of HTML that needs nothing else. */
export function evaluationPage({
  title = 'MatGAN evaluation',
  lead,
  result,
  losses = {},
  ...extras
}: EvaluationPage): string {
  const text =
    lead ??
    `${count(result.generated)} generated formulas beside ${count(result.training.unique)} of training${
      result.leaveOut ? ` and ${count(result.leaveOut.unique)} left out of it` : ''
    }.`;
  return page(
    title,
    html`<h1>${title}</h1><p class="lead">${text}</p>
${evaluationSection(result, extras)}
${Object.entries(losses).map(([name, lines]) => lossSection(name, lines))}`,
  );
}
