import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import type { Executor } from '../autograd/executor.ts';
import { openExecutor } from '../autograd/open.ts';
import { fingerprintOf } from '../chem/dataset.ts';
import type { TableOptions } from '../chem/tables.ts';
import { loadTargets } from '../chem/targets.ts';
import { ConfigError, DataError } from '../errors.ts';
import { type CriterionName, criteria, criteriaFor } from '../models/best.ts';
import { type Checkpoint, checkResumable } from '../models/checkpoint.ts';
import {
  type Config,
  checkConfig,
  type ElemNetConfig,
  type FilterConfig,
  loadConfig,
  type ModelKind,
  presetNames,
} from '../models/config.ts';
import { filterRows, generatedRows } from '../models/filter.ts';
import { releaseLocks } from '../models/lock.ts';
import {
  bestName,
  checkpointName,
  findCheckpoint,
  type LogLine,
  loadTrainingData,
  makeRunFolder,
  type RegressionData,
  regressionData,
  type TrainingData,
  train as trainRun,
} from '../models/run.ts';
import { sample } from '../models/sampler.ts';
import { percent } from '../report/table.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
import { judge, reportText, writeReport } from './property.ts';
import { trainTreesCommand } from './trees.ts';

interface TrainOptions {
  target?: string;
  generator?: string;
  bestGenerator?: boolean;
  data?: string;
  formulaColumn?: string;
  preset?: string;
  config?: string;
  steps?: number;
  epochs?: number;
  batch?: number;
  seed?: number;
  out?: string;
  resume?: boolean;
  pauseAt?: number;
  detectAnomaly?: boolean;
  logEvery: number;
  checkpointEvery: number;
  measureEvery?: number;
  sampleEvery?: number;
  sampleSize?: number;
  best: CriterionName | 'none';
  patience?: number;
  device: 'auto' | 'gpu' | 'reference';
  printConfig?: boolean;
  json?: boolean;
}

export function train(): Command {
  const command = new Command('train')
    .description('train a GAN, an autoencoder, a filter or a property model')
    .addHelpText(
      'after',
      '\nExample:\n  matgan train gan --data formulas.csv --preset icsd --steps 3000 --out runs/mine',
    );
  command.addCommand(trainModel('gan', 'train a generator of formulas against a Wasserstein critic', 'icsd'));
  command.addCommand(trainModel('ae', 'train an autoencoder of formulas', 'ae'));
  command.addCommand(
    trainModel('filter', "train a filter that keeps those of a generator's samples that could be real", 'filter'),
  );
  command.addCommand(
    trainModel(
      'elemnet',
      'train a network that predicts a number, such as a formation energy, from a formula',
      'elemnet-best',
    ),
  );
  command.addCommand(trainTreesCommand());
  return command;
}

function trainModel(kind: ModelKind, about: string, preset: string): Command {
  const names = criteriaFor(kind);
  const command = new Command(kind)
    .description(about)
    .option(
      '--data <file>',
      'table of formulas (CSV, TSV, JSON, JSONL, Parquet, also .gz); the default set if not given',
    )
    .option('--formula-column <name>', 'column of the formulas')
    .option('--preset <name>', `settings to start from: ${presetNames().join(', ')} (default: ${preset})`)
    .option('--config <file>', 'YAML or JSON with settings laid over the preset')
    .option('--steps <n>', 'training steps', integer(1))
    .addOption(
      new Option('--epochs <n>', 'training length in passes over the data').argParser(integer(1)).conflicts('steps'),
    )
    .option('--batch <n>', 'rows a step', integer(1, 65_536))
    .option('--seed <n>', 'seed of everything random', integer(0))
    .option('--out <folder>', 'run folder: config.json, log.jsonl, checkpoint.safetensors, best.safetensors')
    .option('--resume', 'go on with the run in --out, to the same bits as if it had never stopped')
    .option('--pause-at <step>', 'stop after this step as Ctrl-C does', integer(1))
    .option('--log-every <n>', 'steps between two lines of the log', integer(1), 50)
    .option('--checkpoint-every <n>', 'steps between two checkpoints', integer(1), 500)
    .option(
      '--measure-every <n>',
      `steps between two measurements on ${kind === 'elemnet' ? 'validation rows (default: a pass over the training rows)' : 'left-out rows (autoencoder)'}`,
      integer(1),
      kind === 'elemnet' ? undefined : 200,
    )
    .addOption(
      new Option('--best <criterion>', `what best.safetensors is the best by: ${[...names, 'none'].join(', ')}`)
        .choices([...names, 'none'])
        .default(names[0]),
    )
    .option('--patience <n>', 'stop after so many measurements in a row that are no better by --best', integer(1))
    .option('--detect-anomaly', 'stop at the first NaN or infinity and name the tensor that had it; slower')
    .option('--print-config', 'print the settings that would be used, and stop')
    .addOption(deviceOption())
    .addHelpText(
      'after',
      `\nCriteria of --best:\n${names.map((name) => `  ${name.padEnd(9)} ${criteria[name].about}`).join('\n')}`,
    )
    .action((options: TrainOptions) => run(kind, preset, options));
  if (kind === 'gan') {
    command
      .option(
        '--sample-every <n>',
        'steps between two samples that are judged and logged; 0 for never',
        integer(0),
        1000,
      )
      .option(
        '--sample-size <n>',
        'formulas drawn for each: 4096, on the reference executor 256',
        integer(1, 1_000_000),
      );
  }
  if (kind === 'elemnet') {
    command.option('--target <column>', "column of the numbers to learn, in eV or eV per atom (default: the preset's)");
  }
  if (kind === 'filter') {
    command
      .requiredOption('--generator <run>', 'run folder or model of the generator; its training rows are the real ones')
      .option('--best-generator', "the generator's best checkpoint instead of its last");
  }
  return standardOptions(command, examples[kind]);
}

