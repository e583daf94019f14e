import { rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { DataError, FormulaError } from '../errors.ts';
import { rejectedName } from './dataset.ts';
import { packPlain, rowWords } from './encoding.ts';
import { FormulaFault, parseFormula } from './formula.ts';
import { Describer, descriptorCount, descriptorNames, descriptorSet, type Missing, missingValues } from './magpie.ts';
import { metadataOf, writeSidecar } from './provenance.ts';
import { checkOutput, type OutColumn, readTable, type TableOptions, writeInParts, writeTable } from './tables.ts';

/** What `describeTable` did; the JSON output of `matgan describe`. */
export interface Described {
  readonly source: { readonly file: string; readonly sha256: string; readonly formulaColumn: string };
  readonly descriptors: ReturnType<typeof descriptorSet>;
  /** Rows of the table, malformed lines included, and those that were described. */
  readonly rows: number;
  readonly kept: number;
  /** Rows that could not be described, by reason. */
  readonly unusable: Record<string, number>;
  /** Values that elements lack (`He Electronegativity`) → rows with empty cells for it. */
  readonly missing: Record<string, number>;
  readonly out: string;
  /** List of the rows that could not be described, or null where there was none. */
  readonly rejectedFile: string | null;
}

/** Rejected rows that are listed; further ones are counted, so that a file full of them fills no memory. */
const mostListed = 1_000_000;

/**
 * Describes the formulas of a table, a few thousand rows in memory at a time. Written are `row` (the number in the table, from
 * 1), `formula` as it stands there, and the 145 columns of `descriptorNames`; rows that cannot be described go to OUT.rejected.csv.
 * @throws DataError for a table or an output that cannot be used, and where no row can be described
 */
export async function describeTable(
  file: string,
  options: TableOptions & { readonly out: string; readonly missing?: Missing },
): Promise<Described> {
  const { out } = options;
  await checkOutput(out);
  if (resolve(file) === resolve(out)) throw new DataError(`${out}: is the file that is read; name another to write`);
  const describer = new Describer(options.missing);
  const words = new Uint32Array(rowWords);
  const values = new Float64Array(descriptorCount);
  // The rows that wait to be written.
  let matrix = new Float64Array(2048 * descriptorCount);
  let waiting: { row: number; text: string }[] = [];
  let kept = 0;
  const unusable = new Map<string, number>();
  const missing = new Map<string, number>();
  const rejected: { row: number | null; text: string; reason: string }[] = [];
  const count = (counts: Map<string, number>, key: string): unknown => counts.set(key, (counts.get(key) ?? 0) + 1);
  const reject = (row: number | null, text: string, kind: string, reason: string): void => {
    count(unusable, kind);
    if (rejected.length < mostListed) rejected.push({ row, text, reason });
  };
  const take = (text: string, row: number): void => {
    if (packPlain(text, words, 0)) describer.row(words, 0, values, 0);
    else {
      const composition = parseFormula(text);
      describer.composition(composition, values, 0);
      for (const { element, property } of missingValues(composition)) count(missing, `${element} ${property}`);
    }
    if ((waiting.length + 1) * descriptorCount > matrix.length) {
      const larger = new Float64Array(2 * matrix.length);
      larger.set(matrix);
      matrix = larger;
    }
    matrix.set(values, waiting.length * descriptorCount);
    waiting.push({ row, text });
    kept++;
  };
  const columns: OutColumn[] = [
    { name: 'row', type: 'integer', value: (i) => waiting[i].row },
    { name: 'formula', type: 'text', value: (i) => waiting[i].text },
    ...descriptorNames.map((name, k): OutColumn => {
      return { name, type: 'real', value: (i) => matrix[i * descriptorCount + k] };
    }),
  ];
  let facts: Omit<Described, 'out' | 'rejectedFile'> | undefined;
  await writeInParts(out, columns, async (add) => {
    const drain = async (): Promise<void> => {
      await add(waiting.length);
      waiting = [];
    };
    const table = await readTable(file, { ...options, drain }, (text, _energy, _gap, row) => {
      if (text === null || text.trim() === '') return reject(row, '', 'missing', 'the formula is missing');
      try {
        take(text, row);
      } catch (error) {
        if (!(error instanceof FormulaError)) throw error;
        reject(row, text, error instanceof FormulaFault ? error.kind : 'not a formula', error.message);
      }
    });
    for (const { line, text } of table.malformed)
      reject(null, text, 'malformed line', `line ${line} is no row of the table`);
    facts = {
      source: { file: basename(file), sha256: table.sha256, formulaColumn: table.formulaColumn },
      descriptors: descriptorSet(),
      rows: table.rows + table.malformed.length,
      kept,
      unusable: Object.fromEntries([...unusable].sort((a, b) => b[1] - a[1])),
      missing: Object.fromEntries([...missing].sort((a, b) => b[1] - a[1])),
    };
    if (kept === 0) {
      const reasons = Object.entries(facts.unusable).map(([kind, rows]) => `${rows} × ${kind}`);
      throw new DataError(
        `${file}: none of the ${facts.rows} rows of column "${table.formulaColumn}" can be described ` +
          `(${reasons.join(', ')}; ${rejected[0].reason}); name another with --formula-column`,
      );
    }
    return metadataOf(facts);
  });
  await writeSidecar(out, facts!);
  const list: OutColumn[] = [
    { name: 'row', type: 'integer', value: (i) => rejected[i].row },
    { name: 'text', type: 'text', value: (i) => rejected[i].text },
    { name: 'reason', type: 'text', value: (i) => rejected[i].reason },
  ];
  const rejectedFile = rejected.length > 0 ? rejectedName(out) : null;
  if (rejectedFile) await writeTable(rejectedFile, list, rejected.length);
  else await rm(rejectedName(out), { force: true }); // one of an earlier run would mislead
  return { ...facts!, out, rejectedFile };
}
