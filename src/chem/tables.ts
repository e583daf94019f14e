import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, open, rename, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type { DuckDBAppender, DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { DataError } from '../errors.ts';
import { parseFormula, quoted } from './formula.ts';

/**
 * Tables in and out through DuckDB: CSV, TSV, JSON, JSON lines and Parquet, each also gzipped. CSV and JSON are read as text
 * and turned into numbers here, so that one odd row never decides what a column is. Nothing is loaded from a network.
 */

/** What a caller can say about a table. Columns that are not named are found by their usual names. */
export interface TableOptions {
  readonly formulaColumn?: string;
  readonly energyColumn?: string;
  readonly gapColumn?: string;
  /** A column of text that is handed on with each row. */
  readonly labelColumn?: string;
  /** The option that names it, for errors. */
  readonly labelOption?: string;
  /** Called now and then with the number of rows read so far. */
  readonly progress?: (rows: number) => void;
  /** Awaited after each few thousand rows: whoever writes what is read can keep up. */
  readonly drain?: () => Promise<void>;
}

/** A line that is no row: too many columns, an open quote, bytes that are not UTF-8. */
export interface MalformedLine {
  /** Line of the file, from 1. */
  readonly line: number;
  readonly text: string;
}

export interface TableRead {
  readonly columns: readonly string[];
  readonly formulaColumn: string;
  readonly energyColumn: string | null;
  readonly gapColumn: string | null;
  /** True where the first line named the columns. */
  readonly header: boolean;
  /** Rows handed to the callback; malformed lines are not among them. */
  readonly rows: number;
  readonly malformed: readonly MalformedLine[];
  /** SHA-256 of the file's bytes, hexadecimal. */
  readonly sha256: string;
}

/** Receives a row: the formula's text or null, energy and gap (NaN where there is none), its number from 1, and its label. */
export type RowSink = (text: string | null, energy: number, gap: number, row: number, label: string | null) => void;

const formulaNames = [
  'formula',
  'reduced_formula',
  'formula_pretty',
  'pretty_formula',
  'formula_reduced',
  'chemical_formula',
  'chemical_formula_reduced',
  'chemical_formula_sum',
  'full_formula',
  'composition',
  'compound',
];
const energyNames = [
  'formation_energy_ev_per_atom',
  'formation_energy_per_atom',
  'formation_energy',
  'e_form',
  'delta_e',
  'energy_per_atom',
  'energy',
];
const gapNames = ['band_gap_ev', 'band_gap', 'bandgap', 'gap_pbe', 'gap', 'e_gap', 'eg'];

/** DuckDB, loaded on first use: a third of a second that a run on the default set need not wait for. */
const duckdb = () => import('@duckdb/node-api');
let shared: Promise<DuckDBInstance> | undefined;

/** Runs something on a connection of its own to the one in-memory database; the process can end once it is closed. */
async function withConnection<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
  const { DuckDBInstance } = await duckdb();
  shared ??= DuckDBInstance.create(':memory:', {
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    // Else it makes a folder .tmp in the working directory when memory runs short.
    temp_directory: '',
  });
  const connection = await (await shared).connect();
  try {
    return await work(connection);
  } finally {
    connection.closeSync();
  }
}

function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function sqlName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** First line of an error's message, which is all that fits a one-line error. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0].slice(0, 200);
}

/** The columns that are there, for an error message. */
function listOf(columns: readonly string[]): string {
  const shown = columns.slice(0, 20).map(quoted).join(', ');
  return columns.length > 20 ? `${shown} and ${columns.length - 20} more` : shown;
}

/** An archive that unpacks to more than both is a bomb: real tables of formulas shrink three- to tenfold. */
const freeBytes = 2 ** 25;
const mostInflation = 50;
/** Brackets within brackets: DuckDB's reader follows them by recursion, and enough of them end the process. */
const deepestJson = 200;
/** Columns that are read at all: each takes memory for every row of a batch, named or not. */
const mostColumns = 2000;
/** Rows that any file may have, and rows for each of its bytes beyond: Parquet can say a row a million times in few bytes. */
const freeRows = 100_000;
const mostRowsAByte = 8;

type Format = 'csv' | 'json' | 'parquet';

interface Source {
  readonly file: string;
  readonly gzip: boolean;
  readonly format: Format;
  /** Text from the start of the file, without a byte-order mark; empty for Parquet. */
  readonly head: string;
  readonly sha256: string;
  /** Size of the file. */
  readonly bytes: number;
  /** Line breaks in the text, and the line on which the last quote opens that is never closed (0 where all are). */
  readonly lines: number;
  readonly openQuote: number;
}

/** What a walk over a file's bytes counts. */
class Walk {
  bytes = 0;
  lines = 0;
  openQuote = 0;
  /** Deepest nesting, were the text JSON; a text that begins with a bracket is one value, others have one a line. */
  deepest = 0;
  private depth = 0;
  private inString = false;
  private escaped = false;
  private array: boolean | undefined;

  take(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    // Fields in local variables: this runs for every byte.
    let { lines, openQuote, deepest, depth, inString, escaped, array } = this;
    for (let i = 0; i < chunk.length; i++) {
      const c = chunk[i];
      // 32 and below are white space, 239, 187 and 191 a byte-order mark.
      if (array === undefined && c > 32 && c !== 239 && c !== 187 && c !== 191) array = c === 91;
      if (c === 10) {
        lines++;
        // No string of JSON goes over a line's end.
        inString = false;
        if (!array) depth = 0;
      } else if (c === 34) {
        openQuote = openQuote === 0 ? lines + 1 : 0;
        if (!escaped) inString = !inString;
      } else if (!inString) {
        if (c === 91 || c === 123) {
          if (++depth > deepest) deepest = depth;
        } else if ((c === 93 || c === 125) && depth > 0) depth--;
      }
      escaped = inString && c === 92 && !escaped;
    }
    Object.assign(this, { lines, openQuote, deepest, depth, inString, escaped, array });
  }
}

