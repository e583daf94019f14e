/** Which variant of each kernel an adapter likes: measured once (src/autograd/tune.ts), kept in a file, shipped for known adapters. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { packageRoot } from '../paths.ts';
import type { AdapterInfo } from './device.ts';

/** Choices for one adapter: `op sizes` → name of a variant. */
export interface Tuning {
  adapter: string;
  /** Of the shaders that were measured: choices for others say nothing. */
  shaders: string;
  choices: Record<string, string>;
}

export const choiceKey = (op: string, sizes: string): string => `${op} ${sizes}`;

/** An adapter's name in tuning files: device and driver. */
export const adapterName = ({ vendor, device, description }: AdapterInfo): string =>
  [vendor, device, description].filter((part) => part !== '').join(' / ');

let hash: string | undefined;
/** A digest of every shader's text. */
export function shaderDigest(): string {
  if (hash === undefined) {
    const digest = createHash('sha256');
    const folder = join(packageRoot, 'shaders');
    for (const file of readdirSync(folder).sort()) digest.update(file).update(readFileSync(join(folder, file)));
    hash = digest.digest('hex').slice(0, 16);
  }
  return hash;
}

const fileName = (adapter: string): string => `${adapter.replace(/[^A-Za-z0-9]+/g, '-').slice(0, 120)}.json`;

/** The user's own file for an adapter. `MATGAN_TUNING` names another folder. */
export function tuningFile(adapter: string): string {
  const cache =
    process.env.MATGAN_TUNING ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'matgan-webgpu', 'tuning');
  return join(cache, fileName(adapter));
}

function readTuning(path: string): Tuning | undefined {
  if (!existsSync(path)) return undefined;
  try {
    const { adapter, shaders, choices } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Tuning>;
    if (typeof adapter !== 'string' || typeof shaders !== 'string' || typeof choices !== 'object' || !choices)
      return undefined;
    return { adapter, shaders, choices };
  } catch {
    // A cache that can't be read is none.
    return undefined;
  }
}

/**
 * What is known of an adapter: the user's own measurements over those that ship in data/tuning. The user's count only for the
 * shaders that they were made with; those that ship also for later ones, as a first guess.
 */
export function loadTuning(info: AdapterInfo): ReadonlyMap<string, string> {
  if (process.env.MATGAN_TUNING === 'none') return new Map();
  const adapter = adapterName(info);
  const shipped = readTuning(join(packageRoot, 'data', 'tuning', fileName(adapter)));
  const own = readTuning(tuningFile(adapter));
  const current = own?.adapter === adapter && own.shaders === shaderDigest() ? own.choices : {};
  const entries = Object.entries({ ...(shipped?.adapter === adapter ? shipped.choices : {}), ...current });
  return new Map(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

/** Adds choices to the user's file, which is replaced as a whole. Returns its path. */
export function saveTuning(info: AdapterInfo, choices: ReadonlyMap<string, string>): string {
  const adapter = adapterName(info);
  const path = tuningFile(adapter);
  const old = readTuning(path);
  const shaders = shaderDigest();
  const all = { ...(old?.shaders === shaders ? old.choices : {}), ...Object.fromEntries(choices) };
  const sorted = Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
  mkdirSync(dirname(path), { recursive: true });
  const beside = `${path}.${process.pid}`;
  writeFileSync(beside, `${JSON.stringify({ adapter, shaders, choices: sorted } satisfies Tuning, null, 1)}\n`);
  renameSync(beside, path);
  return path;
}
