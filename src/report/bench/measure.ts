/**
 * The benchmark: kernels, whole training steps and generating, against the adapter's ceilings. A case is held against the f64
 * reference before it is timed: a fast wrong kernel is not a result.
 */
import { GpuExecutor } from '../../autograd/executor.ts';
import { compare } from '../../autograd/gradcheck.ts';
import { type Node, type SampleInput, sizeOf, topological, type Value } from '../../autograd/graph.ts';
import { Stream } from '../../autograd/philox.ts';
import type { Data, Plan, Step } from '../../autograd/plan.ts';
import { evaluate } from '../../autograd/reference.ts';
import { synthesize } from '../../chem/synth.ts';
import { DeviceError, GradientError, MatganError } from '../../errors.ts';
import { type Ceilings, measureCeilings } from '../../kernels/ceilings.ts';
import { type Device, openDevice } from '../../kernels/device.ts';
import { ganTrainer } from '../../models/gan.ts';
import { initialise } from '../../models/training.ts';
import {
  type BenchCase,
  dataRows,
  type GenerateCase,
  generateStep,
  type KernelCase,
  kernelStep,
  leastWork,
  type StepCase,
  stepOf,
  stepOfCase,
  stepTrainer,
} from './cases.ts';
import { type BenchReport, type BenchRow, type Check, type LeftOut, origin } from './results.ts';
import { sample } from './sample.ts';

export interface BenchOptions {
  /** Less time a case. */
  quick?: boolean;
  /** Also what a software adapter takes long for. */
  all?: boolean;
  /** How it was called, for the report. */
  command?: string;
  /** After each case, what there is so far: a run cut short keeps it. */
  onReport?: (report: BenchReport) => void;
  /** Before each case, and at the end of all. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/** Timestamps that are not rounded to 0.1 ms, which is longer than most dispatches take. */
const dawn = ['disable-dawn-features=timestamp_quantization'];
/** A module's kernels are the user's own: Dawn guards their accesses. */
export const openBenchDevice = (own = false): Promise<Device> => openDevice({ dawn, boundsChecks: own });

/** What a case needs to be run again and again. */
export interface Prepared {
  step: Step;
  plan: Plan;
  check: Check;
  error: number | null;
  /** One replay; what it does beside `plan.run()` is waited for. */
  run: () => void | Promise<void>;
  destroy: () => void;
}

/**
 * Runs the benchmark on the adapter that Dawn prefers.
 * A kernel that computes something wrong is left out and marked so.
 * @throws DeviceError where there is no adapter, or where the only case computes something wrong
 */
export async function bench(cases: readonly BenchCase[], options: BenchOptions = {}): Promise<BenchReport> {
  const device = await openBenchDevice(cases.some((c) => 'own' in c && c.own !== undefined));
  try {
    const executor = new GpuExecutor(device);
    const meter = new Meter(device);
    const ceilings = await measureCeilings(device);
    const rows: BenchRow[] = [];
    const leftOut: LeftOut[] = [];
    const about = origin(device.info, options.command ?? 'matgan bench');
    for (const [i, c] of cases.entries()) {
      options.onProgress?.(i, cases.length, c.name);
      const long = options.all || !device.info.software ? undefined : tooLong(c, ceilings);
      if (long) {
        leftOut.push({ name: c.name, reason: long });
        continue;
      }
      const row = await measure(executor, meter, c, ceilings, options).catch((error) => {
        // Hours of other cases are not lost to one; alone, it is the answer.
        if (error instanceof WrongResult && cases.length > 1) return error;
        throw error;
      });
      if (row instanceof WrongResult) leftOut.push({ name: c.name, reason: row.message, wrong: true });
      else if (typeof row === 'string') leftOut.push({ name: c.name, reason: row });
      else rows.push(row);
      options.onReport?.({ ...about, ceilings, rows, leftOut });
    }
    options.onProgress?.(cases.length, cases.length, '');
    markBest(rows);
    return { ...about, ceilings, rows, leftOut };
  } finally {
    device.destroy();
  }
}

/** A case whose results are not those of the reference. */
class WrongResult extends DeviceError {}

/** Seconds a replay from which on a software adapter leaves a case out. */
const longestSeconds = 3;
/** Share of the FMA ceiling that the estimate of a time supposes. */
const supposedShare = 0.25;

/** Why a case is left out on a software adapter; undefined where it is not. */
function tooLong(c: BenchCase, { fmaGflops }: Ceilings): string | undefined {
  const seconds = leastWork(stepOfCase(c)).flops / (supposedShare * fmaGflops * 1e9);
  if (seconds < longestSeconds) return undefined;
  return `about ${seconds.toFixed(0)} s a replay on a software adapter; --all`;
}

/** Submits, and the most bytes of buffers alive at a time, of one device. */
class Meter {
  submits = 0;
  peak = 0;
  private readonly device: Device;

