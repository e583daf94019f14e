/**
 * The ops as functions on nodes: what models and gradient rules are written in. Nothing is computed here; each call
 * adds a row of the op table to the graph of its inputs.
 */
import { ShapeError } from '../errors.ts';
import { type Attrs, type Graph, type Node, type Shape, sameShape, showShape, sizeOf } from './graph.ts';

const apply = (name: string, inputs: readonly Node[], attrs: Attrs = {}): Node =>
  inputs[0].graph.apply(name, inputs, attrs);

// ---- elementwise, one input
export const neg = (x: Node): Node => scale(x, -1);
/** a·x + b. */
export const scale = (x: Node, a: number, b = 0): Node => (a === 1 && b === 0 ? x : apply('scale', [x], { a, b }));
export const relu = (x: Node): Node => apply('relu', [x]);
export const leakyRelu = (x: Node, alpha: number): Node => apply('leakyRelu', [x], { alpha });
export const sigmoid = (x: Node): Node => apply('sigmoid', [x]);
export const tanh = (x: Node): Node => apply('tanh', [x]);
export const exp = (x: Node): Node => apply('exp', [x]);
export const log = (x: Node): Node => apply('log', [x]);
export const sqrt = (x: Node): Node => apply('sqrt', [x]);
export const rsqrt = (x: Node): Node => apply('rsqrt', [x]);
export const square = (x: Node): Node => apply('square', [x]);
export const reciprocal = (x: Node): Node => apply('reciprocal', [x]);
export const abs = (x: Node): Node => apply('abs', [x]);
/** The value, with no gradient behind it. */
export const stopGradient = (x: Node): Node => apply('stopGradient', [x]);

// ---- elementwise, two inputs, NumPy's broadcasting
function binary(name: string, a: Node, b: Node): Node {
  // The other operand broadcasts by itself: an expanded one need not be written out.
  if (a.op === 'expand' && sameShape(a.shape, b.shape)) return apply(name, [a.inputs[0], b]);
  if (b.op === 'expand' && sameShape(a.shape, b.shape)) return apply(name, [a, b.inputs[0]]);
  return apply(name, [a, b]);
}
export const add = (a: Node, b: Node): Node => binary('add', a, b);
export const sub = (a: Node, b: Node): Node => binary('sub', a, b);
export const mul = (a: Node, b: Node): Node => {
  const [x, c] = isConstant(a) ? [b, a] : [a, b];
  const value = isConstant(c);
  return value && sizeOf(c.shape) <= sizeOf(x.shape) && (c.shape.length === 0 || sameShape(c.shape, x.shape))
    ? scale(x, value.value)
    : binary('mul', a, b);
};
export const div = (a: Node, b: Node): Node => binary('div', a, b);
/** g where x > 0, alpha·g elsewhere: the derivative of leakyRelu (of relu for alpha 0). */
export const leakyReluGrad = (x: Node, g: Node, alpha: number): Node => apply('leakyReluGrad', [x, g], { alpha });
/** g·y·(1−y) from the sigmoid's value y. */
export const sigmoidGrad = (y: Node, g: Node): Node => apply('sigmoidGrad', [y, g]);
/** 1 where a = b, 0 elsewhere, without a gradient. */
export const equal = (a: Node, b: Node): Node => binary('equal', a, b);

function isConstant(x: Node): { value: number } | undefined {
  const base = x.op === 'expand' ? x.inputs[0] : x;
  return base.op === 'constant' ? { value: base.attrs.value } : undefined;
}

/** A tensor of one value, without memory of its own where the user broadcasts. */
export const fill = (graph: Graph, value: number, shape: Shape): Node => expand(graph.constant(value), shape);

// ---- shapes
export const reshape = (x: Node, shape: Shape): Node =>
  sameShape(x.shape, shape) ? x : apply('reshape', [x], { shape: [...shape] });
/** NumPy's broadcast_to. */
export const expand = (x: Node, shape: Shape): Node =>
  sameShape(x.shape, shape) ? x : apply('expand', [x], { shape: [...shape] });
