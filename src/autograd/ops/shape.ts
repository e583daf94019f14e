import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { equal, expand, mul, pack, reshape, view } from '../build.ts';
import { type Attrs, type Node, type Op, type Shape, showShape, sizeOf } from '../graph.ts';

/** Sizes of a reduction over the axes [from, to). */
function fold(shape: Shape, { from, to }: Attrs): [outer: number, length: number, inner: number] {
  return [sizeOf(shape.slice(0, from)), sizeOf(shape.slice(from, to)), sizeOf(shape.slice(to))];
}

function reduction(name: string, summary: string, maximum: boolean, vjp: Op['vjp']): Op {
  const draw = maximum ? 'distinct' : 'normal';
  return {
    summary,
    shape: ([x], { from, to }) => {
      if (!(Number.isInteger(from) && Number.isInteger(to) && 0 <= from && from < to && to <= x.shape.length)) {
        throw new ShapeError(`${name}: axes ${from} to ${to} of ${showShape(x.shape)}`);
      }
      return x.shape.map((d, axis) => (axis >= from && axis < to ? 1 : d));
    },
    vjp,
    reference: ([x], attrs, out) => {
      const [outer, length, inner] = fold(x.shape, attrs);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          let total = maximum ? Number.NEGATIVE_INFINITY : 0;
          for (let r = 0; r < length; r++) {
            const v = x.data[(o * length + r) * inner + i];
            total = maximum ? Math.max(total, v) : total + v;
          }
          out.data[o * inner + i] = total;
        }
      }
    },
    roundings: (node) => (maximum ? 0 : lower.reduceDepth(...fold(node.inputs[0].shape, node.attrs)) + 1),
    lowering: {
      kernels: (node, target) => lower.reduce(...fold(node.inputs[0].shape, node.attrs), maximum, 1, target),
    },
    samples: [
      { inputs: [{ shape: [1], draw }], attrs: { from: 0, to: 1 } },
      { inputs: [{ shape: [65], draw }], attrs: { from: 0, to: 1 } },
      { inputs: [{ shape: [257, 3], draw }], attrs: { from: 0, to: 1 } },
      { inputs: [{ shape: [3, 130], draw }], attrs: { from: 1, to: 2 } },
      { inputs: [{ shape: [2, 63, 5, 3], draw }], attrs: { from: 1, to: 3 } },
    ],
    errors: [
      { shapes: [[3]], attrs: { from: 0, to: 2 }, message: /axes 0 to 2 of \[3\]/ },
      { shapes: [[3]], attrs: { from: 0, to: 0 }, message: /axes 0 to 0/ },
    ],
  };
}

export const shapes = {
  sum: reduction('sum', 'sum over the axes [from, to), kept as 1', false, (node, g) => [
    () => expand(g, node.inputs[0].shape),
  ]),
  // Where several are greatest, each gets the whole cotangent; the uses here (softmax's shift) stop the gradient.
  max: reduction('max', 'greatest over the axes [from, to), kept as 1', true, (node, g) => [
    () => mul(equal(node.inputs[0], node), g),
  ]),
  reshape: {
    summary: 'the same elements in another shape',
    shape: ([x], { shape }) => {
      if (sizeOf(shape) !== sizeOf(x.shape)) {
        throw new ShapeError(
          `reshape: ${showShape(x.shape)} has ${sizeOf(x.shape)} elements, ${showShape(shape)} wants ${sizeOf(shape)}`,
        );
      }
      return shape;
    },
    vjp: (node, g) => [() => reshape(g, node.inputs[0].shape)],
    reference: ([x], _attrs, out) => out.data.set(x.data),
    roundings: () => 0,
    lowering: { view: () => 0 },
    samples: [{ inputs: [{ shape: [3, 5], draw: 'normal' }], attrs: { shape: [5, 3, 1] } }],
    errors: [{ shapes: [[3, 2]], attrs: { shape: [4] }, message: /6 elements, \[4\] wants 4/ }],
  },
  view: {
    summary: "elements [offset, offset + size) of x's memory in a shape of their own",
    shape: ([x], { offset, shape }) => {
      if (!(Number.isInteger(offset) && offset >= 0 && offset + sizeOf(shape) <= sizeOf(x.shape))) {
        throw new ShapeError(
          `view: ${showShape(shape)} at ${offset} does not fit into the ${sizeOf(x.shape)} elements of ${showShape(x.shape)}`,
        );
      }
      return shape;
    },
    vjp: (node, g) => {
      const [x] = node.inputs;
      return [() => reshape(pack([g], [node.attrs.offset], sizeOf(x.shape)), x.shape)];
    },
    reference: ([x], { offset }, out) => {
      for (let i = 0; i < out.data.length; i++) out.data[i] = x.data[offset + i];
    },
    roundings: () => 0,
    lowering: { view: (node) => node.attrs.offset },
    samples: [
      { inputs: [{ shape: [3, 128], draw: 'normal' }], attrs: { offset: 128, shape: [2, 64] } },
      { inputs: [{ shape: [11], draw: 'normal' }], attrs: { offset: 5, shape: [3] } },
    ],
    errors: [
      { shapes: [[4]], attrs: { offset: 3, shape: [2] }, message: /\[2\] at 3 does not fit into the 4 elements/ },
    ],
  },
  pack: {
    summary: 'inputs flattened into one vector of `size` elements at `offsets`, zero between them',
    shape: (inputs, { offsets, size }) => {
      let end = 0;
      inputs.forEach((input, i) => {
        const at = offsets[i];
        if (!Number.isInteger(at) || at < end || at + sizeOf(input.shape) > size) {
          throw new ShapeError(`pack: input ${i}, ${showShape(input.shape)} at ${at}, overlaps or leaves [${size}]`);
        }
        end = at + sizeOf(input.shape);
      });
      return [size];
    },
    vjp: (node, g) => node.inputs.map((input, i) => () => view(g, node.attrs.offsets[i], input.shape)),
    reference: (inputs, { offsets }, out) => {
      inputs.forEach((input, i) => {
        for (let k = 0; k < input.data.length; k++) out.data[offsets[i] + k] = input.data[k];
      });
    },
    roundings: () => 0,
    lowering: { pack: (node) => node.attrs.offsets },
    samples: [
      {
        inputs: [
          { shape: [3, 5], draw: 'normal' },
          { shape: [7], draw: 'normal' },
        ],
        attrs: { offsets: [1, 64], size: 80 },
      },
      { inputs: [{ shape: [2], draw: 'normal' }], attrs: { offsets: [0], size: 2 } },
    ],
    errors: [
      { shapes: [[3], [3]], attrs: { offsets: [0, 2], size: 9 }, message: /input 1, \[3\] at 2, overlaps/ },
      { shapes: [[3]], attrs: { offsets: [2], size: 4 }, message: /leaves \[4\]/ },
    ],
  },
} satisfies Record<string, Op>;

/** A view's base node and the element where it starts: views of views folded. */
export function viewBase(node: Node): { base: Node; offset: number } {
  let base = node;
  let offset = 0;
  for (;;) {
    const lowering = base.graph.ops[base.op]?.lowering;
    if (!lowering || !('view' in lowering)) return { base, offset };
    offset += lowering.view(base);
    base = base.inputs[0];
  }
}
