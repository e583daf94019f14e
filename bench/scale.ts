/**
 * How time and memory grow: with the batch, with the rows of the data set, with the samples drawn, and on the host alone.
 *
 *     npx tsx bench/scale.ts [--only batch,data,samples,host,judge] [--most 1000000] [--all] [--out FOLDER]
 *
 * Each size runs in a process of its own, so that its peak of memory is its own. `--all` goes to the end of every range
 * (batch 4096 of the paper's nets, 10^7 rows and samples), which takes a graphics card minutes and two cores an hour.
 * Writes scale-ADAPTER-DATE.json and .html to bench/results, or to FOLDER.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GpuExecutor } from '../src/autograd/executor.ts';
import { frequencyFormulas, uniformFormulas } from '../src/chem/baseline.ts';
import { fingerprintOf, loadFormulas, splitRows } from '../src/chem/dataset.ts';
import { type PackedFormulas, reducePacked, takeRows } from '../src/chem/encoding.ts';
import { Harvest } from '../src/chem/harvest.ts';
import { FormulaWriter } from '../src/chem/rows.ts';
import { synthesize } from '../src/chem/synth.ts';
import { Judge } from '../src/chem/validity.ts';
import { openDevice } from '../src/kernels/device.ts';
import { type GanConfig, loadConfig } from '../src/models/config.ts';
import { findCheckpoint, makeTrainer, train } from '../src/models/run.ts';
import { drawSamples } from '../src/models/sampler.ts';
import { initialise } from '../src/models/training.ts';
import { packageRoot } from '../src/paths.ts';
import { lineChart } from '../src/report/chart.ts';
import { html, htmlTable, page } from '../src/report/html.ts';
import { adapterName, machine, powerLaw, today } from './files.ts';

type Figures = Record<string, number | string | boolean | null>;

const peak = (): number => process.resourceUsage().maxRSS * 1024;
const seconds = (from: number): number => (performance.now() - from) / 1000;
/** Sizes of formulas as in the default set. */
const histogram = (rows: number): number[] => [0, 0, 0.19, 0.53, 0.24, 0.04].map((share) => Math.round(rows * share));
const openGpu = async (): Promise<GpuExecutor> => new GpuExecutor(await openDevice({ boundsChecks: false }));

/** Steps of a model on some rows: milliseconds of one, by the median of a few rounds, and the memory that it takes. */
async function stepsOf(
  gpu: GpuExecutor,
  config: ReturnType<typeof loadConfig>,
  rows: PackedFormulas,
): Promise<Figures> {
  const trainer = makeTrainer(config, rows.rows);
  const plan = await gpu.plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
  initialise(gpu, trainer, rows);
  gpu.write(trainer.data, rows.packed);
  const round = async (steps: number): Promise<number> => {
    const from = performance.now();
    for (let i = 0; i < steps; i++) plan.run();
    await gpu.idle();
    return (1000 * seconds(from)) / steps;
  };
  const first = await round(1);
  const one = await round(1);
  const steps = Math.max(1, Math.min(50, Math.floor(200 / one)));
  const rounds = one > 5000 ? [one] : [await round(steps), await round(steps), await round(steps)];
  const msPerStep = rounds.sort((a, b) => a - b)[rounds.length >> 1];
  return {
    firstStepMs: first,
    msPerStep,
    rowsPerSecond: (1000 * config.batch) / msPerStep,
    gpuBytes: gpu.device.bytesAlive,
    planBytes: plan.stats.memory,
    peakMemory: peak(),
  };
}

/** A small untrained generator: about four in ten of its samples decode, most of them to a formula of their own. */
function smallGenerator(): GanConfig {
  const generator = {
    kind: 'dense',
    latent: 64,
    hidden: [32],
    norm: 'none',
    activation: 'relu',
    output: 'sigmoid',
    outputBias: -2.6,
    initial: 'he',
  };
  return loadConfig('gan', {
    preset: 'demo',
    overrides: { steps: 1, batch: 16, averaging: 0, generator },
  }) as GanConfig;
}

