/**
 * The benchmark: each kernel at the shapes of the paper's nets, and whole training steps, against the adapter's ceilings.
 * A case is held against the f64 reference before it is timed: a fast wrong kernel is not a result.
 */
import * as b from '../autograd/build.ts';
import { GpuExecutor } from '../autograd/executor.ts';
import { type Graph, type Node, sizeOf, topological } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { Stream } from '../autograd/philox.ts';
import type { Plan, PlanStats } from '../autograd/plan.ts';
import { evaluate } from '../autograd/reference.ts';
import { synthesize } from '../chem/synth.ts';
import { ConfigError, DeviceError } from '../errors.ts';
import { type Ceilings, measureCeilings } from '../kernels/ceilings.ts';
import { openDevice } from '../kernels/device.ts';
import { loadConfig } from '../models/config.ts';
import { makeTrainer } from '../models/run.ts';
import { initialise } from '../models/training.ts';

/** One line of the benchmark. */
export interface BenchRow {
  /** The op and its shape, or `step` and a preset. */
  name: string;
  /** Of one replay, waiting included but shared by all replays of a sample. */
  medianMs: number;
  /** Distance of the quartiles of the samples. */
  spreadMs: number;
  gflops: number;
  /** From the least bytes that the kernels have to move. */
  gbps: number;
  /** Shares of the adapter's ceilings. */
  fmaShare: number;
  copyShare: number;
  dispatches: number;
  flops: number;
  bytes: number;
  /** ‖gpu − reference‖/‖reference‖; for steps, which are checked for finite losses only, null. */
  error: number | null;
}

export interface BenchReport {
  adapter: string;
  software: boolean;
  ceilings: Ceilings;
  rows: BenchRow[];
}

/** An op applied to variables of these shapes. */
interface KernelCase {
  name: string;
  /** Taken along by `quick`. */
  quick: boolean;
  build: (graph: Graph) => Node;
}
interface StepCase {
  name: string;
  quick: boolean;
  kind: 'gan' | 'ae';
  preset: string;
  /** Settings laid over the preset. */
  overrides?: Record<string, unknown>;
}

const batch = 32;

/** Convolutions of the critics [height, width, in] → out; the generators' layers are the adjoints of the same. */
const convolutions: {
  net: string;
  x: [number, number, number];
  kernel: number;
  strides: [number, number];
  out: number;
}[] = [
  { net: 'icsd', x: [85, 8, 1], kernel: 3, strides: [2, 1], out: 16 },
  { net: 'icsd', x: [43, 8, 16], kernel: 3, strides: [2, 1], out: 32 },
  { net: 'icsd', x: [22, 8, 32], kernel: 3, strides: [2, 1], out: 64 },
  { net: 'icsd', x: [11, 8, 64], kernel: 5, strides: [2, 2], out: 128 },
  { net: 'oqmd', x: [85, 8, 1], kernel: 3, strides: [1, 1], out: 32 },
  { net: 'oqmd', x: [85, 8, 32], kernel: 3, strides: [2, 1], out: 32 },
  { net: 'oqmd', x: [43, 8, 32], kernel: 3, strides: [1, 1], out: 64 },
  { net: 'oqmd', x: [43, 8, 64], kernel: 3, strides: [2, 1], out: 64 },
  { net: 'oqmd', x: [22, 8, 64], kernel: 3, strides: [1, 1], out: 128 },
  { net: 'oqmd', x: [22, 8, 128], kernel: 3, strides: [2, 1], out: 128 },
  { net: 'oqmd', x: [11, 8, 128], kernel: 5, strides: [2, 2], out: 256 },
];

/** Fully connected layers: rows, in, out. */
const denses: { net: string; size: [number, number, number] }[] = [
  { net: 'icsd', size: [batch, 128, 3072] },
  { net: 'icsd', size: [batch, 3072, 1] },
  { net: 'small', size: [64, 512, 512] },
  { net: 'small', size: [64, 512, 680] },
];

