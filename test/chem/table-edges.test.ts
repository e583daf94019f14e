/** Tables at the edges of what their readers promise: names, separators, kinds of file, and every refusal in full. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import {
  checkOutput,
  type OutColumn,
  readTable,
  type TableOptions,
  writeTable,
  writeWhole,
} from '../../src/chem/tables.ts';
import { DataError } from '../../src/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-tables-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let next = 0;
const save = (name: string, content: string | Buffer): string => {
  const path = join(folder, `${next++}-${name}`);
  writeFileSync(path, content);
  return path;
};
async function read(path: string, options: TableOptions = {}) {
  const data: (string | number | null)[][] = [];
  const table = await readTable(path, options, (...row) => data.push(row.slice(0, 4) as (typeof data)[number]));
  return { ...table, data, texts: data.map(([text]) => text) };
}
async function refused(path: string, options: TableOptions = {}): Promise<string> {
  const error = await read(path, options).then(
    () => null,
    (e) => e,
  );
  expect(error).toBeInstanceOf(DataError);
  return error.message.replace(`${path}: `, '');
}

describe('columns by their usual names', () => {
  test.each([
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
  ])('%s holds formulas, however it is spelt, though others could', async (name) => {
    for (const spelt of [name, name.toUpperCase(), name.replaceAll('_', ' '), name.replaceAll('_', '-')]) {
      const { formulaColumn, texts } = await read(save('f.csv', `other,${spelt}\nKBr,NaCl\n`));
      expect([formulaColumn, texts]).toEqual([spelt, ['NaCl']]);
    }
  });

  test.each([
    'formation_energy_ev_per_atom',
    'formation_energy_per_atom',
    'formation_energy',
    'e_form',
    'delta_e',
    'energy_per_atom',
    'energy',
  ])('%s is an energy', async (name) => {
    const { energyColumn, gapColumn, data } = await read(save('e.csv', `formula,${name}\nNaCl,-1.5\n`));
    expect([energyColumn, gapColumn, data]).toEqual([name, null, [['NaCl', -1.5, Number.NaN, 1]]]);
  });

  test.each(['band_gap_ev', 'band_gap', 'bandgap', 'gap_pbe', 'gap', 'e_gap', 'eg'])('%s is a gap', async (name) => {
    const { energyColumn, gapColumn, data } = await read(save('g.csv', `formula,${name}\nNaCl,5.5\n`));
    expect([energyColumn, gapColumn, data]).toEqual([null, name, [['NaCl', Number.NaN, 5.5, 1]]]);
  });

  test('of several usual ones the first of the list is taken, whatever their order', async () => {
    const { formulaColumn, energyColumn, gapColumn } = await read(
      save('many.csv', 'gap,energy,compound,e_form,formula,band_gap\n1,2,KBr,3,NaCl,4\n'),
    );
    expect([formulaColumn, energyColumn, gapColumn]).toEqual(['formula', 'e_form', 'band_gap']);
  });

  test('named ones, exactly or without regard to case', async () => {
    const path = save('named.csv', 'a,A,e,E,g,G\nNaCl,KBr,1,2,3,4\n');
    const exact = await read(path, { formulaColumn: 'A', energyColumn: 'E', gapColumn: 'G' });
    expect(exact.data).toEqual([['KBr', 2, 4, 1]]);
    const loose = save('loose.csv', 'My Formula,My-Energy,my gap\nNaCl,1,2\n');
    const found = await read(loose, { formulaColumn: 'my_formula', energyColumn: 'my_energy', gapColumn: 'MY GAP' });
    expect([found.formulaColumn, found.energyColumn, found.gapColumn]).toEqual(['My Formula', 'My-Energy', 'my gap']);
    expect(await refused(path, { formulaColumn: 'A', gapColumn: 'x' })).toBe(
      'has no column "x" (--gap-column); there are "a", "A", "e", "E", "g", "G"',
    );
  });

  test('one column for two things', async () => {
    const { data } = await read(save('twice.csv', 'formula\nNaCl\n'), { energyColumn: 'formula' });
    expect(data).toEqual([['NaCl', Number.NaN, Number.NaN, 1]]);
  });

  test('a column without a name gets its number, a repeated one a number behind it', async () => {
    const path = save('odd.csv', 'formula,,x,x,x\nNaCl,1,2,3,4\n');
    expect((await read(path)).columns).toEqual(['formula', 'column2', 'x', 'x_2', 'x_3']);
    expect((await read(path, { energyColumn: 'x_2', gapColumn: 'column2' })).data).toEqual([['NaCl', 3, 1, 1]]);
  });

  test('a column of which half the values are formulas is likely, one with fewer is not', async () => {
    const half = save('half.csv', 'a,b\n1,NaCl\n2,what\n3,KBr\n4,else\n5,\n');
    expect((await read(half)).formulaColumn).toBe('b');
    const fewer = save('fewer.csv', 'a,b\n1,NaCl\n2,what\n3,who\n');
    expect(await refused(fewer)).toBe(
      'no column is called formula; name one with --formula-column, there are "a", "b"',
    );
    const two = save('two.csv', 'a,b,c\nNaCl,KCl,1\n');
    expect(await refused(two)).toBe(
      'several columns could hold formulas: "a", "b"; name one with --formula-column, there are "a", "b", "c"',
    );
  });

  test('a list of many columns is cut after twenty', async () => {
    const names = Array.from({ length: 23 }, (_, i) => `c${i}`);
    const row = names.map(() => '1').join();
    const shown = names
      .slice(0, 20)
      .map((name) => `"${name}"`)
      .join(', ');
    expect(await refused(save('wide.csv', `${names.join()}\n${row}\n`))).toContain(`there are ${shown} and 3 more`);
    const twenty = save('twenty.csv', `${names.slice(0, 20).join()}\n${row}\n`);
    expect(await refused(twenty)).toMatch(/"c19"$/);
  });
});

describe('CSV', () => {
  test.each([
    [',', 'a.csv'],
    [';', 'a.csv'],
    ['\t', 'a.csv'],
    ['|', 'a.csv'],
    ['\t', 'a.tsv'],
  ])('separator %j in %s', async (mark, name) => {
    const { columns, data } = await read(save(name, `formula${mark}e_form${mark}gap\nNaCl${mark}1${mark}2\n`));
    expect(columns).toEqual(['formula', 'e_form', 'gap']);
    expect(data).toEqual([['NaCl', 1, 2, 1]]);
  });

  test('in a .tsv, also gzipped and in capitals, commas separate nothing', async () => {
    const text = 'formula\ta,b,c,d\nNaCl\t1\n';
    for (const path of [save('t.tsv', text), save('t.TSV', text), save('t.tsv.gz', gzipSync(text))]) {
      expect((await read(path)).columns).toEqual(['formula', 'a,b,c,d']);
    }
  });

  test('quotes hide separators, doubled ones are one, white space around is not part of a name', async () => {
    const { columns, data } = await read(save('q.csv', '"formula" , "e ""form""" ,"a,b"\n"NaCl","1","2"\n'), {
      energyColumn: 'e "form"',
      gapColumn: 'a,b',
    });
    expect(columns).toEqual(['formula', 'e "form"', 'a,b']);
    expect(data).toEqual([['NaCl', 1, 2, 1]]);
  });

  test('without a header: columns by number, the one with formulas found', async () => {
    const { header, columns, formulaColumn, data } = await read(save('bare.csv', '1,NaCl\n2,KBr\n'));
    expect([header, columns, formulaColumn]).toEqual([false, ['column1', 'column2'], 'column2']);
    expect(data).toEqual([
      ['NaCl', Number.NaN, Number.NaN, 1],
      ['KBr', Number.NaN, Number.NaN, 2],
    ]);
    const single = await read(save('single.csv', 'NaCl\nKBr\n'));
    expect([single.header, single.columns, single.data.length]).toEqual([false, ['formula'], 2]);
  });

  test('a first line with a usual name is a header though a cell reads as a formula', async () => {
    const { header, texts } = await read(save('h.csv', 'formula,O\nNaCl,1\n'));
    expect([header, texts]).toEqual([true, ['NaCl']]);
    const energy = await read(save('h2.csv', 'O,energy\nNaCl,1\n'));
    expect([energy.header, energy.formulaColumn]).toEqual([true, 'O']);
  });

  test('line breaks of all kinds, and blank lines', async () => {
    expect((await read(save('n.csv', 'formula\r\nNaCl\r\n\r\nKBr'))).texts.filter((t) => t !== null)).toEqual([
      'NaCl',
      'KBr',
    ]);
  });

  test('a text of more than the 64 KiB that are looked at first', async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => `${i},NaCl,${i / 2}`);
    const path = save('long.csv', `id,stuff,energy\n${rows.join('\n')}\n`);
    const counts: number[] = [];
    const { data, formulaColumn, sha256 } = await read(path, { progress: (n) => counts.push(n) });
    expect(formulaColumn).toBe('stuff');
    expect(data.length).toBe(20_000);
    expect(data[19_999]).toEqual(['NaCl', 9999.5, Number.NaN, 20_000]);
    expect(counts.at(-1)).toBe(20_000);
    expect(counts.length).toBeGreaterThan(3);
    expect(sha256).toBe(createHash('sha256').update(readFileSync(path)).digest('hex'));
    // White space beyond the first block may be followed by something.
    const late = save('late.csv', `${'\n'.repeat(70_000)}formula\nNaCl\n`);
    expect(await refused(late)).not.toContain('holds only white space');
  });

  test('lines that are no rows, by their number, with the header and without', async () => {
    const { malformed, texts, rows } = await read(save('m.csv', 'formula,e\nNaCl,1,2\nKBr,1\nKCl,1,2\n'));
    expect(malformed).toEqual([
      { line: 2, text: 'NaCl,1,2' },
      { line: 4, text: 'KCl,1,2' },
    ]);
    expect([texts, rows]).toEqual([['KBr'], 1]);
  });

  test('a quote that is closed further down is one cell; one that never is, is named by its line', async () => {
    const closed = await read(save('c.csv', 'formula,x\n"Na\nCl",1\nKBr,2\n'));
    expect(closed.texts).toEqual(['Na\nCl', 'KBr']);
    expect(await refused(save('o.csv', 'formula,x\nKBr,1\nKCl,2\n"NaCl,3\nNaBr,4\n'))).toBe(
      'line 4: a quote is never closed; close it or remove it',
    );
    expect(await refused(save('bare-o.csv', 'NaCl\nKBr\n"KCl\nNaBr\nNaF\n'))).toMatch(
      /^line 3: a quote is never closed/,
    );
  });
});

describe('JSON', () => {
  const array = '[{"formula": "NaCl", "gap": 1}, {"formula": "KBr"}]';
  const lines = '{"formula": "NaCl", "gap": 1}\n{"formula": "KBr"}\n';
  test.each([
    ['a.json', array],
    ['no-ending', array],
    ['no-ending-either', `  \n ${array}`],
    ['a.jsonl', lines],
    ['a.ndjson', lines],
    ['a.NDJSON', lines],
    ['lines-without-ending', lines],
    ['a.json.gz', gzipSync(array)],
    ['marked.json', `\ufeff${array}`],
  ])('%s', async (name, content) => {
    const { data, header, gapColumn } = await read(save(name, content));
    expect(data).toEqual([
      ['NaCl', Number.NaN, 1, 1],
      ['KBr', Number.NaN, Number.NaN, 2],
    ]);
    expect([header, gapColumn]).toEqual([true, 'gap']);
  });

  test('bare formulas, as an array and one a line', async () => {
    expect((await read(save('b.json', ' [ "NaCl", "KBr" ]'))).texts).toEqual(['NaCl', 'KBr']);
    expect((await read(save('b.jsonl', '"NaCl"\n"KBr"\n'))).texts).toEqual(['NaCl', 'KBr']);
    expect((await read(save('bare-array', '["NaCl"]'))).texts).toEqual(['NaCl']);
  });

  test('what is called .csv is CSV whatever it looks like', async () => {
    const { columns } = await read(save('j.csv', '{"formula"},x\nNaCl,1\n'), { formulaColumn: '{formula}' });
    expect(columns).toEqual(['{formula}', 'x']);
  });

  test('nesting is refused beyond 200 levels; brackets in texts, and those that are closed, do not count', async () => {
    const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    const row = (more: string): string => `{"formula":"NaCl","x":${more}}`;
    // The row and the array around it are two levels.
    expect((await read(save('deep.json', `[${row(nested(198))}]`))).texts).toEqual(['NaCl']);
    expect(await refused(save('deeper.json', `[${row(nested(199))}]`))).toBe(
      'its JSON nests more than 200 deep; flatten it',
    );
    expect((await read(save('deep.jsonl', `${row(nested(199))}\n`))).texts).toEqual(['NaCl']);
    expect(await refused(save('deeper.jsonl', `${row(nested(200))}\n`))).toBe(
      'its JSON nests more than 200 deep; flatten it',
    );
    const many = Array.from({ length: 40 }, () => row(`{"a":${nested(100)}}`));
    expect((await read(save('many.json', `[${many.join()}]`))).data.length).toBe(40);
    expect((await read(save('many.jsonl', many.join('\n')))).data.length).toBe(40);
    const text = JSON.stringify(`${'['.repeat(250)}"\\`);
    expect((await read(save('text.json', `[${row(text)},${row(text)}]`))).texts).toEqual(['NaCl', 'NaCl']);
    expect(await refused(save('behind.json', `[${row(text)},${row(nested(210))}]`))).toBe(
      'its JSON nests more than 200 deep; flatten it',
    );
  });

  test('nesting over many lines is one array’s, also behind a byte-order mark', async () => {
    const lines = `${'[\n'.repeat(201)}"NaCl"${']\n'.repeat(201)}`;
    for (const mark of ['', '\ufeff', ' \n\t']) {
      expect(await refused(save('lines.json', mark + lines))).toBe('its JSON nests more than 200 deep; flatten it');
    }
  });

  test('the column with formulas is found by its values, as in CSV; empty ones count for nothing', async () => {
    const rows = [
      { id: null, stuff: 'NaCl' },
      { id: 'x1', stuff: null },
      { id: 'x2', stuff: 'KBr' },
    ];
    expect((await read(save('found.json', JSON.stringify(rows)))).formulaColumn).toBe('stuff');
    const file = join(folder, 'found.parquet');
    await writeTable(
      file,
      (['id', 'stuff'] as const).map((name) => ({ name, type: 'text', value: (i) => rows[i][name] })),
      3,
    );
    const { formulaColumn, texts } = await read(file);
    expect([formulaColumn, texts]).toEqual(['stuff', ['NaCl', null, 'KBr']]);
  });

  test('names of columns may be anything', async () => {
    const name = `it's "odd"; --`;
    const { texts } = await read(save('o.json', JSON.stringify([{ [name]: 'NaCl', x: 1 }])), { formulaColumn: name });
    expect(texts).toEqual(['NaCl']);
  });
});

describe('files that are none', () => {
  test('a pipe, a path through a file, links in a circle', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(await refused(pipe)).toBe('is not a plain file; copy its contents into one');
    expect(await refused(join(save('file.csv', 'x'), 'below.csv'))).toBe('no such file; check the path');
    const circle = join(folder, 'circle');
    symlinkSync(circle, circle);
    expect(await refused(circle)).toBe('cannot be read (ELOOP); check its permissions');
    expect(await refused(join(folder, 'nowhere'))).toBe('no such file; check the path');
    expect(await refused(folder)).toBe('is a folder; name a file inside it');
  });

  test.each<[string, string | Buffer, string]>([
    ['empty.csv', '', 'the file is empty; it needs at least one formula'],
    ['blank.csv', ' \n\t\n', 'holds only white space; it needs at least one formula'],
    ['nothing.csv.gz', gzipSync(''), 'the archive is empty; it needs at least one formula'],
    ['blank.csv.gz', gzipSync('  '), 'holds only white space; it needs at least one formula'],
    ['le.csv', Buffer.from([0xff, 0xfe, 0x4e, 0x00]), 'is written in UTF-16; save it as UTF-8'],
    ['be.csv', Buffer.from([0xfe, 0xff, 0x00, 0x4e]), 'is written in UTF-16; save it as UTF-8'],
    ['zero.csv', Buffer.from('Na\u0000Cl'), 'is not a text table nor Parquet; save it as CSV, JSON or Parquet'],
    [
      'text.parquet',
      'formula\nNaCl\n',
      'does not begin like a Parquet file; it may be damaged, so fetch or write it again',
    ],
    ['text.pq', 'x', 'does not begin like a Parquet file; it may be damaged, so fetch or write it again'],
    ['header.csv', 'formula\n', 'has a header but no rows; it needs at least one formula'],
    ['one.csv', 'formula\n1\n2.5\n', 'column "formula" holds numbers, not formulas; give it formulas'],
    [
      'some.csv',
      'formula,x\n1,2\n,3\n',
      'column "formula" holds numbers, not formulas; name another with --formula-column, there are "formula", "x"',
    ],
  ])('%s', async (name, content, message) => {
    expect(await refused(save(name, content))).toBe(message);
  });

  test('bytes 255 and 254 apart are no mark of UTF-16', async () => {
    for (const bytes of [
      [0xff, 0x41, 0x0a],
      [0xfe, 0x41, 0x0a],
      [0x41, 0xfe, 0x0a],
      [0x41, 0xff, 0x0a],
    ]) {
      const said = await read(save('l.csv', Buffer.from([...bytes, ...Buffer.from('NaCl\n')]))).catch(String);
      expect(String(said)).not.toContain('UTF-16');
    }
  });

  test('one row beside one line that is none is a table; a second byte alone is no archive', async () => {
    const { rows, malformed } = await read(save('half.csv', 'formula,e\nNaCl,1\nKBr,1,2\n'));
    expect([rows, malformed.length]).toEqual([1, 1]);
    const odd = Buffer.concat([Buffer.from('N'), Buffer.from([0x8b]), Buffer.from('\nNaCl\n')]);
    expect(String(await read(save('odd.csv', odd)).catch(String))).not.toContain('archive');
  });

  test('rows without any formula are no numbers', async () => {
    expect((await read(save('void.csv', 'formula,e\n,1\n,2\n'))).texts).toEqual([null, null]);
  });

  test('a formula among numbers is enough', async () => {
    expect((await read(save('mixed.csv', 'formula\n1\nNaCl\n'))).texts).toEqual(['1', 'NaCl']);
  });

  test('an archive of little but blanks is not unpacked for long', async () => {
    const bomb = gzipSync(Buffer.alloc(2 ** 25 + 2 ** 21, ' '));
    expect(await refused(save('bomb.csv.gz', bomb))).toBe(
      'unpacks to over 50 times its size, as no table of formulas does; unpack it yourself if you trust it',
    );
    // The same share, but small.
    expect(await refused(save('small.csv.gz', gzipSync(Buffer.alloc(2 ** 20, ' '))))).toMatch(/blanks|white space/);
  });

  test('a damaged archive', async () => {
    const whole = gzipSync(`formula\n${'NaCl\n'.repeat(5000)}`);
    expect(await refused(save('cut.csv.gz', whole.subarray(0, whole.length - 9)))).toMatch(
      /^the gzip archive is cut short or damaged \(unexpected end of file\); fetch it again$/,
    );
  });
});

describe('writing', () => {
  const columns: OutColumn[] = [
    { name: 'formula', type: 'text', value: (i) => ['NaCl', null, 'K,Br'][i] },
    { name: 'n', type: 'integer', value: (i) => [1, null, 3][i] },
    { name: 'x', type: 'real', value: (i) => [0.5, Number.NaN, null][i] },
  ];
  const csv = 'formula,n,x\nNaCl,1,0.5\n,,\n"K,Br",3,\n';
  const tsv = 'formula\tn\tx\nNaCl\t1\t0.5\n\t\t\nK,Br\t3\t\n';
  const objects = [
    { formula: 'NaCl', n: 1, x: 0.5 },
    { formula: null, n: null, x: null },
    { formula: 'K,Br', n: 3, x: null },
  ];
  const path = (name: string): string => join(folder, `out-${next++}-${name}`);
  const written = async (name: string): Promise<Buffer> => {
    const file = path(name);
    await writeTable(file, columns, 3);
    return readFileSync(file);
  };

  test.each([
    ['a.csv', csv],
    ['A.CSV', csv],
    ['a.tsv', tsv],
  ])('%s', async (name, text) => {
    expect((await written(name)).toString()).toBe(text);
    expect(gunzipSync(await written(`${name}.gz`)).toString()).toBe(text);
  });

  test('JSON', async () => {
    expect(JSON.parse((await written('a.json')).toString())).toEqual(objects);
    for (const name of ['a.jsonl', 'a.ndjson']) {
      const lines = (await written(name)).toString().trim().split('\n');
      expect(lines.map((line) => JSON.parse(line))).toEqual(objects);
    }
    expect(JSON.parse(gunzipSync(await written('a.json.gz')).toString())).toEqual(objects);
  });

  test('Parquet, also where the ending says nothing', async () => {
    for (const name of ['a.parquet', 'a.pq', 'a.PARQUET', 'a', 'a.data']) {
      const file = path(name);
      await writeTable(file, columns, 3);
      expect(readFileSync(file).subarray(0, 4).toString()).toBe('PAR1');
      const { texts } = await read(file);
      expect(texts).toEqual(['NaCl', null, 'K,Br']);
    }
  });

  test('more rows than one chunk holds, and none', async () => {
    const file = path('many.csv');
    await writeTable(file, [{ name: 'i', type: 'integer', value: (i) => i }], 4097);
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    expect(lines.slice(1).map(Number)).toEqual(Array.from({ length: 4097 }, (_, i) => i));
    await writeTable(file, columns, 0);
    expect(readFileSync(file, 'utf8')).toBe('formula,n,x\n');
  });

  test('only the last ending counts', async () => {
    const [table, lines] = [path('a.gz.csv'), path('a.csv.jsonl')];
    await writeTable(table, columns, 3);
    expect(readFileSync(table, 'utf8')).toBe(csv);
    await writeTable(lines, columns, 1);
    expect(JSON.parse(readFileSync(lines, 'utf8'))).toEqual(objects[0]);
    expect((await read(save('a.json.csv', 'formula\nNaCl\n'))).texts).toEqual(['NaCl']);
    expect((await read(save('a.parquet.csv', 'formula\nNaCl\n'))).texts).toEqual(['NaCl']);
    expect((await read(save('a.tsv.csv', 'formula,x\nNaCl,1\n'))).columns).toEqual(['formula', 'x']);
  });

  test('refusals, each in full', async () => {
    const message = async (file: string): Promise<string> =>
      checkOutput(file).then(
        () => '',
        (error) => {
          expect(error).toBeInstanceOf(DataError);
          return error.message;
        },
      );
    expect(await message('a.parquet.gz')).toBe('a.parquet.gz: Parquet is compressed inside already; leave the .gz out');
    expect(await message('a.pq.gz')).toBe('a.pq.gz: Parquet is compressed inside already; leave the .gz out');
    expect(await message('a.data.gz')).toBe(
      'a.data.gz: the ending is none of .parquet, .csv, .tsv, .jsonl, .json; choose one (.gz may follow text)',
    );
    const there = path('folder.csv');
    mkdirSync(there);
    expect(await message(there)).toBe(`${there}: is a folder; name a file to write`);
    const pipe = path('pipe.csv');
    execFileSync('mkfifo', [pipe]);
    expect(await message(pipe)).toBe(`${pipe}: is not a plain file; name another to write`);
    const nowhere = join(folder, 'none', 'a.csv');
    expect(await message(nowhere)).toBe(
      `${nowhere}: the folder ${join(folder, 'none')} does not exist; create it first`,
    );
    const below = join(save('plain', 'x'), 'a.csv');
    expect(await message(below)).toMatch(/the folder .*plain does not exist; create it first$/);
    expect(await message(path('fine.csv'))).toBe('');
  });

  test('whole or not at all: the fault is told, a DataError as it is, nothing is left', async () => {
    const file = path('whole.txt');
    await expect(
      writeWhole(file, async (temporary) => {
        writeFileSync(temporary, 'half');
        throw new Error('disk full\nat line 2');
      }),
    ).rejects.toThrow(new DataError(`${file}: cannot be written (disk full); check the folder and the free space`));
    const own = new DataError('mine');
    await expect(writeWhole(file, () => Promise.reject(own))).rejects.toBe(own);
    await expect(writeWhole(file, () => Promise.reject('a text'))).rejects.toThrow('cannot be written (a text)');
    expect(readdirSync(folder).filter((name) => name.includes('whole.txt'))).toEqual([]);
    writeFileSync(file, 'old');
    await writeWhole(file, async (temporary) => {
      expect(temporary).toContain('.partial');
      expect(readFileSync(file, 'utf8')).toBe('old');
      writeFileSync(temporary, 'new');
    });
    expect(readFileSync(file, 'utf8')).toBe('new');
  });
});
