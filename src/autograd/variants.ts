/** Odd shapes made from an op's samples, so that nobody has to think of them. */
import { type Attrs, type Graph, type Op, type Sample, sizeOf } from './graph.ts';

/** Sizes that break kernels: one, an odd one, a workgroup of 64 less one, full and more one, and several of them. */
const oddSizes = [1, 3, 63, 64, 65, 257] as const;

/** Attributes that hold dimensions. */
const dimensional = /shape|size|kernel|dims/i;

/** Variants of one op, about; each size of each sample is varied at least once. */
const wanted = 24;

/** Most elements of all tensors, and most additions of the reference, so that a check of all ops takes minutes. */
const mostElements = 2 ** 15;
const mostWork = 2 ** 19;

export interface Variant {
  /** Number of the sample that it is made from. */
  of: number;
  /** Every dimension of this size in the sample … */
  from: number;
  /** … has this one here. */
  to: number;
  sample: Sample;
}

/**
 * Samples with one size replaced throughout: equal sizes of a sample are taken to be the same dimension, in inputs and in
 * attributes such as `shape` and `size`. Kept where the op's shape rule accepts it; inputs with given values stay as they
 * are. Bounded in number and work.
 * @throws what the shape rule throws, unless it is a ShapeError
 */
export function variants(name: string, op: Op, graph: () => Graph): Variant[] {
  const known = new Set(op.samples.map(key));
  const groups: Variant[][] = [];
  op.samples.forEach((sample, of) => {
    for (const from of sizesOf(sample)) {
      const group: Variant[] = [];
      for (const to of oddSizes) {
        if (to === from) continue;
        const accepted = resized(name, op, sample, (d) => (d === from ? to : d), graph);
        if (accepted && !known.has(key(accepted))) {
          known.add(key(accepted));
          group.push({ of, from, to, sample: accepted });
        }
      }
      if (group.length) groups.push(group);
    }
  });
  // A few of each group, beginning at another size in each, so that every size gets its turn.
  const each = Math.max(1, Math.floor(wanted / groups.length));
  return groups.flatMap((group, g) =>
    Array.from({ length: Math.min(each, group.length) }, (_, i) => group[(g + i) % group.length]),
  );
}

/**
 * The sample with every size that may be replaced put through `swap`, in its attributes as well or in its inputs alone;
 * undefined where the op's shape rule accepts neither, or either would be too much work.
 */
export function resized(
  name: string,
  op: Op,
  sample: Sample,
  swap: (size: number) => number,
  graph: () => Graph,
): Sample | undefined {
  return replaced(sample, swap).find((one) => accepts(name, op, one, graph()));
}

const key = ({ inputs, attrs }: Sample): string => JSON.stringify([inputs, attrs ?? {}]);

const isShape = (name: string, value: unknown): value is number[] =>
  dimensional.test(name) && Array.isArray(value) && value.every(Number.isInteger);

/** Sizes that may be replaced. */
export function sizesOf({ inputs, attrs = {} }: Sample): number[] {
  const sizes = new Set<number>();
  for (const input of inputs) if ('draw' in input) for (const d of input.shape) sizes.add(d);
  for (const [name, value] of Object.entries(attrs)) if (isShape(name, value)) for (const d of value) sizes.add(d);
  for (const input of inputs) if (!('draw' in input)) for (const d of input.shape) sizes.delete(d);
  return [...sizes];
}

/** The sample with other sizes, in its attributes as well or in its inputs alone. */
function replaced({ inputs, attrs }: Sample, swap: (size: number) => number): Sample[] {
  const moved = inputs.map((input) => ('draw' in input ? { ...input, shape: input.shape.map(swap) } : input));
  const entries = Object.entries(attrs ?? {}).map(([name, v]) => [name, isShape(name, v) ? v.map(swap) : v] as const);
  return [
    { inputs: moved, attrs: Object.fromEntries(entries) as Attrs },
    { inputs: moved, attrs },
  ];
}

function accepts(name: string, op: Op, sample: Sample, graph: Graph): boolean {
  const inputs = sample.inputs.map(({ shape, ...input }, i) =>
    graph.variable(`input${i}`, shape, 'dtype' in input ? input.dtype : 'f32'),
  );
  try {
    const node = graph.apply(name, inputs, sample.attrs ?? {});
    const elements = [...inputs, node].reduce((total, { shape }) => total + sizeOf(shape), 0);
    return elements <= mostElements && sizeOf(node.shape) * Math.max(1, op.roundings(node)) <= mostWork;
  } catch (error) {
    // By name: a module of the user's may have its class from another copy of the package.
    if ((error as Error).name === 'ShapeError') return false;
    throw error;
  }
}
