/** Settings: presets, what is laid over them, and every way in which a file can be wrong. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ConfigError } from '../../src/errors.ts';
import {
  checkConfig,
  type GanConfig,
  loadConfig,
  type ModelKind,
  nearest,
  presetNames,
} from '../../src/models/config.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { packageRoot } from '../../src/paths.ts';
import { temporaryFolder, tinyGan } from './tiny.ts';

const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));

/** Loads the text of a configuration file over a preset. */
function load(text: string, kind: ModelKind = 'gan', preset = 'icsd') {
  const file = join(temporaryFolder(), 'own.yaml');
  writeFileSync(file, text);
  return loadConfig(kind, { preset, file });
}

describe('presets', () => {
  it('the four of the paper are there', () => {
    expect(presetNames()).toEqual(expect.arrayContaining(['icsd', 'mp', 'oqmd', 'ae']));
  });

  it.each(presetNames())('%s loads and makes a model', (preset) => {
    const kind = parse(readFileSync(`${packageRoot}/data/presets/${preset}.yaml`, 'utf8')).model as ModelKind;
    const config = loadConfig(kind, { preset });
    expect(config.model).toBe(kind);
    const trainer = makeTrainer(config, config.model === 'filter' ? config.pool + 1000 : 1000);
    for (const count of Object.values(trainer.counts)) expect(count).toBeGreaterThan(1000);
  });

  it('an unknown one: the nearest, and all', () => {
    expect(() => loadConfig('gan', { preset: 'icsdd' })).toThrow(ConfigError);
    expect(() => loadConfig('gan', { preset: 'icsdd' })).toThrow(
      /^preset icsdd: there is none \(did you mean icsd\?\)/,
    );
    expect(() => loadConfig('gan', { preset: '../presets/icsd' })).toThrow(/there are ae, .*oqmd/);
  });

  it('one of the other model', () => {
    expect(() => loadConfig('gan', { preset: 'ae' })).toThrow(/^preset ae is for "train ae", not "train gan"/);
    expect(() => loadConfig('ae', { preset: 'icsd' })).toThrow(/for "train gan"/);
  });
});

describe('settings laid over a preset', () => {
  it('key by key; lists whole; overrides last', () => {
    const file = join(temporaryFolder(), 'own.yaml');
    writeFileSync(file, 'steps: 7\nbatch: 9\ncriticOptimiser: { learningRate: 0.25 }\nbatchNorm: { decay: 0.5 }\n');
    const config = loadConfig('gan', { preset: 'icsd', file, overrides: { batch: 11 } });
    const preset = loadConfig('gan', { preset: 'icsd' });
    expect(config).toEqual({
      ...preset,
      steps: 7,
      batch: 11,
      batchNorm: { eps: 1e-5, decay: 0.5 },
      criticOptimiser: { name: 'adam', learningRate: 0.25, beta1: 0, beta2: 0.9, eps: 1e-8 },
    });
  });

  it('another optimiser starts afresh, and says what it lacks', () => {
    const own = 'criticOptimiser: { name: rmsProp, learningRate: 5.0e-5, rho: 0.9, eps: 1.0e-8 }';
    expect((load(own) as { criticOptimiser: unknown }).criticOptimiser).toEqual({
      name: 'rmsProp',
      learningRate: 5e-5,
      rho: 0.9,
      eps: 1e-8,
    });
    expect(() => load('criticOptimiser: { name: rmsProp, learningRate: 5.0e-5 }')).toThrow(/criticOptimiser\.rho/);
    expect(() => load('constraint: { name: clipping, clip: 0.01 }')).not.toThrow();
  });

  it('null takes a setting out; one that is needed is then missed', () => {
    const generatorOf = (text: string): object => (load(text, 'gan', 'best') as GanConfig).generator;
    expect(generatorOf('{}')).toHaveProperty('draft');
    expect(generatorOf('generator: { draft: null }')).not.toHaveProperty('draft');
    expect(() => load('generator: { latent: null }')).toThrow(/: generator\.latent:/);
  });

  it('JSON is YAML', () => {
    expect(load('{"steps": 3}').steps).toBe(3);
  });

  it('what a finished run saved is accepted again, and is the same', () => {
    const config = tinyGan();
    expect(checkConfig(JSON.parse(JSON.stringify(config)), 'saved')).toEqual(config);
  });
});

describe('a misspelt key suggests the right one', () => {
  it.each<[string, string, RegExp]>([
    ['at the top', 'crticSteps: 3', /crticSteps is no setting \(did you mean criticSteps\?\); here there are .*batch/],
    [
      'nested',
      'batchNorm: { epps: 0.1 }',
      /batchNorm\.epps is no setting \(did you mean eps\?\); here there are eps, decay/,
    ],
    [
      'in an optimiser',
      'generatorOptimiser: { learning_rate: 0.1 }',
      /generatorOptimiser\.learning_rate is no setting \(did you mean learningRate\?\)/,
    ],
    [
      'in a list of layers',
      'critic: { layers: [{ filters: 3, kernel: [3, 3], strides: [1, 1] }, { filters: 3, kernal: [3, 3], strides: [1, 1] }] }',
      /critic\.layers\.1\.kernal is no setting \(did you mean kernel\?\)/,
    ],
    ['in capitals', 'Batch: 3', /Batch is no setting \(did you mean batch\?\)/],
    ['like nothing', 'zzzzzzzz: 3', /zzzzzzzz is no setting; here there are/],
  ])('%s', (_, text, message) => {
    expect(() => load(text)).toThrow(ConfigError);
    expect(() => load(text)).toThrow(message);
  });

  it('words that are far from all suggest nothing', () => {
    expect(nearest('x'.repeat(100), ['batch'])).toBe('');
    expect(nearest('batsh', ['batch', 'steps'])).toBe(' (did you mean batch?)');
  });
});