/** Elements [offset, offset + size of shape) of x's memory: no copy. */
export const view = (x: Node, offset: number, shape: Shape): Node =>
  offset === 0 && sameShape(x.shape, shape) ? x : apply('view', [x], { offset, shape: [...shape] });
/** Inputs flattened into one vector of `size` elements at `offsets`; the gaps are zero. */
export const pack = (inputs: readonly Node[], offsets: readonly number[], size: number): Node =>
  apply('pack', inputs, { offsets: [...offsets], size });
/** Rows of several tensors one below the other. */
export function concat(inputs: readonly Node[]): Node {
  let size = 0;
  const offsets = inputs.map((input) => {
    const at = size;
    size += sizeOf(input.shape);
    return at;
  });
  const [first] = inputs;
  for (const input of inputs) {
    if (!sameShape(input.shape.slice(1), first.shape.slice(1))) {
      throw new ShapeError(`concat: ${showShape(input.shape)} beside ${showShape(first.shape)}`);
    }
  }
  const rows = inputs.reduce((n, input) => n + input.shape[0], 0);
  return reshape(pack(inputs, offsets, size), [rows, ...first.shape.slice(1)]);
}
/** Rows [from, to) of the first axis: no copy. */
export function rows(x: Node, from: number, to: number): Node {
  const rest = x.shape.slice(1);
  return view(x, from * sizeOf(rest), [to - from, ...rest]);
}

// ---- reductions
const reduction = (name: string, x: Node, axes: readonly number[], keep: boolean): Node => {
  let y = x;
  // Adjacent axes fold into one reduction; the others follow from the last to the first.
  const sorted = [...new Set(axes.map((axis) => (axis < 0 ? axis + x.shape.length : axis)))].sort((a, b) => b - a);
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j] - 1) j++;
    y = apply(name, [y], { from: sorted[j], to: sorted[i] + 1 });
    i = j + 1;
  }
  if (keep) return y;
  return reshape(
    y,
    y.shape.filter((_, axis) => !sorted.includes(axis)),
  );
};
const allAxes = (x: Node): number[] => x.shape.map((_, axis) => axis);
/** Sum over `axes` (all unless given); they are dropped unless `keep`. */
export const sum = (x: Node, axes: readonly number[] = allAxes(x), keep = false): Node =>
  x.shape.length === 0 ? x : reduction('sum', x, axes, keep);
/** Greatest over `axes` (all unless given). */
export const max = (x: Node, axes: readonly number[] = allAxes(x), keep = false): Node =>
  x.shape.length === 0 ? x : reduction('max', x, axes, keep);
export const mean = (x: Node, axes: readonly number[] = allAxes(x), keep = false): Node => {
  const y = sum(x, axes, keep);
  return scale(y, sizeOf(y.shape) / sizeOf(x.shape));
};
/** Sums x down to a shape that broadcasts to x's: the gradient of broadcasting. */
export function sumTo(x: Node, shape: Shape): Node {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.shape.length - shape.length;
  const axes = x.shape.map((d, axis) => (axis < lead || (shape[axis - lead] === 1 && d !== 1) ? axis : -1));
  return reshape(
    sum(
      x,
      axes.filter((axis) => axis >= 0),
      true,
    ),
    shape,
  );
}

// ---- linear
export interface DenseAttrs {
  transposeX?: boolean;
  transposeW?: boolean;
}
/** Matrix product of x [rows, in] and w [in, out], either one transposed on the fly. */
export const dense = (x: Node, w: Node, attrs: DenseAttrs = {}): Node =>
  apply('dense', [x, w], { transposeX: attrs.transposeX ?? false, transposeW: attrs.transposeW ?? false });

