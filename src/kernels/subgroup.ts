/** Products and convolutions by subgroups of eight lanes (shaders/subgroup.wgsl), which lavapipe likes best. */
import { type Call, grid, type Kernel, type Operand } from './kernel.ts';
import { type Epilogue, finishConstants, finishFiles, type Problem } from './tile.ts';

/** Lanes of a subgroup that the shader is written for: one AVX register. */
export const subgroupLanes = 8;
/** The shader's entries: rows and columns that a subgroup makes. */
const entries = {
  wide: { rows: 16, columns: 64 },
  narrow: { rows: 16, columns: 32 },
  tall: { rows: 32, columns: 64 },
  tallNarrow: { rows: 32, columns: 32 },
} as const;
export type SubgroupEntry = keyof typeof entries;

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
/** The kernel of a problem and entry, with or without an epilogue. */
export function subgroupKernel(problem: Problem, entry: SubgroupEntry, epilogue?: Epilogue): Kernel {
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
    (Object.keys(entries) as SubgroupEntry[]).flatMap((entry) =>
      epilogues.map((epilogue) => subgroupKernel(problem, entry, epilogue)),
    ),
  );
}

/** Share of an entry's products that are of use. */
const useOf = (m: number, n: number, entry: SubgroupEntry): number => {
  const { rows, columns } = entries[entry];
  return (m / (rows * Math.ceil(m / rows))) * (n / (columns * Math.ceil(n / columns)));
};

/**
 * What an entry makes of lanes that are of use, roughly: measured in a product of 1024³. `tall` makes 1.7 of them, but takes lavapipe's
 * compiler three seconds each, a minute for a whole step: it comes after `tallNarrow`, for a tuner to find.
 */
const pace: Readonly<Record<SubgroupEntry, number>> = { wide: 1, narrow: 0.85, tall: 1.4, tallNarrow: 1.5 };

/** Entries on offer, the likeliest faster first; those with two terms a round where memory has them in pairs (`even`). */
export const subgroupEntries = (m: number, n: number, even: boolean): SubgroupEntry[] =>
  (Object.keys(entries) as SubgroupEntry[])
    .filter((entry) => even || entries[entry].rows === 16)
    .sort((a, b) => pace[b] * useOf(m, n, b) - pace[a] * useOf(m, n, a));

/** The largest share of a subgroup's products that are of use. */
export const subgroupUse = (m: number, n: number): number => Math.max(useOf(m, n, 'wide'), useOf(m, n, 'narrow'));

/** `subgroup 16x64`: rows × columns. */
export const subgroupName = (entry: SubgroupEntry): string =>
  `subgroup ${entries[entry].rows}x${entries[entry].columns}`;

/** Workgroups of a product, taken once. */
export const subgroupGroups = (m: number, n: number, entry: SubgroupEntry): number =>
  Math.ceil(m / entries[entry].rows) * Math.ceil(n / entries[entry].columns);

/** A product's dispatch. */
export function subgroupCall(
  { problem, m, n, times, params, constants, flops, bytes }: SubgroupProduct,
  entry: SubgroupEntry,
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