function kernelCases(): KernelCase[] {
  const cases: KernelCase[] = [];
  const add = (net: string, op: string, what: string, build: (graph: Graph) => Node): void => {
    cases.push({ name: `${op} ${net} ${what}`, quick: net === 'icsd', build });
  };
  for (const { net, x, kernel, strides, out } of convolutions) {
    const [height, width, channels] = x;
    const padding = b.samePadding([height, width], [kernel, kernel], strides);
    const image = [batch, ...x];
    const filter = [kernel, kernel, channels, out];
    const output = [batch, Math.ceil(height / strides[0]), Math.ceil(width / strides[1]), out];
    const what = `${x.join('x')}>${out} k${kernel} s${strides.join('x')}`;
    const attrs = { strides, padding };
    add(net, 'conv2d', what, (g) => b.conv2d(g.variable('x', image), g.variable('f', filter), attrs));
    add(net, 'conv2dInputGrad', what, (g) =>
      b.conv2dInputGrad(g.variable('y', output), g.variable('f', filter), { ...attrs, size: [height, width] }),
    );
    add(net, 'conv2dWeightGrad', what, (g) =>
      b.conv2dWeightGrad(g.variable('x', image), g.variable('y', output), { ...attrs, kernel: [kernel, kernel] }),
    );
  }
  for (const { net, size } of denses) {
    const [rows, depth, columns] = size;
    const what = size.join('x');
    add(net, 'dense', what, (g) => b.dense(g.variable('x', [rows, depth]), g.variable('w', [depth, columns])));
    add(net, 'dense', `${what} input gradient`, (g) =>
      b.dense(g.variable('g', [rows, columns]), g.variable('w', [depth, columns]), { transposeW: true }),
    );
    add(net, 'dense', `${what} weight gradient`, (g) =>
      b.dense(g.variable('x', [rows, depth]), g.variable('g', [rows, columns]), { transposeX: true }),
    );
  }
  // The largest activation of GAN-ICSD, and its batch norm.
  const shape = [batch, 43, 8, 16];
  const what = shape.join('x');
  const channel = (g: Graph, name: string): Node => g.variable(name, [16]);
  add('icsd', 'batchNorm', what, (g) =>
    b.batchNorm(g.variable('x', shape), channel(g, 'gamma'), channel(g, 'beta'), 1e-5),
  );
  add('icsd', 'batchNormGrad', what, (g) =>
    b.batchNormGrad(g.variable('x', shape), channel(g, 'gamma'), g.variable('g', shape), 1e-5),
  );
  add('icsd', 'moments', what, (g) => b.moments(g.variable('x', shape)));
  add('icsd', 'leakyRelu', what, (g) => b.leakyRelu(g.variable('x', shape), 0.2));
  add('icsd', 'leakyReluGrad', what, (g) => b.leakyReluGrad(g.variable('x', shape), g.variable('g', shape), 0.2));
  add('icsd', 'add', what, (g) => b.add(g.variable('x', shape), g.variable('y', shape)));
  add('icsd', 'add', `${what} and a bias`, (g) => b.add(g.variable('x', shape), channel(g, 'y')));
  add('icsd', 'sum', `${what} to a bias`, (g) => b.sum(g.variable('x', shape), [0, 1, 2]));
  add('icsd', 'sum', `${what} to a scalar`, (g) => b.sum(g.variable('x', shape)));
  return cases;
}

const rmsProp = { name: 'rmsProp', learningRate: 5e-4, rho: 0.9, eps: 1e-8 };
/** What keeps the critic in bounds, by norms of the critic: the preset `icsd` with one critic step. */
const constraintCases: readonly Omit<StepCase, 'quick'>[] = [
  { name: 'penalty', overrides: {} },
  {
    name: 'clipping',
    overrides: {
      constraint: { name: 'clipping', clip: 0.01 },
      generatorOptimiser: rmsProp,
      criticOptimiser: rmsProp,
    },
  },
].flatMap(({ name, overrides }) =>
  ['none', 'layer', 'batch'].map((norm) => ({
    name: `step gan icsd, ${name}, critic norm ${norm}`,
    kind: 'gan' as const,
    preset: 'icsd',
    overrides: { ...overrides, critic: { norm }, criticSteps: 1 },
  })),
);
const stepCases: readonly StepCase[] = [
  { name: 'step gan icsd-paper', quick: true, kind: 'gan', preset: 'icsd-paper' },
  { name: 'step gan icsd', quick: false, kind: 'gan', preset: 'icsd' },
  { name: 'step ae ae', quick: false, kind: 'ae', preset: 'ae' },
  ...constraintCases.map((c) => ({ ...c, quick: false })),
].map((c) => ({ ...c, name: `${c.name} batch ${batch}` }) as StepCase);

