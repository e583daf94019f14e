/** Hostile tables: files of every format that the readers take, damaged, disguised and inflated. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import { loadFormulas } from '../../src/chem/dataset.ts';
import { type OutColumn, readTable, type TableOptions, writeTable } from '../../src/chem/tables.ts';
import { Choose } from './choose.ts';
import { hold, shown, type Tally } from './tally.ts';

const pieces = [
  ...[',', ';', '\t', '|', '"', '""', "'", '\n', '\r', '\r\n', '\\', '{', '}', '[', ']', ':', 'null', 'true', '1e999'],
  ...['\u0000', '\ufeff', '\u2028', '😀', '\ud800', 'formula', 'Formula', 'NaCl', 'energy', '__proto__', 'constructor'],
  ...['"; DROP TABLE x; --', "'); SELECT 1; --", '*', '?', '%', '-', '=1+1', 'PAR1', '\u001f\u008b', 'nan', '-inf'],
];
const extensions = ['.csv', '.tsv', '.txt', '.json', '.jsonl', '.ndjson', '.parquet', '.pq', ''];
const csv = 'formula,e_form,band_gap\nNaCl,-2,5\nFe2O3,,2\nCaTiO3,-3.5,\n"K Cl",1,1\n';
const jsonl = '{"formula":"NaCl","e_form":-2,"band_gap":5}\n{"formula":"Fe2O3","e_form":null,"more":[1,{"a":2}]}\n';
const json = '[{"formula":"NaCl","e_form":-2},\n {"formula":"Fe2O3","band_gap":2}]';

/** A gzip archive that unpacks to `gigabytes` of one repeated byte, about a megabyte for each. */
export function bomb(gigabytes: number, byte = ' '): Buffer {
  const member = gzipSync(Buffer.alloc(2 ** 24, byte), { level: 9 });
  return Buffer.concat(Array.from({ length: 64 * gigabytes }, () => member));
}

/** A small whole Parquet file. */
export async function parquet(file: string, rows = 50): Promise<void> {
  const columns: OutColumn[] = [
    { name: 'formula', type: 'text', value: (i) => `Na${(i % 8) + 1}Cl` },
    { name: 'e_form', type: 'real', value: (i) => i / 7 },
  ];
  await writeTable(file, columns, rows);
}

/** Everything that is promised of a table: rows of text and numbers, in order, or a DataError. */
export async function checkTable(file: string, options: TableOptions = {}): Promise<void> {
  let rows = 0;
  const read = await readTable(file, options, (text, energy, gap, row) => {
    hold(text === null || typeof text === 'string', 'a formula that is no text');
    hold(typeof energy === 'number' && typeof gap === 'number', 'a number that is none');
    hold(row === ++rows, `row ${row}`);
  });
  hold(read.rows === rows, `${read.rows} rows told, ${rows} given`);
  hold(read.columns.includes(read.formulaColumn), 'the formula column is none of the columns');
  const { packed, rows: kept, fingerprint } = await loadFormulas(file, options);
  hold(packed.length === 4 * kept && kept > 0 && fingerprint.length === 64, 'packed rows');
}

export interface NamedCase {
  readonly name: string;
  readonly make: (folder: string) => string | Promise<string>;
  /** Part of the message; undefined where it has to be read. */
  readonly message?: RegExp;
  readonly options?: TableOptions;
}

const file =
  (name: string, content: string | Buffer): ((folder: string) => string) =>
  (folder) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };

/** File names that shells, DuckDB's patterns and SQL read more into. */
export const oddNames = [
  "it's.csv",
  '"; DROP TABLE x; --.csv',
  "'); COPY (SELECT 1) TO 'x.csv'; --.csv",
  'a*b.csv',
  'a?b.csv',
  'a[bc].csv',
  '{a,b}.csv',
  '**.csv',
  '-rf.csv',
  '--.csv',
  '100%.csv',
  '%2e%2e%2f.csv',
  '$HOME.csv',
  '`id`.csv',
  '~.csv',
  'a\nb.csv',
  'a\tb\r.csv',
  'a\\b.csv',
  'year=2020.csv',
  's3:.csv',
  '\u202egpj.csv',
  ' .csv',
  '名前😀.csv',
];