/** Looks at a file before DuckDB does: is it there, whole, text, and of which format. */
async function inspect(file: string): Promise<Source> {
  let packedBytes: number;
  try {
    const found = await stat(file);
    if (found.isDirectory()) throw new DataError(`${file}: is a folder; name a file inside it`);
    if (!found.isFile()) throw new DataError(`${file}: is not a plain file; copy its contents into one`);
    packedBytes = found.size;
  } catch (error) {
    if (error instanceof DataError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new DataError(`${file}: no such file; check the path`);
    throw new DataError(`${file}: cannot be read (${code ?? reasonOf(error)}); check its permissions`);
  }
  if (packedBytes === 0) throw new DataError(`${file}: the file is empty; it needs at least one formula`);

  const hash = createHash('sha256');
  const start: Buffer[] = [];
  let kept = 0;
  let gzip: boolean;
  const walk = new Walk();
  let taken = 0;
  try {
    const handle = await open(file);
    try {
      const magic = Buffer.alloc(2);
      await handle.read(magic, 0, 2, 0);
      gzip = magic[0] === 0x1f && magic[1] === 0x8b;
    } finally {
      await handle.close();
    }
    const keep = new Writable({
      write(chunk: Buffer, _encoding, done) {
        walk.take(chunk);
        if (walk.bytes > freeBytes && walk.bytes > mostInflation * taken) {
          const what = `unpacks to over ${mostInflation} times its size, as no table of formulas does`;
          return done(new DataError(`${file}: ${what}; unpack it yourself if you trust it`));
        }
        if (kept < 65_536) {
          start.push(chunk.subarray(0, 65_536 - kept));
          kept += chunk.length;
        }
        done();
      },
    });
    const input = createReadStream(file);
    input.on('data', (chunk) => {
      taken += chunk.length;
      hash.update(chunk);
    });
    // The whole archive is unpacked once, because a reader that stops at a cut would lose rows without a word.
    if (gzip) await pipeline(input, createGunzip(), keep);
    else await pipeline(input, keep);
    if (walk.bytes === 0) throw new DataError(`${file}: the archive is empty; it needs at least one formula`);
  } catch (error) {
    if (error instanceof DataError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code?.startsWith('Z_')) {
      throw new DataError(`${file}: the gzip archive is cut short or damaged (${reasonOf(error)}); fetch it again`);
    }
    throw new DataError(`${file}: cannot be read (${code ?? reasonOf(error)}); check its permissions`);
  }
  const first = Buffer.concat(start);
  const sha256 = hash.digest('hex');
  const counted = { sha256, bytes: packedBytes, lines: walk.lines, openQuote: walk.openQuote };
  if (first.subarray(0, 4).toString('latin1') === 'PAR1')
    return { file, gzip, format: 'parquet', head: '', ...counted };
  const name = file.toLowerCase().replace(/\.gz$/, '');
  if (/\.(parquet|pq)$/.test(name)) {
    throw new DataError(`${file}: does not begin like a Parquet file; it may be damaged, so fetch or write it again`);
  }
  const utf16 = (first[0] === 0xff && first[1] === 0xfe) || (first[0] === 0xfe && first[1] === 0xff);
  if (utf16) throw new DataError(`${file}: is written in UTF-16; save it as UTF-8`);
  if (first.includes(0))
    throw new DataError(`${file}: is not a text table nor Parquet; save it as CSV, JSON or Parquet`);
  const head = first.toString('utf8').replace(/^\ufeff/, '');
  if (head.trim() === '') {
    if (walk.bytes <= 65_536) throw new DataError(`${file}: holds only white space; it needs at least one formula`);
    throw new DataError(`${file}: begins with over 60,000 blanks; remove them`);
  }
  const isJson =
    /\.(json|jsonl|ndjson)$/.test(name) || (!/\.(csv|tsv|txt)$/.test(name) && /^\s*(\{"|\[\s*["{])/.test(head));
  if (isJson && walk.deepest > deepestJson) {
    throw new DataError(`${file}: its JSON nests more than ${deepestJson} deep; flatten it`);
  }
  return { file, gzip, format: isJson ? 'json' : 'csv', head, ...counted };
}

/** Splits one line of a CSV file; a quote inside quotes is doubled. */
function splitLine(line: string, delimiter: string): string[] {
  const cells: string[] = [];
  let cell = '';
  let inside = false;
  for (let i = 0; i < line.length; i++) {
    const c = line[i];
    if (inside && c === '"' && line[i + 1] === '"') cell += line[++i];
    else if (c === '"') inside = !inside;
    else if (c === delimiter && !inside) {
      cells.push(cell);
      cell = '';
    } else cell += c;
  }
  return [...cells, cell].map((text) => text.trim());
}

function isFormula(text: string): boolean {
  try {
    parseFormula(text);
    return true;
  } catch {
    return false;
  }
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase().replaceAll(/[\s-]+/g, '_') === b.toLowerCase().replaceAll(/[\s-]+/g, '_');
}

/** The column that was asked for, by exact name, else without regard to case. */
function named(file: string, columns: readonly string[], wanted: string, option: string): string {
  const found = columns.find((name) => name === wanted) ?? columns.find((name) => sameName(name, wanted));
  if (found !== undefined) return found;
  throw new DataError(`${file}: has no column ${quoted(wanted)} (${option}); there are ${listOf(columns)}`);
}

/** The column that holds formulas. `sample` gives each column's first values. */
function findFormulaColumn(file: string, columns: readonly string[], sample: readonly (readonly string[])[]): string {
  for (const synonym of formulaNames) {
    const found = columns.find((name) => sameName(name, synonym));
    if (found !== undefined) return found;
  }
  if (columns.length === 1) return columns[0];
  const likely = columns.filter((_, i) => {
    const values = sample[i].filter((value) => value.trim() !== '');
    return values.length > 0 && values.filter(isFormula).length * 2 >= values.length;
  });
  if (likely.length === 1) return likely[0];
  const why =
    likely.length > 1 ? `several columns could hold formulas: ${listOf(likely)}` : 'no column is called formula';
  throw new DataError(`${file}: ${why}; name one with --formula-column, there are ${listOf(columns)}`);
}

function findByName(columns: readonly string[], names: readonly string[]): string | null {
  for (const name of names) {
    const found = columns.find((column) => sameName(column, name));
    if (found !== undefined) return found;
  }
  return null;
}

interface Opened {
  readonly columns: string[];
  readonly header: boolean;
  /** First values of each column. */
  readonly sample: string[][];
  /** A FROM clause whose columns, named by `expression`, are text. */
  readonly from: (used: readonly string[]) => string;
  readonly expression: (column: string) => string;
}

const sampleRows = 200;

function openCsv({ file, gzip, head }: Source, path: string): Opened {
  const lines = head.split(/\r\n|\n|\r/).filter((line) => line.trim() !== '');
  if (lines.length > 1 && head.length >= 65_000) lines.pop(); // may be cut
  // Of the usual separators the one that the first line has most of; a list of formulas has none.
  const suffix = file.toLowerCase().replace(/\.gz$/, '');
  const counts = [',', '\t', ';', '|'].map((mark) => splitLine(lines[0], mark).length);
  const widest = Math.max(...counts);
  checkColumns(file, widest);
  const delimiter = suffix.endsWith('.tsv') ? '\t' : [',', '\t', ';', '|'][counts.indexOf(widest)];
  const first = splitLine(lines[0], delimiter);
  const known = [...formulaNames, ...energyNames, ...gapNames];
  const header = first.some((cell) => known.some((name) => sameName(cell, name))) || !first.some(isFormula);
  const columns = header
    ? uniqueNames(first)
    : first.map((_, i) => (first.length === 1 ? 'formula' : `column${i + 1}`));
  const body = lines.slice(header ? 1 : 0, sampleRows).map((line) => splitLine(line, delimiter));
  const kinds = columns.map((_, i) => `'c${i}': 'VARCHAR'`).join(', ');
  const options = [
    `header = ${header}`,
    `delim = ${sqlText(delimiter)}`,
    `quote = '"'`,
    `escape = '"'`,
    'auto_detect = false',
    'null_padding = true',
    'strict_mode = true',
    'store_rejects = true',
    'parallel = false',
    'hive_partitioning = false',
    `compression = '${gzip ? 'gzip' : 'none'}'`,
    `columns = {${kinds}}`,
  ];
  return {
    columns,
    header,
    sample: columns.map((_, i) => body.map((cells) => cells[i] ?? '')),
    from: () => `read_csv(${sqlText(path)}, ${options.join(', ')})`,
    expression: (column) => `c${columns.indexOf(column)}`,
  };
}

function checkColumns(file: string, columns: number): void {
  if (columns > mostColumns) {
    throw new DataError(`${file}: has ${columns} columns, at most ${mostColumns} are read; keep those that matter`);
  }
}

/** Column names made different: an empty one gets its number, a repeated one a number behind it. */
function uniqueNames(names: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return names.map((name, i) => {
    const plain = name === '' ? `column${i + 1}` : name;
    const times = (seen.get(plain) ?? 0) + 1;
    seen.set(plain, times);
    return times === 1 ? plain : `${plain}_${times}`;
  });
}

async function openJson(connection: DuckDBConnection, { file, gzip, head }: Source, path: string): Promise<Opened> {
  const array = head.trimStart().startsWith('[');
  const bare = /^\s*\[\s*"/.test(head) || /^\s*"/.test(head); // formulas alone, without objects around them
  const options = [
    `format = '${array ? 'array' : 'newline_delimited'}'`,
    `compression = '${gzip ? 'gzip' : 'uncompressed'}'`,
    ...(array ? [] : ['ignore_errors = true']),
    'hive_partitioning = false',
    `records = ${!bare}`,
  ].join(', ');
  const read = (columns: readonly string[]): string => {
    const kinds = columns.map((name) => `${sqlText(name)}: 'VARCHAR'`).join(', ');
    return `read_json(${sqlText(path)}, ${options}, columns = {${kinds}})`;
  };
  const columns = bare
    ? ['json']
    : (await connection.runAndReadAll(`DESCRIBE SELECT * FROM read_json(${sqlText(path)}, ${options})`))
        .getRowsJS()
        .map((row) => String(row[0]));
  checkColumns(file, columns.length);
  const reader = await connection.runAndReadAll(`SELECT * FROM ${read(columns)} LIMIT ${sampleRows}`);
  return {
    columns: columns,
    header: true,
    sample: reader.getColumnsJS().map((values) => values.map((value) => (value === null ? '' : String(value)))),
    from: read,
    expression: sqlName,
  };
}

async function openParquet(connection: DuckDBConnection, file: string, path: string): Promise<Opened> {
  const from = `read_parquet(${sqlText(path)}, hive_partitioning = false)`;
  const described = await connection.runAndReadAll(`DESCRIBE SELECT * FROM ${from}`);
  const columns = described.getRowsJS().map((row) => String(row[0]));
  checkColumns(file, columns.length);
  const casts = columns.map((name) => `CAST(${sqlName(name)} AS VARCHAR)`).join(', ');
  const reader = await connection.runAndReadAll(`SELECT ${casts} FROM ${from} LIMIT ${sampleRows}`);
  return {
    columns,
    header: true,
    sample: reader.getColumnsJS().map((values) => values.map((value) => (value === null ? '' : String(value)))),
    from: () => from,
    expression: (column) => `CAST(${sqlName(column)} AS VARCHAR)`,
  };
}

/** True for a file that begins like Parquet; false also where it cannot be read. */
export async function isParquet(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return false;
  const handle = await open(file).catch(() => null);
  if (!handle) return false;
  try {
    const magic = Buffer.alloc(4);
    await handle.read(magic, 0, 4, 0);
    return magic.toString('latin1') === 'PAR1';
  } finally {
    await handle.close();
  }
}

/**
 * The text of a key in a Parquet file's metadata, null where it is not there.
 * @throws DataError where the file is damaged, or the text has over `longest` bytes or is not UTF-8
 */
export async function readMetadata(file: string, key: string, longest: number): Promise<string | null> {
  let folder: string | undefined;
  try {
    let path = resolve(file);
    if (isPattern(path)) {
      folder = await mkdtemp(join(tmpdir(), 'matgan-table-'));
      await symlink(path, join(folder, 'table'));
      path = join(folder, 'table');
    }
    const value = `CASE WHEN octet_length(value) <= ${longest} THEN value END`;
    const query = `SELECT ${value} FROM parquet_kv_metadata(${sqlText(path)}) WHERE key = ${sqlText(key)}::BLOB LIMIT 1`;
    const reader = await withConnection((connection) => connection.runAndReadAll(query));
    const row = reader.getRowsJS().at(0);
    if (!row) return null;
    if (row[0] === null) throw new DataError(`${file}: its metadata ${quoted(key)} has over ${longest} bytes`);
    return new TextDecoder('utf-8', { fatal: true }).decode(row[0] as Uint8Array);
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${file}: its metadata cannot be read (${reasonOf(error)}); check that the file is whole`, {
      cause: error,
    });
  } finally {
    if (folder) await rm(folder, { recursive: true, force: true });
  }
}

/** True for a path that DuckDB would read as a pattern. */
const isPattern = (path: string): boolean => /[*?[\]{}]/.test(path);

/**
 * Reads the formulas of a table row by row, in the order of the file, a few thousand rows in memory at a time.
 *
 * The format follows from the file's contents and name. The first line of a CSV names the columns unless one of its cells is a
 * formula. The formula column is the one named, else one with a usual name, else the only one that holds formulas.
 * @throws DataError for a file that is missing, empty, a folder, cut short or not a table, for a column that is not there (the
 * ones that are get named), and for a formula column full of numbers.
 */
export async function readTable(file: string, options: TableOptions, sink: RowSink): Promise<TableRead> {
  return withTable(file, (connection, source, path) => readOpened(connection, source, path, options, sink));
}

/** Runs something on a table that has been looked at and has a path that DuckDB takes. @throws DataError */
async function withTable<T>(
  file: string,
  work: (connection: DuckDBConnection, source: Source, path: string) => Promise<T>,
): Promise<T> {
  const source = await inspect(file);
  let folder: string | undefined;
  try {
    let path = resolve(file);
    let plain = source;
    // DuckDB reads * ? [ ] in a path as a pattern, and cannot unpack Parquet: a link or a copy with a plain name helps.
    if (isPattern(path) || (source.gzip && source.format === 'parquet')) {
      folder = await mkdtemp(join(tmpdir(), 'matgan-table-'));
      const inner = join(folder, 'table');
      if (source.gzip && source.format === 'parquet') {
        await pipeline(createReadStream(path), createGunzip(), createWriteStream(inner));
        plain = { ...source, gzip: false };
      } else await symlink(path, inner);
      path = inner;
    }
    return await withConnection((connection) => work(connection, plain, path));
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${file}: cannot be read as a table (${reasonOf(error)}); check that the file is whole`, {
      cause: error,
    });
  } finally {
    if (folder) await rm(folder, { recursive: true, force: true });
  }
}

/** What of a table of numbers is wanted. */
export interface NumbersOptions {
  /** Column that is to be predicted; none where only features are wanted. */
  readonly target?: string;
  /** Feature columns; unless given, all that hold numbers or nothing. */
  readonly columns?: readonly string[];
  /** Column whose equal values belong together. */
  readonly group?: string;
}

export interface Numbers {
  readonly columns: readonly string[];
  readonly rows: number;
  /** [rows, columns]; NaN where a cell is empty. */
  readonly values: Float32Array;
  /** [rows]; empty without a target. */
  readonly target: Float64Array;
  /** A number for each different text of the group column: [rows], undefined without one. */
  readonly groups?: Uint32Array;
  /** Columns that were left out because they hold text. */
  readonly leftOut: readonly string[];
  /** SHA-256 of the file's bytes, hexadecimal. */
  readonly sha256: string;
}

/** Numbers that a table may have at most: 4 GiB of them. */
export const mostNumbers = 2 ** 30;

/**
 * Reads columns of numbers, a few thousand rows at a time beside what is returned.
 * @throws DataError for a column that is not there or holds text, a row without a target, and what `readTable` refuses
 */
export async function readNumbers(file: string, options: NumbersOptions): Promise<Numbers> {
  return withTable(file, async (connection, source, path) => {
    const { format, sha256, bytes } = source;
    const opened = await openSource(connection, source, path);
    const find = (name: string | undefined, option: string): string | undefined =>
      name === undefined ? undefined : named(file, opened.columns, name, option);
    const target = find(options.target, '--target');
    const group = find(options.group, '--group');
    const wanted =
      options.columns?.map((name) => find(name, '--columns')!) ??
      opened.columns.filter((name) => name !== target && name !== group);
    if (new Set(wanted).size < wanted.length) throw new DataError(`${file}: a column is named twice in --columns`);
    if (target !== undefined && wanted.includes(target)) {
      throw new DataError(`${file}: column ${quoted(target)} is the target, it can't be a feature too`);
    }
    const text = (name: string): string => `nullif(trim(${opened.expression(name)}), '')`;
    const used = [...new Set([...wanted, target, group].filter((name) => name !== undefined))];
    if (used.length === 0) throw new DataError(`${file}: has no columns of numbers`);
    const from = opened.from(used);
    const asked = target === undefined ? wanted : [target, ...wanted];
    const bad = asked.map(
      (name) => `count(*) FILTER (TRY_CAST(${text(name)} AS DOUBLE) IS NULL AND ${text(name)} IS NOT NULL)`,
    );
    const [counted] = (await connection.runAndReadAll(`SELECT count(*), ${bad.join(', ')} FROM ${from}`)).getRowsJS();
    const [rows, ...texts] = counted.map(Number);
    if (format === 'csv') await refuseRejects(connection, file);
    if (rows > freeRows + mostRowsAByte * bytes) {
      throw new DataError(`${file}: has ${rows} rows in ${bytes} bytes, as no table of numbers does`);
    }
    const isText = new Set(asked.filter((_, i) => texts[i] > 0));
    for (const name of options.columns ? asked : asked.slice(0, target === undefined ? 0 : 1)) {
      if (isText.has(name)) {
        const cells = texts[asked.indexOf(name)];
        throw new DataError(
          `${file}: column ${quoted(name)} has ${cells} cells that are no numbers; correct them, or leave them empty`,
        );
      }
    }
    const columns = wanted.filter((name) => !isText.has(name));
    if (columns.length === 0)
      throw new DataError(`${file}: has no columns of numbers beside the target; there are ${listOf(opened.columns)}`);
    if (rows * columns.length > mostNumbers) {
      throw new DataError(
        `${file}: ${rows} rows of ${columns.length} columns are over ${mostNumbers} numbers; choose with --columns`,
      );
    }
    const number = (name: string): string => `TRY_CAST(${text(name)} AS DOUBLE)`;
    const selected = [...columns.map(number), ...(target === undefined ? [] : [number(target)])];
    const result = await connection.stream(
      `SELECT ${[...selected, ...(group === undefined ? [] : [opened.expression(group)])].join(', ')} FROM ${opened.from(used)}`,
    );
    const values = new Float32Array(rows * columns.length);
    const targets = new Float64Array(target === undefined ? 0 : rows);
    const groups = group === undefined ? undefined : new Uint32Array(rows);
    const known = new Map<string | null, number>();
    let at = 0;
    for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
      for (let c = 0; c < columns.length; c++) {
        const cells = chunk.getColumnValues(c) as (number | null)[];
        for (let i = 0; i < cells.length; i++) values[(at + i) * columns.length + c] = cells[i] ?? Number.NaN;
      }
      if (target !== undefined) {
        const cells = chunk.getColumnValues(columns.length) as (number | null)[];
        for (let i = 0; i < cells.length; i++) {
          if (cells[i] === null || !Number.isFinite(cells[i])) {
            const what = cells[i] === null ? 'empty' : String(cells[i]);
            throw new DataError(`${file}: row ${at + i + 1}: its ${quoted(target)} is ${what}; leave the row out`);
          }
          targets[at + i] = cells[i]!;
        }
      }
      if (groups) {
        const cells = chunk.getColumnValues(selected.length) as (string | null)[];
        for (let i = 0; i < cells.length; i++) {
          let id = known.get(cells[i]);
          if (id === undefined) known.set(cells[i], (id = known.size));
          groups[at + i] = id;
        }
      }
      at += chunk.rowCount;
    }
    return {
      columns,
      rows,
      values,
      target: targets,
      groups,
      leftOut: wanted.filter((name) => isText.has(name)),
      sha256,
    };
  });
}

/** @throws DataError naming the first line that is no row */
async function refuseRejects(connection: DuckDBConnection, file: string): Promise<void> {
  const rejects = await connection.runAndReadAll(
    'SELECT min(line), count(DISTINCT line) FROM reject_errors WHERE scan_id = (SELECT max(scan_id) FROM reject_scans)',
  );
  const [line, lines] = rejects.getRowsJS()[0].map(Number);
  if (lines > 0) {
    throw new DataError(`${file}: line ${line}: is no row of this table (${lines} such lines); correct or remove them`);
  }
}

/** Opens a table by its format. */
async function openSource(connection: DuckDBConnection, source: Source, path: string) {
  if (source.format === 'csv') return openCsv(source, path);
  if (source.format === 'json') return await openJson(connection, source, path);
  return await openParquet(connection, source.file, path);
}

async function readOpened(
  connection: DuckDBConnection,
  source: Source,
  path: string,
  options: TableOptions,
  sink: RowSink,
): Promise<TableRead> {
  const { file, format, sha256 } = source;
  const opened = await openSource(connection, source, path);
  const { columns, header, sample } = opened;
  if (columns.length === 0) throw new DataError(`${file}: has no columns; it needs one with formulas`);

  const formulaColumn =
    options.formulaColumn !== undefined
      ? named(file, columns, options.formulaColumn, '--formula-column')
      : findFormulaColumn(file, columns, sample);
  const energyColumn =
    options.energyColumn !== undefined
      ? named(file, columns, options.energyColumn, '--energy-column')
      : findByName(columns, energyNames);
  const gapColumn =
    options.gapColumn !== undefined
      ? named(file, columns, options.gapColumn, '--gap-column')
      : findByName(columns, gapNames);

  const labelColumn =
    options.labelColumn === undefined
      ? null
      : named(file, columns, options.labelColumn, options.labelOption ?? '--label-column');

  const used = [formulaColumn, energyColumn, gapColumn, labelColumn].filter((name) => name !== null);
  const number = (name: string | null): string =>
    name === null ? 'NULL' : `TRY_CAST(${opened.expression(name)} AS DOUBLE)`;
  const query = `SELECT ${opened.expression(formulaColumn)}, ${number(energyColumn)}, ${number(gapColumn)}, ${labelColumn === null ? 'NULL' : opened.expression(labelColumn)} FROM ${opened.from([...new Set(used)])}`;
  const result = await connection.stream(query);
  const mostRows = freeRows + mostRowsAByte * source.bytes;
  let rows = 0;
  let numbers = 0;
  let texts = 0;
  for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    const formulas = chunk.getColumnValues(0) as (string | null)[];
    const energies = chunk.getColumnValues(1) as (number | null)[];
    const gaps = chunk.getColumnValues(2) as (number | null)[];
    const labels = chunk.getColumnValues(3) as (string | null)[];
    for (let i = 0; i < formulas.length; i++) {
      const text = formulas[i];
      if (text !== null && text.trim() !== '') {
        texts++;
        if (Number.isFinite(Number(text))) numbers++;
      }
      sink(text, energies[i] ?? Number.NaN, gaps[i] ?? Number.NaN, ++rows, labels[i] ?? null);
    }
    if (rows > mostRows) {
      throw new DataError(`${file}: has over ${mostRows} rows in ${source.bytes} bytes, as no table of formulas does`);
    }
    options.progress?.(rows);
    await options.drain?.();
  }
  let malformed: MalformedLine[] = [];
  if (format === 'csv') {
    const rejects = await connection.runAndReadAll(
      `SELECT line, any_value(csv_line) FROM reject_errors WHERE scan_id = (SELECT max(scan_id) FROM reject_scans) GROUP BY line ORDER BY line`,
    );
    malformed = rejects.getRowsJS().map(([line, text]) => ({ line: Number(line), text: String(text ?? '') }));
  }
  // DuckDB drops everything behind an open quote without a word.
  if (format === 'csv' && source.openQuote > 0 && rows + malformed.length + (header ? 1 : 0) < source.lines) {
    throw new DataError(`${file}: line ${source.openQuote}: a quote is never closed; close it or remove it`);
  }
  if (rows + malformed.length === 0)
    throw new DataError(`${file}: has a header but no rows; it needs at least one formula`);
  if (numbers > 0 && numbers === texts) {
    const remedy =
      columns.length > 1 ? `name another with --formula-column, there are ${listOf(columns)}` : 'give it formulas';
    throw new DataError(`${file}: column ${quoted(formulaColumn)} holds numbers, not formulas; ${remedy}`);
  }
  return { columns, formulaColumn, energyColumn, gapColumn, header, rows, malformed, sha256 };
}