  constructor(device: Device) {
    this.device = device;
    const { queue } = device.gpu;
    const submit = queue.submit.bind(queue);
    queue.submit = (commands) => {
      this.submits++;
      submit(commands);
    };
    const create = device.createBuffer.bind(device);
    device.createBuffer = (...args) => {
      const buffer = create(...args);
      this.peak = Math.max(this.peak, device.bytesAlive);
      return buffer;
    };
  }

  /** Counts from here on. */
  reset(): void {
    this.submits = 0;
    this.peak = this.device.bytesAlive;
  }
}

/** A row; or why there is none, where the device has no room for the case. */
async function measure(
  executor: GpuExecutor,
  meter: Meter,
  c: BenchCase,
  ceilings: Ceilings,
  options: BenchOptions,
): Promise<BenchRow | string> {
  const prepared = await prepare(executor, c).catch((error) => {
    if (error instanceof NoRoom) return error.message;
    throw error;
  });
  if (typeof prepared === 'string') return prepared;
  const { plan, step, check, error } = prepared;
  try {
    meter.reset();
    await prepared.run();
    await executor.idle();
    const { submits } = meter;
    const times = await time(executor, prepared, c, options);
    const memory = meter.peak;
    const deviceMs = await deviceTime(executor, plan, times.medianMs);
    const { flops, dispatches } = plan.stats;
    const { leastBytes } = leastWork(step);
    // A user's kernel need not say what it moves.
    const bytes = plan.stats.bytes || leastBytes;
    const gflops = flops / times.medianMs / 1e6;
    const gbps = bytes / times.medianMs / 1e6;
    return {
      name: c.name,
      of: c.of,
      ...times,
      deviceMs,
      gflops,
      gbps,
      fmaShare: gflops / ceilings.fmaGflops,
      copyShare: gbps / ceilings.copyGbps,
      dispatches,
      submits,
      flops,
      bytes,
      leastBytes,
      memory,
      ...(c.kind === 'generate' && { perSecond: (c.batch * 1000) / times.medianMs }),
      check,
      error,
    };
  } finally {
    prepared.destroy();
  }
}

/** The batch that generates the most a second, where several were timed. */
function markBest(rows: BenchRow[]): void {
  const generating = rows.filter(({ perSecond }) => perSecond !== undefined);
  if (generating.length < 2) return;
  generating.reduce((best, row) => (row.perSecond! > best.perSecond! ? row : best)).best = true;
}

/** The device has no room for a case. */
class NoRoom extends DeviceError {}

/** A plan; what the device refuses is no fault of the kernel's. */
async function planOf(executor: GpuExecutor, step: Step): Promise<Plan> {
  try {
    return await executor.plan(step);
  } catch (cause) {
    if (cause instanceof DeviceError) throw new NoRoom(cause.message, { cause });
    throw cause;
  }
}

/** Makes a case ready, runs it once, and checks what it computes. @throws DeviceError where that is wrong */
export async function prepare(executor: GpuExecutor, c: BenchCase): Promise<Prepared> {
  if (c.kind === 'kernel') return prepareKernel(executor, c);
  return c.kind === 'step' ? prepareStep(executor, c) : prepareGenerating(executor, c);
}

/** Operations from which on the reference computes a few rows, and the batch repeats them. */
const mostReference = 2e8;
/** A prime, so that the rows' places in tiles differ. */
const distinctRows = 5;

/**
 * Which axis of each input is the batch, where the whole would be too much for the reference. Rows are then repeated: row n
 * is row n mod 5. What keeps rows apart gives the same five outputs again and again; what sums over rows is held against the
 * sum of five, each weighted by how often it is there, which is exact for linear ops.
 */
function batchAxes(
  { op, inputs, attrs, own }: KernelCase,
  flops: number,
): { sums: boolean; repeated: boolean[] } | undefined {
  if (own || flops <= mostReference || inputs.some(({ shape }) => shape.length === 0)) return undefined;
  if (op === 'conv2d' || op === 'conv2dInputGrad') return { sums: false, repeated: [true, false] };
  if (op === 'conv2dWeightGrad') return { sums: true, repeated: [true, true] };
  if (op !== 'dense') return undefined;
  if (!attrs.transposeX) return { sums: false, repeated: [true, false] };
  return attrs.transposeW ? undefined : { sums: true, repeated: [true, true] };
}

/** Numbers are drawn once and repeated: drawing tens of millions would take longer than everything else. */
const poolSize = 8191;

function values(input: SampleInput, random: Stream): Float64Array {
  if ('values' in input) return Float64Array.from(input.values);
  const drawn = Float64Array.from({ length: Math.min(poolSize, sizeOf(input.shape)) }, () => {
    if (input.draw === 'unit') return Math.fround(random.uniform());
    if (input.draw === 'positive') return Math.fround(0.5 + 1.5 * random.uniform());
    const n = random.normal();
    return Math.fround(input.draw === 'away' ? n + 0.1 * Math.sign(n) : n);
  });
  return new Float64Array(sizeOf(input.shape)).map((_, i) => drawn[i % drawn.length]);
}

/** Unit round-off of f32. */
const unit = 2 ** -24;

/** The error that f32 may leave, from the ops' own counts of roundings; sums over thousands of numbers stay far below. */
const toleranceOf = (outputs: readonly Node[]): number =>
  Math.max(
    8,
    topological(outputs).reduce((total, node) => total + (node.graph.ops[node.op]?.roundings(node) ?? 0), 0),
  ) * unit;

async function prepareKernel(executor: GpuExecutor, c: KernelCase): Promise<Prepared> {
  const { step, inputs, output } = kernelStep(c);
  const axes = batchAxes(c, leastWork(step).flops);
  const random = new Stream(1);
  const data = c.inputs.map((input, i) => {
    const all = values(input, random);
    if (axes?.repeated[i]) {
      const row = all.length / input.shape[0];
      for (let k = distinctRows * row; k < all.length; k++) all[k] = all[k % (distinctRows * row)];
    }
    return all;
  });
  const typed = (node: Node, all: Float64Array): Data =>
    node.dtype === 'u32' ? Uint32Array.from(all) : Float32Array.from(all);
  const destroyInputs = (): void => executor.forget(inputs);
  let plan: Plan | undefined;
  const destroy = (): void => {
    plan?.destroy();
    destroyInputs();
  };
  try {
    plan = await planOf(executor, step);
    inputs.forEach((node, i) => {
      executor.write(node, typed(node, data[i]));
    });
    plan.run();
    const actual = await plan.read(output);
    const expected = axes
      ? fewRows(c, axes, data)
      : evaluate([output], (node) => ({ shape: node.shape, data: data[inputs.indexOf(node)] }))[0];
    const period = expected.data.length;
    const whole: Value =
      axes && !axes.sums
        ? {
            shape: output.shape,
            data: Float64Array.from({ length: sizeOf(output.shape) }, (_, i) => expected.data[i % period]),
          }
        : expected;
    const { error, ulp } = compare(whole, actual);
    const tolerance = output.dtype === 'u32' ? 0 : toleranceOf([output]);
    // In norm one wrong element of a million hides: the greatest error of an element counts as well, in units of the greatest.
    if (!(error <= tolerance && ulp * unit <= tolerance)) {
      const text = `bench: ${c.name}: the GPU is off the reference by ${error.toExponential(1)}, ${tolerance.toExponential(1)} is allowed; run matgan gradcheck`;
      throw c.own ? new GradientError(text) : new WrongResult(text);
    }
    const made = plan;
    return { step, plan, check: axes ? 'repeated rows' : 'reference', error, run: () => made.run(), destroy };
  } catch (error) {
    destroy();
    throw c.own ? ownFault(c.name, error) : error;
  }
}

/** What a user's function throws is no fault of matgan's. */
function ownFault(name: string, cause: unknown): unknown {
  if (cause instanceof MatganError) return cause;
  const text = String((cause as Error).message ?? cause).replace(/\s*\n\s*/g, ' ');
  return new GradientError(`bench: ${name}: its row throws ${text}`, { cause });
}

/** The reference on the five rows that a batch repeats. */
function fewRows(
  c: KernelCase,
  { sums, repeated }: { sums: boolean; repeated: boolean[] },
  data: readonly Float64Array[],
): Value {
  const rows = Math.min(distinctRows, c.inputs[0].shape[0]);
  const shrunk = c.inputs.map((input, i) =>
    repeated[i] ? { ...input, shape: [rows, ...input.shape.slice(1)] } : input,
  );
  const { inputs, output } = kernelStep({ ...c, inputs: shrunk });
  const batch = c.inputs[0].shape[0];
  const parts = inputs.map((node, i) => {
    const part = data[i].slice(0, sizeOf(node.shape));
    if (sums && i === 0) {
      const row = part.length / rows;
      // Row k is there as often as there are n < batch with n mod 5 = k.
      for (let k = 0; k < part.length; k++) part[k] *= Math.ceil((batch - Math.floor(k / row)) / rows);
    }
    return part;
  });
  return evaluate([output], (node) => ({ shape: node.shape, data: parts[inputs.indexOf(node)] }))[0];
}

async function prepareStep(executor: GpuExecutor, c: StepCase): Promise<Prepared> {
  const { packed, rows } = synthesize({ count: dataRows });
  if (rows !== dataRows) throw new DeviceError(`bench: ${rows} rows were made, not ${dataRows}`);
  const trainer = stepTrainer(c);
  const step = stepOf(trainer);
  let plan: Plan | undefined;
  const destroy = (): void => {
    plan?.destroy();
    executor.forget([...trainer.state.map(({ node }) => node), trainer.step, trainer.data]);
  };
  try {
    plan = await planOf(executor, step);
    initialise(executor, trainer, { packed, rows });
    executor.write(trainer.data, packed);
    plan.run();
    for (const [name, node] of Object.entries(trainer.outputs)) {
      const [loss] = await plan.read(node);
      if (!Number.isFinite(loss)) throw new DeviceError(`bench: ${c.name}: ${name} is ${loss} after one step`);
    }
    const made = plan;
    return { step, plan, check: 'finite losses', error: null, run: () => made.run(), destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

/** Samples that the reference generates as well. */
const checkedSamples = 2;

async function prepareGenerating(executor: GpuExecutor, c: GenerateCase): Promise<Prepared> {
  const { config, graphs, step } = generateStep(c);
  const { formulas } = graphs;
  const few = generateStep({ preset: c.preset, batch: checkedSamples });
  const variables = topological([formulas]).filter(({ op }) => op === 'variable');
  // As training leaves them before its first step; moments of averaged weights begin as those of the last ones do.
  const start = new Map<string, Data>(
    ganTrainer(config, dataRows).state.map(({ node, initial }) => [node.attrs.name, initial()]),
  );
  start.set('generate.running', start.get('generator.running')!);
  start.set(graphs.counter.attrs.name, new Uint32Array(2));
  let plan: Plan | undefined;
  const destroy = (): void => {
    plan?.destroy();
    executor.forget(variables);
  };
  try {
    for (const node of variables) executor.write(node, start.get(node.attrs.name)!);
    const [cells] = formulas.inputs;
    const checking = await planOf(executor, { outputs: [cells, formulas] });
    let error: number;
    try {
      checking.run();
      const made = await checking.read(cells);
      const words = await checking.read(formulas);
      const [fewCells] = few.graphs.formulas.inputs;
      const [expected] = evaluate([fewCells], (node) => ({
        shape: node.shape,
        data: Float64Array.from(start.get(node.attrs.name)!),
      }));
      ({ error } = compare(expected, made.subarray(0, expected.data.length)));
      const tolerance = toleranceOf([fewCells]);
      if (!(error <= tolerance)) {
        throw new WrongResult(
          `bench: ${c.name}: the first samples are off the reference by ${error.toExponential(1)}, ${tolerance.toExponential(1)} is allowed`,
        );
      }
      const decoded = { shape: formulas.shape, data: new Float64Array(sizeOf(formulas.shape)) };
      const shown = { shape: cells.shape, data: Float64Array.from(made) };
      formulas.graph.ops[formulas.op].reference([shown], formulas.attrs, decoded);
      if (compare(decoded, words).error !== 0) {
        throw new WrongResult(`bench: ${c.name}: the formulas are not those that the cells decode to`);
      }
    } finally {
      checking.destroy();
    }
    const made = (plan = await planOf(executor, step));
    const run = async (): Promise<void> => {
      made.run();
      await made.read(formulas);
    };
    return { step, plan, check: 'first samples', error, run, destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

/** One sample takes about this long: the clock, the submit and the wait must not show in it. */
const sampleMs = 40;

type Times = Pick<BenchRow, 'medianMs' | 'spreadMs' | 'quartilesMs' | 'minMs' | 'samples'>;

/** Times replays of a case that has run before. */
async function time(executor: GpuExecutor, { run }: Prepared, c: BenchCase, { quick }: BenchOptions): Promise<Times> {
  // Reading what a batch has made is part of generating: it is waited for each time, as the sampler does.
  const waits = c.kind === 'generate';
  const replays = async (count: number, sleep: number): Promise<void> => {
    for (let i = 0; i < count; i++) await (waits ? run() : void run());
    if (sleep > 4) await new Promise((resolve) => setTimeout(resolve, sleep));
    await executor.idle();
  };
  let count = 1;
  let each = Number.POSITIVE_INFINITY;
  const began = performance.now();
  for (let long = 0; long < 3 && performance.now() - began < 1500; ) {
    const start = performance.now();
    await replays(count, 0);
    const took = performance.now() - start;
    each = Math.min(each, took / count);
    if (took >= sampleMs / 2 || count >= 4096) long++;
    else count *= 2;
  }
  count = Math.max(1, Math.round(sampleMs / each));
  // Waiting on a promise polls, on a software adapter with a core that should compute: sleep through half of the least time
  // seen, so that the sleep itself is never what is measured.
  const seconds = quick ? 0.3 : c.kind === 'kernel' ? 0.6 : 3;
  const sleep = waits ? 0 : 0.5 * count * each;
  const ms = (await sample(c.name, () => replays(count, sleep), seconds))
    .map((s) => (s * 1000) / count)
    .sort((p, q) => p - q);
  const quantile = (share: number): number => ms[Math.round(share * (ms.length - 1))];
  const quartilesMs = [quantile(0.25), quantile(0.75)] as const;
  return {
    medianMs: quantile(0.5),
    spreadMs: quartilesMs[1] - quartilesMs[0],
    quartilesMs,
    minMs: ms[0],
    samples: ms.length,
  };
}

/** Median of the dispatches' sum over a few profiled replays, in ms; null where the adapter has no timestamps. */
async function deviceTime({ device }: GpuExecutor, plan: Plan, medianMs: number): Promise<number | null> {
  if (!device.features.has('timestamp-query')) return null;
  const sums: number[] = [];
  const times = medianMs > 500 ? 1 : 5;
  for (let i = 0; i < times; i++) {
    sums.push((await plan.profile()).reduce((sum, { milliseconds }) => sum + milliseconds, 0));
  }
  return sums.sort((a, b) => a - b)[times >> 1];
}
