import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { ConfigError, DataError } from '../errors.ts';
import {
  countByElements,
  maxPairs,
  type PackedFormulas,
  PackedSet,
  packFormula,
  packPlain,
  pairAt,
  rowElements,
  rowWords,
  takeRows,
} from './encoding.ts';
import { FormulaFault, formatFormula, parseFormula, reduceFormula } from './formula.ts';
import { metadataOf, type Provenance, readProvenance, writeSidecar } from './provenance.ts';
import { randomStream, shuffle } from './random.ts';
import { formulaText } from './rows.ts';
import { checkOutput, type OutColumn, readTable, type TableOptions, type TableRead, writeTable } from './tables.ts';
import { flagEN, Judge } from './validity.ts';

/**
 * The paper's data rules by name, and the way from a table to packed formulas.
 *
 * Two rows are the same formula when their reduced formulas are equal (K4Mn4O8 is KMnO2), and every rule looks at the
 * reduced formula: with unreduced ones a third of the Materials Project would fall to the rule of 8 atoms, and the paper's counts
 * would be out of reach.
 */

/** A formula that does not fit 85 × 8: the rules look at it all the same. */
interface Misfit {
  /** Number of its row in the table, from 1. */
  readonly row: number;
  /** Reduced formula. */
  readonly formula: string;
  readonly elements: number;
  /** Greatest number of atoms of one element. */
  readonly most: number;
  readonly kryptonOrHelium: boolean;
  /** Why it does not fit. */
  readonly why: string;
}

/**
 * The formulas of a table on their way through the rules, side by side in columns: 16 bytes each, and 8 for an energy and a
 * gap where the table has them. Rules choose among their numbers, 0, 1, 2 …
 */
class Entries {
  count = 0;
  /** 4 words each, zeros for misfits. */
  packed = new Uint32Array(4096);
  readonly misfits = new Map<number, Misfit>();
  private energies: Float64Array | undefined;
  private gaps: Float64Array | undefined;

  /** eV per atom, NaN where there is none. */
  energy(i: number): number {
    return this.energies?.[i] ?? Number.NaN;
  }

  /** eV, NaN where there is none. */
  gap(i: number): number {
    return this.gaps?.[i] ?? Number.NaN;
  }

  /** Number of elements. */
  elements(i: number): number {
    return this.misfits.get(i)?.elements ?? rowElements(this.packed, i);
  }

  /** Reduced formula. */
  formula(i: number): string {
    return this.misfits.get(i)?.formula ?? formulaText(this.packed, i);
  }

  /** Adds what `text` says. @throws FormulaFault where it cannot be read */
  add(text: string, energy: number, gap: number, row: number): void {
    if ((this.count + 1) * rowWords > this.packed.length) this.packed = grown(this.packed);
    const i = this.count;
    if (!packPlain(text, this.packed, i)) {
      const composition = reduceFormula(parseFormula(text));
      try {
        this.packed.set(packFormula(composition), i * rowWords);
      } catch (error) {
        if (!(error instanceof FormulaFault)) throw error;
        this.misfits.set(i, {
          row,
          formula: formatFormula(composition),
          elements: composition.size,
          most: Math.max(...composition.values()),
          kryptonOrHelium: composition.has('Kr') || composition.has('He'),
          why: error.kind,
        });
      }
    }
    this.count++;
    this.energies = this.column(this.energies, i, energy);
    this.gaps = this.column(this.gaps, i, gap);
  }

  /** Notes a number; the column is made for the first one that there is. */
  private column(values: Float64Array | undefined, i: number, value: number): Float64Array | undefined {
    if (!values && !Number.isFinite(value)) return undefined;
    const rows = this.packed.length / rowWords;
    let column = values ?? new Float64Array(rows).fill(Number.NaN);
    if (column.length < rows) {
      const larger = new Float64Array(rows).fill(Number.NaN, column.length);
      larger.set(column);
      column = larger;
    }
    column[i] = Number.isFinite(value) ? value : Number.NaN;
    return column;
  }
}

/** A copy with room for half as many again. */
function grown(words: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(Math.ceil((words.length * 3) / 8) * 4);
  larger.set(words);
  return larger;
}

/** Numbers of entries, ascending but for those that stand in for an earlier one. */
type Chosen = Uint32Array;

interface Rule {
  readonly name: string;
  readonly keep: (entries: Entries, chosen: Chosen) => Chosen;
}

