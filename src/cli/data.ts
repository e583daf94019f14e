import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { Command } from 'commander';
import {
  byElementCount,
  fingerprintOf,
  prepareData,
  ruleSets,
  writeFormulas,
  writeProvenance,
} from '../chem/dataset.ts';
import { fetchOptimade, providers } from '../chem/optimade.ts';
import { defaultCount, defaultSeed, synthesize } from '../chem/synth.ts';
import { checkOutput } from '../chem/tables.ts';
import { ConfigError } from '../errors.ts';
import { integer, note, standardOptions } from './common.ts';

/** `matgan data fetch`, `prepare` and `synth`: from a database to a table, and from a table or nothing to a data set. */
export function data(): Command {
  return new Command('data')
    .description('prepare a data set, fetch a table for one, or make the embedded one')
    .addCommand(prepare())
    .addCommand(fetchTable())
    .addCommand(synth());
}

interface PrepareOptions {
  rules: string;
  formulaColumn?: string;
  energyColumn?: string;
  gapColumn?: string;
  out: string;
  json?: boolean;
}

/** A table of counts, with thousands separated. */
function printTable(head: string[], rows: (string | number)[][]): void {
  const table = new Table({
    head,
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
  });
  for (const row of rows) table.push(row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)));
  process.stdout.write(`${table.toString()}\n`);
}

