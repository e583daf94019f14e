/**
 * Flat memory over a long training: the process's and the device's memory every few hundred steps of a small dense GAN.
 *
 *     npx tsx bench/flat.ts [--preset demo] [--steps 10000] [--every 500] [--bound 200] [--out FOLDER]
 *
 * It trains as `matgan train` does, with its log and checkpoints. Writes flat-ADAPTER-DATE.json to bench/results, or to FOLDER.
 * Ends with 1 where, after the first fifth of the run, resident memory grows by more than `bound` bytes a step, or device
 * memory by anything.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { GpuExecutor } from '../src/autograd/executor.ts';
import { openDevice } from '../src/kernels/device.ts';
import { loadConfig } from '../src/models/config.ts';
import { loadTrainingData, train } from '../src/models/run.ts';
import { packageRoot } from '../src/paths.ts';
import { adapterName, machine, slope, today } from './files.ts';

const { values } = parseArgs({
  options: {
    preset: { type: 'string', default: 'demo' },
    steps: { type: 'string', default: '10000' },
    every: { type: 'string', default: '500' },
    bound: { type: 'string', default: '200' },
    out: { type: 'string', default: `${packageRoot}/bench/results` },
    /** Keeps so many bytes of each step, to see that growth is found. */
    leak: { type: 'string', default: '0' },
  },
});
const [steps, every, bound, leak] = [values.steps, values.every, values.bound, values.leak].map(Number);

interface Sample {
  step: number;
  seconds: number;
  rss: number;
  heapUsed: number;
  gpuBytes: number;
  gpuBuffers: number;
}

const folder = mkdtempSync(join(tmpdir(), 'matgan-flat-'));
mkdirSync(join(folder, 'run'));
const device = await openDevice({ boundsChecks: false });
const config = loadConfig(undefined, { preset: values.preset, overrides: { steps } });
const samples: Sample[] = [];
const kept: Uint8Array[] = [];
const started = performance.now();
let last = 0;
const look = (step: number): void => {
  if (leak > 0) kept.push(new Uint8Array(leak * (step - last)).fill(1));
  last = step;
  if (step < samples.length * every + every && step < steps) return;
  const { rss, heapUsed } = process.memoryUsage();
  samples.push({
    step,
    seconds: (performance.now() - started) / 1000,
    rss,
    heapUsed,
    gpuBytes: device.bytesAlive,
    gpuBuffers: device.buffersAlive,
  });
  process.stderr.write(
    `step ${step}: ${(rss / 1e6).toFixed(1)} MB, device ${(device.bytesAlive / 1e6).toFixed(1)} MB\n`,
  );
};
const result = await train({
  folder: join(folder, 'run'),
  executor: new GpuExecutor(device),
  adapter: '',
  config,
  data: await loadTrainingData(null, config),
  logEvery: 50,
  checkpointEvery: every,
  measureEvery: every,
  onProgress: look,
}).finally(() => rmSync(folder, { recursive: true, force: true }));

// Compilation, the garbage collector's heap and the driver's pools settle in the beginning.
const settled = samples.filter(({ step }) => step >= steps / 5);
const growth = (of: (sample: Sample) => number): number =>
  settled.length < 2 ? 0 : slope(settled.map((sample) => [sample.step, of(sample)] as const));
const rssPerStep = growth(({ rss }) => rss);
const gpuPerStep = growth(({ gpuBytes }) => gpuBytes);
const flat = rssPerStep <= bound && gpuPerStep === 0;
const facts = { ...machine(device.info), preset: values.preset, steps: result.step, batch: config.batch, bound };
const file = join(values.out, `flat-${adapterName(device.info)}-${today()}.json`);
mkdirSync(values.out, { recursive: true });
writeFileSync(
  file,
  `${JSON.stringify({ ...facts, rssPerStep, gpuPerStep, flat, rate: result.rate, samples }, null, 1)}\n`,
);
process.stdout.write(
  `${JSON.stringify({ file, steps: result.step, rssPerStep, gpuPerStep, flat, peak: Math.max(...samples.map(({ rss }) => rss)) })}\n`,
  () => process.exit(flat ? 0 : 1),
);