/** What a cell of a written table holds; null where it is empty. */
export type Cell = string | number | boolean | null;

/** A column to be written; null and NaN become empty cells. */
export interface OutColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** Value of a row, from 0. */
  readonly value: (row: number) => Cell;
}

/** The form that a file's name asks for, as DuckDB writes it. */
function copyOptions(file: string): string {
  const name = file.toLowerCase();
  const plain = name.replace(/\.gz$/, '');
  const gzip = name.endsWith('.gz') ? ', COMPRESSION gzip' : '';
  if (plain.endsWith('.csv')) return `FORMAT csv, HEADER${gzip}`;
  if (plain.endsWith('.tsv')) return `FORMAT csv, HEADER, DELIMITER '\t'${gzip}`;
  if (/\.(jsonl|ndjson)$/.test(plain)) return `FORMAT json${gzip}`;
  if (plain.endsWith('.json')) return `FORMAT json, ARRAY true${gzip}`;
  if (gzip !== '' && /\.(parquet|pq)$/.test(plain)) {
    throw new DataError(`${file}: Parquet is compressed inside already; leave the .gz out`);
  }
  if (/\.(parquet|pq)$/.test(plain) || gzip === '') return 'FORMAT parquet, COMPRESSION zstd';
  throw new DataError(
    `${file}: the ending is none of .parquet, .csv, .tsv, .jsonl, .json; choose one (.gz may follow text)`,
  );
}