export const namedCases: readonly NamedCase[] = [
  ...oddNames.map((name) => ({ name: `name ${JSON.stringify(name)}`, make: file(name, csv) })),
  { name: 'gzip bomb of 10 GB', make: file('bomb.csv.gz', bomb(10)), message: /unpacks to over/ },
  { name: 'gzip bomb of quotes', make: file('quotes.csv.gz', bomb(1, '"')), message: /unpacks to over/ },
  { name: 'gzip bomb as JSON', make: file('bomb.json.gz', bomb(1, '[')), message: /unpacks to over/ },
  {
    name: 'gzip bomb as Parquet',
    make: file('bomb.parquet.gz', Buffer.concat([gzipSync('PAR1'), bomb(1)])),
    message: /unpacks to over/,
  },
  { name: 'gzip within gzip', make: file('twice.csv.gz', gzipSync(gzipSync(csv))), message: /not a text table|no / },
  { name: 'blank for 100 KB, then rows', make: file('blank.csv', `${'\n'.repeat(100_000)}${csv}`), message: /blank/ },
  { name: 'one field of 30 MB', make: file('field.csv', `formula\n${'Na'.repeat(15_000_000)}\n`), message: /./ },
  {
    name: 'a quoted field of 30 MB',
    make: file('quoted.csv', `formula\n"${'Na\n'.repeat(10_000_000)}"\n`),
    message: /./,
  },
  { name: '30,000 columns', make: file('wide.csv', `${','.repeat(30_000)}\nNaCl\n`), message: /columns/ },
  {
    name: '20,000 keys',
    make: file('more.json', `[{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":1`).join()}}]`),
    message: /./,
  },
  {
    name: 'Parquet that says one row twenty million times',
    make: async (folder) => {
      const path = join(folder, 'rows.parquet');
      const connection = await (await DuckDBInstance.create(':memory:')).connect();
      await connection.run(`COPY (SELECT 'NaCl' AS formula FROM range(20000000)) TO '${path}' (FORMAT parquet)`);
      connection.closeSync();
      return path;
    },
    message: /has over \d+ rows in \d+ bytes/,
  },
  { name: 'JSON nested 1,000,000 deep', make: file('deep.json', '['.repeat(1_000_000)), message: /./ },
  { name: 'objects nested 100,000 deep', make: file('deep.jsonl', '{"a":'.repeat(100_000)), message: /./ },
  {
    name: 'a nested value 100,000 deep',
    make: file('value.jsonl', `{"formula":"NaCl","x":${'['.repeat(100_000)}${']'.repeat(100_000)}}\n`),
    message: /./,
  },
  { name: 'ragged JSON', make: file('ragged.json', '[{"formula":"NaCl"},3,null,[1],{"a":1}]'), message: /./ },
  { name: 'columns of prototypes', make: file('proto.csv', '__proto__,constructor,toString,formula\n1,2,3,NaCl\n') },
  { name: 'keys of prototypes', make: file('proto.jsonl', '{"__proto__":1,"constructor":2,"formula":"NaCl"}\n') },
  { name: 'a column of SQL', make: file('sql.csv', 'formula,"""; DROP TABLE x; --"\nNaCl,1\n') },
  {
    name: 'a column of SQL, asked for',
    make: file('sql.jsonl', '{"\\"; DROP TABLE x; --":"NaCl","\'":"KCl"}\n'),
    options: { formulaColumn: '"; DROP TABLE x; --' },
  },
  { name: 'UTF-16', make: file('utf16.csv', Buffer.from(`\ufeff${csv}`, 'utf16le')), message: /UTF-16/ },
  { name: 'NUL', make: file('nul.csv', 'formula\nNa\u0000Cl\n'), message: /not a text table/ },
  { name: 'NUL after 70 KB', make: file('late.csv', `formula\n${'NaCl\n'.repeat(14_000)}Na\u0000Cl\n`) },
  { name: 'a mark and nothing', make: file('mark.csv', '\ufeff'), message: /./ },
  { name: 'quotes of odd number', make: file('odd.csv', `formula\n${'"\n'.repeat(1001)}`), message: /./ },
  {
    name: 'a folder',
    make: (folder) => {
      mkdirSync(join(folder, 'folder.csv'));
      return join(folder, 'folder.csv');
    },
    message: /is a folder/,
  },
  {
    name: 'a pipe',
    make: (folder) => {
      spawnSync('mkfifo', [join(folder, 'pipe.csv')]);
      return join(folder, 'pipe.csv');
    },
    message: /not a plain file|no such file/,
  },
  { name: '/dev/zero', make: () => '/dev/zero', message: /not a plain file|no such file/ },
  {
    name: 'a link to /dev/zero',
    make: (folder) => {
      symlinkSync('/dev/zero', join(folder, 'zero.csv'));
      return join(folder, 'zero.csv');
    },
    message: /not a plain file|no such file/,
  },
  {
    name: 'a link in a circle',
    make: (folder) => {
      symlinkSync(join(folder, 'circle.csv'), join(folder, 'circle.csv'));
      return join(folder, 'circle.csv');
    },
    message: /cannot be read/,
  },
  { name: 'NUL in the path', make: (folder) => `${folder}/a\u0000b.csv`, message: /cannot be read/ },
  { name: 'a path of 10,000 characters', make: (folder) => join(folder, 'x'.repeat(10_000)), message: /./ },
];

/** One random table in a folder; its name and bytes. */
export function randomTable(choose: Choose, wholeParquet: Buffer): { name: string; bytes: Buffer } {
  let bytes: Buffer;
  const r = choose.below(10);
  if (r < 5) {
    const text = choose.mutate(choose.of([csv, jsonl, json, 'NaCl\nKCl\n', '["NaCl","KCl"]']), pieces);
    bytes = choose.chance(0.05) ? Buffer.from(`\ufeff${text}`, 'utf16le') : Buffer.from(text);
  } else if (r < 8) {
    bytes = Buffer.from(wholeParquet);
    // The tail holds what a reader trusts: schema, offsets, counts.
    const tail = Math.min(bytes.length, 700);
    for (let n = choose.size(20); n > 0; n--) {
      const at = choose.chance(0.7) ? bytes.length - 1 - choose.below(tail) : choose.below(bytes.length);
      bytes[at] = choose.chance(0.5) ? bytes[at] ^ (1 << choose.below(8)) : choose.below(256);
    }
    if (choose.chance(0.2)) bytes = bytes.subarray(0, choose.below(bytes.length));
  } else bytes = choose.bytes(choose.size(3000));
  let name = `t${choose.of(r >= 5 && r < 8 && choose.chance(0.8) ? ['.parquet'] : extensions)}`;
  if (choose.chance(0.15)) {
    bytes = gzipSync(bytes);
    name += '.gz';
    if (choose.chance(0.3)) bytes = bytes.subarray(0, choose.below(bytes.length));
    if (choose.chance(0.3) && bytes.length > 0) bytes[choose.below(bytes.length)] ^= 1 << choose.below(8);
  }
  return { name, bytes };
}

export async function fuzzTables(tally: Tally, folder: string, count: number, seed: number): Promise<void> {
  const choose = new Choose(seed, 'tables');
  const whole = join(folder, 'whole.parquet');
  await parquet(whole);
  const bytes = readFileSync(whole);
  for (let i = 0; i < count; i++) {
    const table = randomTable(choose, bytes);
    const path = join(folder, table.name);
    writeFileSync(path, table.bytes);
    const options = choose.chance(0.1) ? { formulaColumn: choose.of(pieces) } : {};
    await tally.attemptAsync(
      () => `${table.name} ${JSON.stringify(options)} ${shown(table.bytes)}`,
      () => checkTable(path, options),
      2 ** 24,
    );
    rmSync(path);
  }
}

/** The named cases; what ends otherwise than it should is a fault. */
export async function namedTables(tally: Tally, folder: string): Promise<void> {
  for (const { name, make, message, options } of namedCases) {
    const path = await make(folder);
    await tally.attemptAsync(
      () => name,
      async () => {
        let text: string | undefined;
        try {
          await checkTable(path, options);
        } catch (error) {
          if (!message) hold(false, `${name} was refused: ${(error as Error).message}`);
          text = (error as Error).message;
          hold(message.test(text), `${name}: ${text}`);
          throw error;
        }
        hold(message === undefined, `${name} was read`);
      },
    );
  }
}