const children: Record<string, (size: number, more: string) => Promise<Figures>> = {
  batch: async (batch, preset) => {
    const gpu = await openGpu();
    return stepsOf(gpu, loadConfig(undefined, { preset, overrides: { batch } }), synthesize());
  },
  make: async (rows, file) => {
    const { packed, rows: made } = frequencyFormulas(synthesize(), histogram(rows), 1);
    const writer = await FormulaWriter.open(file);
    for (let row = 0; row < made; row++) writer.add(packed, row);
    await writer.close();
    return { rows: made };
  },
  data: async (_, file) => {
    await loadFormulas(`${file}.small.csv`);
    const before = process.memoryUsage().rss;
    const from = performance.now();
    const all = await loadFormulas(file);
    const loadSeconds = seconds(from);
    const { train: chosen } = splitRows(all.rows, 0.1, 1);
    const training = { packed: takeRows(all.packed, chosen), rows: chosen.length };
    fingerprintOf(training);
    const readySeconds = seconds(from);
    const peakMemory = peak();
    const own = {
      rows: all.read,
      kept: all.rows,
      loadSeconds,
      readySeconds,
      bytesPerRow: (peakMemory - before) / all.read,
    };
    const gpu = await openGpu();
    try {
      const steps = await stepsOf(gpu, loadConfig('gan', { preset: 'demo' }), training);
      return { ...own, peakMemory, msPerStep: steps.msPerStep, gpuBytes: steps.gpuBytes };
    } catch (error) {
      return { ...own, peakMemory, msPerStep: null, refused: (error as Error).message };
    }
  },
  samples: async (count, folder) => {
    const gpu = await openGpu();
    const checkpoint = findCheckpoint(folder);
    await drawSamples(gpu, checkpoint, { count: 1, seed: 1 }, () => {});
    const from = performance.now();
    const harvest = await Harvest.open({
      out: join(folder, `${count}.parquet`),
      unique: true,
      judge: true,
      reduce: true,
    });
    await drawSamples(gpu, checkpoint, { count, seed: 1 }, (words, rows) => harvest.take(words, rows));
    const drawSeconds = seconds(from);
    const found = await harvest.finish();
    return { samples: count, ...found, drawSeconds, seconds: seconds(from), peakMemory: peak() };
  },
  // Everything but the network: rows as a generator gives them, in batches.
  host: async (count, folder) => {
    const batch = 4096;
    const harvest = await Harvest.open({
      out: join(folder, `${count}.parquet`),
      unique: true,
      judge: true,
      reduce: true,
    });
    let spent = 0;
    for (let at = 0, part = 0; at < count; at += batch, part++) {
      const { packed, rows } = uniformFormulas(histogram(Math.min(batch, count - at)), part);
      const from = performance.now();
      harvest.take(packed, rows);
      spent += seconds(from);
    }
    const from = performance.now();
    const found = await harvest.finish();
    return { samples: count, ...found, takeSeconds: spent, seconds: spent + seconds(from), peakMemory: peak() };
  },
  judge: async (rows, kind) => {
    const { packed } =
      kind === 'uniform' ? uniformFormulas(histogram(rows), 1) : synthesize({ count: Math.min(rows, 200_000) });
    const some = packed.length / 4;
    const judge = new Judge();
    const rates: number[] = [];
    let passed = 0;
    for (let round = 0; round < 7; round++) {
      const words = packed.slice();
      const from = performance.now();
      for (let row = 0; row < some; row++) {
        reducePacked(words, row);
        passed += judge.row(words, row) & 1;
      }
      rates.push(some / seconds(from));
    }
    // Warmed up after the first two.
    const median = rates.slice(2).sort((a, b) => a - b)[2];
    return { formulas: some, perSecond: median, chargeNeutral: passed / some / 7, peakMemory: peak() };
  },
};

interface Row extends Figures {
  part: string;
  series: string;
  size: number;
}

