/** Formulas out of a trained generator. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Executor, GpuExecutor } from '../autograd/executor.ts';
import type { Plan } from '../autograd/plan.ts';
import { type FormulaTarget, frequencySums, meetsTarget, targetSums } from '../chem/baseline.ts';
import { maxPairs, type PackedFormulas, reducePacked } from '../chem/encoding.ts';
import { CheckpointError } from '../errors.ts';
import { assemble, type Checkpoint } from './checkpoint.ts';
import type { Config, FilterConfig, GanConfig } from './config.ts';
import { DraftPool, keepInRange, type PropertyRange } from './drafts.ts';
import { Sieve } from './filter.ts';
import { ganTrainer, generatorGraphs } from './gan.ts';
import { Pace } from './pace.ts';
import { checkSize, criticSize, generatorSize, limits } from './size.ts';
import type { StateVariable } from './training.ts';

export interface DrawOptions {
  /** Samples to draw. */
  count: number;
  seed: number;
  /** How cells become formulas; the configuration's rule unless said. */
  rule?: 'paper' | 'argmax';
  /** Samples in one pass; `defaultBatch` unless said. */
  batch?: number;
  /** Count formulas, not samples: those that decode to nothing are as if they had not been drawn. */
  formulas?: boolean;
  /** A filter trained for this generator: `count` are then the samples that it keeps. */
  filter?: Checkpoint;
  /** Share of the decoded samples that the filter keeps; its configuration's unless said. */
  keep?: number;
  /** Drafts are drawn to meet this, and `count` are the formulas that do; only for generators with drafts. */
  target?: FormulaTarget;
  /** Formulas whose frequencies drafts are drawn from, instead of training's; only for generators with drafts. */
  like?: PackedFormulas;
  /**
   * What models are to predict of the formulas: only drafts in range are taken, and `count` are the formulas in range. Only for generators
   * with drafts; not with `skipBatches`.
   */
  properties?: readonly PropertyRange[];
  /** Leave out this many batches: drawing goes on where that many had ended. */
  skipBatches?: number;
  onProgress?: (drawn: number) => void;
}

export interface SampleOptions extends DrawOptions {
  /** Divide each formula by the greatest common divisor of its counts. */
  reduce?: boolean;
}

/** What was drawn. */
export interface Drawn {
  samples: number;
  /** Samples that were looked at: all, or those that the filter kept. */
  offered: number;
  /** Formulas among these that meet the target, models' predictions included. */
  hits: number;
  /** Drafts that models were asked about, and how many were in range. */
  drafts?: { drawn: number; hits: number };
}

const anything: FormulaTarget = { contains: [], sizes: [1, maxPairs] };

/** Batches that settle the moments of averaged weights. */
export const calibrationBatches = 12;
/** Samples that set how strict a filter is, on a device and on the reference executor. */
const sieveSamples = { gpu: 8192, reference: 256 };
/** Samples that may come before one meets the target, times the share that a filter keeps. */
const patience = 100_000;
/** Batches handed to a graphics card before the first of them is waited for. */
const inFlight = 4;

/**
 * Samples in one pass where nobody says: fewest on the reference executor, few on a processor, whose caches they leave sooner; on a graphics card as many as
 * keep it busy, within the bounds of a configuration and the device's of a buffer.
 */
export function defaultBatch(executor: Executor, config: Config): number {
  // Between batches the reference executor lets signals through: a hundred samples of the paper's networks take it 15 s.
  if (!(executor instanceof GpuExecutor)) return 16;
  if (executor.device.info.software || config.model !== 'gan') return 128;
  const own = generatorSize(config.generator).activations;
  const both = own + criticSize(config.critic).activations;
  const most = Math.min(limits.activations / both, executor.device.limits.maxStorageBufferBindingSize / (4 * own));
  return Math.min(4096, Math.max(128, 2 ** Math.floor(Math.log2(most))));
}

/**
 * Draws `count` samples and hands them over batch by batch, in order: packed formulas [rows, 4] as they were decoded, zeros
 * where a sample is none. The same checkpoint, seed and batch give the same ones on the same adapter.
 */