export interface ConvAttrs {
  strides: readonly [number, number];
  /** Zeros around the image: top, bottom, left, right. */
  padding: readonly [number, number, number, number];
}
/** x [n,h,w,in] ⋆ filter [kh,kw,in,out] → [n,oh,ow,out] (cross-correlation, as every framework's). */
export const conv2d = (x: Node, filter: Node, attrs: ConvAttrs): Node => apply('conv2d', [x, filter], convAttrs(attrs));
/** The adjoint of conv2d in x, which is transposed convolution: y [n,oh,ow,out] and filter → [n,h,w,in]. */
export const conv2dInputGrad = (y: Node, filter: Node, attrs: ConvAttrs & { size: readonly [number, number] }): Node =>
  apply('conv2dInputGrad', [y, filter], { ...convAttrs(attrs), size: [...attrs.size] });
/** The adjoint of conv2d in the filter: x and y → [kh,kw,in,out]. */
export const conv2dWeightGrad = (x: Node, y: Node, attrs: ConvAttrs & { kernel: readonly [number, number] }): Node =>
  apply('conv2dWeightGrad', [x, y], { ...convAttrs(attrs), kernel: [...attrs.kernel] });
const convAttrs = (attrs: ConvAttrs): ConvAttrs => ({ strides: [...attrs.strides], padding: [...attrs.padding] });

/** TensorFlow's SAME padding: output ⌈size/stride⌉, the odd zero after the image. */
export function samePadding(
  size: readonly [number, number],
  kernel: readonly [number, number],
  strides: readonly [number, number],
): [number, number, number, number] {
  const [top, left] = [0, 1].map((i) => {
    const out = Math.ceil(size[i] / strides[i]);
    return Math.max(0, (out - 1) * strides[i] + kernel[i] - size[i]);
  });
  return [Math.floor(top / 2), Math.ceil(top / 2), Math.floor(left / 2), Math.ceil(left / 2)];
}

// ---- normalisation; the channel is the last axis
/** [2, channels]: mean and (biased) variance of each channel, in two passes. */
export const moments = (x: Node): Node => apply('moments', [x]);
/** (x − mean)/√(variance + eps)·gamma + beta with given moments [2, channels]: batch norm at inference. */
export const normalise = (x: Node, stats: Node, gamma: Node, beta: Node, eps: number): Node =>
  apply('normalise', [x, stats, gamma, beta], { eps });
/** Batch norm in training: normalises with the batch's own moments. */
export const batchNorm = (x: Node, gamma: Node, beta: Node, eps: number): Node =>
  apply('batchNorm', [x, gamma, beta], { eps });
/** Layer norm: each sample of x [n, .., c] over all its axes but the first, then gamma [c] and beta [c]. */
export const layerNorm = (x: Node, gamma: Node, beta: Node, eps: number): Node =>
  apply('layerNorm', [x, gamma, beta], { eps });
/** Cotangent of batchNorm's x. */
export const batchNormGrad = (x: Node, gamma: Node, g: Node, eps: number): Node =>
  apply('batchNormGrad', [x, gamma, g], { eps });
/** [2, channels]: Σg and Σg·x̂, the cotangents of beta and gamma. */
export const batchNormSums = (g: Node, x: Node, stats: Node, eps: number): Node =>
  apply('batchNormSums', [g, x, stats], { eps });
/** The last step of batchNormGrad, from moments and sums. */
export const batchNormApplyGrad = (g: Node, x: Node, stats: Node, gamma: Node, sums: Node, eps: number): Node =>
  apply('batchNormApplyGrad', [g, x, stats, gamma, sums], { eps });

// ---- losses
/** −2·(A·B)/(ΣA + ΣB) over the whole tensors. */
export const diceLoss = (a: Node, b: Node): Node => apply('diceLoss', [a, b]);
/** E[f(fake)] − E[f(real)], minimised by the critic. */
export const wassersteinCritic = (real: Node, fake: Node): Node => apply('wassersteinCritic', [real, fake]);
/** −E[f(fake)], minimised by the generator. */
export const wassersteinGenerator = (fake: Node): Node => apply('wassersteinGenerator', [fake]);
/** E[(√(1e-8 + Σg²) − 1)²] over the rows of g, the critic's gradient at the interpolates, in one or more parts. */
export const gradientPenalty = (...g: Node[]): Node => apply('gradientPenalty', g);
/** Softmax over the last axis beside an implicit "absent" logit of 0: the parts sum to less than 1. */
export const absentSoftmax = (x: Node): Node => apply('absentSoftmax', [x]);

