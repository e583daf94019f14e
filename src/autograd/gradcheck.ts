/**
 * Checks ops against what they claim: the reference against finite differences, the GPU against the reference, for
 * values (order 0), gradients (order 1) and gradients of gradients (order 2), with random cotangents.
 */
import { ShapeError } from '../errors.ts';
import { add, fill, mul, sum } from './build.ts';
import { expandOps } from './compile.ts';
import type { Executor } from './executor.ts';
import { grad } from './grad.ts';
import { type Graph, type Node, type OpTable, type Sample, sizeOf, topological, type Value } from './graph.ts';
import { newGraph } from './ops/index.ts';
import { Stream } from './philox.ts';
import type { Plan } from './plan.ts';
import { evaluate } from './reference.ts';

/** Unit round-off of f32. */
const unit = 2 ** -24;

/** One line of the table: how far an executor is from what it is held against. */
export interface CheckRow {
  op: string;
  /** 0 values, 1 gradients, 2 gradients of gradients. */
  order: 0 | 1 | 2;
  /** `reference`: against central differences (nothing to hold order 0 against); `gpu`: against the reference. */
  executor: 'reference' | 'gpu';
  /** Greatest error over all samples, as a share of its own tolerance … */
  worst: number;
  /** … and the error and the tolerance themselves, of that sample: ‖difference‖/‖expected‖. */
  error: number;
  tolerance: number;
  /** Greatest error of an element in units in the last place of the greatest element, `gpu` only. */
  ulp: number;
  pass: boolean;
  samples: number;
  /** Where it is worst: sample, tensor, element, and both values. */
  detail: string;
}

/** A sample made concrete: an op on variables, with values for them. */
export interface Case {
  graph: Graph;
  inputs: Node[];
  output: Node;
  values: Map<Node, Value>;
}

/** Numbers for one input; f32 values, so that both executors see the same. */
function draw(input: Sample['inputs'][number], random: Stream): Float64Array {
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

/** A sample of an op as a graph. */
export function makeCase(name: string, sample: Sample, seed: number, own: OpTable = {}): Case {
  const graph = newGraph(own);
  const random = new Stream(seed);
  const values = new Map<Node, Value>();
  const inputs = sample.inputs.map((input, i) => {
    const node = graph.variable(`input${i}`, input.shape, 'dtype' in input ? input.dtype : 'f32');
    values.set(node, { shape: input.shape, data: draw(input, random) });
    return node;
  });
  return { graph, inputs, output: graph.apply(name, inputs, sample.attrs ?? {}), values };
}

/** A variable of random normal numbers, rounded to f32. */
function direction(graph: Graph, name: string, like: Node, values: Map<Node, Value>, random: Stream): Node {
  const node = graph.variable(name, like.shape);
  const data = new Float64Array(sizeOf(like.shape)).map(() => Math.fround(random.normal()));
  values.set(node, { shape: like.shape, data });
  return node;
}

/** <a, b>, a scalar. */
const dot = (a: Node, b: Node): Node => sum(mul(a, b));

/**
 * The error that f32 arithmetic may leave in `nodes`, relative in norm: the roundings of every op below (each row
 * states its own) times the unit round-off, or, where the expression cancels and enlarges them, what the reference
 * itself shows when every intermediate result is disturbed by its op's roundings at random (worst of three runs, times
 * four: three runs do not meet the worst).
 */
export function tolerances(nodes: readonly Node[], lookUp: (node: Node) => Value): number[] {
  const written = expandOps(nodes);
  // The spread is of what the device runs: held against the op's own reference, a wrong expansion would excuse itself.
  const exact = evaluate(written, lookUp);
  const random = new Stream(11);
  const own = (node: Node): number => node.graph.ops[node.op]?.roundings(node) ?? 0;
  const spread = written.map(() => 0);
  for (let run = 0; run < 3; run++) {
    const disturbed = evaluate(written, lookUp, (node, data) => {
      const size = own(node) * unit;
      if (size === 0) return;
      for (let i = 0; i < data.length; i++) data[i] *= 1 + size * (2 * random.uniform() - 1);
    });
    disturbed.forEach((value, i) => {
      spread[i] = Math.max(spread[i], compare(exact[i], value.data).error);
    });
  }
  return written.map((node, i) => {
    const total = topological([node]).reduce((sum, below) => sum + own(below), 0);
    return Math.max(total * unit, 4 * spread[i]);
  });
}

/** ‖difference‖/‖expected‖ over the values, and where the greatest difference is. */
export function compare(expected: Value, actual: ArrayLike<number>): { error: number; ulp: number; at: number } {
  let difference = 0;
  let norm = 0;
  let greatest = 0;
  let at = 0;
  let peak = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const e = expected.data[i];
    const d = Math.abs(e - actual[i]);
    // NaN where NaN is expected is right; anywhere else it is infinitely wrong.
    const gap = Number.isNaN(d) ? (Number.isNaN(e) && Number.isNaN(actual[i]) ? 0 : e === actual[i] ? 0 : Infinity) : d;
    difference += gap * gap;
    if (Number.isFinite(e)) {
      norm += e * e;
      peak = Math.max(peak, Math.abs(e));
    }
    if (gap > greatest) {
      greatest = gap;
      at = i;
    }
  }
  if (difference === 0) return { error: 0, ulp: 0, at: 0 };
  const ulp = greatest / 2 ** (Math.floor(Math.log2(peak || 1)) - 23);
  return { error: Math.sqrt(difference / (norm || 1)), ulp, at };
}

