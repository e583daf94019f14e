/** Checkpoints that are damaged or not ours, and run folders that are taken. */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { CheckpointError, DataError } from '../../src/errors.ts';
import { readCheckpoint, restore } from '../../src/models/checkpoint.ts';
import type { Config } from '../../src/models/config.ts';
import { checkpointName, findCheckpoint, logName, makeRunFolder, makeTrainer } from '../../src/models/run.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../src/models/safetensors.ts';
import { temporaryFolder, tinyAe, tinyData, tinyGan, trainTiny } from './tiny.ts';

// Small enough for the reference executor: these tests need no GPU.
const config = tinyGan({ steps: 2, criticSteps: 1, batch: 2 });
const ae = tinyAe({ steps: 1, batch: 2 });
let folder: string;
let other: string;
beforeAll(async () => {
  folder = temporaryFolder();
  other = temporaryFolder();
  await trainTiny(new ReferenceExecutor(), { folder, config, pauseAt: 1 });
  await trainTiny(new ReferenceExecutor(), { folder: other, config: ae });
});

interface Parts {
  tensors: Record<string, Tensor>;
  metadata: Record<string, string>;
}

/** A copy of the checkpoint with something changed. */
function changed(change: (parts: Parts) => void): string {
  const parts = readSafetensors(join(folder, checkpointName));
  change(parts);
  const file = join(temporaryFolder(), 'changed.safetensors');
  writeSafetensors(file, parts.tensors, parts.metadata);
  return file;
}

/** Reads a file into a model, as resuming does. */
function resume(file: string, model: Config = config): void {
  restore(new ReferenceExecutor(), makeTrainer(model, 30), findCheckpoint(file));
}

