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

/** Threads of a workgroup across and down, and rows and columns that each makes: tiles of edge·down × edge·across (panels: 8·down). */
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

/** Tiles of panel.wgsl, which takes sizes that need no care: a thread makes 8 rows of 8 or 4 columns. */
const panelShapes: readonly TileShape[] = [
  { edge: 8, across: 8, down: 16 },
  { edge: 8, across: 8, down: 8 },
  { edge: 8, across: 16, down: 16 },
  { edge: 8, across: 16, down: 8 },
  { edge: 4, across: 8, down: 16 },
  { edge: 4, across: 8, down: 8 },
  { edge: 4, across: 16, down: 16 },
  { edge: 4, across: 16, down: 8 },
];

const tiled = new Map<string, Kernel>();
/** The kernel of a problem: any sizes, fours, or fours in panels, with or without an epilogue. */
export function tiledKernel(
  problem: Problem,
  fours: boolean,
  edge: 8 | 4,
  epilogue?: Epilogue,
  panel: boolean = false,
): Kernel {
  const files = [
    fours ? 'tileVec4' : 'tileScalar',
    ...finishFiles(epilogue),
    'tileLanes',
    ...(problem === 'Dense' ? [] : ['convSizes']),
    `tile${problem}`,
    'tileRows',
    ...(panel ? ['panelSpot', `panel${problem}`, 'panel'] : ['tile']),
  ];
  const entry = edge === 8 ? 'eights' : panel ? 'halves' : 'fours';
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
  const kinds = [
    [true, false],
    [false, false],
    [true, true],
  ];
  return problems.flatMap((problem) =>
    kinds.flatMap(([fours, panel]) =>
      epilogues.flatMap((epilogue) =>
        ([8, 4] as const).map((edge) => tiledKernel(problem, fours, edge, epilogue, panel)),
      ),
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
  /** Whether panels can be cut from it: sixteen of the depth are always of one tap, of which there are 32 at most. */
  panels: boolean;
  /** The right factor's last two axes, where panels want them swapped: [pages, rows, columns]. */
  swap?: readonly [number, number, number];
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
  panel: boolean;
}

const rowsOf = ({ edge, down, panel }: Omit<Cut, 'shares'>): number => (panel ? 8 : edge) * down;

/** `tile 128x64/8`: rows × columns / edge of a thread; `by 4` where the depth is shared out. */
export const cutName = (cut: Cut): string =>
  `${cut.panel ? 'panel' : 'tile'} ${rowsOf(cut)}x${cut.edge * cut.across}/${cut.edge}${cut.shares > 1 ? ` by ${cut.shares}` : ''}`;

const tilesOf = ({ m, n, phases }: TiledProduct, cut: Omit<Cut, 'shares'>): number =>
  Math.ceil(m / rowsOf(cut)) * Math.ceil(n / (cut.edge * cut.across)) * phases;

/** What a swap of the right factor changes. */
const turnedConstants = ({ problem, swap }: TiledProduct): Record<string, number> =>
  problem === 'Dense' && swap ? { TRANSPOSE_W: 0 } : {};

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
    kernel: tiledKernel(problem, fours, cut.edge, epilogue, cut.panel),
    constants: {
      ...constants,
      ...(cut.panel ? turnedConstants(product) : {}),
      SHARES: phases * cut.shares,
      WX: cut.across,
      WY: cut.down,
      EDGE: cut.edge,
      ROLLED: Number(software),
      ...(cut.panel ? {} : { LEFT_ALONG_DEPTH: Number(leftAlongDepth), RIGHT_ALONG_DEPTH: Number(rightAlongDepth) }),
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

/** Workgroups that a multiprocessor holds at once, by registers: 128 a thread with 64 accumulators, 64 with 16. */
const atOnceMost = ({ edge, across, down }: TileShape): number =>
  Math.max(1, Math.min(16, Math.floor((edge === 8 ? 512 : 1024) / (across * down))));

/**
 * A guess at the time of a product, in µs on a large GPU: waves of workgroups, whose steps take as long as their instructions or,
 * where few are on a multiprocessor, as the wait for memory does; another pass where shares are added up. Only the order counts:
 * the tuner measures.
 */
function guess(product: TiledProduct, cut: Cut): number {
  const groups = tilesOf(product, cut) * cut.shares;
  const { edge, across, down } = cut;
  const threads = across * down;
  const each = Math.ceil(groups / multiprocessors);
  const atOnce = Math.min(atOnceMost(cut), each);
  const blocks = (edge * (across + down)) / threads;
  const fetched = cut.panel ? 60 : blocks * blockCost[product.problem];
  const instructions =
    threads * (tileDepth * ((cut.panel ? 8 : edge) * edge + (edge === 8 ? 20 : cut.panel ? 16 : 4)) + fetched);
  const arithmetic = instructions / 128 / 0.75 / 1900;
  const step = Math.max(0.6, arithmetic * atOnce);
  const steps = Math.ceil(product.k / tileDepth / cut.shares) + 2;
  const adding = cut.shares > 1 ? 4 + (4 * product.size * (cut.shares + 1)) / 2e6 : 0;
  return Math.ceil(each / atOnce) * steps * step + adding;
}

/** Panels and tiles on offer to a tuner, each in the order of the guess. */
const offered = { panels: 6, tiles: 4 };

/** Ways to cut a product, the likeliest fastest first. On a processor every shape is offered, whole and in one case shared. */
export function cuts(product: TiledProduct, software: boolean): Cut[] {
  const panels = product.panels && product.fours ? panelShapes.map((shape) => ({ ...shape, panel: true })) : [];
  const tiles = tileShapes.map((shape) => ({ ...shape, panel: false }));
  if (software) {
    const shared = [tiles[tiles.length - 1], ...panels.slice(-1)].map((shape) => ({ ...shape, shares: 2 }));
    return [...[...tiles, ...panels].map((shape) => ({ ...shape, shares: 1 })), ...shared];
  }
  const steps = Math.ceil(product.k / tileDepth);
  const most = Math.min(steps / 4, (1 << 26) / product.size);
  const ranked = (shapes: readonly Omit<Cut, 'shares'>[], count: number): Cut[] =>
    shapes
      .flatMap((shape) => {
        const tiles = tilesOf(product, shape);
        // Powers of two, and what fills the device's workgroups once, twice and four times.
        const filling = [1, 2, 4].map((waves) => Math.floor((waves * multiprocessors * atOnceMost(shape)) / tiles));
        return [...new Set([1, 2, 4, 8, 16, 32, 64, ...filling])]
          .filter((shares) => shares === 1 || (shares > 1 && shares <= most && tiles * shares <= 32 * multiprocessors))
          .map((shares) => ({ ...shape, shares }));
      })
      .map((cut) => ({ cut, time: guess(product, cut) }))
      .sort((a, b) => a.time - b.time)
      .slice(0, count)
      .map(({ cut }) => cut);
  return [...ranked(panels, offered.panels), ...ranked(tiles, panels.length > 0 ? offered.tiles : 2 * offered.tiles)];
}

type Cost = { flops: number; bytes: number };

export function conv2dProduct(s: ConvSizes, cost: Cost): TiledProduct {
  return {
    problem: 'Conv2d',
    panels: s.channels % 16 === 0 && s.outChannels % 4 === 0 && s.kernelHeight * s.kernelWidth <= 32,
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
    panels: s.outChannels % 16 === 0 && s.channels % 4 === 0 && taps <= 32,
    swap: [s.kernelHeight * s.kernelWidth, s.channels, s.outChannels],
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
    panels: s.channels % 4 === 0 && s.outChannels % 4 === 0,
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
    panels: n % 4 === 0 && (transposeX ? m % 4 === 0 : k % 16 === 0),
    swap: transposeW ? [1, n, k] : undefined,
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
