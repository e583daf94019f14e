/** The formulas of a map: labelled sets out of files, chosen at random where there are too many. */
import { type PackedFormulas, PackedSet, packFormula, packPlain, rowWords, takeRows } from '../../chem/encoding.ts';
import { FormulaFault, parseFormula, reduceFormula } from '../../chem/formula.ts';
import { randomStream, shuffle } from '../../chem/random.ts';
import { readTable } from '../../chem/tables.ts';
import { ConfigError, DataError } from '../../errors.ts';

/** A file to be mapped, under a name. */
export interface SetFile {
  name: string;
  file: string;
  /** Formulas to take, at random; all of them unless said. */
  count?: number;
  /** The formulas themselves, where they are not all of the file's. */
  formulas?: PackedFormulas;
}

export interface LoadOptions {
  formulaColumn?: string;
  /** Each value of the column is a group of its own. */
  labelColumn?: string;
  /** Formulas to take of each set, at most, where the set itself doesn't say. */
  points?: number;
  seed: number;
}

/** What was read of a file. */
export interface SetRead extends Omit<SetFile, 'formulas'> {
  /** Rows of the table, rows that hold no formula that fits, and rows whose formula came before. */
  read: number;
  unusable: Record<string, number>;
  duplicates: number;
}

/** Formulas side by side, with the group of each. */
export interface MapFormulas extends PackedFormulas {
  group: Uint8Array;
  groups: { name: string; count: number }[];
  sets: SetRead[];
}

/** Groups that can be told apart by colour. */
export const mostGroups = 12;
/** Formulas that a page of points still holds. */
export const mostFormulas = 1_000_000;

/** `count` of 0 … rows − 1 at random, ascending. */
export function choose(rows: number, count: number, seed: number, purpose: string): Uint32Array {
  const all = Uint32Array.from({ length: rows }, (_, i) => i);
  return rows <= count ? all : shuffle(all, randomStream(seed, purpose)).slice(0, count).sort();
}

/** Reads one file: different formulas in lowest terms, in order, and their labels. */
async function readSet(
  set: SetFile,
  options: LoadOptions,
): Promise<{ read: SetRead; found: PackedSet; labels: string[] }> {
  const { formulas, ...named } = set;
  if (formulas) {
    const all = PackedSet.of(formulas);
    const duplicates = formulas.rows - all.size;
    return { read: { ...named, read: formulas.rows, unusable: {}, duplicates }, found: all, labels: [] };
  }
  const found = new PackedSet();
  const labels: string[] = [];
  const unusable: Record<string, number> = {};
  let duplicates = 0;
  const words = new Uint32Array(rowWords);
  const { formulaColumn, labelColumn } = options;
  const table = await readTable(set.file, { formulaColumn, labelColumn }, (text, _energy, _gap, _row, label) => {
    const plain = text?.trim() ?? '';
    try {
      if (!packPlain(plain, words, 0)) words.set(packFormula(reduceFormula(parseFormula(plain))));
    } catch (error) {
      if (!(error instanceof FormulaFault)) throw error;
      unusable[error.kind] = (unusable[error.kind] ?? 0) + 1;
      return;
    }
    if (!found.add(words, 0)) duplicates++;
    else if (labelColumn !== undefined) labels.push(label?.trim() || 'no label');
    if (found.size > 20 * mostFormulas)
      throw new DataError(`${set.file}: over ${20 * mostFormulas} formulas; map a part of it`);
  });
  if (table.malformed.length) unusable['malformed line'] = table.malformed.length;
  if (found.size === 0) {
    throw new DataError(`${set.file}: no formula fits 85 × 8 (${JSON.stringify(unusable)}); use another file`);
  }
  return { read: { ...named, read: table.rows, unusable, duplicates }, found, labels };
}

/**
 * Loads sets, each formula once within its set. The same files, counts and seed give the same formulas.
 * @throws DataError for a file that can't be used; ConfigError for a count that a file doesn't have, or too many groups
 */
export async function loadMapSets(
  files: readonly SetFile[],
  options: LoadOptions,
  onFile?: (file: string) => void,
): Promise<MapFormulas> {
  const groups: MapFormulas['groups'] = [];
  const sets: SetRead[] = [];
  const parts: { packed: Uint32Array; group: Uint8Array }[] = [];
  let rows = 0;
  for (const set of files) {
    onFile?.(set.file);
    const { read, found, labels } = await readSet(set, options);
    if (set.count !== undefined && set.count > found.size) {
      throw new ConfigError(
        `--set ${set.name}: ${set.count} formulas are wanted, ${set.file} has ${found.size} different ones; leave :${set.count} out`,
      );
    }
    const chosen = choose(found.size, set.count ?? options.points ?? found.size, options.seed, set.name);
    rows += chosen.length;
    if (rows > mostFormulas) {
      throw new ConfigError(`over ${mostFormulas} formulas; take fewer, such as --points 50000 of each set`);
    }
    const own = new Map<string, number>();
    const group = Uint8Array.from(chosen, (row) => {
      const label = labels[row] ?? '';
      let g = own.get(label);
      if (g === undefined) {
        if (groups.length === mostGroups) {
          throw new ConfigError(
            `${set.file}: over ${mostGroups} groups on one map; name a --label-column with fewer values, or fewer sets`,
          );
        }
        g = groups.push({ name: labelled(set.name, label, files.length), count: 0 }) - 1;
        own.set(label, g);
      }
      groups[g].count++;
      return g;
    });
    sets.push(read);
    parts.push({ packed: takeRows(found.packed, chosen), group });
  }
  const packed = new Uint32Array(rows * rowWords);
  const group = new Uint8Array(rows);
  let at = 0;
  for (const part of parts) {
    packed.set(part.packed, at * rowWords);
    group.set(part.group, at);
    at += part.group.length;
  }
  return { packed, rows, group, groups, sets };
}

const labelled = (set: string, label: string, sets: number): string =>
  label === '' ? set : sets === 1 ? label.slice(0, 60) : `${set}: ${label.slice(0, 60)}`;

/** Landmarks: every group has equal shares of `count`, and those that are smaller leave theirs to the others; ascending. */
export function chooseLandmarks({ group, groups, rows }: MapFormulas, count: number, seed: number): Uint32Array {
  if (rows <= count) return Uint32Array.from({ length: rows }, (_, i) => i);
  const shares = groups.map(() => 0);
  let left = count;
  const bySize = groups.map(({ count: size }, g) => ({ size, g })).sort((a, b) => a.size - b.size || a.g - b.g);
  bySize.forEach(({ size, g }, i) => {
    shares[g] = Math.min(size, Math.floor(left / (groups.length - i)));
    left -= shares[g];
  });
  const members = groups.map(() => [] as number[]);
  group.forEach((g, row) => {
    members[g].push(row);
  });
  const chosen = members.flatMap((own, g) =>
    Array.from(choose(own.length, shares[g], seed, `landmarks ${g}`), (i) => own[i]),
  );
  return Uint32Array.from(chosen).sort();
}
