import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import type { OpTable } from '../autograd/graph.ts';
import { checkSample } from '../autograd/own.ts';
import { ConfigError } from '../errors.ts';
import { replaceFile } from '../models/files.ts';
import { allCases, type BenchCase, chooseCases, matches, ownCases } from '../report/bench/cases.ts';
import { type Comparison, compareResults } from '../report/bench/compare.ts';
import { bench as measure } from '../report/bench/measure.ts';
import { benchPage } from '../report/bench/page.ts';
import { type BenchReport, type BenchRow, type Results, readResults } from '../report/bench/results.ts';
import { byOp, profileCase, traceOf } from '../report/bench/trace.ts';
import { consoleTable, percent } from '../report/table.ts';
import { note, standardOptions } from './common.ts';
import { loadModule, type OwnModule } from './module.ts';

interface Options {
  filter?: string;
  quick?: boolean;
  all?: boolean;
  list?: boolean;
  module?: string;
  out?: string;
  html?: string;
  compare?: string[];
  tolerance: number;
  profile?: string;
  json?: boolean;
}

/** `10%` or `0.1` as a share. */
function share(text: string): number {
  const value = Number(text.replace(/\s*%$/, '')) / (text.trim().endsWith('%') ? 100 : 1);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0 || value > 10) {
    throw new InvalidArgumentError('It takes a share of the time, such as 10% or 0.1.');
  }
  return value;
}

/** What a module names beside its ops' samples: `bench = { NAME: [samples] }`. @throws ConfigError */
function namedSizes(file: string, { ops, exports }: OwnModule): Parameters<typeof ownCases>[1] {
  const named = exports.bench ?? {};
  const at = `bench: ${file}: bench`;
  if (typeof named !== 'object' || named === null || Array.isArray(named)) {
    throw new ConfigError(`${at} is no table { NAME: [samples] }`);
  }
  for (const [op, samples] of Object.entries(named)) {
    if (!(op in ops)) throw new ConfigError(`${at}: there is no op ${op}; ops has ${Object.keys(ops).join(', ')}`);
    if (!Array.isArray(samples)) throw new ConfigError(`${at}.${op}: it takes a list of samples`);
    samples.forEach((sample, i) => {
      checkSample(sample, `${at}.${op}[${i}]`);
    });
  }
  return named as Parameters<typeof ownCases>[1];
}

async function casesOf({ module, filter, quick }: Options): Promise<BenchCase[]> {
  let all: readonly BenchCase[];
  if (module === undefined) all = allCases();
  else {
    const own = await loadModule('bench', module);
    all = ownCases(own.ops as OpTable, namedSizes(module, own));
  }
  return chooseCases(all, { filter, quick });
}

const show = (name: string): string => (/^[\w./:=-]+$/.test(name) ? name : `'${name}'`);
const command = (): string => ['matgan', ...process.argv.slice(2)].map(show).join(' ');

const ms = (value: number | null): string => (value === null ? '' : value.toFixed(3));
const megabytes = (bytes: number): string => (bytes / 1e6).toPrecision(3);

function rowTable(rows: readonly BenchRow[]): string {
  return consoleTable(
    [
      'case',
      'median ms',
      '± ms',
      'device ms',
      'GFLOP/s',
      'of FMA',
      'GB/s',
      'of copy',
      'dispatches',
      'submits',
      'MB moved',
      'MB least',
      'peak MB',
    ],
    rows.map((row) => [
      row.variant ? `${row.name} (${row.variant})` : row.name,
      ms(row.medianMs),
      ms(row.spreadMs),
      ms(row.deviceMs),
      row.flops > 0 ? row.gflops.toFixed(2) : '',
      row.flops > 0 ? percent(row.fmaShare) : '',
      row.gbps.toFixed(2),
      percent(row.copyShare),
      row.dispatches,
      row.submits,
      megabytes(row.bytes),
      megabytes(row.leastBytes),
      megabytes(row.memory),
    ]),
  );
}

/** Milliseconds between writes of the rows so far. */
const writeEvery = 10_000;