const self = fileURLToPath(import.meta.url);
function child(part: string, size: number, more: string): Figures {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--import', 'tsx', self, '--child', part, '--size', String(size), '--more', more],
    { encoding: 'utf8', maxBuffer: 2 ** 26, cwd: packageRoot },
  );
  if (status !== 0) {
    const line = stderr.trim().split('\n').at(-1) ?? '';
    process.stderr.write(`${part} ${size} ${more}: ${line}\n`);
    return { failed: line };
  }
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}

/** What is plotted and fitted: a figure of a part over its size. */
const curves: { part: string; title: string; x: string; figures: [name: string, label: string][] }[] = [
  {
    part: 'batch',
    title: 'A training step',
    x: 'rows a step',
    figures: [
      ['msPerStep', 'ms a step'],
      ['gpuBytes', 'bytes on the device'],
    ],
  },
  {
    part: 'data',
    title: 'A data set',
    x: 'rows of the table',
    figures: [
      ['readySeconds', 'seconds to load'],
      ['peakMemory', 'bytes at peak'],
      ['msPerStep', 'ms a step'],
    ],
  },
  {
    part: 'samples',
    title: 'Drawing samples',
    x: 'samples',
    figures: [
      ['seconds', 'seconds'],
      ['peakMemory', 'bytes at peak'],
    ],
  },
  {
    part: 'host',
    title: 'The host alone',
    x: 'samples',
    figures: [
      ['seconds', 'seconds'],
      ['peakMemory', 'bytes at peak'],
    ],
  },
];

interface Fit {
  part: string;
  series: string;
  figure: string;
  /** Of all sizes, and of the larger half, where fixed costs weigh less. */
  exponent: number;
  upperExponent: number;
}

function fitsOf(rows: readonly Row[]): Fit[] {
  return curves.flatMap(({ part, figures }) => {
    const own = rows.filter((row) => row.part === part);
    return [...new Set(own.map(({ series }) => series))].flatMap((series) =>
      figures.map(([figure]) => {
        const points = own
          .filter((row) => row.series === series && typeof row[figure] === 'number')
          .map((row) => [row.size, row[figure] as number] as const);
        const upper = points.slice(-Math.max(2, Math.ceil(points.length / 2)));
        return {
          part,
          series,
          figure,
          exponent: powerLaw(points).exponent,
          upperExponent: powerLaw(upper).exponent,
        };
      }),
    );
  });
}

