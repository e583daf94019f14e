/** From sizes to dispatches: what each op's row hands to the plan. Nothing here knows of graphs or gradients. */
import { type Call, grid, type Lowered, type Operand } from './kernel.ts';
import { kernels } from './table.ts';

const input = (i: number): Operand => ({ input: i });
const temp = (i: number): Operand => ({ temp: i });
const f32 = (value: number) => ({ f32: value });

/** Elements that one thread of an elementwise kernel takes, where there are threads enough. */
const elementsPerThread = 8;
/** Workgroups for elementwise kernels: `least` threads at the least, so that each place in a vector has one. */
const striding = (size: number, least = 1): [number, number, number] =>
  grid(Math.max(Math.ceil(size / elementsPerThread), Math.min(size, 4096), least));

/** Numbers of unary.wgsl's functions. */
export const unaryFunctions = {
  scale: 0,
  relu: 1,
  leakyRelu: 2,
  sigmoid: 3,
  tanh: 4,
  exp: 5,
  log: 6,
  sqrt: 7,
  rsqrt: 8,
  square: 9,
  reciprocal: 10,
  abs: 11,
} as const;

export function unary(name: keyof typeof unaryFunctions, size: number, a = 0, b = 0): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.unary,
        constants: { FUNCTION: unaryFunctions[name] },
        params: [size, f32(a), f32(b)],
        workgroups: striding(size),
        buffers: [input(0), 'out'],
        flops: size,
        bytes: 8 * size,
      },
    ],
  };
}

/** Numbers of binary.wgsl's functions. */
export const binaryFunctions = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  leakyReluGrad: 4,
  sigmoidGrad: 5,
  equal: 6,
  reluGrad: 7,
} as const;

/**
 * Axes of an output shape folded so that each operand's strides stay regular: NumPy's broadcasting in at most four axes.
 * Returns the folded dimensions and each operand's strides, or null where more than four are left.
 */
export function collapse(
  out: readonly number[],
  operands: readonly (readonly number[])[],
): { dims: number[]; strides: number[][] } | null {
  const full = operands.map((shape) => [...new Array<number>(out.length - shape.length).fill(1), ...shape]);
  const dims: number[] = [];
  const repeats: boolean[][] = [];
  for (let axis = 0; axis < out.length; axis++) {
    if (out[axis] === 1) continue;
    const pattern = full.map((shape) => shape[axis] === 1);
    const last = repeats[repeats.length - 1];
    if (last?.every((r, i) => r === pattern[i])) dims[dims.length - 1] *= out[axis];
    else {
      dims.push(out[axis]);
      repeats.push(pattern);
    }
  }
  if (dims.length > 4) return null;
  while (dims.length < 4) {
    dims.unshift(1);
    repeats.unshift(operands.map(() => true));
  }
  const strides = operands.map((_, i) => {
    let stride = 1;
    const result = [0, 0, 0, 0];
    for (let axis = 3; axis >= 0; axis--) {
      if (repeats[axis][i]) continue;
      result[axis] = stride;
      stride *= dims[axis];
    }
    return result;
  });
  return { dims, strides };
}

export function binary(
  name: keyof typeof binaryFunctions,
  out: readonly number[],
  a: readonly number[],
  b: readonly number[],
  alpha = 0,
): Lowered {
  const { dims, strides } = collapse(out, [a, b])!;
  const size = dims[0] * dims[1] * dims[2] * dims[3];
  const whole = [product(a) === size, product(b) === size];
  const vector = (i: number): boolean => [a, b].map(product)[i] === dims[3] && strides[i][3] === 1;
  const repeat = whole[0] && whole[1] ? 0 : whole[0] && vector(1) ? 1 : whole[1] && vector(0) ? 2 : 3;
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.binary,
        constants: { FUNCTION: binaryFunctions[name], REPEAT: repeat },
        params: [size, f32(alpha), dims[1], dims[2], dims[3], ...strides[0], ...strides[1]],
        workgroups: striding(size, repeat === 1 || repeat === 2 ? dims[3] : 1),
        buffers: [input(0), input(1), 'out'],
        flops: size,
        bytes: 4 * (size + product(a) + product(b)),
      },
    ],
  };
}

