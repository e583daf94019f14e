import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import { ConfigError } from '../errors.ts';
import { openRegressor, type Regressor, shippedModel } from '../models/regressor.ts';
import { type ScreenOptions, screeningFolder, screen as screenTable, sortKeys } from '../report/screening.ts';
import { deviceOption, integer, note, range, real, standardOptions } from './common.ts';

interface Options {
  out: string;
  html?: string;
  formulaColumn?: string;
  energyModel?: string;
  gapModel?: string;
  known?: string[];
  contains?: string[];
  elements?: [number, number];
  balanced?: boolean;
  neutral?: boolean;
  maxEnergy?: number;
  energy?: [number, number];
  gap?: [number, number];
  new?: boolean;
  sort?: ScreenOptions['sort'];
  descending?: boolean;
  top?: number;
  nearest?: number;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

/** What stands for no model. */
const none = 'none';
/** eV, per atom or not, that no formula has. */
const largest = 100;

/** `matgan screen`: candidates from a generated table. */
export function screen(): Command {
  const command = new Command('screen')
    .description('rank generated formulas: validity, energy, band gap, known or new')
    .argument('<file>', 'table of formulas (CSV, TSV, JSON, JSONL, Parquet, also .gz)')
    .requiredOption('--out <file>', 'table to write: .parquet, .csv, .tsv, .jsonl or .json (text also .gz)')
    .option('--html <file>', 'page of the first 2000 rows, to sort and search')
    .option('--formula-column <name>', 'column with the formulas (found by name where left out)')
    .option(
      '--energy-model <run>',
      'formation energies by this model of "train elemnet" or "train trees"; none for no energies (default: energy, which ships)',
    )
    .option('--gap-model <model>', 'band gaps by this model, likewise (default: gap, which ships)')
    .option('--known <name=file...>', 'data sets that formulas may be known from')
    .option('--contains <elements...>', 'only formulas with all of these elements')
    .option('--elements <range>', 'only formulas with so many elements, such as 2..4', range(1, 8, true))
    .addOption(new Option('--neutral', 'only charge-neutral formulas (CN)').conflicts('balanced'))
    .option('--balanced', 'only charge-neutral and electronegativity-balanced formulas (EN)')
    .addOption(
      new Option('--max-energy <x>', 'only energies up to this, eV/atom')
        .argParser(real(-largest, largest))
        .conflicts('energy'),
    )
    .option('--energy <range>', 'only energies in this range, such as -2..0', range(-largest, largest))
    .option('--gap <range>', 'only band gaps in this range, such as 1..3', range(-largest, largest))
    .option('--new', 'only formulas that no known data set has')
    .addOption(new Option('--sort <by>', 'rising; the order of the file if not given').choices(sortKeys))
    .option('--descending', 'with --sort: the largest first')
    .option('--top <n>', 'only so many of the first', integer(1))
    .option(
      '--nearest <n>',
      'of so many of the first rows the nearest known formula is looked for (default: 1000)',
      integer(0, 100_000),
    )
    .addOption(deviceOption())
    .addHelpText(
      'after',
      '\nFormulas are reduced and judged once. An interrupted screening goes on when the same command is given again; what it has\n' +
        'so far is in the folder OUT.screening.',
    )
    .action(run);
  return standardOptions(
    command,
    'matgan screen generated.csv --out best.csv --known icsd=icsd.csv --contains Li O --balanced --new --sort energy --top 100',
  );
}

/** NAME=FILE, several. @throws ConfigError */
function knownSets(texts: readonly string[]): Record<string, string> {
  const sets: Record<string, string> = {};
  for (const text of texts) {
    const [, name, file] = /^([\w .-]{1,40})=(.+)$/s.exec(text) ?? [];
    if (name === undefined) throw new ConfigError(`--known ${text}: it takes NAME=FILE, such as icsd=icsd.csv`);
    if (Object.hasOwn(sets, name)) throw new ConfigError(`--known ${text}: the name is taken; choose another`);
    sets[name] = file;
  }
  return sets;
}

async function run(file: string, options: Options): Promise<void> {
  const { energyModel = shippedModel('energy'), gapModel = shippedModel('gap') } = options;
  const { device, maxEnergy, balanced, neutral, descending, sort } = options;
  if (energyModel === none && (options.energy || maxEnergy !== undefined || sort === 'energy'))
    throw new ConfigError('screen: energies need a model; name one with --energy-model');
  if (gapModel === none && (options.gap || sort === 'gap'))
    throw new ConfigError('screen: gaps need a model; name one with --gap-model');
  if (descending && sort === undefined) throw new ConfigError('screen: --descending by what? name it with --sort');
  const known = knownSets(options.known ?? []);
  const opened: Regressor[] = [];
  const open = async (path: string, option: string): Promise<Regressor | undefined> => {
    if (path === none) return undefined;
    const model = await openRegressor(path, option, device);
    opened.push(model);
    note(`${option}: ${model.target}; ${model.note}`);
    return model;
  };
  const bar = new SingleBar({ format: 'screened {value} rows', stream: process.stderr, clearOnComplete: true });
  const began = performance.now();
  try {
    const energy = await open(energyModel, '--energy-model');
    const gap = await open(gapModel, '--gap-model');
    bar.start(0, 0);
    const result = await screenTable(file, {
      ...options,
      energy,
      gap,
      known,
      rule: balanced ? 'balanced' : neutral ? 'neutral' : undefined,
      energies: maxEnergy !== undefined ? [Number.NEGATIVE_INFINITY, maxEnergy] : options.energy,
      gaps: options.gap,
      onlyNew: options.new,
      falling: options.descending,
      progress: (rows) => bar.update(rows),
    });
    bar.stop();
    const seconds = (performance.now() - began) / 1000;
    if (options.json) process.stdout.write(`${JSON.stringify({ ...result, seconds })}\n`);
    if (result.resumed > 0) note(`went on from ${screeningFolder(options.out)}: ${result.resumed} parts were done`);
    for (const [reason, rows] of Object.entries(result.unusable)) note(`unusable: ${rows} × ${reason}`);
    const fell = Object.entries(result.removed).filter(([, n]) => n > 0);
    if (fell.length > 0) note(`removed: ${fell.map(([what, n]) => `${what} ${n}`).join(', ')}`);
    if (result.kept === 0) note(`no formula is left of ${result.rows} rows; the table is empty`);
    note(
      `wrote ${result.kept} of ${result.passed} formulas that passed, of ${result.rows} rows, to ${result.out} in ${seconds.toFixed(1)} s`,
    );
    if (options.html !== undefined) note(`page: ${options.html}`);
  } finally {
    bar.stop();
    for (const model of opened) model.destroy();
  }
}
