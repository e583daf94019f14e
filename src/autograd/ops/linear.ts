import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { conv2d, conv2dInputGrad, conv2dWeightGrad, dense } from '../build.ts';
import { type Attrs, type ErrorSample, type Node, type Op, type Sample, type Shape, showShape } from '../graph.ts';

function denseSizes(x: Shape, w: Shape, { transposeX, transposeW }: Attrs) {
  const [rows, depth] = transposeX ? [x[1], x[0]] : x;
  const [inner, columns] = transposeW ? [w[1], w[0]] : w;
  return { rows, depth, inner, columns };
}

const denseOp: Op = {
  summary: 'matrix product of x [rows, in] and w [in, out]; transposeX, transposeW: stored the other way round',
  shape: ([x, w], attrs) => {
    if (x.shape.length !== 2 || w.shape.length !== 2) {
      throw new ShapeError(`dense: it takes two matrices, not ${showShape(x.shape)} and ${showShape(w.shape)}`);
    }
    const { rows, depth, inner, columns } = denseSizes(x.shape, w.shape, attrs);
    if (depth !== inner) {
      throw new ShapeError(
        `dense: input ${showShape(x.shape)} has ${depth} features, weights ${showShape(w.shape)} want ${inner}`,
      );
    }
    return [rows, columns];
  },
  vjp: (node, g) => {
    const [x, w] = node.inputs;
    const { transposeX: tx, transposeW: tw } = node.attrs;
    return [
      // y = X·W; dX = g·Wᵀ, stored as x is stored.
      () =>
        tx ? dense(w, g, { transposeX: tw, transposeW: true }) : dense(g, w, { transposeX: false, transposeW: !tw }),
      () =>
        tw ? dense(g, x, { transposeX: true, transposeW: tx }) : dense(x, g, { transposeX: !tx, transposeW: false }),
    ];
  },
  reference: ([x, w], attrs, out) => {
    const { rows, depth, columns } = denseSizes(x.shape, w.shape, attrs);
    for (let m = 0; m < rows; m++) {
      for (let n = 0; n < columns; n++) {
        let total = 0;
        for (let k = 0; k < depth; k++) {
          const a = attrs.transposeX ? x.data[k * rows + m] : x.data[m * depth + k];
          const b = attrs.transposeW ? w.data[n * depth + k] : w.data[k * columns + n];
          total += a * b;
        }
        out.data[m * columns + n] = total;
      }
    }
  },
  roundings: (node) => denseSizes(node.inputs[0].shape, node.inputs[1].shape, node.attrs).depth + 1,
  lowering: {
    kernels: (node, target) => {
      const { rows, depth, columns } = denseSizes(node.inputs[0].shape, node.inputs[1].shape, node.attrs);
      const { transposeX, transposeW, epilogue } = node.attrs;
      return lower.dense(rows, columns, depth, transposeX, transposeW, target, epilogue);
    },
  },
  samples: [
    [1, 1, 1],
    [3, 65, 63],
    [64, 7, 9],
    [17, 257, 5],
    [33, 16, 24],
    [12, 130, 20],
  ].flatMap(([rows, depth, columns]) =>
    [false, true].flatMap((transposeX) =>
      [false, true].map(
        (transposeW): Sample => ({
          inputs: [
            { shape: transposeX ? [depth, rows] : [rows, depth], draw: 'normal' },
            { shape: transposeW ? [columns, depth] : [depth, columns], draw: 'normal' },
          ],
          attrs: { transposeX, transposeW },
        }),
      ),
    ),
  ),
  errors: [
    {
      shapes: [
        [2, 3],
        [4, 5],
      ],
      attrs: { transposeX: false, transposeW: false },
      message: /input \[2,3\] has 3 features, weights \[4,5\] want 4/,
    },
    { shapes: [[3], [3, 2]], attrs: { transposeX: false, transposeW: false }, message: /two matrices/ },
  ],
};

// ---- the closed triad: each is linear in each argument, and they are one another's gradients

