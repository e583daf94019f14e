/** Tiled products (shaders/tile.wgsl): the matrix product and the three convolutions as a GPU likes them. */
import { type Call, grid, type Kernel, type Operand } from './kernel.ts';

/** What happens to an output before it is stored: + bias (the third input), then an activation (finishBias.wgsl). */
export interface Epilogue {
  activation: 0 | 1 | 2 | 3;
  alpha: number;
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

/** Sizes as constants of a pipeline (convSizes.wgsl). */
export const convConstants = (s: ConvSizes): Record<string, number> => ({
  BATCH: s.batch,
  HEIGHT: s.height,
  WIDTH: s.width,
  CHANNELS: s.channels,
  OUT_HEIGHT: s.outHeight,
  OUT_WIDTH: s.outWidth,
  OUT_CHANNELS: s.outChannels,
  KERNEL_HEIGHT: s.kernelHeight,
  KERNEL_WIDTH: s.kernelWidth,
  STRIDE_H: s.strideH,
  STRIDE_W: s.strideW,
  TOP: s.top,
  LEFT: s.left,
});

/** What a tiled product multiplies; each has a shader file that says how its factors lie in memory. */
export type Problem = 'Dense' | 'Conv2d' | 'Conv2dInputGrad' | 'Conv2dWeightGrad';

/** Threads of a workgroup across and down, and rows and columns that each makes: tiles of edge·down × edge·across. */
interface TileShape {
  edge: 8 | 4;
  across: number;
  down: number;
}

/** Tiles on offer, the largest first. Each edge is a multiple of 32, each workgroup within WebGPU's default limits. */
export const tileShapes: readonly TileShape[] = [
  { edge: 8, across: 16, down: 16 },
  { edge: 8, across: 8, down: 16 },
  { edge: 8, across: 4, down: 16 },
  { edge: 8, across: 8, down: 8 },
  { edge: 8, across: 4, down: 8 },
  { edge: 4, across: 16, down: 16 },
  { edge: 4, across: 8, down: 16 },
  { edge: 4, across: 16, down: 8 },
  { edge: 4, across: 8, down: 8 },
];

export const tileDepth = 16;

/** `tile 128x64/8`: rows × columns / edge of a thread. */
export const tileName = ({ edge, across, down }: TileShape): string => `tile ${edge * down}x${edge * across}/${edge}`;

const tiled = new Map<string, Kernel>();
/** The kernel of a problem: any sizes or fours, with or without an epilogue. */
export function tiledKernel(problem: Problem, fours: boolean, epilogue: boolean, edge: 8 | 4): Kernel {
  const files = [
    fours ? 'tileVec4' : 'tileScalar',
    ...(epilogue ? ['activate', 'finishBias'] : ['finishNone']),
    ...(problem === 'Dense' ? [] : ['convSizes']),
    `tile${problem}`,
    'tile',
  ];
  const entry = edge === 8 ? 'eights' : 'fours';
  const key = `${files.join('+')}:${entry}`;
  let kernel = tiled.get(key);
  if (!kernel) {
    kernel = { files, entry, bindings: ['read', 'read', 'write', ...(epilogue ? (['read'] as const) : [])] };
    tiled.set(key, kernel);
  }
  return kernel;
}

/** Sizes of a tiled product. */
export interface TiledProduct {
  problem: Problem;
  /** Rows, columns and depth; of one share where `shares` counts phases. */
  m: number;
  n: number;
  k: number;
  /** Whether what is read side by side comes in fours throughout. */
  fours: boolean;
  /** Whether memory has the left factor along the depth, and the right one. */
  leftAlongDepth: boolean;
  rightAlongDepth: boolean;
  /** Grids of tiles side by side: shares of the depth, or phases. */
  shares: number;
  constants: Readonly<Record<string, number>>;
  flops: number;
  bytes: number;
}

/** Workgroups of a product in tiles of this shape. */
export const tileCount = ({ m, n, shares }: TiledProduct, { edge, across, down }: TileShape): number =>
  Math.ceil(m / (edge * down)) * Math.ceil(n / (edge * across)) * shares;

/** One dispatch of a tiled product. */
export function tiledCall(
  product: TiledProduct,
  shape: TileShape,
  buffers: readonly Operand[],
  software: boolean,
  epilogue?: Epilogue,
): Call {
  const { problem, fours, shares, leftAlongDepth, rightAlongDepth, constants, flops, bytes } = product;
  return {
    kernel: tiledKernel(problem, fours, epilogue !== undefined, shape.edge),
    constants: {
      ...constants,
      SHARES: shares,
      WX: shape.across,
      WY: shape.down,
      EDGE: shape.edge,
      ROLLED: Number(software),
      LEFT_ALONG_DEPTH: Number(leftAlongDepth),
      RIGHT_ALONG_DEPTH: Number(rightAlongDepth),
      ...(epilogue && { ACTIVATION: epilogue.activation, ALPHA: epilogue.alpha }),
    },
    params: [tileDepth],
    workgroups: grid(tileCount(product, shape), 1),
    buffers: epilogue ? [...buffers, { input: 2 }] : buffers,
    flops,
    bytes,
  };
}

/** Workgroups that fill a large GPU once. */
const enoughGroups = 132;

/**
 * A guess at the time of a product in tiles of a shape, in arbitrary units: waves of workgroups, each the longer the more
 * a thread makes, with a fixed cost a step of the depth. Only the order counts; the tuner measures.
 */
function guess(product: TiledProduct, shape: TileShape): number {
  const groups = tileCount(product, shape);
  const threads = shape.across * shape.down;
  // As many workgroups at once as registers allow: 512 threads of 128 registers a multiprocessor.
  const atOnce = enoughGroups * Math.max(1, Math.floor((shape.edge === 8 ? 512 : 1024) / threads));
  const waves = Math.max(1, groups / atOnce);
  const perStep = shape.edge === 8 ? 64 + 24 : 16 + 14;
  // A multiprocessor works on 128 lanes at a time.
  const busy = Math.max(1, (Math.min(groups, atOnce) / enoughGroups) * (threads / 128));
  return waves * busy * perStep + 40;
}

/** Shapes for a product, the likeliest fastest first. */
export function rankedShapes(product: TiledProduct): TileShape[] {
  return [...tileShapes].sort((a, b) => guess(product, a) - guess(product, b));
}

/** Splits of a depth: enough workgroups for the device, at least a few steps each. */
export function depthShares(m: number, n: number, k: number): { shares: number; stretch: number } {
  const tiles = Math.ceil(m / 32) * Math.ceil(n / 32);
  const steps = Math.ceil(k / tileDepth);
  const wanted = Math.min(Math.ceil((2 * enoughGroups) / tiles), Math.floor(steps / 4), 64);
  const each = Math.ceil(steps / Math.max(1, wanted));
  return { shares: Math.ceil(steps / each), stretch: each * tileDepth };
}

type Cost = { flops: number; bytes: number };

export function conv2dProduct(s: ConvSizes, cost: Cost): TiledProduct {
  return {
    problem: 'Conv2d',
    m: s.batch * s.outHeight * s.outWidth,
    n: s.outChannels,
    k: s.kernelHeight * s.kernelWidth * s.channels,
    fours: s.channels % 4 === 0 && s.outChannels % 4 === 0,
    leftAlongDepth: true,
    rightAlongDepth: false,
    shares: 1,
    constants: convConstants(s),
    ...cost,
  };
}

export function conv2dInputGradProduct(s: ConvSizes, cost: Cost): TiledProduct {
  const taps = Math.ceil(s.kernelHeight / s.strideH) * Math.ceil(s.kernelWidth / s.strideW);
  return {
    problem: 'Conv2dInputGrad',
    m: s.batch * Math.ceil(s.height / s.strideH) * Math.ceil(s.width / s.strideW),
    n: s.channels,
    k: taps * s.outChannels,
    fours: s.channels % 4 === 0 && s.outChannels % 4 === 0,
    leftAlongDepth: true,
    rightAlongDepth: true,
    shares: s.strideH * s.strideW,
    constants: convConstants(s),
    ...cost,
  };
}

export function conv2dWeightGradProduct(s: ConvSizes, cost: Cost): TiledProduct {
  const m = s.kernelHeight * s.kernelWidth * s.channels;
  const k = s.batch * s.outHeight * s.outWidth;
  const { shares, stretch } = depthShares(m, s.outChannels, k);
  return {
    problem: 'Conv2dWeightGrad',
    m,
    n: s.outChannels,
    k,
    fours: s.channels % 4 === 0 && s.outChannels % 4 === 0,
    leftAlongDepth: false,
    rightAlongDepth: false,
    shares,
    constants: { ...convConstants(s), STRETCH: stretch },
    ...cost,
  };
}

export function denseProduct(
  m: number,
  n: number,
  k: number,
  transposeX: boolean,
  transposeW: boolean,
  cost: Cost,
): TiledProduct {
  const { shares, stretch } = depthShares(m, n, k);
  return {
    problem: 'Dense',
    m,
    n,
    k,
    fours: (transposeX ? m : k) % 4 === 0 && (transposeW ? k : n) % 4 === 0 && n % 4 === 0,
    leftAlongDepth: !transposeX,
    rightAlongDepth: transposeW,
    shares,
    constants: {
      M: m,
      N: n,
      K: k,
      TRANSPOSE_X: Number(transposeX),
      TRANSPOSE_W: Number(transposeW),
      STRETCH: stretch,
    },
    ...cost,
  };
}