async function measured(cases: readonly BenchCase[], { quick, all, out }: Options): Promise<BenchReport> {
  const bar = new SingleBar({ format: '{bar} {value}/{total} {name}', stream: process.stderr, clearOnComplete: true });
  let started = false;
  let written = performance.now();
  try {
    return await measure(cases, {
      quick,
      all,
      command: command(),
      onReport: (report) => {
        if (!out || performance.now() - written < writeEvery) return;
        replaceFile(out, [Buffer.from(`${JSON.stringify(report, null, 1)}\n`)]);
        written = performance.now();
      },
      onProgress: (done, total, name) => {
        if (!started) bar.start(total, 0, { name });
        started = true;
        bar.update(done, { name });
      },
    });
  } finally {
    bar.stop();
  }
}

/** At most ten names, and how many more. */
const some = (names: readonly string[]): string =>
  names.slice(0, 10).join('; ') + (names.length > 10 ? `; and ${names.length - 10} more` : '');

/** Prints a comparison to standard output, or with `--json` to standard error; sets the exit code. */
function printComparison(compared: Comparison, { json, tolerance }: Options): void {
  const { warning, rows, missing, added, regressions } = compared;
  // Off a terminal isTTY is undefined, which createColors would take for its default.
  const colour = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
  const paint = { slower: colour.red, faster: colour.green, same: (text: string) => text };
  const table = consoleTable(
    ['case', 'before ms', 'now ms', 'ratio', 'from', 'to', 'normalised', ''],
    rows.map(({ name, variant, baseMs, newMs, ratio, interval: [low, high], normalised, verdict }) => [
      variant ? `${name} (${variant})` : name,
      ms(baseMs),
      ms(newMs),
      ratio.toFixed(2),
      low.toFixed(2),
      high.toFixed(2),
      normalised?.toFixed(2),
      verdict === 'same' ? '' : paint[verdict](verdict),
    ]),
  );
  const lines = [
    ...(warning ? [`WARNING: ${warning}`] : []),
    table,
    ...(missing.length > 0 ? [`missing, of the earlier results: ${some(missing)}`] : []),
    ...(added.length > 0 ? [`new: ${some(added)}`] : []),
  ];
  if (json) for (const line of lines) note(line);
  else process.stdout.write(`${lines.join('\n')}\n`);
  const most = `${Number((100 * tolerance).toPrecision(3))} %`;
  if (regressions.length > 0) {
    note(`${regressions.length} of ${rows.length} rows are SLOWER beyond noise and ${most}: ${some(regressions)}`);
    process.exitCode = 1;
  } else note(`none of ${rows.length} rows is slower beyond noise and ${most}`);
}

async function profile(cases: readonly BenchCase[], file: string, { filter, json }: Options): Promise<void> {
  if (cases.length > 1) {
    const names = some(cases.map(({ name }) => name));
    throw new ConfigError(
      `bench: --profile takes one case, "${filter}" fits ${cases.length}: ${names}; --filter with the whole name of one`,
    );
  }
  const profiled = await profileCase(cases[0]);
  const { times, adapter, name } = profiled;
  replaceFile(file, [Buffer.from(`${JSON.stringify(traceOf(profiled))}\n`)]);
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const ops = byOp(times);
  note(
    `${adapter}: ${name}: ${times.length} dispatches, ${total.toFixed(3)} ms; open ${file} in ui.perfetto.dev or chrome://tracing`,
  );
  if (json) process.stdout.write(`${JSON.stringify(ops)}\n`);
  else {
    const table = consoleTable(
      ['op', 'dispatches', 'ms', 'of all', 'GFLOP/s', 'GB/s'],
      ops.map(({ op, dispatches, ms: spent, flops, bytes }) => {
        const rate = (n: number): string => (spent > 0 && n > 0 ? (n / spent / 1e6).toFixed(2) : '');
        return [op, dispatches, ms(spent), percent(spent / total), rate(flops), rate(bytes)];
      }),
    );
    process.stdout.write(`${table}\n`);
  }
}

/** The step that `--profile` takes where no filter says. */
const usual = 'step gan icsd batch 32';

