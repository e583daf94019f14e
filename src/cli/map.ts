import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import { GpuExecutor } from '../autograd/executor.ts';
import { openExecutor } from '../autograd/open.ts';
import { ConfigError, DataError } from '../errors.ts';
import { replaceFile } from '../models/files.ts';
import { GpuMapEngine } from '../models/map/engine.ts';
import { mapFormulas } from '../models/map/map.ts';
import { ReferenceMapEngine } from '../models/map/reference.ts';
import { loadMapSets, type SetFile } from '../models/map/sets.ts';
import { findCheckpoint, loadTrainingData } from '../models/run.ts';
import { type MapReport, mapFiles, mapRecord } from '../report/map/files.ts';
import { consoleTable } from '../report/table.ts';
import { deviceOption, integer, note, real, standardOptions } from './common.ts';

interface Options {
  set?: string[];
  run?: string;
  out: string;
  title?: string;
  labelColumn?: string;
  formulaColumn?: string;
  points?: number;
  landmarks: number;
  components: number;
  perplexity: number;
  iterations: number;
  dimensions: '2' | '3' | 'both';
  seed: number;
  force?: boolean;
  device: 'auto' | 'gpu' | 'reference';
  json?: boolean;
}

/** `NAME=FILE` or `NAME=FILE:COUNT`; a file whose own name ends so is found first. */
function parseSets(texts: readonly string[]): SetFile[] {
  const names = new Set<string>();
  return texts.map((text) => {
    const at = text.indexOf('=');
    const name = text.slice(0, Math.max(0, at)).trim();
    let file = text.slice(at + 1);
    if (at < 0 || name === '' || file === '') {
      throw new ConfigError(
        `--set ${text}: it takes NAME=FILE or NAME=FILE:COUNT, such as training=icsd.parquet:20000`,
      );
    }
    if (names.has(name)) throw new ConfigError(`--set ${text}: there are two named ${name}`);
    names.add(name);
    const [, path, digits] = /^(.*):(\d+)$/.exec(file) ?? [];
    if (path === undefined || existsSync(file)) return { name, file };
    const count = Number(digits);
    if (!(count >= 1 && count <= 1e6)) throw new ConfigError(`--set ${text}: it takes a count from 1 to 1000000`);
    file = path;
    return { name, file, count };
  });
}

/** The rows that a run trained on and those it left out, parted again from its data by its own seed. */
async function runSets(path: string, formulaColumn?: string): Promise<SetFile[]> {
  const { config, data } = findCheckpoint(path);
  const { train, leaveOut, fingerprint } = await loadTrainingData(data.source, config, { formulaColumn });
  const file = data.source ?? 'the default set';
  if (fingerprint !== data.fingerprint) {
    throw new DataError(`${file}: it has changed since ${path} was trained; name the sets with --set`);
  }
  const parts: SetFile[] = [
    { name: 'training', file, formulas: train },
    { name: 'leave-out', file, formulas: leaveOut },
  ];
  return parts.filter(({ formulas }) => formulas!.rows > 0);
}

/** Refuses a folder that has something in it, before any work is done. */
function checkFolder(folder: string, force: boolean): void {
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory()) throw new DataError(`${folder}: is a file; name a folder for the map`);
  if (!force && readdirSync(folder).length > 0) {
    throw new DataError(`${folder}: it exists and is not empty; take another name, or --force`);
  }
}

