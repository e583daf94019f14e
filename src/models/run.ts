/** A training run in a folder: config.json, log.jsonl, checkpoint.safetensors, and best.safetensors where it measures. */
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Executor } from '../autograd/executor.ts';
import { type Node, showIndex, showShape } from '../autograd/graph.ts';
import type { Anomaly, Plan, PlanStats } from '../autograd/plan.ts';
import { fingerprintOf, type LoadedFormulas, loadFormulas, splitRows } from '../chem/dataset.ts';
import { type PackedFormulas, takeRows } from '../chem/encoding.ts';
import { synthesize } from '../chem/synth.ts';
import type { TableOptions } from '../chem/tables.ts';
import type { LoadedTargets } from '../chem/targets.ts';
import { CheckpointError, DataError, MatganError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { aeTrainer } from './ae.ts';
import { Best, type CriterionName } from './best.ts';
import { type Checkpoint, checkState, readCheckpoint, restore, saveCheckpoint } from './checkpoint.ts';
import type { Config, ElemNetConfig } from './config.ts';
import { elemNetTrainer } from './elemnet.ts';
import { appendToFile, checkPlain, copyWhole, filterLines, isTemporary, reason, replaceFile } from './files.ts';
import { filterTrainer } from './filter.ts';
import { ganTrainer } from './gan.ts';
import { lockOwner, takeLock, takenBy } from './lock.ts';
import { Pace } from './pace.ts';
import { sampleMeasurement } from './sampling.ts';
import { fractionsOf, type TableRows, tableFingerprint, tableOf, targetsOf } from './table.ts';
import { dataOf, initialise, type Measurement, stateRows, type Trainer, type TrainingRows } from './training.ts';

export const checkpointName = 'checkpoint.safetensors';
export const bestName = 'best.safetensors';
export const logName = 'log.jsonl';
const configName = 'config.json';
const lockName = 'lock';

/** @param rows rows that it is to be trained on */
export function makeTrainer(config: Config, rows: number): Trainer {
  switch (config.model) {
    case 'gan':
      return ganTrainer(config, rows);
    case 'ae':
      return aeTrainer(config, rows);
    case 'filter':
      return filterTrainer(config, rows);
    case 'elemnet':
      return elemNetTrainer(config, rows);
  }
}

/** Training and left-out rows of a data set. */
export interface TrainingData {
  train: PackedFormulas;
  leaveOut: PackedFormulas;
  fingerprint: string;
  source: string | null;
  /** What reading a file left out; undefined for the default set. */
  loaded?: LoadedFormulas;
}

/** Training rows of a regressor, those to validate on (called left out here too: nothing is trained on them), and those of the final test. */
export interface RegressionData {
  train: TableRows;
  leaveOut: TableRows;
  test: TableRows;
  fingerprint: string;
  source: string | null;
}

/** The rows of a table with a target, parted by the configuration's seed: the same formulas wherever a target is missing. @throws DataError */
export function regressionData(loaded: LoadedTargets, config: ElemNetConfig, source: string): RegressionData {
  const { fractions, targets, rows } = loaded;
  const { train: rest, leaveOut: tested } = splitRows(rows, config.leaveOut, config.seed);
  const inner = splitRows(rest.length, config.validation, config.seed);
  const part = (chosen: Uint32Array): TableRows => tableOf(fractions, targets, chosen);
  const train = part(inner.train.map((i) => rest[i]));
  if (train.rows < 2) throw new DataError(`${source}: ${rows} formulas with a target are too few to train on`);
  const leaveOut = part(inner.leaveOut.map((i) => rest[i]));
  return { train, leaveOut, test: part(tested), fingerprint: tableFingerprint(train), source };
}

/** Reads a table of formulas (or makes the default set) and parts it by the configuration's seed. */
export async function loadTrainingData(
  source: string | null,
  config: Config,
  options: TableOptions = {},
): Promise<TrainingData> {
  const loaded = source === null ? undefined : await loadFormulas(source, options);
  const all = loaded ?? synthesize();
  const { train, leaveOut } = splitRows(all.rows, config.leaveOut, config.seed);
  if (train.length < 2) throw new DataError(`${source}: ${all.rows} formulas are too few to train on`);
  const part = (rows: Uint32Array): PackedFormulas => ({ packed: takeRows(all.packed, rows), rows: rows.length });
  const training = part(train);
  return { train: training, leaveOut: part(leaveOut), fingerprint: fingerprintOf(training), source, loaded };
}

/** One line of log.jsonl. */
export type LogLine = { step: number; seconds: number } & Record<string, number>;

export interface RunOptions {
  folder: string;
  executor: Executor;
  adapter: string;
  config: Config;
  data: TrainingData | RegressionData;
  /** Continue from this checkpoint. */
  from?: Checkpoint;
  /** Steps between two lines of the log. */
  logEvery: number;
  /** Steps between two checkpoints; one is written at the end and on interruption in any case. */
  checkpointEvery: number;
  /** Steps between two measurements on left-out rows (models that have them). */
  measureEvery: number;
  /** Steps between two samples of a GAN, which are judged and logged; none unless given. Changes no bit of training. */
  sampleEvery?: number;
  /** Samples drawn each time; 4,096 unless said. */
  sampleSize?: number;
  /** Keep the state that is best by this criterion in best.safetensors; it is judged whenever the run measures or samples. */
  best?: CriterionName;
  /** Stop after so many measurements in a row that were no better than the best before them. */
  patience?: number;
  /** Look at every tensor of every step for NaN and infinities, and name the first: slower, one step in flight. */
  detectAnomaly?: boolean;
  /** Stop after this step as if interrupted. */
  pauseAt?: number;
  /** Stop after so many seconds as if interrupted. */
  maxSeconds?: number;
  /** Asks for the end after the step under way; before the first step is done, for the end at once. */
  interrupted?: () => boolean;
  onLog?: (line: LogLine) => void;
  /** Called as steps get done, a few times a second. */
  onProgress?: (step: number) => void;
}

export interface RunResult {
  step: number;
  seconds: number;
  finished: boolean;
  /** Best measurement so far, where a criterion was given and anything was measured. */
  best?: { value: number; step: number };
  /** True where it stopped because nothing got better any more. */
  outOfPatience: boolean;
  stats: PlanStats;
  counts: Trainer['counts'];
  /** Steps a second of this part of the run. */
  rate: number;
}

/** Seconds of work handed to the device before anyone waits for it. */
const queueSeconds = 0.4;

/**
 * Makes a new run folder. An existing one must be empty, or hold no more than a run leaves that was killed before its
 * first checkpoint.
 * @throws DataError
 */
export function makeRunFolder(folder: string): void {
  if (existsSync(folder)) {
    if (!statSync(folder).isDirectory()) throw new DataError(`${folder}: it is a file; name a folder for the run`);
    const entries = readdirSync(folder);
    const lock = join(folder, lockName);
    const owner = entries.includes(lockName) ? lockOwner(lock) : undefined;
    if (owner !== undefined) throw takenBy(folder, owner);
    if (!entries.every(isLeftover)) {
      throw new DataError(`${folder}: it is there already and not empty; take another --out, or --resume it`);
    }
  }
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new DataError(`${folder}: it can't be made (${reason(cause)})`, { cause });
  }
}