const examples: Record<ModelKind, string> = {
  gan: 'matgan train gan --data formulas.csv --preset icsd --steps 3000 --out runs/mine',
  ae: 'matgan train ae --data formulas.csv --preset ae --batch 32 --steps 1000 --out runs/ae',
  filter: 'matgan train filter --generator runs/mine --out runs/mine/filter',
  elemnet: 'matgan train elemnet --data oqmd.parquet --out runs/energy',
};

async function run(kind: ModelKind, defaultPreset: string, options: TrainOptions): Promise<void> {
  const from = options.resume ? findCheckpoint(required(options.out)) : undefined;
  let config: Config;
  if (from) {
    checkResumable(from);
    if (from.config.model !== kind) {
      throw new ConfigError(
        `${options.out}: it holds a model of kind ${from.config.model}; use "train ${from.config.model}"`,
      );
    }
    for (const name of ['preset', 'config', 'batch', 'seed', 'target'] as const) {
      if (options[name] !== undefined) {
        throw new ConfigError(`--${name} can't change in a resumed run; only --steps may grow`);
      }
    }
    config = checkConfig({ ...from.config, steps: options.steps ?? from.config.steps }, 'resumed run');
  } else {
    const { steps, batch, seed, target } = options;
    const given = Object.fromEntries(
      Object.entries({ steps, batch, seed, target }).filter(([, value]) => value !== undefined),
    );
    config = loadConfig(kind, { preset: options.preset ?? defaultPreset, file: options.config, overrides: given });
  }
  if (options.printConfig && options.epochs === undefined) {
    process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
    return;
  }
  const generator =
    options.generator === undefined
      ? undefined
      : findCheckpoint(options.generator, options.bestGenerator ? 'best' : 'last');
  if (generator && generator.config.model !== 'gan') {
    throw new ConfigError(
      `--generator ${options.generator}: it is a model of kind ${generator.config.model}, not a gan`,
    );
  }
  // A filter's real rows are its generator's: parted by that one's seed, so that neither has seen what is left out.
  const owner = generator ?? from;
  const source = owner && options.data === undefined ? owner.data.source : options.data ? resolve(options.data) : null;
  const rows = { formulaColumn: options.formulaColumn };
  const reading =
    config.model === 'elemnet'
      ? loadRegression(source, config, rows)
      : loadTrainingData(source, owner?.config ?? config, rows);
  let data: TrainingData | RegressionData = await reading.catch((error) => {
    // The file is the checkpoint's word, not the user's: it may be gone, or never have been on this machine.
    if (!owner || options.data !== undefined || !(error instanceof DataError)) throw error;
    throw new DataError(`${error.message} (the run names it as its data; give --data if it is elsewhere)`, {
      cause: error,
    });
  });
  if (options.epochs !== undefined) {
    const draws = config.model === 'gan' ? config.criticSteps : 1;
    const steps = Math.ceil((options.epochs * data.train.rows) / (config.batch * draws));
    config = checkConfig({ ...config, steps }, '--epochs');
  }
  if (options.printConfig) {
    process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
    return;
  }
  const check = (trained: Checkpoint | undefined): void => {
    if (!trained || data.fingerprint === trained.data.fingerprint) return;
    throw new DataError(
      `${source ?? 'the default set'}: not the rows that ${trained === from ? 'this run' : trained.path} was trained on (fingerprint ${data.fingerprint.slice(0, 12)}, it has ${trained.data.fingerprint.slice(0, 12)})`,
    );
  };
  check(owner);
  const out = required(options.out);
  const best = options.best === 'none' ? undefined : options.best;
  const patience = options.patience ?? (config.model === 'elemnet' && best ? config.patience : undefined);
  checkPatience(options, config, data.leaveOut.rows);
  if (from) note(`resuming at step ${from.step}`);
  else makeRunFolder(out);
  if ('loaded' in data && data.loaded) {
    const { read, unusable, duplicates } = data.loaded;
    const reasons = Object.entries(unusable).map(([reason, count]) => `${count} ${reason}`);
    note(`${read} rows read; not usable: ${reasons.join(', ') || 'none'}; ${duplicates} repeat a formula`);
  }
  note(
    `${generator ? 'the generator was trained' : 'training'} on ${data.train.rows} formulas, ${data.leaveOut.rows} left out`,
  );

  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  note(adapter);
  let stop = false;
  // Ends by the signal itself, which a shell shows as 130 or 143: process.exit would wait for what the driver compiles,
  // or crash in the middle of it.
  const endNow = (signal: NodeJS.Signals): void => {
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
    releaseLocks();
    process.kill(process.pid, signal);
  };
  let stopped: NodeJS.Signals | undefined;
  const onInterrupt = (signal: NodeJS.Signals): void => {
    // The second Ctrl-C ends at once; the last checkpoint is whole in any case.
    if (stop) endNow(signal);
    stop = true;
    stopped = signal;
    note('\nfinishing the step …; once more to end at once');
  };
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onInterrupt);
  const first = from?.step ?? 0;
  const last = Math.min(config.steps, options.pauseAt ?? config.steps);
  const progress = trainingProgress(first, last, config.batch);
  try {
    if (config.model === 'filter') {
      data = await filterData(executor, generator!, config, data as TrainingData);
      check(from);
    }
    const result = await trainRun({
      folder: out,
      executor,
      adapter,
      config,
      data,
      from,
      logEvery: options.logEvery,
      checkpointEvery: options.checkpointEvery,
      // A pass over the rows, unless said.
      measureEvery: options.measureEvery ?? Math.ceil(data.train.rows / config.batch),
      sampleEvery: options.sampleEvery,
      // In f64, a number at a time, thousands of samples take minutes.
      sampleSize: options.sampleSize ?? (executor.kind === 'reference' ? 256 : undefined),
      best,
      patience,
      pauseAt: options.pauseAt,
      detectAnomaly: options.detectAnomaly,
      interrupted: () => stop,
      onLog: (line) => {
        progress.losses(line);
        if (options.json) process.stdout.write(`${JSON.stringify(line)}\n`);
      },
      onProgress: progress.step,
    });
    progress.stop();
    if (result.best) {
      const { value, step } = result.best;
      note(`best by "${best}": step ${step}, ${value.toPrecision(4)}; ${join(out, bestName)}`);
    }
    const done = `${result.step} steps, ${result.rate.toFixed(2)} steps/s, ${(result.rate * config.batch).toFixed(0)} samples/s`;
    if (result.finished) note(`done: ${done}; ${out}`);
    else if (result.outOfPatience) {
      note(
        `stopped early: ${done}; ${patience} measurements in a row were no better by "${best}"; ` +
          `go on with a larger --patience: matgan train ${kind} --out ${quote(out)} --resume`,
      );
    } else if (!existsSync(join(out, checkpointName))) note('stopped before the first step; nothing was written');
    else note(`stopped: ${done}; go on with: matgan train ${kind} --out ${quote(out)} --resume`);
    if ('test' in data && data.test.rows > 0 && (result.finished || result.outOfPatience)) {
      const { report, judged } = await judge(executor, findCheckpoint(out, result.best ? 'best' : 'last'), data.test);
      await writeReport(out, report, judged);
      note(`${reportText(report)}\nproperties.json and its charts: ${out}`);
      if (options.json) process.stdout.write(`${JSON.stringify({ test: report })}\n`);
    }
    if (stopped && result.step === first) endNow(stopped);
    if (stop) process.exitCode = 130;
  } finally {
    progress.stop();
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
    executor.destroy();
  }
}

