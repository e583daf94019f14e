/**
 * Checks ops and functions of nodes against what they claim: the reference against finite differences, the GPU against
 * the reference, for values (order 0), gradients (order 1) and gradients of gradients (order 2), with random cotangents.
 */
import { GradientError, ShapeError } from '../errors.ts';
import { add, fill, mul, sum } from './build.ts';
import { type CheckRow, runTwice, Tally, tolerances } from './compare.ts';
import { differences, differenceTolerance } from './differences.ts';
import type { Executor } from './executor.ts';
import { grad } from './grad.ts';
import {
  type Graph,
  indexOf,
  type Node,
  type Op,
  type OpTable,
  type Sample,
  type SampleInput,
  showShape,
  sizeOf,
  type Value,
} from './graph.ts';
import { newGraph } from './ops/index.ts';
import { Stream } from './philox.ts';
import { evaluate } from './reference.ts';
import { variants } from './variants.ts';

export { type CheckRow, compare, runOnce, tolerances } from './compare.ts';

type Order = CheckRow['order'];

/** A sample made concrete: an op on variables, with values for them. */
export interface Case {
  graph: Graph;
  inputs: Node[];
  output: Node;
  values: Map<Node, Value>;
}

/** Numbers for one input; f32 values, so that both executors see the same. */
function draw(input: SampleInput, random: Stream): Float64Array {
  if ('values' in input) return Float64Array.from(input.values);
  const data = new Float64Array(sizeOf(input.shape));
  for (let i = 0; i < data.length; i++) {
    const n = random.normal();
    switch (input.draw) {
      case 'normal':
        data[i] = n;
        break;
      case 'away':
        data[i] = n + 0.1 * Math.sign(n);
        break;
      case 'positive':
        data[i] = 0.5 + 1.5 * random.uniform();
        break;
      case 'unit':
        data[i] = random.uniform();
        break;
      case 'distinct':
        // Gaps far above the difference step, in random order.
        data[i] = i + 0.4 * random.uniform();
        break;
    }
    data[i] = Math.fround(data[i]);
  }
  if (input.draw === 'distinct') {
    for (let i = data.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [data[i], data[j]] = [data[j], data[i]];
    }
    for (let i = 0; i < data.length; i++) data[i] = Math.fround(data[i] / Math.max(4, data.length / 8) - 2);
  }
  return data;
}

/** A function of nodes on variables with drawn values. */
function trace(
  f: (graph: Graph, inputs: Node[]) => Node,
  inputs: readonly SampleInput[],
  seed: number,
  own: OpTable,
): Case {
  const graph = newGraph(own);
  const random = new Stream(seed);
  const values = new Map<Node, Value>();
  const nodes = inputs.map((input, i) => {
    const node = graph.variable(`input${i}`, input.shape, 'dtype' in input ? input.dtype : 'f32');
    const data = draw(input, random);
    if (data.length !== sizeOf(input.shape)) {
      throw new ShapeError(`gradcheck: input ${i} has ${data.length} values for ${showShape(input.shape)}`);
    }
    values.set(node, { shape: input.shape, data });
    return node;
  });
  return { graph, inputs: nodes, output: f(graph, nodes), values };
}

/** A sample of an op as a graph. */
export const makeCase = (name: string, sample: Sample, seed: number, own: OpTable = {}): Case =>
  trace((graph, inputs) => graph.apply(name, inputs, sample.attrs ?? {}), sample.inputs, seed, own);

/** A variable of random normal numbers, rounded to f32. */
function direction(graph: Graph, name: string, like: Node, values: Map<Node, Value>, random: Stream): Node {
  const node = graph.variable(name, like.shape);
  const data = new Float64Array(sizeOf(like.shape)).map(() => Math.fround(random.normal()));
  values.set(node, { shape: like.shape, data });
  return node;
}

/** <a, b>, a scalar. */
const dot = (a: Node, b: Node): Node => sum(mul(a, b));

export interface CheckOptions {
  /** A GPU executor to hold against the reference; without it only the reference is checked. */
  gpu?: Executor;
  /** Of values, cotangents and directions; 1 unless said. */
  seed?: number;
  /** Ops of the user's own, by name, beside the engine's. */
  own?: OpTable;
  /** Highest order to check; 2 unless said. */
  order?: Order;
  /** Odd shapes made from the samples; on unless said. */
  variants?: boolean;
}

/** Rows of the report, one an order and executor, made when first needed. */
class Rows {
  private readonly tallies = new Map<string, Tally>();
  private readonly op: string;
  constructor(op: string) {
    this.op = op;
  }
  get(order: Order, executor: CheckRow['executor']): Tally {
    const key = `${order} ${executor}`;
    let tally = this.tallies.get(key);
    if (!tally) this.tallies.set(key, (tally = new Tally(this.op, order, executor)));
    return tally;
  }
  /** By order, the reference first. */
  list(): CheckRow[] {
    const rows = [...this.tallies.values()].map(({ row }) => row);
    return rows.sort((a, b) => a.order - b.order || b.executor.localeCompare(a.executor));
  }
}

