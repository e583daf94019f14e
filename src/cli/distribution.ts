import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { readTable } from '../chem/tables.ts';
import { ConfigError, DataError } from '../errors.ts';
import { reason, replaceFile } from '../models/files.ts';
import { chartFile } from '../report/chart.ts';
import { distributionChart, distributionOf, type Spread } from '../report/distribution.ts';
import { pngWriter } from '../report/png.ts';
import { consoleTable, percent } from '../report/table.ts';
import { note, standardOptions } from './common.ts';

interface Options {
  set: string[];
  column: string;
  below?: string[];
  out: string;
  json?: boolean;
}

/** `matgan distribution`: one column of several tables, side by side. */
export function distribution(): Command {
  const command = new Command('distribution')
    .description('compare the distribution of a number, such as a predicted energy, in several tables')
    .requiredOption('--set <name=file...>', 'tables, NAME=FILE; FILE:COLUMN where a table calls the column otherwise')
    .requiredOption('--column <name>', 'column of numbers')
    .option('--below <x...>', 'also the share of the numbers below these')
    .requiredOption('--out <folder>', 'distribution.json and distribution.svg (and .png) go here')
    .addHelpText('after', '\nEmpty cells are counted, not drawn. What lies beyond the bins is in the outermost ones.')
    .action(run);
  return standardOptions(
    command,
    'matgan distribution --set icsd=li-icsd.parquet mp=li-mp.parquet --column predicted_energy_ev_per_atom --below 0 --out li',
  );
}

/** NAME=FILE or NAME=FILE:COLUMN. @throws ConfigError */
function setsOf({ set, column }: Options): { name: string; file: string; column: string }[] {
  const names = new Set<string>();
  return set.map((text) => {
    const [, name, whole] = /^([^=]{1,60})=(.+)$/s.exec(text) ?? [];
    const [, file = whole, own] = (!existsSync(whole ?? '') && /^(.+):([^:/\\]+)$/s.exec(whole ?? '')) || [];
    if (name === undefined) throw new ConfigError(`--set ${text}: it takes NAME=FILE, such as icsd=li-icsd.parquet`);
    if (names.has(name)) throw new ConfigError(`--set ${text}: the name is taken; choose another`);
    names.add(name);
    return { name, file, column: own ?? column };
  });
}

async function run(options: Options): Promise<void> {
  const sets = setsOf(options);
  const below = (options.below ?? []).map((text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value)) throw new ConfigError(`--below ${text}: it takes numbers`);
    return value;
  });
  const spreads: Spread[] = [];
  for (const { name, file, column } of sets) spreads.push({ name, ...(await numbersOf(file, column)) });
  const found = distributionOf(options.column, spreads, below);
  try {
    mkdirSync(options.out, { recursive: true });
  } catch (cause) {
    throw new DataError(`--out ${options.out}: it cannot be made (${reason(cause)})`, { cause });
  }
  const svg = chartFile(distributionChart(found));
  replaceFile(join(options.out, 'distribution.svg'), [Buffer.from(svg)]);
  const { write, problem } = await pngWriter();
  if (problem) note(problem);
  if (write) replaceFile(join(options.out, 'distribution.png'), [write(svg)]);
  replaceFile(join(options.out, 'distribution.json'), [Buffer.from(`${JSON.stringify(found, null, 2)}\n`)]);
  if (options.json) {
    process.stdout.write(`${JSON.stringify(found)}\n`);
    return;
  }
  const number = (value: number | null): string => (value === null ? '–' : value.toFixed(3));
  const share = (value: number | null): string => (value === null ? '–' : percent(value));
  const head = ['', 'rows', 'mean', '5 %', 'median', '95 %', ...below.map((x) => `below ${x}`), 'from the first'];
  const rows = Object.entries(found.sets).map(([name, s]) => [
    name,
    String(s.rows - s.without),
    number(s.mean),
    ...[0, 2, 4].map((q) => number(s.quantiles[q])),
    ...below.map((x) => share(s.below[String(x)])),
    number(s.fromFirst),
  ]);
  process.stdout.write(`${consoleTable(head, rows)}\n`);
  for (const { name, without } of spreads) if (without > 0) note(`${name}: ${without} rows without a number`);
  note(`distribution.json and its chart: ${options.out}`);
}

/** The numbers of a column in ascending order. @throws DataError for a table without any, naming the first text that is none */
async function numbersOf(file: string, column: string): Promise<Omit<Spread, 'name'>> {
  let values = new Float64Array(4096);
  let [count, without, wrong] = [0, 0, 0];
  let first: string | undefined;
  await readTable(file, { labelColumn: column, labelOption: '--column' }, (_text, _energy, _gap, row, label) => {
    const text = label?.trim() ?? '';
    const value = text === '' ? Number.NaN : Number(text);
    if (!Number.isFinite(value)) {
      if (text === '') without++;
      else {
        wrong++;
        first ??= `row ${row}: ${JSON.stringify(text.slice(0, 40))}`;
      }
      return;
    }
    if (count === values.length) {
      const larger = new Float64Array(2 * count);
      larger.set(values);
      values = larger;
    }
    values[count++] = value;
  });
  if (wrong > 0) note(`${file}: ${wrong} rows of ${column} are no numbers (${first})`);
  if (count === 0 && wrong > 0)
    throw new DataError(`${file}: column ${column} holds no numbers (${first}); name another`);
  return { values: values.subarray(0, count).sort(), without: without + wrong };
}
