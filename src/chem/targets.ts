import { DataError } from '../errors.ts';
import { elementCount } from './encoding.ts';
import { FormulaFault, formatFormula, parseFormula, quoted, reduceFormula } from './formula.ts';
import { writeFractions } from './fractions.ts';
import { readTable, type TableOptions } from './tables.ts';

/** Formulas with a number each: what a regressor trains on, or is held against. */

/** Formulas of a table with their targets, one row a reduced formula. */
export interface LoadedTargets {
  /** Reduced formulas. */
  readonly formulas: readonly string[];
  /** [rows, 85]. */
  readonly fractions: Float32Array;
  readonly targets: Float64Array;
  readonly rows: number;
  /** Rows of the table. */
  readonly read: number;
  /** Rows that could not be used, by reason, and the first of each. */
  readonly unusable: Readonly<Record<string, { count: number; first: string }>>;
  /** Rows without a target: no fault of theirs. */
  readonly withoutTarget: number;
  /** Rows left out because an equal formula had a lower target (or the same one before). */
  readonly duplicates: number;
  /** SHA-256 of the file's bytes, hexadecimal. */
  readonly sha256: string;
}

/** No energy per atom and no band gap, in eV, is as large. */
const largestTarget = 100;

/** What was found in a column of numbers. */
export interface TargetTally {
  /** Values that could not be used, by reason, and the first of each. */
  unusable: Record<string, { count: number; first: string }>;
  /** Rows where there is none. */
  without: number;
}

function count({ unusable }: TargetTally, kind: string, row: number, what: string): void {
  const entry = (unusable[kind] ??= { count: 0, first: `row ${row}: ${what}` });
  entry.count++;
}

/** The number that a text says; null, and an entry in the tally, where there is none, or one that no energy or gap has. */
export function targetOf(text: string | null, row: number, tally: TargetTally): number | null {
  const plain = text?.trim() ?? '';
  if (plain === '') {
    tally.without++;
    return null;
  }
  const value = Number(plain);
  if (/^[+-]?(nan|inf(inity)?)$/i.test(plain)) count(tally, 'the target is not finite', row, quoted(plain));
  else if (Number.isNaN(value)) count(tally, 'the target is no number', row, quoted(plain));
  else if (Math.abs(value) > largestTarget) {
    count(tally, `the target is beyond ±${largestTarget}; it must be in eV (per atom)`, row, quoted(plain));
  } else return value;
  return null;
}

/**
 * Loads formulas and a column of numbers. Amounts may be fractional. Of equal reduced formulas the lowest target stays, as the data
 * rules have it for energies.
 * @throws DataError where there is no such column, or no row can be used, or more rows have an impossible target than a possible one
 */
export async function loadTargets(
  file: string,
  { target, ...options }: TableOptions & { readonly target: string },
): Promise<LoadedTargets> {
  const best = new Map<string, number>();
  const tally: TargetTally = { unusable: {}, without: 0 };
  const { unusable } = tally;
  let [duplicates, wrong] = [0, 0];
  const formulas: string[] = [];
  let fractions = new Float32Array(1024 * elementCount);
  let targets = new Float64Array(1024);
  const labels = { labelColumn: target, labelOption: '--target' };
  const table = await readTable(file, { ...options, ...labels }, (text, _energy, _gap, row, label) => {
    const before = tally.without;
    const value = targetOf(label, row, tally);
    if (value === null) {
      if (tally.without === before) wrong++;
      return;
    }
    if (text === null || text.trim() === '') return count(tally, 'missing', row, 'the formula is missing');
    try {
      const composition = reduceFormula(parseFormula(text));
      const formula = formatFormula(composition);
      const known = best.get(formula);
      if (known !== undefined) {
        duplicates++;
        if (value < targets[known]) targets[known] = value;
        return;
      }
      const at = formulas.length;
      if (at === targets.length) {
        const [less, fewer] = [fractions, targets];
        fractions = new Float32Array(2 * less.length);
        targets = new Float64Array(2 * fewer.length);
        fractions.set(less);
        targets.set(fewer);
      }
      writeFractions(composition, fractions, at * elementCount);
      targets[at] = value;
      best.set(formula, at);
      formulas.push(formula);
    } catch (error) {
      if (!(error instanceof FormulaFault)) throw error;
      count(tally, error.kind, row, error.message);
    }
  });
  for (const { line } of table.malformed) count(tally, 'malformed line', line, 'it is no row of the table');
  const rows = formulas.length;
  if (wrong > rows) {
    const [kind, { first }] = Object.entries(unusable).sort((a, b) => b[1].count - a[1].count)[0];
    throw new DataError(
      `${file}: column ${quoted(target)}: ${wrong} of ${table.rows} rows cannot be used (${kind}; ${first})`,
    );
  }
  if (rows === 0) {
    const reasons = Object.values(unusable).map(({ first }) => first);
    throw new DataError(
      `${file}: no row has a formula and a target in column ${quoted(target)} (${tally.without} have no target${reasons.length ? `; ${reasons[0]}` : ''})`,
    );
  }
  return {
    formulas,
    fractions: fractions.slice(0, rows * elementCount),
    targets: targets.slice(0, rows),
    rows,
    read: table.rows + table.malformed.length,
    unusable,
    withoutTarget: tally.without,
    duplicates,
    sha256: table.sha256,
  };
}