export function expand(out: readonly number[], x: readonly number[]): Lowered {
  const { dims, strides } = collapse(out, [x])!;
  const size = dims[0] * dims[1] * dims[2] * dims[3];
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.expand,
        params: [size, dims[1], dims[2], dims[3], ...strides[0]],
        workgroups: grid(size),
        buffers: [input(0), 'out'],
        bytes: 4 * (size + product(x)),
      },
    ],
  };
}

/** Terms that one thread of a reduction adds: the depth of each pass. */
const reductionDepth = 64;
/** Outputs from which on a reduction has threads enough without splitting. */
const enoughThreads = 16_384;

/** Passes of a sum or maximum over the middle axis of [outer, reduce, inner], from `from` to `to`. */
function reducePasses(
  outer: number,
  reduce: number,
  inner: number,
  factor: number,
  maximum: boolean,
  from: Operand,
  to: Operand,
  temps: number[],
): Call[] {
  const calls: Call[] = [];
  let source = from;
  let left = reduce;
  for (;;) {
    const whole = left <= reductionDepth || outer * inner >= enoughThreads;
    const splits = whole ? 1 : Math.ceil(left / reductionDepth);
    const target: Operand = whole ? to : temp(temps.push(outer * splits * inner) - 1);
    calls.push({
      kernel: kernels.reduce,
      constants: { MAXIMUM: maximum ? 1 : 0 },
      params: [outer, left, inner, splits, f32(whole ? factor : 1)],
      workgroups: grid(outer * splits * inner),
      buffers: [source, target],
      flops: outer * left * inner,
      bytes: 4 * outer * inner * (left + splits),
    });
    if (whole) return calls;
    source = target;
    left = splits;
  }
}

/** Number of additions that an element of such a sum goes through, for its error bound. */
export function reduceDepth(outer: number, reduce: number, inner: number): number {
  if (outer * inner >= enoughThreads) return reduce;
  let depth = 0;
  for (let left = reduce; left > 1; left = Math.ceil(left / reductionDepth)) depth += Math.min(left, reductionDepth);
  return depth;
}

export function reduce(outer: number, length: number, inner: number, maximum: boolean, factor = 1): Lowered {
  const temps: number[] = [];
  return { calls: reducePasses(outer, length, inner, factor, maximum, input(0), 'out', temps), temps };
}

/** Threads below which a matrix product is split along its depth: 8 workgroups. */
const fewThreads = 512;

/** y [rows, columns] = x [rows, depth]·w [depth, columns]; transposed factors are stored the other way round. */
export function dense(rows: number, columns: number, depth: number, transposeX: boolean, transposeW: boolean): Lowered {
  const threads = Math.ceil(rows / 8) * Math.ceil(columns / 8);
  // At least 64 products a stretch, or adding the shares up costs more than it saves.
  const splits = Math.max(1, Math.min(Math.floor(depth / 64), Math.floor(fewThreads / threads)));
  const temps: number[] = [];
  const target: Operand = splits === 1 ? 'out' : temp(temps.push(splits * rows * columns) - 1);
  const vec4 = !transposeW && columns % 4 === 0 && (!transposeX || rows % 4 === 0);
  const calls: Call[] = [
    {
      ...(vec4
        ? { kernel: transposeX ? kernels.denseVec4Transposed : kernels.denseVec4 }
        : {
            kernel: kernels.dense,
            constants: { TRANSPOSE_X: transposeX ? 1 : 0, TRANSPOSE_W: transposeW ? 1 : 0 },
          }),
      params: [rows, columns, depth, splits],
      workgroups: grid(splits * threads),
      buffers: [input(0), input(1), target],
      flops: 2 * rows * columns * depth,
      bytes: 4 * (rows * depth + depth * columns + rows * columns),
    },
  ];
  if (splits > 1) calls.push(...reducePasses(1, splits, rows * columns, 1, false, target, 'out', temps));
  return { temps, calls };
}

