import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import { openExecutor } from '../autograd/open.ts';
import {
  fingerprintOf,
  type LoadedFormulas,
  type LoadedSamples,
  loadFormulas,
  loadSamples,
  mostSamples,
} from '../chem/dataset.ts';
import { type DecodingRule, type PackedFormulas, reducePacked, rowWords } from '../chem/encoding.ts';
import { type EvaluationResult, evaluateFormulas, type Stage } from '../chem/metrics.ts';
import { FormulaWriter } from '../chem/rows.ts';
import { writeWhole } from '../chem/tables.ts';
import { ConfigError, DataError } from '../errors.ts';
import { findCheckpoint, loadTrainingData, logName } from '../models/run.ts';
import { type Chart, chartFile, colours } from '../report/chart.ts';
import { comparisonPage, readEvaluation } from '../report/compare.ts';
import { type Decodings, decodingRow } from '../report/decoding.ts';
import { bothRules, Drawing, type Drawn } from '../report/drawing.ts';
import { evaluationPage, paperCell, pickExamples } from '../report/evaluation.ts';
import { evaluationFigures } from '../report/figures.ts';
import { type LossLine, learningCurves, learningPage, readLog } from '../report/log.ts';
import { compareWithPaper, type PaperComparison, type PaperName, paperNames } from '../report/paper.ts';
import { pngWriter } from '../report/png.ts';
import { Stages, stagesName } from '../report/stages.ts';
import { consoleTable, percent } from '../report/table.ts';
import { inWords } from '../report/words.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
import { type FilterOptions, filterOptions, findFilter } from './filter.ts';

interface Options extends FilterOptions {
  generated?: string;
  train?: string;
  leaveOut?: string;
  other?: string[];
  formulaColumn?: string;
  run?: string;
  count?: number;
  rule?: DecodingRule;
  device: 'auto' | 'gpu' | 'reference';
  paper?: PaperName;
  out?: string;
  force?: boolean;
  seed: number;
  json?: boolean;
}

/** `NAME=FILE` pairs. */
function parseOthers(pairs: readonly string[]): [name: string, file: string][] {
  const names = new Set<string>();
  return pairs.map((pair) => {
    const at = pair.indexOf('=');
    const [name, file] = [pair.slice(0, Math.max(0, at)).trim(), pair.slice(at + 1)];
    if (at < 0 || name === '' || file === '') {
      throw new ConfigError(`--other ${pair}: it takes NAME=FILE, such as MP=mp.parquet`);
    }
    if (names.has(name)) throw new ConfigError(`--other ${pair}: there are two named ${name}`);
    names.add(name);
    return [name, file];
  });
}

/** Refuses a folder that has something in it, before any work is done. */
function checkFolder(folder: string, force: boolean): void {
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory()) throw new DataError(`${folder}: is a file; name a folder for the results`);
  const entries = readdirSync(folder);
  // An evaluation that was interrupted goes on.
  if (!force && entries.length > 0 && !entries.includes(stagesName)) {
    throw new DataError(`${folder}: it exists and is not empty; take another name, or --force`);
  }
}

