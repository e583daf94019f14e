import { existsSync, statSync } from 'node:fs';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import { type FormulaTarget, meetsTarget } from '../chem/baseline.ts';
import { loadFormulas } from '../chem/dataset.ts';
import { matganElements } from '../chem/elements.ts';
import { maxPairs, type PackedFormulas, takeRows } from '../chem/encoding.ts';
import { defaultMemory, Harvest, type HarvestResult } from '../chem/harvest.ts';
import { checkOutput } from '../chem/tables.ts';
import { CheckpointError, ConfigError, DataError } from '../errors.ts';
import type { PropertyRange } from '../models/drafts.ts';
import { openRegressor, type Regressor, shippedModel } from '../models/regressor.ts';
import { findCheckpoint } from '../models/run.ts';
import { type Drawn, defaultBatch, drawSamples } from '../models/sampler.ts';
import { percent } from '../report/table.ts';
import { deviceOption, integer, note, range, standardOptions } from './common.ts';
import { type FilterOptions, filterOptions, findFilter } from './filter.ts';

interface GenerateOptions extends FilterOptions {
  count: number;
  best?: boolean;
  out?: string;
  rule?: 'paper' | 'argmax';
  reduce: boolean;
  unique?: boolean;
  force?: boolean;
  seed: number;
  batch?: number;
  judge?: boolean;
  memory: number;
  contains?: string[];
  elements?: [number, number];
  formulaColumn?: string;
  like?: string;
  gap?: [number, number];
  energy?: [number, number];
  gapModel?: string;
  energyModel?: string;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

export function generate(): Command {
  const command = new Command('generate')
    .description('make new formulas with a trained generator')
    .argument('<run>', 'run folder, model file, or the name of a model that ships (matgan models)')
    .requiredOption(
      '--count <n>',
      'samples to draw; formulas with all that is asked for where anything is',
      integer(1, 1_000_000_000),
    )
    .option('--out <file>', 'table to write; the ending decides: .parquet, .csv, .tsv, .jsonl, .json (.gz)')
    .addOption(
      new Option('--rule <rule>', "how cells become formulas; the model's own rule if not given").choices([
        'argmax',
        'paper',
      ]),
    )
    .option('--best', "the run's best checkpoint (see train --best) instead of its last")
    .option('--no-reduce', 'keep multiples such as Na2Cl2 as they come (the paper rule never divides)')
    .option('--unique', 'write each formula once')
    .option('--judge', "judge each formula by the paper's rule: two more columns, and shares of all")
    .option('--force', 'overwrite the file')
    .option('--seed <n>', 'seed of the noise', integer(0), 1)
    .option(
      '--batch <n>',
      'samples in one pass: up to 4096 on a graphics card, else 128, on the reference 16',
      integer(1, 65_536),
    )
    .option(
      '--memory <MiB>',
      'memory for telling repeats; beyond it temporary files beside the table are used',
      integer(1, 1_048_576),
      defaultMemory / 2 ** 20,
    )
    .option('--contains <symbol...>', 'formulas with all of these elements; drafts are drawn with them')
    .option('--elements <range>', 'formulas with so many elements, such as 3 or 3..4', range(1, maxPairs, true))
    .option(
      '--like <file>',
      'drafts drawn from the frequencies of these formulas instead of training: those with the property that is wanted',
    )
    .option('--formula-column <name>', "column of --like's formulas (found by name where left out)")
    .option(
      '--gap <range>',
      'formulas with such predicted band gaps, in eV; with --like and no model its rows with them',
      range(0, 1000),
    )
    .option(
      '--gap-model <model>',
      'what predicts them, of "train elemnet" or "train trees"; the one that ships if not given',
    )
    .option('--energy <range>', 'formation energies, in eV/atom, likewise', range(-1000, 1000))
    .option('--energy-model <model>', 'likewise')
    .addHelpText(
      'after',
      '\nWithout --out, formulas go to standard output, one a line (with --judge as CSV), and the summary to standard error.\n' +
        'The same run, seed and batch give the same formulas on the same adapter. They are written as they come, in bounded\n' +
        'memory; Ctrl-C leaves nothing behind. --judge takes formulas as they are written (in lowest terms unless --no-reduce).\n' +
        "With --gap or --energy every formula that is written is predicted in range: that is a model's opinion.",
    )
    .addOption(deviceOption())
    .action(run);
  return standardOptions(
    filterOptions(command),
    'matgan generate runs/mine --count 2000000 --unique --judge --out new.parquet',
  );
}

/** What `--contains` and `--elements` ask for. */
function targetOf({ contains = [], elements }: GenerateOptions): FormulaTarget | undefined {
  if (contains.length === 0 && !elements) return undefined;
  const symbols = [...new Set(contains.flatMap((text) => text.split(',')).filter(Boolean))];
  const indices = symbols.map((symbol) => {
    const index = matganElements.indexOf(symbol);
    if (index < 0)
      throw new ConfigError(`--contains ${symbol}: it is none of the 85 elements; write symbols such as Li O`);
    return index;
  });
  const sizes = elements ?? [1, maxPairs];
  if (indices.length > sizes[1]) {
    throw new ConfigError(`--contains ${symbols.join(' ')}: more elements than a formula may have (${sizes[1]})`);
  }
  return { contains: indices, sizes };
}

const properties = ['gap', 'energy'] as const;

/** The model whose predictions a range is of: the one that ships, unless another is named or the range is of --like's rows. */
const modelOf = (options: GenerateOptions, name: (typeof properties)[number]): string | undefined =>
  options[`${name}Model`] ?? (options[name] && options.like === undefined ? shippedModel(name) : undefined);

/** The ranges that predictions are to lie in, their models opened (for the caller to close). @throws ConfigError */
async function propertyRanges(options: GenerateOptions, opened: Regressor[]): Promise<PropertyRange[]> {
  const ranges: PropertyRange[] = [];
  for (const name of properties) {
    const [range, path] = [options[name], modelOf(options, name)];
    if (path === undefined) continue;
    if (!range) throw new ConfigError(`--${name}-model: say which predictions are wanted, such as --${name} ..2`);
    const model = await openRegressor(path, `--${name}-model`, options.device);
    opened.push(model);
    note(`--${name}-model: ${model.target}; ${model.note}`);
    ranges.push({ name: `--${name} ${range.join('..')}`, model, range });
  }
  return ranges;
}

/** The formulas of `--like`, of those ranges without a model only what they leave; with all that `--contains` asks for, where some are. */
async function likeness(
  options: GenerateOptions,
  target: FormulaTarget | undefined,
): Promise<PackedFormulas | undefined> {
  const { like, formulaColumn } = options;
  if (like === undefined) return undefined;
  const [gap, energy] = properties.map((name) => (modelOf(options, name) === undefined ? options[name] : undefined));
  const { packed, rows, gaps, energies } = await loadFormulas(like, { formulaColumn });
  if (gap && !gaps) throw new DataError(`${like}: has no column of band gaps for --gap`);
  if (energy && !energies) throw new DataError(`${like}: has no column of formation energies for --energy`);
  const within = ([low, high]: [number, number], value: number): boolean => value >= low && value <= high;
  const chosen = Array.from({ length: rows }, (_, i) => i).filter(
    (i) => (!gap || within(gap, gaps![i])) && (!energy || within(energy, energies![i])),
  );
  if (chosen.length === 0) throw new DataError(`${like}: no row is in the range asked for; widen it`);
  const asked = target && chosen.filter((i) => meetsTarget({ ...target, sizes: [1, maxPairs] }, packed, i));
  const taken = asked && asked.length > 0 ? asked : chosen;
  note(`drafts like ${taken.length} of ${rows} formulas of ${like}`);
  return { packed: takeRows(packed, taken), rows: taken.length };
}

async function run(path: string, options: GenerateOptions): Promise<void> {
  const { out } = options;
  if (out !== undefined) {
    await checkOutput(out);
    if (existsSync(out) && statSync(out).isFile() && !options.force)
      throw new DataError(`${out}: it exists; take another name, or --force`);
  } else if (options.json) {
    throw new ConfigError('generate: --json prints a summary, so the formulas need --out (FILE.jsonl for JSON lines)');
  }
  const checkpoint = findCheckpoint(path, options.best ? 'best' : 'last');
  const { config } = checkpoint;
  const target = targetOf(options);
  const like = await likeness(options, target);
  const sieve = findFilter(path, options);
  const opened: Regressor[] = [];
  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  note(adapter);
  // Not among formulas on the same terminal.
  const bar =
    process.stderr.isTTY && (out !== undefined || !process.stdout.isTTY)
      ? new cliProgress.SingleBar({
          format: '{bar} {value}/{total} samples | {eta_formatted} left',
          stream: process.stderr,
        })
      : undefined;
  let harvest: Harvest | undefined;
  // Nothing is worth keeping of a table that is not whole, so nothing is waited for.
  const onInterrupt = (signal: NodeJS.Signals): void => {
    bar?.stop();
    harvest?.discard();
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
    process.kill(process.pid, signal);
  };
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onInterrupt);
  // `… | head` ends the process while samples are drawn.
  const onExit = (): void => harvest?.discard();
  process.on('exit', onExit);
  try {
    if (config.model !== 'gan')
      throw new CheckpointError(`${path}: it is a model of kind ${config.model}; generating takes a gan`);
    const ranges = await propertyRanges(options, opened);
    const rule = options.rule ?? config.decoding;
    const started = performance.now();
    const reduce = options.reduce && rule !== 'paper';
    const batch = Math.min(options.batch ?? defaultBatch(executor, config), options.count);
    bar?.start(options.count, 0);
    harvest = await Harvest.open({
      out: out ?? ((text) => process.stdout.write(text)),
      reduce,
      unique: options.unique,
      judge: options.judge,
      memory: options.memory * 2 ** 20,
    });
    const { count, seed } = options;
    const asked = target !== undefined || ranges.length > 0;
    const onProgress = (n: number): void => bar?.update(n);
    const draw = { count, seed, rule, batch, ...sieve, target, like, properties: ranges, onProgress };
    const { samples, offered, hits, drafts } = await drawSamples(executor, checkpoint, draw, (words, rows) =>
      harvest!.take(words, rows),
    );
    bar?.stop();
    const drawing = (performance.now() - started) / 1000;
    const found = await harvest.finish();
    harvest = undefined;
    if (found.decoded === 0) {
      note(`none of ${samples} samples decodes to a formula: the generator needs more training`);
    }
    const result = {
      requested: count,
      ...found,
      ...(asked && { samples, offered, hits, hitRate: hits / offered, ...(drafts && { drafts }) }),
      seconds: (performance.now() - started) / 1000,
      // Without what is left to do once the last sample is there: merging, compressing.
      drawingSeconds: drawing,
      peakMemory: process.resourceUsage().maxRSS * 1024,
      rule,
      reduced: reduce,
      batch,
      step: checkpoint.step,
      filter: sieve ? { path: sieve.filter.path, keep: sieve.keep } : null,
    };
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else if (out === undefined) note(summary(result, 'standard output'));
    else process.stdout.write(`${summary(result, out)}\n`);
  } finally {
    bar?.stop();
    harvest?.discard();
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
    process.off('exit', onExit);
    for (const model of opened) model.destroy();
    executor.destroy();
  }
}

function summary(
  r: HarvestResult & { requested: number; rule: string; seconds: number; hitRate?: number } & Partial<Drawn>,
  out: string,
): string {
  const hits: string[] = [];
  if (r.hitRate !== undefined) {
    const filtered = r.offered === r.samples ? '' : ` that the filter kept of ${r.samples}`;
    hits.push(`${percent(r.hitRate)} of ${r.offered} samples${filtered} are what was asked for`);
  }
  if (r.drafts) hits.push(`${r.drafts.drawn} drafts were drawn; ${r.drafts.hits} of them were predicted in range`);
  const counts = `${r.requested} samples: ${r.decoded} formulas, ${r.unique} of them different (rule ${r.rule}), in ${r.seconds.toFixed(1)} s`;
  const judged =
    r.chargeNeutral === undefined
      ? []
      : [
          `charge-neutral ${percent(r.chargeNeutral)} of all, ${percent(r.uniqueChargeNeutral!)} of the different ones; ` +
            `electronegativity-balanced ${percent(r.electronegativityBalanced!)} and ${percent(r.uniqueElectronegativityBalanced!)}`,
        ];
  return [counts, ...hits, ...judged, `${r.written} written to ${out}`].join('\n');
}
