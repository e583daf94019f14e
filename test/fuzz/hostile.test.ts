/** A share of what scripts/fuzz.ts runs, and every finding of it as a case of its own. */
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { FormulaFault, parseFormula } from '../../src/chem/formula.ts';
import { type OutColumn, readTable, writeTable } from '../../src/chem/tables.ts';
import { judge } from '../../src/chem/validity.ts';
import { CheckpointError, ConfigError, DataError, DeviceError, FormulaError, MatganError } from '../../src/errors.ts';
import { readCheckpoint } from '../../src/models/checkpoint.ts';
import { type Config, checkConfig, loadConfig, presetNames } from '../../src/models/config.ts';
import { checkpointName, findCheckpoint, loadTrainingData, logName, makeTrainer } from '../../src/models/run.ts';
import { writeSafetensors } from '../../src/models/safetensors.ts';
import { sample } from '../../src/models/sampler.ts';
import { checkSize, criticSize, elemNetSize, generatorSize } from '../../src/models/size.ts';
import { readLog } from '../../src/report/log.ts';
import {
  changedCheckpoint,
  checkCheckpoint,
  fuzzCheckpoints,
  leastConfig,
  leastRun,
  wholeCheckpoint,
} from './checkpoints.ts';
import { Choose } from './choose.ts';
import { fuzzConfigs, hugeConfigs, loadText, namedConfigs, walkPresets } from './configs.ts';
import { checkFormula, fuzzAgainstOther, fuzzFormulas } from './formulas.ts';
import { checkRun, names, obstacles } from './runs.ts';
import { bomb, checkTable, fuzzTables, namedCases } from './tables.ts';
import { faultOf, Tally } from './tally.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-hostile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let whole: Buffer;
beforeAll(async () => {
  whole = await wholeCheckpoint(folder);
});

/** Runs a share, and expects some inputs on either side and no fault. */
function clean(tally: Tally): void {
  expect(tally.faults).toEqual([]);
  expect(tally.accepted).toBeGreaterThan(tally.tried / 50);
  expect(tally.tried - tally.accepted).toBeGreaterThan(tally.tried / 10);
}

const processor = (work: () => void): number => {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};

