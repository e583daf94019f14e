/**
 * `npx tsx scripts/data-sets.ts DIR_WITH_RAW OUT_DIR`: prepares the paper's five sets from the four raw files, splits each as
 * training does, and prints the tables of docs/data.md. OUT_DIR then has NAME.parquet, NAME.train.parquet and
 * NAME.leave-out.parquet. test/chem/data-sets.test.ts holds the tables.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type DataInfo, dataInfo, type Prepared, prepareData, type Split, splitData } from '../src/chem/dataset.ts';
import { DataError } from '../src/errors.ts';

interface DataSet {
  readonly name: string;
  /** Raw file. */
  readonly from: string;
  readonly rules: string;
  /** The paper's rows of training and leave-out, and those of training with 2, 3, 4 … elements, where it tells. */
  readonly paper: { readonly train?: number; readonly leaveOut?: number; readonly elements?: readonly number[] };
}

/** As the paper has them; its counts by number of elements are those of its Supplementary Table 3. */
export const dataSets: readonly DataSet[] = [
  {
    name: 'oqmd',
    from: 'oqmd.csv.gz',
    rules: 'oqmd',
    paper: { train: 251_368, leaveOut: 27_929, elements: [3364, 212_245, 35_759] },
  },
  {
    name: 'mp',
    from: 'mp_formation_energy.csv.gz',
    rules: 'mp',
    paper: { train: 57_530, leaveOut: 6392, elements: [8060, 22_403, 10_218, 1772] },
  },
  {
    name: 'icsd',
    from: 'icsd_in_mp.csv.gz',
    rules: 'icsd',
    paper: { train: 25_323, leaveOut: 2813, elements: [5145, 9092, 2849, 311, 24, 1] },
  },
  { name: 'icsd-filter', from: 'icsd_in_mp.csv.gz', rules: 'icsd-filter', paper: {} },
  { name: 'mp-gap', from: 'mp_band_gap.csv.gz', rules: 'mp-gap', paper: {} },
];

/** Seed and share of every preset. */
const [seed, leaveOut] = [1, 0.1];

interface Made {
  readonly set: DataSet;
  readonly prepared: Prepared;
  readonly info: DataInfo;
  readonly split: Split;
  readonly training: DataInfo;
}

/** Prepares a set and its parts in a folder. @throws DataError where the raw file is missing */
export async function makeDataSet(set: DataSet, raw: string, folder: string): Promise<Made> {
  const out = join(folder, `${set.name}.parquet`);
  const [outTrain, outLeaveOut] = ['train', 'leave-out'].map((part) => join(folder, `${set.name}.${part}.parquet`));
  const prepared = await prepareData(join(raw, set.from), { rules: set.rules, out });
  const split = await splitData(out, { leaveOut, seed, outTrain, outLeaveOut });
  return { set, prepared, info: await dataInfo(out), split, training: await dataInfo(outTrain) };
}

const show = (value: number | undefined | null): string => value?.toLocaleString('en') ?? '–';
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

/** The rules of one set, as a table. */
export function rulesTable({ set, prepared }: Made): string {
  const { rows, unusable, steps, paper, source } = prepared;
  return [
    `**${set.name}**: \`${source.file}\`, rules \`${set.rules}\``,
    '',
    row(['rule', 'removed', 'left', 'the paper']),
    row(['---', '---:', '---:', '---:']),
    row(['rows of the file', '', show(rows), paper.rows === null ? '' : show(paper.rows)]),
    ...Object.entries(unusable).map(([reason, count]) => row([`unusable: ${reason}`, show(count), '', ''])),
    ...steps.map((step) => row([step.rule, show(step.removed), show(step.left), step.paper ? show(step.paper) : ''])),
  ].join('\n');
}

/** Sizes of the parts, and training by number of elements, ours and the paper's. */
export function partsTable(all: readonly Made[]): string {
  const sizes = [2, 3, 4, 5, 6, 7, 8];
  return [
    row(['set', 'elements', 'training', 'left out', ...sizes.map(String)]),
    row(['---', '---:', '---:', '---:', ...sizes.map(() => '---:')]),
    ...all.flatMap(({ set, info, split, training }) => [
      row([
        set.name,
        show(info.elements),
        show(split.training.rows),
        show(split.leftOut.rows),
        ...sizes.map((n) => show(training.byElementCount[n] ?? 0)),
      ]),
      ...(set.paper.train
        ? [
            row([
              '*the paper*',
              '',
              show(set.paper.train),
              show(set.paper.leaveOut),
              ...sizes.map((n) => show(set.paper.elements?.[n - 2])),
            ]),
          ]
        : []),
    ]),
  ].join('\n');
}

/** Names of the data, whatever file they are in. */
export function fingerprintTable(all: readonly Made[]): string {
  return [
    row(['set', 'raw file, SHA-256', 'rows', 'training', 'left out']),
    row(['---', '---', '---', '---', '---']),
    ...all.map(({ set, prepared, split }) =>
      row([
        set.name,
        ...[prepared.source.sha256, prepared.fingerprint, split.training.fingerprint, split.leftOut.fingerprint].map(
          (digest) => `\`${digest}\``,
        ),
      ]),
    ),
  ].join('\n');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [raw, folder] = process.argv.slice(2);
  if (folder === undefined) throw new DataError('usage: npx tsx scripts/data-sets.ts DIR_WITH_RAW OUT_DIR');
  mkdirSync(folder, { recursive: true });
  const all: Made[] = [];
  for (const set of dataSets) all.push(await makeDataSet(set, raw, folder));
  for (const made of all) console.log(`${rulesTable(made)}\n`);
  console.log(`${partsTable(all)}\n\n${fingerprintTable(all)}`);
}
