import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { formatFormula, parseFormula, reduceFormula } from '../chem/formula.ts';
import { readTable } from '../chem/tables.ts';
import { judge, type Verdict } from '../chem/validity.ts';
import { ConfigError, FormulaError } from '../errors.ts';
import { standardOptions } from './common.ts';

interface CheckOptions {
  formula?: string[];
  formulaColumn?: string;
  rule: string;
  reduce: boolean;
  json?: boolean;
}

/** One line of the output; the field names are fixed. */
interface Line {
  readonly formula: string;
  readonly reduced: string | null;
  readonly chargeNeutral: boolean | null;
  readonly electronegativityBalanced: boolean | null;
  readonly oxidationStates: Verdict['oxidationStates'];
  readonly error?: string;
}

/** Judges one formula; never throws on what a formula holds. */
export function checkFormula(formula: string, options: { reduce: boolean }): Line {
  try {
    const composition = parseFormula(formula);
    const verdict = judge(composition, options);
    return { formula, reduced: formatFormula(reduceFormula(composition)), ...verdict };
  } catch (error) {
    if (!(error instanceof FormulaError)) throw error;
    const none = { reduced: null, chargeNeutral: null, electronegativityBalanced: null, oxidationStates: null };
    return { formula, ...none, error: error.message };
  }
}

function charges(states: Record<string, number> | null): string {
  if (!states) return '';
  return Object.entries(states)
    .map(([symbol, charge]) => `${symbol}${charge > 0 ? '+' : ''}${charge}`)
    .join(' ');
}

/** Rows of a human table are printed in groups, so that a long file needs no memory. */
const groupSize = 500;

/** `matgan check`: is a formula charge-neutral and electronegativity-balanced? */
export function check(): Command {
  const command = new Command('check')
    .description("judge formulas: charge-neutral and electronegativity-balanced by the paper's rule")
    .argument('[file]', 'a table or a list of formulas, one a line; - reads lines from standard input')
    .option('--formula <formulas...>', 'formulas to judge')
    .option('--formula-column <name>', 'column of the file that holds formulas')
    .addOption(new Option('--rule <name>', 'rule of validity').choices(['paper']).default('paper'))
    .option('--no-reduce', 'judge the formula as written instead of its reduced form')
    .addHelpText(
      'after',
      '\nOne verdict a formula; one that cannot be read gets its error, and the others are still judged.\n' +
        'Exit code: 0 when every formula was judged, whatever the verdicts; 2 when any could not be read.\n' +
        'Rule paper: one oxidation state per element from the SMACT 2014 set, charges sum to zero, and every cation less\n' +
        'electronegative than every anion.',
    )
    .action(async (file: string | undefined, options: CheckOptions) => {
      if (file === undefined && options.formula === undefined) {
        throw new ConfigError('check: nothing to judge; name a file, - for standard input, or --formula NaCl');
      }
      let failed = 0;
      let lines: Line[] = [];
      const flush = (): void => {
        if (lines.length === 0) return;
        const table = new Table({
          head: ['formula', 'reduced', 'CN', 'EN', 'oxidation states'],
          style: { head: [], border: [] },
        });
        const yes = (verdict: boolean | null): string => (verdict === null ? '' : verdict ? 'yes' : 'no');
        for (const { formula, reduced, chargeNeutral, electronegativityBalanced, oxidationStates, error } of lines) {
          const shown = formula.length > 40 ? `${formula.slice(0, 37)}...` : formula;
          // biome-ignore lint/suspicious/noControlCharactersInRegex: a hostile formula must not steer the terminal
          const safe = shown.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
          if (error !== undefined) table.push([safe, { colSpan: 4, content: error }]);
          else
            table.push([safe, reduced, yes(chargeNeutral), yes(electronegativityBalanced), charges(oxidationStates)]);
        }
        process.stdout.write(`${table.toString()}\n`);
        lines = [];
      };
      const put = (formula: string): void => {
        const line = checkFormula(formula, options);
        if (line.error !== undefined) failed++;
        if (options.json) process.stdout.write(`${JSON.stringify(line)}\n`);
        else if (lines.push(line) === groupSize) flush();
      };
      for (const formula of options.formula ?? []) put(formula);
      if (file === '-') {
        for await (const line of createInterface({ input: process.stdin })) {
          put(line);
          if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
        }
      } else if (file !== undefined) {
        // On a terminal the verdicts themselves show how far it is.
        const bar = process.stdout.isTTY
          ? null
          : new SingleBar({ format: 'judged {value} rows', stream: process.stderr, clearOnComplete: true });
        bar?.start(0, 0);
        const { malformed } = await readTable(
          file,
          { formulaColumn: options.formulaColumn, progress: (rows) => bar?.update(rows) },
          (text) => put(text ?? ''),
        ).finally(() => bar?.stop());
        for (const { line, text } of malformed) {
          const none = { reduced: null, chargeNeutral: null, electronegativityBalanced: null, oxidationStates: null };
          const error = `line ${line} of ${file} is no row of the table`;
          failed++;
          if (options.json) process.stdout.write(`${JSON.stringify({ formula: text, ...none, error })}\n`);
          else lines.push({ formula: text, ...none, error });
        }
      }
      flush();
      if (failed > 0) process.exitCode = 2;
    });
  return standardOptions(command, "matgan check --formula NaCl Fe3O4 'Ca(OH)2'");
}