interface CaseOptions {
  /** Names the case in messages. */
  label: string;
  gpu?: Executor;
  random: Stream;
  /** Inputs that have a gradient. */
  targets: readonly Node[];
  /** Orders that are held against differences, and on the GPU. */
  differences: readonly Order[];
  onGpu: readonly Order[];
  /** Differences of each element up to so many, and directions beyond; see `differences`. */
  full?: number;
  directions?: number;
}

/** Checks one case; everything that runs on the GPU is one plan, run twice. */
async function checkCase({ graph, inputs, output, values }: Case, rows: Rows, o: CaseOptions): Promise<void> {
  const highest = o.targets.length === 0 ? 0 : Math.max(0, ...o.differences, ...o.onGpu);
  const { random, targets, label } = o;
  const found: { order: Order; nodes: Node[]; names: string[]; scalar?: Node; inputs: readonly Node[] }[] = [];
  const nameOf = (input: Node): string =>
    inputs.includes(input) ? `gradient of input ${inputs.indexOf(input)}` : 'gradient of the cotangent';
  found.push({ order: 0, nodes: [output], names: ['output'], inputs: [] });
  if (highest > 0) {
    const cotangent = direction(graph, 'cotangent', output, values, random);
    const first = grad(output, targets, cotangent);
    found.push({ order: 1, nodes: first, names: targets.map(nameOf), scalar: dot(output, cotangent), inputs: targets });
    if (highest > 1) {
      // The gradient of <∂, h> in the inputs and the cotangent itself.
      const along = targets.map((input, i) => direction(graph, `direction${i}`, input, values, random));
      const scalar = first.map((g, i) => dot(g, along[i])).reduce(add);
      const all = [...targets, cotangent];
      found.push({
        order: 2,
        nodes: grad(scalar, all),
        names: all.map((t) => `second ${nameOf(t)}`),
        scalar,
        inputs: all,
      });
    }
  }

  const wanted = found.filter(({ order }) => o.differences.includes(order) || (o.gpu && o.onGpu.includes(order)));
  const nodes = wanted.flatMap((part) => part.nodes);
  const lookUp = (node: Node): Value => values.get(node)!;
  const expected = evaluate(nodes, lookUp);
  const onDevice = o.gpu && wanted.filter(({ order }) => o.onGpu.includes(order)).flatMap((part) => part.nodes);
  const runs = onDevice && (await runTwice(o.gpu!, onDevice, values));
  const allowed = onDevice && tolerances(onDevice, lookUp);
  let at = 0;
  let ran = 0;
  for (const part of wanted) {
    const reference = part.scalar && o.differences.includes(part.order) && rows.get(part.order, 'reference');
    const device = onDevice && o.onGpu.includes(part.order) && rows.get(part.order, 'gpu');
    if (reference) reference.row.samples++;
    if (device) device.row.samples++;
    part.nodes.forEach((node, i) => {
      const value = expected[at++];
      const tensor = part.names[i];
      if (device) {
        const name = (at: number) => ({ tensor, element: indexOf(at, node.shape) });
        device.addValues(label, value, runs![ran], allowed![ran], name);
        ran++;
      }
      if (!reference) return;
      const slope = differences(part.scalar!, part.inputs[i], value.data, values, { ...o, seed: 97 + i });
      const { element, rule, differences: expectedSlope, error } = slope;
      reference.add({
        error,
        tolerance: differenceTolerance,
        tensor,
        what: `${label}, ${tensor}${element === undefined ? ' along a random direction' : ''}`,
        at: element === undefined ? undefined : place(element, node, rule, expectedSlope),
        words: `the rule gives ${rule}, differences give ${expectedSlope}`,
      });
    });
  }
}

const place = (element: number, { shape }: Node, actual: number, expected: number) => ({
  element: indexOf(element, shape),
  actual,
  expected,
});

/** Shapes of a case, for messages. */
const shapesOf = ({ inputs }: Case): string => inputs.map((input) => showShape(input.shape)).join(', ');

/**
 * Checks one op of the table at all its samples, to second order, and, where they pass, at odd shapes made from them, to
 * first.
 * @throws ShapeError where there is no such op, or a gradient rule gives another shape than its input's
 */