export interface BenchOptions {
  /** Only cases with this in their names. */
  filter?: string;
  /** Only the GAN-ICSD shapes, and less time a case. */
  quick?: boolean;
  /** Before each case, and at the end of each. */
  onProgress?: (done: number, total: number, name: string) => void;
}

/** Names of the cases that these options choose. @throws ConfigError where there is none. */
export function chooseCases({ filter = '', quick = false }: BenchOptions): (KernelCase | StepCase)[] {
  const all = [...kernelCases(), ...stepCases];
  const chosen = all.filter((c) => c.name.includes(filter) && (!quick || c.quick));
  if (chosen.length === 0) {
    const words = [...new Set(all.map(({ name }) => name.split(' ')[0]))];
    throw new ConfigError(`bench: no case has "${filter}" in its name; they begin with ${words.join(', ')}`);
  }
  return chosen;
}

/**
 * Runs the benchmark on the adapter that Dawn prefers.
 * @throws DeviceError where there is no adapter, or where a kernel computes something wrong.
 */
export async function bench(options: BenchOptions = {}): Promise<BenchReport> {
  const cases = chooseCases(options);
  const device = await openDevice();
  try {
    const executor = new GpuExecutor(device);
    const ceilings = await measureCeilings(device);
    const rows: BenchRow[] = [];
    for (const [i, c] of cases.entries()) {
      options.onProgress?.(i, cases.length, c.name);
      const row = 'build' in c ? await kernelRow(executor, c, options) : await stepRow(executor, c, options);
      rows.push({
        ...row,
        fmaShare: row.gflops / ceilings.fmaGflops,
        copyShare: row.gbps / ceilings.copyGbps,
      });
    }
    options.onProgress?.(cases.length, cases.length, '');
    const { description, device: name, software } = device.info;
    return { adapter: description || name, software, ceilings, rows };
  } finally {
    device.destroy();
  }
}

type Measured = Omit<BenchRow, 'fmaShare' | 'copyShare'>;

async function kernelRow(executor: GpuExecutor, c: KernelCase, options: BenchOptions): Promise<Measured> {
  const graph = newGraph();
  const output = c.build(graph);
  const nodes = topological([output]);
  const variables = nodes.filter(({ op }) => op === 'variable');
  const random = new Stream(1);
  const values = new Map(
    variables.map((node) => [node, Float32Array.from({ length: sizeOf(node.shape) }, () => random.normal())]),
  );
  for (const [node, data] of values) executor.write(node, data);
  const plan = await executor.plan({ outputs: [output] });
  try {
    plan.run();
    const actual = await plan.read(output);
    const [expected] = evaluate([output], (node) => ({
      shape: node.shape,
      data: Float64Array.from(values.get(node)!),
    }));
    let difference = 0;
    let norm = 0;
    for (let i = 0; i < actual.length; i++) {
      difference += (actual[i] - expected.data[i]) ** 2;
      norm += expected.data[i] ** 2;
    }
    const error = Math.sqrt(difference / (norm || 1));
    // The ops' own counts of roundings bound the error; sums over thousands of numbers stay far below.
    const roundings = nodes.reduce((total, node) => total + (graph.ops[node.op]?.roundings(node) ?? 0), 0);
    const tolerance = Math.max(8, roundings) * 2 ** -24;
    if (!(error <= tolerance)) {
      throw new DeviceError(
        `bench: ${c.name}: the GPU is off the reference by ${error.toExponential(1)}, ${tolerance.toExponential(1)} is allowed; run matgan gradcheck`,
      );
    }
    return { ...(await time(executor, plan, c.name, options)), error };
  } finally {
    plan.destroy();
    executor.forget(variables);
  }
}