/** Sizes from image, filter and attributes; throws where they don't go together. */
function convSizes(name: string, x: Shape, filter: Shape, { strides, padding }: Attrs): lower.ConvSizes {
  if (x.length !== 4 || filter.length !== 4) {
    throw new ShapeError(
      `${name}: it takes images [n,h,w,c] and a filter [kh,kw,in,out], not ${showShape(x)} and ${showShape(filter)}`,
    );
  }
  const whole = (v: unknown, least: number): boolean => Number.isSafeInteger(v) && (v as number) >= least;
  if (!(strides.length === 2 && strides.every((s: unknown) => whole(s, 1)))) {
    throw new ShapeError(`${name}: strides ${showShape(strides)} are not two whole numbers of at least 1`);
  }
  if (!(padding.length === 4 && padding.every((s: unknown) => whole(s, 0)))) {
    throw new ShapeError(`${name}: padding ${showShape(padding)} is not top, bottom, left, right of at least 0`);
  }
  const [batch, height, width, channels] = x;
  const [kernelHeight, kernelWidth, , outChannels] = filter;
  if (channels !== filter[2]) {
    throw new ShapeError(
      `${name}: input ${showShape(x)} has ${channels} channel${channels === 1 ? '' : 's'}, filter ${showShape(filter)} wants ${filter[2]}`,
    );
  }
  const outHeight = Math.floor((height + padding[0] + padding[1] - kernelHeight) / strides[0]) + 1;
  const outWidth = Math.floor((width + padding[2] + padding[3] - kernelWidth) / strides[1]) + 1;
  if (outHeight < 1 || outWidth < 1) {
    throw new ShapeError(`${name}: filter ${showShape(filter)} is larger than the padded input ${showShape(x)}`);
  }
  return {
    batch,
    height,
    width,
    channels,
    outHeight,
    outWidth,
    outChannels,
    kernelHeight,
    kernelWidth,
    strideH: strides[0],
    strideW: strides[1],
    top: padding[0],
    left: padding[2],
  };
}

/** Image and filter shapes of each op of the triad, from its own inputs. */
const imageAndFilter: Record<string, (node: { inputs: readonly { shape: Shape }[]; attrs: Attrs }) => [Shape, Shape]> =
  {
    conv2d: ({ inputs: [x, f] }) => [x.shape, f.shape],
    conv2dInputGrad: ({ inputs: [y, f], attrs }) => [[y.shape[0], ...attrs.size, f.shape[2]], f.shape],
    conv2dWeightGrad: ({ inputs: [x, y], attrs }) => [x.shape, [...attrs.kernel, x.shape[3], y.shape[3]]],
  };

function sizesOf(node: Node): lower.ConvSizes {
  const [x, f] = imageAndFilter[node.op](node);
  return convSizes(node.op, x, f, node.attrs);
}

/** Refuses an output tensor that conv2d with these sizes would not make. */
function checkOutput(name: string, s: lower.ConvSizes, y: Shape): void {
  const wanted = [s.batch, s.outHeight, s.outWidth, s.outChannels];
  if (wanted.some((d, i) => d !== y[i]) || y.length !== 4) {
    throw new ShapeError(
      `${name}: output ${showShape(y)} where these sizes, strides and padding make ${showShape(wanted)}`,
    );
  }
}

/** Calls `visit` with the flat places of image, filter and output for every product of the sum. */
function eachTap(s: lower.ConvSizes, visit: (x: number, f: number, y: number) => void): void {
  for (let n = 0; n < s.batch; n++)
    for (let oh = 0; oh < s.outHeight; oh++)
      for (let ow = 0; ow < s.outWidth; ow++)
        for (let kh = 0; kh < s.kernelHeight; kh++) {
          const h = oh * s.strideH + kh - s.top;
          if (h < 0 || h >= s.height) continue;
          for (let kw = 0; kw < s.kernelWidth; kw++) {
            const w = ow * s.strideW + kw - s.left;
            if (w < 0 || w >= s.width) continue;
            for (let c = 0; c < s.channels; c++) {
              const x = ((n * s.height + h) * s.width + w) * s.channels + c;
              const f = ((kh * s.kernelWidth + kw) * s.channels + c) * s.outChannels;
              const y = ((n * s.outHeight + oh) * s.outWidth + ow) * s.outChannels;
              for (let o = 0; o < s.outChannels; o++) visit(x, f + o, y + o);
            }
          }
        }
}