async function run(options: Options): Promise<void> {
  const { out, seed, perplexity, iterations, landmarks, components } = options;
  const named = parseSets(options.set ?? []);
  if (named.length === 0 && options.run === undefined) {
    throw new ConfigError('map: it needs --set NAME=FILE, or --run FOLDER for the rows of that run');
  }
  checkFolder(out, options.force ?? false);
  const bar = new SingleBar({
    format: '{bar} {percentage} % | {doing}',
    stream: process.stderr,
    clearOnComplete: true,
  });
  bar.start(1, 0, { doing: '' });
  let device: ReturnType<typeof openExecutor> | undefined;
  try {
    const files = [...(options.run === undefined ? [] : await runSets(options.run, options.formulaColumn)), ...named];
    const formulas = await loadMapSets(files, { ...options }, (file) => bar.update(0, { doing: `reading ${file}` }));
    device = openExecutor(options.device, { boundsChecks: false });
    const { executor, note: adapter } = await device;
    note(adapter);
    const engine = executor instanceof GpuExecutor ? new GpuMapEngine(executor.device) : new ReferenceMapEngine();
    const dimensions = options.dimensions === 'both' ? ([2, 3] as const) : [Number(options.dimensions) as 2 | 3];
    const settings = { dimensions, perplexity, iterations, landmarks, components, seed };
    const onProgress = (doing: string, share: number, divergence?: number): void =>
      bar.update(share, { doing: divergence === undefined ? doing : `${doing}, KL ${divergence.toFixed(3)}` });
    const map = await mapFormulas(engine, formulas, { ...settings, onProgress });
    bar.update(1, { doing: 'drawing' });
    const title = options.title ?? `Map of formulas: ${files.map(({ name }) => name).join(', ')}`;
    const report: MapReport = { title, adapter: adapter.replace(/^runs on /, ''), options: settings, formulas, map };
    const written = await mapFiles(report, executor instanceof GpuExecutor ? executor.device : undefined);
    bar.stop();
    // Each file whole or not at all, and without a pause in which a signal could part them.
    mkdirSync(out, { recursive: true });
    for (const [name, content] of written) replaceFile(join(out, name), [Buffer.from(content)]);
    print(report, options, [...written.keys()]);
  } finally {
    bar.stop();
    (await device?.catch(() => undefined))?.executor.destroy();
  }
}

function print(report: MapReport, { json, out }: Options, names: readonly string[]): void {
  const record = mapRecord(report);
  for (const { file, unusable, duplicates } of record.sets) {
    const reasons = Object.entries(unusable).map(([reason, count]) => `${count} × ${reason}`);
    if (duplicates) reasons.push(`${duplicates} × a formula that came before`);
    if (reasons.length) note(`${file}: rows that are not on the map: ${reasons.join(', ')}`);
  }
  if (json) process.stdout.write(`${JSON.stringify(record)}\n`);
  else {
    const table = consoleTable(
      ['group', 'formulas'],
      record.groups.map(({ name, count }) => [name, count]),
    );
    const maps = record.maps.map(
      (m) => `${m.dimensions}-D: KL divergence ${m.klDivergence.toFixed(4)} nats, ${m.seconds.toFixed(1)} s`,
    );
    const placed = record.placed ? `, ${record.placed} placed among them` : '';
    process.stdout.write(`${[table, ...maps, `${record.mappedExactly} mapped exactly${placed}`].join('\n')}\n`);
  }
  note(`wrote ${names.map((name) => join(out, name)).join(', ')}`);
}

/** `matgan map`: formulas on a plane and in space, alike ones near one another. */
export function map(): Command {
  const command = new Command('map')
    .description('draw formulas as a t-SNE map: figures, coordinates, and a page with a view in space')
    .option('--set <NAME=file...>', 'formulas under a name; NAME=FILE:COUNT takes so many of them, at random')
    .option('--run <folder>', 'run folder: its training and left-out rows, as sets of those names')
    .requiredOption('--out <folder>', 'folder for map.png, map.svg, map-3d.png, map.csv, map.json and index.html')
    .option(
      '--label-column <name>',
      'a group for each value of this column (decodable or not, say), instead of one a file',
    )
    .option('--formula-column <name>', 'column with the formulas, in every file (found by name where left out)')
    .option('--points <n>', 'formulas of each set, at most, at random', integer(1, 1_000_000))
    .option(
      '--landmarks <n>',
      'formulas mapped exactly, at most; the others are placed among them',
      integer(2, 100_000),
      20_000,
    )
    .option('--components <n>', 'principal components that distances are taken in', integer(2, 680), 50)
    .option('--perplexity <x>', 'effective number of neighbours of a formula', real(1, 1000), 30)
    .option('--iterations <n>', 'steps of the descent, the first 250 of them exaggerated', integer(1, 100_000), 750)
    .addOption(
      new Option('--dimensions <which>', 'a map on a plane, in space, or one of each')
        .choices(['2', '3', 'both'])
        .default('both'),
    )
    .option('--seed <n>', 'of every choice at random', integer(0), 1)
    .option('--title <text>', 'title of the figures')
    .option('--force', 'write into a folder that is not empty')
    .addOption(deviceOption())
    .addHelpText(
      'after',
      '\nExact up to --landmarks formulas: all pairs push one another, the 3 × perplexity nearest attract. The same files, seed and\n' +
        'settings give the same map on the same adapter. Ctrl-C leaves no half-written file.',
    )
    .action(run);
  return standardOptions(command, 'matgan map --run runs/mine --set generated=new.parquet:50000 --out runs/mine/map');
}
