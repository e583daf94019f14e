import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { type Composition, FormulaFault, parseFormula } from '../chem/formula.ts';
import { checkOutput, type OutColumn, readTable, writeTable } from '../chem/tables.ts';
import { type TargetTally, targetOf } from '../chem/targets.ts';
import { ConfigError, DataError } from '../errors.ts';
import { openRegressor } from '../models/regressor.ts';
import { propertyReport } from '../report/property.ts';
import { deviceOption, note, standardOptions } from './common.ts';
import { makeReportFolder, reportText, writeReport } from './property.ts';

interface Options {
  formulas: string;
  out?: string;
  formulaColumn?: string;
  truth?: string;
  report?: string;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

/** More formulas than this are refused: some 100 bytes each are held. */
const mostFormulas = 10_000_000;
/** Formulas that are parsed at a time. */
const chunk = 8192;

async function run(path: string, options: Options): Promise<void> {
  const { formulas: file, out, truth, report: folder } = options;
  if (out === undefined && folder === undefined) throw new ConfigError('predict: it needs --out FILE or --report DIR');
  if (folder !== undefined && truth === undefined) {
    throw new ConfigError('predict: --report compares with the truth; name its column with --truth');
  }
  const model = await openRegressor(path, 'predict', options.device);
  const bar = new SingleBar({ format: '{bar} {value}/{total} | {eta_formatted} left', stream: process.stderr });
  try {
    note(model.note);
    if (out !== undefined) await checkOutput(out);
    if (folder !== undefined) makeReportFolder(folder);
    const texts: (string | null)[] = [];
    const truths: number[] = [];
    const tally: TargetTally = { unusable: {}, without: 0 };
    const columns = { formulaColumn: options.formulaColumn, labelColumn: truth, labelOption: '--truth' };
    await readTable(file, columns, (text, _energy, _gap, row, label) => {
      texts.push(text);
      if (texts.length > mostFormulas)
        throw new DataError(`${file}: has more than ${mostFormulas} rows; predict it in parts`);
      if (truth !== undefined) truths.push(targetOf(label, row, tally) ?? Number.NaN);
    });

    const rows = texts.length;
    const values = new Float64Array(rows).fill(Number.NaN);
    let uncertainties: Float64Array | undefined;
    const elements = new Uint8Array(rows);
    const errors = new Map<number, string>();
    const started = performance.now();
    if (process.stderr.isTTY) bar.start(rows, 0);
    for (let from = 0; from < rows; from += chunk) {
      const places: number[] = [];
      const formulas: Composition[] = [];
      for (let row = from; row < Math.min(rows, from + chunk); row++) {
        try {
          formulas.push(parseFormula(texts[row] ?? ''));
          places.push(row);
        } catch (error) {
          if (!(error instanceof FormulaFault)) throw error;
          errors.set(row, error.message);
        }
      }
      const found = await model.compositions(formulas);
      if (found.uncertainties) uncertainties ??= new Float64Array(rows).fill(Number.NaN);
      places.forEach((row, i) => {
        const fault = found.faults.get(i);
        if (fault) errors.set(row, fault.message);
        values[row] = found.values[i];
        if (uncertainties && found.uncertainties) uncertainties[row] = found.uncertainties[i];
        elements[row] = formulas[i].size;
      });
      bar.update(Math.min(rows, from + chunk));
    }
    bar.stop();
    const seconds = (performance.now() - started) / 1000;
    const { target } = model;
    if (out !== undefined) {
      const real = (name: string, of: ArrayLike<number>): OutColumn => ({
        name,
        type: 'real',
        value: (row) => of[row],
      });
      const list: OutColumn[] = [
        { name: 'formula', type: 'text', value: (row) => texts[row] },
        ...(truth === undefined ? [] : [real(truth, truths)]),
        real(`predicted_${target}`, values),
        ...(uncertainties ? [real('uncertainty', uncertainties)] : []),
        { name: 'error', type: 'text', value: (row) => errors.get(row) ?? null },
      ];
      await writeTable(out, list, rows);
    }
    const predicted = rows - errors.size;
    note(`${predicted} of ${rows} formulas predicted in ${seconds.toFixed(1)} s${out ? `; ${out}` : ''}`);
    const [first] = [...errors].sort(([a], [b]) => a - b);
    if (first) note(`not predicted: row ${first[0] + 1}: ${first[1]}`);
    for (const [why, { count, first: example }] of Object.entries(tally.unusable))
      note(`truth not usable: ${count} × ${why}; ${example}`);
    const judgedRows = Array.from(values.keys()).filter(
      (i) => Number.isFinite(values[i]) && Number.isFinite(truths[i]),
    );
    if (truth !== undefined && judgedRows.length === 0) {
      throw new DataError(`${file}: no row has a formula that can be predicted and a number in column ${truth}`);
    }
    const pick = (of: ArrayLike<number>): number[] => judgedRows.map((i) => of[i]);
    const judged = {
      values: pick(values),
      uncertainties: uncertainties && pick(uncertainties),
      truth: pick(truths),
      elements: pick(elements),
    };
    const report = truth === undefined ? undefined : propertyReport(target, judged, model.calibration);
    if (report) note(reportText(report));
    if (report && folder !== undefined) {
      await writeReport(folder, report, judged);
      note(`properties.json and its charts: ${folder}`);
    }
    if (options.json) process.stdout.write(`${JSON.stringify({ rows, predicted, seconds, target, report })}\n`);
  } finally {
    bar.stop();
    model.destroy();
  }
}

/** `matgan predict`: a trained property model on a table of formulas. */
export function predict(): Command {
  const command = new Command('predict')
    .description('predict a property of formulas, with its uncertainty, by a model of "train elemnet" or "train trees"')
    .argument(
      '<run>',
      'run folder (its best state), model file (of trees one with --descriptors magpie), or name of a model that ships',
    )
    .requiredOption('--formulas <file>', 'table of formulas (CSV, TSV, JSON, JSONL, Parquet, also .gz)')
    .option('--formula-column <name>', 'column of the formulas')
    .option(
      '--out <file>',
      'table to write: formula, prediction, uncertainty (if the model has one), or what was wrong with the formula',
    )
    .option('--truth <column>', 'column to compare the predictions with')
    .option('--report <folder>', 'with --truth: properties.json, parity and calibration charts')
    .addOption(deviceOption())
    .addHelpText(
      'after',
      '\nAmounts may be fractional (Fe0.95O). The uncertainty is what 68 % of the errors stayed below on validation rows like\nthese; of formulas unlike all training rows it says little.',
    )
    .action(run);
  return standardOptions(command, 'matgan predict runs/energy --formulas candidates.csv --out energies.csv');
}