const duplicates: Rule = {
  name: 'one row per formula, the lowest energy',
  keep: (entries, chosen) => {
    const set = new PackedSet();
    const texts = new Map<string, number>();
    /** Best entry of each formula, in the order of their first ones; that order by number in the set. */
    const best = new Uint32Array(chosen.length);
    const orderOf = new Uint32Array(chosen.length);
    let kinds = 0;
    for (const i of chosen) {
      const misfit = entries.misfits.get(i);
      let kind: number | undefined;
      if (misfit) {
        kind = texts.get(misfit.formula);
        if (kind === undefined) texts.set(misfit.formula, kinds);
      } else {
        const known = set.size;
        const member = set.insert(entries.packed, i);
        if (set.size > known) orderOf[member] = kinds;
        else kind = orderOf[member];
      }
      if (kind === undefined) best[kinds++] = i;
      else {
        const [energy, other] = [entries.energy(i), entries.energy(best[kind])];
        // A row with an energy is better than one without; the first of equals stays.
        if (energy < other || (Number.isNaN(other) && !Number.isNaN(energy))) best[kind] = i;
      }
    }
    return best.slice(0, kinds);
  },
};
const singleElements: Rule = {
  name: 'no single elements',
  keep: (entries, chosen) => chosen.filter((i) => entries.elements(i) > 1),
};
const fiveSigma: Rule = {
  name: 'formation energy within mean ± 5σ',
  keep: (entries, chosen) => {
    // Rows without an energy cannot be judged and stay; they do not count towards mean and σ either.
    let [count, sum, squares] = [0, 0, 0];
    const overEnergies = (use: (energy: number) => void): void => {
      for (const i of chosen) {
        const energy = entries.energy(i);
        if (!Number.isNaN(energy)) use(energy);
      }
    };
    overEnergies((energy) => {
      count++;
      sum += energy;
    });
    const mean = sum / count;
    overEnergies((energy) => {
      squares += (energy - mean) ** 2;
    });
    const sigma = Math.sqrt(squares / count);
    return chosen.filter((i) => !(Math.abs(entries.energy(i) - mean) > 5 * sigma));
  },
};
const eightAtoms: Rule = {
  name: 'at most 8 atoms of an element',
  keep: (entries, chosen) => chosen.filter((i) => (entries.misfits.get(i)?.most ?? 0) <= 8),
};
const kryptonHelium: Rule = {
  name: 'no Kr or He',
  keep: (entries, chosen) => chosen.filter((i) => !entries.misfits.get(i)?.kryptonOrHelium),
};
const positiveGap: Rule = {
  name: 'band gap above 0',
  keep: (entries, chosen) => chosen.filter((i) => entries.gap(i) > 0),
};
const balanced: Rule = {
  name: 'charge-neutral and electronegativity-balanced',
  keep: (entries, chosen) => {
    const judge = new Judge();
    return chosen.filter((i) => !entries.misfits.has(i) && (judge.row(entries.packed, i) & flagEN) !== 0);
  },
};
/** Not the paper's: what the 85 × 8 matrix cannot hold. Comes last in every set of rules. */
const fits: Rule = {
  name: 'fits 85 × 8',
  keep: (entries, chosen) => chosen.filter((i) => !entries.misfits.has(i)),
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
  entries: Entries;
  rejected: Rejected[];
  unusable: Record<string, number>;
  rows: number;
}> {
  const entries = new Entries();
  const rejected: Rejected[] = [];
  const counts = new Map<string, number>();
  const reject = (row: number | null, text: string, kind: string, reason: string): void => {
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    rejected.push({ row, text, reason });
  };
  const table = await readTable(file, options, (text, energy, gap, row) => {
    if (text === null) return reject(row, '', 'missing', 'the formula is missing');
    try {
      entries.add(text, energy, gap, row);
    } catch (error) {
      if (!(error instanceof FormulaFault)) throw error;
      reject(row, text, error.kind, error.message);
    }
  });
  for (const { line, text } of table.malformed)
    reject(null, text, 'malformed line', `line ${line} is no row of the table`);
  const unusable = Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
  if (entries.count === 0) {
    const [kind, count] = Object.entries(unusable)[0];
    const example = rejected.find(({ reason }) => reason !== '')!;
    throw new DataError(
      `${file}: none of the ${rejected.length} rows of column "${table.formulaColumn}" is a formula ` +
        `(${count} × ${kind}; ${example.reason}); name another with --formula-column`,
    );
  }
  return { table, entries, rejected, unusable, rows: table.rows + table.malformed.length };
}