function print(result: EvaluationResult, paper: PaperComparison | undefined, decodings: Decodings | undefined): void {
  const { baselines, training, leaveOut } = result;
  const rates = [
    'formulas',
    'different',
    'CN',
    'EN',
    'EN reweighted',
    'training found',
    'left-out found',
    'distance, sizes',
  ];
  const baseline = (name: string, row: (typeof baselines)['frequency']) => [
    `baseline: ${name}`,
    row.count,
    row.unique,
    percent(row.chargeNeutral),
    percent(row.electronegativityBalanced),
    percent(row.reweighted.electronegativityBalanced),
    percent(row.recoveredTraining),
    percent(row.recoveredLeaveOut),
    row.totalVariation.elementCount.toFixed(3),
  ];
  const table = consoleTable(
    ['', ...rates],
    [
      [
        'generated',
        result.generated,
        result.unique,
        percent(result.chargeNeutral),
        percent(result.electronegativityBalanced),
        percent(result.reweighted.electronegativityBalanced),
        percent(result.recoveredTraining),
        percent(result.recoveredLeaveOut),
        result.totalVariation.elementCount.toFixed(3),
      ],
      baseline('frequency', baselines.frequency),
      baseline('independent', baselines.independent),
      baseline('uniform, matched', baselines.uniform),
      baseline('uniform', baselines.uniformRandom),
      ...[['training', training] as const, ['left out', leaveOut] as const].flatMap(([name, row]) =>
        row
          ? [
              [
                name,
                row.count,
                row.unique,
                percent(row.chargeNeutral),
                percent(row.electronegativityBalanced),
                '',
                '',
                '',
                '',
              ],
            ]
          : [],
      ),
    ],
  );
  const bySize = consoleTable(
    [
      'elements',
      'generated',
      'CN',
      'EN',
      'training CN',
      'EN',
      'frequency CN',
      'EN',
      'uniform CN',
      'EN',
      'all CN',
      'EN',
      'EN enriched',
    ],
    Object.entries(result.byElementCount).map(([n, row]) => [
      n,
      row.generated.count,
      ...[row.generated, row.training, row.frequency, row.uniform, row.enumeration].flatMap((r) => [
        percent(r?.chargeNeutral),
        percent(r?.electronegativityBalanced),
      ]),
      row.enrichment.electronegativityBalanced?.toFixed(2),
    ]),
  );
  const lines = [
    table,
    bySize,
    `${result.novel.toLocaleString('en')} of ${result.unique.toLocaleString('en')} different formulas are new (${percent(result.novelty)}); ${percent(result.validUniqueNew.share)} of all are balanced, different and new`,
    ...Object.entries(result.confirmed).map(([name, n]) => `${n.toLocaleString('en')} of them are in ${name}`),
    ...(decodings
      ? [
          consoleTable(
            ['rule', 'samples', 'formulas', 'different', 'CN as decoded', 'EN', 'CN', 'EN', 'left-out found'],
            decodings.rows.map((row) => [
              row.rule,
              row.samples,
              row.decoded,
              row.unique,
              percent(row.asDecoded.chargeNeutral),
              percent(row.asDecoded.electronegativityBalanced),
              percent(row.chargeNeutral),
              percent(row.electronegativityBalanced),
              percent(row.recoveredLeaveOut),
            ]),
          ),
        ]
      : []),
    ...(paper
      ? [
          consoleTable(
            [`beside ${paper.name}`, 'paper', 'here', 'samples, paper', 'here'],
            paper.rows.map((row) => [
              row.figure,
              paperCell(row.kind, row.paper),
              paperCell(row.kind, row.ours),
              row.paperSamples,
              row.ourSamples,
            ]),
          ),
          ...paper.notes,
        ]
      : []),
    ...inWords(result).map(({ verdict, text }) => `${{ good: '+', fair: 'o', bad: '-' }[verdict]} ${text}`),
    `rule ${result.rule}, judged in lowest terms`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

interface Split {
  train: PackedFormulas;
  leaveOut: PackedFormulas | undefined;
}

/** The rows that a run trained on and left out, parted again from its data by its own seed. */
async function runSplit(options: Options): Promise<Split> {
  if (options.run === undefined) {
    throw new ConfigError('evaluate: it needs --train FILE, or --run FOLDER to take the rows of that run');
  }
  const { config, data } = findCheckpoint(options.run);
  if (data.source !== null && !existsSync(data.source)) {
    throw new DataError(
      `${data.source}: the data that ${options.run} was trained on is not here; name --train, and --leave-out`,
    );
  }
  const { train, leaveOut, fingerprint } = await loadTrainingData(data.source, config, {
    formulaColumn: options.formulaColumn,
  });
  if (fingerprint !== data.fingerprint) {
    throw new DataError(
      `${data.source ?? 'the default set'}: it has changed since ${options.run} was trained; name --train`,
    );
  }
  return { train, leaveOut: leaveOut.rows ? leaveOut : undefined };
}

/** SHA-256 of a file's bytes. */
async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    if (!statSync(file).isFile()) throw new Error('it is no plain file');
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  } catch (cause) {
    throw new DataError(`${file}: cannot be read (${(cause as Error).message})`, { cause });
  }
  return hash.digest('hex');
}