/** Sizes of a convolution, image x to output y. */
export interface ConvSizes {
  batch: number;
  height: number;
  width: number;
  channels: number;
  outHeight: number;
  outWidth: number;
  outChannels: number;
  kernelHeight: number;
  kernelWidth: number;
  strideH: number;
  strideW: number;
  top: number;
  left: number;
}

const convParams = (s: ConvSizes): number[] => [
  s.batch,
  s.height,
  s.width,
  s.channels,
  s.outHeight,
  s.outWidth,
  s.outChannels,
  s.kernelHeight,
  s.kernelWidth,
  s.strideH,
  s.strideW,
  s.top,
  s.left,
];

/** Operations and least bytes of each of the three convolutions, padding counted as if it were multiplied. */
function convCost(s: ConvSizes): { flops: number; bytes: number } {
  const taps = s.kernelHeight * s.kernelWidth * s.channels;
  const positions = s.batch * s.outHeight * s.outWidth;
  const image = s.batch * s.height * s.width * s.channels;
  return {
    flops: 2 * positions * taps * s.outChannels,
    bytes: 4 * (image + taps * s.outChannels + positions * s.outChannels),
  };
}

/** Whether tiles of 8 images leave little idle: at most a quarter of them. */
const fillsTiles = (batch: number): boolean => batch / (8 * Math.ceil(batch / 8)) >= 0.75;

export function conv2d(s: ConvSizes): Lowered {
  const vec4 = s.outChannels % 4 === 0 && fillsTiles(s.batch);
  const places = s.outHeight * s.outWidth;
  const tiles = vec4 ? Math.ceil(s.batch / 8) * places : Math.ceil((s.batch * places) / 8);
  return {
    temps: [],
    calls: [
      {
        kernel: vec4 ? kernels.conv2dVec4 : kernels.conv2d,
        params: convParams(s),
        workgroups: grid(tiles * Math.ceil(s.outChannels / 8)),
        buffers: [input(0), input(1), 'out'],
        ...convCost(s),
      },
    ],
  };
}

export function conv2dInputGrad(s: ConvSizes): Lowered {
  const positions = s.batch * s.outHeight * s.outWidth;
  const taps = s.kernelHeight * s.kernelWidth * s.channels;
  // Few image channels: a matrix product and a gather, while what lies between them fits the default binding limit.
  if (s.channels <= 4 && positions * taps <= 1 << 25) {
    const product = temp(0);
    return {
      temps: [positions * taps],
      calls: [
        {
          kernel: kernels.dense,
          constants: { TRANSPOSE_X: 0, TRANSPOSE_W: 1 },
          params: [positions, taps, s.outChannels, 1],
          workgroups: grid(Math.ceil(positions / 8) * Math.ceil(taps / 8)),
          buffers: [input(0), input(1), product],
          ...convCost(s),
        },
        {
          kernel: kernels.conv2dInputGradGather,
          params: convParams(s),
          workgroups: grid(s.batch * s.height * s.width * s.channels),
          buffers: [product, 'out'],
        },
      ],
    };
  }
  const across = Math.ceil(s.channels / 8);
  if (s.channels % 4 !== 0 || !fillsTiles(s.batch)) {
    // Positions of one phase (row and column modulo the strides), of the largest.
    const phase = s.batch * Math.ceil(s.height / s.strideH) * Math.ceil(s.width / s.strideW);
    const workgroups = grid(Math.ceil(phase / 8) * s.strideH * s.strideW * across);
    const buffers: Operand[] = [input(0), input(1), 'out'];
    return {
      temps: [],
      calls: [{ kernel: kernels.conv2dInputGrad, params: convParams(s), workgroups, buffers, ...convCost(s) }],
    };
  }
  const swapped = temp(0);
  const size = taps * s.outChannels;
  return {
    temps: [size],
    calls: [
      {
        kernel: kernels.filterSwap,
        params: [size, s.channels, s.outChannels],
        workgroups: grid(size),
        buffers: [input(1), swapped],
      },
      {
        kernel: kernels.conv2dInputGradVec4,
        params: convParams(s),
        workgroups: grid(Math.ceil(s.batch / 8) * s.height * s.width * across),
        buffers: [input(0), swapped, 'out'],
        ...convCost(s),
      },
    ],
  };
}

