/** Gradients against central differences in f64, and the search for the element that is wrong. */
import { type Node, substitute, topological, type Value } from './graph.ts';
import { Stream } from './philox.ts';
import { evaluate } from './reference.ts';

/** What central differences may be off, relative to the gradient: truncation h², round-off ε/h, and room for curvature. */
export const differenceTolerance = 1e-6;

/**
 * Steps, tried in this order until one agrees. A kink (leaky ReLU) between x − h and x + h makes the differences wrong,
 * and a smaller step seldom meets one; a wrong gradient agrees at none.
 */
const ownSteps: readonly number[] = [1e-5, 1e-6, 1e-7];

/** Elements up to which each is checked by itself, unless said. */
const fullElements = 64;

export interface DifferenceOptions {
  full?: number;
  directions?: number;
  seed?: number;
  steps?: readonly number[];
}

/** A gradient against differences: of one element, or along a random direction through all. */
export interface Slope {
  /** |rule − differences|, relative to the greatest element of the gradient, or to its length along the direction. */
  error: number;
  /** Flat element; undefined for a direction that agrees. */
  element?: number;
  rule: number;
  differences: number;
}

/**
 * Holds the gradient of a scalar in one input (values `rule`, from the gradient rules) against differences: each element
 * where there are few (`full`, 64 unless said), else along random directions. Where a direction disagrees, its elements
 * are halved until a wrong one is found, so that a failure always names an element. The worst is returned.
 */
export function differences(
  scalar: Node,
  input: Node,
  rule: ArrayLike<number>,
  values: ReadonlyMap<Node, Value>,
  { full = fullElements, directions = 2, seed = 97, steps = ownSteps }: DifferenceOptions = {},
): Slope {
  const { data } = values.get(input)!;
  const at = inOneInput(scalar, input, values);
  const random = new Stream(seed);
  const peak = Math.max(1e-3, norm(rule, Math.max));
  const element = (i: number): Slope => {
    const slope = (h: number): number => central(at, data, [1], i, i + 1, h);
    return { ...agreeing(rule[i], peak, steps, slope), element: i };
  };
  if (data.length <= full) return worst(Array.from(data.keys(), element));

  let result: Slope | undefined;
  for (let k = 0; k < directions; k++) {
    const d = Float64Array.from(data, () => random.normal());
    const along = (from: number, to: number): Slope => {
      let expected = 0;
      let square = 0;
      for (let i = from; i < to; i++) {
        expected += rule[i] * d[i];
        square += (rule[i] * d[i]) ** 2;
      }
      const size = Math.max(1e-3, Math.sqrt(square));
      const part = d.subarray(from, to);
      return agreeing(expected, size, steps, (h) => central(at, data, part, from, to, h));
    };
    const whole = along(0, data.length);
    if (!(whole.error <= differenceTolerance)) {
      let [from, to] = [0, data.length];
      while (to - from > 16) {
        const middle = (from + to) >> 1;
        // The gaps of the halves add up to that of both: the greater is at least half of it.
        const [low, high] = [along(from, middle), along(middle, to)].map((s) => Math.abs(s.rule - s.differences));
        if (low >= high || Number.isNaN(low)) to = middle;
        else from = middle;
      }
      const found = worst(Array.from({ length: to - from }, (_, i) => element(from + i)));
      // The element says where; how bad it is, is the direction's to say.
      return { ...found, error: Math.max(whole.error, found.error) };
    }
    if (!result || whole.error > result.error) result = whole;
  }
  return result!;
}

/** The step at which differences come closest to what the rule says. */
function agreeing(rule: number, size: number, steps: readonly number[], slope: (h: number) => number): Slope {
  let best: Slope | undefined;
  for (const h of steps) {
    const numeric = slope(h);
    const error = Math.abs(rule - numeric) / Math.max(size, Math.abs(numeric) || 0);
    const found = { error: Number.isNaN(error) ? Infinity : error, rule, differences: numeric };
    if (!best || found.error < best.error) best = found;
    if (best.error <= differenceTolerance) break;
  }
  return best!;
}

const worst = (slopes: readonly Slope[]): Slope => slopes.reduce((a, b) => (b.error > a.error ? b : a));
const norm = (data: ArrayLike<number>, join: (a: number, b: number) => number): number => {
  let total = 0;
  for (let i = 0; i < data.length; i++) total = join(total, Math.abs(data[i]));
  return total;
};

/** (f(x + h·d) − f(x − h·d)) / 2h, where d moves the elements [from, to) of x alone; x is put back. */
function central(f: () => number, x: Float64Array, d: ArrayLike<number>, from: number, to: number, h: number): number {
  const original = x.slice(from, to);
  const moved = (by: number): number => {
    original.forEach((v, i) => {
      x[from + i] = v + by * d[i];
    });
    return f();
  };
  const slope = (moved(h) - moved(-h)) / (2 * h);
  x.set(original, from);
  return slope;
}

/** The scalar as a function of one input's values; what does not depend on the input is computed once. */
function inOneInput(scalar: Node, input: Node, values: ReadonlyMap<Node, Value>): () => number {
  const moving = new Set<Node>([input]);
  const fixed = new Set<Node>();
  for (const node of topological([scalar])) {
    if (!node.inputs.some((below) => moving.has(below))) continue;
    moving.add(node);
    for (const below of node.inputs) if (below.inputs.length && !moving.has(below)) fixed.add(below);
  }
  const kept = [...fixed];
  const stand = kept.map((node) => node.graph.variable(`fixed ${node.id}`, node.shape, node.dtype));
  const known = new Map(values);
  evaluate(kept, (node) => values.get(node)!).forEach((value, i) => {
    known.set(stand[i], value);
  });
  const [short] = substitute([scalar], new Map(kept.map((node, i) => [node, stand[i]])));
  return () => evaluate([short], (node) => known.get(node)!)[0].data[0];
}