/** The losses of a run that is a folder; a model that ships, or a file, has none. */
function lossesOf(run: string | undefined): Record<string, LossLine[]> {
  if (run === undefined) return {};
  // A model that ships, or nothing at all, which is said.
  if (!existsSync(run)) findCheckpoint(run);
  if (!existsSync(run) || !statSync(run).isDirectory()) return {};
  return { Training: readLog(join(run, logName)) };
}

async function writeGenerated(file: string, { packed, rows }: PackedFormulas): Promise<void> {
  const writer = await FormulaWriter.open(file);
  try {
    const words = new Uint32Array(rowWords);
    for (let row = 0; row < rows; row++) {
      words.set(packed.subarray(row * rowWords, (row + 1) * rowWords));
      reducePacked(words);
      writer.add(words, 0);
    }
    await writer.close();
  } catch (error) {
    writer.discard();
    throw error;
  }
}

/** Sentences about rows that could not be used. */
function fileNotes(files: Record<string, { file: string; read: number; unusable: Record<string, number> }>): string[] {
  return Object.values(files).flatMap(({ file, read, unusable }) => {
    const reasons = Object.entries(unusable).map(([reason, count]) => `${count} × ${reason}`);
    const lost = Object.values(unusable).reduce((a, b) => a + b, 0);
    return reasons.length ? [`${file}: rows that could not be used, ${lost} of ${read}: ${reasons.join(', ')}`] : [];
  });
}