/** A property model's rows; says what of the table it could not use. */
async function loadRegression(
  source: string | null,
  config: ElemNetConfig,
  options: TableOptions,
): Promise<RegressionData> {
  if (source === null)
    throw new ConfigError('train elemnet: it needs --data FILE with formulas and the numbers to learn');
  const loaded = await loadTargets(source, { ...options, target: config.target });
  const { read, rows, withoutTarget, duplicates, unusable } = loaded;
  note(
    `${read} rows read: ${rows} formulas with ${config.target}, ${withoutTarget} rows without, ${duplicates} repeat a formula (the lowest stays)`,
  );
  for (const [reason, { count, first }] of Object.entries(unusable)) note(`not usable: ${count} × ${reason}; ${first}`);
  const data = regressionData(loaded, config, source);
  note(`${data.test.rows} rows are kept for the final test`);
  return data;
}

/** Real and generated rows for a filter, the generated ones drawn now: the same for the same generator and seed. */
async function filterData(
  executor: Executor,
  generator: Checkpoint,
  config: FilterConfig,
  real: TrainingData,
): Promise<TrainingData> {
  const count = generatedRows(config, real.train.rows);
  note(`drawing ${count} formulas from ${generator.path}`);
  const bar = process.stderr.isTTY ? new cliProgress.SingleBar({ stream: process.stderr }) : undefined;
  bar?.start(count, 0);
  try {
    const onProgress = (n: number): void => bar?.update(n);
    const drawn = await sample(executor, generator, { count, seed: config.seed, formulas: true, onProgress });
    const rows = filterRows(config, real.train, drawn);
    return { ...rows, fingerprint: fingerprintOf(rows.train), source: real.source };
  } finally {
    bar?.stop();
  }
}