/** True for what can be in a run's folder before its first checkpoint. */
const isLeftover = (entry: string): boolean =>
  /^lock(\.tmp-\d+|\.takeover)*$/.test(entry) || isTemporary(entry, checkpointName);

/** File of a model that ships, by its name; undefined for other names, and where a file or a run folder of that name is here. */
export function shippedFile(name: string): string | undefined {
  if (!/^[\w-]+(\.filter)?$/.test(name)) return undefined;
  const hidden = existsSync(name) && !(statSync(name).isDirectory() && !existsSync(join(name, checkpointName)));
  const file = join(packageRoot, 'models', `${name}.safetensors`);
  return !hidden && existsSync(file) ? file : undefined;
}

/**
 * The last checkpoint of a run folder, or its best; the one of a model file, or of a model that ships, by its name.
 * @throws CheckpointError where there is none
 */
export function findCheckpoint(path: string, which: 'last' | 'best' = 'last'): Checkpoint {
  if (which === 'best') {
    if (!existsSync(path) || !statSync(path).isDirectory()) {
      throw new CheckpointError(`${path}: it is no run folder, and only those have a best checkpoint`);
    }
    if (!existsSync(join(path, bestName))) {
      throw new CheckpointError(
        `${path}: no ${bestName} in it; training writes one as soon as it samples or measures (see --sample-every)`,
      );
    }
    return readCheckpoint(join(path, bestName));
  }
  const shipped = shippedFile(path);
  if (shipped !== undefined) return readCheckpoint(shipped);
  if (!existsSync(path)) throw new CheckpointError(`${path}: there is no such run or model`);
  if (!statSync(path).isDirectory()) return readCheckpoint(path);
  const file = join(path, checkpointName);
  if (!existsSync(file)) throw new CheckpointError(`${path}: no ${checkpointName} in it; is it a run folder?`);
  return readCheckpoint(file);
}

