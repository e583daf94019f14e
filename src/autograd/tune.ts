/** The tuner: every variant of every kernel of a step is held against the first before it is timed; the fastest is kept. */
import { DeviceError } from '../errors.ts';
import type { Lowered } from '../kernels/kernel.ts';
import { type Target, targetOf } from '../kernels/lower.ts';
import { choiceKey } from '../kernels/tuning.ts';
import { expandOps } from './compile.ts';
import type { GpuExecutor } from './executor.ts';
import { fuse } from './fuse.ts';
import { Graph, type Node, sizeOf, topological } from './graph.ts';
import { Stream } from './philox.ts';
import type { Data, Plan, Step } from './plan.ts';

/** One variant at one size. */
export interface TuneRow {
  op: string;
  sizes: string;
  /** Shapes of the inputs, for people. */
  shapes: string;
  variant: string;
  /** Of one dispatch sequence among many that follow one another, µs; null where it failed. */
  microseconds: number | null;
  gflops: number;
  /** ‖variant − trusted‖/‖trusted‖. */
  error: number;
  chosen: boolean;
  /** Why it is out of the question. */
  why?: string;
}

export interface TuneOptions {
  /** Milliseconds that one sample takes, about. */
  sampleMs?: number;
  samples?: number;
  onProgress?: (done: number, total: number, name: string) => void;
  /** After each kernel: a run cut short keeps what it has. */
  onChoice?: (key: string, variant: string) => void;
  /** Only the kernels of this op. */
  op?: string;
  /** Keys to leave alone, e.g. those measured already. */
  known?: ReadonlySet<string>;
}

/** Time that another variant must save to be taken instead of the first. */
const worthIt = 0.97;

/** Kernels of a step that come in variants, one node for each op and sizes. */
export function tunable(
  step: Step,
  target: Target,
): { node: Node; op: string; sizes: string; names: readonly string[] }[] {
  const roots = [...(step.outputs ?? []), ...(step.updates ?? []).map(([, value]) => value)];
  const found = new Map<string, { node: Node; op: string; sizes: string; names: readonly string[] }>();
  for (const node of topological(fuse(expandOps(roots)))) {
    const lowering = node.graph.ops[node.op]?.lowering;
    if (!lowering || !('kernels' in lowering)) continue;
    lowering.kernels(node, {
      ...target,
      choose: (op, sizes, names) => {
        const key = choiceKey(op, sizes);
        if (!found.has(key)) found.set(key, { node, op, sizes, names });
        return undefined;
      },
    });
  }
  return [...found.values()];
}

/**
 * Times every variant of every kernel of a step at the step's sizes.
 * @returns the choices, and a row for each variant tried
 * @throws DeviceError where the device is lost, or where the first variant itself gives no numbers
 */
