import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import { parseFormula } from '../chem/formula.ts';
import { Describer, descriptorCount, descriptorNames, descriptorSet } from '../chem/magpie.ts';
import { mostNumbers, type Numbers, readNumbers, writeTable } from '../chem/tables.ts';
import { loadTargets } from '../chem/targets.ts';
import { ConfigError, DataError, DeviceError } from '../errors.ts';
import { type Device, openDevice } from '../kernels/device.ts';
import type { Binned } from '../models/trees/bins.ts';
import { loadTreesConfig, treesPresetNames } from '../models/trees/config.ts';
import { writeTrees } from '../models/trees/files.ts';
import { type Forest, importances, permutationImportances } from '../models/trees/forest.ts';
import { GpuHistogrammer, measure } from '../models/trees/gpu.ts';
import type { Histogrammer } from '../models/trees/grow.ts';
import { trainMeasured, type Unseen } from '../models/trees/train.ts';
import { type Judged, propertyReport } from '../report/property.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
import { makeReportFolder, reportText, writeReport } from './property.ts';

interface TreesOptions {
  data: string;
  target: string;
  columns?: string[];
  group?: string;
  descriptors?: 'magpie';
  formulaColumn?: string;
  preset: string;
  config?: string;
  trees?: number;
  seed?: number;
  out?: string;
  force?: boolean;
  report?: string;
  device: 'auto' | 'gpu' | 'reference';
  printConfig?: boolean;
  json?: boolean;
}

/** `matgan train trees`: boosted trees on the numbers of a table. */
export function trainTreesCommand(): Command {
  const command = new Command('trees')
    .description('train gradient-boosted trees on columns of numbers')
    .requiredOption(
      '--data <file>',
      'table of numbers (CSV, TSV, JSON, JSONL, Parquet, also .gz); empty cells are missing values',
    )
    .requiredOption('--target <column>', 'column to predict')
    .option('--columns <names...>', 'feature columns; all others that hold numbers if not given')
    .option('--group <column>', 'rows with the same value here, such as a formula, are set aside together')
    .addOption(
      new Option('--descriptors <set>', 'describe the formulas of a table, one row each, instead of reading features')
        .choices(['magpie'])
        .conflicts(['columns', 'group']),
    )
    .option('--formula-column <name>', 'with --descriptors: column of the formulas (found by name where left out)')
    .option('--preset <name>', `settings to start from: ${treesPresetNames().join(', ')}`, 'best')
    .option('--config <file>', 'YAML or JSON with settings laid over the preset')
    .option('--trees <n>', 'number of trees, at most', integer(1, 100_000))
    .option('--seed <n>', 'seed of everything random', integer(0))
    .option('--out <file>', 'model to write: .safetensors')
    .option('--force', 'overwrite the file')
    .option('--report <folder>', 'errors on the rows left out: properties.json, charts, importances.csv')
    .option('--print-config', 'print the settings that would be used, and stop')
    .addOption(deviceOption())
    .addHelpText(
      'after',
      '\nHistograms are summed on the processor, or on a graphics card where it is measured to be faster (never by software\n' +
        'adapters unless --device gpu asks for them); the trees are the same to the bit.\n\n' +
        'With the preset best the model learns from the rows of early stopping what 68 % of its errors stay below; of rows unlike\n' +
        'all training rows that says little. "predict" and "screen" take trees that were trained with --descriptors.',
    )
    .action(run);
  return standardOptions(
    command,
    'matgan train trees --data features.csv --target band_gap_ev --group formula --out gap.safetensors',
  );
}