/** The filter that belongs to a generator: the folder `filter` in its run folder, or NAME.filter among the models that ship. */
export function ownFilter(path: string): string | undefined {
  if (shippedFile(path) !== undefined) return shippedFile(`${path}.filter`);
  const folder = join(path, 'filter');
  return existsSync(join(folder, checkpointName)) ? folder : undefined;
}

/**
 * Checks, with the folder locked, that it is as the caller found it: another process may have trained in it since.
 * Removes what a killed one left half written.
 */
function checkFolder(folder: string, from: Checkpoint | undefined): void {
  const file = join(folder, checkpointName);
  if (from?.path !== file && existsSync(file)) {
    throw new DataError(`${folder}: it is there already and not empty; take another --out, or --resume it`);
  }
  if (from?.path === file && readCheckpoint(file).step !== from.step) {
    throw new DataError(`${folder}: another process has trained in it meanwhile; --resume it again`);
  }
  for (const entry of readdirSync(folder)) {
    if ([checkpointName, bestName, logName, configName].some((name) => isTemporary(entry, name)))
      rmSync(join(folder, entry));
  }
}

/**
 * The log without lines after `step`, which a resumed run makes again, and without the line of losses that an interruption there
 * left out of turn: an unbroken run has none. What stays tells the best so far.
 */
function trimLog(
  file: string,
  step: number,
  logEvery: number,
  losses: readonly string[],
  best: Best | undefined,
): void {
  const own = new Set(['step', 'seconds', ...losses]);
  filterLines(file, (text) => {
    try {
      const line = JSON.parse(text);
      if (!(line.step <= step)) return false;
      return line.step < step || step % logEvery === 0 || !Object.keys(line).every((name) => own.has(name));
    } catch {
      return false;
    }
  });
  filterLines(file, (text) => {
    // What was no number is null in a log.
    const line = Object.entries<number | null>(JSON.parse(text)).map(([name, value]) => [name, value ?? Number.NaN]);
    best?.look(Object.fromEntries(line));
    return true;
  });
}

/** The state in best.safetensors is the one that the log calls best: kept, made from the checkpoint at hand, or lost. */
function settleBest(folder: string, best: Best, step: number): void {
  if (best.step === undefined) return;
  const file = join(folder, bestName);
  let found: number | undefined;
  try {
    if (lstatSync(file, { throwIfNoEntry: false })?.isFile()) found = readCheckpoint(file).step;
  } catch (error) {
    // A damaged one is as good as none.
    if (!(error instanceof MatganError)) throw error;
  }
  if (found === best.step) return;
  // A run that was killed between its checkpoint and the copy of it.
  if (best.step === step) copyWhole(join(folder, checkpointName), file);
  else best.lost();
}

/**
 * Trains in a folder until the configuration's steps are done, an interruption, or a fault; the last checkpoint stays
 * whole whatever happens.
 */
export async function train(options: RunOptions): Promise<RunResult> {
  const { folder, config, data } = options;
  const unlock = takeLock(join(folder, lockName));
  try {
    checkFolder(folder, options.from);
    const trainer = makeTrainer(config, data.train.rows);
    // Before the plan: a plan takes the memory that the configuration asks for.
    if (options.from) checkState(trainer, options.from);
    checkPlain(join(folder, logName));
    let plan: Plan | undefined;
    let measurement: Measurement | undefined;
    try {
      const planned = options.executor.plan(
        { outputs: Object.values(trainer.outputs), updates: trainer.updates },
        { detectAnomaly: options.detectAnomaly },
      );
      if (!(await unlessInterrupted(planned, options))) {
        // Pipelines that are being compiled can't be called off; nobody waits for them.
        planned.then((late) => late.destroy()).catch(() => {});
        return { ...nothingDone(options), stats: noStats, counts: trainer.counts };
      }
      plan = await planned;
      measurement = await measurementOf(options, trainer);
      return await trainLocked(options, trainer, plan, measurement);
    } finally {
      measurement?.destroy();
      plan?.destroy();
      // The executor is the caller's: another model with other sizes must find its names free.
      options.executor.forget([...trainer.state.map(({ node }) => node), trainer.step, trainer.data]);
    }
  } finally {
    unlock();
  }
}

