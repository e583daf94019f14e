/** Ends of runs, odd configurations and refusals: what training on real data rarely meets. No adapter is needed. */
import fs, { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { fingerprintOf, splitRows } from '../../src/chem/dataset.ts';
import { PackedSet } from '../../src/chem/encoding.ts';
import { CheckpointError, ConfigError, DataError } from '../../src/errors.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
import { checkConfig } from '../../src/models/config.ts';
import { generatorNetwork, ParameterSet } from '../../src/models/layers.ts';
import { checkpointName, findCheckpoint, loadTrainingData, makeRunFolder, train } from '../../src/models/run.ts';
import { readSafetensors, writeSafetensors } from '../../src/models/safetensors.ts';
import { sample } from '../../src/models/sampler.ts';
import {
  logOf,
  temporaryFolder,
  tinyAe,
  tinyData,
  tinyDenseAe,
  tinyDenseGan,
  tinyGan,
  tinyRows,
  trainTiny,
} from './tiny.ts';

afterEach(() => vi.restoreAllMocks());
const executor = new ReferenceExecutor();

describe('training data', () => {
  it('the default set, parted by the seed', async () => {
    const config = tinyDenseGan({ seed: 11, leaveOut: 0.25 });
    const { train: rows, leaveOut, fingerprint, source, loaded } = await loadTrainingData(null, config);
    expect([rows.rows, leaveOut.rows, source, loaded]).toEqual([15_000, 5_000, null, undefined]);
    expect(fingerprint).toBe(fingerprintOf(rows));
    expect(splitRows(20_000, 0.25, 11).leaveOut).toHaveLength(5_000);
    const set = PackedSet.of(rows);
    for (let row = 0; row < leaveOut.rows; row++) expect(set.has(leaveOut.packed, row)).toBe(false);
  });

  it('too few formulas', async () => {
    const file = join(temporaryFolder(), 'few.csv');
    writeFileSync(file, 'formula\nNaCl\nKBr\n');
    await expect(loadTrainingData(file, tinyDenseGan({ leaveOut: 0.5 }))).rejects.toThrow(
      `${file}: 2 formulas are too few to train on`,
    );
    expect((await loadTrainingData(file, tinyDenseGan({ leaveOut: 0 }))).train.rows).toBe(2);
  });
});

describe('a run', () => {
  it('that is paused before its first step is whole all the same, and goes on', async () => {
    const folder = temporaryFolder();
    const config = tinyDenseGan({ steps: 3 });
    const result = await trainTiny(executor, { folder, config, pauseAt: 0 });
    expect(result).toMatchObject({ step: 0, finished: false, rate: 0 });
    expect(readdirSync(folder).sort()).toEqual([checkpointName, 'config.json']);
    const from = findCheckpoint(folder);
    expect(from.step).toBe(0);
    expect(await trainTiny(executor, { folder, config, from })).toMatchObject({ step: 3, finished: true });
  });

  it('measures on its own beat: a line with the measurement alone between two of losses', async () => {
    const folder = temporaryFolder();
    const every = { logEvery: 4, measureEvery: 3, checkpointEvery: 100 };
    const seen: number[] = [];
    await trainTiny(executor, {
      folder,
      config: tinyDenseAe({ steps: 7 }),
      ...every,
      onLog: ({ step }) => seen.push(step),
    });
    const log = logOf(folder);
    expect(log.map((line) => [line.step, 'loss' in line, 'exactLeaveOut' in line])).toEqual([
      [3, false, true],
      [4, true, false],
      [6, false, true],
      [7, true, true],
    ]);
    expect(seen).toEqual([3, 4, 6, 7]);
  });

  it('without left-out rows measures nothing', async () => {
    const folder = temporaryFolder();
    const data = { ...tinyData(), leaveOut: tinyRows(0) };
    await trainTiny(executor, { folder, config: tinyDenseAe({ steps: 2 }), data, logEvery: 1 });
    expect(logOf(folder).map((line) => Object.keys(line))).toEqual([
      ['step', 'seconds', 'loss'],
      ['step', 'seconds', 'loss'],
    ]);
  });

  it('in a folder that cannot be written', async () => {
    const folder = join(temporaryFolder(), 'none');
    await expect(trainTiny(executor, { folder, config: tinyDenseAe() })).rejects.toThrow(
      /none: it can't be written \(no such file or folder\)$/,
    );
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    expect(() => makeRunFolder(join(file, 'below'))).toThrow(DataError);
    expect(() => makeRunFolder(join(file, 'below'))).toThrow(/below: it can't be made \(ENOTDIR/);
  });

  it('whose log cannot be written says so, and leaves no lock', async () => {
    const folder = temporaryFolder();
    // A folder in the log's place, made once the run has begun.
    const config = tinyDenseAe({ steps: 3 });
    const onProgress = (): void => {
      mkdirSync(join(folder, 'log.jsonl'), { recursive: true });
    };
    await expect(trainTiny(executor, { folder, config, onProgress, logEvery: 2 })).rejects.toThrow(
      /log\.jsonl: cannot be written \(it is a folder\)/,
    );
    expect(existsSync(join(folder, 'lock'))).toBe(false);
  });

  it('takes over the lock of a process that has ended, not that of one that lives', async () => {
    const config = tinyDenseAe({ steps: 1 });
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'lock'), 'no number');
    expect(await trainTiny(executor, { folder, config })).toMatchObject({ step: 1 });
    writeFileSync(join(folder, 'lock'), String(process.ppid));
    await expect(trainTiny(executor, { folder, config })).rejects.toThrow(
      `process ${process.ppid} is training in it; wait, or take another folder`,
    );
    // A process of somebody else's is alive too, though it may not be signalled.
    vi.spyOn(process, 'kill').mockImplementation(() => {
      throw Object.assign(new Error('not permitted'), { code: 'EPERM' });
    });
    await expect(trainTiny(executor, { folder, config })).rejects.toThrow(/is training in it/);
  });

  it('a resumed log keeps the lines up to its step, and nothing that is no line', async () => {
    const folder = temporaryFolder();
    const config = tinyDenseAe({ steps: 4 });
    await trainTiny(executor, { folder, config, pauseAt: 2, logEvery: 1, measureEvery: 100 });
    writeFileSync(join(folder, 'log.jsonl'), '{"step":9,"seconds":1}\nbroken\n', { flag: 'a' });
    await trainTiny(executor, { folder, config, from: findCheckpoint(folder), logEvery: 1, measureEvery: 100 });
    expect(logOf(folder).map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  });
});

describe('networks', () => {
  it('the released start: N(0, 1) whatever the width', () => {
    const { generator } = tinyGan();
    const parameters = new ParameterSet();
    generatorNetwork({ ...generator, initial: 'normal' }, parameters);
    const data = parameters.initialise(new Stream(1, 0));
    for (const { name, shape, offset } of parameters.list) {
      const values = data.slice(offset, offset + shape.reduce((a, b) => a * b, 1));
      if (!name.endsWith('.weights') || values.length < 200) continue;
      const square = values.reduce((sum, v) => sum + v * v, 0) / values.length;
      expect(square).toBeGreaterThan(0.7);
      expect(square).toBeLessThan(1.4);
    }
  });

  it('without batch norm there are neither norms nor running moments, and training goes', async () => {
    const { generator, critic } = tinyGan();
    const config = tinyGan({ generator: { ...generator, norm: 'none' }, steps: 1, batch: 2 });
    const parameters = new ParameterSet();
    generatorNetwork(config.generator, parameters);
    expect(parameters.norms).toEqual([]);
    expect(parameters.list.filter(({ name }) => /norm/i.test(name))).toEqual([]);
    const own = { encoder: { ...critic, norm: 'none' }, decoder: { ...generator, norm: 'none' }, steps: 1, batch: 2 };
    const folder = temporaryFolder();
    await trainTiny(executor, { folder, config: tinyAe(own) });
    expect(Object.keys(readCheckpoint(join(folder, checkpointName)).tensors).join()).not.toMatch(/running|norm/i);
  });

  it('a layer may have a norm of its own', () => {
    const { generator } = tinyGan();
    if (generator.kind !== 'conv') throw new Error('tiny GANs are convolutional');
    const layers = generator.layers.map((layer, i) => (i === 1 ? { ...layer, norm: 'none' as const } : layer));
    const parameters = new ParameterSet();
    generatorNetwork({ ...generator, layers }, parameters);
    const names = parameters.list.map(({ name }) => name).filter((name) => /norm/i.test(name));
    expect([...new Set(names.map((name) => name.split('.')[0]))]).toEqual(['headNorm', 'norm0', 'norm2']);
  });

  it('softmax alone is softmax at a temperature of 1', async () => {
    const { generator } = tinyDenseGan();
    const bits: string[] = [];
    for (const output of ['softmax', { softmax: 1 }, { softmax: 0.5 }]) {
      const folder = temporaryFolder();
      await trainTiny(executor, { folder, config: tinyDenseGan({ generator: { ...generator, output }, steps: 1 }) });
      const { tensors } = readCheckpoint(join(folder, checkpointName));
      bits.push(
        Object.values(tensors)
          .map(({ data }) => Buffer.from(data.buffer).toString('hex'))
          .join(),
      );
    }
    expect(bits[0] === bits[1]).toBe(true);
    expect(bits[0] === bits[2]).toBe(false);
  });

  it('a mirrored autoencoder wants dense networks that mirror one another', async () => {
    const { encoder, decoder } = tinyDenseAe();
    for (const own of [
      { encoder: tinyAe().encoder },
      { decoder: tinyAe().decoder },
      { encoder: { ...encoder, hidden: [12, 10] } },
      { decoder: { ...decoder, hidden: [13] } },
    ]) {
      const config = tinyDenseAe({ ...own, steps: 1 });
      await expect(trainTiny(executor, { config })).rejects.toThrow(ConfigError);
      await expect(trainTiny(executor, { config })).rejects.toThrow(/^mirror: it takes a dense encoder/);
    }
  });
});

describe('configurations', () => {
  it('a misspelt key where the preset has a word is set beside its neighbours, not beside the word’s letters', () => {
    const said = (decay: object): string => {
      try {
        checkConfig({ ...tinyDenseGan(), decay }, 'mine', tinyDenseGan());
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    };
    expect(said({ from: 1, until: 2, to: 3 })).toBe('mine: decay.until is no setting; here there are from, to');
    expect(said({ from: 1, too: 2, to: 3 })).toBe(
      'mine: decay.too is no setting (did you mean to?); here there are from, to',
    );
    expect(said({ until: 2 })).toMatch(/^mine: decay/);
  });

  it('what is no configuration', () => {
    expect(() => checkConfig(null, 'mine')).toThrow('mine: model is undefined; it takes gan, ae, filter or elemnet');
  });
});

describe('checkpoints', () => {
  it('without a number of seconds count from zero', async () => {
    const folder = temporaryFolder();
    await trainTiny(executor, { folder, config: tinyDenseAe({ steps: 1 }) });
    const file = join(folder, checkpointName);
    const { tensors, metadata } = readSafetensors(file);
    writeSafetensors(file, tensors, { ...metadata, seconds: 'long' });
    expect(readCheckpoint(file).seconds).toBe(0);
  });

  it('a header larger than the format allows is refused before anything is written', () => {
    const file = join(temporaryFolder(), 'large.safetensors');
    const metadata = { text: 'x'.repeat(100_000_001) };
    expect(() => writeSafetensors(file, {}, metadata)).toThrow(/large\.safetensors: the header has 1000\d+ bytes/);
    expect(existsSync(file)).toBe(false);
  });

  it('a file that becomes shorter while it is read, and a disk that fails', () => {
    const file = join(temporaryFolder(), 'a.safetensors');
    writeSafetensors(file, { a: { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) } });
    const { readSync } = fs;
    vi.spyOn(fs, 'readSync').mockReturnValueOnce(0);
    expect(() => readSafetensors(file)).toThrow(new CheckpointError(`${file}: became shorter while it was read`));
    vi.mocked(fs.readSync).mockImplementationOnce(() => {
      throw Object.assign(new Error('EIO: bad block\nsecond line'), { code: 'EIO' });
    });
    expect(() => readSafetensors(file)).toThrow(new CheckpointError(`${file}: cannot be read (EIO: bad block)`));
    vi.mocked(fs.readSync).mockImplementationOnce(() => {
      throw new Error('nobody knows');
    });
    expect(() => readSafetensors(file)).toThrow(/cannot be read \(nobody knows\)$/);
    vi.mocked(fs.readSync).mockImplementation(readSync);
    expect([...readSafetensors(file).tensors.a.data]).toEqual([1, 2]);
  });

  it('a long tensor name is cut in a message', () => {
    const file = join(temporaryFolder(), 'a.safetensors');
    const header = Buffer.from(
      JSON.stringify({ ['n'.repeat(61)]: { dtype: 'F32', shape: [1], data_offsets: [0, 8] } }),
    );
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(file, Buffer.concat([length, header, Buffer.alloc(8)]));
    expect(() => readSafetensors(file)).toThrow(`tensor "${'n'.repeat(57)}…" has 8 bytes, F32 [1] wants 4`);
  });
});

describe('sampling', () => {
  it('more formulas than the first block of memory holds, in order, none lost and none invented', async () => {
    const folder = temporaryFolder();
    await trainTiny(executor, { folder, config: tinyDenseGan({ averaging: 0, steps: 1 }) });
    // A generator whose every second sample decodes: rows 0, 1, 2, … of the made-up ones.
    let drawn = 0;
    const made = new ReferenceExecutor();
    vi.spyOn(made, 'plan').mockImplementation(async () => ({
      run: () => {},
      read: async () => {
        const words = new Uint32Array(4 * 900);
        for (let i = 1; i < 900; i += 2) words.set(tinyRows(1, drawn++).packed, 4 * i);
        return words;
      },
      profile: async () => [],
      anomaly: async () => undefined,
      stats: { dispatches: 0, flops: 0, bytes: 0, memory: 0, buffers: 0 },
      destroy: () => {},
    }));
    const seen: number[] = [];
    const options = { count: 2500, seed: 1, batch: 900, onProgress: (n: number) => seen.push(n) };
    const { packed, rows } = await sample(made, findCheckpoint(folder), options);
    expect(seen).toEqual([900, 1800, 2500]);
    // 450 of each whole batch, and of the last one those among its first 700 samples.
    expect(rows).toBe(450 + 450 + 350);
    expect([...packed]).toEqual([...tinyRows(1250).packed]);
  });

  it('16 samples in a pass unless said', async () => {
    const folder = temporaryFolder();
    await trainTiny(executor, { folder, config: tinyDenseGan({ averaging: 0, steps: 1 }) });
    const seen: number[] = [];
    await sample(executor, findCheckpoint(folder), { count: 18, seed: 1, onProgress: (n) => seen.push(n) });
    expect(seen).toEqual([16, 18]);
  });
});

it('train leaves the executor’s variables to the caller of its own names', async () => {
  // Two models of other sizes, one after the other, in one executor.
  const own = new ReferenceExecutor();
  for (const config of [tinyDenseGan({ steps: 1 }), tinyDenseGan({ steps: 1, batch: 6 })]) {
    const options = { folder: temporaryFolder(), executor: own, adapter: 'test', config };
    const every = { logEvery: 1, checkpointEvery: 1, measureEvery: 1 };
    await train({ ...options, ...every, data: tinyData(config.batch * 5) });
  }
});
