import { existsSync, statSync } from 'node:fs';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import { defaultMemory, Harvest, type HarvestResult } from '../chem/harvest.ts';
import { checkOutput } from '../chem/tables.ts';
import { CheckpointError, ConfigError, DataError } from '../errors.ts';
import { findCheckpoint } from '../models/run.ts';
import { defaultBatch, drawSamples } from '../models/sampler.ts';
import { percent } from '../report/table.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
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
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

export function generate(): Command {
  const command = new Command('generate')
    .description('make new formulas with a trained generator')
    .argument('<run>', 'run folder, model file, or the name of a model that ships (matgan models)')
    .requiredOption('--count <n>', 'samples to draw', integer(1, 1_000_000_000))
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
    .addHelpText(
      'after',
      '\nWithout --out, formulas go to standard output, one a line (with --judge as CSV), and the summary to standard error.\n' +
        'The same run, seed and batch give the same formulas on the same adapter. They are written as they come, in bounded\n' +
        'memory; Ctrl-C leaves nothing behind. --judge takes formulas as they are written (in lowest terms unless --no-reduce).',
    )
    .addOption(deviceOption())
    .action(run);
  return standardOptions(
    filterOptions(command),
    'matgan generate runs/mine --count 2000000 --unique --judge --out new.parquet',
  );
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
  const sieve = findFilter(path, options);
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
    const onProgress = (n: number): void => bar?.update(n);
    await drawSamples(executor, checkpoint, { count, seed, rule, batch, ...sieve, onProgress }, (words, rows) =>
      harvest!.take(words, rows),
    );
    bar?.stop();
    const drawing = (performance.now() - started) / 1000;
    const found = await harvest.finish();
    harvest = undefined;
    if (found.decoded === 0) {
      note(`none of ${count} samples decodes to a formula: the generator needs more training`);
    }
    const result = {
      requested: count,
      ...found,
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
    executor.destroy();
  }
}

function summary(r: HarvestResult & { requested: number; rule: string; seconds: number }, out: string): string {
  const counts = `${r.requested} samples: ${r.decoded} formulas, ${r.unique} of them different (rule ${r.rule}), in ${r.seconds.toFixed(1)} s`;
  const judged =
    r.chargeNeutral === undefined
      ? []
      : [
          `charge-neutral ${percent(r.chargeNeutral)} of all, ${percent(r.uniqueChargeNeutral!)} of the different ones; ` +
            `electronegativity-balanced ${percent(r.electronegativityBalanced!)} and ${percent(r.uniqueElectronegativityBalanced!)}`,
        ];
  return [counts, ...judged, `${r.written} written to ${out}`].join('\n');
}
