/** Tiled products (shaders/tile.wgsl): the matrix product and the three convolutions as a GPU likes them. */
import { type Call, grid, type Kernel, type Operand } from './kernel.ts';

/**
 * What happens to an output before it is stored. Plain: + bias (the third input), then an activation (finishBias.wgsl). With
 * `mask`: the derivative of (leaky) ReLU where the third input, what the activation made, is not above zero (finishMask.wgsl).
 */
export interface Epilogue {
  activation: 0 | 1 | 2 | 3;
  alpha: number;
  mask?: true;
}

export const finishFiles = (epilogue: Epilogue | undefined): string[] =>
  !epilogue ? ['finishNone'] : epilogue.mask ? ['finishMask'] : ['activate', 'finishBias'];
export const finishConstants = (epilogue: Epilogue | undefined): Record<string, number> =>
  !epilogue
    ? {}
    : epilogue.mask
      ? { ALPHA: epilogue.alpha }
      : { ACTIVATION: epilogue.activation, ALPHA: epilogue.alpha };

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
  { edge: 4, across: 16, down: 16 },
  { edge: 4, across: 8, down: 16 },
  { edge: 4, across: 16, down: 8 },
  { edge: 4, across: 8, down: 8 },
];

export const tileDepth = 16;

const tiled = new Map<string, Kernel>();
/** The kernel of a problem: any sizes or fours, with or without an epilogue. */
export function tiledKernel(problem: Problem, fours: boolean, edge: 8 | 4, epilogue?: Epilogue): Kernel {
  const files = [
    fours ? 'tileVec4' : 'tileScalar',
    ...finishFiles(epilogue),
    'tileLanes',
    ...(problem === 'Dense' ? [] : ['convSizes']),
    `tile${problem}`,
    'tileRows',
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

/** Every tiled kernel there is, for tests. */
export function tiledKernels(): Kernel[] {
  const epilogues = [undefined, { activation: 1, alpha: 0 }, { activation: 0, alpha: 0, mask: true }] as const;
  const problems = Object.keys(blockCost) as Problem[];
  return problems.flatMap((problem) =>
    [true, false].flatMap((fours) =>
      epilogues.flatMap((epilogue) => ([8, 4] as const).map((edge) => tiledKernel(problem, fours, edge, epilogue))),
    ),
  );
}

/** Sizes of a tiled product. */
export interface TiledProduct {
  problem: Problem;
  /** Rows, columns and depth, of one phase where there are several. */
  m: number;
  n: number;
  k: number;
  /** Products of these sizes side by side in the output: one a phase of a strided convolution. */
  phases: number;
  /** Elements of the output. */
  size: number;
  /** Whether what is read side by side comes in fours throughout. */
  fours: boolean;
  /** Whether memory has the left factor along the depth, and the right one. */
  leftAlongDepth: boolean;
  rightAlongDepth: boolean;
  constants: Readonly<Record<string, number>>;
  flops: number;
  bytes: number;
}

/** How a product is cut: the shape of its tiles, and into how many shares its depth. */
export interface Cut extends TileShape {
  shares: number;
}

/** `tile 128x64/8`: rows × columns / edge of a thread; `by 4` where the depth is shared out. */
export const cutName = ({ edge, across, down, shares }: Cut): string =>
  `tile ${edge * down}x${edge * across}/${edge}${shares > 1 ? ` by ${shares}` : ''}`;

const tilesOf = ({ m, n, phases }: TiledProduct, { edge, across, down }: TileShape): number =>
  Math.ceil(m / (edge * down)) * Math.ceil(n / (edge * across)) * phases;

/** A product's dispatch; where its depth is shared out, one output after another, to be added up. */
export function tiledCall(
  product: TiledProduct,
  cut: Cut,
  buffers: readonly Operand[],
  software: boolean,
  epilogue?: Epilogue,
): Call {
  const { problem, fours, phases, leftAlongDepth, rightAlongDepth, constants, flops, bytes } = product;
  return {
    kernel: tiledKernel(problem, fours, cut.edge, epilogue),
    constants: {
      ...constants,
      SHARES: phases * cut.shares,
      WX: cut.across,
      WY: cut.down,
      EDGE: cut.edge,
      ROLLED: Number(software),
      LEFT_ALONG_DEPTH: Number(leftAlongDepth),
      RIGHT_ALONG_DEPTH: Number(rightAlongDepth),
      ...finishConstants(epilogue),
    },
    params: [tileDepth],
    workgroups: grid(tilesOf(product, cut) * cut.shares, 1),
    buffers: epilogue ? [...buffers, { input: 2 }] : buffers,
    flops,
    bytes,
  };
}

/** Multiprocessors of the GPU that the guess is made for: an H100 has 132, most have fewer. */
const multiprocessors = 132;

/** Instructions that fetch and keep a 4×4 block, about. */
const blockCost: Record<Problem, number> = { Dense: 50, Conv2d: 70, Conv2dInputGrad: 80, Conv2dWeightGrad: 70 };

/**
 * A guess at the time of a product, in µs on a large GPU: waves of workgroups, whose steps take as long as their instructions or,
 * where few are on a multiprocessor, as the wait for memory does; another pass where shares are added up. Only the order counts:
 * the tuner measures.
 */
function guess(product: TiledProduct, cut: Cut): number {
  const groups = tilesOf(product, cut) * cut.shares;
  const { edge, across, down } = cut;
  const threads = across * down;
  // By registers: 128 a thread with 64 accumulators, 64 with 16.
  const most = Math.min(16, Math.floor((edge === 8 ? 512 : 1024) / threads));
  const each = Math.ceil(groups / multiprocessors);
  const atOnce = Math.min(most, each);
  const blocks = (edge * (across + down)) / threads;
  const instructions =
    threads * (tileDepth * (edge * edge + (edge === 8 ? 20 : 4)) + blocks * blockCost[product.problem]);
  const arithmetic = instructions / 128 / 0.75 / 1900;
  const step = Math.max(0.6, arithmetic * atOnce);
  const steps = Math.ceil(product.k / tileDepth / cut.shares) + 2;
  const adding = cut.shares > 1 ? 4 + (4 * product.size * (cut.shares + 1)) / 2e6 : 0;
  return Math.ceil(each / atOnce) * steps * step + adding;
}

/** Cuts on offer to a tuner, in the order of the guess. */
const offered = 8;

/** Ways to cut a product, the likeliest fastest first. On a processor every shape is offered, whole and in one case shared. */
export function cuts(product: TiledProduct, software: boolean): Cut[] {
  if (software) {
    const shared = { ...tileShapes[tileShapes.length - 1], shares: 2 };
    return [...tileShapes.map((shape) => ({ ...shape, shares: 1 })), shared];
  }
  const steps = Math.ceil(product.k / tileDepth);
  const most = Math.min(steps / 4, (1 << 26) / product.size);
  const all = tileShapes.flatMap((shape) =>
    [1, 2, 4, 8, 16, 32, 64]
      .filter((shares) => shares === 1 || (shares <= most && tilesOf(product, shape) * shares <= 32 * multiprocessors))
      .map((shares) => ({ ...shape, shares })),
  );
  const ranked = all.map((cut) => ({ cut, time: guess(product, cut) })).sort((a, b) => a.time - b.time);
  return ranked.slice(0, offered).map(({ cut }) => cut);
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
    phases: 1,
    size: s.batch * s.outHeight * s.outWidth * s.outChannels,
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
    phases: s.strideH * s.strideW,
    size: s.batch * s.height * s.width * s.channels,
    constants: convConstants(s),
    ...cost,
  };
}

export function conv2dWeightGradProduct(s: ConvSizes, cost: Cost): TiledProduct {
  const m = s.kernelHeight * s.kernelWidth * s.channels;
  const k = s.batch * s.outHeight * s.outWidth;
  return {
    problem: 'Conv2dWeightGrad',
    m,
    n: s.outChannels,
    k,
    fours: s.channels % 4 === 0 && s.outChannels % 4 === 0,
    leftAlongDepth: false,
    rightAlongDepth: false,
    phases: 1,
    size: m * s.outChannels,
    constants: convConstants(s),
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
  return {
    problem: 'Dense',
    m,
    n,
    k,
    fours: (transposeX ? m : k) % 4 === 0 && (transposeW ? k : n) % 4 === 0 && n % 4 === 0,
    leftAlongDepth: !transposeX,
    rightAlongDepth: transposeW,
    phases: 1,
    size: m * n,
    constants: {
      M: m,
      N: n,
      K: k,
      TRANSPOSE_X: Number(transposeX),
      TRANSPOSE_W: Number(transposeW),
    },
    ...cost,
  };
}
