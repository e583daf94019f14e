/** From sizes to dispatches: what each op's row hands to the plan. Nothing here knows of graphs or gradients. */
import type { AdapterInfo } from './device.ts';
import { type Call, grid, type Kernel, type Lowered, type Operand } from './kernel.ts';
import {
  type SubgroupProduct,
  subgroupCall,
  subgroupEntries,
  subgroupGroups,
  subgroupLanes,
  subgroupName,
  subgroupUse,
} from './subgroup.ts';
import { kernels } from './table.ts';
import {
  type ConvSizes,
  conv2dInputGradProduct,
  conv2dProduct,
  conv2dWeightGradProduct,
  convConstants,
  cutName,
  cuts,
  denseProduct,
  type Epilogue,
  finishConstants,
  finishFiles,
  type TiledProduct,
  tiledCall,
} from './tile.ts';

export type { ConvSizes, Epilogue } from './tile.ts';

/** What a plan is made for: it decides which of an op's variants runs. */
export interface Target {
  /** A processor that plays a GPU: it likes other kernels. */
  software: boolean;
  /** Whether kernels by subgroups of eight lanes are on offer (shaders/subgroup.wgsl). */
  subgroups?: boolean;
  /** The variant to take among those named, the likeliest fastest first; undefined for the first one. */
  choose?: (op: string, sizes: string, names: readonly string[]) => string | undefined;
}

/** What a plan on an adapter is made for, before anybody chooses. */
export const targetOf = ({ software, subgroupSize }: AdapterInfo): Target => ({
  software,
  subgroups: software && subgroupSize === subgroupLanes,
});

/** Where nobody says what for: the kernels that run anywhere. */
const anywhere: Target = { software: true };

/** Ops whose kernels come in variants. */
export const tunedOps = [
  'dense',
  'conv2d',
  'conv2dInputGrad',
  'conv2dWeightGrad',
  'sum',
  'moments',
  'batchNormSums',
] as const;

/** One way to compute an op. Made when chosen. */
interface Variant {
  name: string;
  make: () => Lowered;
}

/** The target's choice; the same sizes of the same op always get the same one. */
function pick(target: Target, op: (typeof tunedOps)[number], sizes: object, variants: readonly Variant[]): Lowered {
  const names = variants.map(({ name }) => name);
  const chosen = names.length > 1 ? target.choose?.(op, Object.values(sizes).join(','), names) : undefined;
  return (variants.find(({ name }) => name === chosen) ?? variants[0]).make();
}

/** A kernel with an epilogue's files in place of `finishNone`. */
const finishing = new Map<string, Kernel>();
function withFinish(kernel: Kernel, epilogue: Epilogue | undefined): Pick<Call, 'kernel' | 'constants'> {
  const files = kernel.files.flatMap((file) => (file === 'finishNone' ? finishFiles(epilogue) : [file]));
  const key = `${files.join('+')}:${kernel.entry}`;
  let made = finishing.get(key);
  if (!made) {
    made = { ...kernel, files, bindings: epilogue ? [...kernel.bindings, 'read'] : kernel.bindings };
    finishing.set(key, made);
  }
  return { kernel: made, constants: finishConstants(epilogue) };
}
const finishInputs = (epilogue: Epilogue | undefined): Operand[] => (epilogue ? [input(2)] : []);

/** The epilogue as a pass of its own, for kernels that have no room for it. */
function finishApart({ temps, calls }: Lowered, size: number, columns: number, epilogue?: Epilogue): Lowered {
  if (!epilogue) return { temps, calls };
  const plain = temp(temps.length);
  const work = { workgroups: striding(size), flops: 2 * size };
  const last: Call = epilogue.mask
    ? {
        ...binary(epilogue.alpha === 0 ? 'reluGrad' : 'leakyReluGrad', [size], [size], [size], epilogue.alpha).calls[0],
        buffers: [input(2), plain, 'out'],
      }
    : {
        ...work,
        kernel: kernels.biasActivate,
        constants: finishConstants(epilogue),
        params: [size, columns],
        buffers: [plain, input(2), 'out'],
        bytes: 8 * size,
      };
  const moved = calls.map((call) => ({
    ...call,
    buffers: call.buffers.map((operand) => (operand === 'out' ? plain : operand)),
  }));
  return { temps: [...temps, size], calls: [...moved, last] };
}