export async function drawSamples(
  executor: Executor,
  checkpoint: Checkpoint,
  options: DrawOptions,
  receive: (words: Uint32Array, rows: number) => void,
): Promise<Drawn> {
  const { config } = checkpoint;
  if (config.model !== 'gan') {
    throw new CheckpointError(`${checkpoint.path}: it is a model of kind ${config.model}; generating takes a gan`);
  }
  const batch = options.batch ?? Math.min(options.count, defaultBatch(executor, config));
  checkSize(config, `${checkpoint.path}, --batch ${batch}`, batch);
  const { filter } = options;
  if (filter && filter.config.model !== 'filter') {
    throw new CheckpointError(`${filter.path}: it is a model of kind ${filter.config.model}, not a filter`);
  }
  const filterConfig = filter?.config as FilterConfig | undefined;
  const { target, like, properties = [] } = options;
  if ((target || like || properties.length > 0) && !(config.generator.kind === 'dense' && config.generator.draft)) {
    throw new CheckpointError(
      `${checkpoint.path}: its generator takes no drafts, so nothing can be asked of it; train with the preset best, or filter its table`,
    );
  }
  const graphs = generatorGraphs(config, batch, options.rule ?? config.decoding, options.seed, {
    filter: filterConfig,
    withRequired: properties.length === 0 && target !== undefined && target.contains.length > 0,
    givenDrafts: properties.length > 0,
  });
  const restored = generatorState(checkpoint, config);
  try {
    for (const variable of restored) executor.write(variable.node, assemble(checkpoint, variable));
    const keep = options.keep ?? filterConfig?.keep ?? 1;
    let pool: DraftPool | undefined;
    if (target || like || properties.length > 0) {
      const variable = restored.find(({ node }) => node.attrs.name === 'generator.frequencies')!;
      const sums = like ? frequencySums(like) : (assemble(checkpoint, variable) as Float32Array);
      const { required, others } = targetSums(sums, target ?? anything);
      if (properties.length > 0) {
        pool = await DraftPool.open({ required, others, properties, seed: options.seed, batch });
      } else {
        executor.write(variable.node, others);
        if (graphs.required) executor.write(graphs.required, required);
      }
    }
    const prepare = async (): Promise<void> => {
      if (pool) executor.write(graphs.drafts!, await pool.next());
    };
    await calibrate(executor, graphs, prepare);
    if (graphs.filter) {
      const { rows, state } = graphs.filter;
      executor.write(
        rows,
        Uint32Array.from({ length: batch }, (_, i) => i),
      );
      executor.write(state.node, assemble(filter!, state));
    }
    const outputs = [graphs.formulas, ...(graphs.filter ? [graphs.filter.logits] : [])];
    const plan = await executor.plan({ outputs, updates: [graphs.count] });
    try {
      let sieve = options.formulas || target || pool ? Sieve.all() : undefined;
      if (graphs.filter) {
        sieve = await makeSieve(executor, plan, graphs, { batch, keep, seed: options.seed, target, prepare });
      }
      executor.write(graphs.counter, Uint32Array.of(options.skipBatches ?? 0, 0));
      const drawn = await drawFrom(executor, plan, graphs, { ...options, keep, batch, sieve, prepare }, receive);
      return { ...drawn, ...(pool && { drafts: { drawn: pool.drawn, hits: pool.hits } }) };
    } finally {
      plan.destroy();
    }
  } finally {
    executor.forget([...restored.map(({ node }) => node), ...graphs.variables]);
  }
}

/** `drawSamples` in memory: those samples that decode to a formula, in order. */
export async function sample(
  executor: Executor,
  checkpoint: Checkpoint,
  options: SampleOptions,
): Promise<PackedFormulas> {
  // Grown as formulas come: a request for ten million samples from a dead generator takes no memory.
  let packed = new Uint32Array(4096);
  let rows = 0;
  await drawSamples(executor, checkpoint, options, (words, drawn) => {
    for (let i = 0; i < drawn; i++) {
      if (words[4 * i] === 0) continue;
      if (packed.length < 4 * (rows + 1)) {
        const larger = new Uint32Array(packed.length * 2);
        larger.set(packed);
        packed = larger;
      }
      packed.set(words.subarray(4 * i, 4 * i + 4), 4 * rows);
      if (options.reduce) reducePacked(packed, rows);
      rows++;
    }
  });
  return { packed: packed.slice(0, 4 * rows), rows };
}

type Graphs = ReturnType<typeof generatorGraphs>;

/** Sets the moments of averaged weights, where the generator has both. */
async function calibrate(executor: Executor, graphs: Graphs, prepare: () => Promise<void>): Promise<void> {
  if (!graphs.calibrate) return;
  // An executor may have sampled before: the moments must not follow from how often.
  executor.write(graphs.counter, new Uint32Array(2));
  for (const [update, times] of [
    [graphs.calibrate.first, 1],
    [graphs.calibrate.further, calibrationBatches],
  ] as const) {
    const plan = await executor.plan({ updates: [update, graphs.count] });
    try {
      for (let i = 0; i < times; i++) {
        await prepare();
        plan.run();
        if (executor.kind === 'reference') await executor.idle();
      }
      await executor.idle();
    } finally {
      plan.destroy();
    }
  }
}

/** What a plan made of a batch: its formulas, and what the filter says of them. */
function readBatch(plan: Plan, { formulas, filter }: Graphs): Promise<[words: Uint32Array, logits?: Float32Array]> {
  const reads = [formulas, ...(filter ? [filter.logits] : [])].map((node) => plan.read(node));
  return Promise.all(reads) as Promise<[Uint32Array, Float32Array?]>;
}