async function run(options: TreesOptions): Promise<void> {
  const { preset, config: file, trees, seed } = options;
  const overrides = Object.fromEntries(Object.entries({ trees, seed }).filter(([, value]) => value !== undefined));
  const config = loadTreesConfig({ preset, file, overrides });
  if (options.printConfig) {
    process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
    return;
  }
  const { out } = options;
  if (out === undefined) throw new ConfigError('train trees: it needs --out FILE.safetensors for the model');
  if (!out.endsWith('.safetensors')) {
    throw new ConfigError(`train trees: --out takes a name that ends in .safetensors, not ${out}`);
  }
  if (existsSync(out) && (!options.force || statSync(out).isDirectory())) {
    throw new DataError(`${out}: it exists; take another name, or --force`);
  }
  if (!existsSync(dirname(out)))
    throw new DataError(`${out}: the folder ${dirname(out)} does not exist; create it first`);
  const { report: folder } = options;
  if (folder !== undefined && config.leaveOut === 0)
    throw new ConfigError('train trees: --report needs rows to measure on; give leaveOut a share');
  if (folder !== undefined) makeReportFolder(folder);
  const table = options.descriptors ? await describedTable(options) : await readNumbers(options.data, options);
  const { rows, columns } = table;
  const left = table.leftOut.length > 0 ? `; ${table.leftOut.length} columns of text left out` : '';
  note(`${rows} rows, ${columns.length} columns${left}`);
  const devices: { device?: Device; engine?: GpuHistogrammer } = {};
  let stop = false;
  const onInterrupt = (): void => {
    stop = true;
  };
  process.once('SIGINT', onInterrupt);
  const bar = process.stderr.isTTY
    ? new cliProgress.SingleBar({
        format: '{bar} {value}/{total} trees | loss {loss} | {eta_formatted} left',
        stream: process.stderr,
        hideCursor: true,
      })
    : undefined;
  const began = performance.now();
  try {
    bar?.start(config.trees, 0, { loss: '-' });
    const { forest, error, history, measured, trained, unseen } = await trainMeasured(
      { rows, columns: columns.length, values: table.values },
      table.target,
      config,
      {
        names: columns,
        groups: table.groups,
        engine: (binned, bits) => engineFor(options.device, binned, bits, devices),
        onTree: ({ trees: n, loss, validation }) => bar?.update(n, { loss: (validation ?? loss).toPrecision(4) }),
        interrupted: () => stop,
      },
    );
    bar?.stop();
    const seconds = (performance.now() - began) / 1000;
    writeTrees(out, {
      forest,
      error,
      config,
      columns,
      descriptors: options.descriptors ? descriptorSet().fingerprint : '',
      target: options.target,
      data: { rows: trained, fingerprint: table.sha256 },
      measured,
    });
    const { gain } = importances(forest);
    const order = [...gain.keys()].sort((a, b) => gain[b] - gain[a] || a - b).filter((c) => gain[c] > 0);
    const best = order.slice(0, 10).map((c) => ({ column: columns[c], gain: gain[c] }));
    const made = forest.starts.length - 1;
    if (config.uncertainty && !error) note('too few rows were watched to learn an uncertainty from');
    const judged = unseen && judgedOf(unseen, options.descriptors !== undefined);
    const report = judged && propertyReport(options.target, judged);
    if (folder !== undefined && !unseen) note(`--report ${folder}: no row could be left out to measure on`);
    if (folder !== undefined && unseen && judged && report) {
      await writeReport(folder, report, judged);
      await writeImportances(join(folder, 'importances.csv'), forest, unseen, columns, config.seed);
    }
    if (options.json) {
      const { loss } = history[history.length - 1];
      const { within } = report ?? {};
      process.stdout.write(
        `${JSON.stringify({ rows: trained, columns: columns.length, trees: made, loss, ...measured, within, seconds, importances: best, out })}\n`,
      );
      return;
    }
    if (folder !== undefined && report)
      note(`${reportText(report)}\nproperties.json, charts, importances.csv: ${folder}`);
    const errors = Object.entries(measured).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
    note(
      `${made} trees of ${trained} rows in ${seconds.toFixed(1)} s; ${errors.join(', ') || 'nothing set aside to measure'}`,
    );
    note(
      `most gain: ${
        best
          .slice(0, 5)
          .map(({ column, gain: g }) => `${column} ${(100 * g).toFixed(1)} %`)
          .join(', ') || 'none'
      }`,
    );
    note(`wrote ${statSync(out).size} bytes to ${out}`);
  } finally {
    bar?.stop();
    process.off('SIGINT', onInterrupt);
    devices.engine?.destroy();
    devices.device?.destroy();
  }
}

/** Unseen rows as a report takes them; the first descriptor is the number of elements. */
const judgedOf = ({ table, target, predicted, uncertainties }: Unseen, described: boolean): Judged => ({
  values: predicted,
  uncertainties,
  truth: target,
  elements: described ? target.map((_, row) => table.values[row * table.columns]) : undefined,
});

/** Every column's share of the gain, and by how much the error of unseen rows rises when it is shuffled; the largest rise first. */
async function writeImportances(
  file: string,
  forest: Forest,
  { table, target }: Unseen,
  columns: readonly string[],
  seed: number,
): Promise<void> {
  const { gain, splits } = importances(forest);
  const rise = permutationImportances(forest, table.values, target, seed);
  const order = [...gain.keys()].sort((a, b) => rise[b] - rise[a] || gain[b] - gain[a] || a - b);
  await writeTable(
    file,
    [
      { name: 'column', type: 'text', value: (i) => columns[order[i]] },
      { name: 'permutation', type: 'real', value: (i) => rise[order[i]] },
      { name: 'gain', type: 'real', value: (i) => gain[order[i]] },
      { name: 'splits', type: 'integer', value: (i) => splits[order[i]] },
    ],
    columns.length,
  );
}

/** Formulas with a target, described: one row a reduced formula, so that none is on both sides of a split. */
async function describedTable({ data, target, formulaColumn }: TreesOptions): Promise<Numbers> {
  const loaded = await loadTargets(data, { target, formulaColumn });
  const { formulas, rows, targets, duplicates, withoutTarget } = loaded;
  note(
    `${loaded.read} rows read: ${withoutTarget} without ${target}, ${duplicates} repeat a formula (the lowest stays)`,
  );
  for (const [why, { count, first }] of Object.entries(loaded.unusable))
    note(`not usable: ${count} × ${why}; ${first}`);
  if (rows * descriptorCount > mostNumbers)
    throw new DataError(`${data}: ${rows} formulas are too many to describe at once; train on a part`);
  const describer = new Describer('nan');
  const values = new Float32Array(rows * descriptorCount);
  for (const [row, formula] of formulas.entries())
    describer.composition(parseFormula(formula), values, row * descriptorCount);
  return { columns: descriptorNames, rows, values, target: targets, leftOut: [], sha256: loaded.sha256 };
}

/** What sums histograms: the device where it was asked for, or is a card that is measured to be faster. */
async function engineFor(
  choice: TreesOptions['device'],
  binned: Binned,
  bits: number,
  made: { device?: Device; engine?: GpuHistogrammer },
): Promise<Histogrammer | undefined> {
  if (choice === 'reference') return undefined;
  try {
    made.device = await openDevice({ boundsChecks: false });
    if (made.device.info.software && choice === 'auto') return undefined;
    made.engine = new GpuHistogrammer(made.device, binned);
  } catch (error) {
    if (choice === 'gpu' || !(error instanceof DeviceError)) throw error;
    return undefined;
  }
  if (choice === 'gpu') return made.engine;
  const times = await measure(made.engine, binned, bits);
  const text = times.map(
    ({ rows, processor, device }) => `${rows} rows ${processor.toFixed(1)}/${device.toFixed(1)} ms`,
  );
  note(`histograms, processor/device: ${text.join(', ')}`);
  return made.engine;
}
