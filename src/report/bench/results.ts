/** Results of `matgan bench`: what a row holds, what a file holds, and reading files back. */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import type { Ceilings } from '../../kernels/ceilings.ts';
import type { AdapterInfo } from '../../kernels/device.ts';
import { reason } from '../../models/files.ts';
import { packageRoot } from '../../paths.ts';

/** How a case was held against the f64 reference before it was timed. */
export type Check =
  /** Every output element. */
  | 'reference'
  /** Every output element, of a batch that repeats five rows: the reference then computes five. */
  | 'repeated rows'
  /** Generating: cells of the first samples against the reference, all formulas against their cells. */
  | 'first samples'
  /** Steps: losses are finite after one. */
  | 'finite losses';

/** One line of the benchmark. */
export interface BenchRow {
  /** An op with its input shapes and attributes, or `step` and a preset, or `generate`. */
  name: string;
  /** Presets that have this shape, `sweep` or `own`. */
  of: readonly string[];
  /** A kernel variant, where one was asked for by name. */
  variant?: string;
  /** Of one replay, waiting included but shared by all replays of a sample. */
  medianMs: number;
  /** Distance of the quartiles of the samples. */
  spreadMs: number;
  quartilesMs: readonly [number, number];
  minMs: number;
  samples: number;
  /** Sum of the dispatches by the device's own timestamps, a pass a dispatch; null where the adapter has none. */
  deviceMs: number | null;
  /** As the kernels count them: padding is work. */
  gflops: number;
  /** From the least bytes that the dispatches have to move, each by itself. */
  gbps: number;
  /** Shares of the adapter's ceilings. */
  fmaShare: number;
  copyShare: number;
  dispatches: number;
  submits: number;
  flops: number;
  /** Summed over dispatches. */
  bytes: number;
  /** Each op's inputs once and its output once: what one dispatch an op would move. */
  leastBytes: number;
  /** Bytes of GPU buffers at the peak, variables and training rows included. */
  memory: number;
  /** Formulas a second, for generating. */
  perSecond?: number;
  /** True for the batch that generates the most a second. */
  best?: boolean;
  check: Check;
  /** ‖gpu − reference‖/‖reference‖; null for steps. */
  error: number | null;
}

/** A case that was not timed. */
export interface LeftOut {
  name: string;
  reason: string;
  /** True where its results were not the reference's. */
  wrong?: boolean;
}

export interface BenchReport {
  format: 'matgan-bench';
  version: 1;
  /** The driver's description, or the device's name. */
  adapter: string;
  software: boolean;
  device: AdapterInfo;
  node: string;
  /** Version of Dawn's npm package `webgpu`. */
  webgpu: string | null;
  /** ISO 8601. */
  date: string;
  /** Of the checkout, with `+` where files were changed; null without git. */
  commit: string | null;
  command: string;
  ceilings: Ceilings;
  rows: BenchRow[];
  leftOut: LeftOut[];
}

/** Commit of the checkout; null where this is none, or there is no git. */
function commitOf(): string | null {
  const git = (...args: string[]) => spawnSync('git', ['-C', packageRoot, ...args], { encoding: 'utf8' });
  const head = git('rev-parse', '--show-prefix', '--short', 'HEAD');
  const [prefix, hash] = head.status === 0 ? head.stdout.split('\n') : [];
  // With a prefix it is the repository of somebody who has this package in a folder.
  if (prefix !== '' || !hash) return null;
  return hash + (git('status', '--porcelain', '--untracked-files=no').stdout.trim() === '' ? '' : '+');
}

function versionOf(name: string): string | null {
  try {
    return JSON.parse(readFileSync(`${packageRoot}/node_modules/${name}/package.json`, 'utf8')).version;
  } catch {
    // Installed elsewhere, beside this package.
    return null;
  }
}

/** Where and by what a report is made. */
export function origin(device: AdapterInfo, command: string): Omit<BenchReport, 'ceilings' | 'rows' | 'leftOut'> {
  return {
    format: 'matgan-bench',
    version: 1,
    adapter: device.description || device.device,
    software: device.software,
    device,
    node: process.versions.node,
    webgpu: versionOf('webgpu'),
    date: new Date().toISOString(),
    commit: commitOf(),
    command,
  };
}

/** What a comparison needs of a file; more may be there, and older files have less. */
export interface Results {
  adapter?: string;
  date?: string;
  commit?: string | null;
  ceilings?: Pick<Ceilings, 'fmaGflops' | 'copyGbps'>;
  rows: readonly ResultRow[];
  leftOut?: readonly LeftOut[];
}
export type ResultRow = Pick<BenchRow, 'name' | 'medianMs' | 'spreadMs'> &
  Partial<Pick<BenchRow, 'of' | 'variant' | 'quartilesMs' | 'flops' | 'bytes'>>;

const time = z.number().nonnegative();
const row = z.looseObject({
  name: z.string(),
  of: z.array(z.string()).optional(),
  variant: z.string().optional(),
  medianMs: time.positive(),
  spreadMs: time,
  quartilesMs: z.tuple([time, time]).optional(),
  flops: time.optional(),
  bytes: time.optional(),
});
const results = z.looseObject({
  adapter: z.string().optional(),
  date: z.string().optional(),
  commit: z.string().nullable().optional(),
  ceilings: z.looseObject({ fmaGflops: z.number().positive(), copyGbps: z.number().positive() }).optional(),
  rows: z.array(row),
  leftOut: z.array(z.looseObject({ name: z.string(), reason: z.string() })).optional(),
});

/** More than any report has; a file of another kind should not fill the memory. */
const mostBytes = 64 << 20;

/**
 * A file that `--out` or `--json` has written.
 * @throws DataError in one line for whatever else it is
 */
export function readResults(file: string): Results {
  const wrong = (what: string, cause?: unknown): DataError =>
    new DataError(`${file}: ${what}; it takes a file that matgan bench --out has written`, { cause });
  let value: unknown;
  try {
    const stat = statSync(file);
    if (!stat.isFile()) throw wrong('it is no plain file');
    if (stat.size > mostBytes) throw wrong(`${stat.size} bytes are too many for results`);
    const text = readFileSync(file, 'utf8');
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw wrong('it is no JSON', cause);
    }
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw wrong(reason(cause), cause);
  }
  const parsed = results.safeParse(Array.isArray(value) ? { rows: value } : value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw wrong(`these are no results (${issue.path.join('.') || 'the whole'}: ${issue.message})`);
}