describe('a value of the wrong kind names its key', () => {
  it.each<[string, RegExp]>([
    ['batch: many', /: batch: .*number/],
    ['batch: 2.5', /: batch: .*int/],
    ['batch: 0', /: batch: .*>=1/],
    ['steps: -4', /: steps:/],
    ['steps: .inf', /: steps:/],
    ['steps: .nan', /: steps:/],
    ['seed: -1', /: seed:/],
    ['leaveOut: 1', /: leaveOut: .*<=0\.9/],
    ['decoding: greedy', /: decoding: .*paper.*argmax/],
    ['averaging: 1', /: averaging:/],
    ['criticSteps: [1]', /: criticSteps:/],
    ['critic: null', /: critic:/],
    ['critic: { layers: [] }', /: critic\.layers:/],
    ['critic: { layers: [3] }', /: critic\.layers\.0:/],
    ['critic: { layers: [{ filters: 3, kernel: [3], strides: [1, 1] }] }', /: critic\.layers\.0\.kernel/],
    ['critic: { kind: convolution }', /: critic\.kind:/],
    ['critic: { activation: gelu }', /: critic\.activation:/],
    ['constraint: { name: spectral }', /: constraint\.name:/],
    ['model: vae', /: model is "vae"; it takes gan, ae, filter or elemnet/],
    ['batchNorm: { eps: 0 }', /: batchNorm\.eps:/],
    ['{ batch: 4, constraint: { rows: 5 } }', /: constraint\.rows: it is more than the batch has/],
  ])('%s', (text, message) => {
    expect(() => load(text)).toThrow(ConfigError);
    expect(() => load(text)).toThrow(message);
    let thrown = '';
    try {
      load(text);
    } catch (error) {
      thrown = (error as Error).message;
    }
    expect(thrown).not.toContain('\n');
  });
});

describe('a file that is none', () => {
  it('is missing, a directory, too large', () => {
    const folder = temporaryFolder();
    const at = (name: string): string => join(folder, name);
    expect(() => loadConfig('gan', { preset: 'icsd', file: at('gone.yaml') })).toThrow(/gone\.yaml: there is no such/);
    mkdirSync(at('d.yaml'));
    expect(() => loadConfig('gan', { preset: 'icsd', file: at('d.yaml') })).toThrow(/d\.yaml: it is a directory/);
    writeFileSync(at('big.yaml'), `# ${'x'.repeat(2_000_000)}\nbatch: 3\n`);
    expect(() => loadConfig('gan', { preset: 'icsd', file: at('big.yaml') })).toThrow(/bytes are too many/);
  });

  it.each<[string, string, RegExp]>([
    ['empty', '', /it holds no settings/],
    ['a list', '- 1\n- 2\n', /it holds no settings/],
    ['a word', 'hello', /it holds no settings/],
    ['a number', '3', /it holds no settings/],
    ['broken YAML', 'batch: [3\nsteps: 4', /own\.yaml: .*line \d/],
    ['a key twice', 'batch: 3\nbatch: 4', /Map keys must be unique/],
    ['two documents', 'batch: 3\n---\nbatch: 4\n', /multiple documents/],
    ['an unknown tag', 'batch: !!js/function "function(){}"', /batch|tag/i],
  ])('%s', (_, text, message) => {
    expect(() => load(text)).toThrow(ConfigError);
    expect(() => load(text)).toThrow(message);
  });

  it('aliases that double a thousand times over', () => {
    const rows = ['a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]'];
    for (let i = 1; i < 12; i++)
      rows.push(
        `a${i}: &a${i} [${Array(10)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    const before = performance.now();
    expect(() => load(rows.join('\n'))).toThrow(/alias/i);
    expect(performance.now() - before).toBeLessThan(2000);
  });

  it('names that reach for prototypes change nothing, and are refused', () => {
    for (const text of [
      '__proto__: { polluted: 1 }',
      '{"__proto__": {"polluted": 1}}',
      '{"batchNorm": {"__proto__": {"polluted": 1}}}',
      'constructor: { prototype: { polluted: 1 } }',
      'prototype: { polluted: 1 }',
      'toString: 3',
    ]) {
      let message = '';
      try {
        load(text);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        ({ message } = error as Error);
      }
      expect(message, text).toMatch(/is no setting|__proto__/);
      expect(({} as { polluted?: number }).polluted).toBeUndefined();
    }
  });
});

describe('matgan train --print-config', () => {
  it('prints what --config takes, and it is the same again', () => {
    const print = (...args: string[]) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [bin, 'train', 'gan', '--print-config', ...args], {
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      expect(status).toBe(0);
      return stdout;
    };
    const first = print('--preset', 'icsd-released', '--batch', '17', '--seed', '3');
    expect(JSON.parse(first)).toMatchObject({ model: 'gan', batch: 17, seed: 3, steps: 791_000 });
    const file = join(temporaryFolder(), 'printed.json');
    writeFileSync(file, first);
    expect(print('--preset', 'oqmd', '--config', file)).toBe(first);
  });
});
