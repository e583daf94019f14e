import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import { elementCount } from '../chem/encoding.ts';
import { FormulaFault, parseFormula } from '../chem/formula.ts';
import { writeFractions } from '../chem/fractions.ts';
import { checkOutput, type OutColumn, readTable, writeTable } from '../chem/tables.ts';
import { type TargetTally, targetOf } from '../chem/targets.ts';
import { ConfigError, DataError } from '../errors.ts';
import { uncertainty } from '../models/calibration.ts';
import { propertyModel } from '../models/elemnet.ts';
import { reason } from '../models/files.ts';
import { bestName, findCheckpoint } from '../models/run.ts';
import { propertyReport } from '../report/property.ts';
import { deviceOption, note, standardOptions } from './common.ts';
import { elementsOf, reportText, writeReport } from './property.ts';

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
/** Formulas whose fractions are made at a time. */
const chunk = 8192;

async function run(path: string, options: Options): Promise<void> {
  const { formulas: file, out, truth, report: folder } = options;
  if (out === undefined && folder === undefined) throw new ConfigError('predict: it needs --out FILE or --report DIR');
  if (folder !== undefined && truth === undefined) {
    throw new ConfigError('predict: --report compares with the truth; name its column with --truth');
  }
  const checkpoint = findCheckpoint(path, existsSync(join(path, bestName)) ? 'best' : 'last');
  const { config } = checkpoint;
  if (config.model !== 'elemnet') {
    throw new ConfigError(`${path}: it is a model of kind ${config.model}; predict takes one of "train elemnet"`);
  }
  if (out !== undefined) await checkOutput(out);
  if (folder !== undefined) {
    try {
      mkdirSync(folder, { recursive: true });
    } catch (cause) {
      throw new DataError(`--report ${folder}: it cannot be made (${reason(cause)})`, { cause });
    }
  }

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
  const values = new Float32Array(rows).fill(Number.NaN);
  const spreads = new Float32Array(rows).fill(Number.NaN);
  const elements = new Uint8Array(rows);
  const errors = new Map<number, string>();
  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  note(adapter);
  const started = performance.now();
  const bar = new SingleBar({ format: '{bar} {value}/{total} | {eta_formatted} left', stream: process.stderr });
  try {
    const model = await propertyModel(executor, checkpoint);
    try {
      if (process.stderr.isTTY) bar.start(rows, 0);
      const fractions = new Float32Array(chunk * elementCount);
      for (let from = 0; from < rows; from += chunk) {
        const usable: number[] = [];
        for (let row = from; row < Math.min(rows, from + chunk); row++) {
          try {
            writeFractions(parseFormula(texts[row] ?? ''), fractions, usable.length * elementCount);
            usable.push(row);
          } catch (error) {
            if (!(error instanceof FormulaFault)) throw error;
            errors.set(row, error.message);
          }
        }
        const some = fractions.subarray(0, usable.length * elementCount);
        const found = await model.run(some);
        const counts = elementsOf(some);
        usable.forEach((row, i) => {
          values[row] = found.values[i];
          spreads[row] = found.spreads[i];
          elements[row] = counts[i];
        });
        bar.update(Math.min(rows, from + chunk));
      }
      bar.stop();
      const seconds = (performance.now() - started) / 1000;
      const { target } = config;
      if (out !== undefined) {
        const list: OutColumn[] = [
          { name: 'formula', type: 'text', value: (row) => texts[row] },
          { name: `predicted_${target}`, type: 'real', value: (row) => values[row] },
          { name: 'uncertainty', type: 'real', value: (row) => uncertainty(spreads[row], model.calibration) },
          { name: 'error', type: 'text', value: (row) => errors.get(row) ?? null },
        ];
        if (truth !== undefined) list.splice(1, 0, { name: truth, type: 'real', value: (row) => truths[row] });
        await writeTable(out, list, rows);
      }
      const predicted = rows - errors.size;
      note(`${predicted} of ${rows} formulas predicted in ${seconds.toFixed(1)} s${out ? `; ${out}` : ''}`);
      const [first] = errors;
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
      const judged = { values: pick(values), spreads: pick(spreads), truth: pick(truths), elements: pick(elements) };
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
  } finally {
    executor.destroy();
  }
}

/** `matgan predict`: a trained property model on a table of formulas. */
export function predict(): Command {
  const command = new Command('predict')
    .description('predict a property of formulas, with its uncertainty, by a model of "train elemnet"')
    .argument('<run>', 'run folder (its best state), model file, or name of a model that ships')
    .requiredOption('--formulas <file>', 'table of formulas (CSV, TSV, JSON, JSONL, Parquet, also .gz)')
    .option('--formula-column <name>', 'column of the formulas')
    .option('--out <file>', 'table to write: formula, prediction, uncertainty, or what was wrong with the formula')
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
