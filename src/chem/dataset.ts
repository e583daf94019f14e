import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { ConfigError, DataError } from '../errors.ts';
import {
  countByElements,
  type PackedFormulas,
  PackedSet,
  packFormula,
  rowElements,
  rowWords,
  unpackRow,
} from './encoding.ts';
import { FormulaFault, formatFormula, parseFormula, reduceFormula } from './formula.ts';
import { randomStream, shuffle } from './random.ts';
import {
  checkOutput,
  type OutColumn,
  readTable,
  type TableOptions,
  type TableRead,
  writeTable,
  writeWhole,
} from './tables.ts';
import { flagEN, judgePacked } from './validity.ts';

/**
 * The paper's data rules by name, and the way from a table to packed formulas.
 *
 * Two rows are the same formula when their reduced formulas are equal (K4Mn4O8 is KMnO2), and every rule looks at the
 * reduced formula: with unreduced ones a third of the Materials Project would fall to the rule of 8 atoms, and the paper's counts
 * would be out of reach.
 */

/** One formula of a table on its way through the rules. */
interface Entry {
  /** Number of its row in the table, from 1. */
  readonly row: number;
  /** Reduced formula. */
  readonly formula: string;
  readonly elements: number;
  /** Greatest number of atoms of one element. */
  readonly most: number;
  readonly kryptonOrHelium: boolean;
  /** 4 words, or why it does not fit 85 × 8. */
  readonly packed: Uint32Array | string;
  /** eV per atom, NaN where there is none. */
  readonly energy: number;
  /** eV, NaN where there is none. */
  readonly gap: number;
}

interface Rule {
  readonly name: string;
  readonly keep: (entries: Entry[]) => Entry[];
}

const duplicates: Rule = {
  name: 'one row per formula, the lowest energy',
  keep: (entries) => {
    const best = new Map<string, Entry>();
    for (const entry of entries) {
      const other = best.get(entry.formula);
      // A row with an energy is better than one without; the first of equals stays.
      if (!other || entry.energy < other.energy || (Number.isNaN(other.energy) && !Number.isNaN(entry.energy))) {
        best.set(entry.formula, entry);
      }
    }
    return [...best.values()];
  },
};
const singleElements: Rule = {
  name: 'no single elements',
  keep: (entries) => entries.filter(({ elements }) => elements > 1),
};
const fiveSigma: Rule = {
  name: 'formation energy within mean ± 5σ',
  keep: (entries) => {
    // Rows without an energy cannot be judged and stay; they do not count towards mean and σ either.
    const energies = entries.map(({ energy }) => energy).filter((energy) => !Number.isNaN(energy));
    const mean = energies.reduce((sum, energy) => sum + energy, 0) / energies.length;
    const sigma = Math.sqrt(energies.reduce((sum, energy) => sum + (energy - mean) ** 2, 0) / energies.length);
    return entries.filter(({ energy }) => !(Math.abs(energy - mean) > 5 * sigma));
  },
};
const eightAtoms: Rule = {
  name: 'at most 8 atoms of an element',
  keep: (entries) => entries.filter(({ most }) => most <= 8),
};
const kryptonHelium: Rule = {
  name: 'no Kr or He',
  keep: (entries) => entries.filter(({ kryptonOrHelium }) => !kryptonOrHelium),
};
const positiveGap: Rule = {
  name: 'band gap above 0',
  keep: (entries) => entries.filter(({ gap }) => gap > 0),
};
const balanced: Rule = {
  name: 'charge-neutral and electronegativity-balanced',
  keep: (entries) =>
    entries.filter(({ packed }) => typeof packed !== 'string' && (judgePacked(packed, 1)[0] & flagEN) !== 0),
};
/** Not the paper's: what the 85 × 8 matrix cannot hold. Comes last in every set of rules. */
const fits: Rule = {
  name: 'fits 85 × 8',
  keep: (entries) => entries.filter(({ packed }) => typeof packed !== 'string'),
};

interface RuleSet {
  readonly steps: readonly Rule[];
  /** Rows before and after the rules in the paper; null where it does not say. */
  readonly paper: { readonly rows: number | null; readonly kept: number | null };
}

