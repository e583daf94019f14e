/** Several evaluations side by side. */
import { readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { DataError } from '../errors.ts';
import { figure, type Series } from './chart.ts';
import { paperCell } from './evaluation.ts';
import { curveChart } from './figures.ts';
import { type Content, html, htmlTable, page } from './html.ts';
import { type PaperRow, paperNotes } from './paper.ts';
import { percent } from './table.ts';

const share = z.number().min(0).max(1);
const some = share.nullable();
const whole = z.number().int().min(0);
const rates = { chargeNeutral: some, electronegativityBalanced: some };
const variation = z.object({ elementCount: share, elements: share, pairs: share, stoichiometries: share });
const sizeKey = z.string().regex(/^[0-8]$/);
const text = z.string().max(2000);
const point = z.object({
  samples: whole,
  unique: whole,
  uniqueness: share,
  novel: whole,
  validUniqueNew: whole,
  recoveredTraining: share,
  recoveredLeaveOut: some,
});
const curve = z.array(point).max(100);
const baseline = z.object({
  ...rates,
  count: whole,
  unique: whole,
  recoveredLeaveOut: some,
  reweighted: z.object(rates),
  curve,
});

/** What a comparison takes from an evaluation.json; whoever wrote the file, nothing else of it is used. */
const schema = z.object({
  rule: text,
  seed: z.number(),
  generated: whole.min(1),
  unique: whole,
  uniqueness: share,
  chargeNeutral: share,
  electronegativityBalanced: share,
  uniqueChargeNeutral: share,
  uniqueElectronegativityBalanced: share,
  novel: whole,
  novelty: share,
  validUniqueNew: z.object({ count: whole, share }),
  recoveredTraining: share,
  recoveredLeaveOut: some,
  training: z.object({ ...rates, unique: whole }),
  reweighted: z.object(rates),
  totalVariation: variation,
  byElementCount: z.record(
    sizeKey,
    z.object({
      generated: z.object({ ...rates, count: whole }),
      recoveredLeaveOut: some,
      frequencyRecoveredLeaveOut: some,
    }),
  ),
  baselines: z.object({ frequency: baseline }),
  confirmed: z.record(z.string().max(200), whole),
  nearest: z.object({ novel: z.object({ median: share }).nullable() }),
  curve: curve.min(1),
  decoding: z.object({ rule: text, step: whole, requested: whole, decoded: whole }).optional(),
  paper: z
    .object({
      name: text,
      rows: z
        .array(
          z.object({
            figure: text,
            kind: z.enum(['share', 'count', 'distance']),
            paper: z.number().min(0).max(1e12),
            ours: z.number().min(0).max(1e12).nullable(),
          }),
        )
        .max(50),
    })
    .optional(),
  words: z.array(z.object({ verdict: z.enum(['good', 'fair', 'bad']), text })).max(50),
});

export type ReadEvaluation = z.infer<typeof schema> & { readonly name: string };

/** Ours has some 300 kB. */
const largest = 50_000_000;

/**
 * Reads the evaluation.json of a folder.
 * @throws DataError where there is none, or it is not what `matgan evaluate` of this version writes
 */
export function readEvaluation(folder: string): ReadEvaluation {
  const file = join(folder, 'evaluation.json');
  let parsed: unknown;
  try {
    const found = statSync(file);
    if (!found.isFile()) throw new Error('it is no plain file');
    if (found.size > largest) throw new Error(`${found.size} bytes are too many for an evaluation`);
    parsed = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new DataError(`${file}: cannot be read (${(cause as Error).message}); name a folder that evaluate wrote`, {
      cause,
    });
  }
  const checked = schema.safeParse(parsed);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw new DataError(
      `${file}: it is no evaluation of this version (${issue.path.map(String).join('.') || 'file'}: ${issue.message}); evaluate again`,
    );
  }
  return { name: basename(resolve(folder)), ...checked.data };
}

/** Names that tell folders apart: their own, or numbered where two are the same. */
function namesOf(evaluations: readonly ReadEvaluation[]): string[] {
  return evaluations.map(({ name }, i) =>
    evaluations.some((other, j) => j !== i && other.name === name) ? `${i + 1} ${name}` : name,
  );
}

const count = (n: number): string => n.toLocaleString('en');
const shareText = (value: number | null): string => (value === null ? '–' : percent(value));

