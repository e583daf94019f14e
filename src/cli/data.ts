import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { frequencyFormulas, independentFormulas, scaleHistogram, uniformFormulas } from '../chem/baseline.ts';
import {
  byElementCount,
  dataInfo,
  fingerprintOf,
  loadFormulas,
  prepareData,
  ruleSets,
  splitData,
  writeDataSet,
} from '../chem/dataset.ts';
import { countByElements, takeRows } from '../chem/encoding.ts';
import { fetchOptimade, providers } from '../chem/optimade.ts';
import { type Provenance, writeSidecar } from '../chem/provenance.ts';
import { randomStream } from '../chem/random.ts';
import { defaultCount, defaultSeed, synthesize } from '../chem/synth.ts';
import { checkOutput } from '../chem/tables.ts';
import { ConfigError, DataError } from '../errors.ts';
import { integer, note, real, standardOptions } from './common.ts';

/** `matgan data …`: from a database to a table, from a table or nothing to a data set, and what a data set is. */
export function data(): Command {
  return new Command('data')
    .description('prepare a data set, look at one, split one, fetch a table for one, or make the embedded one')
    .addCommand(prepare())
    .addCommand(info())
    .addCommand(split())
    .addCommand(fetchTable())
    .addCommand(synth())
    .addCommand(random());
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

/** The rows that each rule left, beside the paper's, and those left by number of elements. */
function printCounts({ rows, unusable = {}, steps = [], paper, byElementCount = {} }: Provenance): void {
  if (rows !== undefined) {
    printTable(
      ['step', 'removed', 'left', 'paper'],
      [
        ['rows of the file', '', rows, paper?.rows ?? ''],
        ...Object.entries(unusable).map(([reason, count]) => [`unusable: ${plain(reason)}`, count, '', '']),
        ...steps.map(({ rule, removed, left, paper }) => [plain(rule), removed, left, paper ?? '']),
      ],
    );
  }
  printTable(
    ['elements', 'formulas'],
    Object.entries(byElementCount).map(([elements, count]) => [plain(elements), count]),
  );
}

/** A stranger's text, unable to steer a terminal. */
const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '·').slice(0, 100);

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
        'OUT.rejected.csv. Where the data came from is inside a Parquet file (matgan data info shows it), and in\n' +
        'OUT.provenance.json beside the others.',
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
      printCounts(result);
      if (result.rejectedFile) note(`rows that could not be used: ${result.rejectedFile}`);
      note(`wrote ${result.kept} formulas to ${result.out}`);
    });
  return standardOptions(command, 'matgan data prepare mp.csv.gz --rules mp --out mp.parquet');
}

interface InfoOptions {
  formulaColumn?: string;
  json?: boolean;
}

function info(): Command {
  const command = new Command('info')
    .description('show what a data file says about itself, and hold it against its rows')
    .argument('<file>', 'a prepared file, or any table of formulas')
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .addHelpText('after', '\nEnds with 2 where the rows are not those that the file says it has.')
    .action(async (file: string, options: InfoOptions) => {
      const result = await dataInfo(file, options);
      const { provenance, fingerprint, verified } = result;
      if (verified === false) {
        throw new DataError(
          `${file}: its rows (${fingerprint}) are not those of its provenance (${provenance!.fingerprint}); prepare it again`,
        );
      }
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const { source, rules, split, version } = provenance ?? {};
      const facts = [
        provenance === null && `${file} says nothing of where it came from`,
        rules !== undefined && `rules ${plain(rules)}${version === undefined ? '' : `, by version ${plain(version)}`}`,
        source && `from ${plain(source.file)} (SHA-256 ${source.sha256})`,
        split &&
          `${split.part} part of ${split.rows} formulas ${split.of}: share ${split.leaveOut}, seed ${split.seed}`,
        `${result.rows} formulas of ${result.elements} elements`,
        `fingerprint ${fingerprint}${verified ? ', as the file says' : ''}`,
      ].filter((line) => typeof line === 'string');
      process.stdout.write(`${facts.join('\n')}\n`);
      printCounts({ ...provenance, byElementCount: result.byElementCount });
    });
  return standardOptions(command, 'matgan data info icsd.parquet');
}

interface SplitOptions {
  leaveOut: number;
  seed: number;
  outTrain: string;
  outLeaveOut: string;
  formulaColumn?: string;
  json?: boolean;
}