/** False where an interruption is asked for before the work is done; the work itself goes on. */
async function unlessInterrupted(work: Promise<unknown>, { interrupted }: RunOptions): Promise<boolean> {
  const done = work.then(() => true);
  // Where the interruption came first nobody asks any more whether the work went well.
  done.catch(() => {});
  if (!interrupted) return done;
  let timer: NodeJS.Timeout | undefined;
  const asked = new Promise<false>((resolve) => {
    timer = setInterval(() => interrupted() && resolve(false), 50);
  });
  return Promise.race([done, asked]).finally(() => clearInterval(timer));
}

/** The result of a run that was interrupted before its first step was done. */
const nothingDone = ({ from, config }: RunOptions) => ({
  step: from?.step ?? 0,
  seconds: from?.seconds ?? 0,
  finished: (from?.step ?? 0) >= config.steps,
  outOfPatience: false,
  rate: 0,
});
const noStats: PlanStats = { dispatches: 0, flops: 0, bytes: 0, memory: 0, buffers: 0 };

/** Steps between two measurements. */
const everyMeasurement = ({ config, sampleEvery, measureEvery }: RunOptions): number =>
  config.model === 'gan' ? (sampleEvery ?? Number.POSITIVE_INFINITY) : measureEvery;

/** A sample of a GAN, where one is wanted; else some left-out rows, for models that have a measure. */
async function measurementOf(options: RunOptions, trainer: Trainer): Promise<Measurement | undefined> {
  const { executor, data, config } = options;
  if (config.model === 'gan') {
    if (!options.sampleEvery || !isFormulas(data)) return undefined;
    return sampleMeasurement(config, executor, data, options.sampleSize ?? 4096);
  }
  const { leaveOut } = data;
  const { rows } = leaveOut;
  if (rows === 0) return undefined;
  // Evenly over all of them: files are sorted, and their first rows are of a kind.
  const many = Math.min(trainer.measuredRows ?? 512, rows);
  const chosen = Array.from({ length: many }, (_, i) => Math.floor((i * rows) / many));
  const some: TrainingRows =
    'packed' in leaveOut
      ? { packed: takeRows(leaveOut.packed, chosen), rows: many }
      : tableOf(fractionsOf(leaveOut), targetsOf(leaveOut), chosen);
  return trainer.measure?.(executor, some);
}

const isFormulas = (data: TrainingData | RegressionData): data is TrainingData => 'packed' in data.train;

