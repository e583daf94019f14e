/** Model files: what was written comes back, what others wrote is held against what a forest is; ONNX against onnxruntime. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Stream } from '../../../src/autograd/philox.ts';
import { CheckpointError } from '../../../src/errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../../src/models/safetensors.ts';
import {
  checkForest,
  checkInputs,
  isTrees,
  readTrees,
  type TreesModel,
  writeTrees,
} from '../../../src/models/trees/files.ts';
import { type Forest, predict, uncertaintiesOf } from '../../../src/models/trees/forest.ts';
import { writeOnnx } from '../../../src/models/trees/onnx.ts';
import { trainTrees } from '../../../src/models/trees/train.ts';
import { temporaryFolder } from '../tiny.ts';
import { noise, settings, targetOf } from './made.ts';

const folder = temporaryFolder();
const file = join(folder, 'trees.safetensors');
const bad = join(folder, 'bad.safetensors');
const table = noise(500, 6, { missing: 0.1 });
const config = settings({ trees: 20, learningRate: 0.2, rowShare: 0.6, growth: { kind: 'depth', depth: 9 } });
let model: TreesModel;

beforeAll(async () => {
  const { forest } = await trainTrees(table, targetOf(table), config);
  const columns = ['a', 'b', 'c', 'd', 'e', 'größe "f"'];
  const data = { rows: 500, fingerprint: 'abc' };
  const uncertain = settings({
    trees: 3,
    earlyStopping: { share: 0.3, patience: 3 },
    uncertainty: { trees: 6, learningRate: 0.1, leaves: 4, leafRows: 9 },
  });
  const { error } = await trainTrees(table, targetOf(table), uncertain);
  model = { forest, error, config, columns, descriptors: 'magpie 1', target: 'gap', data, measured: { mae: 0.25 } };
  writeTrees(file, model);
});

describe('a model file', () => {
  it('gives back what was written', () => {
    const read = readTrees(file);
    expect(read).toEqual(model);
    expect(predict(read.forest, table.values)).toEqual(predict(model.forest, table.values));
    expect(uncertaintiesOf(read.error!, table.values)).toEqual(uncertaintiesOf(model.error!, table.values));
    expect(isTrees(file)).toBe(true);
    expect(isTrees(folder)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.includes('tmp'))).toEqual([]);
  });

  it('of before there were uncertainties is read', () => {
    const { error: _, ...old } = model;
    writeTrees(bad, old);
    expect(Object.keys(readSafetensors(bad).tensors).sort()).toEqual([
      'base',
      'gain',
      'right',
      'split',
      'starts',
      'value',
    ]);
    expect(readTrees(bad)).toEqual(old);
  });

  it('without a tree predicts its base', () => {
    const { columns, gain } = model.forest;
    const none = { split: new Int32Array(0), value: new Float32Array(0), right: new Uint32Array(0) };
    const forest = { columns, base: 1.5, starts: Uint32Array.of(0), gain, ...none };
    writeTrees(bad, { ...model, forest });
    expect([...predict(readTrees(bad).forest, table.values.subarray(0, 12))]).toEqual([1.5, 1.5]);
  });

  /** The file with something of it changed. */
  function write(change: (tensors: Record<string, Tensor>, metadata: Record<string, string>) => void): void {
    const { tensors, metadata } = readSafetensors(file);
    const copy = { ...tensors };
    const facts = { ...metadata };
    change(copy, facts);
    writeSafetensors(bad, copy, facts);
  }
  const set = (name: string, at: number, value: number) => (tensors: Record<string, Tensor>) => {
    (tensors[name].data as Float32Array)[at] = value;
  };
  const inner = (): number => model.forest.split.findIndex((s, i) => s >= 0 && i > 0);
  const leaf = (): number => model.forest.split.indexOf(-1);

  it.each<[string, Parameters<typeof write>[0], RegExp]>([
    ['another format', (_, m) => void (m.format = 'x'), /it holds no trees \(format "x"\)/],
    ['no format', (_, m) => void delete m.format, /it holds no trees/],
    ['settings that are none', (_, m) => void (m.config = '{"model":"trees"}'), /its config: settings: seed/],
    ['no JSON', (_, m) => void (m.inputs = '{'), /its metadata inputs is no JSON/],
    ['columns without names', (_, m) => void (m.inputs = '{"columns":[],"descriptors":""}'), /its inputs: columns/],
    [
      'columns of one name',
      (_, m) => void (m.inputs = '{"columns":["a","a","c","d","e","f"],"descriptors":""}'),
      /two of its columns/,
    ],
    [
      'another number of columns',
      (_, m) => void (m.inputs = '{"columns":["a","b"],"descriptors":""}'),
      /gain has 6 numbers for 2 columns/,
    ],
    ['facts with more in them', (_, m) => void (m.facts = m.facts.replace('{', '{"x":1,')), /its facts: .*x/i],
    ['a missing tensor', (t) => void delete t.right, /the tensor right is missing/],
    ['an unknown tensor', (t) => void (t.more = t.base), /unknown tensor more/],
    [
      'another type',
      (t) => void (t.split = { dtype: 'U32', shape: t.split.shape, data: new Uint32Array(t.split.data as Int32Array) }),
      /tensor split is U32/,
    ],
    ['two dimensions', (t) => void (t.base = { ...t.base, shape: [1, 1] }), /tensor base is F32 \[1,1\]/],
    [
      'too few values',
      (t) => void (t.value = { dtype: 'F32', shape: [3], data: new Float32Array(3) }),
      /split, value and right have \d+, 3 and/,
    ],
    ['a base of NaN', set('base', 0, Number.NaN), /base is no finite number/],
    ['a gain below 0', set('gain', 2, -1), /gain of column 2 is -1/],
    ['starts that do not start', set('starts', 0, 1), /starts must run from 0/],
    ['starts that run back', set('starts', 3, 1), /has no nodes|right child|should follow|before its last leaf/],
    ['a start beyond the nodes', set('starts', 1, 4e9), /has no nodes/],
    ['no scale of the errors', (_, m) => void delete m.error, /tensors of errors without their scale/],
    ['a scale below 0', (_, m) => void (m.error = '{"scale":-1}'), /its error: scale/],
    ['a scale that is none', (_, m) => void (m.error = '{"scale":null}'), /its error: scale/],
    ['a scale beyond all numbers', (_, m) => void (m.error = '{"scale":1e999}'), /its error: scale/],
    ['a scale and more', (_, m) => void (m.error = '{"scale":1,"x":1}'), /its error: .*x/i],
    ['a scale in no JSON', (_, m) => void (m.error = '1,'), /its metadata error is no JSON/],
    [
      'a scale alone',
      (t) => {
        for (const name of Object.keys(t)) if (name.startsWith('error.')) delete t[name];
      },
      /the scale of errors without their tensors/,
    ],
    ['a missing tensor of the errors', (t) => void delete t['error.right'], /the tensor error\.right is missing/],
    ['an unknown tensor of the errors', (t) => void (t['error.more'] = t.base), /unknown tensor error\.more/],
    ['errors below 0', set('error.base', 0, -1), /error\.base is -1, and no error is below 0/],
    ['errors of NaN', set('error.base', 0, Number.NaN), /error\.base is no finite number/],
    [
      'a leaf of the errors that is no number',
      set('error.value', 0, Number.NaN),
      /error: tree 0, node 0: its .* is NaN/,
    ],
    ['a split of the errors by no column', set('error.split', 0, 12), /error: tree 0, node 0: column 6 of 6/],
    ['a circle in the errors', set('error.right', 0, 0), /error: tree 0, node 0: its right child 0 is none/],
    [
      'errors of other columns',
      (t) => void (t['error.gain'] = t['error.base']),
      /error: gain has 1 numbers for 6 columns/,
    ],
  ])('%s is refused', (_, change, message) => {
    write(change);
    expect(() => readTrees(bad)).toThrow(CheckpointError);
    expect(() => readTrees(bad)).toThrow(message);
  });

  it('nodes that are no tree are refused', () => {
    const cases: [string, number, number, RegExp][] = [
      ['value', inner(), Number.NaN, /its threshold is NaN/],
      ['value', leaf(), Number.POSITIVE_INFINITY, /its value is Infinity/],
      ['split', inner(), 12, /column 6 of 6/],
      ['split', inner(), 2 ** 31 - 1, /column \d+ of 6/],
      ['split', leaf(), -2, /a leaf has split -1/],
      ['right', leaf(), 1, /a leaf has split -1 and right 0, not -1 and 1/],
      // A node that is its own child, one of its parents, or beyond the tree.
      ['right', inner(), inner(), /its right child \d+ is none of the nodes/],
      ['right', inner(), 0, /its right child 0 is none/],
      ['right', inner(), 4e9, /its right child 4000000000 is none/],
      ['split', leaf(), 0, /right child 0 is none/],
      ['split', inner(), -1, /a leaf has split -1 and right 0/],
    ];
    for (const [name, at, value, message] of cases) {
      write(set(name, at, value));
      expect(() => readTrees(bad), `${name} ${value}`).toThrow(message);
    }
  });

  it('a chain of 65 splits is refused, one of 64 is not', () => {
    const chain = (depth: number): Forest => {
      const split = Int32Array.from({ length: 2 * depth + 1 }, (_, i) => (i < depth ? 0 : -1));
      const right = Uint32Array.from(split, (s, i) => (s < 0 ? 0 : 2 * depth - i));
      return {
        columns: 1,
        base: 0,
        starts: Uint32Array.of(0, split.length),
        split,
        right,
        value: new Float32Array(split.length),
        gain: new Float32Array(1),
      };
    };
    const fail = (what: string): never => {
      throw new Error(what);
    };
    expect(() => checkForest(chain(64), fail)).not.toThrow();
    expect(() => checkForest(chain(65), fail)).toThrow(/more than 64 splits deep/);
  });

  it('whatever is changed, it is refused in one line or predicts numbers', () => {
    const stream = new Stream(5);
    const whole = readFileSync(file);
    const { tensors } = readSafetensors(file);
    const names = Object.keys(tensors);
    let accepted = 0;
    for (let i = 0; i < 300; i++) {
      if (i % 3 === 0) {
        const bytes = Buffer.from(whole);
        for (let k = 0; k <= stream.below(3); k++) bytes[stream.below(bytes.length)] = stream.below(256);
        writeFileSync(bad, bytes);
      } else {
        write((t) => {
          const name = names[stream.below(names.length)];
          const { data } = t[name] as { data: Float32Array };
          const odd = [0, 1, -1, 2 ** 31 - 1, 2 ** 32 - 1, Number.NaN, Number.POSITIVE_INFINITY, stream.below(50)];
          if (stream.below(4) === 0)
            t[name] = { ...t[name], data: data.slice(0, stream.below(data.length + 1)) } as Tensor;
          else data[stream.below(data.length)] = odd[stream.below(odd.length)];
          t[name].shape = [t[name].data.length];
        });
      }
      try {
        const { forest, error } = readTrees(bad);
        const width = forest.columns;
        const found = predict(forest, new Float32Array(4 * width).fill(0.3).fill(Number.NaN, width, 2 * width));
        expect(found.every(Number.isFinite)).toBe(true);
        const claimed = error && uncertaintiesOf(error, new Float32Array(2 * width).fill(0.3));
        expect(claimed?.every((v) => Number.isFinite(v) && v >= 0) ?? true).toBe(true);
        accepted++;
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
        expect((error as Error).message).not.toContain('\n');
      }
    }
    expect(accepted).toBeGreaterThan(10);
    expect(accepted).toBeLessThan(250);
  });

  it.each<[string, Partial<TreesModel>, RegExp]>([
    [
      'other descriptors',
      { descriptors: 'magpie 2' },
      /trained on descriptors magpie 1, these are magpie 2; train it anew/,
    ],
    ['no descriptors', { descriptors: '' }, /trained on descriptors magpie 1, these are none/],
    ['fewer columns', { columns: ['a'] }, /it takes 6 columns, not 1/],
    ['columns in another order', { columns: ['b', 'a', 'c', 'd', 'e', 'f'] }, /its column 1 is a, not b/],
  ])('of %s is refused by name', (_, given, message) => {
    expect(() => checkInputs(file, model, { ...model, ...given })).toThrow(CheckpointError);
    expect(() => checkInputs(file, model, { ...model, ...given })).toThrow(message);
    expect(() => checkInputs(file, model, model)).not.toThrow();
  });
});