export const ruleSets = {
  oqmd: { steps: [duplicates, singleElements, fiveSigma, fits], paper: { rows: 606_115, kept: 291_884 } },
  mp: { steps: [duplicates, singleElements, eightAtoms, kryptonHelium, fits], paper: { rows: null, kept: 63_922 } },
  icsd: { steps: [duplicates, singleElements, eightAtoms, kryptonHelium, fits], paper: { rows: null, kept: 28_137 } },
  'icsd-filter': {
    steps: [duplicates, singleElements, eightAtoms, kryptonHelium, balanced, fits],
    paper: { rows: 28_137, kept: null },
  },
  // The gap is asked for first: a formula stays where any of its structures has one.
  'mp-gap': {
    steps: [positiveGap, duplicates, singleElements, eightAtoms, kryptonHelium, fits],
    paper: { rows: 63_922, kept: 30_186 },
  },
  none: { steps: [fits], paper: { rows: null, kept: null } },
} as const satisfies Record<string, RuleSet>;

export type RulesName = keyof typeof ruleSets;

/** The rules of a name. @throws ConfigError that lists the names. */
function rulesOf(name: string): RuleSet {
  if (Object.hasOwn(ruleSets, name)) return ruleSets[name as RulesName];
  throw new ConfigError(`--rules ${name}: no such rules; choose one of ${Object.keys(ruleSets).join(', ')}`);
}

interface Rejected {
  readonly row: number | null;
  readonly text: string;
  readonly reason: string;
}

/** Reads a table into entries and the rows that are none. */
async function readEntries(
  file: string,
  options: TableOptions,
): Promise<{
  table: TableRead;
  entries: Entry[];
  rejected: Rejected[];
  unusable: Record<string, number>;
  rows: number;
}> {
  const entries: Entry[] = [];
  const rejected: Rejected[] = [];
  const counts = new Map<string, number>();
  const reject = (row: number | null, text: string, kind: string, reason: string): void => {
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    rejected.push({ row, text, reason });
  };
  const table = await readTable(file, options, (text, energy, gap, row) => {
    if (text === null) return reject(row, '', 'missing', 'the formula is missing');
    try {
      const composition = reduceFormula(parseFormula(text));
      let packed: Uint32Array | string;
      try {
        packed = packFormula(composition);
      } catch (error) {
        if (!(error instanceof FormulaFault)) throw error;
        packed = error.kind;
      }
      entries.push({
        row,
        formula: formatFormula(composition),
        elements: composition.size,
        most: Math.max(...composition.values()),
        kryptonOrHelium: composition.has('Kr') || composition.has('He'),
        packed,
        energy: Number.isFinite(energy) ? energy : Number.NaN,
        gap: Number.isFinite(gap) ? gap : Number.NaN,
      });
    } catch (error) {
      if (!(error instanceof FormulaFault)) throw error;
      reject(row, text, error.kind, error.message);
    }
  });
  for (const { line, text } of table.malformed)
    reject(null, text, 'malformed line', `line ${line} is no row of the table`);
  const unusable = Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
  if (entries.length === 0) {
    const [kind, count] = Object.entries(unusable)[0];
    const example = rejected.find(({ reason }) => reason !== '')!;
    throw new DataError(
      `${file}: none of the ${rejected.length} rows of column "${table.formulaColumn}" is a formula ` +
        `(${count} × ${kind}; ${example.reason}); name another with --formula-column`,
    );
  }
  return { table, entries, rejected, unusable, rows: table.rows + table.malformed.length };
}

/** What `data prepare` did; its JSON output and, with the file's name, the sidecar. */
export interface Prepared {
  readonly rules: RulesName;
  readonly source: { readonly file: string; readonly sha256: string; readonly formulaColumn: string };
  /** Rows of the table, malformed lines included. */
  readonly rows: number;
  /** Rows without a formula that can be read, by reason. */
  readonly unusable: Record<string, number>;
  /** In order; `paper` is the paper's count behind its last rule. */
  readonly steps: readonly {
    readonly rule: string;
    readonly removed: number;
    readonly left: number;
    readonly paper?: number;
  }[];
  readonly kept: number;
  /** Number of elements → number of formulas. */
  readonly byElementCount: Record<string, number>;
  /** Kept rows that have no formation energy or no gap. */
  readonly withoutEnergy: number;
  readonly withoutGap: number;
  readonly paper: { readonly rows: number | null; readonly kept: number | null };
  /** SHA-256 of the packed rows, as a checkpoint names its data. */
  readonly fingerprint: string;
  readonly out: string;
  /** List of the rows that could not be used, or null where there was none. */
  readonly rejectedFile: string | null;
}