async function run(options: Options): Promise<void> {
  const { list, json, out, html, compare, tolerance } = options;
  if (compare && compare.length > 2)
    throw new ConfigError(`bench: --compare takes one file or two, not ${compare.length}`);
  // What is wrong with a file is said before anything is measured.
  const earlier = compare?.map(readResults);
  if (earlier?.length === 2) {
    if (html || out)
      throw new ConfigError('bench: --compare with two files measures nothing; leave out --out and --html');
    printComparison(compareResults(earlier[0], earlier[1], tolerance), options);
    return;
  }
  if (options.profile && options.module === undefined) options.filter ??= usual;
  const cases = await casesOf(options);
  if (list) {
    const names = cases.map(({ name }) => name);
    process.stdout.write(json ? `${JSON.stringify(names)}\n` : `${names.join('\n')}\n`);
    return;
  }
  if (options.profile) {
    await profile(cases, options.profile, options);
    return;
  }

  const report = await measured(cases, options);
  const { adapter, ceilings, rows, leftOut } = report;
  note(`${adapter}: FMA ${ceilings.fmaGflops.toFixed(1)} GFLOP/s, copy ${ceilings.copyGbps.toFixed(1)} GB/s`);
  if (json) process.stdout.write(`${JSON.stringify(rows)}\n`);
  else process.stdout.write(`${rowTable(rows)}\n`);
  for (const { name, reason } of leftOut) note(`left out: ${name}: ${reason}`);
  const wrong = leftOut.filter((row) => row.wrong).map(({ name }) => name);
  if (wrong.length > 0) {
    note(`${wrong.length} of ${cases.length} cases are WRONG: ${some(wrong)}`);
    process.exitCode = 1;
  }
  const best = rows.find((row) => row.best);
  if (best)
    note(
      `generating is fastest at ${best.name}: ${Math.round(best.perSecond!).toLocaleString('en')} formulas a second`,
    );
  if (out) replaceFile(out, [Buffer.from(`${JSON.stringify(report, null, 1)}\n`)]);
  let compared: Comparison | undefined;
  if (earlier) {
    // Rows that this run was not asked for are not missing.
    const asked = new Set(cases.map(({ name }) => name));
    const whole = !options.quick && options.module === undefined;
    const wanted = ({ name, of }: Results['rows'][number]): boolean =>
      asked.has(name) || (whole && matches(options.filter ?? '', { name, of }));
    const [base] = earlier;
    compared = compareResults({ ...base, rows: base.rows.filter(wanted) }, report, tolerance);
    printComparison(compared, options);
  }
  if (html) replaceFile(html, [Buffer.from(benchPage(report, compared))]);
}

/** `matgan bench`: kernels and training steps against the adapter's ceilings. */
export function bench(): Command {
  const command = new Command('bench')
    .description('time kernels at the presets’ shapes, training steps and generating, against the adapter’s ceilings')
    .option('--filter <words>', 'only cases with all these words in their names, or with this whole name')
    .option('--quick', 'each op at the largest shape of GAN-ICSD and its step, and less time a case')
    .option('--all', 'also what takes a software adapter long')
    .option('--list', 'print the names of the cases, and measure nothing')
    .option('--module <file>', 'a module of your own that exports ops = { NAME: row }: times those')
    .option('--out <file>', 'write the results as JSON, with adapter, versions, commit and ceilings')
    .option('--html <file>', 'write a page with a roofline')
    .option('--compare <files...>', 'hold the results against these of before; two files: measure nothing')
    .option('--tolerance <share>', 'slowdown that --compare lets pass, beside noise', share, 0.1)
    .option('--profile <file>', `one case as a trace, a slice a dispatch (${usual} where no --filter says)`)
    .addHelpText(
      'after',
      '\nEvery kernel is held against the f64 reference before it is timed; a wrong one is left out, named, and makes the exit\n' +
        'code 1. Steps are checked for finite losses. ± is the distance of the quartiles. GB/s counts the least bytes that the dispatches have to move.\n' +
        'Exit code 1 where --compare finds a regression, too. docs/bench.md explains the table, the files and modules.',
    )
    .action(run);
  return standardOptions(command, 'matgan bench --filter conv2d --quick');
}