describe('ONNX', () => {
  it('predicts the same in onnxruntime, missing values and values on thresholds too', async () => {
    const { InferenceSession, Tensor: OnnxTensor } = await import('onnxruntime-node');
    const path = join(folder, 'trees.onnx');
    writeOnnx(path, model);
    expect(existsSync(path)).toBe(true);
    // Every threshold itself, the next float above, and what was trained on.
    const { split, value, columns } = model.forest;
    const edges: number[] = [];
    split.forEach((s, at) => {
      if (s < 0 || edges.length > 400 * columns) return;
      const bits = new Int32Array(Float32Array.of(value[at]).buffer);
      const above = new Float32Array(Int32Array.of(bits[0] + (value[at] < 0 ? -1 : 1)).buffer)[0];
      for (const v of [value[at], above]) {
        const row = Array.from(table.values.subarray(0, columns));
        row[s >> 1] = v;
        edges.push(...row);
      }
    });
    const values = Float32Array.of(...table.values, ...edges);
    const rows = values.length / columns;
    const session = await InferenceSession.create(path);
    const { prediction } = await session.run({ features: new OnnxTensor('float32', values, [rows, columns]) });
    const found = prediction.data as Float32Array;
    const own = predict(model.forest, values);
    expect(found.length).toBe(rows);
    const gap = Math.hypot(...own.map((v, i) => v - found[i])) / Math.hypot(...own);
    expect(gap).toBeLessThan(1e-6);
    // Sums in float64: what is left is one rounding to float32.
    own.forEach((v, i) => {
      expect(Math.abs(v - found[i])).toBeLessThanOrEqual(2 ** -23 * Math.abs(v) + 1e-12);
    });
    await session.release();
  });
});