async function run(options: Options): Promise<void> {
  const started = performance.now();
  const { seed, out } = options;
  if (options.generated === undefined && options.count === undefined) {
    throw new ConfigError('evaluate: it needs --generated FILE, or --run RUN with --count N to draw formulas');
  }
  if (options.generated !== undefined && options.count !== undefined) {
    throw new ConfigError('evaluate: --count draws formulas, and --generated has them already; leave one out');
  }
  if (options.count !== undefined && options.run === undefined) {
    throw new ConfigError('evaluate: --count draws formulas; name a run or a model with --run');
  }
  if (options.rule !== undefined && options.count === undefined) {
    throw new ConfigError('evaluate: --rule is for drawing; formulas of --generated are decoded already');
  }
  if (out !== undefined) checkFolder(out, options.force ?? false);
  const others = parseOthers(options.other ?? []);
  const checkpoint = options.count === undefined ? undefined : findCheckpoint(options.run!);
  const losses = lossesOf(options.run);

  const files: Record<string, { file: string; read: number; used: number; unusable: Record<string, number> }> = {};
  const bar = new SingleBar({ format: '{bar} {doing}', stream: process.stderr, clearOnComplete: true });
  const load = async (name: string, file: string): Promise<LoadedFormulas> => {
    bar.update({ doing: `reading ${file}` });
    const loaded = await loadFormulas(file, { formulaColumn: options.formulaColumn });
    files[name] = { file, read: loaded.read, used: loaded.rows, unusable: loaded.unusable };
    bar.increment();
    return loaded;
  };
  const device = checkpoint && (await openExecutor(options.device, { boundsChecks: false }));
  if (device) note(device.note);
  bar.start(14 + others.length, 0, { doing: '' });
  let record: EvaluationResult & Record<string, unknown>;
  let result: EvaluationResult;
  let decodings: Decodings | undefined;
  let examples: ReturnType<typeof pickExamples>;
  let stages: Stages | undefined;
  const { count, rule } = options;
  const sieve = device && findFilter(options.run!, options);
  const drawing = device && new Drawing({ count: count!, seed, rule, sieve }, checkpoint!, device);
  try {
    let loaded: LoadedSamples | undefined;
    if (options.generated !== undefined) {
      bar.update({ doing: `reading ${options.generated}` });
      loaded = await loadSamples(options.generated, { formulaColumn: options.formulaColumn });
      const { read, rows, unusable } = loaded;
      files.generated = { file: options.generated, read, used: rows, unusable };
      bar.increment();
    }
    const split = options.train === undefined ? await runSplit(options) : undefined;
    const training = split?.train ?? (await load('train', options.train!));
    const leaveOut = options.leaveOut === undefined ? split?.leaveOut : await load('leaveOut', options.leaveOut);
    const otherSets: Record<string, LoadedFormulas> = {};
    for (const [name, file] of others) otherSets[name] = await load(`other ${name}`, file);

    const openStages = (): void => {
      if (out === undefined) return;
      stages = new Stages(out, {
        version: 1,
        generated: loaded?.sha256 ?? null,
        drawn: drawing && { ...drawing.facts, model: modelSha },
        column: options.formulaColumn ?? null,
        training: fingerprintOf(training),
        leaveOut: leaveOut ? fingerprintOf(leaveOut) : null,
        others: Object.entries(otherSets).map(([name, set]) => [name, set.fingerprint]),
        seed,
      });
    };
    const modelSha = checkpoint && (await sha256(checkpoint.path));

    let generated: PackedFormulas;
    if (drawing) {
      openStages();
      const { rule, count } = drawing;
      const doing = (what: string) => (drawn: number) => bar.update({ doing: `${what}: ${drawn} of ${count} samples` });
      const drawn: Drawn = await drawing.draw(rule, count, stages, doing('drawing'));
      generated = drawn;
      if (generated.rows === 0) {
        throw new DataError(
          `${options.run}: none of ${count} samples decodes to a formula by the rule ${rule}; train longer, or try the other --rule`,
        );
      }
      bar.increment();
      const some = Math.min(count, bothRules);
      const other = rule === 'argmax' ? 'paper' : 'argmax';
      const row = async (one: DecodingRule) => {
        const kept = stages?.read(`decoding ${one}`);
        if (kept) return JSON.parse(Buffer.from(kept).toString('utf8'));
        const rows =
          one === rule ? { ...drawn, rows: drawn.early } : await drawing.draw(one, some, stages, doing(`rule ${one}`));
        const made = decodingRow(one, some, rows, { training, leaveOut });
        stages?.write(`decoding ${one}`, Buffer.from(JSON.stringify(made)));
        return made;
      };
      decodings = { own: rule, rows: [await row(rule), await row(other)] };
      bar.increment();
    } else {
      generated = loaded!;
      openStages();
    }
    const stage: Stage = (name, work) => {
      bar.update({ doing: name });
      const made = stages ? stages.run(name, work) : work();
      bar.increment();
      return made;
    };
    examples = stage('examples', () => pickExamples({ generated, training, leaveOut }, seed));
    result = evaluateFormulas({ generated, training, leaveOut, others: otherSets, seed, stage });
    if (stages && stages.reused > 0) note(`went on with ${stages.reused} parts of an interrupted evaluation`);
    record = {
      ...result,
      ...(drawing && { decoding: { ...drawing.facts, decoded: generated.rows }, decodings }),
      ...(options.paper && { paper: compareWithPaper(result, options.paper) }),
      words: inWords(result),
      files,
    };
    if (out !== undefined && drawing) {
      bar.update({ doing: 'writing generated.parquet' });
      await writeGenerated(join(out, 'generated.parquet'), generated);
    }
  } finally {
    bar.stop();
    device?.executor.destroy();
  }

  const notes = fileNotes(files);
  const paper = options.paper && compareWithPaper(result, options.paper);
  if (out !== undefined) {
    mkdirSync(out, { recursive: true });
    const write = (name: string, data: string): Promise<void> =>
      writeWhole(join(out, name), (temporary) => writeFile(temporary, data));
    await writeCharts(out, evaluationFigures(result));
    const lead = drawing && leadOf(options, drawing, result);
    await write('index.html', evaluationPage({ result, examples, losses, paper, decodings, notes, lead }));
    // Last: it says that all is there.
    await write('evaluation.json', `${JSON.stringify({ ...record, examples }, null, 2)}\n`);
    stages?.close();
  }
  if (options.json) process.stdout.write(`${JSON.stringify(record)}\n`);
  else print(result, paper, decodings);
  if (result.overlap > 0) {
    note(
      `leave-out: ${result.overlap} of ${result.leaveOut?.unique} formulas are in training too; they count for training alone`,
    );
  }
  for (const text of notes) note(text);
  const peak = Math.round(process.resourceUsage().maxRSS / 1024);
  note(`${((performance.now() - started) / 1000).toFixed(0)} s, at most ${peak} MiB of memory`);
  if (out !== undefined)
    note(`wrote ${join(out, 'evaluation.json')} and ${join(out, 'index.html')}, charts beside them`);
}