const place = (at: number, shape: readonly number[]): string => {
  const index: number[] = [];
  let rest = at;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return `[${index.join(',')}]`;
};

class Worst {
  row: CheckRow;
  constructor(op: string, order: 0 | 1 | 2, executor: CheckRow['executor']) {
    this.row = { op, order, executor, worst: 0, error: 0, tolerance: 0, ulp: 0, pass: true, samples: 0, detail: '' };
  }
  add(expected: Value, actual: ArrayLike<number>, tolerance: number, what: string): void {
    const { error, ulp, at } = compare(expected, actual);
    const { row } = this;
    row.samples++;
    row.ulp = Math.max(row.ulp, ulp);
    const share = error === 0 ? 0 : error / tolerance;
    if (share > row.worst || row.tolerance === 0) {
      row.worst = share;
      row.error = error;
      row.tolerance = tolerance;
      const [e, a] = [expected.data[at], actual[at]];
      row.detail =
        error === 0
          ? what
          : `${what}, element ${place(at, expected.shape)}: ${a} where ${e} is expected (${a > e ? 'too large' : 'too small'} by ${Math.abs(a - e)})`;
    }
    if (!(error <= tolerance)) row.pass = false;
  }
}

export interface CheckOptions {
  /** A GPU executor to hold against the reference; without it only the reference is checked. */
  gpu?: Executor;
  seed?: number;
  /** Ops of the user's own, by name, beside the engine's. */
  own?: OpTable;
  /** Highest order to check; 2 unless said. */
  order?: 0 | 1 | 2;
}

/** Relative tolerance of central differences in f64 with this step: truncation h², round-off ε/h. */
const step = 1e-5;
const differenceTolerance = 1e-6;

/**
 * Checks one op at all its samples, to second order.
 * @throws ShapeError where there is no such op.
 */
export async function checkOp(name: string, options: CheckOptions = {}): Promise<CheckRow[]> {
  const { gpu, own = {}, seed = 1, order: highest = 2 } = options;
  const op = newGraph(own).ops[name];
  if (!op) throw new ShapeError(`gradcheck: there is no op ${name}`);
  const worst = new Map<string, Worst>();
  const note = (order: 0 | 1 | 2, executor: CheckRow['executor']): Worst => {
    const key = `${order} ${executor}`;
    let w = worst.get(key);
    if (!w) worst.set(key, (w = new Worst(name, order, executor)));
    return w;
  };

  for (const [s, sample] of op.samples.entries()) {
    const random = new Stream(seed, s + 1);
    const { graph, inputs, output, values } = makeCase(name, sample, seed + s, own);
    const label = `sample ${s} (${inputs.map((input) => `[${input.shape}]`).join(', ')})`;
    const lookUp = (node: Node): Value => values.get(node)!;
    const onGpu = async (nodes: readonly Node[], order: 0 | 1 | 2): Promise<void> => {
      if (!gpu) return;
      const expected = evaluate(nodes, lookUp);
      const allowed = tolerances(nodes, lookUp);
      const actual = await runOnce(gpu, nodes, values);
      nodes.forEach((_, i) => {
        note(order, 'gpu').add(expected[i], actual[i], allowed[i], `${label}, ${i ? `output ${i}` : 'output'}`);
      });
    };

    await onGpu([output], 0);
    if (highest < 1 || typeof op.vjp !== 'function') continue;
    const floats = inputs.filter((input, i) => input.dtype === 'f32' && hasGradient(op.vjp, output, graph, i));
    if (floats.length === 0) continue;
    const cotangent = direction(graph, 'cotangent', output, values, random);
    const first = grad(output, floats, cotangent);
    differences(dot(output, cotangent), floats, first, values, note(1, 'reference'), label);
    await onGpu(first, 1);

    if (highest < 2) continue;
    // The gradient of <∂, h> in the inputs and the cotangent itself.
    const along = floats.map((input, i) => direction(graph, `direction${i}`, input, values, random));
    const scalar = first.map((g, i) => dot(g, along[i])).reduce(add);
    const targets = [...floats, cotangent];
    const second = grad(scalar, targets);
    differences(scalar, targets, second, values, note(2, 'reference'), label);
    await onGpu(second, 2);
  }
  return [...worst.values()].map(({ row }) => row);
}