function report(facts: Figures, rows: readonly Row[], fits: readonly Fit[]): string {
  const charts = curves.flatMap(({ part, title, x, figures }) => {
    const own = rows.filter((row) => row.part === part);
    if (own.length === 0) return [];
    return figures.map(([figure, label]) => {
      const series = [...new Set(own.map((row) => row.series))].map((name) => ({
        name,
        points: own
          .filter((row) => row.series === name && typeof row[figure] === 'number')
          .map((row) => [Math.log10(row.size), Math.log10(row[figure] as number)] as const),
      }));
      const values = series.flatMap(({ points }) => points.map(([, y]) => y));
      if (values.length === 0) return null;
      const range = [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values) + 1e-9)] as const;
      return lineChart({
        title: `${title}: ${label}`,
        xLabel: `${x}, power of ten`,
        series,
        range: range[0] === range[1] ? [range[0], range[0] + 1] : range,
        format: (v) => `10^${Number(v.toFixed(2))}`,
      });
    });
  });
  const cell = (v: unknown): string => (typeof v === 'number' ? String(Number(v.toPrecision(4))) : String(v ?? ''));
  const tables = [...new Set(rows.map(({ part }) => part))].map((part) => {
    const own = rows.filter((row) => row.part === part);
    const names = [...new Set(own.flatMap((row) => Object.keys(row)))].filter((name) => name !== 'part');
    return html`<h2>${part}</h2>${htmlTable(
      names,
      own.map((row) => names.map((name) => cell(row[name]))),
    )}`;
  });
  return page(
    'Scale',
    html`<h1>How time and memory grow</h1><p class="lead">${Object.values(facts).join(' · ')}</p>
<div class="charts">${charts}</div>
<h2>Exponents</h2><p>y = a · size^b by least squares of the logarithms; 1 is linear, 0 is constant. The larger half of the sizes shows
where growth ends up; at small sizes fixed costs (a dispatch, loading a library) hold b down.</p>
${htmlTable(
  ['part', 'series', 'figure', 'b', 'b of the larger half'],
  fits.map((fit) => [fit.part, fit.series, fit.figure, fit.exponent.toFixed(2), fit.upperExponent.toFixed(2)]),
  3,
)}${tables}`,
  );
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      child: { type: 'string' },
      size: { type: 'string' },
      more: { type: 'string', default: '' },
      only: { type: 'string', default: 'batch,data,samples,host,judge' },
      most: { type: 'string' },
      all: { type: 'boolean', default: false },
      out: { type: 'string', default: `${packageRoot}/bench/results` },
    },
  });
  if (values.child) {
    const figures = await children[values.child](Number(values.size), values.more);
    process.stdout.write(`\n${JSON.stringify(figures)}\n`, () => process.exit(0));
    return;
  }
  const device = await openDevice({ boundsChecks: false });
  const card = !device.info.software;
  const facts = machine(device.info) as Figures;
  const file = join(values.out, `scale-${adapterName(device.info)}-${today()}`);
  device.destroy();
  const parts = new Set(values.only.split(','));
  const far = values.all || card;
  const most = Number(values.most ?? (far ? 1e7 : 1e6));
  const powers = [1e4, 1e5, 1e6, 1e7].filter((n) => n <= most);
  const rows: Row[] = [];
  const measure = (part: string, series: string, size: number, more: string): void => {
    const row: Row = { part, series, size, ...child(part, size, more) };
    rows.push(row);
    process.stderr.write(`${JSON.stringify(row)}\n`);
  };
  const folder = mkdtempSync(join(tmpdir(), 'matgan-scale-'));
  try {
    if (parts.has('judge'))
      for (const kind of ['uniform', 'default set']) measure('judge', kind, 1e6, kind.split(' ')[0]);
    if (parts.has('host')) for (const size of powers) measure('host', 'uniform formulas', size, folder);
    if (parts.has('data')) {
      for (const size of powers) {
        const table = join(folder, `${size}.csv`);
        child('make', 1000, `${table}.small.csv`);
        child('make', size, table);
        measure('data', 'CSV', size, table);
        rmSync(table);
      }
    }
    if (parts.has('samples')) {
      const run = join(folder, 'run');
      mkdirSync(run);
      const executor = await openGpu();
      const data = synthesize();
      await train({
        folder: run,
        executor,
        adapter: '',
        config: smallGenerator(),
        data: {
          train: data,
          leaveOut: { packed: data.packed, rows: 0 },
          fingerprint: fingerprintOf(data),
          source: null,
        },
        logEvery: 1,
        checkpointEvery: 1,
        measureEvery: 1,
      });
      executor.destroy();
      for (const size of powers) measure('samples', 'small generator', size, run);
    }
    if (parts.has('batch')) {
      const batches = [1, 4, 16, 64, 256, 1024, 4096];
      for (const size of batches) measure('batch', 'demo', size, 'demo');
      // A step of the paper's nets at 1024 takes two cores minutes.
      for (const size of batches.filter((n) => far || n <= 16)) measure('batch', 'icsd', size, 'icsd');
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const fits = fitsOf(rows);
  mkdirSync(values.out, { recursive: true });
  writeFileSync(`${file}.json`, `${JSON.stringify({ ...facts, rows, fits }, null, 1)}\n`);
  writeFileSync(`${file}.html`, report(facts, rows, fits));
  process.stdout.write(`${file}.json\n${file}.html\n`);
  process.exit(0);
}

await main();