/** One page with the figures of several evaluations, the paper's where they name a set, and their curves together. */
export function comparisonPage(evaluations: readonly ReadEvaluation[], title = 'MatGAN evaluations compared'): string {
  const names = namesOf(evaluations);
  const papers = new Map<string, NonNullable<ReadEvaluation['paper']>>();
  for (const { paper } of evaluations) if (paper) papers.set(paper.name, paper);
  const row = (label: Content, value: (e: ReadEvaluation) => Content): Content[] => [label, ...evaluations.map(value)];
  const sizes = [...new Set(evaluations.flatMap((e) => Object.keys(e.byElementCount)))].sort();
  const ratio = (own: number | null | undefined, other: number | null | undefined): string =>
    own === null || own === undefined || !other ? '–' : `${(own / other).toFixed(2)} ×`;
  const curves = (label: (name: string) => string, value: (p: z.infer<typeof point>) => number | null): Series[] =>
    evaluations.map((e, i) => ({
      name: label(names[i]),
      points: e.curve.flatMap((p) => {
        const y = value(p);
        return y === null ? [] : [[p.samples, y] as const];
      }),
    }));
  const charts = [
    curveChart(
      'Different formulas',
      'share of the samples',
      curves(String, (p) => p.uniqueness),
      1,
    ),
    curveChart(
      'Left-out formulas found',
      'share of the left-out set',
      curves(String, (p) => p.recoveredLeaveOut),
    ),
    curveChart(
      'Training formulas found',
      'share of training',
      curves(String, (p) => p.recoveredTraining),
    ),
    curveChart(
      'Balanced, different and new',
      'share of the samples',
      curves(String, (p) => (p.samples > 0 ? p.validUniqueNew / p.samples : null)),
    ),
  ];
  return page(
    title,
    html`<h1>${title}</h1><p class="lead">${names.join(', ')}. Recovery and uniqueness change with the number of samples: compare runs of as many.</p>
${htmlTable(
  ['', ...names],
  [
    row('formulas', (e) => count(e.generated)),
    row('steps, rule of decoding', (e) => (e.decoding ? `${count(e.decoding.step)}, ${e.decoding.rule}` : '–')),
    row('CN', (e) => percent(e.chargeNeutral)),
    row('EN', (e) => percent(e.electronegativityBalanced)),
    row('EN of the different ones', (e) => percent(e.uniqueElectronegativityBalanced)),
    row('EN reweighted', (e) => shareText(e.reweighted.electronegativityBalanced)),
    row('EN, frequencies reweighted', (e) => shareText(e.baselines.frequency.reweighted.electronegativityBalanced)),
    row('EN, training', (e) => shareText(e.training.electronegativityBalanced)),
    row('different', (e) => percent(e.uniqueness)),
    row('different, frequencies', (e) =>
      e.baselines.frequency.count > 0 ? percent(e.baselines.frequency.unique / e.baselines.frequency.count) : '–',
    ),
    row('new, of the different', (e) => percent(e.novelty)),
    row('balanced, different and new', (e) => percent(e.validUniqueNew.share)),
    row('training found', (e) => percent(e.recoveredTraining)),
    row('left-out found', (e) => shareText(e.recoveredLeaveOut)),
    row('left-out found, frequencies', (e) => shareText(e.baselines.frequency.recoveredLeaveOut)),
    row('the ratio', (e) => ratio(e.recoveredLeaveOut, e.baselines.frequency.recoveredLeaveOut)),
    ...['2', '3', '4'].map((n) =>
      row(`left-out found, ${n} elements`, (e) => {
        const size = e.byElementCount[n];
        return size ? `${shareText(size.recoveredLeaveOut)} (${shareText(size.frequencyRecoveredLeaveOut)})` : '–';
      }),
    ),
    row('distance, numbers of elements', (e) => e.totalVariation.elementCount.toFixed(3)),
    row('distance, elements', (e) => e.totalVariation.elements.toFixed(3)),
    row('distance, pairs', (e) => e.totalVariation.pairs.toFixed(3)),
    row('distance, stoichiometries', (e) => e.totalVariation.stoichiometries.toFixed(3)),
    row('half of the new within', (e) => e.nearest.novel?.median.toFixed(3) ?? '–'),
    ...[...new Set(evaluations.flatMap((e) => Object.keys(e.confirmed)))].map((other) =>
      row(`new ones in ${other}`, (e) => (Object.hasOwn(e.confirmed, other) ? count(e.confirmed[other]) : '–')),
    ),
  ],
)}
<p class="note">In brackets: what frequencies alone find with as many samples.</p>
<div class="charts">${charts.map(figure)}</div>
<h2>By number of elements</h2>
${htmlTable(
  ['elements', ...names.flatMap((name) => [html`${name}<br>share`, html`${name}<br>CN`, html`${name}<br>EN`])],
  sizes.map((n) => [
    n,
    ...evaluations.flatMap((e) => {
      const size = e.byElementCount[n]?.generated;
      if (!size) return ['–', '–', '–'];
      return [
        percent(size.count / e.generated),
        shareText(size.chargeNeutral),
        shareText(size.electronegativityBalanced),
      ];
    }),
  ]),
)}
${[...papers.values()].map(
  (paper) => html`<h2>Beside the paper’s ${paper.name}</h2>
${htmlTable(
  ['', 'paper', ...names.filter((_, i) => evaluations[i].paper?.name === paper.name)],
  paper.rows.map((line) => [
    line.figure,
    paperCell(line.kind as PaperRow['kind'], line.paper),
    ...evaluations
      .filter((e) => e.paper?.name === paper.name)
      .map((e) => {
        const own = e.paper!.rows.find(({ figure: what }) => what === line.figure);
        return paperCell(line.kind as PaperRow['kind'], own?.ours ?? null);
      }),
  ]),
)}
${paperNotes.map((note) => html`<p class="note">${note}</p>`)}`,
)}
<h2>In words</h2>
${evaluations.map(
  (e, i) =>
    html`<h3>${names[i]}</h3><ul class="words">${e.words.map((remark) => html`<li class="${remark.verdict}">${remark.text}</li>`)}</ul>`,
)}`,
  );
}
