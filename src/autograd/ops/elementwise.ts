import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { div, leakyReluGrad, mul, neg, scale, sigmoidGrad, square, sub, sumTo } from '../build.ts';
import { type Attrs, type Node, type Op, type SampleInput, type Shape, showShape, sizeOf } from '../graph.ts';

const oddShapes: readonly Shape[] = [[1], [63], [65, 3], [257], [2, 5, 7, 3]];

/** An elementwise op of one input. `derivative` gives the cotangent from input, value and cotangent. */
function unary(
  name: keyof typeof lower.unaryFunctions,
  summary: string,
  f: (x: number, attrs: Attrs) => number,
  derivative: (x: Node, y: Node, g: Node, attrs: Attrs) => Node,
  options: { draw?: 'normal' | 'away' | 'positive'; roundings: number; attrs?: Attrs; params?: (a: Attrs) => number[] },
): Op {
  const draw = options.draw ?? 'normal';
  return {
    summary,
    shape: ([x]) => x.shape,
    vjp: (node, g) => [() => derivative(node.inputs[0], node, g, node.attrs)],
    reference: ([x], attrs, out) => {
      for (let i = 0; i < x.data.length; i++) out.data[i] = f(x.data[i], attrs);
    },
    roundings: () => options.roundings,
    lowering: {
      kernels: (node) => lower.unary(name, sizeOf(node.shape), ...(options.params?.(node.attrs) ?? [])),
    },
    samples: oddShapes.map((shape) => ({ inputs: [{ shape, draw }], attrs: options.attrs })),
    errors: [],
  };
}

/** NumPy's rule: trailing axes are equal, or 1. */
export function broadcastShape(name: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) {
    const da = a[a.length - rank + i] ?? 1;
    const db = b[b.length - rank + i] ?? 1;
    if (da !== db && da !== 1 && db !== 1) {
      throw new ShapeError(`${name}: ${showShape(a)} and ${showShape(b)} do not broadcast: ${da} against ${db}`);
    }
    shape.push(da === 1 ? db : da);
  }
  if (!lower.collapse(shape, [a, b])) {
    throw new ShapeError(`${name}: ${showShape(a)} and ${showShape(b)} broadcast in more than four groups of axes`);
  }
  return shape;
}

/** Calls `visit(i, ia, …)` for each element i of `out` with the element of each operand that it broadcasts from. */
function eachBroadcast(out: Shape, operands: readonly Shape[], visit: (i: number, from: number[]) => void): void {
  const rank = out.length;
  const from = new Array<number>(operands.length);
  const size = sizeOf(out);
  for (let i = 0; i < size; i++) {
    operands.forEach((shape, k) => {
      let rest = i;
      let stride = 1;
      let at = 0;
      for (let axis = rank - 1; axis >= 0; axis--) {
        const index = rest % out[axis];
        rest = Math.floor(rest / out[axis]);
        const d = shape[shape.length - rank + axis] ?? 1;
        if (d !== 1) at += index * stride;
        stride *= d;
      }
      from[k] = at;
    });
    visit(i, from);
  }
}

/** An elementwise op of two inputs with broadcasting. */
function binary(
  name: keyof typeof lower.binaryFunctions,
  opName: string,
  summary: string,
  f: (a: number, b: number, attrs: Attrs) => number,
  vjp: Op['vjp'],
  options: { draws?: [Draw, Draw]; roundings: number; attrs?: Attrs; alpha?: (a: Attrs) => number },
): Op {
  const [da, db] = options.draws ?? ['normal', 'normal'];
  const pairs: [Shape, Shape][] = [
    [[65], [65]],
    [[1], []],
    [[2, 5, 7, 3], [3]],
    [
      [4, 1, 3],
      [5, 1],
    ],
    [
      [2, 3, 1, 5],
      [2, 1, 4, 1],
    ],
    [[], [257]],
  ];
  return {
    summary,
    shape: ([a, b]) => broadcastShape(opName, a.shape, b.shape),
    vjp,
    reference: ([a, b], attrs, out) => {
      eachBroadcast(out.shape, [a.shape, b.shape], (i, [ia, ib]) => {
        out.data[i] = f(a.data[ia], b.data[ib], attrs);
      });
    },
    roundings: () => options.roundings,
    lowering: {
      kernels: (node) =>
        lower.binary(name, node.shape, node.inputs[0].shape, node.inputs[1].shape, options.alpha?.(node.attrs) ?? 0),
    },
    samples: pairs.map(([a, b]) => ({
      inputs: [
        { shape: a, draw: da },
        { shape: b, draw: db },
      ],
      attrs: options.attrs,
    })),
    errors: [
      { shapes: [[3, 2], [3]], attrs: options.attrs, message: /\[3,2\] and \[3\] do not broadcast: 2 against 3/ },
    ],
  };
}
type Draw = Extract<SampleInput, { draw: string }>['draw'];