/** What `data prepare` did: its JSON output, and but for the files' names the provenance in what it wrote. */
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
  const hash = createHash('sha256');
  const some = 65_536;
  const bytes = new Uint8Array(4 * some);
  const view = new DataView(bytes.buffer);
  for (let from = 0; from < rows * rowWords; from += some) {
    const count = Math.min(some, rows * rowWords - from);
    for (let i = 0; i < count; i++) view.setUint32(i * 4, packed[from + i], true);
    hash.update(bytes.subarray(0, 4 * count));
  }
  return hash.digest('hex');
}

/** The rows of chosen entries that fit. */
const pack = (entries: Entries, chosen: Chosen): PackedFormulas => ({
  packed: takeRows(entries.packed, chosen),
  rows: chosen.length,
});

/** All entries. */
const everyOne = ({ count }: Entries): Chosen => {
  const chosen = new Uint32Array(count);
  for (let i = 0; i < count; i++) chosen[i] = i;
  return chosen;
};

/** The number of rows per number of elements, the ones that occur. */
export function byElementCount(formulas: PackedFormulas): Record<string, number> {
  return Object.fromEntries([...countByElements(formulas).entries()].filter(([, count]) => count > 0));
}

/** Name of the list of rejected rows that belongs to an output file. */
export function rejectedName(out: string): string {
  return `${out}.rejected.csv`;
}

/**
 * Applies the rules of a name to a table and writes what is left: reduced formula, number of elements, and the energy and gap
 * where the table has them, with its provenance inside (or beside, see `writeSidecar`), and a list of the rows that could not be used.
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
  let left = everyOne(entries);
  for (const rule of rules) {
    const before = left;
    left = rule.keep(entries, before);
    const step = { rule: rule.name, removed: before.length - left.length, left: left.length };
    steps.push(rule === lastOfPaper && paper.kept !== null ? { ...step, paper: paper.kept } : step);
    if (rule === fits) {
      for (const i of before) {
        const misfit = entries.misfits.get(i);
        if (!misfit) continue;
        const { row, formula, why } = misfit;
        rejected.push({ row, text: formula, reason: `does not fit 85 × 8: ${why}` });
      }
    }
  }
  if (left.length === 0) {
    const what = steps.map(({ rule, removed }) => `${rule}: ${removed}`).join('; ');
    throw new DataError(`${file}: the rules ${options.rules} leave no row (removed: ${what}); choose other rules`);
  }

  const packed = pack(entries, left);
  const facts = {
    rules: options.rules as RulesName,
    source: { file: basename(file), sha256: table.sha256, formulaColumn: table.formulaColumn },
    rows,
    unusable,
    steps,
    kept: left.length,
    byElementCount: byElementCount(packed),
    withoutEnergy: left.filter((i) => Number.isNaN(entries.energy(i))).length,
    withoutGap: left.filter((i) => Number.isNaN(entries.gap(i))).length,
    paper,
    fingerprint: fingerprintOf(packed),
  };
  await writeDataSet(out, packed, facts, {
    energies: table.energyColumn === null ? undefined : (i) => entries.energy(left[i]),
    gaps: table.gapColumn === null ? undefined : (i) => entries.gap(left[i]),
  });

  const rejectedFile = rejected.length > 0 ? rejectedName(out) : null;
  if (rejectedFile) {
    const list: OutColumn[] = [
      { name: 'row', type: 'integer', value: (i) => rejected[i].row },
      { name: 'text', type: 'text', value: (i) => rejected[i].text },
      { name: 'reason', type: 'text', value: (i) => rejected[i].reason },
    ];
    await writeTable(rejectedFile, list, rejected.length);
  } else await rm(rejectedName(out), { force: true }); // one of an earlier run would mislead
  return { ...facts, out, rejectedFile };
}

/**
 * Writes a data set with what there is to say of it: `formula`, `elements`, and the energies (eV per atom) and gaps (eV) of its
 * rows where there are any.
 * @throws DataError
 */
export async function writeDataSet(
  out: string,
  formulas: PackedFormulas,
  facts: Provenance,
  { energies, gaps }: { energies?: (row: number) => number; gaps?: (row: number) => number } = {},
): Promise<void> {
  const more: OutColumn[] = [];
  if (energies) more.push({ name: 'formation_energy_ev_per_atom', type: 'real', value: energies });
  if (gaps) more.push({ name: 'band_gap_ev', type: 'real', value: gaps });
  await writeFormulas(out, formulas, more, metadataOf(facts));
  await writeSidecar(out, facts);
}