function hasGradient(vjp: OpTable[string]['vjp'], output: Node, graph: Graph, input: number): boolean {
  return typeof vjp === 'function' && vjp(output, fill(graph, 1, output.shape))[input] !== null;
}

/** Runs nodes once on an executor whose variables take `values`. */
export async function runOnce(
  executor: Executor,
  nodes: readonly Node[],
  values: ReadonlyMap<Node, Value>,
): Promise<ArrayLike<number>[]> {
  // Names of variables are the executor's: a prefix of the run's own keeps cases with other shapes apart.
  const prefix = `check${runs++} `;
  const graph = newGraph(nodes[0].graph.ops);
  const renamed = new Map<Node, Node>();
  const move = new Map<Node, Node>();
  for (const node of topological(nodes)) {
    if (node.op === 'variable') {
      const twin = graph.variable(prefix + node.attrs.name, node.shape, node.dtype);
      renamed.set(node, twin);
      move.set(node, twin);
    } else if (node.op === 'constant') move.set(node, graph.constant(node.attrs.value));
    else
      move.set(
        node,
        graph.apply(
          node.op,
          node.inputs.map((input) => move.get(input)!),
          node.attrs,
        ),
      );
  }
  const outputs = nodes.map((node) => move.get(node)!);
  let plan: Plan | undefined;
  try {
    plan = await executor.plan({ outputs });
    for (const [node, twin] of renamed) {
      const { data } = values.get(node)!;
      executor.write(twin, node.dtype === 'u32' ? Uint32Array.from(data) : Float32Array.from(data));
    }
    plan.run();
    const results: ArrayLike<number>[] = [];
    for (const output of outputs) results.push(await plan.read(output));
    return results;
  } finally {
    plan?.destroy();
    executor.forget([...renamed.values()]);
  }
}
let runs = 0;

/**
 * Holds `gradients` of the scalar against central differences: every element of small inputs, and a random direction
 * through all of them for large ones.
 */
function differences(
  scalar: Node,
  inputs: readonly Node[],
  gradients: readonly Node[],
  values: Map<Node, Value>,
  worst: Worst,
  label: string,
): void {
  const lookUp = (node: Node): Value => values.get(node)!;
  const analytic = evaluate(gradients, lookUp);
  const at = (): number => evaluate([scalar], lookUp)[0].data[0];
  inputs.forEach((input, k) => {
    const value = values.get(input)!;
    const numeric: Value = { shape: input.shape, data: new Float64Array(value.data.length) };
    const few = value.data.length <= 12;
    const random = new Stream(97, k);
    const elements = few ? [...value.data.keys()] : Array.from({ length: 6 }, () => random.below(value.data.length));
    const original = value.data.slice();
    for (const i of elements) {
      value.data[i] = original[i] + step;
      const up = at();
      value.data[i] = original[i] - step;
      const down = at();
      value.data[i] = original[i];
      numeric.data[i] = (up - down) / (2 * step);
    }
    // Elements are measured against the whole gradient, so that a tiny one does not ask for more than f64 can give.
    const scaleBy = Math.max(...analytic[k].data.map(Math.abs), 1e-3);
    const some = (data: Float64Array): Float64Array => Float64Array.from(elements, (i) => data[i] / scaleBy);
    const shape = [elements.length];
    const picked: Value = { shape, data: some(analytic[k].data) };
    const error = Math.max(...elements.map((i) => Math.abs(analytic[k].data[i] - numeric.data[i]) / scaleBy));
    worst.add(
      { shape, data: Float64Array.of(1) },
      [1 + error],
      differenceTolerance,
      `${label}, gradient of input ${k} near element ${place(elements[0], input.shape)} (${picked.data[0]})`,
    );
    if (few) return;
    const along = original.map(() => random.normal());
    const move = (h: number): number => {
      original.forEach((v, i) => {
        value.data[i] = v + h * along[i];
      });
      const result = at();
      value.data.set(original);
      return result;
    };
    const slope = (move(step) - move(-step)) / (2 * step);
    let expected = 0;
    let size = 0;
    analytic[k].data.forEach((g, i) => {
      expected += g * along[i];
      size += (g * along[i]) ** 2;
    });
    const scale = Math.max(Math.sqrt(size), 1e-3);
    worst.add(
      { shape: [1], data: Float64Array.of(1) },
      [1 + (slope - expected) / scale],
      differenceTolerance,
      `${label}, gradient of input ${k} along a random direction`,
    );
  });
}