/** Cotangents of a broadcasting op: each summed down to its input's shape. */
const broadcastVjp =
  (rule: (a: Node, b: Node, g: Node, node: Node) => readonly [() => Node, () => Node]): Op['vjp'] =>
  (node, g) => {
    const [a, b] = node.inputs;
    const [ga, gb] = rule(a, b, g, node);
    return [() => sumTo(ga(), a.shape), () => sumTo(gb(), b.shape)];
  };

export const elementwise = {
  scale: unary(
    'scale',
    'a·x + b',
    (x, { a, b }) => a * x + b,
    (_x, _y, g, { a }) => scale(g, a),
    {
      roundings: 4,
      attrs: { a: -1.5, b: 0.25 },
      params: ({ a, b }) => [a, b],
    },
  ),
  relu: unary(
    'relu',
    'max(x, 0)',
    (x) => (x > 0 ? x : Number.isNaN(x) ? x : 0),
    // y is above zero where x is: x itself need not be kept, and a product can take the activation as its epilogue.
    (_x, y, g) => leakyReluGrad(y, g, 0),
    {
      draw: 'away',
      roundings: 0,
    },
  ),
  leakyRelu: unary(
    'leakyRelu',
    'x where x > 0, alpha·x elsewhere',
    (x, { alpha }) => (x > 0 ? x : alpha * x),
    (x, y, g, { alpha }) => leakyReluGrad(alpha >= 0 ? y : x, g, alpha),
    { draw: 'away', roundings: 2, attrs: { alpha: 0.2 }, params: ({ alpha }) => [alpha] },
  ),
  // WGSL bounds exp by 3 + 2·|x| ULP.
  sigmoid: unary(
    'sigmoid',
    '1/(1 + e^−x)',
    (x) => 1 / (1 + Math.exp(-x)),
    (_x, y, g) => sigmoidGrad(y, g),
    {
      roundings: 16,
    },
  ),
  tanh: unary('tanh', 'tanh x', Math.tanh, (_x, y, g) => mul(g, scale(square(y), -1, 1)), { roundings: 32 }),
  exp: unary('exp', 'e^x', Math.exp, (_x, y, g) => mul(g, y), { roundings: 16 }),
  log: unary('log', 'ln x', Math.log, (x, _y, g) => div(g, x), { draw: 'positive', roundings: 32 }),
  sqrt: unary('sqrt', '√x', Math.sqrt, (_x, y, g) => div(scale(g, 0.5), y), { draw: 'positive', roundings: 8 }),
  rsqrt: unary(
    'rsqrt',
    '1/√x',
    (x) => 1 / Math.sqrt(x),
    (x, y, g) => scale(mul(g, div(y, x)), -0.5),
    {
      draw: 'positive',
      roundings: 12,
    },
  ),
  square: unary(
    'square',
    'x²',
    (x) => x * x,
    (x, _y, g) => scale(mul(g, x), 2),
    { roundings: 1 },
  ),
  reciprocal: unary(
    'reciprocal',
    '1/x',
    (x) => 1 / x,
    (_x, y, g) => neg(mul(g, square(y))),
    {
      draw: 'positive',
      roundings: 6,
    },
  ),
  abs: unary('abs', '|x|', Math.abs, (x, _y, g) => sub(leakyReluGrad(x, g, 0), leakyReluGrad(neg(x), g, 0)), {
    draw: 'away',
    roundings: 0,
  }),

  add: binary(
    'add',
    'add',
    'a + b',
    (a, b) => a + b,
    broadcastVjp((_a, _b, g) => [() => g, () => g]),
    { roundings: 1 },
  ),
  sub: binary(
    'sub',
    'sub',
    'a − b',
    (a, b) => a - b,
    broadcastVjp((_a, _b, g) => [() => g, () => neg(g)]),
    {
      roundings: 1,
    },
  ),
  mul: binary(
    'mul',
    'mul',
    'a·b',
    (a, b) => a * b,
    broadcastVjp((a, b, g) => [() => mul(g, b), () => mul(g, a)]),
    {
      roundings: 1,
    },
  ),
  div: binary(
    'div',
    'div',
    'a/b',
    (a, b) => a / b,
    broadcastVjp((a, b, g) => [() => div(g, b), () => neg(mul(g, div(a, square(b))))]),
    { draws: ['normal', 'positive'], roundings: 6 },
  ),
  leakyReluGrad: {
    ...binary(
      'leakyReluGrad',
      'leakyReluGrad',
      'g where x > 0, alpha·g elsewhere: the derivative of leakyRelu, of relu for alpha 0 (inputs x, g)',
      (x, g, { alpha }) => (x > 0 ? g : alpha === 0 ? 0 : alpha * g),
      // Piecewise constant in x.
      (node, h) => [null, () => sumTo(leakyReluGrad(node.inputs[0], h, node.attrs.alpha), node.inputs[1].shape)],
      { draws: ['away', 'normal'], roundings: 2, attrs: { alpha: 0.2 } },
    ),
    lowering: {
      kernels: (node) => {
        const { alpha } = node.attrs;
        const [x, g] = node.inputs;
        return lower.binary(alpha === 0 ? 'reluGrad' : 'leakyReluGrad', node.shape, x.shape, g.shape, alpha);
      },
    },
  },
  sigmoidGrad: binary(
    'sigmoidGrad',
    'sigmoidGrad',
    'g·y·(1 − y) (inputs y, g)',
    (y, g) => g * y * (1 - y),
    broadcastVjp((y, g, h) => [() => mul(mul(h, g), scale(y, -2, 1)), () => sigmoidGrad(y, h)]),
    { roundings: 16 },
  ),
  equal: {
    ...binary(
      'equal',
      'equal',
      '1 where a = b, 0 elsewhere',
      (a, b) => (a === b ? 1 : 0),
      () => [null, null],
      {
        roundings: 0,
      },
    ),
    samples: [
      {
        inputs: [
          { shape: [5], values: [1, 2, 3, 4, 5] },
          { shape: [5], values: [1, 0, 3, 0, 5] },
        ],
      },
      {
        inputs: [
          { shape: [2, 2], values: [1, 2, 2, 1] },
          { shape: [], values: [2] },
        ],
      },
    ],
  },
  stopGradient: {
    summary: 'x, without a gradient',
    shape: ([x]) => x.shape,
    vjp: () => [null],
    reference: ([x], _attrs, out) => out.data.set(x.data),
    roundings: () => 0,
    lowering: { view: () => 0 },
    samples: [{ inputs: [{ shape: [3, 5], draw: 'normal' }] }],
    errors: [],
  },
  expand: {
    summary: 'x repeated to a shape that it broadcasts to',
    shape: ([x], { shape }) => {
      const result = broadcastShape('expand', x.shape, shape);
      if (sizeOf(result) !== sizeOf(shape)) {
        throw new ShapeError(`expand: ${showShape(x.shape)} does not broadcast to ${showShape(shape)}`);
      }
      return shape;
    },
    vjp: (node, g) => [() => sumTo(g, node.inputs[0].shape)],
    reference: ([x], _attrs, out) => {
      eachBroadcast(out.shape, [x.shape], (i, [ix]) => {
        out.data[i] = x.data[ix];
      });
    },
    roundings: () => 0,
    lowering: { kernels: (node) => lower.expand(node.shape, node.inputs[0].shape) },
    samples: [
      { inputs: [{ shape: [], draw: 'normal' }], attrs: { shape: [65] } },
      { inputs: [{ shape: [3], draw: 'normal' }], attrs: { shape: [2, 5, 3] } },
      { inputs: [{ shape: [4, 1, 3], draw: 'normal' }], attrs: { shape: [2, 4, 5, 3] } },
    ],
    errors: [{ shapes: [[3]], attrs: { shape: [2] }, message: /do not broadcast/ }],
  },
} satisfies Record<string, Op>;