/** The second input with its last two axes swapped, in a scratch tensor; `temps` grows by it. */
function swapped([pages, rows, columns]: readonly [number, number, number], temps: number[]): Call {
  const size = pages * rows * columns;
  return {
    kernel: kernels.filterSwap,
    params: [size, rows, columns],
    workgroups: grid(size),
    buffers: [input(1), temp(temps.push(size) - 1)],
  };
}

/** A product in tiles, cut in each way on offer, the likeliest fastest first. */
const tileVariants = ({ software }: Target, product: TiledProduct, epilogue?: Epilogue): Variant[] =>
  cuts(product, software).map((cut) => ({
    name: cutName(cut),
    make: () => {
      const temps: number[] = [];
      const calls: Call[] = [];
      const factors = [input(0), input(1)];
      if (cut.panel && product.swap) {
        calls.push(swapped(product.swap, temps));
        factors[1] = temp(0);
      }
      if (cut.shares === 1) {
        calls.push(tiledCall(product, cut, [...factors, 'out'], software, epilogue));
        return { temps, calls };
      }
      const { size } = product;
      const shares = temp(temps.push(cut.shares * size) - 1);
      calls.push(tiledCall(product, cut, [...factors, shares], software), {
        kernel: !epilogue ? kernels.addShares : epilogue.mask ? kernels.addSharesMasked : kernels.addSharesBiased,
        constants: finishConstants(epilogue),
        params: [size, cut.shares, product.n],
        workgroups: grid(size),
        buffers: [shares, ...finishInputs(epilogue), 'out'],
        flops: size * (cut.shares - 1),
        bytes: 4 * size * (cut.shares + 1),
      });
      return { temps, calls };
    },
  }));

/** Products that a subgroup makes for nothing: up to this share, it still wins. */
const worthSubgroups = 0.5;
/** Workgroups of subgroups from which on no core is left idle for long. */
const enoughSubgroups = 16;

/** What a product by subgroups needs beside its sizes: shares of the sum where groups are few, and a filter or factor turned first. */
interface BySubgroups extends Omit<SubgroupProduct, 'params' | 'constants' | 'flops' | 'bytes'> {
  size: number;
  /** Parameters and constants of the shader, for so many shares. */
  params: (splits: number) => readonly number[];
  constants?: Readonly<Record<string, number>>;
  /** Whether memory has the left factor's terms in pairs, or its rows in fours. */
  even: boolean;
  /** Shares that the sum allows. */
  leastSplits?: number;
  mostSplits: number;
  /** The right factor's last two axes, where they have to be swapped: [pages, rows, columns]. */
  swap?: readonly [number, number, number];
  cost: { flops: number; bytes: number };
}

/** A product by subgroups, where the adapter offers them: before or after the others, by the share of lanes that it uses. */
function withSubgroups(
  { subgroups }: Target,
  others: readonly Variant[],
  product: BySubgroups | undefined,
  epilogue?: Epilogue,
): readonly Variant[] {
  if (!subgroups || !product) return others;
  const { m, n, times, size, swap, cost } = product;
  const variants = subgroupEntries(m, n, product.even).map((entry): Variant => {
    const make = (): Lowered => {
      const wanted = Math.floor(enoughSubgroups / (subgroupGroups(m, n, entry) * times));
      const splits = Math.max(1, product.leastSplits ?? 1, Math.min(product.mostSplits, wanted));
      const temps: number[] = [];
      const calls: Call[] = [];
      let right = input(1);
      if (swap) {
        calls.push(swapped(swap, temps));
        right = temp(0);
      }
      const joined = splits === 1 ? epilogue : undefined;
      const to: Operand = splits === 1 ? 'out' : temp(temps.push(splits * size) - 1);
      const whole = { ...product, times: times * splits, params: product.params(splits), ...cost };
      calls.push(subgroupCall(whole, entry, [input(0), right, to], joined));
      if (splits > 1) calls.push(...reducePasses(1, splits, size, 1, false, to, 'out', temps));
      return joined ? { temps, calls } : finishApart({ temps, calls }, size, n, epilogue);
    };
    return { name: subgroupName(entry), make };
  });
  return subgroupUse(m, n) >= worthSubgroups ? [...variants, ...others] : [...others, ...variants];
}

