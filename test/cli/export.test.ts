/** `matgan export`: what generating and decoding need, in float32 and float16, and nothing else. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { unpackRow } from '../../src/chem/encoding.ts';
import { formatFormula } from '../../src/chem/formula.ts';
import { readCheckpoint, restore } from '../../src/models/checkpoint.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { readSafetensors, writeSafetensors } from '../../src/models/safetensors.ts';
import { temporaryFolder, tinyDenseAe, tinyDenseGan, tinyRows } from '../models/tiny.ts';
import { matganHere } from './here.ts';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const reference = ['--device', 'reference'];
const rows = 40;
const { packed } = tinyRows(rows);

beforeAll(async () => {
  const formulas = Array.from({ length: rows }, (_, row) => formatFormula(unpackRow(packed, row)));
  writeFileSync(at('data.csv'), `formula\n${formulas.join('\n')}\n`);
  for (const [name, kind, config] of [
    ['averaged', 'gan', tinyDenseGan({ averaging: 0.9 })],
    ['plain', 'gan', tinyDenseGan({ averaging: 0 })],
    ['ae', 'ae', tinyDenseAe()],
  ] as const) {
    writeFileSync(at(`${name}.json`), JSON.stringify(config));
    const preset = kind === 'ae' ? ['--preset', 'demo-ae'] : [];
    const given = ['--data', at('data.csv'), ...preset, '--config', at(`${name}.json`), '--steps', '3'];
    expect(await matganHere('train', kind, ...given, '--out', at(name), ...reference)).toMatchObject({ status: 0 });
  }
});

const size = (path: string): number => statSync(path).size;
const names = (path: string): string[] => Object.keys(readSafetensors(path).tensors);

describe('the name of a model that ships', () => {
  it('is that model where a folder of the name is no run, and the run where it is one', () => {
    const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));
    const cwd = temporaryFolder();
    const rowsOf = (out: string): number => {
      const { status, stderr } = spawnSync(process.execPath, [bin, 'export', 'icsd', '--out', out], { cwd });
      expect({ status, stderr: String(stderr) }).toMatchObject({ status: 0 });
      return readCheckpoint(join(cwd, out)).data.rows;
    };
    mkdirSync(join(cwd, 'icsd'));
    expect(rowsOf('shipped.safetensors')).toBe(24_462);
    copyFileSync(join(at('averaged'), 'checkpoint.safetensors'), join(cwd, 'icsd', 'checkpoint.safetensors'));
    expect(rowsOf('own.safetensors')).toBeLessThan(100);
  });
});

describe('matgan export', () => {
  it.each(['averaged', 'plain'])('%s: the generator alone, which generates the same', async (name) => {
    const out = at(`${name}.safetensors`);
    const { status, stdout } = await matganHere('export', at(name), '--out', out, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ model: 'gan', step: 3, float16: false, bytes: size(out), out });
    expect(size(out)).toBeLessThan(0.5 * size(at(`${name}/checkpoint.safetensors`)));
    const kept =
      name === 'averaged'
        ? /^(generator\.average\/average\/|generator\.running$|step$)/
        : /^(generator\/weights\/|generator\.running$|step$)/;
    for (const tensor of names(out)) expect(tensor).toMatch(kept);
    const made = async (model: string, to: string): Promise<string> => {
      const given = ['--count', '40', '--seed', '3', '--out', at(to), '--force', ...reference];
      expect((await matganHere('generate', model, ...given)).status).toBe(0);
      return readFileSync(at(to), 'utf8');
    };
    expect(await made(out, 'b.csv')).toBe(await made(at(name), 'a.csv'));
  });

  it('--float16: half the bytes, each weight the nearest, the rest as it is', async () => {
    const [whole, half] = [at('whole.safetensors'), at('half.safetensors')];
    await matganHere('export', at('averaged'), '--out', whole);
    const { status, stderr } = await matganHere('export', at('averaged'), '--float16', '--out', half);
    expect([status, stderr]).toEqual([0, `wrote ${size(half)} bytes to ${half}: gan after 3 steps\n`]);
    const [a, b] = [readSafetensors(whole), readSafetensors(half)];
    expect(Object.keys(b.tensors).sort()).toEqual(Object.keys(a.tensors).sort());
    for (const [name, { data }] of Object.entries(a.tensors)) {
      if (name === 'step') continue;
      const rounded = b.tensors[name].data as Float32Array;
      (data as Float32Array).forEach((x, i) => {
        expect(Math.abs(rounded[i] - x)).toBeLessThanOrEqual(Math.max(2 ** -11 * Math.abs(x), 2 ** -25));
      });
    }
    // What is no weight (here batch norm's moments) stays whole.
    const weights = Object.entries(a.tensors).filter(([name]) => name.includes('/'));
    expect(weights.length).toBeLessThan(Object.keys(a.tensors).length - 1);
    const saved = weights.reduce((sum, [, { data }]) => sum + 2 * data.length, 0);
    const bytes = [whole, half].map((file) => {
      const raw = readFileSync(file);
      return raw.length - 8 - Number(raw.readBigUInt64LE());
    });
    expect(bytes[0] - bytes[1]).toBe(saved);
    expect(readCheckpoint(half)).toMatchObject({ step: 3, weightsOnly: true, data: readCheckpoint(whole).data });
    const drawn = await matganHere('generate', half, '--count', '20', '--out', at('h.csv'), ...reference);
    expect(drawn.status).toBe(0);
  });

  it('an autoencoder: both networks, put back with zeros for the optimiser', async () => {
    const out = at('ae.safetensors');
    expect((await matganHere('export', at('ae'), '--out', out)).status).toBe(0);
    for (const tensor of names(out)) expect(tensor).toMatch(/^(autoencoder\/weights\/|autoencoder\.running$|step$)/);
    const [from, to] = [readCheckpoint(at('ae/checkpoint.safetensors')), readCheckpoint(out)];
    const executor = new ReferenceExecutor();
    const trainer = makeTrainer(to.config, rows);
    restore(executor, trainer, to);
    const state = trainer.state[0];
    const values = (await executor.read(state.node)) as Float32Array;
    const { list, size: each } = state.parameters!;
    for (const { name, offset, shape } of list) {
      const count = shape.reduce((n, d) => n * d, 1);
      expect(values.slice(offset, offset + count)).toEqual(from.tensors[`autoencoder/weights/${name}`].data);
    }
    expect(values.slice(each).every((x) => x === 0)).toBe(true);
  });

  it('training cannot go on from it', async () => {
    const run = at('resumed');
    await matganHere(
      'train',
      'gan',
      '--data',
      at('data.csv'),
      '--config',
      at('plain.json'),
      '--steps',
      '1',
      '--out',
      run,
      ...reference,
    );
    await matganHere('export', at('plain'), '--out', at('weights.safetensors'));
    copyFileSync(at('weights.safetensors'), join(run, 'checkpoint.safetensors'));
    const { status, stderr } = await matganHere('train', 'gan', '--resume', '--out', run, '--steps', '5', ...reference);
    expect(status).toBe(2);
    expect(stderr).toMatch(/CheckpointError: .*: it was exported without its optimisers and cannot be trained on/);
  });

  it('--best takes the best checkpoint, where there is one', async () => {
    rmSync(at('plain/best.safetensors'), { force: true });
    const none = await matganHere('export', at('plain'), '--best', '--out', at('best.safetensors'));
    expect([none.status, none.stderr]).toEqual([
      2,
      expect.stringMatching(/no best.safetensors in it; training writes/),
    ]);
    copyFileSync(at('averaged/checkpoint.safetensors'), at('plain/best.safetensors'));
    expect((await matganHere('export', at('plain'), '--best', '--out', at('best.safetensors'))).status).toBe(0);
    expect(names(at('best.safetensors')).some((name) => name.startsWith('generator.average/'))).toBe(true);
  });

  it('a weight beyond float16, a model without a tensor, one that is not finite', async () => {
    const { tensors, metadata } = readSafetensors(at('plain/checkpoint.safetensors'));
    const name = Object.keys(tensors).find((tensor) => tensor.startsWith('generator/weights/'))!;
    const change = (value: number): void => {
      const data = (tensors[name].data as Float32Array).slice();
      data[0] = value;
      writeSafetensors(
        at('changed.safetensors'),
        { ...tensors, [name]: { ...tensors[name], data } as never },
        metadata,
      );
    };
    change(70_000);
    const large = await matganHere('export', at('changed.safetensors'), '--float16', '--out', at('no.safetensors'));
    expect([large.status, large.stderr]).toEqual([
      2,
      expect.stringContaining(`tensor ${name} has 70000 at 0, beyond float16`),
    ]);
    expect((await matganHere('export', at('changed.safetensors'), '--out', at('large.safetensors'))).status).toBe(0);
    change(Number.NaN);
    const nan = await matganHere('export', at('changed.safetensors'), '--out', at('no.safetensors'));
    expect([nan.status, nan.stderr]).toEqual([2, expect.stringContaining(`${name} is not finite`)]);
    const { [name]: _, ...rest } = tensors;
    writeSafetensors(at('changed.safetensors'), rest, metadata);
    const missing = await matganHere('export', at('changed.safetensors'), '--out', at('no.safetensors'));
    expect([missing.status, missing.stderr]).toEqual([2, expect.stringContaining(`${name} is missing`)]);
    // Optimisers' moments may be missing of an exported model, weights never.
    writeSafetensors(at('changed.safetensors'), rest, { ...metadata, weights: 'F32' });
    const hollow = await matganHere(
      'generate',
      at('changed.safetensors'),
      '--count',
      '2',
      '--out',
      at('n.csv'),
      ...reference,
    );
    expect([hollow.status, hollow.stderr]).toEqual([2, expect.stringContaining(`${name} is missing`)]);
    expect(existsSync(at('no.safetensors'))).toBe(false);
  });

  it.each([
    ['another ending', ['--out', at('x.bin')], /ends in \.safetensors/],
    ['a file that is there', ['--out', at('plain/checkpoint.safetensors')], /it exists; take another name, or --force/],
    ['itself', ['--out', at('plain/checkpoint.safetensors'), '--force'], /the model itself/],
    ['a folder that is not there', ['--out', at('none/x.safetensors')], /no such file or folder/],
  ])('%s is refused', async (_, args, message) => {
    const before = readFileSync(at('plain/checkpoint.safetensors'));
    const { status, stderr } = await matganHere('export', at('plain'), ...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
    expect(readFileSync(at('plain/checkpoint.safetensors'))).toEqual(before);
  });
});