/** Writes packed formulas as a table of `formula`, `elements` and further columns; see `writeTable` for the formats. */
export async function writeFormulas(
  file: string,
  formulas: PackedFormulas,
  more: readonly OutColumn[] = [],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { packed, rows } = formulas;
  const columns: OutColumn[] = [
    { name: 'formula', type: 'text', value: (row) => formulaText(packed, row) },
    { name: 'elements', type: 'integer', value: (row) => rowElements(packed, row) },
  ];
  await writeTable(file, [...columns, ...more], rows, metadata);
}

/** Formulas in memory, ready for training or evaluation. */
export interface LoadedFormulas extends PackedFormulas {
  /** eV per atom for each row, NaN where unknown; undefined where the table has no such column. */
  readonly energies?: Float64Array;
  /** Band gaps in eV, likewise. */
  readonly gaps?: Float64Array;
  /** SHA-256 of the packed rows. */
  readonly fingerprint: string;
  /** SHA-256 of the file, and the column that was read. */
  readonly sha256: string;
  readonly formulaColumn: string;
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
  for (const { why } of entries.misfits.values()) unusable[why] = (unusable[why] ?? 0) + 1;
  const usable = fits.keep(entries, everyOne(entries));
  if (usable.length === 0)
    throw new DataError(`${file}: no formula fits 85 × 8 (${JSON.stringify(unusable)}); use another file`);
  const kept = (options.unique ?? true) ? duplicates.keep(entries, usable) : usable;
  const packed = pack(entries, kept);
  return {
    ...packed,
    energies: table.energyColumn === null ? undefined : Float64Array.from(kept, (i) => entries.energy(i)),
    gaps: table.gapColumn === null ? undefined : Float64Array.from(kept, (i) => entries.gap(i)),
    fingerprint: fingerprintOf(packed),
    sha256: table.sha256,
    formulaColumn: table.formulaColumn,
    read: rows,
    unusable,
    duplicates: usable.length - kept.length,
  };
}

/** Formulas of a generator's table. */
export interface LoadedSamples extends PackedFormulas {
  /** Rows of the table. */
  readonly read: number;
  /** Rows that could not be used, by reason; formulas that do not fit 85 × 8 among them. */
  readonly unusable: Record<string, number>;
  /** SHA-256 of the file's bytes, hexadecimal. */
  readonly sha256: string;
}

/** More samples than this are refused: 16 bytes each here, and twice that again for the different ones. */
export const mostSamples = 50_000_000;

/**
 * Loads the formulas of a generated table, reduced and packed, repeats and order kept. Of what cannot be used only the reasons
 * are counted, so that a file full of it takes no more memory than a good one.
 * @throws DataError where nothing can be used; it names the first reason with an example.
 */
export async function loadSamples(file: string, options: TableOptions = {}): Promise<LoadedSamples> {
  let packed = new Uint32Array(4096);
  let rows = 0;
  const unusable = new Map<string, number>();
  let example = '';
  const reject = (kind: string, reason: string): void => {
    unusable.set(kind, (unusable.get(kind) ?? 0) + 1);
    example ||= reason;
  };
  const table = await readTable(file, options, (text, _energy, _gap, row) => {
    if (text === null || text.trim() === '') return reject('missing', `row ${row}: the formula is missing`);
    if ((rows + 1) * rowWords > packed.length) packed = grown(packed);
    if (!packPlain(text, packed, rows)) {
      try {
        packed.set(packFormula(reduceFormula(parseFormula(text))), rows * rowWords);
      } catch (error) {
        if (!(error instanceof FormulaFault)) throw error;
        return reject(error.kind, error.message);
      }
    }
    if (++rows > mostSamples) {
      throw new DataError(`${file}: has more than ${mostSamples} formulas; evaluate a part of it`);
    }
  });
  if (table.malformed.length > 0) unusable.set('malformed line', table.malformed.length);
  const sorted = Object.fromEntries([...unusable].sort((a, b) => b[1] - a[1]));
  if (rows === 0) {
    const total = table.rows + table.malformed.length;
    const reasons = Object.entries(sorted).map(([kind, count]) => `${count} × ${kind}`);
    throw new DataError(
      `${file}: none of the ${total} rows of column "${table.formulaColumn}" is a formula that fits 85 × 8 ` +
        `(${reasons.join(', ')}; ${example}); name another column with --formula-column, or another file`,
    );
  }
  return { packed, rows, read: table.rows + table.malformed.length, unusable: sorted, sha256: table.sha256 };
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
  const all = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) all[row] = row;
  const order = shuffle(all, randomStream(seed, 'split'));
  const count = Math.round(rows * fraction);
  return { leaveOut: order.slice(0, count).sort(), train: order.slice(count).sort() };
}