/** Charts as `name.svg` and `name.png` in a folder. */
async function writeCharts(folder: string, charts: Readonly<Record<string, Chart>>): Promise<void> {
  const write = (name: string, data: string | Uint8Array): Promise<void> =>
    writeWhole(join(folder, name), (temporary) => writeFile(temporary, data));
  const png = await pngWriter();
  if (png.problem) note(png.problem);
  for (const [name, chart] of Object.entries(charts)) {
    const svg = chartFile(chart);
    await write(`${name}.svg`, svg);
    if (png.write) await write(`${name}.png`, png.write(svg));
  }
}

function leadOf(options: Options, drawing: Drawing, result: EvaluationResult): string {
  const { rule, requested, step } = drawing.facts;
  return (
    `${requested.toLocaleString('en')} samples of ${options.run} after ${step.toLocaleString('en')} steps, decoded by the rule “${rule}”: ` +
    `${result.generated.toLocaleString('en')} formulas beside ${result.training.unique.toLocaleString('en')} of training` +
    `${result.leaveOut ? ` and ${result.leaveOut.unique.toLocaleString('en')} left out of it` : ''}.`
  );
}

/** `matgan evaluate compare`: several evaluations in one page. */
function compare(): Command {
  const command = new Command('compare')
    .description('put several evaluations side by side in one page')
    .argument('<folder...>', 'folders that evaluate wrote, two to eight of them')
    .requiredOption('--out <file>', 'page to write')
    .option('--force', 'overwrite the file')
    .action(async (folders: string[], options: { out: string; force?: boolean; json?: boolean }) => {
      if (folders.length < 2 || folders.length > 8) {
        throw new ConfigError(`compare: ${folders.length} folders; it takes two to eight`);
      }
      if (existsSync(options.out) && (statSync(options.out).isDirectory() || !options.force)) {
        throw new DataError(`${options.out}: it exists; take another name, or --force`);
      }
      const evaluations = folders.map((folder) => readEvaluation(folder));
      const text = comparisonPage(evaluations);
      await writeWhole(options.out, (temporary) => writeFile(temporary, text));
      if (options.json) process.stdout.write(`${JSON.stringify({ evaluations })}\n`);
      note(`wrote ${options.out}`);
    });
  return standardOptions(command, 'matgan evaluate compare runs/a/evaluation runs/b/evaluation --out compared.html');
}