/** Shapes at which the triad is tried, every kernel variant among them: odd sizes, one channel, strides above the kernel, uneven and no padding. */
const convCases: {
  x: Shape;
  f: Shape;
  y: Shape;
  strides: [number, number];
  padding: [number, number, number, number];
}[] = [
  { x: [1, 1, 1, 1], f: [1, 1, 1, 1], y: [1, 1, 1, 1], strides: [1, 1], padding: [0, 0, 0, 0] },
  { x: [2, 7, 5, 3], f: [3, 3, 3, 5], y: [2, 7, 5, 5], strides: [1, 1], padding: [1, 1, 1, 1] },
  { x: [2, 11, 8, 4], f: [5, 5, 4, 9], y: [2, 6, 4, 9], strides: [2, 2], padding: [2, 2, 1, 2] },
  { x: [1, 43, 8, 1], f: [3, 3, 1, 16], y: [1, 22, 8, 16], strides: [2, 1], padding: [1, 1, 1, 1] },
  { x: [3, 6, 9, 2], f: [2, 4, 2, 3], y: [3, 3, 2, 3], strides: [2, 5], padding: [0, 1, 0, 1] },
  { x: [1, 9, 9, 3], f: [2, 2, 3, 4], y: [1, 3, 3, 4], strides: [4, 3], padding: [1, 0, 0, 0] },
  { x: [5, 4, 3, 8], f: [3, 1, 8, 12], y: [5, 2, 3, 12], strides: [1, 1], padding: [0, 0, 0, 0] },
  // Tiles of images: two fours of channels and whole tiles, an odd number of fours and a tile not full.
  { x: [8, 6, 5, 8], f: [3, 2, 8, 8], y: [8, 3, 5, 8], strides: [2, 1], padding: [1, 0, 1, 0] },
  { x: [6, 7, 5, 12], f: [5, 5, 12, 20], y: [6, 4, 3, 20], strides: [2, 2], padding: [2, 2, 2, 2] },
  { x: [2, 5, 8, 65], f: [3, 3, 65, 17], y: [2, 3, 8, 17], strides: [2, 1], padding: [1, 1, 1, 1] },
];

function triad(
  name: string,
  summary: string,
  shape: Op['shape'],
  vjp: Op['vjp'],
  reference: Op['reference'],
  lowering: typeof lower.conv2d,
  depth: (s: lower.ConvSizes) => number,
  samples: readonly Sample[],
  errors: readonly ErrorSample[],
): Op {
  return {
    summary,
    shape,
    vjp,
    reference,
    roundings: (node) => depth(sizesOf(node)) + 1,
    lowering: { kernels: (node, target) => lowering(sizesOf({ ...node, op: name }), target, node.attrs.epilogue) },
    samples,
    errors,
  };
}

const same = { strides: [1, 1], padding: [1, 1, 1, 1] };
const normal = (shape: Shape) => ({ shape, draw: 'normal' as const });