const single = (call: Call): Lowered => ({ temps: [], calls: [call] });

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

export function reduce(
  outer: number,
  length: number,
  inner: number,
  maximum: boolean,
  factor = 1,
  target: Target = anywhere,
): Lowered {
  const temps: number[] = [];
  const threads: Variant = {
    name: 'threads',
    make: () => ({ calls: reducePasses(outer, length, inner, factor, maximum, input(0), 'out', temps), temps }),
  };
  if (maximum || length <= 32 || outer * inner >= 1 << 16) return threads.make();
  const tree: Variant = {
    name: 'tree',
    make: () => ({ calls: treePasses(outer, length, inner, factor, input(0), 'out', temps), temps }),
  };
  return pick(target, 'sum', { outer, length, inner }, target.software ? [threads, tree] : [tree, threads]);
}

/** Threads of a workgroup that sums by a tree. */
const treeThreads = 256;
/** Columns and rows of such a workgroup for `inner` neighbours; the rows are a power of two. */
function treeLanes(inner: number): { LX: number; LY: number } {
  const LX = Math.min(32, 2 ** Math.ceil(Math.log2(inner)));
  return { LX, LY: treeThreads / LX };
}
/** Shares of a sum over `length`, each of a workgroup: at most 64 terms a thread, fewer where that fills a device. */
function treeShares(length: number, inner: number): number {
  const { LY } = treeLanes(inner);
  if (length <= 32 * LY) return 1;
  return Math.max(Math.min(256, Math.ceil(length / (16 * LY))), Math.ceil(length / (64 * LY)));
}

/** Passes of a sum over the middle axis of [outer, length, inner] by whole workgroups. */
function treePasses(
  outer: number,
  length: number,
  inner: number,
  factor: number,
  from: Operand,
  to: Operand,
  temps: number[],
): Call[] {
  const calls: Call[] = [];
  const lanes = treeLanes(inner);
  let source = from;
  let left = length;
  for (;;) {
    const splits = treeShares(left, inner);
    const target: Operand = splits === 1 ? to : temp(temps.push(outer * splits * inner) - 1);
    calls.push({
      kernel: kernels.reduceTree,
      constants: lanes,
      params: [outer, left, inner, splits, f32(splits === 1 ? factor : 1)],
      workgroups: grid(Math.ceil(inner / lanes.LX) * outer * splits, 1),
      buffers: [source, target],
      flops: outer * left * inner,
      bytes: 4 * outer * inner * (left + splits),
    });
    if (splits === 1) return calls;
    source = target;
    left = splits;
  }
}

/** Threads below which a matrix product is split along its depth: 8 workgroups. */
const fewThreads = 512;

/** y [rows, columns] = x [rows, depth]·w [depth, columns]; transposed factors are stored the other way round. */
export function dense(
  rows: number,
  columns: number,
  depth: number,
  transposeX: boolean,
  transposeW: boolean,
  target: Target = anywhere,
  epilogue?: Epilogue,
): Lowered {
  const cost = {
    flops: 2 * rows * columns * depth,
    bytes: 4 * (rows * depth + depth * columns + rows * columns),
  };
  const product = denseProduct(rows, columns, depth, transposeX, transposeW, cost);
  const tiles = tileVariants(target, product, epilogue);
  const threads = {
    name: 'threads',
    make: () => denseByThreads(rows, columns, depth, transposeX, transposeW, epilogue),
  };
  const dots: Variant[] = [];
  if (!transposeX && (transposeW || columns === 1) && depth >= 128 && rows * columns <= 8192) {
    const call: Call = {
      ...withFinish(kernels.denseDot, epilogue),
      params: [rows, columns, depth],
      workgroups: grid(rows * columns, 1),
      buffers: [input(0), input(1), 'out', ...finishInputs(epilogue)],
      ...cost,
    };
    const constants = { ...call.constants, LX: 1, LY: 128 };
    dots.push({ name: 'dot', make: () => single({ ...call, constants }) });
  }
  const sizes = { rows, columns, depth, x: Number(transposeX), w: Number(transposeW) };
  const others = target.software ? [threads, ...tiles, ...dots] : [...dots, ...tiles, threads];
  const bySubgroups: BySubgroups | undefined =
    columns % 4 === 0
      ? {
          problem: 'Dense',
          m: rows,
          n: columns,
          times: 1,
          size: rows * columns,
          params: (splits) => [rows, columns, depth, splits],
          constants: { LEFT_TRANSPOSED: Number(transposeX) },
          even: true,
          mostSplits: Math.floor(depth / 64),
          swap: transposeW ? [1, columns, depth] : undefined,
          cost,
        }
      : undefined;
  return pick(target, 'dense', sizes, withSubgroups(target, others, bySubgroups, epilogue));
}

