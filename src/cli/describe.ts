import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { describeTable } from '../chem/describe.ts';
import { parseFormula } from '../chem/formula.ts';
import {
  Describer,
  descriptorCount,
  descriptorNames,
  descriptorSet,
  type Missing,
  missingValues,
} from '../chem/magpie.ts';
import { ConfigError, FormulaError } from '../errors.ts';
import { note, standardOptions } from './common.ts';

interface DescribeOptions {
  out?: string;
  formula?: string[];
  formulaColumn?: string;
  missing: 'refuse' | 'empty';
  json?: boolean;
}

/** `matgan describe`: the 145 attributes of Ward et al. of a table's formulas, or of a few. */
export function describe(): Command {
  const command = new Command('describe')
    .description('compute the 145 Magpie descriptors of formulas, equal to matminer’s')
    .argument('[file]', 'a table or a list of formulas: CSV, TSV, JSON, JSON lines or Parquet, also .gz')
    .option('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .option('--formula <formulas...>', 'formulas to describe here, instead of a file')
    .addOption(
      new Option('--missing <what>', 'where an element lacks a value, such as He a melting point')
        .choices(['refuse', 'empty'])
        .default('refuse'),
    )
    .addHelpText(
      'after',
      '\nFractional formulas and elements outside the 85 are described too. Rows that cannot be are counted by reason and\n' +
        'listed in OUT.rejected.csv. Without --out and --formula the names of the descriptors are printed.',
    )
    .action(async (file: string | undefined, options: DescribeOptions) => {
      const { out, formula } = options;
      const missing: Missing = options.missing === 'empty' ? 'nan' : 'refuse';
      if (file !== undefined && formula) throw new ConfigError('describe: it takes a file or --formula, not both');
      if (file !== undefined && out === undefined) throw new ConfigError('describe: name the file to write with --out');
      if (file === undefined && out !== undefined)
        throw new ConfigError('describe: name the file to read before --out');
      if (formula) describeHere(formula, missing, options.json ?? false);
      else if (file === undefined || out === undefined) {
        if (options.json) process.stdout.write(`${JSON.stringify({ ...descriptorSet(), names: descriptorNames })}\n`);
        else process.stdout.write(`${descriptorNames.join('\n')}\n`);
      } else {
        const bar = new SingleBar({ format: 'described {value} rows', stream: process.stderr, clearOnComplete: true });
        bar.start(0, 0);
        const { formulaColumn } = options;
        const progress = (rows: number): void => bar.update(rows);
        const result = await describeTable(file, { out, formulaColumn, missing, progress }).finally(() => bar.stop());
        if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
        for (const [value, rows] of Object.entries(result.missing))
          note(`no ${value}: cells of ${rows} rows are empty`);
        for (const [reason, rows] of Object.entries(result.unusable)) note(`unusable: ${rows} × ${reason}`);
        if (result.rejectedFile) note(`rows that could not be described: ${result.rejectedFile}`);
        note(`wrote ${result.kept} formulas with ${descriptorCount} descriptors to ${result.out}`);
      }
    });
  return standardOptions(command, 'matgan describe icsd.parquet --out descriptors.parquet');
}

/** Prints the attributes of a few formulas; one that has none gets its error, and exit code 2. */
function describeHere(formulas: readonly string[], missing: Missing, json: boolean): void {
  const describer = new Describer(missing);
  const described: { formula: string; values: Float64Array }[] = [];
  for (const formula of formulas) {
    try {
      const composition = parseFormula(formula);
      const values = new Float64Array(descriptorCount);
      describer.composition(composition, values, 0);
      described.push({ formula, values });
      const lacking = missingValues(composition).map(({ element, property }) => `${element} ${property}`);
      // JSON has no NaN: null.
      const named = Object.fromEntries(descriptorNames.map((name, k) => [name, values[k]]));
      if (json) process.stdout.write(`${JSON.stringify({ formula, descriptors: named, missing: lacking })}\n`);
      else if (lacking.length > 0) note(`${formula}: no ${lacking.join(', no ')}`);
    } catch (error) {
      if (!(error instanceof FormulaError)) throw error;
      process.exitCode = 2;
      if (json) process.stdout.write(`${JSON.stringify({ formula, descriptors: null, error: error.message })}\n`);
      else note(error.message);
    }
  }
  if (json || described.length === 0) return;
  const table = new Table({
    head: ['', ...described.map(({ formula }) => formula)],
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
  });
  for (const [k, name] of descriptorNames.entries())
    table.push([
      name,
      ...described.map(({ values }) => (Number.isNaN(values[k]) ? '' : String(Number(values[k].toPrecision(7))))),
    ]);
  process.stdout.write(`${table.toString()}\n`);
}
