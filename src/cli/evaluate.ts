import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { type LoadedFormulas, loadFormulas } from '../chem/dataset.ts';
import type { PackedFormulas } from '../chem/encoding.ts';
import { type EvaluationResult, evaluateFormulas } from '../chem/metrics.ts';
import { writeWhole } from '../chem/tables.ts';
import { ConfigError, DataError } from '../errors.ts';
import { findCheckpoint, loadTrainingData } from '../models/run.ts';
import { evaluationPage, type LossLine, pickExamples, readLog } from '../report/evaluation.ts';
import { consoleTable, percent } from '../report/table.ts';
import { integer, note, standardOptions } from './common.ts';

interface Options {
  generated: string;
  train?: string;
  leaveOut?: string;
  other?: string[];
  formulaColumn?: string;
  run?: string;
  out?: string;
  force?: boolean;
  seed: number;
  json?: boolean;
}

/** `NAME=FILE` pairs. */
function parseOthers(pairs: readonly string[]): [name: string, file: string][] {
  const names = new Set<string>();
  return pairs.map((pair) => {
    const at = pair.indexOf('=');
    const [name, file] = [pair.slice(0, Math.max(0, at)).trim(), pair.slice(at + 1)];
    if (at < 0 || name === '' || file === '') {
      throw new ConfigError(`--other ${pair}: it takes NAME=FILE, such as MP=mp.parquet`);
    }
    if (names.has(name)) throw new ConfigError(`--other ${pair}: there are two named ${name}`);
    names.add(name);
    return [name, file];
  });
}

/** Refuses a folder that has something in it, before any work is done. */
function checkFolder(folder: string, force: boolean): void {
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory()) throw new DataError(`${folder}: is a file; name a folder for the results`);
  if (!force && readdirSync(folder).length > 0) {
    throw new DataError(`${folder}: it exists and is not empty; take another name, or --force`);
  }
}

