/** Products and convolutions by subgroups of eight lanes (shaders/subgroup.wgsl), which lavapipe likes best. */
import { type Call, grid, type Kernel, type Operand } from './kernel.ts';
import { type Epilogue, finishConstants, finishFiles, type Problem } from './tile.ts';

/** Lanes of a subgroup that the shader is written for: one AVX register. */
export const subgroupLanes = 8;
/** Rows that a subgroup makes, and columns of either entry. */
const rows = 16;
const columns = { wide: 64, narrow: 32 } as const;

export interface SubgroupProduct {
  problem: Problem;
  /** Rows of one product, columns (in fours), and how many such products there are: positions, taps, splits. */
  m: number;
  n: number;
  times: number;
  params: readonly number[];
  constants?: Readonly<Record<string, number>>;
  flops: number;
  bytes: number;
}

const made = new Map<string, Kernel>();
/** The kernel of a problem: `wide` or `narrow`, with or without an epilogue. */
export function subgroupKernel(problem: Problem, entry: keyof typeof columns, epilogue?: Epilogue): Kernel {
  const files = ['enableSubgroups', ...finishFiles(epilogue), `subgroup${problem}`, 'subgroup'];
  const key = `${files.join('+')}:${entry}`;
  let kernel = made.get(key);
  if (!kernel) {
    kernel = { files, entry, bindings: ['read', 'read', 'write', ...(epilogue ? (['read'] as const) : [])] };
    made.set(key, kernel);
  }
  return kernel;
}

/** Every such kernel there is, for tests. */
export function subgroupKernels(): Kernel[] {
  const epilogues = [undefined, { activation: 1, alpha: 0 }, { activation: 0, alpha: 0, mask: true }] as const;
  const problems: Problem[] = ['Dense', 'Conv2d', 'Conv2dInputGrad', 'Conv2dWeightGrad'];
  return problems.flatMap((problem) =>
    (['wide', 'narrow'] as const).flatMap((entry) =>
      epilogues.map((epilogue) => subgroupKernel(problem, entry, epilogue)),
    ),
  );
}

/** Entries on offer, the likeliest faster first: the wider one where its columns are used. */
export const subgroupEntries = (n: number): (keyof typeof columns)[] => {
  const narrow = Math.ceil(n / columns.narrow) % 2 === 1 && n < 2 * columns.wide;
  return narrow ? ['narrow', 'wide'] : ['wide', 'narrow'];
};

/** Share of a subgroup's products that are of use. */
export function subgroupUse(m: number, n: number): number {
  const width = columns[subgroupEntries(n)[0]];
  return (m / (rows * Math.ceil(m / rows))) * (n / (width * Math.ceil(n / width)));
}

/** Workgroups of a product, taken once. */
export const subgroupGroups = (m: number, n: number, entry: keyof typeof columns): number =>
  Math.ceil(m / rows) * Math.ceil(n / columns[entry]);

/** A product's dispatch. */
export function subgroupCall(
  { problem, m, n, times, params, constants, flops, bytes }: SubgroupProduct,
  entry: keyof typeof columns,
  buffers: readonly Operand[],
  epilogue?: Epilogue,
): Call {
  return {
    kernel: subgroupKernel(problem, entry, epilogue),
    constants: { ...constants, ...finishConstants(epilogue) },
    params,
    workgroups: grid(subgroupGroups(m, n, entry) * times, 1),
    buffers: epilogue ? [...buffers, { input: 2 }] : buffers,
    flops,
    bytes,
  };
}
