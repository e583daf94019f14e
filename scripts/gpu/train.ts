/**
 * Trains on rows that were packed elsewhere (a bare GPU machine reads no tables).
 * `npx tsx scripts/gpu/train.ts pack TABLE PRESET FILE`, then there `train.js run FILE PRESET FOLDER SECONDS [STEPS]`; a folder with
 * a checkpoint goes on from it. `generate FOLDER COUNT FILE` draws from it, two million by default, and says how fast.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { loadConfig } from '../../src/models/config.ts';
import {
  checkpointName,
  findCheckpoint,
  loadTrainingData,
  makeRunFolder,
  type TrainingData,
  train,
} from '../../src/models/run.ts';

const [what, ...words] = process.argv.slice(2);
if (what === 'pack') {
  const [table, preset, file] = words;
  const { train: rows, leaveOut, fingerprint } = await loadTrainingData(table, loadConfig(undefined, { preset }));
  const meta = JSON.stringify({
    fingerprint,
    source: table.split('/').pop(),
    train: rows.rows,
    leaveOut: leaveOut.rows,
  });
  const bytes = (words: Uint32Array): Buffer => Buffer.from(words.buffer, words.byteOffset, words.byteLength);
  writeFileSync(file, Buffer.concat([Buffer.from(meta.padEnd(1024)), bytes(rows.packed), bytes(leaveOut.packed)]));
  console.log(meta);
} else if (what === 'run') {
  const [file, preset, folder, seconds, steps] = words;
  const raw = readFileSync(file);
  const meta = JSON.parse(raw.subarray(0, 1024).toString());
  const packed = new Uint32Array(raw.buffer.slice(raw.byteOffset + 1024, raw.byteOffset + raw.length));
  const data: TrainingData = {
    train: { packed: packed.slice(0, 4 * meta.train), rows: meta.train },
    leaveOut: { packed: packed.slice(4 * meta.train), rows: meta.leaveOut },
    fingerprint: meta.fingerprint,
    source: meta.source,
  };
  const device = await openDevice({ boundsChecks: false });
  const executor = new GpuExecutor(device);
  const from = existsSync(join(folder, checkpointName)) ? findCheckpoint(folder) : undefined;
  if (!from) makeRunFolder(folder);
  const base = loadConfig(undefined, { preset, overrides: steps ? { steps: Number(steps) } : {} });
  const memory: { step: number; rssMB: number; gpuMB: number }[] = [];
  const result = await train({
    folder,
    executor,
    adapter: device.info.description,
    config: from?.config ?? base,
    data,
    from,
    logEvery: 100,
    checkpointEvery: 1_000_000,
    measureEvery: 1_000_000,
    maxSeconds: Number(seconds),
    onLog: ({ step }) => {
      if (step % 1000 === 0)
        memory.push({ step, rssMB: process.memoryUsage().rss / 1e6, gpuMB: device.bytesAlive / 1e6 });
    },
  });
  console.log(JSON.stringify({ ...result, memory }));
  device.destroy();
} else console.error('train.ts pack|run …');
