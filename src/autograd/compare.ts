/** How far results are from what they should be: errors, tolerances derived from roundings, and rows of a report. */
import { expandOps } from './compile.ts';
import type { Executor } from './executor.ts';
import { type Node, showShape, topological, type Value } from './graph.ts';
import { newGraph } from './ops/index.ts';
import { Stream } from './philox.ts';
import type { Data, Plan } from './plan.ts';
import { evaluate } from './reference.ts';

/** Unit round-off of f32. */
const unit = 2 ** -24;

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

/** `too large by 0.5`; nothing where a value is no number. */
export function deviation(actual: number, expected: number): string {
  const gap = Math.abs(actual - expected);
  return Number.isFinite(gap) ? ` (${actual > expected ? 'too large' : 'too small'} by ${gap})` : '';
}

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
  /** Whether a second run, in other memory, gave the same bits; `gpu` only. */
  deterministic?: boolean;
  /** Samples, and variants of them at odd shapes, that were checked. */
  samples: number;
  /** Where it is worst: sample, tensor, element, and both values. */
  detail: string;
  /** The same for a program, where a check fails. */
  at?: { tensor: string; element: readonly number[]; actual: number; expected: number };
}

/** An error found in one tensor; without `at` it is one of the whole tensor. */
export interface Finding {
  error: number;
  tolerance: number;
  ulp?: number;
  /** Sample and tensor, in words. */
  what: string;
  tensor: string;
  at?: { element: readonly number[]; actual: number; expected: number };
  /** The comparison in words, where "a where e is expected" does not do. */
  words?: string;
}

/** A place in words: a tensor, and an element of it. */
export interface Named {
  tensor: string;
  element: readonly number[];
}

/** Collects the findings of one row of the table; the worst is kept. */
export class Tally {
  readonly row: CheckRow;

  constructor(op: string, order: CheckRow['order'], executor: CheckRow['executor']) {
    this.row = { op, order, executor, worst: 0, error: 0, tolerance: 0, ulp: 0, pass: true, samples: 0, detail: '' };
    if (executor === 'gpu') this.row.deterministic = true;
  }

  add({ error, tolerance, ulp = 0, what, tensor, at, words }: Finding): void {
    const { row } = this;
    const share = error === 0 ? 0 : Number.isNaN(error) ? Infinity : error / tolerance;
    const failed = !(error <= tolerance);
    row.ulp = Math.max(row.ulp, ulp);
    if (share > row.worst || row.tolerance === 0) {
      Object.assign(row, { worst: share, error, tolerance });
      const place = at ? `, element ${showShape(at.element)}` : '';
      const values = at && error !== 0 ? `: ${words ?? `${at.actual} where ${at.expected} is expected`}` : '';
      row.detail = what + place + values + (values && at ? deviation(at.actual, at.expected) : '');
      row.at = failed && at ? { tensor, ...at } : undefined;
    }
    if (failed) row.pass = false;
  }

  /** Values on the GPU, twice, against those of the reference. `name` says what a flat element is. */
  addValues(
    what: string,
    expected: Value,
    runs: readonly [Data, Data],
    tolerance: number,
    name: (element: number) => Named,
  ): void {
    const { row } = this;
    const { error, ulp, at: i } = compare(expected, runs[0]);
    const { tensor, element } = name(i);
    const at = { element, actual: runs[0][i], expected: expected.data[i] };
    const unwritten = Number.isNaN(at.actual) && `NaN where ${at.expected} is expected: no kernel has written it`;
    this.add({ error, tolerance, ulp, what: `${what}, ${tensor}`, tensor, at, words: unwritten || undefined });
    const [one, other] = runs.map((data) => new Uint32Array(data.buffer, data.byteOffset, data.length));
    const differs = one.findIndex((bits, k) => bits !== other[k]);
    if (differs < 0) return;
    row.deterministic = false;
    if (row.pass) {
      const { tensor, element } = name(differs);
      const values = `${runs[0][differs]} in one run, ${runs[1][differs]} in another whose memory held other values before`;
      row.detail = `${what}, ${tensor}, element ${showShape(element)}: ${values}`;
      row.at = { tensor, element, actual: runs[1][differs], expected: runs[0][differs] };
    }
    row.pass = false;
  }
}

/** What new memory holds in the two runs of a check: NaN, and a number that does not pass for a result. */
const poisons = [0x7fc00000, 0xf149f2ca] as const;

/** Runs nodes twice, each time on a plan of its own in memory that holds something else before. */
export async function runTwice(
  executor: Executor,
  nodes: readonly Node[],
  values: ReadonlyMap<Node, Value>,
): Promise<[Data, Data][]> {
  const one = await runOnce(executor, nodes, values, poisons[0]);
  const other = await runOnce(executor, nodes, values, poisons[1]);
  return one.map((data, i) => [data, other[i]]);
}

/** Runs nodes once on an executor whose variables take `values`; `poison` are the bits that new memory holds. */
export async function runOnce(
  executor: Executor,
  nodes: readonly Node[],
  values: ReadonlyMap<Node, Value>,
  poison: number | boolean = true,
): Promise<Data[]> {
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
    plan = await executor.plan({ outputs }, { poison });
    for (const [node, twin] of renamed) {
      const { data } = values.get(node)!;
      executor.write(twin, node.dtype === 'u32' ? Uint32Array.from(data) : Float32Array.from(data));
    }
    plan.run();
    const results: Data[] = [];
    for (const output of outputs) results.push(await plan.read(output));
    return results;
  } finally {
    plan?.destroy();
    executor.forget([...renamed.values()]);
  }
}
let runs = 0;