/** `matgan evaluate curves`: how several trainings went, side by side. */
function curves(): Command {
  const command = new Command('curves')
    .description('put the learning curves of several runs side by side')
    .argument('<run...>', 'run folders, one to eight of them')
    .requiredOption('--out <folder>', 'folder for index.html and the charts (SVG, PNG)')
    .addOption(new Option('--over <axis>', 'what they are drawn over').choices(['seconds', 'step']).default('seconds'))
    .option('--force', 'write into a folder that is not empty')
    .action(async (folders: string[], options: CurveOptions) => {
      if (folders.length > colours) throw new ConfigError(`curves: ${folders.length} runs; it takes one to ${colours}`);
      const { out } = options;
      checkFolder(out, options.force ?? false);
      const names = folders.map((folder) => basename(resolve(folder)));
      const runs = folders.map((folder, i) => ({
        name: names.indexOf(names[i]) === names.lastIndexOf(names[i]) ? names[i] : `${i + 1} ${names[i]}`,
        lines: readLog(join(folder, logName)),
      }));
      const charts = learningCurves(runs, options.over);
      if (Object.keys(charts).length === 0)
        throw new DataError(`${folders.join(', ')}: no log has a figure that is known`);
      mkdirSync(out, { recursive: true });
      await writeCharts(out, charts);
      const text = learningPage(runs, charts);
      await writeWhole(join(out, 'index.html'), (temporary) => writeFile(temporary, text));
      if (options.json)
        process.stdout.write(
          `${JSON.stringify({ runs: runs.map(({ name }) => name), charts: Object.keys(charts) })}\n`,
        );
      note(`wrote ${join(out, 'index.html')}, charts beside it`);
    });
  return standardOptions(command, 'matgan evaluate curves runs/a runs/b --out compared');
}

interface CurveOptions {
  out: string;
  over: 'seconds' | 'step';
  force?: boolean;
  json?: boolean;
}

/** `matgan evaluate`: what generated formulas are worth, beside training and generators without a network. */
export function evaluate(): Command {
  const command = new Command('evaluate')
    .description('compare generated formulas with training data and with generators that have no network')
    .option('--generated <file>', 'formulas of a generator, repeats included')
    .option('--train <file>', 'formulas that it was trained on; those of --run if not given')
    .option('--leave-out <file>', 'formulas that were left out of training; those of --run if --train is not given')
    .option('--other <NAME=file...>', 'other data sets, in which new formulas are looked up')
    .option('--formula-column <name>', 'column with the formulas, in every file (found by name where left out)')
    .option(
      '--run <run>',
      'run folder: its training and left-out rows, and the curves of its log; or a model by name or file',
    )
    .option('--count <n>', 'draw so many samples of --run instead of reading --generated', integer(1, mostSamples))
    .addOption(
      new Option('--rule <rule>', "how drawn cells become formulas; the model's own rule if not given").choices([
        'argmax',
        'paper',
      ]),
    )
    .addOption(new Option('--paper <set>', "show the paper's figures of this set beside").choices(paperNames))
    .option('--out <folder>', 'write evaluation.json, index.html and charts (SVG, PNG) into it')
    .option('--force', 'write into a folder that is not empty')
    .option('--seed <n>', 'of the samples, the baselines and the choice of examples', integer(0), 1)
    .addOption(deviceOption())
    .addHelpText(
      'after',
      '\nThe same command goes on where an evaluation with --out was interrupted. docs/evaluate.md explains every figure.\n' +
        'matgan evaluate compare FOLDER… --out FILE puts several evaluations side by side, matgan evaluate curves RUN… --out FOLDER\n' +
        'the learning curves of several runs.',
    )
    .addCommand(compare())
    .addCommand(curves())
    // Options behind a subcommand are its own.
    .enablePositionalOptions()
    .action(run);
  return standardOptions(
    filterOptions(command),
    'matgan evaluate --run runs/mine --count 100000 --paper icsd --out runs/mine/evaluation',
  );
}