export async function tune(
  executor: GpuExecutor,
  step: Step,
  { sampleMs = 2, samples = 7, onProgress, onChoice, op: only, known }: TuneOptions = {},
): Promise<{ choices: Map<string, string>; rows: TuneRow[] }> {
  const target: Target = targetOf(executor.device.info);
  const choices = new Map<string, string>();
  const rows: TuneRow[] = [];
  const wanted = tunable(step, target).filter(
    ({ op, sizes }) => !known?.has(choiceKey(op, sizes)) && (only === undefined || op === only),
  );
  // All at once, on as many cores as there are: a plan at a time would wait for its own few.
  await executor.warm(
    wanted.flatMap(({ node, names }) => {
      const lowering = node.graph.ops[node.op].lowering as { kernels: (node: Node, target: Target) => Lowered };
      return names.flatMap((name) => lowering.kernels(node, { ...target, choose: () => name }).calls);
    }),
  );
  for (const [i, { node, op, sizes, names }] of wanted.entries()) {
    onProgress?.(i, wanted.length, `${op} ${sizes}`);
    const graph = new Graph(node.graph.ops);
    const inputs = node.inputs.map(({ shape, dtype }, k) => graph.variable(`tune ${k}`, shape, dtype));
    for (const [k, input] of inputs.entries()) executor.write(input, noise(sizeOf(input.shape), k));
    const output = graph.apply(node.op, inputs, node.attrs);
    const tolerance = 2 * Math.max(8, graph.ops[node.op].roundings(output)) * 2 ** -24;
    const plans = await Promise.all(
      names.map(async (name): Promise<Plan | Error> => {
        try {
          return await executor.plan({ outputs: [output] }, { target: { ...target, choose: () => name } });
        } catch (error) {
          return error as Error;
        }
      }),
    );
    let trusted: Data | undefined;
    const own: TuneRow[] = [];
    for (const [k, variant] of names.entries()) {
      const row: TuneRow = {
        op,
        sizes,
        shapes: node.inputs.map(({ shape }) => `[${shape}]`).join(' '),
        variant,
        microseconds: null,
        gflops: 0,
        error: 0,
        chosen: false,
      };
      own.push(row);
      const plan = plans[k];
      if (plan instanceof Error) {
        row.why = plan.message;
        continue;
      }
      plan.run();
      const values = await look(plan, output);
      trusted ??= values;
      row.error = distance(values, trusted);
      if (!(row.error <= tolerance))
        row.why = `off by ${row.error.toExponential(1)}, ${tolerance.toExponential(1)} is allowed`;
      else {
        row.microseconds = 1000 * (await timeOf(executor, plan, sampleMs, samples));
        row.gflops = plan.stats.flops / row.microseconds / 1000;
      }
    }
    for (const plan of plans) if (!(plan instanceof Error)) plan.destroy();
    executor.forget(inputs);
    const timed = own.filter(({ microseconds }) => microseconds !== null);
    if (timed.length === 0) throw new DeviceError(`tune: ${op} ${sizes}: no variant works: ${own[0].why}`);
    const best = timed.reduce((a, b) => (b.microseconds! < a.microseconds! ? b : a));
    const first = own[0];
    const keep = first.microseconds !== null && best.microseconds! > worthIt * first.microseconds ? first : best;
    keep.chosen = true;
    choices.set(choiceKey(op, sizes), keep.variant);
    onChoice?.(choiceKey(op, sizes), keep.variant);
    rows.push(...own);
  }
  onProgress?.(wanted.length, wanted.length, '');
  return { choices, rows };
}

/** Positive numbers about 1 (a variance may be asked for): a block of an odd length over and over, since millions of draws take seconds. */
function noise(size: number, stream: number): Float32Array {
  const random = new Stream(11, stream);
  const block = Float32Array.from({ length: Math.min(size, 65_537) }, () => 0.5 + Math.abs(random.normal()));
  const data = new Float32Array(size);
  for (let at = 0; at < size; at += block.length) data.set(block.subarray(0, Math.min(block.length, size - at)), at);
  return data;
}

/** Elements of an output that a comparison looks at: all of them, or three stretches of what is large. */
const stretch = 1 << 17;
async function look(plan: Plan, output: Node): Promise<Data> {
  const size = sizeOf(output.shape);
  if (size <= 3 * stretch) return plan.read(output);
  const all = new Float32Array(3 * stretch);
  const middle = Math.floor((size - stretch) / 2);
  for (const [i, from] of [0, middle, size - stretch].entries())
    all.set(await plan.read(output, from, stretch), i * stretch);
  return all;
}

function distance(a: Data, b: Data): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

/** Milliseconds of one replay, the median of samples of many. */
async function timeOf(executor: GpuExecutor, plan: Plan, sampleMs: number, samples: number): Promise<number> {
  const take = async (count: number): Promise<number> => {
    const start = performance.now();
    plan.run(count);
    await executor.idle();
    return performance.now() - start;
  };
  await take(1);
  let count = 1;
  while (count < 1024 && (await take(count)) < sampleMs) count *= 2;
  const times: number[] = [];
  for (let i = 0; i < samples; i++) times.push((await take(count)) / count);
  return times.sort((a, b) => a - b)[Math.floor(samples / 2)];
}