/** Sets how strict a filter is by samples of their own. @throws CheckpointError where none is a formula */
async function makeSieve(
  executor: Executor,
  plan: Plan,
  graphs: Graphs,
  {
    batch,
    keep,
    seed,
    target = anything,
    prepare,
  }: { batch: number; keep: number; seed: number; target?: FormulaTarget; prepare: () => Promise<void> },
): Promise<Sieve> {
  // Far from where drawing starts: the samples that set it are not those that are handed out.
  executor.write(graphs.counter, new Uint32Array([0, 1]));
  const found: number[] = [];
  const most = sieveSamples[executor.kind];
  for (let drawn = 0; drawn < most; drawn += batch) {
    // The reference executor never waits for anything: a signal must get through all the same.
    if (executor.kind === 'reference') await executor.idle();
    await prepare();
    plan.run();
    const [words, logits] = await readBatch(plan, graphs);
    for (let row = 0; row < batch; row++) {
      if (words[4 * row] !== 0 && meetsTarget(target, words, row)) found.push(logits![row]);
    }
  }
  if (found.length === 0) {
    throw new CheckpointError(
      `none of ${most} samples decodes to a formula${target === anything ? '' : ' that was asked for'}; the generator needs more training`,
    );
  }
  return new Sieve(found, keep, seed);
}

/**
 * Runs batches and hands over their rows. A graphics card has several in flight, each with its rows' way back already
 * under way, so that it never waits for the host. A software adapter computes on the host's own cores, which waiting for an
 * answer would keep busy with polling: there one batch is in flight while the last one's rows are looked at, and then slept for.
 */
async function drawFrom(
  executor: Executor,
  plan: Plan,
  graphs: Graphs,
  {
    count,
    batch,
    keep = 1,
    sieve,
    filter,
    target,
    properties = [],
    skipBatches = 0,
    prepare,
    onProgress,
  }: DrawOptions & { batch: number; sieve?: Sieve; prepare: () => Promise<void> },
  receive: (words: Uint32Array, rows: number) => void,
): Promise<Drawn> {
  const polite = !(executor instanceof GpuExecutor) || executor.device.info.software;
  const waiting: { first: number; rows: number; read?: ReturnType<typeof readBatch> }[] = [];
  let asked = 0;
  /** Samples handed over; where there is a sieve, those that it kept. */
  let drawn = 0;
  let started = 0;
  /** Looked at since one met the target. */
  let missed = 0;
  const total: Drawn = { samples: 0, offered: 0, hits: 0 };
  const ask = async (): Promise<void> => {
    if (!sieve && asked >= count) return;
    await prepare();
    plan.run();
    started = performance.now();
    const read = polite ? undefined : readBatch(plan, graphs);
    // Whoever comes to wait for it sees the error; until then it must not count as one that nobody caught.
    read?.catch(() => {});
    const rows = sieve ? batch : Math.min(batch, count - asked);
    waiting.push({ first: skipBatches * batch + asked, rows, read });
    asked += rows;
  };
  const pace = new Pace();
  try {
    for (let i = 0; i < (polite ? 1 : inFlight); i++) await ask();
    while (drawn < count) {
      const { first, rows, read } = waiting.shift()!;
      // The reference executor never waits for anything: a signal must get through all the same.
      if (executor.kind === 'reference') await executor.idle();
      else if (polite) {
        const left = pace.sleep() - (performance.now() - started);
        if (left > 2) await sleep(left);
      }
      const awake = performance.now();
      const [words, logits] = await (read ?? readBatch(plan, graphs));
      const now = performance.now();
      // The first one also compiles.
      if (drawn > 0) pace.note(now - started, now - awake);
      await ask();
      total.samples += rows;
      const stayed = sieve?.take(words, rows, rows, first, logits) ?? rows;
      const offered = filter ? stayed : rows;
      total.offered += offered;
      if (target) {
        for (let row = 0; row < rows; row++) if (!meetsTarget(target, words, row)) words.fill(0, 4 * row, 4 * row + 4);
      }
      if (properties.length > 0) await keepInRange(words, rows, properties);
      let hits = 0;
      for (let row = 0; row < rows; row++) {
        if (words[4 * row] === 0) continue;
        hits++;
        if (sieve && hits > count - drawn) words.fill(0, 4 * row, 4 * row + 4);
      }
      total.hits += hits;
      missed = hits > 0 ? 0 : missed + offered;
      if (sieve && missed > patience * keep) {
        throw new CheckpointError(
          `none of the last ${missed} samples is what was asked for; ask for something likelier`,
        );
      }
      const kept = sieve ? Math.min(hits, count - drawn) : rows;
      receive(words, rows);
      drawn += kept;
      onProgress?.(drawn);
    }
  } finally {
    await Promise.allSettled(waiting.map(({ read }) => read));
  }
  return total;
}

/** What generating needs of a checkpoint. */
export function generatorState({ data }: Checkpoint, config: GanConfig): StateVariable[] {
  return ganTrainer(config, data.rows).state.filter(({ node }) => {
    const { name } = node.attrs;
    // The optimiser's moments are not needed where the average is what generates.
    return name.startsWith('generator') && !(name === 'generator' && config.averaging > 0);
  });
}
