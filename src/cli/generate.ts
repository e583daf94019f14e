import { existsSync, statSync } from 'node:fs';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import { uniqueRows, writeFormulas } from '../chem/dataset.ts';
import { checkOutput } from '../chem/tables.ts';
import { DataError } from '../errors.ts';
import { findCheckpoint } from '../models/run.ts';
import { sample } from '../models/sampler.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';

interface GenerateOptions {
  count: number;
  out: string;
  rule?: 'paper' | 'argmax';
  reduce: boolean;
  unique?: boolean;
  force?: boolean;
  seed: number;
  batch: number;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

export function generate(): Command {
  const command = new Command('generate')
    .description('make new formulas with a trained generator')
    .argument('<run>', 'run folder, or model file')
    .requiredOption('--count <n>', 'samples to draw', integer(1, 1_000_000_000))
    .requiredOption('--out <file>', 'table to write; the ending decides: .parquet, .csv, .tsv, .jsonl, .json (.gz)')
    .addOption(
      new Option('--rule <rule>', "how cells become formulas; the model's own rule if not given").choices([
        'argmax',
        'paper',
      ]),
    )
    .option('--no-reduce', 'keep multiples such as Na2Cl2 as they come (the paper rule never divides)')
    .option('--unique', 'write each formula once')
    .option('--force', 'overwrite the file')
    .option('--seed <n>', 'seed of the noise', integer(0), 1)
    .option('--batch <n>', 'samples in one pass', integer(1, 65_536), 128)
    .addOption(deviceOption())
    .action(run);
  return standardOptions(command, 'matgan generate runs/mine --count 20000 --out new.csv --unique');
}

async function run(path: string, options: GenerateOptions): Promise<void> {
  await checkOutput(options.out);
  if (existsSync(options.out) && statSync(options.out).isFile() && !options.force) {
    throw new DataError(`${options.out}: it exists; take another name, or --force`);
  }
  const checkpoint = findCheckpoint(path);
  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  note(adapter);
  try {
    const rule = options.rule ?? checkpoint.config.decoding;
    const bar = process.stderr.isTTY
      ? new cliProgress.SingleBar({
          format: '{bar} {value}/{total} samples | {eta_formatted} left',
          stream: process.stderr,
        })
      : undefined;
    const started = performance.now();
    bar?.start(options.count, 0);
    const reduce = options.reduce && rule !== 'paper';
    const drawn = await sample(executor, checkpoint, {
      count: options.count,
      seed: options.seed,
      rule,
      reduce,
      batch: Math.min(options.batch, options.count),
      onProgress: (n) => bar?.update(n),
    });
    bar?.stop();
    const seconds = (performance.now() - started) / 1000;
    const unique = uniqueRows(drawn);
    const written = options.unique ? unique : drawn;
    if (written.rows === 0) {
      note(`none of ${options.count} samples decodes to a formula: the generator needs more training`);
    }
    await writeFormulas(options.out, written);
    const result = {
      requested: options.count,
      decoded: drawn.rows,
      unique: unique.rows,
      seconds,
      rule,
      reduced: reduce,
      written: written.rows,
      step: checkpoint.step,
    };
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else {
      process.stdout.write(
        `${result.requested} samples: ${result.decoded} formulas, ${result.unique} of them different (rule ${rule}), in ${seconds.toFixed(1)} s\n${written.rows} written to ${options.out}\n`,
      );
    }
  } finally {
    executor.destroy();
  }
}
