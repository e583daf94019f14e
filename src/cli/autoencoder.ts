import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import { fingerprintOf, loadFormulas } from '../chem/dataset.ts';
import { type PackedFormulas, PackedSet, rowElements } from '../chem/encoding.ts';
import { formulaText } from '../chem/rows.ts';
import { checkOutput, type OutColumn, writeTable, writeWhole } from '../chem/tables.ts';
import { CheckpointError, DataError } from '../errors.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import { Codec } from '../models/codec.ts';
import type { AeConfig } from '../models/config.ts';
import { interpolate, type Judged, latentSpread, near, packedFormula } from '../models/latent.ts';
import { writeLatents } from '../models/latentTable.ts';
import { findCheckpoint, loadTrainingData } from '../models/run.ts';
import {
  type DecodedSets,
  decodeSets,
  isExact,
  type Rule,
  type SetName,
  type StudySets,
  studyOf,
} from '../models/study.ts';
import { type Failure, studyPage, studyRows } from '../report/autoencoder.ts';
import { consoleTable } from '../report/table.ts';
import { deviceOption, integer, note, real, standardOptions } from './common.ts';

/** Options of every command here. */
interface Common {
  data?: string;
  formulaColumn?: string;
  best?: boolean;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

/** `matgan autoencoder`: what a trained autoencoder can write down, and its latent space. */
export function autoencoder(): Command {
  return new Command('autoencoder')
    .description('study a trained autoencoder: exact decoding, latent space')
    .addHelpText('after', '\nExample:\n  matgan autoencoder study runs/ae --out runs/ae/study')
    .addCommand(study())
    .addCommand(interpolation())
    .addCommand(neighbourhood())
    .addCommand(encode());
}

const subcommand = (name: string, about: string, data: string): Command =>
  new Command(name)
    .description(about)
    .argument('<run>', 'run folder of an autoencoder, or model file')
    .option('--data <file>', data)
    .option('--formula-column <name>', 'column with the formulas, in every file (found by name where left out)')
    .option('--best', "the run's best checkpoint (see train --best) instead of its last");
const ruleOption = (): Option =>
  new Option('--rule <rule>', "how cells become formulas; the model's own rule if not given").choices([
    'argmax',
    'paper',
  ]);

/** The autoencoder of a run or a file. @throws CheckpointError */
function findAutoencoder(path: string, { best }: Common): Checkpoint & { config: AeConfig } {
  const checkpoint = findCheckpoint(path, best ? 'best' : 'last');
  const { config } = checkpoint;
  if (config.model !== 'ae')
    throw new CheckpointError(`${path}: it is a model of kind ${config.model}; this takes an autoencoder (ae)`);
  return { ...checkpoint, config };
}

/** The run's rows, parted as it parted them; those of another file all together. */
async function setsOf(checkpoint: Checkpoint, { data, formulaColumn }: Common): Promise<StudySets> {
  const { config } = checkpoint;
  const source = data === undefined ? checkpoint.data.source : resolve(data);
  const training = await loadTrainingData(source, config, { formulaColumn }).catch((error) => {
    if (data !== undefined || !(error instanceof DataError)) throw error;
    throw new DataError(`${error.message} (the run names it as its data; give --data if it is elsewhere)`, {
      cause: error,
    });
  });
  if (training.fingerprint === checkpoint.data.fingerprint) {
    return { training: training.train, ...(training.leaveOut.rows > 0 && { leaveOut: training.leaveOut }) };
  }
  if (data === undefined) {
    throw new DataError(`${source ?? 'the default set'}: it has changed since the model was trained; name --data`);
  }
  note(`${data}: not the rows that the model was trained on; they are studied as they are, not parted`);
  return { other: await loadFormulas(data, { formulaColumn }) };
}

/** Opens device and codec, and gives both back whatever happens. */
async function withCodec<T>(checkpoint: Checkpoint, options: Common, work: (codec: Codec) => Promise<T>): Promise<T> {
  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  note(adapter);
  let codec: Codec | undefined;
  try {
    // In f64, a number at a time, a large batch would take the memory of every value in it.
    codec = new Codec(executor, checkpoint, executor.kind === 'reference' ? 32 : undefined);
    return await work(codec);
  } finally {
    codec?.destroy();
    executor.destroy();
  }
}

const rowsOf = (sets: StudySets): number => Object.values(sets).reduce((total, { rows }) => total + rows, 0);
const known = (sets: StudySets): PackedSet => {
  const set = new PackedSet(rowsOf(sets));
  for (const { packed, rows } of Object.values(sets)) for (let row = 0; row < rows; row++) set.add(packed, row);
  return set;
};
/** A bar over the rows of some sets. */
async function withBar<T>(total: number, work: (update: (rows: number) => void) => Promise<T>): Promise<T> {
  const bar = new SingleBar({
    format: '{bar} {value}/{total} formulas | {eta_formatted} left',
    stream: process.stderr,
  });
  bar.start(total, 0);
  return work((rows) => bar.update(rows)).finally(() => bar.stop());
}

/** Rows that fail, at most so many, evenly chosen over the sets. */
const shownFailures = 40;

function failuresOf(sets: StudySets, decoded: DecodedSets, rule: Rule): Failure[] {
  const all: { set: SetName; row: number }[] = [];
  for (const [set, { packed, rows }] of Object.entries(sets) as [SetName, PackedFormulas][]) {
    for (let row = 0; row < rows; row++) if (!isExact(packed, decoded[set]![rule], row)) all.push({ set, row });
  }
  const step = Math.max(1, all.length / shownFailures);
  return Array.from({ length: Math.min(all.length, shownFailures) }, (_, i) => {
    const { set, row } = all[Math.floor(i * step)];
    return {
      set,
      formula: formulaText(sets[set]!.packed, row),
      decoded: formulaText(decoded[set]![rule], row) || null,
    };
  });
}

/** Every row with what it decodes to, as columns of a table. */
function decodingColumns(sets: StudySets, decoded: DecodedSets, rule: Rule): OutColumn[] {
  const parts = (Object.entries(sets) as [SetName, PackedFormulas][]).map(([name, formulas]) => ({
    name,
    ...formulas,
  }));
  const at = (i: number): { name: SetName; packed: Uint32Array; row: number } => {
    let row = i;
    for (const { name, packed, rows } of parts) {
      if (row < rows) return { name, packed, row };
      row -= rows;
    }
    throw new RangeError(`row ${i}`);
  };
  const came =
    (by: Rule) =>
    (i: number): string | null => {
      const { name, row } = at(i);
      return formulaText(decoded[name]![by], row) || null;
    };
  return [
    { name: 'formula', type: 'text', value: (i) => formulaText(at(i).packed, at(i).row) },
    { name: 'elements', type: 'integer', value: (i) => rowElements(at(i).packed, at(i).row) },
    { name: 'set', type: 'text', value: (i) => at(i).name },
    { name: 'decoded', type: 'text', value: came(rule) },
    { name: 'decoded_other_rule', type: 'text', value: came(rule === 'argmax' ? 'paper' : 'argmax') },
    {
      name: 'label',
      type: 'text',
      value: (i) => {
        const { name, packed, row } = at(i);
        return isExact(packed, decoded[name]![rule], row) ? 'decodable' : 'not decodable';
      },
    },
  ];
}

interface StudyOptions extends Common {
  generated?: string;
  rule?: Rule;
  out: string;
  force?: boolean;
}

function study(): Command {
  const command = subcommand(
    'study',
    'count which formulas the autoencoder decodes exactly, and which elements fail',
    'table of formulas: where the run’s own data are now, or others; the run’s own if not given',
  )
    .option('--generated <file>', 'formulas of a generator: does it find those that are not decodable?')
    .addOption(ruleOption())
    .requiredOption('--out <folder>', 'write study.json, index.html and decoding.parquet into it')
    .option('--force', 'write into a folder that is not empty')
    .addOption(deviceOption())
    .action(runStudy);
  return standardOptions(command, 'matgan autoencoder study runs/ae --generated new.parquet --out runs/ae/study');
}

async function runStudy(path: string, options: StudyOptions): Promise<void> {
  const { out } = options;
  if (existsSync(out)) {
    if (!statSync(out).isDirectory()) throw new DataError(`${out}: is a file; name a folder for the results`);
    if (!options.force && readdirSync(out).length > 0) {
      throw new DataError(`${out}: it exists and is not empty; take another name, or --force`);
    }
  }
  const checkpoint = findAutoencoder(path, options);
  const { config, step, seconds } = checkpoint;
  const rule = options.rule ?? config.decoding;
  const sets = await setsOf(checkpoint, options);
  const { formulaColumn } = options;
  const made = options.generated === undefined ? undefined : await loadFormulas(options.generated, { formulaColumn });
  const generated = made && PackedSet.of(made);
  const decoded = await withCodec(checkpoint, options, (codec) =>
    withBar(rowsOf(sets), (update) => decodeSets(codec, sets, update)),
  );
  const result = studyOf(sets, decoded, rule, generated);
  const failures = failuresOf(sets, decoded, rule);
  const facts = {
    ...result,
    model: {
      path,
      step,
      seconds,
      latent: config.model === 'ae' ? config.decoder.latent : 0,
      adapter: checkpoint.adapter,
    },
    fingerprints: Object.fromEntries(Object.entries(sets).map(([name, rows]) => [name, fingerprintOf(rows)])),
    ...(generated && { generated: { file: options.generated, different: generated.size } }),
  };
  mkdirSync(out, { recursive: true });
  await writeTable(join(out, 'decoding.parquet'), decodingColumns(sets, decoded, rule), rowsOf(sets));
  const write = (name: string, text: string): Promise<void> =>
    writeWhole(join(out, name), (temporary) => writeFile(temporary, text));
  await write('study.json', `${JSON.stringify({ ...facts, failures }, null, 2)}\n`);
  const lead = `${path} after ${step.toLocaleString('en')} steps, over ${rowsOf(sets).toLocaleString('en')} formulas${generated ? `, beside ${generated.size.toLocaleString('en')} that a generator made` : ''}.`;
  await write('index.html', studyPage({ study: result, lead, failures }));
  if (options.json) process.stdout.write(`${JSON.stringify(facts)}\n`);
  else {
    process.stdout.write(
      `${consoleTable(['decoded exactly', 'formulas', 'rule argmax', 'rule paper', 'paper, OQMD'], studyRows(result))}\n`,
    );
  }
  note(`wrote study.json, index.html and decoding.parquet into ${out}`);
}

const yesNo = (value: boolean | null): string => (value === null ? '' : value ? 'yes' : 'no');
const verdicts = (found: Judged): string[] => [
  yesNo(found.chargeNeutral),
  yesNo(found.electronegativityBalanced),
  found.known === null ? '' : found.known ? 'known' : 'new',
];

interface InterpolateOptions extends Common {
  from: string;
  to: string;
  steps: number;
  rule?: Rule;
}

function interpolation(): Command {
  const command = subcommand(
    'interpolate',
    'decode the straight path in latent space from one formula to another',
    'table of formulas that count as known; none if not given',
  )
    .requiredOption('--from <formula>', 'where the path begins')
    .requiredOption('--to <formula>', 'where it ends')
    .option('--steps <n>', 'equal steps of the path', integer(1, 100_000), 12)
    .addOption(ruleOption())
    .addOption(deviceOption())
    .action(async (path: string, options: InterpolateOptions) => {
      const checkpoint = findAutoencoder(path, options);
      const { from, to, steps, data, formulaColumn } = options;
      // Before a device is opened: what can't be read, and what never decodes.
      for (const formula of [from, to]) packedFormula(formula);
      const rows = data === undefined ? undefined : PackedSet.of(await loadFormulas(data, { formulaColumn }));
      const rule = options.rule ?? checkpoint.config.decoding;
      const result = await withCodec(checkpoint, options, (codec) =>
        interpolate(codec, { from, to }, steps, rule, rows),
      );
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const place = (t: number): string => t.toFixed(steps > 100 ? 3 : 2);
      process.stdout.write(
        `${consoleTable(
          ['path', 'formula', 'CN', 'EN', 'data'],
          result.stretches.map((stretch) => [
            stretch.points === 1 ? place(stretch.from) : `${place(stretch.from)}–${place(stretch.to)}`,
            stretch.found?.formula ?? 'nothing',
            ...(stretch.found ? verdicts(stretch.found) : ['', '', '']),
          ]),
          5,
        )}\n`,
      );
      for (const end of ['from', 'to'] as const) {
        if (!result.exact[end])
          note(`${result[end]} is not decoded exactly; the path ends at what its latent vector decodes to`);
      }
    });
  return standardOptions(command, 'matgan autoencoder interpolate runs/ae --from NaCl --to LiFePO4 --steps 12');
}

interface NearOptions extends Common {
  formula: string;
  count: number;
  radius: number;
  seed: number;
  rule?: Rule;
}

function neighbourhood(): Command {
  const command = subcommand(
    'near',
    'decode random points around a formula in latent space',
    'table of formulas that count as known and tell the spread of the latent vectors; the run’s own if not given',
  )
    .requiredOption('--formula <formula>', 'in the middle')
    .option('--count <n>', 'points to decode', integer(1, 1_000_000), 400)
    .option('--radius <r>', 'of the farthest points, in standard deviations of the latent vectors', real(0, 1000), 2)
    .option('--seed <n>', 'seed of the points', integer(0), 1)
    .addOption(ruleOption())
    .addOption(deviceOption())
    .action(async (path: string, options: NearOptions) => {
      const checkpoint = findAutoencoder(path, options);
      packedFormula(options.formula);
      const sets = await setsOf(checkpoint, options);
      const rule = options.rule ?? checkpoint.config.decoding;
      const { count, radius, seed } = options;
      const result = await withCodec(checkpoint, options, async (codec) => {
        const spread = await latentSpread(codec, sets.training ?? sets.other!);
        return near(codec, options.formula, { count, radius, seed, rule, spread, known: known(sets) });
      });
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      process.stdout.write(
        `${consoleTable(
          ['formula', 'CN', 'EN', 'data', 'times', 'distance'],
          result.neighbours.map((found) => [found.formula, ...verdicts(found), found.times, found.distance.toFixed(3)]),
          4,
        )}\n${result.samples} points: ${result.decoded} decode to a formula, ${result.same} of them to ${result.formula} itself; ${result.neighbours.length} others\n`,
      );
    });
  return standardOptions(command, 'matgan autoencoder near runs/ae --formula LiFePO4 --count 400 --radius 2');
}

interface EncodeOptions extends Common {
  out: string;
  force?: boolean;
}

function encode(): Command {
  const command = subcommand(
    'encode',
    'write the latent vectors of formulas as a table',
    'table of formulas; the run’s own if not given',
  )
    .requiredOption('--out <file>', 'table to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--force', 'overwrite the file')
    .addOption(deviceOption())
    .action(async (path: string, options: EncodeOptions) => {
      const { out } = options;
      await checkOutput(out);
      if (existsSync(out) && !options.force) throw new DataError(`${out}: it exists; take another name, or --force`);
      const checkpoint = findAutoencoder(path, options);
      const sets = await setsOf(checkpoint, options);
      const rows = await withCodec(checkpoint, options, (codec) =>
        withBar(rowsOf(sets), (update) => writeLatents(out, codec, sets, update)),
      );
      const latent = checkpoint.config.model === 'ae' ? checkpoint.config.decoder.latent : 0;
      if (options.json) process.stdout.write(`${JSON.stringify({ rows, latent, out })}\n`);
      note(`wrote ${rows} latent vectors of ${latent} components to ${out}`);
    });
  return standardOptions(command, 'matgan autoencoder encode runs/ae --data icsd.parquet --out latents.parquet');
}
