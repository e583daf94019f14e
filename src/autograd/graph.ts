import { ShapeError } from '../errors.ts';
import type { Lowered } from '../kernels/kernel.ts';
import type { Target } from '../kernels/lower.ts';

/** Dimensions of a tensor, outermost first; images are channels last. `[]` is a scalar. */
export type Shape = readonly number[];
export type DType = 'f32' | 'u32';
// biome-ignore lint/suspicious/noExplicitAny: each row of the op table types its own attributes.
export type Attrs = any;

/** One value of a graph: a leaf, or an op applied to earlier nodes. Immutable; equal nodes are the same object. */
export interface Node {
  readonly id: number;
  readonly graph: Graph;
  /** A row of the op table, or a leaf: `variable` (a persistent buffer), `constant` (a scalar), `placeholder`. */
  readonly op: string;
  readonly inputs: readonly Node[];
  readonly attrs: Attrs;
  readonly shape: Shape;
  readonly dtype: DType;
  /** Where it was traced, for people: `critic conv1`, `gradient of critic conv1`; empty where nobody said. */
  readonly scope: string;
}

/** A reference value: numbers of f32 or u32 tensors alike are held as doubles. */
export interface Value {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** How a sample input is drawn; `away` keeps |x| > 0.1, clear of kinks, and `positive` is in [0.5, 2]. */
export type SampleInput =
  | { shape: Shape; draw: 'normal' | 'away' | 'positive' | 'unit' | 'distinct' }
  | { shape: Shape; values: readonly number[]; dtype?: DType };

/** One way to call an op, for tests, gradient checks and benchmarks alike. */
export interface Sample {
  inputs: readonly SampleInput[];
  attrs?: Attrs;
}

/** A call that the op must refuse, and what the message must say. */
export interface ErrorSample {
  shapes: readonly Shape[];
  attrs?: Attrs;
  message: RegExp;
}

/** How an op reaches the device. */
export type Lowering =
  /** Dispatches, for a target or for any; `inPlace` names the input whose buffer the output takes over (a persistent state). */
  | { kernels: (node: Node, target?: Target) => Lowered; inPlace?: number }
  /** Rewritten in other ops before planning: its parts are shared with whatever else computes them. */
  | { expand: (node: Node) => Node }
  /** The same memory as the first input, from this element on. */
  | { view: (node: Node) => number }
  /** Inputs laid side by side in one buffer, at these elements; gaps are zero. */
  | { pack: (node: Node) => readonly number[] };

/** One row of the op table. A row without a gradient rule, reference, samples or error inputs does not compile. */
export interface Op {
  /** One line: what it computes, with shapes. */
  summary: string;
  /** `f32` unless said. */
  dtype?: DType;
  /** Input element types; all `f32` unless said. */
  inputTypes?: readonly DType[];
  /** @throws ShapeError */
  shape: (inputs: readonly Node[], attrs: Attrs) => Shape;
  /**
   * Cotangents of the inputs from that of the output, written in ops (so gradients of gradients come by themselves):
   * one thunk an input, null where the input has no gradient. `none` says why a whole op has none.
   */
  vjp: ((node: Node, cotangent: Node) => readonly (null | (() => Node))[]) | { none: string };
  /** f64, plain loops, obviously right. `out` is zeroed. */
  reference: (inputs: readonly Value[], attrs: Attrs, out: Value) => void;
  /** Roundings that an output element suffers, for the tolerance of GPU against reference: depth of sums and the
   * ULP that WGSL allows its built-ins. Exact ops (copies, integers) have 0. */
  roundings: (node: Node) => number;
  lowering: Lowering;
  samples: readonly Sample[];
  errors: readonly ErrorSample[];
}

export type OpTable = Readonly<Record<string, Op>>;

export const sizeOf = (shape: Shape): number => shape.reduce((product, d) => product * d, 1);
export const showShape = (shape: Shape): string => `[${shape.join(',')}]`;
export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((d, i) => d === b[i]);

/** Index of a flat element in each axis of a shape. */
export function indexOf(element: number, shape: Shape): number[] {
  const index: number[] = [];
  let rest = element;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return index;
}
/** The same in brackets: `[0,3,2,1]`. */
export const showIndex = (element: number, shape: Shape): string => showShape(indexOf(element, shape));

/** A traced computation. `apply` checks shapes and returns an equal node where there is one (hash-consing). */
export class Graph {
  readonly ops: OpTable;
  private readonly known = new Map<string, Node>();
  private count = 0;
  private scope = '';

  constructor(ops: OpTable) {
    this.ops = ops;
  }

