import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { type OutColumn, readTable, type TableOptions, type TableRead, writeTable } from '../../src/chem/tables.ts';
import { DataError } from '../../src/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Row = [text: string | null, energy: number, gap: number];

function save(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

async function read(path: string, options: TableOptions = {}): Promise<TableRead & { data: Row[] }> {
  const data: Row[] = [];
  const table = await readTable(path, options, (text, energy, gap, row) => {
    data.push([text, energy, gap]);
    expect(row).toBe(data.length);
  });
  return { ...table, data };
}

/** The message of the DataError that reading ends with. */
async function refusal(path: string, options: TableOptions = {}): Promise<string> {
  try {
    await read(path, options);
  } catch (error) {
    expect(error).toBeInstanceOf(DataError);
    const { message } = error as Error;
    expect(message).not.toContain('\n');
    expect(message.startsWith(path)).toBe(true);
    return message;
  }
  throw new Error(`${path} was read`);
}

describe('reading', () => {
  const rows: Row[] = [
    ['NaCl', -2, 5],
    ['Fe2O3', Number.NaN, 2],
  ];
  const csv = 'formula,e_form,band_gap\nNaCl,-2,5\nFe2O3,,2\n';
  const json = '[{"formula":"NaCl","e_form":-2,"band_gap":5},\n {"formula":"Fe2O3","band_gap":2}]';
  const jsonl = '{"formula":"NaCl","e_form":-2,"band_gap":5}\n{"formula":"Fe2O3","e_form":null,"band_gap":2}\n';

  test.each<[string, string | Buffer]>([
    ['a.csv', csv],
    ['crlf.csv', csv.replaceAll('\n', '\r\n')],
    ['mark.csv', `\ufeff${csv}`],
    ['quoted.csv', '"formula","e_form","band_gap"\n"NaCl","-2","5"\n"Fe2O3","","2"\n'],
    ['semicolon.csv', csv.replaceAll(',', ';')],
    ['a.tsv', csv.replaceAll(',', '\t')],
    ['a.json', json],
    ['a.jsonl', jsonl],
    ['a.ndjson', jsonl],
    ['a.csv.gz', gzipSync(csv)],
    ['a.tsv.gz', gzipSync(csv.replaceAll(',', '\t'))],
    ['a.json.gz', gzipSync(json)],
    ['a.jsonl.gz', gzipSync(jsonl)],
    ['gz-without-its-name.csv', gzipSync(csv)],
    ["it's; DROP TABLE [x]*?.csv", csv],
  ])('%s', async (name, content) => {
    const { data, formulaColumn, energyColumn, gapColumn, malformed } = await read(save(name, content));
    expect(data).toEqual(rows);
    expect([formulaColumn, energyColumn, gapColumn]).toEqual(['formula', 'e_form', 'band_gap']);
    expect(malformed).toEqual([]);
  });

  test('Parquet, plain and gzipped, and what writeTable writes in every form', async () => {
    const columns: OutColumn[] = [
      { name: 'Formula', type: 'text', value: (i) => rows[i][0] },
      { name: 'e_form', type: 'real', value: (i) => rows[i][1] },
      { name: 'band_gap', type: 'real', value: (i) => rows[i][2] },
      { name: 'odd "name"; --', type: 'integer', value: (i) => (i === 0 ? null : i) },
    ];
    for (const name of ['o.parquet', 'o.csv', 'o.csv.gz', 'o.tsv', 'o.jsonl', 'o.jsonl.gz', 'o.json', "it's.parquet"]) {
      const path = join(folder, name);
      await writeTable(path, columns, rows.length);
      expect((await read(path)).data, name).toEqual(rows);
    }
    const zipped = save('zipped.parquet.gz', gzipSync(readFileSync(join(folder, 'o.parquet'))));
    expect((await read(zipped)).data).toEqual(rows);
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('finds the formula column by name, else the only one with formulas', async () => {
    expect((await read(save('p.csv', 'id,Pretty_Formula\n7,NaCl\n'))).formulaColumn).toBe('Pretty_Formula');
    expect((await read(save('q.csv', 'id,stuff,n\nmp-1,NaCl,3\nmp-2,KCl,4\n'))).formulaColumn).toBe('stuff');
    expect((await read(save('r.csv', 'composition,formula\nA,NaCl\n'))).formulaColumn).toBe('formula');
    expect((await read(save('s.csv', 'a,b\nNaCl,KCl\n'), { formulaColumn: 'B' })).data[0][0]).toBe('KCl');
    const list = await read(save('list.txt', 'NaCl\nKCl\n'));
    expect([list.header, list.data.length]).toEqual([false, 2]);
    expect((await read(save('bare.json', '["NaCl", "KCl"]'))).data.map(([text]) => text)).toEqual(['NaCl', 'KCl']);
  });

  test('keeps odd rows for counting instead of losing them', async () => {
    const lines = 'formula,e\nNaCl,1\nFe2O3,2,3\nMg,not a number\n,5\nK\u00e9Cl,1\nLast,inf\n';
    const { data, malformed } = await read(save('odd.csv', Buffer.from(lines, 'latin1')), { energyColumn: 'e' });
    expect(data.map(([text]) => text)).toEqual(['NaCl', 'Mg', null, 'Last']);
    expect(data[1][1]).toBeNaN();
    expect(malformed.map(({ line }) => line)).toEqual([3, 6]);
    const mixed = await read(save('mixed.jsonl', '{"formula":"NaCl"}\nnot json\n{"formula":3}\n{"other":1}\n'));
    expect(mixed.data.map(([text]) => text)).toEqual(['NaCl', null, '3', null]);
  });
});

describe('bad files', () => {
  const whole = gzipSync(`formula\n${Array.from({ length: 5000 }, (_, i) => `Na${i + 1}Cl`).join('\n')}\n`);

  test.each<[string, string | Buffer, RegExp]>([
    ['empty.csv', '', /the file is empty/],
    ['blank.csv', ' \n\n', /only white space/],
    ['header.csv', 'formula,e\n', /no rows/],
    ['cut.csv.gz', whole.subarray(0, whole.length >> 1), /cut short or damaged/],
    [
      'damaged.csv.gz',
      Buffer.concat([whole.subarray(0, 200), Buffer.alloc(50), whole.subarray(250)]),
      /cut short or damaged/,
    ],
    ['nothing.csv.gz', gzipSync(''), /empty/],
    ['numbers.csv', 'formula,e\n1,2\n3,4\n', /column "formula" holds numbers.*"formula", "e"/],
    ['none.csv', 'a,b\n1,x y\n', /no column is called formula.*--formula-column.*"a", "b"/],
    ['two.csv', 'a,b\nNaCl,KCl\n', /several columns.*--formula-column/],
    ['utf16.csv', Buffer.from('\ufeffformula\nNaCl\n', 'utf16le'), /UTF-16; save it as UTF-8/],
    ['binary.csv', Buffer.from([1, 2, 0, 3, 4]), /not a text table/],
    ['no.parquet', 'hello', /Parquet/],
    ['cut.parquet', Buffer.from('PAR1abcdefgh'), /cannot be read as a table/],
    ['quote.csv', 'formula,e\nKBr,1\n"NaCl,1\nKCl,2\n', /line 3: a quote is never closed/],
    ['bad.json', '[{"formula":"NaCl"}, {', /cannot be read as a table/],
  ])('%s', async (name, content, message) => {
    expect(await refusal(save(name, content))).toMatch(message);
  });

  test('missing, a folder, a column that is not there', async () => {
    expect(await refusal(join(folder, 'nowhere.csv'))).toMatch(/no such file/);
    expect(await refusal(folder)).toMatch(/is a folder/);
    const path = save('columns.csv', 'formula,e\nNaCl,1\n');
    expect(await refusal(path, { formulaColumn: 'nix' })).toMatch(
      /no column "nix" \(--formula-column\); there are "formula", "e"/,
    );
    expect(await refusal(path, { energyColumn: 'nix' })).toMatch(/--energy-column/);
  });

  test('outputs that cannot be are refused before anything is written', async () => {
    const column: OutColumn = { name: 'formula', type: 'text', value: () => 'NaCl' };
    mkdirSync(join(folder, 'there.csv'));
    await expect(writeTable(join(folder, 'there.csv'), [column], 1)).rejects.toThrow(/is a folder/);
    await expect(writeTable(join(folder, 'no', 'x.csv'), [column], 1)).rejects.toThrow(/does not exist/);
    await expect(writeTable(join(folder, 'x.parquet.gz'), [column], 1)).rejects.toThrow(/leave the .gz out/);
    const failing: OutColumn = { ...column, value: () => 'x'.repeat(2 ** 29) + 'y'.repeat(2 ** 29) };
    await expect(writeTable(join(folder, 'y.csv'), [failing], 1)).rejects.toThrow();
    expect(readdirSync(folder).some((name) => name.startsWith('y.csv') || name.includes('partial'))).toBe(false);
  });

  test('any bytes give rows or a DataError', async () => {
    const names = fc.constantFrom('f.csv', 'f.tsv', 'f.json', 'f.jsonl', 'f.parquet', 'f', 'f.csv.gz');
    const pieces = fc.constantFrom(
      'formula',
      ',',
      '"',
      '\n',
      '\r',
      '\t',
      'NaCl',
      '{',
      '}',
      '[',
      ']',
      ':',
      '\\',
      '😀',
      '\u0000',
      'PAR1',
      ';',
    );
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((data) => Buffer.from(data)),
      fc.array(pieces, { maxLength: 60 }).map((parts) => Buffer.from(parts.join(''))),
    );
    await fc.assert(
      fc.asyncProperty(names, bytes, async (name, data) => {
        const path = save(`fuzz-${name}`, data);
        try {
          await readTable(path, {}, () => {});
        } catch (error) {
          if (!(error instanceof DataError)) throw error;
          expect(error.message).not.toContain('\n');
        }
      }),
      { numRuns: 300, seed: 5 },
    );
  });
});