function refused(file: string, message: RegExp, model?: Config): void {
  let thrown: unknown;
  try {
    resume(file, model);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(CheckpointError);
  const text = (thrown as Error).message;
  expect(text).toMatch(message);
  // It says which file, in one line.
  expect(text.startsWith(file)).toBe(true);
  expect(text).not.toContain('\n');
}

describe('a checkpoint', () => {
  it('holds every parameter, moment, running statistic, counter, setting and the data it saw', () => {
    const checkpoint = readCheckpoint(join(folder, checkpointName));
    expect(checkpoint).toMatchObject({ config, step: 1, adapter: 'test', data: { rows: 30, source: null } });
    expect(checkpoint.data.fingerprint).toBe(tinyData().fingerprint);
    expect(checkpoint.seconds).toBeGreaterThan(0);
    const names = Object.keys(checkpoint.tensors);
    for (const name of [
      'generator/weights/head.weights',
      'generator/m/transposed0.filter',
      'generator/v/norm1.gamma',
      'critic/weights/out.bias',
      'generator.running',
      'generator.average/average/transposed3.bias',
      'step',
    ]) {
      expect(names).toContain(name);
    }
    expect(checkpoint.tensors['generator/weights/transposed0.filter'].shape).toEqual([5, 5, 4, 4]);
    expect(() => resume(folder)).not.toThrow();
    expect(() => resume(join(folder, checkpointName))).not.toThrow();
  });

  it('that is not there', () => {
    expect(() => findCheckpoint(join(folder, 'gone'))).toThrow(/gone: there is no such run or model/);
    const empty = temporaryFolder();
    expect(() => findCheckpoint(empty)).toThrow(/no checkpoint\.safetensors in it; is it a run folder\?/);
    expect(() => findCheckpoint(empty)).toThrow(CheckpointError);
    mkdirSync(join(empty, checkpointName));
    expect(() => findCheckpoint(empty)).toThrow(CheckpointError);
  });

  it('cut short, at any place', () => {
    const bytes = readFileSync(join(folder, checkpointName));
    const file = join(temporaryFolder(), 'cut.safetensors');
    for (const share of [0, 1e-5, 0.001, 0.05, 0.3, 0.9]) {
      writeFileSync(file, bytes.subarray(0, Math.floor(bytes.length * share)));
      refused(file, /cut short|truncated|ends|too short|bytes|header/i);
    }
    writeFileSync(file, bytes.subarray(0, bytes.length - 1));
    refused(file, /tensor "step" ends at byte \d+ of \d+; the file is cut short/);
    writeFileSync(file, Buffer.concat([bytes, Buffer.from('x')]));
    refused(file, /bytes/);
  });

  it('without a tensor', () => {
    refused(
      changed(({ tensors }) => delete tensors['critic/weights/out.bias']),
      /tensor critic\/weights\/out\.bias is missing; is it of another model\?$/,
    );
    refused(
      changed(({ tensors }) => delete tensors['generator.running']),
      /tensor generator\.running is missing/,
    );
    refused(
      changed(({ tensors }) => delete tensors.step),
      /its step counter does not say 1/,
    );
  });

  it('with a tensor of another shape or type', () => {
    const name = 'generator/weights/transposed0.filter';
    refused(
      changed(({ tensors }) => {
        tensors[name] = { ...tensors[name], shape: [4, 5, 5, 4] } as Tensor;
      }),
      /tensor generator\/weights\/transposed0\.filter is F32 \[4,5,5,4\], the model wants F32 \[5,5,4,4\]/,
    );
    refused(
      changed(({ tensors }) => {
        tensors[name] = { dtype: 'F32', shape: [1], data: new Float32Array(1) };
      }),
      /is F32 \[1\], the model wants/,
    );
    refused(
      changed(({ tensors }) => {
        tensors[name] = { dtype: 'U32', shape: [5, 5, 4, 4], data: new Uint32Array(400) };
      }),
      /is U32 \[5,5,4,4\], the model wants F32/,
    );
    refused(
      changed(({ tensors }) => {
        tensors.step.data[0] = 2;
      }),
      /its step counter does not say 1/,
    );
  });

  it('of another model', () => {
    refused(other, /tensor generator\/weights\/head\.weights is missing; is it of another model\?/);
    refused(folder, /tensor autoencoder\/weights\/.* is missing; is it of another model\?/, ae);
    refused(folder, /the model wants/, tinyGan({ generator: { ...tinyGan().generator, latent: 9 } }));
    // A shape checked before anything is written: the executor is as it was.
    const executor = new ReferenceExecutor();
    const trainer = makeTrainer(ae, 30);
    expect(() => restore(executor, trainer, findCheckpoint(folder))).toThrow(CheckpointError);
    expect((executor as unknown as { store: Map<string, unknown> }).store.size).toBe(0);
  });

  it.each<[string, (metadata: Record<string, string>) => void, RegExp]>([
    ['of another program', (m) => void (m.format = 'pt'), /it is not a checkpoint of this program \(format "pt"\)/],
    ['without a format', (m) => void delete m.format, /it is not a checkpoint of this program/],
    ['with a configuration that is no JSON', (m) => void (m.config = '{"model": "ga'), /damaged metadata: .*JSON/],
    ['without a configuration', (m) => void delete m.config, /damaged metadata:/],
    [
      'with a setting too many',
      (m) => void (m.config = JSON.stringify({ ...config, stepz: 1 })),
      /stepz is no setting/,
    ],
    ['with a setting of a wrong kind', (m) => void (m.config = JSON.stringify({ ...config, batch: -1 })), /batch/],
    ['with no step', (m) => void delete m.step, /damaged metadata: step/],
    ['with a step below zero', (m) => void (m.step = '-1'), /damaged metadata: step -1/],
    ['with another step than its counter', (m) => void (m.step = '7'), /its step counter does not say 7/],
    ['without data', (m) => void delete m.data, /damaged metadata:/],
    ['with data null', (m) => void (m.data = 'null'), /does not say which data it was trained on/],
    ['with -5 rows', (m) => void (m.data = '{"fingerprint":"x","rows":-5,"source":null}'), /does not say which data/],
    ['with a source of 3', (m) => void (m.data = '{"fingerprint":"x","rows":5,"source":3}'), /data source/],
  ])('%s', (_, change, message) => {
    refused(
      changed(({ metadata }) => change(metadata)),
      message,
    );
  });
});

describe('a run folder', () => {
  it('is made with its parents; one that exists must be empty', () => {
    const parent = temporaryFolder();
    makeRunFolder(join(parent, 'a/b'));
    makeRunFolder(join(parent, 'a/b'));
    expect(() => makeRunFolder(parent)).toThrow(/it is there already and not empty; take another --out, or --resume/);
    writeFileSync(join(parent, 'file'), '');
    expect(() => makeRunFolder(join(parent, 'file'))).toThrow(/it is a file; name a folder/);
    expect(() => makeRunFolder(join(parent, 'file/below'))).toThrow(DataError);
  });

  it('is one process’s at a time: a live owner is named, a dead one’s hold is taken over', async () => {
    const mine = temporaryFolder();
    cpSync(folder, mine, { recursive: true });
    const sleeper = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'ignore' });
    const from = findCheckpoint(mine);
    const before = readFileSync(join(mine, logName), 'utf8');
    try {
      writeFileSync(join(mine, 'lock'), String(sleeper.pid));
      const run = trainTiny(new ReferenceExecutor(), { folder: mine, config, from });
      await expect(run).rejects.toThrow(DataError);
      await expect(run).rejects.toThrow(`process ${sleeper.pid} is training in it; wait, or take another folder`);
      // The owner's lock and files are left alone.
      expect(readFileSync(join(mine, 'lock'), 'utf8')).toBe(String(sleeper.pid));
      expect(readFileSync(join(mine, logName), 'utf8')).toBe(before);
      expect(findCheckpoint(mine).step).toBe(1);
    } finally {
      const gone = new Promise((resolve) => sleeper.on('close', resolve));
      sleeper.kill('SIGKILL');
      await gone;
    }
    const result = await trainTiny(new ReferenceExecutor(), { folder: mine, config, from });
    expect(result).toMatchObject({ step: 2, finished: true });
    expect(existsSync(join(mine, 'lock'))).toBe(false);
  });

  it('with a lock of nonsense is taken over too', async () => {
    for (const text of ['', 'x', '-1', '0', '99999999999']) {
      const mine = temporaryFolder();
      cpSync(folder, mine, { recursive: true });
      writeFileSync(join(mine, 'lock'), text);
      const from = findCheckpoint(mine);
      await expect(trainTiny(new ReferenceExecutor(), { folder: mine, config, from })).resolves.toMatchObject({
        step: 2,
      });
    }
  });

  it('resumed when nothing is left to do stays as it is', async () => {
    const mine = temporaryFolder();
    await trainTiny(new ReferenceExecutor(), { folder: mine, config });
    const log = readFileSync(join(mine, logName), 'utf8');
    const from = findCheckpoint(mine);
    expect(from.step).toBe(2);
    const result = await trainTiny(new ReferenceExecutor(), { folder: mine, config, from });
    expect(result).toMatchObject({ step: 2, finished: true });
    expect(readFileSync(join(mine, logName), 'utf8')).toBe(log);
  });
});