function prepare(): Command {
  const command = new Command('prepare')
    .description("apply the paper's data rules to a table of formulas and print what each rule removes")
    .argument('<file>', 'CSV, TSV, JSON, JSON lines or Parquet, also .gz')
    .requiredOption('--rules <name>', Object.keys(ruleSets).join(' | '))
    .requiredOption('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .option('--energy-column <name>', 'column with formation energies in eV per atom')
    .option('--gap-column <name>', 'column with band gaps in eV')
    .addHelpText(
      'after',
      '\nEqual reduced formulas are one formula. Rows that cannot be used are counted by reason and listed in\n' +
        'OUT.rejected.csv; OUT.provenance.json says where the data came from.',
    )
    .action(async (file: string, options: PrepareOptions) => {
      const bar = new SingleBar({ format: 'reading {value} rows', stream: process.stderr, clearOnComplete: true });
      let shown = 0;
      bar.start(0, 0);
      const result = await prepareData(file, {
        ...options,
        progress: (rows) => {
          if (rows - shown < 10_000) return;
          shown = rows;
          bar.update(rows);
        },
      }).finally(() => bar.stop());
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const paperRows = result.paper.rows === null ? '' : result.paper.rows;
      printTable(
        ['step', 'removed', 'left', 'paper'],
        [
          ['rows of the file', '', result.rows, paperRows],
          ...Object.entries(result.unusable).map(([reason, count]) => [`unusable: ${reason}`, count, '', '']),
          ...result.steps.map(({ rule, removed, left, paper }) => [rule, removed, left, paper ?? '']),
        ],
      );
      printTable(
        ['elements', 'formulas'],
        Object.entries(result.byElementCount).map(([elements, count]) => [elements, count]),
      );
      if (result.rejectedFile) note(`rows that could not be used: ${result.rejectedFile}`);
      note(`wrote ${result.kept} formulas to ${result.out}`);
    });
  return standardOptions(command, 'matgan data prepare mp.csv.gz --rules mp --out mp.parquet');
}

interface FetchOptions {
  out: string;
  filter?: string;
  energyField?: string;
  gapField?: string;
  pageSize: number;
  limit?: number;
  apiKeyEnv?: string;
  interval: number;
  json?: boolean;
}

function fetchTable(): Command {
  const names = Object.keys(providers);
  const command = new Command('fetch')
    .description('download formulas from a materials database over OPTIMADE')
    .argument('<database>', `${names.join(' | ')}, or an OPTIMADE base URL`)
    .requiredOption('--out <file>', 'where to write: .jsonl')
    .option('--filter <text>', 'in OPTIMADE’s language, e.g. \'elements HAS "Li" AND nelements>=2\'')
    .option('--energy-field <name>', 'the database’s field with formation energies in eV per atom')
    .option('--gap-field <name>', 'the database’s field with band gaps in eV')
    .option('--page-size <n>', 'rows to ask for at once', integer(1, 10_000), 500)
    .option('--limit <n>', 'stop after so many rows', integer(1))
    .option('--api-key-env <name>', 'the environment variable that holds a key, for databases that want one')
    .option('--interval <ms>', 'least time between two requests', integer(0, 600_000), 200)
    .addHelpText(
      'after',
      '\nCut off, the same command goes on where it was. Mind the database’s terms of use:\n' +
        Object.entries(providers)
          .map(([name, { url, about }]) => `  ${name.padEnd(11)} ${url}  ${about}`)
          .join('\n'),
    )
    .action(async (database: string, options: FetchOptions) => {
      const known = Object.hasOwn(providers, database) ? providers[database] : undefined;
      if (!known && !/^https?:\/\//i.test(database)) {
        throw new ConfigError(`data fetch: there is no database ${database}; it takes ${names.join(', ')}, or a URL`);
      }
      if (!options.out.endsWith('.jsonl')) throw new ConfigError('data fetch: --out takes a name that ends in .jsonl');
      await checkOutput(options.out);
      const { apiKeyEnv } = options;
      const apiKey = apiKeyEnv === undefined ? undefined : process.env[apiKeyEnv];
      if (apiKeyEnv !== undefined && !apiKey)
        throw new ConfigError(`data fetch: the environment has no ${apiKeyEnv} to take a key from`);
      const bar = new SingleBar({
        format: '{bar} {value}/{total} rows',
        stream: process.stderr,
        clearOnComplete: true,
      });
      bar.start(options.limit ?? 0, 0);
      const fetched = await fetchOptimade({
        url: known?.url ?? database,
        out: options.out,
        filter: options.filter,
        energyField: options.energyField ?? known?.energyField,
        gapField: options.gapField ?? known?.gapField,
        pageSize: options.pageSize,
        limit: options.limit,
        apiKey,
        interval: options.interval,
        onProgress: (rows, of) => {
          bar.setTotal(Math.min(options.limit ?? Number.POSITIVE_INFINITY, of ?? rows));
          bar.update(rows);
        },
        onRetry: (why) => note(`again: ${why}`),
      }).finally(() => bar.stop());
      const facts = { database, ...fetched, out: options.out };
      await writeProvenance(options.out, facts);
      if (options.json) process.stdout.write(`${JSON.stringify(facts)}\n`);
      const { rows, resumed, without, pages, retries } = fetched;
      note(
        `wrote ${rows} formulas to ${options.out}, of ${pages} pages` +
          `${resumed > 0 ? `, ${resumed} of them from before` : ''}${without > 0 ? `; ${without} rows had none` : ''}` +
          `${retries > 0 ? `; ${retries} requests were made again` : ''}`,
      );
    });
  return standardOptions(command, 'matgan data fetch oqmd --limit 1000 --out oqmd.jsonl');
}

interface SynthOptions {
  out: string;
  count: number;
  seed: number;
  json?: boolean;
}

function synth(): Command {
  const command = new Command('synth')
    .description('write the embedded default set: balanced compounds enumerated from element facts')
    .requiredOption('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--count <n>', 'number of formulas', integer(1, 200_000), defaultCount)
    .option('--seed <n>', 'the same seed gives the same bits', integer(0), defaultSeed)
    .action(async (options: SynthOptions) => {
      await checkOutput(options.out);
      const formulas = synthesize(options);
      await writeFormulas(options.out, formulas);
      const facts = {
        rules: 'synth',
        count: options.count,
        seed: options.seed,
        kept: formulas.rows,
        byElementCount: byElementCount(formulas),
        fingerprint: fingerprintOf(formulas),
        out: options.out,
      };
      await writeProvenance(options.out, facts);
      if (options.json) {
        process.stdout.write(`${JSON.stringify(facts)}\n`);
        return;
      }
      printTable(
        ['elements', 'formulas'],
        Object.entries(facts.byElementCount).map(([elements, count]) => [elements, count]),
      );
      note(`wrote ${formulas.rows} formulas to ${options.out}`);
    });
  return standardOptions(command, 'matgan data synth --out default.parquet');
}