function split(): Command {
  const command = new Command('split')
    .description('write the training and the leave-out part of a data set, the same that training makes')
    .argument('<file>', 'a prepared file, or any table of formulas')
    .requiredOption('--out-train <file>', 'where to write what is trained on')
    .requiredOption('--out-leave-out <file>', 'where to write what is left out')
    .option('--leave-out <share>', 'share that is left out, as leaveOut in a preset', real(0, 1), 0.1)
    .option('--seed <n>', 'as seed in a preset', integer(0), 1)
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .action(async (file: string, options: SplitOptions) => {
      const result = await splitData(file, options);
      if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
      for (const { rows, out } of [result.training, result.leftOut]) note(`wrote ${rows} formulas to ${out}`);
    });
  return standardOptions(
    command,
    'matgan data split icsd.parquet --out-train train.parquet --out-leave-out leave-out.parquet',
  );
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
      await writeSidecar(options.out, facts);
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
      const facts = {
        rules: 'synth',
        count: options.count,
        seed: options.seed,
        kept: formulas.rows,
        byElementCount: byElementCount(formulas),
        fingerprint: fingerprintOf(formulas),
      };
      await writeDataSet(options.out, formulas, facts);
      if (options.json) {
        process.stdout.write(`${JSON.stringify({ ...facts, out: options.out })}\n`);
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

/** What a table is compared with: formulas that no network made. */
const randomKinds = {
  uniform: 'all formulas with the same number of elements are equally likely: a sample of the enumeration',
  frequency: 'elements and counts by their frequencies in --like, and its numbers of elements',
  independent: 'each cell of the 85 × 8 matrix by its frequency in --like',
} as const;

interface RandomOptions {
  like: string;
  kind: keyof typeof randomKinds;
  count: number;
  seed: number;
  formulaColumn?: string;
  out: string;
  json?: boolean;
}

function random(): Command {
  const kinds = Object.keys(randomKinds) as (keyof typeof randomKinds)[];
  const command = new Command('random')
    .description('write random formulas to compare others with: the baselines of an evaluation')
    .requiredOption('--like <file>', 'table whose numbers of elements (and frequencies) they have')
    .addOption(new Option('--kind <kind>', 'how they are drawn').choices(kinds).default('uniform'))
    .requiredOption('--count <n>', 'formulas to draw; repeats are among them', integer(1, 10_000_000))
    .option('--seed <n>', 'the same seed gives the same bits', integer(0), 1)
    .option('--formula-column <name>', 'column of the formulas of --like (found by name where left out)')
    .requiredOption('--out <file>', 'where to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .addHelpText('after', `\n${kinds.map((kind) => `  ${kind.padEnd(12)} ${randomKinds[kind]}`).join('\n')}`)
    .action(async ({ like, kind, count, seed, formulaColumn, out, json }: RandomOptions) => {
      await checkOutput(out);
      const training = await loadFormulas(like, { formulaColumn });
      if (training.rows === 0) throw new DataError(`${like}: no row has a formula that fits 85 × 8`);
      const sizes = scaleHistogram(countByElements(training), count);
      const drawn =
        kind === 'independent'
          ? independentFormulas(training, count, seed)
          : kind === 'frequency'
            ? frequencyFormulas(training, sizes, seed)
            : uniformFormulas(sizes, seed);
      // Drawn the small ones first; mixed, so that the first rows of the table are a fair sample too.
      const order = Uint32Array.from({ length: drawn.rows }, (_, i) => i);
      const stream = randomStream(seed, 'order');
      for (let i = order.length - 1; i > 0; i--) {
        const j = stream.below(i + 1);
        [order[i], order[j]] = [order[j], order[i]];
      }
      const formulas = { packed: takeRows(drawn.packed, order), rows: drawn.rows };
      const facts = {
        rules: kind,
        count,
        seed,
        kept: formulas.rows,
        byElementCount: byElementCount(formulas),
        fingerprint: fingerprintOf(formulas),
      };
      await writeDataSet(out, formulas, facts);
      if (json) process.stdout.write(`${JSON.stringify({ ...facts, out })}\n`);
      if (formulas.rows < count) note(`${like} has too few elements for ${count - formulas.rows} of them`);
      note(`wrote ${formulas.rows} formulas to ${out}`);
    });
  return standardOptions(command, 'matgan data random --like icsd.parquet --count 100000 --out uniform.parquet');
}