export async function checkOp(name: string, options: CheckOptions = {}): Promise<CheckRow[]> {
  const { gpu, own = {}, seed = 1, order: highest = 2 } = options;
  const op: Op | undefined = newGraph(own).ops[name];
  if (!op) throw new ShapeError(`gradcheck: there is no op ${name}`);
  const rows = new Rows(name);
  const orders = ([0, 1, 2] as const).filter((order) => order <= highest);

  const check = async (sample: Sample, label: string, s: number, rest: Partial<CaseOptions>): Promise<void> => {
    try {
      const one = makeCase(name, sample, seed + s, own);
      const targets = one.inputs.filter((input, i) => input.dtype === 'f32' && hasGradient(op.vjp, one, i));
      const whole = `${label} (${shapesOf(one)})`;
      const random = new Stream(seed, s + 1);
      await checkCase(one, rows, { label: whole, gpu, random, targets, differences: orders, onGpu: orders, ...rest });
    } catch (error) {
      if (error instanceof ShapeError) error.message = `${name}, ${label}: ${error.message}`;
      throw error;
    }
  };
  for (const [s, sample] of op.samples.entries()) await check(sample, `sample ${s}`, s, {});
  // A fault is best shown where it is smallest: odd shapes are for what passes at the samples.
  if (options.variants === false || rows.list().some(({ pass }) => !pass)) return rows.list();
  const low = orders.filter((order) => order <= 1);
  for (const [v, { of, from, to, sample }] of variants(name, op, () => newGraph(own)).entries()) {
    const label = `variant of sample ${of} with ${to} for ${from}`;
    const rest = { differences: low, onGpu: low, full: 0, directions: 1 };
    await check(sample, label, op.samples.length + v, rest);
  }
  return rows.list();
}

function hasGradient(vjp: Op['vjp'], { graph, output }: Case, input: number): boolean {
  return typeof vjp === 'function' && vjp(output, fill(graph, 1, output.shape))[input] !== null;
}

export interface GradcheckOptions extends Omit<CheckOptions, 'order' | 'variants'> {
  /** What messages call the function; its own name unless said. */
  name?: string;
  /** Throw a GradientError where a check fails; on unless said, as in PyTorch. */
  raise?: boolean;
  /** Elements of an input up to which each is held against differences, 64 unless said; random directions beyond. */
  full?: number;
}

export interface CheckReport {
  pass: boolean;
  rows: CheckRow[];
  /** One line a failed row. */
  failures: string[];
}

/** A failed row in one line: op, order, sample, tensor, element, both values. */
export const failureOf = ({ op, order, detail }: CheckRow): string => `${op}, order ${order}: ${detail}`;

async function checkFunction(
  f: (...inputs: Node[]) => Node,
  inputs: readonly SampleInput[],
  options: GradcheckOptions,
  differences: readonly Order[],
  onGpu: readonly Order[],
): Promise<CheckReport> {
  const { gpu, own = {}, seed = 1, name = f.name || 'function', raise = true, full } = options;
  const one = trace((_, nodes) => f(...nodes), inputs, seed, own);
  if (one.output.dtype !== 'f32') throw new ShapeError(`gradcheck: ${name} gives ${one.output.dtype}, not f32`);
  const targets = one.inputs.filter(({ dtype }) => dtype === 'f32');
  if (targets.length === 0) throw new ShapeError(`gradcheck: ${name} has no f32 input to differentiate in`);
  const rows = new Rows(name);
  const random = new Stream(seed, 1);
  await checkCase(one, rows, { label: shapesOf(one), gpu, random, targets, differences, onGpu, full });
  const list = rows.list();
  const failures = list.filter((row) => !row.pass).map(failureOf);
  if (raise && failures.length) throw new GradientError(failures.join('; '));
  return { pass: failures.length === 0, rows: list, failures };
}

/**
 * Checks the gradient of a function of nodes: the rules against central differences in f64 with a random cotangent, and
 * with a GPU its values and gradient there against the reference. Inputs are drawn (`{ shape, draw }`) or given
 * (`{ shape, values }`); every f32 input is differentiated in.
 * @throws GradientError naming input, element and both values where a check fails, unless `raise` is false
 * @throws ShapeError where the function has no gradient
 */
export const gradcheck = (
  f: (...inputs: Node[]) => Node,
  inputs: readonly SampleInput[],
  options: GradcheckOptions = {},
): Promise<CheckReport> => checkFunction(f, inputs, options, [1], [0, 1]);

/**
 * Checks gradients of gradients likewise: the gradient's product with random directions, differentiated again in the
 * inputs and in the cotangent.
 * @throws GradientError, ShapeError as `gradcheck` does
 */
export const gradgradcheck = (
  f: (...inputs: Node[]) => Node,
  inputs: readonly SampleInput[],
  options: GradcheckOptions = {},
): Promise<CheckReport> => checkFunction(f, inputs, options, [2], [2]);