async function stepRow(executor: GpuExecutor, c: StepCase, options: BenchOptions): Promise<Measured> {
  const { packed, rows } = synthesize({ count: 2048 });
  const trainer = makeTrainer(loadConfig(c.kind, { preset: c.preset, overrides: { ...c.overrides, batch } }), rows);
  const losses = Object.values(trainer.outputs);
  initialise(executor, trainer);
  executor.write(trainer.data, packed);
  const plan = await executor.plan({ outputs: losses, updates: trainer.updates });
  try {
    plan.run();
    for (const [name, node] of Object.entries(trainer.outputs)) {
      const [loss] = await plan.read(node);
      if (!Number.isFinite(loss)) throw new DeviceError(`bench: ${c.name}: ${name} is ${loss} after one step`);
    }
    return { ...(await time(executor, plan, c.name, options)), error: null };
  } finally {
    plan.destroy();
    executor.forget([...trainer.state.map(({ node }) => node), trainer.step, trainer.data]);
  }
}

/** One sample takes about this long: the clock, the submit and the wait must not show in it. */
const sampleMs = 40;

/** Times replays of a plan that has run before. */
async function time(
  executor: GpuExecutor,
  plan: Plan,
  name: string,
  { quick }: BenchOptions,
): Promise<Omit<Measured, 'error'>> {
  const replays = async (count: number, sleep: number): Promise<void> => {
    for (let i = 0; i < count; i++) plan.run();
    if (sleep > 4) await new Promise((resolve) => setTimeout(resolve, sleep));
    await executor.idle();
  };
  let count = 1;
  let each = Number.POSITIVE_INFINITY;
  for (let long = 0; long < 3; ) {
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
  const samples = await sample(name, () => replays(count, 0.5 * count * each), quick ? 0.3 : 1.5);
  const ms = samples.map((seconds) => (seconds * 1000) / count).sort((p, q) => p - q);
  const quantile = (share: number): number => ms[Math.round(share * (ms.length - 1))];
  const medianMs = quantile(0.5);
  const { flops, bytes, dispatches }: PlanStats = plan.stats;
  return {
    name,
    medianMs,
    spreadMs: quantile(0.75) - quantile(0.25),
    gflops: flops / medianMs / 1e6,
    gbps: bytes / medianMs / 1e6,
    dispatches,
    flops,
    bytes,
  };
}

/** Seconds of each call of `run`, for about `seconds` and at least 5 calls. @throws whatever `run` throws */
async function sample(name: string, run: () => Promise<void>, seconds: number): Promise<readonly number[]> {
  let Benchmark: typeof import('benchmark');
  try {
    // Imported here: a bundle without it must still do everything else.
    Benchmark = (await import('benchmark')).default;
  } catch (cause) {
    throw new ConfigError('bench: the package "benchmark" is missing here; run npm i benchmark', { cause });
  }
  let failure: unknown;
  const benchmark = new Benchmark(name, {
    // Without `defer` an asynchronous function is not awaited; with it a throw would hang, so none gets out.
    defer: true,
    async: true,
    minSamples: 5,
    maxTime: seconds,
    initCount: 1,
    minTime: 0.001,
    fn: (deferred: { resolve: () => void }) => {
      run().then(
        () => deferred.resolve(),
        (error) => {
          failure = error;
          benchmark.abort();
          deferred.resolve();
        },
      );
    },
  });
  await new Promise<void>((resolve) => {
    benchmark.on('complete abort error', () => resolve());
    benchmark.run({ async: true });
  });
  if (failure) throw failure;
  if (benchmark.error) throw benchmark.error;
  if (benchmark.stats.sample.length === 0) throw new DeviceError(`bench: ${name}: nothing was measured`);
  return benchmark.stats.sample;
}