/** True where the form that a file's name asks for has a place for facts about itself. */
export const holdsMetadata = (file: string): boolean => copyOptions(file).startsWith('FORMAT parquet');

/** Checks that a file can be written at a path, before any work is done. */
export async function checkOutput(file: string): Promise<void> {
  copyOptions(file);
  const found = await stat(file).catch(() => null);
  if (found?.isDirectory()) throw new DataError(`${file}: is a folder; name a file to write`);
  if (found && !found.isFile()) throw new DataError(`${file}: is not a plain file; name another to write`);
  const folder = await stat(dirname(resolve(file))).catch(() => null);
  if (!folder?.isDirectory())
    throw new DataError(`${file}: the folder ${dirname(file)} does not exist; create it first`);
}

/** A name beside a file for what is not whole yet; nobody can have put a link at it beforehand. */
export function temporaryBeside(file: string): string {
  const unique = `${process.pid}-${randomBytes(6).toString('hex')}`;
  return join(dirname(resolve(file)), `.${basename(file).slice(0, 80)}.${unique}.partial`);
}

/** What the user is told of a failure to write a file. */
export function cannotWrite(file: string, cause: unknown): DataError {
  if (cause instanceof DataError) return cause;
  return new DataError(`${file}: cannot be written (${reasonOf(cause)}); check the folder and the free space`, {
    cause,
  });
}