/** Refuses patience with nothing to wait for, and criteria that the run never measures. @throws ConfigError */
function checkPatience({ best, patience, sampleEvery }: TrainOptions, config: Config, leaveOut: number): void {
  if (patience !== undefined && best === 'none')
    throw new ConfigError('--patience: it needs a criterion, not --best none');
  if (patience !== undefined && sampleEvery === 0) {
    throw new ConfigError('--patience: it counts samples; --sample-every 0 draws none');
  }
  if (leaveOut > 0 || best === 'none') return;
  if (config.model === 'ae' ? patience !== undefined : best === 'recovery') {
    throw new ConfigError(`--best ${best}: it looks at left-out formulas, and this run leaves none out`);
  }
}

/** A bar with losses, the last sample, samples a second and the time left; off a terminal lines of the log are noted. */
export function trainingProgress(
  first: number,
  last: number,
  batch: number,
): { step: (n: number) => void; losses: (line: LogLine) => void; stop: () => void } {
  const started = performance.now();
  const rate = (n: number): string => (((n - first) * batch * 1000) / (performance.now() - started)).toFixed(0);
  let [losses, sample] = ['', ''];
  if (!process.stderr.isTTY) {
    return {
      step: () => {},
      losses: (line) =>
        note(
          `step ${line.step}/${last} ${[lossText(line), sampleText(line)].filter((text) => text !== '').join('; ')} ${rate(line.step)} samples/s`,
        ),
      stop: () => {},
    };
  }
  const bar = new cliProgress.SingleBar({
    format: '{bar} {value}/{total} | {losses}{sample} | {rate} samples/s | {eta_formatted} left',
    stream: process.stderr,
    hideCursor: true,
    etaBuffer: 20,
  });
  bar.start(last, first, { losses: '', sample: '', rate: '-' });
  return {
    step: (n) => bar.update(n, { losses, sample, rate: rate(n) }),
    losses: (line) => {
      losses = lossText(line) || losses;
      const text = sampleText(line);
      if (text !== '') sample = ` | ${text}`;
    },
    stop: () => bar.stop(),
  };
}

const lossText = (line: LogLine): string =>
  Object.entries(line)
    .filter(([name]) => name !== 'step' && name !== 'seconds' && !name.startsWith('sample'))
    .map(([name, value]) => `${name} ${value.toPrecision(4)}`)
    .join(' ');

/** The figures of a sample in a few words; nothing where the line has none. */
function sampleText(line: LogLine): string {
  if (line.sampleDecoded === undefined) return '';
  const percents: [label: string, field: string][] = [
    ['EN', 'sampleENReweighted'],
    ['different', 'sampleUnique'],
    ['valid+new', 'sampleValidUniqueNew'],
  ];
  const parts = percents
    .filter(([, field]) => field in line)
    .map(([label, field]) => `${label} ${percent(line[field])}`);
  parts.push(`off by ${line.sampleSizesTV.toFixed(2)}/${line.sampleElementsTV.toFixed(2)}`);
  if ('sampleRecoveryRatio' in line) parts.push(`found ×${line.sampleRecoveryRatio.toFixed(1)}`);
  return parts.join(', ');
}

function required(out: string | undefined): string {
  if (out === undefined) throw new ConfigError('train: it needs --out FOLDER for the run');
  return out;
}

const quote = (path: string): string => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);