/** A product of 8×8 outputs a thread, without workgroup memory. */
function denseByThreads(
  rows: number,
  columns: number,
  depth: number,
  transposeX: boolean,
  transposeW: boolean,
  epilogue?: Epilogue,
): Lowered {
  const threads = Math.ceil(rows / 8) * Math.ceil(columns / 8);
  // At least 64 products a stretch, or adding the shares up costs more than it saves.
  const splits = Math.max(1, Math.min(Math.floor(depth / 64), Math.floor(fewThreads / threads)));
  const temps: number[] = [];
  const target: Operand = splits === 1 ? 'out' : temp(temps.push(splits * rows * columns) - 1);
  const vec4 = !transposeW && columns % 4 === 0 && (!transposeX || rows % 4 === 0);
  const fused = vec4 && splits === 1 ? epilogue : undefined;
  const calls: Call[] = [
    {
      ...(vec4
        ? withFinish(transposeX ? kernels.denseVec4Transposed : kernels.denseVec4, fused)
        : {
            kernel: kernels.dense,
            constants: { TRANSPOSE_X: transposeX ? 1 : 0, TRANSPOSE_W: transposeW ? 1 : 0 },
          }),
      params: [rows, columns, depth, splits],
      workgroups: grid(splits * threads),
      buffers: [input(0), input(1), target, ...finishInputs(fused)],
      flops: 2 * rows * columns * depth,
      bytes: 4 * (rows * depth + depth * columns + rows * columns),
    },
  ];
  if (splits > 1) calls.push(...reducePasses(1, splits, rows * columns, 1, false, target, 'out', temps));
  return fused ? { temps, calls } : finishApart({ temps, calls }, rows * columns, columns, epilogue);
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

export function conv2d(s: ConvSizes, target: Target = anywhere, epilogue?: Epilogue): Lowered {
  const places = s.outHeight * s.outWidth;
  const size = s.batch * places * s.outChannels;
  const workgroups = (tiles: number): Call['workgroups'] => grid(tiles * Math.ceil(s.outChannels / 8));
  const call = { params: convParams(s), ...convCost(s) };
  const images: Variant = {
    name: 'images',
    make: () =>
      single({
        ...call,
        ...withFinish(kernels.conv2dVec4, epilogue),
        workgroups: workgroups(Math.ceil(s.batch / 8) * places),
        buffers: [input(0), input(1), 'out', ...finishInputs(epilogue)],
      }),
  };
  const positions: Variant = {
    name: 'positions',
    make: () =>
      finishApart(
        single({
          ...call,
          kernel: kernels.conv2d,
          workgroups: workgroups(Math.ceil((s.batch * places) / 8)),
          buffers: [input(0), input(1), 'out'],
        }),
        size,
        s.outChannels,
        epilogue,
      ),
  };
  const threads =
    s.outChannels % 4 !== 0 ? [positions] : fillsTiles(s.batch) ? [images, positions] : [positions, images];
  const tiles = tileVariants(target, conv2dProduct(s, convCost(s)), epilogue);
  const others = target.software ? [...threads, ...tiles] : [...tiles, ...threads];
  const bySubgroups: BySubgroups | undefined =
    s.outChannels % 4 === 0
      ? {
          problem: 'Conv2d',
          m: s.batch,
          n: s.outChannels,
          times: places,
          size,
          params: () => convParams(s),
          even: s.channels % 2 === 0,
          mostSplits: 1,
          cost: convCost(s),
        }
      : undefined;
  return pick(target, 'conv2d', s, withSubgroups(target, others, bySubgroups, epilogue));
}

export function conv2dInputGrad(s: ConvSizes, target: Target = anywhere, epilogue?: Epilogue): Lowered {
  const positions = s.batch * s.outHeight * s.outWidth;
  const taps = s.kernelHeight * s.kernelWidth * s.channels;
  const size = s.batch * s.height * s.width * s.channels;
  const across = Math.ceil(s.channels / 8);
  const cost = convCost(s);
  const variants: Variant[] = [];
  // Few image channels: a matrix product and a gather, while what lies between them fits the default binding limit.
  const gather: Variant = {
    name: 'product and gather',
    make: () => {
      const product = temp(0);
      const calls: Call[] = [
        {
          kernel: kernels.dense,
          constants: { TRANSPOSE_X: 0, TRANSPOSE_W: 1 },
          params: [positions, taps, s.outChannels, 1],
          workgroups: grid(Math.ceil(positions / 8) * Math.ceil(taps / 8)),
          buffers: [input(0), input(1), product],
          ...cost,
        },
        {
          kernel: kernels.conv2dInputGradGather,
          params: convParams(s),
          workgroups: grid(size),
          buffers: [product, 'out'],
        },
      ];
      return finishApart({ temps: [positions * taps], calls }, size, s.channels, epilogue);
    },
  };
  const phases: Variant = {
    name: 'phases',
    make: () => {
      // Positions of one phase (row and column modulo the strides), of the largest.
      const phase = s.batch * Math.ceil(s.height / s.strideH) * Math.ceil(s.width / s.strideW);
      const call: Call = {
        kernel: kernels.conv2dInputGrad,
        params: convParams(s),
        workgroups: grid(Math.ceil(phase / 8) * s.strideH * s.strideW * across),
        buffers: [input(0), input(1), 'out'],
        ...cost,
      };
      return finishApart(single(call), size, s.channels, epilogue);
    },
  };
  const images: Variant = {
    name: 'images',
    make: () => {
      const temps: number[] = [];
      const swap = swapped([s.kernelHeight * s.kernelWidth, s.channels, s.outChannels], temps);
      return {
        temps,
        calls: [
          swap,
          {
            ...withFinish(kernels.conv2dInputGradVec4, epilogue),
            params: convParams(s),
            workgroups: grid(Math.ceil(s.batch / 8) * s.height * s.width * across),
            buffers: [input(0), temp(0), 'out', ...finishInputs(epilogue)],
            ...cost,
          },
        ],
      };
    },
  };
  const direct: Variant = {
    name: 'direct',
    make: () => {
      const { constants: finish, kernel } = withFinish(kernels.conv2dInputGradDirect, epilogue);
      // Threads of an element: a four of the output channels each, a power of two of them.
      const lanes = 2 ** Math.min(5, Math.floor(Math.log2(s.outChannels / 4)));
      return single({
        kernel,
        constants: { ...convConstants(s), ...finish, LX: lanes },
        params: [],
        workgroups: grid(size, 128 / lanes),
        buffers: [input(0), input(1), 'out', ...finishInputs(epilogue)],
        ...cost,
      });
    },
  };
  if (s.channels <= 4 && positions * taps <= 1 << 25) variants.push(gather);
  if (s.channels % 4 === 0) variants.push(...(fillsTiles(s.batch) ? [images, phases] : [phases, images]));
  else variants.push(phases);
  const tiles = tileVariants(target, conv2dInputGradProduct(s, cost), epilogue);
  const directs = s.channels <= 4 && s.outChannels % 4 === 0 ? [direct] : [];
  const others = target.software ? [...variants, ...directs, ...tiles] : [...directs, ...tiles, ...variants];
  const bySubgroups: BySubgroups | undefined =
    s.channels % 4 === 0
      ? {
          problem: 'Conv2dInputGrad',
          m: s.batch,
          n: s.channels,
          times: s.height * s.width,
          size,
          params: () => convParams(s),
          even: s.outChannels % 2 === 0,
          mostSplits: 1,
          swap: [s.kernelHeight * s.kernelWidth, s.channels, s.outChannels],
          cost,
        }
      : undefined;
  return pick(target, 'conv2dInputGrad', s, withSubgroups(target, others, bySubgroups, epilogue));
}

export function conv2dWeightGrad(s: ConvSizes, target: Target = anywhere): Lowered {
  const tiles = tileVariants(target, conv2dWeightGradProduct(s, convCost(s)));
  const threads = { name: 'threads', make: () => weightGradByThreads(s) };
  const size = s.kernelHeight * s.kernelWidth * s.channels * s.outChannels;
  const direct: Variant = {
    name: 'direct',
    make: () => {
      // As many threads as fill a large GPU twice, each with a few rows of the output at least.
      const shares = Math.max(1, Math.min(Math.ceil((s.batch * s.outHeight) / 4), Math.ceil((1 << 19) / size)));
      const temps: number[] = [];
      const to: Operand = shares === 1 ? 'out' : temp(temps.push(shares * size) - 1);
      const call: Call = {
        kernel: kernels.conv2dWeightGradDirect,
        constants: { ...convConstants(s), SHARES: shares },
        params: [],
        workgroups: grid(shares * size),
        buffers: [input(0), input(1), to],
        ...convCost(s),
      };
      return { calls: [call, ...(shares > 1 ? treePasses(1, shares, size, 1, to, 'out', temps) : [])], temps };
    },
  };
  const directs = s.channels < 4 ? [direct] : [];
  const others = target.software ? [threads, ...directs, ...tiles] : [...directs, ...tiles, threads];
  const bySubgroups: BySubgroups | undefined =
    s.outChannels % 4 === 0
      ? {
          problem: 'Conv2dWeightGrad',
          m: s.channels,
          n: s.outChannels,
          times: s.kernelHeight * s.kernelWidth,
          size,
          params: (splits) => [...convParams(s), splits],
          even: s.channels % 4 === 0,
          leastSplits: Math.min(s.batch, Math.ceil((s.batch * s.outHeight * s.outWidth) / longSum)),
          mostSplits: Math.min(s.batch, Math.floor((1 << 25) / size)),
          cost: convCost(s),
        }
      : undefined;
  return pick(target, 'conv2dWeightGrad', s, withSubgroups(target, others, bySubgroups));
}

/** Terms from which on one sum loses digits. */
const longSum = 16_384;

function weightGradByThreads(s: ConvSizes): Lowered {
  const taps = s.kernelHeight * s.kernelWidth * s.channels;
  const fours = s.channels % 4 === 0 && s.outChannels % 4 === 0;
  const tiles = fours ? s.kernelHeight * s.kernelWidth * Math.ceil(s.channels / 8) : Math.ceil(taps / 8);
  const threads = tiles * Math.ceil(s.outChannels / 8);
  // Few taps leave few threads, and long sums lose digits: share the positions out, whole rows of the output at a time, as
  // far as the shares fit the default binding limit.
  const wanted = Math.max(Math.floor(4096 / threads), Math.ceil((s.batch * s.outHeight * s.outWidth) / longSum));
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
export function moments(rows: number, channels: number, target: Target = anywhere): Lowered {
  const threads = { name: 'threads', make: () => momentsByThreads(rows, channels) };
  const tree = { name: 'tree', make: () => momentsByTree(rows, channels) };
  return pick(target, 'moments', { rows, channels }, target.software ? [threads, tree] : [tree, threads]);
}

function momentsByTree(rows: number, channels: number): Lowered {
  const lanes = treeLanes(channels);
  const splits = treeShares(rows, channels);
  const shares = temp(0);
  const across = Math.ceil(channels / lanes.LX);
  return {
    temps: [splits * 2 * channels],
    calls: [
      {
        kernel: kernels.momentsStretches,
        constants: lanes,
        params: [rows, channels, splits],
        workgroups: grid(across * splits, 1),
        buffers: [input(0), shares],
        flops: 4 * rows * channels,
        bytes: 4 * rows * channels,
      },
      {
        kernel: kernels.momentsCombine,
        constants: lanes,
        params: [rows, channels, splits],
        workgroups: [across, 1, 1],
        buffers: [shares, 'out'],
        bytes: 8 * splits * channels,
      },
    ],
  };
}

function momentsByThreads(rows: number, channels: number): Lowered {
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

/** The activation of an epilogue alone: what is normalised has its beta already. */
export function normalise(size: number, channels: number, eps: number, activation?: Epilogue): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.normalise,
        constants: finishConstants(activation),
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
export function batchNormSums(rows: number, channels: number, eps: number, target: Target = anywhere): Lowered {
  const threads = { name: 'threads', make: () => batchNormSumsByThreads(rows, channels, eps) };
  const tree = { name: 'tree', make: () => batchNormSumsByTree(rows, channels, eps) };
  return pick(target, 'batchNormSums', { rows, channels }, target.software ? [threads, tree] : [tree, threads]);
}

function batchNormSumsByTree(rows: number, channels: number, eps: number): Lowered {
  const lanes = treeLanes(channels);
  const splits = treeShares(rows, channels);
  const temps: number[] = [];
  const target: Operand = splits === 1 ? 'out' : temp(temps.push(splits * 2 * channels) - 1);
  const calls: Call[] = [
    {
      kernel: kernels.batchNormSumsTree,
      constants: lanes,
      params: [rows, channels, splits, f32(eps)],
      workgroups: grid(Math.ceil(channels / lanes.LX) * splits, 1),
      buffers: [input(0), input(1), input(2), target],
      flops: 5 * rows * channels,
      bytes: 8 * rows * channels,
    },
  ];
  if (splits > 1) calls.push(...treePasses(1, splits, 2 * channels, 1, target, 'out', temps));
  return { temps, calls };
}

function batchNormSumsByThreads(rows: number, channels: number, eps: number): Lowered {
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

/** Kinds of noise, by their number in random.wgsl. */
const noises = { randomUniform: 0, randomNormal: 1, randomMask: 2 };
export type Noise = keyof typeof noises;

/** @param rate share of zeros of a mask, 0 for other noise */
export function random(
  size: number,
  noise: Noise,
  { stream, key, rate = 0 }: { stream: number; key: readonly [number, number]; rate?: number },
): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.random,
        constants: { KIND: noises[noise] },
        params: [size, stream, key[0], key[1], f32(rate), f32(1 / (1 - rate))],
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
  first?: number;
}): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.sampleRows,
        params: [a.rows, a.batch, a.draw, a.draws, a.stream, a.key[0], a.key[1], feistelHalfBits(a.rows), a.first ?? 0],
        workgroups: grid(a.batch),
        buffers: [input(0), 'out'],
        bytes: 4 * a.batch,
      },
    ],
  };
}