describe('what counts as a fault', () => {
  it('anything but our own errors, on one line', () => {
    expect(faultOf(new DataError('x'))).toBeUndefined();
    expect(faultOf(new TypeError('x'))).toMatch(/not ours/);
    const ours = caught(() => new FormulaFault('empty', null as unknown as string));
    expect(faultOf(new DataError('x', { cause: ours }))).toMatch(/from TypeError: /);
    expect(faultOf(new DataError('x', { cause: new TypeError('y') }))).toBeUndefined();
    expect(faultOf(new DeviceError('x'))).toMatch(/not the input's fault/);
    expect(faultOf(undefined)).toMatch(/not ours/);
  });

  it('is counted once for each input, with the input', () => {
    const tally = new Tally('t');
    tally.attempt(
      () => 'in',
      () => {
        throw new RangeError('r');
      },
    );
    expect(tally).toMatchObject({ tried: 1, accepted: 0, faults: [{ input: 'in' }] });
  });
});

describe('formulas', () => {
  it('20,000 texts', () => {
    const tally = new Tally('formulas');
    fuzzFormulas(tally, 20_000, 2);
    clean(tally);
  });

  it('2,000 read as mf-parser reads them', () => {
    const tally = new Tally('mf-parser');
    fuzzAgainstOther(tally, 2000, 2);
    expect(tally.faults).toEqual([]);
    expect(tally.accepted).toBeGreaterThan(1500);
  });

  it('sums that all differ do not keep the judge busy for seconds', () => {
    const text =
      'Cm785880Cm911897W247237Au245520Os811296U12345Fe420037Rh564690As285236Nb473741Np661683Cl836203Rh257860' +
      'Cm469309As53776Ge233461V81163Os742804I988402Si871681Os498590C765331Tc162727Nb257057Ge379221';
    const before = process.memoryUsage.rss();
    const ms = processor(() => expect(() => judge(parseFormula(text))).toThrow(/too many combinations/));
    expect(ms).toBeLessThan(1000);
    expect(process.memoryUsage.rss() - before).toBeLessThan(400e6);
  });

  it('long amounts that a bracket makes are read again', () => {
    expect(() => checkFormula('(Fe1.23456789O)100000001')).not.toThrow();
  });

  it('control characters of a formula stay out of the message', () => {
    for (const text of ['Na\u009bCl', '\u2028', 'Na\u202e', '\u007f']) {
      expect(() => parseFormula(text)).toThrow(FormulaError);
      expect(faultOf(caught(() => parseFormula(text)))).toBeUndefined();
    }
  });
});

function caught(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('messages', () => {
  it('are one line that cannot steer a terminal, and are cut', () => {
    const { message } = new MatganError(`a\nb\u001b[2J\u009b\u2029\u202e${'x'.repeat(1e6)}`);
    expect(message.startsWith('a\\nb\\u001b[2J\\u009b\\u2029\\u202exxx')).toBe(true);
    expect(message.length).toBeLessThan(2100);
  });
});

describe('tables', () => {
  // The 10 GB take a second and more to be made; half a gigabyte shows the same.
  it.each(namedCases.filter(({ name }) => !name.includes('10 GB')))('$name', async ({ make, message, options }) => {
    const own = mkdtempSync(join(folder, 'table-'));
    const path = await make(own);
    const reading = checkTable(path, options);
    if (message === undefined) return expect(await reading).toBeUndefined();
    const error = await reading.catch((thrown) => thrown);
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toMatch(message);
    expect(faultOf(error)).toBeUndefined();
  });

  it('a gzip bomb is given up after some megabytes', async () => {
    const path = join(folder, 'bomb.csv.gz');
    writeFileSync(path, bomb(1));
    const before = process.cpuUsage();
    await expect(readTable(path, {}, () => {})).rejects.toThrow(/unpacks to over 50 times its size/);
    const { user } = process.cpuUsage(before);
    expect(user / 1e6).toBeLessThan(1);
  });

  it('150 random ones', async () => {
    const tally = new Tally('tables');
    await fuzzTables(tally, folder, 150, 2);
    clean(tally);
  });

  it('an output is no pipe or device, and no link beside it is followed', async () => {
    const column: OutColumn = { name: 'formula', type: 'text', value: () => 'NaCl' };
    if (statSync('/dev/null', { throwIfNoEntry: false })) {
      await expect(writeTable('/dev/null', [column], 1)).rejects.toThrow(/is not a plain file/);
    }
    writeFileSync(join(folder, 'kept'), 'kept');
    symlinkSync(join(folder, 'kept'), join(folder, 'out.csv'));
    await writeTable(join(folder, 'out.csv'), [column], 1);
    expect(readFileSync(join(folder, 'kept'), 'utf8')).toBe('kept');
    expect(lstatSync(join(folder, 'out.csv')).isSymbolicLink()).toBe(false);
  });
});

describe('configurations', () => {
  it('sizes are those of the networks that are made', () => {
    const own = presetNames().map((preset): [string, Config] => [preset, loadConfig(undefined, { preset })]);
    const layer = { generator: { norm: 'layer' }, critic: { norm: 'layer' } };
    for (const preset of ['icsd', 'demo']) own.push([preset, loadConfig('gan', { preset, overrides: layer })]);
    for (const [preset, config] of own) {
      // A filter's rows begin with its pool.
      if (config.model === 'filter') continue;
      const sizes =
        config.model === 'elemnet'
          ? { elemnet: elemNetSize(config) }
          : config.model === 'gan'
            ? { generator: generatorSize(config.generator), critic: criticSize(config.critic) }
            : { decoder: generatorSize(config.decoder), encoder: criticSize(config.encoder, config.decoder.latent) };
      const counts = Object.fromEntries(Object.entries(sizes).map(([name, { parameters }]) => [name, parameters]));
      expect(makeTrainer(config, 10).counts, preset).toEqual(counts);
    }
  });

  it.each(Object.entries(hugeConfigs))('%s: refused with the bound, before anything is made', (_, huge) => {
    const error = caught(() => loadText(join(folder, 'huge.yaml'), JSON.stringify(huge)));
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toMatch(/over the bound of \d+; use/);
  });

  it.each(Object.entries(namedConfigs))('%s', (_, text) => {
    for (const part of [text, text.slice(0, 32_000)]) {
      let error: unknown;
      const ms = processor(() => {
        error = caught(() => loadText(join(folder, 'named.yaml'), part));
      });
      expect(error).toBeInstanceOf(ConfigError);
      expect(faultOf(error)).toBeUndefined();
      expect(ms).toBeLessThan(1000);
    }
    expect('polluted' in {}).toBe(false);
  });

  it('a share of every leaf of every preset, and of random texts', () => {
    const tally = new Tally('configs');
    walkPresets(tally, folder, 0.02);
    fuzzConfigs(tally, folder, 100, 2);
    clean(tally);
  });

  it('devices are not read', () => {
    expect(() => loadConfig('gan', { preset: 'icsd', file: '/dev/zero' })).toThrow(/no plain file|no such/);
  });

  it('a plan on the reference executor that memory does not hold is refused before it is made', async () => {
    const config = loadConfig('gan', { preset: 'oqmd', overrides: { batch: 4096 } });
    const trainer = makeTrainer(config, 100);
    const plan = new ReferenceExecutor().plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
    await expect(plan).rejects.toThrow(/reference executor needs \d+\.\d GB, this machine has/);
  });
});

describe('checkpoints', () => {
  const saved = (change: Parameters<typeof changedCheckpoint>[1]): string => {
    const file = join(folder, 'changed.safetensors');
    writeFileSync(file, changedCheckpoint(whole, change));
    return file;
  };

  it('1,500 hostile ones', async () => {
    const tally = new Tally('checkpoints');
    await fuzzCheckpoints(tally, folder, 1500, 2);
    clean(tally);
  });

  it('a configuration larger than the file costs no memory', async () => {
    const generator = { ...leastConfig().generator, latent: 2000, hidden: [10_000] };
    const file = saved(({ metadata }) => {
      metadata.config = JSON.stringify({ ...leastConfig(), generator });
    });
    const before = process.memoryUsage().arrayBuffers;
    await expect(checkCheckpoint(file, true)).rejects.toThrow(/the model wants F32 \[2000,10000\]/);
    const run = mkdtempSync(join(folder, 'greedy-'));
    const executor = new ReferenceExecutor();
    const plan = vi.spyOn(executor, 'plan');
    const from = findCheckpoint(file);
    await expect(leastRun(run, { from, config: from.config, executor })).rejects.toThrow(CheckpointError);
    expect(plan).not.toHaveBeenCalled();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4e6);
  });

  it('a configuration over the bounds is refused by them', () => {
    const hidden = Array(32).fill(16_384);
    const file = saved(({ metadata }) => {
      metadata.config = JSON.stringify({ ...leastConfig(), generator: { ...leastConfig().generator, hidden } });
    });
    expect(() => findCheckpoint(file)).toThrow(/trainable numbers are \d+, over the bound of/);
  });

  it('samples at a time are bounded as a batch is', async () => {
    const checkpoint = { ...readCheckpoint(saved(() => {})), config: loadConfig('gan', { preset: 'oqmd' }) };
    const drawn = sample(new ReferenceExecutor(), checkpoint, { count: 1, seed: 1, batch: 65_536 });
    await expect(drawn).rejects.toThrow(/--batch 65536.*activations of 65536 rows are \d+, over the bound/);
    expect(() => checkSize(checkpoint.config, 'x', 512)).not.toThrow();
  });

  it('weights that are no numbers are refused', async () => {
    const file = saved(({ tensors, data }) => {
      data.writeFloatLE(Number.NaN, tensors['generator/weights/out.bias'].data_offsets[0]);
    });
    await expect(checkCheckpoint(file, false)).rejects.toThrow(/out\.bias is not finite/);
  });

  it.each<[string, string, RegExp]>([
    ['step', '', /damaged metadata: step/],
    ['step', ' 1', /damaged metadata: step/],
    ['step', '0x1', /damaged metadata: step/],
    ['data', JSON.stringify({ fingerprint: 'x', rows: 2 ** 30, source: null }), /more than training takes/],
  ])('metadata: %s %j', async (key, value, message) => {
    const file = saved(({ metadata }) => {
      metadata[key] = value;
    });
    await expect(checkCheckpoint(file, true)).rejects.toThrow(message);
  });

  it('seconds without end count as none', () => {
    for (const seconds of ['Infinity', '1e999', '-5', 'x']) {
      expect(readCheckpoint(saved(({ metadata }) => void (metadata.seconds = seconds))).seconds).toBe(0);
    }
  });

  it('a shape of a thousand dimensions is refused', () => {
    const file = saved(({ tensors }) => {
      tensors.step.shape = Array(1000).fill(1);
    });
    expect(() => findCheckpoint(file)).toThrow(/a list of over 16 numbers/);
  });

  it('the file that it names as its data is only read, and said to be missing on one line', async () => {
    const file = saved(({ metadata }) => {
      metadata.data = JSON.stringify({ fingerprint: 'x', rows: 4, source: '/nowhere/a\nb.csv' });
    });
    const { config, data } = findCheckpoint(file);
    await expect(loadTrainingData(data.source, config)).rejects.toThrow('/nowhere/a\\nb.csv: no such file');
    await expect(loadTrainingData('/dev/zero', config)).rejects.toThrow(/not a plain file|no such file/);
  });
});

describe('run folders', () => {
  const cases = names.flatMap((name) => Object.keys(obstacles).map((kind) => [name, kind] as const));
  it.each(cases)('%s is %s', async (name, kind) => {
    let error: unknown;
    try {
      await checkRun(folder, whole, { [name]: kind }, new Choose(3, 'run'));
    } catch (thrown) {
      error = thrown;
    }
    if (error !== undefined) expect(faultOf(error)).toBeUndefined();
    // What is not a run's own is replaced, but a log that leads elsewhere is the user's to look at.
    if (name === logName && /link|folder|pipe/.test(kind)) expect(error).toBeInstanceOf(DataError);
    if (name === 'config.json' && !kind.includes('folder')) expect(error).toBeUndefined();
  });

  it('a checkpoint that is a link is replaced, and what it leads to stays', async () => {
    const own = mkdtempSync(join(folder, 'linked-'));
    const target = join(folder, 'elsewhere.safetensors');
    writeFileSync(target, whole);
    symlinkSync(target, join(own, checkpointName));
    await leastRun(own, { from: findCheckpoint(own) });
    expect(lstatSync(join(own, checkpointName)).isSymbolicLink()).toBe(false);
    expect(readFileSync(target).equals(whole)).toBe(true);
  });

  it('a link where the half-written checkpoint goes is not followed', () => {
    const file = join(folder, 'half.safetensors');
    writeFileSync(join(folder, 'victim'), 'kept');
    symlinkSync(join(folder, 'victim'), `${file}.tmp-${process.pid}`);
    writeSafetensors(file, { a: { dtype: 'F32', shape: [1], data: Float32Array.of(1) } });
    expect(readFileSync(join(folder, 'victim'), 'utf8')).toBe('kept');
  });

  it('through a link to a folder a run is as in the folder', async () => {
    const own = mkdtempSync(join(folder, 'real-'));
    const link = join(folder, 'link');
    symlinkSync(own, link);
    await leastRun(link);
    expect(findCheckpoint(own).step).toBe(3);
  });

  it('resuming leaves out lines after the checkpoint, and what is no line', async () => {
    const own = mkdtempSync(join(folder, 'log-'));
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, checkpointName), whole);
    writeFileSync(join(own, logName), `{"step":1}\n${'x'.repeat(200_000)}\n{"step":1,"a":2}\n{"step":2}\n{"st`);
    await leastRun(own, { from: findCheckpoint(own) });
    expect(readLog(join(own, logName)).map(({ step }) => step)).toEqual([1, 1, 2, 3]);
  });

  it('a log for a page holds numbers only', () => {
    const file = join(folder, 'page.jsonl');
    writeFileSync(file, '{"step":1,"loss":{"toFixed":1}}\n{"step":2}\n');
    expect(() => readLog(file)).toThrow(/"loss" is no number/);
    if (statSync('/dev/zero', { throwIfNoEntry: false })) expect(() => readLog('/dev/zero')).toThrow(DataError);
  });

  it('a step is no number of another kind', () => {
    expect(() => checkConfig({ ...leastConfig(), steps: '3' }, 'x')).toThrow(ConfigError);
  });
});
