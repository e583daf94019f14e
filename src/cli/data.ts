import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { Command } from 'commander';
import {
  byElementCount,
  fingerprintOf,
  prepareData,
  ruleSets,
  writeFormulas,
  writeProvenance,
} from '../chem/dataset.ts';
import { defaultCount, defaultSeed, synthesize } from '../chem/synth.ts';
import { checkOutput } from '../chem/tables.ts';
import { integer, note, standardOptions } from './common.ts';

/** `matgan data prepare` and `matgan data synth`: from a table, or from nothing, to a data set that can be trained on. */
export function data(): Command {
  return new Command('data')
    .description('prepare a data set, or make the embedded one')
    .addCommand(prepare())
    .addCommand(synth());
}

interface PrepareOptions {
  rules: string;
  formulaColumn?: string;
  energyColumn?: string;
  gapColumn?: string;
  out: string;
  json?: boolean;
}

/** A table of counts, with thousands separated. */
function printTable(head: string[], rows: (string | number)[][]): void {
  const table = new Table({
    head,
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
  });
  for (const row of rows) table.push(row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)));
  process.stdout.write(`${table.toString()}\n`);
}

function prepare(): Command {
  const command = new Command('prepare')
    .description("apply the paper's data rules to a table of formulas and print what each rule removes")
    .argument('<file>', 'CSV, TSV, JSON, JSON lines or Parquet, also .gz')
    .requiredOption('--rules <name>', Object.keys(ruleSets).join(' | '))
    .requiredOption('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .option('--energy-column <name>', 'column with formation energies in eV per atom')
    .option('--gap-column <name>', 'column with band gaps in eV')
    .addHelpText(
      'after',
      '\nEqual reduced formulas are one formula. Rows that cannot be used are counted by reason and listed in\n' +
        'OUT.rejected.csv; OUT.provenance.json says where the data came from.',
    )
    .action(async (file: string, options: PrepareOptions) => {
      const bar = new SingleBar({ format: 'reading {value} rows', stream: process.stderr, clearOnComplete: true });
      let shown = 0;
      bar.start(0, 0);
      const result = await prepareData(file, {
        ...options,
        progress: (rows) => {
          if (rows - shown < 10_000) return;
          shown = rows;
          bar.update(rows);
        },
      }).finally(() => bar.stop());
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const paperRows = result.paper.rows === null ? '' : result.paper.rows;
      printTable(
        ['step', 'removed', 'left', 'paper'],
        [
          ['rows of the file', '', result.rows, paperRows],
          ...Object.entries(result.unusable).map(([reason, count]) => [`unusable: ${reason}`, count, '', '']),
          ...result.steps.map(({ rule, removed, left, paper }) => [rule, removed, left, paper ?? '']),
        ],
      );
      printTable(
        ['elements', 'formulas'],
        Object.entries(result.byElementCount).map(([elements, count]) => [elements, count]),
      );
      if (result.rejectedFile) note(`rows that could not be used: ${result.rejectedFile}`);
      note(`wrote ${result.kept} formulas to ${result.out}`);
    });
  return standardOptions(command, 'matgan data prepare mp.csv.gz --rules mp --out mp.parquet');
}

interface SynthOptions {
  out: string;
  count: number;
  seed: number;
  json?: boolean;
}

function synth(): Command {
  const command = new Command('synth')
    .description('write the embedded default set: balanced compounds enumerated from element facts')
    .requiredOption('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--count <n>', 'number of formulas', integer(1, 200_000), defaultCount)
    .option('--seed <n>', 'the same seed gives the same bits', integer(0), defaultSeed)
    .action(async (options: SynthOptions) => {
      await checkOutput(options.out);
      const formulas = synthesize(options);
      await writeFormulas(options.out, formulas);
      const facts = {
        rules: 'synth',
        count: options.count,
        seed: options.seed,
        kept: formulas.rows,
        byElementCount: byElementCount(formulas),
        fingerprint: fingerprintOf(formulas),
        out: options.out,
      };
      await writeProvenance(options.out, facts);
      if (options.json) {
        process.stdout.write(`${JSON.stringify(facts)}\n`);
        return;
      }
      printTable(
        ['elements', 'formulas'],
        Object.entries(facts.byElementCount).map(([elements, count]) => [elements, count]),
      );
      note(`wrote ${formulas.rows} formulas to ${options.out}`);
    });
  return standardOptions(command, 'matgan data synth --out default.parquet');
}