async function trainLocked(
  options: RunOptions,
  trainer: Trainer,
  plan: Plan,
  measurement: Measurement | undefined,
): Promise<RunResult> {
  const { folder, executor, config, data, from } = options;
  const log = join(folder, logName);
  const checkpoint = join(folder, checkpointName);
  const names = Object.keys(trainer.outputs);
  if (from) restore(executor, trainer, from);
  else initialise(executor, trainer, data.train);
  executor.write(trainer.data, dataOf(data.train));
  const first = from?.step ?? 0;
  const last = Math.min(config.steps, options.pauseAt ?? config.steps);
  const before = from?.seconds ?? 0;
  const started = performance.now();
  const seconds = (): number => before + (performance.now() - started) / 1000;
  const save = (step: number): Promise<void> =>
    saveCheckpoint(checkpoint, trainer, executor, {
      config,
      step,
      data: { fingerprint: data.fingerprint, rows: data.train.rows, source: data.source },
      seconds: seconds(),
      adapter: options.adapter,
    });

  // Before the first step and all other files: from here on a run that is killed can be resumed, and a disk that takes
  // no checkpoint is known before hours of work are lost to it.
  if (from?.path !== checkpoint) await save(first);
  const configFile = join(folder, configName);
  // A file that is right already is left alone: on a full disk that works.
  const text = `${JSON.stringify(config, null, 2)}\n`;
  const had = lstatSync(configFile, { throwIfNoEntry: false });
  const right = had?.isFile() && had.size === Buffer.byteLength(text) && readFileSync(configFile, 'utf8') === text;
  if (!right) replaceFile(configFile, [Buffer.from(text)]);
  const best = options.best && new Best(options.best);
  trimLog(log, first, first < last ? options.logEvery : 1, names, best);
  if (best) settleBest(folder, best, first);

  const every = everyMeasurement(options);
  const { patience = Number.POSITIVE_INFINITY } = options;
  const outOfPatience = (): boolean => best !== undefined && best.since >= patience;
  let step = first;
  const pace = new Pace();
  const interrupted = (): boolean =>
    (options.interrupted?.() ?? false) || performance.now() - started > (options.maxSeconds ?? Infinity) * 1000;
  let ended = step >= last || outOfPatience();
  while (!ended) {
    // Several steps in flight, none past the next line of the log or checkpoint.
    const next = (every: number): number => (Math.floor(step / every) + 1) * every;
    const stop = Math.min(
      last,
      next(options.logEvery),
      next(options.checkpointEvery),
      measurement ? next(every) : last,
    );
    const perStep = pace.expected / 1000;
    const many = perStep > 0 && !options.detectAnomaly ? Math.max(1, Math.floor(queueSeconds / perStep)) : 1;
    const target = Math.min(stop, step + many);
    const steps = target - step;
    const start = performance.now();
    for (; step < target; step++) plan.run();
    // Waiting keeps a core busy polling, which a software adapter needs for the work itself: sleep for most of it.
    if (executor.kind === 'gpu' && perStep > 0) await sleep(pace.sleep(steps));
    const awake = performance.now();
    const idle = executor.idle();
    // The first step also compiles shaders, which can take a minute, and loses nothing when it is left: the checkpoint
    // that it began from is there. Any other is finished and saved.
    if (step === first + 1 && !(await unlessInterrupted(idle, options))) {
      return { ...nothingDone(options), stats: plan.stats, counts: trainer.counts };
    }
    await idle;
    const end = performance.now();
    // The first step compiles shaders, which says nothing of the others.
    if (step > first + 1) pace.note(end - start, end - awake, steps);
    options.onProgress?.(step);
    const anomaly = await plan.anomaly();
    if (anomaly) {
      throw new CheckpointError(
        `training diverged: ${anomalyText(anomaly, trainer)}, in step ${step}; ${checkpoint} holds the last good state`,
      );
    }

    // Asked once: a run must not end between its last line and its last checkpoint.
    ended = step === last || interrupted();
    const logged = step % options.logEvery === 0 || ended;
    // Not at an interruption: an unbroken run has no measurement there, and who interrupts wants no sample drawn first.
    const measured = measurement && (step % every === 0 || step === config.steps);
    let better = false;
    if (logged || measured) {
      const line: LogLine = { step, seconds: seconds() };
      if (logged) for (const name of names) line[name] = (await plan.read(trainer.outputs[name]))[0];
      if (measured) Object.assign(line, await measurement.run());
      appendToFile(log, `${JSON.stringify(line)}\n`);
      options.onLog?.(line);
      const bad = logged && names.find((name) => !Number.isFinite(line[name]));
      if (bad) {
        throw new CheckpointError(
          `training diverged: ${bad} is ${line[bad]} at step ${step}; ${checkpoint} holds the last good state. Try lower learning rates; --detect-anomaly names the first tensor at fault`,
        );
      }
      better = best?.look(line) ?? false;
    }
    ended ||= outOfPatience();
    // With every new best state: what the log calls best must not be ahead of the checkpoint that a killed run goes on from.
    if (step % options.checkpointEvery === 0 || ended || better) await save(step);
    if (better) copyWhole(checkpoint, join(folder, bestName));
  }
  const spent = (performance.now() - started) / 1000;
  return {
    step,
    seconds: seconds(),
    finished: step >= config.steps,
    outOfPatience: step < config.steps && outOfPatience(),
    ...(best?.step !== undefined && { best: { value: best.value, step: best.step } }),
    stats: plan.stats,
    counts: trainer.counts,
    rate: (step - first) / Math.max(spent, 1e-9),
  };
}

/** Which tensor was the first to hold a NaN or an infinity, where in the model it belongs, and what went into it. */
function anomalyText({ node, element, value }: Anomaly, trainer: Trainer): string {
  const name = ({ op, attrs, scope, shape }: Node): string =>
    `${op === 'variable' ? attrs.name : op} ${showShape(shape)}${scope && ` (${scope})`}`;
  // An optimiser's result is all parameters of a network side by side: say which one.
  let state = node;
  while (state.op in stateRows) state = state.inputs[0];
  const { rows, parameters } = trainer.state.find((variable) => variable.node === state) ?? {};
  const found = parameters?.at(element % parameters.size);
  const at = found
    ? `${rows![Math.floor(element / parameters!.size)]} ${found.name} ${showShape(found.index)}`
    : showIndex(element, node.shape);
  return `the first tensor with ${value} is ${name(node)}, at ${at}, made from ${node.inputs.map(name).join(' and ')}`;
}