/** SHA-256 over packed rows (little-endian words), hexadecimal: names a data set whatever file it came from. */
export function fingerprintOf({ packed, rows }: PackedFormulas): string {
  const bytes = new Uint8Array(rows * rowWords * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < rows * rowWords; i++) view.setUint32(i * 4, packed[i], true);
  return createHash('sha256').update(bytes).digest('hex');
}

function pack(entries: readonly Entry[]): PackedFormulas {
  const packed = new Uint32Array(entries.length * rowWords);
  for (const [i, entry] of entries.entries()) packed.set(entry.packed as Uint32Array, i * rowWords);
  return { packed, rows: entries.length };
}

/** The number of rows per number of elements, the ones that occur. */
export function byElementCount(formulas: PackedFormulas): Record<string, number> {
  return Object.fromEntries([...countByElements(formulas).entries()].filter(([, count]) => count > 0));
}

/** Name of the list of rejected rows that belongs to an output file. */
export function rejectedName(out: string): string {
  return `${out}.rejected.csv`;
}

/** Name of the file that says where a data file came from. */
export function provenanceName(out: string): string {
  return `${out}.provenance.json`;
}

/**
 * Applies the rules of a name to a table and writes what is left: reduced formula, number of elements, and the energy and gap
 * where the table has them, with a provenance file beside it and a list of the rows that could not be used.
 * @throws DataError for a table or an output that cannot be used; ConfigError for rules that do not exist.
 */
export async function prepareData(
  file: string,
  options: TableOptions & { readonly rules: string; readonly out: string },
): Promise<Prepared> {
  const { out } = options;
  const { steps: rules, paper } = rulesOf(options.rules);
  await checkOutput(out);
  const { table, entries, rejected, unusable, rows } = await readEntries(file, options);
  if (rules.includes(positiveGap) && table.gapColumn === null) {
    throw new DataError(
      `${file}: has no band gap column; name one with --gap-column, there are ${table.columns.join(', ')}`,
    );
  }

  const steps: { rule: string; removed: number; left: number; paper?: number }[] = [];
  const lastOfPaper = rules.filter((rule) => rule !== fits).at(-1);
  let left = entries;
  for (const rule of rules) {
    const before = left;
    left = rule.keep(before);
    const step = { rule: rule.name, removed: before.length - left.length, left: left.length };
    steps.push(rule === lastOfPaper && paper.kept !== null ? { ...step, paper: paper.kept } : step);
    if (rule === fits) {
      for (const { row, formula, packed } of before) {
        if (typeof packed === 'string') rejected.push({ row, text: formula, reason: `does not fit 85 × 8: ${packed}` });
      }
    }
  }
  if (left.length === 0) {
    const what = steps.map(({ rule, removed }) => `${rule}: ${removed}`).join('; ');
    throw new DataError(`${file}: the rules ${options.rules} leave no row (removed: ${what}); choose other rules`);
  }

  const columns: OutColumn[] = [
    { name: 'formula', type: 'text', value: (i) => left[i].formula },
    { name: 'elements', type: 'integer', value: (i) => left[i].elements },
  ];
  if (table.energyColumn !== null) {
    columns.push({ name: 'formation_energy_ev_per_atom', type: 'real', value: (i) => left[i].energy });
  }
  if (table.gapColumn !== null) columns.push({ name: 'band_gap_ev', type: 'real', value: (i) => left[i].gap });
  await writeTable(out, columns, left.length);

  const rejectedFile = rejected.length > 0 ? rejectedName(out) : null;
  if (rejectedFile) {
    const list: OutColumn[] = [
      { name: 'row', type: 'integer', value: (i) => rejected[i].row },
      { name: 'text', type: 'text', value: (i) => rejected[i].text },
      { name: 'reason', type: 'text', value: (i) => rejected[i].reason },
    ];
    await writeTable(rejectedFile, list, rejected.length);
  } else await rm(rejectedName(out), { force: true }); // one of an earlier run would mislead

  const packed = pack(left);
  const prepared: Prepared = {
    rules: options.rules as RulesName,
    source: { file: basename(file), sha256: table.sha256, formulaColumn: table.formulaColumn },
    rows,
    unusable,
    steps,
    kept: left.length,
    byElementCount: byElementCount(packed),
    withoutEnergy: left.filter(({ energy }) => Number.isNaN(energy)).length,
    withoutGap: left.filter(({ gap }) => Number.isNaN(gap)).length,
    paper,
    fingerprint: fingerprintOf(packed),
    out,
    rejectedFile,
  };
  await writeProvenance(out, prepared);
  return prepared;
}