  /** Traces `body` with its new nodes in a scope of that name; `replace` leaves out the scopes around it. */
  within<T>(name: string, body: () => T, replace = false): T {
    const outer = this.scope;
    this.scope = replace || outer === '' ? name : `${outer} ${name}`;
    try {
      return body();
    } finally {
      this.scope = outer;
    }
  }

  /** A persistent buffer: parameters, optimiser state, data, counters. Names are unique in a graph. */
  variable(name: string, shape: Shape, dtype: DType = 'f32'): Node {
    const key = `variable ${name}`;
    const known = this.known.get(key);
    if (known) {
      if (!sameShape(known.shape, shape) || known.dtype !== dtype) {
        throw new ShapeError(`variable ${name}: ${showShape(shape)} but it is ${showShape(known.shape)} already`);
      }
      return known;
    }
    return this.add(key, 'variable', [], { name }, checkDimensions('variable', shape), dtype);
  }

  /** A scalar constant. */
  constant(value: number): Node {
    const key = `constant ${Object.is(value, -0) ? '-0' : value}`;
    return this.known.get(key) ?? this.add(key, 'constant', [], { value }, [], 'f32');
  }

  /** A stand-in that `substitute` replaces. */
  placeholder(index: number, shape: Shape, dtype: DType): Node {
    const key = `placeholder ${index} ${shape} ${dtype}`;
    return this.known.get(key) ?? this.add(key, 'placeholder', [], { index }, shape, dtype);
  }

  apply(name: string, inputs: readonly Node[], attrs: Attrs = {}): Node {
    const op = this.ops[name];
    if (!op) throw new ShapeError(`${name}: there is no such op; the table has ${Object.keys(this.ops).join(', ')}`);
    const key = `${name}(${inputs.map((input) => input.id)})${JSON.stringify(attrs)}`;
    const known = this.known.get(key);
    if (known) return known;
    inputs.forEach((input, i) => {
      if (input.graph !== this) throw new ShapeError(`${name}: input ${i} belongs to another graph`);
      const wanted = op.inputTypes?.[i] ?? 'f32';
      if (input.dtype !== wanted) throw new ShapeError(`${name}: input ${i} is ${input.dtype}, it takes ${wanted}`);
    });
    const shape = checkDimensions(name, op.shape(inputs, attrs));
    return this.add(key, name, inputs, attrs, shape, op.dtype ?? 'f32');
  }

  private add(key: string, op: string, inputs: readonly Node[], attrs: Attrs, shape: Shape, dtype: DType): Node {
    const node: Node = { id: this.count++, graph: this, op, inputs, attrs, shape, dtype, scope: this.scope };
    this.known.set(key, node);
    return node;
  }
}

function checkDimensions(name: string, shape: Shape): Shape {
  for (const d of shape) {
    if (!Number.isSafeInteger(d) || d < 1) {
      throw new ShapeError(`${name}: ${showShape(shape)} has a dimension that is no whole number of at least 1`);
    }
  }
  return shape;
}

/** Every node that `roots` need, inputs before users. */
export function topological(roots: readonly Node[]): Node[] {
  const seen = new Set<Node>();
  const order: Node[] = [];
  // An explicit stack: a training step is deeper than the call stack likes.
  const stack: { node: Node; next: number }[] = [];
  for (const root of roots) {
    if (seen.has(root)) continue;
    seen.add(root);
    stack.push({ node: root, next: 0 });
    while (stack.length) {
      const top = stack[stack.length - 1];
      if (top.next < top.node.inputs.length) {
        const input = top.node.inputs[top.next++];
        if (!seen.has(input)) {
          seen.add(input);
          stack.push({ node: input, next: 0 });
        }
      } else {
        order.push(top.node);
        stack.pop();
      }
    }
  }
  return order;
}

/**
 * The same expressions with some nodes replaced; `rewrite` may put something else in place of a rebuilt node. What is rebuilt
 * keeps its scope, or takes the one that is being traced.
 */
export function substitute(
  roots: readonly Node[],
  replacements: ReadonlyMap<Node, Node>,
  rewrite: (node: Node) => Node = (node) => node,
  scope: 'own' | 'traced' = 'own',
): Node[] {
  const done = new Map<Node, Node>(replacements);
  for (const node of topological(roots)) {
    if (done.has(node)) continue;
    const inputs = node.inputs.map((input) => done.get(input)!);
    const same = inputs.every((input, i) => input === node.inputs[i]);
    const apply = (): Node => node.graph.apply(node.op, inputs, node.attrs);
    const rebuilt = same ? node : scope === 'traced' ? apply() : node.graph.within(node.scope, apply, true);
    done.set(node, rewrite(rebuilt));
  }
  return roots.map((root) => done.get(root)!);
}