export const linear = {
  dense: denseOp,
  conv2d: triad(
    'conv2d',
    'x [n,h,w,in] ⋆ filter [kh,kw,in,out] → [n,oh,ow,out] (cross-correlation)',
    ([x, f], attrs) => {
      const s = convSizes('conv2d', x.shape, f.shape, attrs);
      return [s.batch, s.outHeight, s.outWidth, s.outChannels];
    },
    (node, g) => {
      const [x, f] = node.inputs;
      const { strides, padding } = node.attrs;
      return [
        () => conv2dInputGrad(g, f, { strides, padding, size: [x.shape[1], x.shape[2]] }),
        () => conv2dWeightGrad(x, g, { strides, padding, kernel: [f.shape[0], f.shape[1]] }),
      ];
    },
    ([x, f], attrs, out) => {
      eachTap(convSizes('conv2d', x.shape, f.shape, attrs), (i, j, k) => {
        out.data[k] += x.data[i] * f.data[j];
      });
    },
    lower.conv2d,
    (s) => s.kernelHeight * s.kernelWidth * s.channels,
    convCases.map(({ x, f, strides, padding }) => ({ inputs: [normal(x), normal(f)], attrs: { strides, padding } })),
    [
      {
        shapes: [
          [32, 85, 8, 1],
          [3, 3, 2, 16],
        ],
        attrs: same,
        message: /conv2d: input \[32,85,8,1\] has 1 channel, filter \[3,3,2,16\] wants 2/,
      },
      {
        shapes: [
          [1, 2, 2, 1],
          [5, 5, 1, 1],
        ],
        attrs: { strides: [1, 1], padding: [0, 0, 0, 0] },
        message: /larger than the padded input/,
      },
      {
        shapes: [
          [1, 2, 2, 1],
          [1, 1, 1, 1],
        ],
        attrs: { strides: [0, 1], padding: [0, 0, 0, 0] },
        message: /strides/,
      },
    ],
  ),
  conv2dInputGrad: triad(
    'conv2dInputGrad',
    'adjoint of conv2d in its image = transposed convolution: y [n,oh,ow,out], filter [kh,kw,in,out] → [n,h,w,in]',
    ([y, f], attrs) => {
      const x: Shape = [y.shape[0], ...attrs.size, f.shape[2]];
      checkOutput('conv2dInputGrad', convSizes('conv2dInputGrad', x, f.shape, attrs), y.shape);
      return x;
    },
    (node, g) => {
      const [y, f] = node.inputs;
      const { strides, padding } = node.attrs;
      return [
        () => conv2d(g, f, { strides, padding }),
        () => conv2dWeightGrad(g, y, { strides, padding, kernel: [f.shape[0], f.shape[1]] }),
      ];
    },
    ([y, f], attrs, out) => {
      eachTap(convSizes('conv2dInputGrad', out.shape, f.shape, attrs), (i, j, k) => {
        out.data[i] += y.data[k] * f.data[j];
      });
    },
    lower.conv2dInputGrad,
    (s) => Math.ceil(s.kernelHeight / s.strideH) * Math.ceil(s.kernelWidth / s.strideW) * s.outChannels,
    convCases.map(({ x, f, y, strides, padding }) => ({
      inputs: [normal(y), normal(f)],
      attrs: { strides, padding, size: [x[1], x[2]] },
    })),
    [
      {
        shapes: [
          [1, 4, 4, 2],
          [3, 3, 1, 2],
        ],
        attrs: { ...same, size: [5, 4] },
        message: /output \[1,4,4,2\] where these sizes, strides and padding make \[1,5,4,2\]/,
      },
    ],
  ),
  conv2dWeightGrad: triad(
    'conv2dWeightGrad',
    'adjoint of conv2d in its filter: x [n,h,w,in], y [n,oh,ow,out] → [kh,kw,in,out]',
    ([x, y], attrs) => {
      const f: Shape = [...attrs.kernel, x.shape[3], y.shape[3]];
      checkOutput('conv2dWeightGrad', convSizes('conv2dWeightGrad', x.shape, f, attrs), y.shape);
      return f;
    },
    (node, g) => {
      const [x, y] = node.inputs;
      const { strides, padding } = node.attrs;
      return [
        () => conv2dInputGrad(y, g, { strides, padding, size: [x.shape[1], x.shape[2]] }),
        () => conv2d(x, g, { strides, padding }),
      ];
    },
    ([x, y], attrs, out) => {
      eachTap(convSizes('conv2dWeightGrad', x.shape, out.shape, attrs), (i, j, k) => {
        out.data[j] += x.data[i] * y.data[k];
      });
    },
    lower.conv2dWeightGrad,
    (s) => s.batch * s.outHeight * s.outWidth,
    convCases.map(({ x, f, y, strides, padding }) => ({
      inputs: [normal(x), normal(y)],
      attrs: { strides, padding, kernel: [f[0], f[1]] },
    })),
    [
      {
        shapes: [
          [2, 4, 4, 1],
          [1, 4, 4, 2],
        ],
        attrs: { ...same, kernel: [3, 3] },
        message: /output \[1,4,4,2\] where these sizes, strides and padding make \[2,4,4,2\]/,
      },
    ],
  ),
} satisfies Record<string, Op>;