export function conv2dWeightGrad(s: ConvSizes): Lowered {
  const taps = s.kernelHeight * s.kernelWidth * s.channels;
  const fours = s.channels % 4 === 0 && s.outChannels % 4 === 0;
  const tiles = fours ? s.kernelHeight * s.kernelWidth * Math.ceil(s.channels / 8) : Math.ceil(taps / 8);
  const threads = tiles * Math.ceil(s.outChannels / 8);
  // Few taps leave few threads, and long sums lose digits: share the positions out, whole rows of the output at a time, as
  // far as the shares fit the default binding limit.
  const wanted = Math.max(Math.floor(4096 / threads), Math.ceil((s.batch * s.outHeight * s.outWidth) / 16_384));
  const most = Math.min(s.batch * s.outHeight, Math.floor((1 << 25) / (taps * s.outChannels)));
  const splits = Math.max(1, Math.min(wanted, most));
  const temps: number[] = [];
  const target: Operand = splits === 1 ? 'out' : temp(temps.push(splits * taps * s.outChannels) - 1);
  const calls: Call[] = [
    {
      kernel: fours ? kernels.conv2dWeightGradVec4 : kernels.conv2dWeightGrad,
      params: [...convParams(s), splits],
      workgroups: grid(splits * threads),
      buffers: [input(0), input(1), target],
      ...convCost(s),
    },
  ];
  if (splits > 1) calls.push(...reducePasses(1, splits, taps * s.outChannels, 1, false, target, 'out', temps));
  return { temps, calls };
}

/** Shares of the rows in a sum over rows per channel. */
function rowSplits(rows: number, channels: number): number {
  return channels >= enoughThreads ? 1 : Math.ceil(rows / reductionDepth);
}

/** [2, channels] of x [rows, channels]. */
export function moments(rows: number, channels: number): Lowered {
  const temps: number[] = [channels];
  const mean = temp(0);
  const calls = reducePasses(1, rows, channels, 1 / rows, false, input(0), mean, temps);
  const splits = rowSplits(rows, channels);
  const shares = temp(temps.push(splits * channels) - 1);
  calls.push({
    kernel: kernels.momentsCentred,
    params: [rows, channels, splits],
    workgroups: grid(splits * channels),
    buffers: [input(0), mean, shares],
    flops: 3 * rows * channels,
    bytes: 4 * rows * channels,
  });
  const squares = temp(temps.push(channels) - 1);
  calls.push(...reducePasses(1, splits, channels, 1, false, shares, squares, temps));
  calls.push({
    kernel: kernels.momentsJoin,
    params: [rows, channels, splits],
    workgroups: grid(channels),
    buffers: [squares, mean, 'out'],
    bytes: 16 * channels,
  });
  return { temps, calls };
}

export function normalise(size: number, channels: number, eps: number): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.normalise,
        params: [size, channels, f32(eps)],
        workgroups: striding(size, channels),
        buffers: [input(0), input(1), input(2), input(3), 'out'],
        flops: 4 * size,
        bytes: 8 * size,
      },
    ],
  };
}

