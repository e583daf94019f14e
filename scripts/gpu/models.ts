/**
 * Trains and judges models, and maps formulas, on a machine that reads no tables (no DuckDB there): rows are packed elsewhere.
 *
 *     npx tsx scripts/gpu/models.ts pack TABLE FILE [TARGET]          # formulas; with a column of numbers, rows of a regressor
 *     models.js gan FILE FOLDER SECONDS [steps=N] [batch=N] [preset=P] [filterSteps=N] [filterBatch=N]
 *         [filterPool=N] [KEY=JSON…]
 *     models.js elemnet FILE FOLDER SECONDS [steps=N] [KEY=JSON…]
 *     models.js map FILE OUT.json SECONDS POINTS
 *
 * `gan` goes on from a checkpoint in FOLDER, trains a filter in FOLDER/filter (none with filterSteps=0), and prints figures of 100,000
 * samples without and with it. Everything stops after SECONDS, with a checkpoint.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import type { PackedFormulas } from '../../src/chem/encoding.ts';
import { SampleJudge } from '../../src/chem/samples.ts';
import { loadTargets } from '../../src/chem/targets.ts';
import { openDevice } from '../../src/kernels/device.ts';
import type { Checkpoint } from '../../src/models/checkpoint.ts';
import { type Config, type ElemNetConfig, type FilterConfig, loadConfig } from '../../src/models/config.ts';
import { filterRows, generatedRows } from '../../src/models/filter.ts';
import { GpuMapEngine } from '../../src/models/map/engine.ts';
import { mapFormulas } from '../../src/models/map/map.ts';
import { propertyModel } from '../../src/models/predictor.ts';
import {
  bestName,
  checkpointName,
  findCheckpoint,
  loadTrainingData,
  makeRunFolder,
  type RegressionData,
  type RunOptions,
  regressionData,
  type TrainingData,
  train,
} from '../../src/models/run.ts';
import { sample } from '../../src/models/sampler.ts';
import { fractionsOf, type TableRows, targetsOf } from '../../src/models/table.ts';

const judged = 100_000;
const [what, ...words] = process.argv.slice(2);

/** Arrays of 4-byte numbers behind a line that says how long each is. */
function writePacked(file: string, header: Record<string, unknown>, arrays: (Uint32Array | Float32Array)[]): void {
  const line = `${JSON.stringify({ ...header, lengths: arrays.map(({ length }) => length) })}\n`;
  const parts = arrays.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength));
  writeFileSync(file, gzipSync(Buffer.concat([Buffer.from(line), ...parts]), { level: 9 }));
  console.log(line.trim());
}

// biome-ignore lint/suspicious/noExplicitAny: a header of this file's own making
function readPacked(file: string): { header: any; arrays: ArrayBuffer[] } {
  const raw = gunzipSync(readFileSync(file));
  let at = raw.indexOf(10) + 1;
  const header = JSON.parse(raw.subarray(0, at).toString());
  const arrays = header.lengths.map((length: number) => {
    const from = raw.byteOffset + at;
    at += 4 * length;
    return raw.buffer.slice(from, from + 4 * length);
  });
  return { header, arrays };
}

function formulasOf(file: string): TrainingData {
  const { header, arrays } = readPacked(file);
  const [train, leaveOut] = arrays.map((buffer): PackedFormulas => {
    const packed = new Uint32Array(buffer);
    return { packed, rows: packed.length / 4 };
  });
  return { train, leaveOut, fingerprint: header.fingerprint, source: header.source };
}

function targetsIn(file: string): RegressionData {
  const { header, arrays } = readPacked(file);
  const [train, leaveOut, test] = arrays.map(
    (buffer, i): TableRows => ({ values: new Float32Array(buffer), rows: header.rows[i] }),
  );
  return { train, leaveOut, test, fingerprint: header.fingerprint, source: header.source };
}

/** Settings such as `steps=4000 criticSteps=1 network.width=192`, as they lie over a preset. */
function settings(list: readonly string[]): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const word of list) {
    const at = word.indexOf('=');
    const path = word.slice(0, at).split('.');
    let into = found;
    for (const key of path.slice(0, -1)) {
      into[key] ??= {};
      into = into[key] as Record<string, unknown>;
    }
    const value = word.slice(at + 1);
    into[path[path.length - 1]] = /^[a-z][\w-]*$/.test(value) ? value : JSON.parse(value);
  }
  return found;
}

const print = (value: unknown): void => console.log(JSON.stringify(value));