/** Runs a writer on a neighbouring name and renames the result, so that no half-written file is ever seen. */
export async function writeWhole(file: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = temporaryBeside(file);
  try {
    await write(temporary);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw cannotWrite(file, error);
  }
}

const sqlTypes = { text: 'VARCHAR', integer: 'INTEGER', real: 'DOUBLE', truth: 'BOOLEAN' };
export type ColumnType = keyof typeof sqlTypes;

/** True where what `file` asks for is what our own CSV files are. */
export const isPlainCsv = (file: string): boolean => copyOptions(file) === 'FORMAT csv, HEADER';

/**
 * Turns a CSV file of our own making (a header, no quotes, these columns) into the form that the name `file` asks for, a few
 * row groups in memory at a time, in order.
 */
export async function convertCsv(
  csv: string,
  columns: Readonly<Record<string, ColumnType>>,
  file: string,
  to: string,
): Promise<void> {
  let folder: string | undefined;
  try {
    let path = resolve(csv);
    if (isPattern(path)) {
      folder = await mkdtemp(join(tmpdir(), 'matgan-table-'));
      await symlink(path, join(folder, 'table'));
      path = join(folder, 'table');
    }
    const kinds = Object.entries(columns).map(([name, type]) => `${sqlText(name)}: '${sqlTypes[type]}'`);
    const options = `header = true, delim = ',', quote = '', escape = '', auto_detect = false, columns = {${kinds.join(', ')}}`;
    const rows = `SELECT * FROM read_csv(${sqlText(path)}, ${options})`;
    await withConnection((connection) => connection.run(`COPY (${rows}) TO ${sqlText(to)} (${copyOptions(file)})`));
  } finally {
    if (folder) await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Writes a table whole or not at all. The ending decides: .csv, .tsv, .jsonl, .json (each also .gz), else Parquet, which alone
 * takes `metadata`. The same rows and metadata give the same bytes.
 * @throws DataError where it cannot be written.
 */
export async function writeTable(
  file: string,
  columns: readonly OutColumn[],
  rows: number,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await checkOutput(file);
  const pairs = Object.entries(metadata).map(([key, value]) => `${sqlName(key)}: ${sqlText(value)}`);
  const inside = holdsMetadata(file) && pairs.length > 0 ? `, KV_METADATA {${pairs.join(', ')}}` : '';
  const options = copyOptions(file) + inside;
  await writeWhole(file, (temporary) =>
    withConnection(async (connection) => {
      const appender = await beginRows(connection, columns);
      await appendRows(appender, columns, rows);
      appender.closeSync();
      await connection.run(`COPY out_rows TO ${sqlText(temporary)} (${options})`);
      await connection.run('DROP TABLE out_rows');
    }),
  );
}

/** An empty table `out_rows` of these columns. */
async function beginRows(connection: DuckDBConnection, columns: readonly OutColumn[]): Promise<DuckDBAppender> {
  const fields = columns.map(({ name, type }) => `${sqlName(name)} ${sqlTypes[type]}`).join(', ');
  await connection.run(`CREATE TEMP TABLE out_rows (${fields})`);
  return connection.createAppender('out_rows', 'main', 'temp');
}

async function appendRows(appender: DuckDBAppender, columns: readonly OutColumn[], rows: number): Promise<void> {
  const { BOOLEAN, DOUBLE, DuckDBDataChunk, INTEGER, VARCHAR } = await duckdb();
  const types = { text: VARCHAR, integer: INTEGER, real: DOUBLE, truth: BOOLEAN };
  const chunkTypes = columns.map(({ type }) => types[type]);
  const size = 2048;
  for (let from = 0; from < rows; from += size) {
    const count = Math.min(size, rows - from);
    const chunk = DuckDBDataChunk.create(chunkTypes, count);
    chunk.setColumns(
      columns.map(({ value }) =>
        Array.from({ length: count }, (_, i) => {
          const cell = value(from + i);
          return typeof cell === 'number' && Number.isNaN(cell) ? null : cell;
        }),
      ),
    );
    appender.appendDataChunk(chunk);
  }
}

/** Rows of a part, and of a row group: a wide table's take 20 MB. */
const partRows = 16_384;

/**
 * `writeTable` for more rows than fit into memory: `produce` calls `add(rows)` again and again, and each time the columns' values
 * are those of the next rows, from 0. They wait in Parquet files beside the one that is asked for. What `produce` returns is the metadata.
 * @throws DataError where it cannot be written
 */
export async function writeInParts(
  file: string,
  columns: readonly OutColumn[],
  produce: (add: (rows: number) => Promise<void>) => Promise<Readonly<Record<string, string>>>,
): Promise<void> {
  await checkOutput(file);
  await writeWhole(file, (temporary) =>
    withConnection(async (connection) => {
      const folder = `${temporary}.parts`;
      const parts: string[] = [];
      let alias: string | undefined;
      let appender: DuckDBAppender | undefined;
      let held = 0;
      const flush = async (): Promise<void> => {
        appender ??= await beginRows(connection, columns);
        appender.closeSync();
        const part = `${parts.length}.parquet`;
        await connection.run(`COPY out_rows TO ${sqlText(join(folder, part))} (FORMAT parquet, COMPRESSION zstd)`);
        await connection.run('DROP TABLE out_rows');
        parts.push(part);
        appender = undefined;
        held = 0;
      };
      try {
        await mkdir(folder);
        const metadata = await produce(async (rows) => {
          appender ??= await beginRows(connection, columns);
          await appendRows(appender, columns, rows);
          held += rows;
          if (held >= partRows) await flush();
        });
        if (held > 0 || parts.length === 0) await flush();
        let from = folder;
        if (isPattern(folder)) {
          alias = await mkdtemp(join(tmpdir(), 'matgan-table-'));
          from = join(alias, 'parts');
          await symlink(folder, from);
        }
        const pairs = Object.entries(metadata).map(([key, value]) => `${sqlName(key)}: ${sqlText(value)}`);
        const inside = holdsMetadata(file)
          ? `, ROW_GROUP_SIZE ${partRows}${pairs.length > 0 ? `, KV_METADATA {${pairs.join(', ')}}` : ''}`
          : '';
        const list = parts.map((part) => sqlText(join(from, part))).join(', ');
        await connection.run(
          `COPY (SELECT * FROM read_parquet([${list}], hive_partitioning = false)) TO ${sqlText(temporary)} (${copyOptions(file)}${inside})`,
        );
      } finally {
        if (appender) appender.closeSync();
        await connection.run('DROP TABLE IF EXISTS temp.out_rows');
        await rm(folder, { recursive: true, force: true });
        if (alias) await rm(alias, { recursive: true, force: true });
      }
    }),
  );
}

/** Parquet files of one kind in a folder, and in what order their rows are wanted. */
export interface SortedParts {
  readonly folder: string;
  /** Names of the files in it. */
  readonly parts: readonly string[];
  /** Columns to sort by, rising unless said; empty cells come last. */
  readonly order: readonly (string | { readonly falling: string })[];
  /** So many rows at most. */
  readonly limit?: number;
}

/** Memory that sorting takes before it goes to files in the folder. */
const sortMemory = '1GB';

/** Runs something on a database of its own, whose sorting takes a bounded amount of memory; `from` is the folder as SQL takes it. */
async function withSorting<T>(
  folder: string,
  work: (connection: DuckDBConnection, from: string) => Promise<T>,
): Promise<T> {
  const { DuckDBInstance } = await duckdb();
  const scratch = join(resolve(folder), 'sorting');
  let alias: string | undefined;
  const instance = await DuckDBInstance.create(':memory:', {
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    temp_directory: scratch,
    memory_limit: sortMemory,
  });
  try {
    let from = resolve(folder);
    if (isPattern(from)) {
      alias = await mkdtemp(join(tmpdir(), 'matgan-table-'));
      await symlink(from, join(alias, 'parts'));
      from = join(alias, 'parts');
    }
    const connection = await instance.connect();
    try {
      return await work(connection, from);
    } finally {
      connection.closeSync();
    }
  } finally {
    instance.closeSync();
    await rm(scratch, { recursive: true, force: true });
    if (alias) await rm(alias, { recursive: true, force: true });
  }
}

function partsQuery({ parts, order, limit }: SortedParts, from: string, select: string, join_ = ''): string {
  const list = parts.map((part) => sqlText(join(from, part))).join(', ');
  const keys = order
    .map((by) => (typeof by === 'string' ? `p.${sqlName(by)}` : `p.${sqlName(by.falling)} DESC NULLS LAST`))
    .join(', ');
  const some = limit === undefined ? '' : ` LIMIT ${limit}`;
  return `SELECT ${select} FROM read_parquet([${list}], hive_partitioning = false) p${join_} ORDER BY ${keys}${some}`;
}

/** The first rows of sorted parts, as objects by column. @throws DataError where a part is damaged */
export async function firstOfParts(sorted: SortedParts): Promise<Record<string, Cell>[]> {
  try {
    return await withSorting(sorted.folder, async (connection, from) => {
      const reader = await connection.runAndReadAll(partsQuery(sorted, from, 'p.*'));
      return reader.getRowObjectsJS() as Record<string, Cell>[];
    });
  } catch (error) {
    throw new DataError(`${sorted.folder}: cannot be read (${reasonOf(error)}); remove the folder and start again`, {
      cause: error,
    });
  }
}

/**
 * Writes sorted parts as one table, without the column `key`; columns of the Parquet file `beside` are added to the rows that have the
 * same `key`. Memory is bounded. @throws DataError where it cannot be written
 */
export async function writeSorted(
  file: string,
  sorted: SortedParts,
  { key, beside }: { readonly key: string; readonly beside?: string },
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await checkOutput(file);
  await writeWhole(file, (temporary) =>
    withSorting(sorted.folder, async (connection, from) => {
      const name = sqlName(key);
      const more = beside === undefined ? '' : `, b.* EXCLUDE (${name})`;
      const joined =
        beside === undefined ? '' : ` LEFT JOIN read_parquet(${sqlText(join(from, beside))}) b USING (${name})`;
      const query = partsQuery(sorted, from, `p.* EXCLUDE (${name})${more}`, joined);
      const pairs = Object.entries(metadata).map(([k, value]) => `${sqlName(k)}: ${sqlText(value)}`);
      const inside = holdsMetadata(file) && pairs.length > 0 ? `, KV_METADATA {${pairs.join(', ')}}` : '';
      await connection.run(`COPY (${query}) TO ${sqlText(temporary)} (${copyOptions(file)}${inside})`);
    }),
  );
}