function print(result: EvaluationResult): void {
  const { baselines, training, leaveOut } = result;
  const rates = ['formulas', 'different', 'CN', 'EN', 'training found', 'left-out found', 'distance, sizes'];
  const table = consoleTable(
    ['', ...rates],
    [
      [
        'generated',
        result.generated,
        result.unique,
        percent(result.chargeNeutral),
        percent(result.electronegativityBalanced),
        percent(result.recoveredTraining),
        percent(result.recoveredLeaveOut),
        result.totalVariation.elementCount.toFixed(3),
      ],
      ...(['frequency', 'uniform'] as const).map((name) => {
        const row = baselines[name];
        return [
          `baseline: ${name}`,
          row.count,
          row.unique,
          percent(row.chargeNeutral),
          percent(row.electronegativityBalanced),
          percent(row.recoveredTraining),
          percent(row.recoveredLeaveOut),
          row.totalVariation.elementCount.toFixed(3),
        ];
      }),
      ...[['training', training] as const, ['left out', leaveOut] as const].flatMap(([name, row]) =>
        row
          ? [
              [
                name,
                row.count,
                row.unique,
                percent(row.chargeNeutral),
                percent(row.electronegativityBalanced),
                '',
                '',
                '',
              ],
            ]
          : [],
      ),
    ],
  );
  const bySize = consoleTable(
    ['elements', 'generated', 'CN', 'EN', 'training CN', 'EN', 'frequency CN', 'EN', 'uniform CN', 'EN'],
    Object.entries(result.byElementCount).map(([n, row]) => [
      n,
      row.generated.count,
      ...[row.generated, row.training, row.frequency, row.uniform].flatMap((r) => [
        percent(r.chargeNeutral),
        percent(r.electronegativityBalanced),
      ]),
    ]),
  );
  const lines = [
    table,
    bySize,
    `${result.novel.toLocaleString('en')} of ${result.unique.toLocaleString('en')} different formulas are new (${percent(result.novelty)})`,
    ...Object.entries(result.confirmed).map(([name, n]) => `${n.toLocaleString('en')} of them are in ${name}`),
    `rule ${result.rule}, judged in lowest terms`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** The rows that a run trained on and left out, parted again from its data by its own seed. */
async function runSplit(options: Options): Promise<{ train: PackedFormulas; leaveOut: PackedFormulas | undefined }> {
  if (options.run === undefined) {
    throw new ConfigError('evaluate: it needs --train FILE, or --run FOLDER to take the rows of that run');
  }
  const { config, data } = findCheckpoint(options.run);
  const { train, leaveOut, fingerprint } = await loadTrainingData(data.source, config, {
    formulaColumn: options.formulaColumn,
  });
  if (fingerprint !== data.fingerprint) {
    throw new DataError(
      `${data.source ?? 'the default set'}: it has changed since ${options.run} was trained; name --train`,
    );
  }
  return { train, leaveOut: leaveOut.rows ? leaveOut : undefined };
}

async function run(options: Options): Promise<void> {
  if (options.out !== undefined) checkFolder(options.out, options.force ?? false);
  const others = parseOthers(options.other ?? []);
  const losses: Record<string, LossLine[]> =
    options.run === undefined ? {} : { Training: readLog(join(options.run, 'log.jsonl')) };

  const files: Record<string, { file: string; read: number; used: number; unusable: Record<string, number> }> = {};
  const bar = new SingleBar({ format: '{bar} {doing}', stream: process.stderr, clearOnComplete: true });
  bar.start(3 + others.length + (options.leaveOut ? 1 : 0), 0, { doing: '' });
  const load = async (name: string, file: string, unique: boolean): Promise<LoadedFormulas> => {
    bar.update({ doing: `reading ${file}` });
    const loaded = await loadFormulas(file, { formulaColumn: options.formulaColumn, unique });
    files[name] = { file, read: loaded.read, used: loaded.rows, unusable: loaded.unusable };
    bar.increment();
    return loaded;
  };
  let result: EvaluationResult;
  let examples: ReturnType<typeof pickExamples>;
  try {
    const generated = await load('generated', options.generated, false);
    const split = options.train === undefined ? await runSplit(options) : undefined;
    const training = split?.train ?? (await load('train', options.train!, true));
    const leaveOut = options.leaveOut === undefined ? split?.leaveOut : await load('leaveOut', options.leaveOut, true);
    const otherSets: Record<string, LoadedFormulas> = {};
    for (const [name, file] of others) otherSets[name] = await load(`other ${name}`, file, true);
    bar.update({ doing: `judging ${generated.rows} formulas and two baselines` });
    const { seed } = options;
    result = evaluateFormulas({ generated, training, leaveOut, others: otherSets, seed });
    examples = pickExamples({ generated, training, leaveOut }, seed);
  } finally {
    bar.stop();
  }

  const { out } = options;
  const record = { ...result, files };
  if (out !== undefined) {
    mkdirSync(out, { recursive: true });
    const write = (name: string, text: string): Promise<void> =>
      writeWhole(join(out, name), (temporary) => writeFile(temporary, text));
    await write('evaluation.json', `${JSON.stringify({ ...record, examples }, null, 2)}\n`);
    await write('index.html', evaluationPage({ result, examples, losses }));
  }
  if (options.json) process.stdout.write(`${JSON.stringify(record)}\n`);
  else print(result);
  for (const { file, unusable } of Object.values(files)) {
    const reasons = Object.entries(unusable).map(([reason, count]) => `${count} × ${reason}`);
    if (reasons.length) note(`${file}: rows that could not be used: ${reasons.join(', ')}`);
  }
  if (out !== undefined) note(`wrote ${join(out, 'evaluation.json')} and ${join(out, 'index.html')}`);
}

/** `matgan evaluate`: what generated formulas are worth, beside training and generators without a network. */
export function evaluate(): Command {
  const command = new Command('evaluate')
    .description('compare generated formulas with training data and with generators that have no network')
    .requiredOption('--generated <file>', 'formulas of a generator, repeats included')
    .option('--train <file>', 'formulas that it was trained on; those of --run if not given')
    .option('--leave-out <file>', 'formulas that were left out of training; those of --run if --train is not given')
    .option('--other <NAME=file...>', 'other data sets, in which new formulas are looked up')
    .option('--formula-column <name>', 'column with the formulas, in every file (found by name where left out)')
    .option('--run <folder>', 'run folder: its training and left-out rows, and the curves of its log.jsonl')
    .option('--out <folder>', 'write evaluation.json and index.html into it')
    .option('--force', 'write into a folder that is not empty')
    .option('--seed <n>', 'of the baselines and the choice of examples', integer(0), 1)
    .action(run);
  return standardOptions(command, 'matgan evaluate --generated new.csv --run runs/mine --out runs/mine/evaluation');
}