/** What `data info` tells of a file; its JSON output. */
export interface DataInfo {
  readonly file: string;
  /** Rows that can be used, repeats among them, and the others by reason. */
  readonly rows: number;
  readonly unusable: Record<string, number>;
  readonly byElementCount: Record<string, number>;
  /** Different elements in them. */
  readonly elements: number;
  readonly fingerprint: string;
  /** What it says of itself, null where it says nothing, and whether its fingerprint is that of the rows. */
  readonly provenance: Provenance | null;
  readonly verified: boolean | null;
}

/** Reads a data file and what it says about itself, and holds one against the other. @throws DataError */
export async function dataInfo(file: string, options: TableOptions = {}): Promise<DataInfo> {
  const loaded = await loadFormulas(file, { ...options, unique: false });
  const provenance = await readProvenance(file);
  const { rows, unusable, fingerprint } = loaded;
  return {
    file,
    rows,
    unusable,
    byElementCount: byElementCount(loaded),
    elements: countDistinct(loaded),
    fingerprint,
    provenance,
    verified: provenance?.fingerprint === undefined ? null : provenance.fingerprint === fingerprint,
  };
}

/** The number of different elements in packed rows. */
function countDistinct({ packed, rows }: PackedFormulas): number {
  const seen = new Set<number>();
  for (let row = 0; row < rows; row++) {
    for (let i = 0, pair = 1; i < maxPairs && pair !== 0; i++) {
      pair = pairAt(packed, row, i);
      if (pair !== 0) seen.add(pair >> 8);
    }
  }
  return seen.size;
}

/** What `data split` did; its JSON output. */
export interface Split {
  readonly rows: number;
  readonly leaveOut: number;
  readonly seed: number;
  readonly training: { readonly rows: number; readonly fingerprint: string; readonly out: string };
  readonly leftOut: { readonly rows: number; readonly fingerprint: string; readonly out: string };
}

/**
 * Parts a table's formulas as training does, and writes both parts, each with its provenance.
 * @throws DataError for a table or an output that cannot be used, ConfigError for a share or a seed that is none.
 */
export async function splitData(
  file: string,
  options: TableOptions & { leaveOut: number; seed: number; outTrain: string; outLeaveOut: string },
): Promise<Split> {
  const { leaveOut: share, seed, outTrain, outLeaveOut } = options;
  for (const out of [outTrain, outLeaveOut]) await checkOutput(out);
  const files = [file, outTrain, outLeaveOut].map((path) => resolve(path));
  if (new Set(files).size < 3) throw new DataError(`${file}: it and both parts are three files; give them three names`);
  const loaded = await loadFormulas(file, options);
  const { train, leaveOut } = splitRows(loaded.rows, share, seed);
  if (leaveOut.length === 0 || train.length === 0)
    throw new DataError(`${file}: ${share} of ${loaded.rows} formulas leaves a part empty; choose another share`);
  const whole = await readProvenance(file);
  const source = { file: basename(file), sha256: loaded.sha256, formulaColumn: loaded.formulaColumn };
  const { energies, gaps, fingerprint, rows } = loaded;
  const part = async (name: 'training' | 'leave-out', chosen: Uint32Array, out: string) => {
    const packed = { packed: takeRows(loaded.packed, chosen), rows: chosen.length };
    const facts = {
      source,
      ...whole,
      kept: packed.rows,
      byElementCount: byElementCount(packed),
      withoutEnergy: energies && chosen.filter((i) => Number.isNaN(energies[i])).length,
      withoutGap: gaps && chosen.filter((i) => Number.isNaN(gaps[i])).length,
      fingerprint: fingerprintOf(packed),
      split: { part: name, leaveOut: share, seed, of: fingerprint, rows },
    };
    await writeDataSet(out, packed, facts, {
      energies: energies && ((i) => energies[chosen[i]]),
      gaps: gaps && ((i) => gaps[chosen[i]]),
    });
    return { rows: packed.rows, fingerprint: facts.fingerprint, out };
  };
  return {
    rows,
    leaveOut: share,
    seed,
    training: await part('training', train, outTrain),
    leftOut: await part('leave-out', leaveOut, outLeaveOut),
  };
}