/** Writes the provenance file of a data file, whole or not at all. */
export async function writeProvenance(out: string, facts: object): Promise<void> {
  await writeWhole(provenanceName(out), (temporary) => writeFile(temporary, `${JSON.stringify(facts, null, 2)}\n`));
}

/** Writes packed formulas as a table of `formula`, `elements` and further columns; see `writeTable` for the formats. */
export async function writeFormulas(
  file: string,
  formulas: PackedFormulas,
  more: readonly OutColumn[] = [],
): Promise<void> {
  const { packed, rows } = formulas;
  const columns: OutColumn[] = [
    { name: 'formula', type: 'text', value: (row) => formatFormula(unpackRow(packed, row)) },
    { name: 'elements', type: 'integer', value: (row) => rowElements(packed, row) },
  ];
  await writeTable(file, [...columns, ...more], rows);
}

/** Formulas in memory, ready for training or evaluation. */
export interface LoadedFormulas extends PackedFormulas {
  /** eV per atom for each row, NaN where unknown; undefined where the table has no such column. */
  readonly energies?: Float64Array;
  /** Band gaps in eV, likewise. */
  readonly gaps?: Float64Array;
  /** SHA-256 of the packed rows. */
  readonly fingerprint: string;
  /** Rows of the table. */
  readonly read: number;
  /** Rows that could not be used, by reason; formulas that do not fit 85 × 8 among them. */
  readonly unusable: Record<string, number>;
  /** Rows left out because an equal formula came before (or had the lower energy). */
  readonly duplicates: number;
}

/**
 * Loads the formulas of a prepared file or any other table, reduced and packed.
 * @param options.unique keep one row per formula, the one with the lowest energy (default true).
 * @throws DataError where nothing can be used.
 */
export async function loadFormulas(
  file: string,
  options: TableOptions & { readonly unique?: boolean } = {},
): Promise<LoadedFormulas> {
  const { table, entries, unusable, rows } = await readEntries(file, options);
  for (const { packed } of entries) if (typeof packed === 'string') unusable[packed] = (unusable[packed] ?? 0) + 1;
  const usable = fits.keep(entries);
  if (usable.length === 0)
    throw new DataError(`${file}: no formula fits 85 × 8 (${JSON.stringify(unusable)}); use another file`);
  const kept = (options.unique ?? true) ? duplicates.keep(usable) : usable;
  const packed = pack(kept);
  return {
    ...packed,
    energies: table.energyColumn === null ? undefined : Float64Array.from(kept, ({ energy }) => energy),
    gaps: table.gapColumn === null ? undefined : Float64Array.from(kept, ({ gap }) => gap),
    fingerprint: fingerprintOf(packed),
    read: rows,
    unusable,
    duplicates: usable.length - kept.length,
  };
}

/** Keeps the first row of each formula. */
export function uniqueRows(formulas: PackedFormulas): PackedFormulas {
  const set = PackedSet.of(formulas);
  return { packed: set.packed.slice(), rows: set.size };
}

/**
 * Parts rows at random into training and leave-out rows; the same rows, fraction and seed give the same parts everywhere.
 * @param fraction share that is left out, 0 ≤ fraction < 1; round(rows · fraction) rows are.
 * @returns indices in ascending order.
 */
export function splitRows(
  rows: number,
  fraction: number,
  seed: number,
): { readonly train: Uint32Array; readonly leaveOut: Uint32Array } {
  if (!(fraction >= 0 && fraction < 1))
    throw new ConfigError(`leave-out fraction ${fraction} is not at least 0 and below 1`);
  if (!Number.isSafeInteger(seed)) throw new ConfigError(`seed ${seed} is not a whole number`);
  const order = shuffle(
    Uint32Array.from({ length: rows }, (_, i) => i),
    randomStream(seed, 'split'),
  );
  const count = Math.round(rows * fraction);
  return { leaveOut: order.slice(0, count).sort(), train: order.slice(count).sort() };
}