export function randomFormulas(
  { batch, stream, key }: { batch: number; stream: number; key: readonly [number, number] },
  elements: number,
  counts: number,
): Lowered {
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.randomFormulas,
        params: [batch, stream, key[0], key[1], elements, counts],
        workgroups: grid(batch),
        buffers: [input(0), input(1), 'out'],
        bytes: 16 * batch + 4 * (9 + elements * (1 + counts)),
      },
    ],
  };
}

export function iota(size: number): Lowered {
  return {
    temps: [],
    calls: [{ kernel: kernels.iota, params: [size], workgroups: grid(size), buffers: ['out'], bytes: 4 * size }],
  };
}

export function unfoldDense(batch: number, columns: number, elements: number, counts: number): Lowered {
  const size = batch * columns;
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.unfoldDense,
        params: [size, columns, elements, counts],
        workgroups: grid(size),
        buffers: [input(0), input(1), input(2), 'out'],
        // Three elements a formula is what most have.
        flops: 3 * size,
        bytes: 4 * size + 20 * batch + 4 * Math.min(3 * size, elements * counts * columns),
      },
    ],
  };
}

export function gather(batch: number, columns: number): Lowered {
  const size = batch * columns;
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.gather,
        params: [size, columns],
        workgroups: grid(size),
        buffers: [input(0), input(1), 'out'],
        bytes: 8 * size + 4 * batch,
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

export function absentSoftmax(rows: number, states: number): Lowered {
  const size = rows * states;
  return {
    temps: [],
    calls: [
      {
        kernel: kernels.absentSoftmax,
        params: [rows, states],
        workgroups: grid(rows),
        buffers: [input(0), 'out'],
        flops: 4 * size,
        bytes: 8 * size,
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