// ---- random numbers and data: functions of a step counter [2] u32 (low word, high word)
export interface StreamAttrs {
  /** Seed: two 32-bit words. */
  key: readonly [number, number];
  /** Tells draws of one step apart. */
  stream: number;
}
export const randomNormal = (step: Node, shape: Shape, attrs: StreamAttrs): Node =>
  apply('randomNormal', [step], { ...attrs, shape: [...shape] });
export const randomUniform = (step: Node, shape: Shape, attrs: StreamAttrs): Node =>
  apply('randomUniform', [step], { ...attrs, shape: [...shape] });
/** Zeros at the rate, 1/(1 − rate) elsewhere: x times it is x after dropout. */
export const randomMask = (step: Node, shape: Shape, attrs: StreamAttrs & { rate: number }): Node =>
  apply('randomMask', [step], { ...attrs, shape: [...shape] });
/** Row numbers [batch] u32: a fresh permutation of all rows each epoch, `draw` of `draws` batches in this step, counted from `first`. */
export const sampleRows = (
  step: Node,
  attrs: StreamAttrs & { rows: number; batch: number; draw: number; draws: number; first?: number },
): Node => apply('sampleRows', [step], attrs);
/** Packed formulas [batch,4] u32 drawn from running sums of frequencies, as `frequencySums` makes them. */
export const randomFormulas = (step: Node, sums: Node, attrs: StreamAttrs & { batch: number }): Node =>
  apply('randomFormulas', [step, sums], attrs);
/** 0, 1, 2 … [size] u32. */
export const iota = (graph: Graph, size: number): Node => graph.apply('iota', [], { size });
/** Rows of a table [n,columns] at row numbers [batch] → [batch,columns]; nothing flows back into the table. */
export const gather = (table: Node, rowNumbers: Node): Node => apply('gather', [table, rowNumbers]);
/** Packed formulas [n,4] u32 at row numbers [batch] → [batch,85,8,1]: 1 at (element, count − 1). */
export const unfold = (packed: Node, rowNumbers: Node): Node => apply('unfold', [packed, rowNumbers]);
/** Cells [batch,85,8,1] → packed formulas [batch,4] u32 by the rule `paper` or `argmax`; all zero where there is none. */
export const decode = (cells: Node, rule: 'paper' | 'argmax'): Node => apply('decode', [cells], { rule });
/** The counter plus one. */
export const increment = (step: Node): Node => apply('increment', [step]);

// ---- updates in place
/** average·decay + value·(1 − decay), over the average's memory. */
export const ema = (average: Node, value: Node, decay: number): Node => apply('ema', [average, value], { decay });

export interface OptimiserAttrs {
  learningRate: number;
  /** Linear decay from this update … */
  decayFrom: number;
  /** … to zero at this one; the two are equal where the rate stays. */
  decayTo: number;
  /** Updates a step, and the number of this one: update t = step·every + offset + 1. */
  every: number;
  offset: number;
  /** Weights are clipped to ±clip after the update; 0 for none. */
  clip: number;
}
/** state [3,p] (weights, first and second moments), gradient [p] → state, in place; one dispatch for all parameters. */
export const adam = (
  state: Node,
  gradient: Node,
  step: Node,
  attrs: OptimiserAttrs & { beta1: number; beta2: number; eps: number },
): Node => apply('adam', [state, gradient, step], attrs);
/** state [2,p] (weights, mean square). */
export const rmsProp = (
  state: Node,
  gradient: Node,
  step: Node,
  attrs: OptimiserAttrs & { rho: number; eps: number },
): Node => apply('rmsProp', [state, gradient, step], attrs);
/** state [2,p] (weights, velocity). */
export const sgd = (state: Node, gradient: Node, step: Node, attrs: OptimiserAttrs & { momentum: number }): Node =>
  apply('sgd', [state, gradient, step], attrs);