/** g, x, stats → [2, channels]. */
export function batchNormSums(rows: number, channels: number, eps: number): Lowered {
  const splits = rowSplits(rows, channels);
  const temps: number[] = [];
  const target: Operand = splits === 1 ? 'out' : temp(temps.push(splits * 2 * channels) - 1);
  const calls: Call[] = [
    {
      kernel: kernels.batchNormSums,
      params: [rows, channels, splits, f32(eps)],
      workgroups: grid(splits * channels),
      buffers: [input(0), input(1), input(2), target],
      flops: 5 * rows * channels,
      bytes: 8 * rows * channels,
    },
  ];
  if (splits > 1) calls.push(...reducePasses(1, splits, 2 * channels, 1, false, target, 'out', temps));
  return { temps, calls };
}

/** g, x, stats, gamma, sums → dx. */
export function batchNormApplyGrad(rows: number, channels: number, eps: number): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.batchNormApplyGrad,
        params: [rows, channels, 1, f32(eps)],
        workgroups: striding(rows * channels, channels),
        buffers: [input(0), input(1), input(2), input(3), input(4), 'out'],
        flops: 8 * rows * channels,
        bytes: 12 * rows * channels,
      },
    ],
  };
}

export function random(size: number, normal: boolean, stream: number, key: readonly [number, number]): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.random,
        constants: { NORMAL: normal ? 1 : 0 },
        params: [size, stream, key[0], key[1]],
        workgroups: grid(Math.ceil(size / 4)),
        buffers: [input(0), 'out'],
        bytes: 4 * size,
      },
    ],
  };
}

/** Half the bits of sampleRows' Feistel network for so many rows. */
export const feistelHalfBits = (rows: number): number => Math.max(1, Math.ceil(Math.log2(Math.max(2, rows)) / 2));

export function sampleRows(a: {
  rows: number;
  batch: number;
  draw: number;
  draws: number;
  stream: number;
  key: readonly [number, number];
}): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.sampleRows,
        params: [a.rows, a.batch, a.draw, a.draws, a.stream, a.key[0], a.key[1], feistelHalfBits(a.rows)],
        workgroups: grid(a.batch),
        buffers: [input(0), 'out'],
        bytes: 4 * a.batch,
      },
    ],
  };
}

export function unfold(batch: number, elements: number, counts: number): Lowered {
  const size = batch * elements * counts;
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.unfold,
        params: [size, elements, counts],
        workgroups: grid(size),
        buffers: [input(0), input(1), 'out'],
        bytes: 4 * size + 20 * batch,
      },
    ],
  };
}

export function decode(batch: number, elements: number, counts: number, rule: 'paper' | 'argmax'): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.decode,
        params: [batch, elements, counts, rule === 'paper' ? 0 : 1],
        workgroups: grid(batch),
        buffers: [input(0), 'out'],
        bytes: 4 * batch * elements * counts + 16 * batch,
      },
    ],
  };
}

export function increment(): Lowered {
  return {
    temps: [],
    calls: [{ kernel: kernels.increment, params: [0], workgroups: [1, 1, 1], buffers: ['out'], bytes: 16 }],
  };
}

export function ema(size: number, decay: number): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.ema,
        params: [size, f32(1 - decay)],
        workgroups: grid(size),
        buffers: ['out', input(1)],
        flops: 3 * size,
        bytes: 12 * size,
      },
    ],
  };
}

export function optimiser(
  name: 'adam' | 'rmsProp' | 'sgd',
  size: number,
  a: {
    every: number;
    offset: number;
    learningRate: number;
    decayFrom: number;
    decayTo: number;
    clip: number;
    beta1: number;
    beta2: number;
    eps: number;
  },
): Lowered {
  const floats = [
    a.learningRate,
    a.decayFrom,
    a.decayTo,
    a.clip,
    a.beta1,
    a.beta2,
    1 - a.beta1,
    1 - a.beta2,
    a.eps,
  ].map(f32);
  return {
    temps: [],
    calls: [
      {
        kernel: kernels[name],
        params: [size, a.every, a.offset, ...floats],
        workgroups: striding(size),
        buffers: ['out', input(1), input(2)],
        flops: (name === 'adam' ? 12 : 7) * size,
        bytes: (name === 'adam' ? 28 : 20) * size,
      },
    ],
  };
}

const product = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);