if (what === 'pack') {
  const [table, file, target] = words;
  const source = table.split('/').pop();
  if (target === undefined) {
    const data = await loadTrainingData(table, loadConfig('gan', { preset: 'best' }));
    writePacked(file, { fingerprint: data.fingerprint, source }, [data.train.packed, data.leaveOut.packed]);
  } else {
    const config = loadConfig('elemnet', { preset: 'elemnet-best', overrides: { target } });
    const { train, leaveOut, test, fingerprint } = regressionData(await loadTargets(table, { target }), config, table);
    const parts = [train, leaveOut, test];
    writePacked(
      file,
      { fingerprint, source, rows: parts.map(({ rows }) => rows) },
      parts.map(({ values }) => values),
    );
  }
} else {
  const [file, folder, limit, ...rest] = words;
  const began = performance.now();
  const secondsLeft = (): number => Number(limit) - (performance.now() - began) / 1000;
  const device = await openDevice({ boundsChecks: false });
  const executor = new GpuExecutor(device);
  const run = async (
    into: string,
    config: Config,
    data: TrainingData | RegressionData,
    options: Partial<RunOptions> = {},
  ): Promise<Checkpoint> => {
    const from = existsSync(join(into, checkpointName)) ? findCheckpoint(into) : undefined;
    if (!from) makeRunFolder(into);
    const result = await train({
      folder: into,
      executor,
      adapter: device.info.description,
      config: from?.config ?? config,
      data,
      from,
      logEvery: Math.ceil(config.steps / 100),
      checkpointEvery: 1_000_000_000,
      measureEvery: Math.ceil(config.steps / 40),
      maxSeconds: Math.max(1, secondsLeft()),
      ...options,
    });
    print({ folder: into, step: result.step, seconds: result.seconds, rate: result.rate, best: result.best });
    return findCheckpoint(into, existsSync(join(into, bestName)) && config.model !== 'gan' ? 'best' : 'last');
  };
  const decaying = (given: Record<string, unknown>, from: number): Record<string, unknown> =>
    given.steps === undefined
      ? given
      : { decay: { from: Math.floor(from * Number(given.steps)), to: given.steps }, ...given };
  if (what === 'gan') {
    const { preset = 'best', filterSteps, filterBatch, filterPool, ...given } = settings(rest);
    const data = formulasOf(file);
    const config = loadConfig('gan', { preset: String(preset), overrides: decaying(given, 0.5) });
    const generator = await run(folder, config, data, {
      sampleEvery: Math.ceil(config.steps / 20),
      sampleSize: 16_384,
    });
    const judge = new SampleJudge({ training: data.train, leaveOut: data.leaveOut }, judged, 1);
    const look = async (filter?: Checkpoint, keep?: number): Promise<void> => {
      const drawn = await sample(executor, generator, { count: judged, seed: 1, filter, keep, formulas: true });
      print({ folder, filter: filter?.step ?? 'none', keep, frequencies: judge.baseline, ...judge.judge(drawn) });
    };
    await look();
    if (filterSteps !== 0) {
      const filterConfig = loadConfig('filter', {
        preset: 'filter',
        overrides: decaying(
          {
            ...(filterSteps !== undefined && { steps: filterSteps }),
            ...(filterBatch !== undefined && { batch: filterBatch }),
            ...(filterPool !== undefined && { pool: filterPool }),
          },
          0,
        ),
      }) as FilterConfig;
      const count = generatedRows(filterConfig, data.train.rows);
      const drawn = await sample(executor, generator, { count, seed: filterConfig.seed, formulas: true });
      const rows = filterRows(filterConfig, data.train, drawn);
      const own = { ...rows, fingerprint: fingerprintOf(rows.train), source: data.source };
      const filter = await run(join(folder, 'filter'), filterConfig, own, { best: 'loss' });
      for (const keep of [0.2, 0.5]) await look(filter, keep);
    }
  } else if (what === 'elemnet') {
    const data = targetsIn(file);
    const config = loadConfig('elemnet', { preset: 'elemnet-best', overrides: decaying(settings(rest), 0) });
    const checkpoint = await run(folder, config as ElemNetConfig, data, { best: 'loss' });
    const model = await propertyModel(executor, checkpoint);
    const { values } = await model.run(fractionsOf(data.test));
    const truth = targetsOf(data.test);
    const off = values.reduce((sum, value, i) => sum + Math.abs(value - truth[i]) / values.length, 0);
    print({ folder, testRows: values.length, mae: off });
    model.destroy();
  } else if (what === 'map') {
    const { train: rows } = formulasOf(file);
    const count = Math.min(Number(rest[0]), rows.rows);
    const packed = rows.packed.slice(0, 4 * count);
    const groups = [{ name: 'training', count }];
    const { maps } = await mapFormulas(
      new GpuMapEngine(device),
      { packed, rows: count, group: new Uint8Array(count), groups, sets: [] },
      { dimensions: [2], perplexity: 30, iterations: 750, landmarks: count, components: 50, seed: 1 },
    );
    const [{ divergence, history, seconds }] = maps;
    writeFileSync(folder, JSON.stringify({ points: count, seconds, divergence, history }));
    print({ map: count, seconds, wholeSeconds: (performance.now() - began) / 1000, divergence });
  } else console.error('models.ts pack|gan|elemnet|map …');
  device.destroy();
}
