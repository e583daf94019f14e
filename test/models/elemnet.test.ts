/** ElemNet: its loss and gradients against PyTorch, dropout, predictions with their uncertainty, and tables of targets. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { type GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { type Node, sizeOf, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { packFormula } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { packedFractions, writeFractions } from '../../src/chem/fractions.ts';
import { loadTargets } from '../../src/chem/targets.ts';
import { CheckpointError, DataError, FormulaError } from '../../src/errors.ts';
import { calibrate, uncertainty } from '../../src/models/calibration.ts';
import { type ElemNetConfig, loadConfig } from '../../src/models/config.ts';
import { ElementSums } from '../../src/models/elementSums.ts';
import { elemNetTrainer, madeUpTable } from '../../src/models/elemnet.ts';
import { elemNet } from '../../src/models/elemnetNetwork.ts';
import { elementSums, propertyModel } from '../../src/models/predictor.ts';
import { findCheckpoint, regressionData } from '../../src/models/run.ts';
import { fractionsOf, tableOf, targetsAt, targetsOf } from '../../src/models/table.ts';
import { propertyCharts, propertyReport } from '../../src/report/property.ts';
import { describeGpu } from '../gpu.ts';
import {
  logOf,
  openGpu,
  temporaryFolder,
  tinyElemNet,
  tinyPlainElemNet,
  tinyRows,
  tinyTable,
  trainTiny,
} from './tiny.ts';

interface Golden {
  predictions: number[];
  loss: number;
  gradients: { name: string; norm: number; dot: number }[];
}
const golden = JSON.parse(readFileSync(new URL('../golden/torch/elemnet.json', import.meta.url), 'utf8')) as Record<
  'plain' | 'residual',
  Golden
>;
/** test/golden/torch/elemnet.py has the same. */
const wave = (i: number, k: number): number => 0.4 * Math.sin(0.7 * i + k);
const goldenRows = 5;
const goldenFractions = new Float64Array(goldenRows * 85);
for (let r = 0; r < goldenRows; r++) {
  const parts = Array.from({ length: 2 + (r % 3) }, (_, j) => 1 + ((r * 3 + j) % 4));
  const total = parts.reduce((sum, part) => sum + part);
  parts.forEach((part, j) => {
    goldenFractions[r * 85 + ((7 * r + 19 * j) % 85)] = part / total;
  });
}
const networks: Record<'plain' | 'residual', ElemNetConfig['network']> = {
  plain: {
    kind: 'plain',
    blocks: [
      { units: 6, layers: 2, keep: 1 },
      { units: 4, layers: 1, keep: 1 },
    ],
  },
  residual: { ...tinyElemNet().network, width: 5, hidden: 4 } as ElemNetConfig['network'],
};

describe('against PyTorch', () => {
  it.each(['plain', 'residual'] as const)('%s: predictions, loss, every gradient', (kind) => {
    const graph = newGraph();
    const { parameters, members } = elemNet({ network: networks[kind], members: 1 });
    const flat = graph.variable('weights', [parameters.size]);
    const x = graph.variable('x', [goldenRows, 85]);
    const wanted = graph.variable('wanted', [goldenRows, 1]);
    const weights = parameters.views(flat);
    const y = members[0].rest(members[0].first(x, weights), weights, (h) => h);
    const loss = b.mean(b.abs(b.sub(y, wanted)));
    const data = new Float64Array(parameters.size);
    parameters.list.forEach(({ shape, offset }, k) => {
      for (let i = 0; i < sizeOf(shape); i++) data[offset + i] = wave(i, k);
    });
    const values = new Map<Node, Value>([
      [flat, { shape: flat.shape, data }],
      [x, { shape: x.shape, data: goldenFractions }],
      [wanted, { shape: wanted.shape, data: Float64Array.from({ length: goldenRows }, (_, r) => Math.sin(2 * r + 1)) }],
    ]);
    const { predictions, loss: expected, gradients } = golden[kind];
    const results = evaluate([y, loss, ...grad(loss, weights)], (node) => values.get(node)!);
    predictions.forEach((value, r) => {
      expect(results[0].data[r]).toBeCloseTo(value, 10);
    });
    expect(results[1].data[0]).toBeCloseTo(expected, 10);
    expect(parameters.list.map(({ name }) => name)).toEqual(gradients.map(({ name }) => name));
    gradients.forEach(({ name, norm, dot }, k) => {
      const g = results[2 + k].data;
      expect(Math.hypot(...g), name).toBeCloseTo(norm, 9);
      expect(
        g.reduce((sum, v, i) => sum + v * wave(i, 0.5), 0),
        name,
      ).toBeCloseTo(dot, 9);
    });
  });
});

describe('the trainer', () => {
  /** Loss and predictions of a trainer's first step on made-up weights. */
  const lossOf = (config: ElemNetConfig, step = 0): number => {
    const table = tinyTable().train;
    const trainer = elemNetTrainer(config, table.rows);
    const values = new Map<Node, Value>(
      trainer.state.map(({ node, initial }) => [node, { shape: node.shape, data: Float64Array.from(initial(table)) }]),
    );
    values.set(trainer.step, { shape: [2], data: Float64Array.of(step, 0) });
    values.set(trainer.data, { shape: trainer.data.shape, data: Float64Array.from(table.values) });
    return evaluate([trainer.outputs.loss], (node) => values.get(node)!)[0].data[0];
  };

  it('shows the mean absolute error in the unit of the target', () => {
    // Of a network that says the mean of every row: all weights are zero.
    const table = tinyTable().train;
    const config = tinyPlainElemNet({ batch: table.rows });
    const trainer = elemNetTrainer(config, table.rows);
    const values = new Map<Node, Value>(
      trainer.state.map(({ node, initial, parameters }) => {
        const data = Float64Array.from(initial(table));
        return [node, { shape: node.shape, data: parameters ? data.fill(0) : data }];
      }),
    );
    values.set(trainer.step, { shape: [2], data: new Float64Array(2) });
    values.set(trainer.data, { shape: trainer.data.shape, data: Float64Array.from(table.values) });
    const [loss] = evaluate([trainer.outputs.loss], (node) => values.get(node)!);
    const targets = targetsOf(table);
    const mean = targets.reduce((sum, v) => sum + v, 0) / targets.length;
    // A batch of all rows is a permutation of them.
    expect(loss.data[0]).toBeCloseTo(targets.reduce((sum, v) => sum + Math.abs(v - mean), 0) / targets.length, 6);
  });

  it('dropout: another mask each step, and on average the network without it', () => {
    const network = (keep: number): ElemNetConfig['network'] => ({
      kind: 'plain',
      blocks: [{ units: 40, layers: 1, keep }],
    });
    const graph = newGraph();
    const { parameters, members } = elemNet({ network: network(0.7), members: 1 });
    const flat = graph.variable('weights', [parameters.size]);
    const x = graph.variable('x', [1, 85]);
    const step = graph.variable('step', [2], 'u32');
    const weights = parameters.views(flat);
    const y = members[0].rest(members[0].first(x, weights), weights, (h, draw, rate) =>
      b.mul(h, b.randomMask(step, h.shape, { key: [1, 2], stream: draw, rate })),
    );
    const plain = members[0].rest(members[0].first(x, weights), weights, (h) => h);
    const values = new Map<Node, Value>([
      [flat, { shape: flat.shape, data: Float64Array.from({ length: parameters.size }, (_, i) => wave(i, 1)) }],
      [x, { shape: x.shape, data: goldenFractions.subarray(0, 85) }],
    ]);
    const many = 2000;
    const drawn = Array.from({ length: many }, (_, t) => {
      values.set(step, { shape: [2], data: Float64Array.of(t, 0) });
      return evaluate([y], (node) => values.get(node)!)[0].data[0];
    });
    const [expected] = evaluate([plain], (node) => values.get(node)!)[0].data;
    const mean = drawn.reduce((sum, v) => sum + v / many, 0);
    const deviation = Math.sqrt(drawn.reduce((sum, v) => sum + (v - mean) ** 2 / many, 0));
    expect(deviation).toBeGreaterThan(0.01);
    expect(Math.abs(mean - expected)).toBeLessThan((4 * deviation) / Math.sqrt(many));
    // In training too: a step's loss depends on its masks.
    const config = tinyPlainElemNet({ batch: 30 });
    expect(lossOf(config, 0)).not.toBeCloseTo(lossOf(config, 1), 3);
    const without = { ...config, network: network(1) };
    expect(lossOf(without, 0)).toBeCloseTo(lossOf(without, 1), 6);
  });

  it.each([0, 3])('with %d bumps: sums by element are what the first layer makes of fractions', (k) => {
    const bumps = Array.from({ length: k }, (_, i) => ({ at: 0.2 * (i + 1), width: 0.1 }));
    const network = { ...tinyElemNet().network, bumps, embedding: 0 } as ElemNetConfig['network'];
    const graph = newGraph();
    const { parameters, members } = elemNet({ network, members: 2 });
    const flat = graph.variable('weights', [parameters.size]);
    const x = graph.variable('x', [goldenRows, 85]);
    const firsts = members.map((member) => member.first(x, parameters.views(flat)));
    const data = Float32Array.from({ length: parameters.size }, (_, i) => wave(i, 2));
    const values = new Map<Node, Value>([
      [flat, { shape: flat.shape, data: Float64Array.from(data) }],
      [x, { shape: x.shape, data: Float64Array.from(goldenFractions, Math.fround) }],
    ]);
    const expected = evaluate(firsts, (node) => values.get(node)!);
    const sums = elementSums({ network, members: 2 }, data)!;
    const out = new Float32Array(2 * goldenRows * sums.width).fill(Number.NaN);
    for (let row = goldenRows - 1; row >= 0; row--)
      sums.write(Float32Array.from(goldenFractions), row, out, goldenRows);
    expect(Math.max(...expected[1].data.map(Math.abs))).toBeGreaterThan(0.1);
    expected.forEach(({ data }, m) => {
      data.forEach((value, i) => {
        expect(out[m * data.length + i]).toBeCloseTo(value, 5);
      });
    });
  });

  it('has sums by element only where elements do not mix', () => {
    const mixed = { ...tinyElemNet().network, embedding: 2 } as ElemNetConfig['network'];
    expect(elementSums({ network: mixed, members: 1 }, new Float32Array(100_000))).toBeUndefined();
    expect(elementSums({ network: networks.plain, members: 1 }, new Float32Array(100_000))).toBeUndefined();
  });

  it('forgets parts of fractions rather than keep more than so many, and still is right', () => {
    const layer = { bias: new Float32Array(1), linear: new Float32Array(85).fill(2), bumps: new Float32Array(0) };
    const sums = new ElementSums([layer], []);
    const fractions = new Float32Array(85);
    const out = new Float32Array(1);
    for (let i = 1; i <= 45_000; i++) {
      fractions[7] = i / 45_000;
      sums.write(fractions, 0, out, 1);
      if (out[0] !== Math.fround(2 * fractions[7])) expect(out[0]).toBe(Math.fround(2 * fractions[7]));
    }
    expect(sums.kept).toBe(5_000);
  });

  it('members are what they would be alone, but for their start', () => {
    const { members, parameters } = elemNet(tinyElemNet());
    expect(members).toHaveLength(2);
    expect(parameters.list.filter(({ name }) => name.startsWith('member1.'))).toHaveLength(parameters.list.length / 2);
  });

  it('elemnet-paper is seventeen layers', () => {
    const { network } = loadConfig('elemnet', { preset: 'elemnet-paper' });
    const widths = [85, ...[1024, 1024, 1024, 1024, 512, 512, 512, 256, 256, 256, 128, 128, 128, 64, 64, 32], 1];
    const count = widths.slice(1).reduce((sum, units, i) => sum + (widths[i] + 1) * units, 0);
    const { parameters } = elemNet({ network, members: 1 });
    expect(parameters.list.filter(({ name }) => name.endsWith('.weights'))).toHaveLength(17);
    expect(parameters.count).toBe(count);
  });
});

describe('calibration', () => {
  const many = 20_000;
  const spreads = Float64Array.from({ length: many }, (_, i) => (i % 100) / 100);
  const normal = (i: number): number =>
    Math.sqrt(-2 * Math.log((i + 0.5) / many)) * Math.cos(2 * Math.PI * ((i * 0.618_034) % 1));
  it('finds floor and slope, and covers 68 %', () => {
    const errors = spreads.map((s, i) => Math.abs(normal((i * 7919) % many)) * (0.1 + 2 * s));
    const found = calibrate(spreads, errors);
    expect(found.floor).toBeGreaterThan(0.05);
    expect(found.floor).toBeLessThan(0.2);
    expect(found.slope).toBeGreaterThan(1.7);
    expect(found.slope).toBeLessThan(2.3);
    const within = errors.filter((e, i) => e <= uncertainty(spreads[i], found)).length / many;
    expect(within).toBeCloseTo(0.6827, 2);
  });
  it('a spread that says nothing: a constant', () => {
    const errors = spreads.map((_, i) => Math.abs(normal((i * 7919) % many)));
    const { floor, slope } = calibrate(spreads, errors);
    expect(slope * 0.5).toBeLessThan(0.1 * floor);
    expect(calibrate(new Float64Array(many), errors).slope).toBe(0);
  });
  it('no errors at all, and none but one', () => {
    expect(calibrate([1, 2], [0, 0])).toEqual({ floor: 0, slope: 1 });
    expect(calibrate([0], [0])).toEqual({ floor: 0, slope: 0 });
    expect(uncertainty(0, calibrate([0], [2]))).toBeCloseTo(2);
  });
});

describe('fractions', () => {
  const of = (text: string): Record<number, number> => {
    const out = new Float32Array(170).fill(7);
    writeFractions(parseFormula(text), out, 85);
    return Object.fromEntries([...out.subarray(85)].flatMap((v, e) => (v > 0 ? [[e, Number(v.toFixed(6))]] : [])));
  };
  it('of whole, large and fractional amounts', () => {
    expect(of('Fe2O3')).toEqual({ 6: 0.6, 22: 0.4 });
    expect(of('Fe200O300')).toEqual(of('Fe2O3'));
    expect(of('Fe0.95O')).toEqual({ 6: 0.512821, 22: 0.487179 });
  });
  it('an element outside the 85 is named', () => {
    expect(() => of('HeO')).toThrow(FormulaError);
    expect(() => of('HeO')).toThrow(/He is none of the 85 elements/);
  });
  it('of packed rows are the same', () => {
    const [one, other] = [new Float32Array(85), new Float32Array(85)];
    writeFractions(parseFormula('Ba2Ca3Cu4O8'), one);
    packedFractions(packFormula(parseFormula('Ba2Ca3Cu4O8')), 0, other);
    expect(other).toEqual(one);
  });
});

describe('tables of targets', () => {
  const folder = mkdtempSync(join(tmpdir(), 'matgan-elemnet-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const load = (text: string, target = 'energy') => {
    const file = join(folder, 'table.csv');
    writeFileSync(file, text);
    return loadTargets(file, { target });
  };
  it('what is left out is counted, with the first of each kind; the lowest of equal formulas stays', async () => {
    const loaded = await load(
      'formula,energy\nNaCl,-2\nNa2Cl2,-2.5\nFe0.95O,-1\nHeO,1\nKCl,\nLiF,nan\nLiCl,-Infinity\nLiBr,abc\nLiI,12345\nxx,1\nMgO,-3\nCaO,-3\nSrO,-2\nBaO,-2\n',
    );
    expect(loaded.formulas).toEqual(['NaCl', 'Fe19O20', 'MgO', 'CaO', 'SrO', 'BaO']);
    expect([...loaded.targets]).toEqual([-2.5, -1, -3, -3, -2, -2]);
    expect(loaded).toMatchObject({ rows: 6, read: 14, withoutTarget: 1, duplicates: 1 });
    expect(loaded.unusable).toEqual({
      'element outside the 85': { count: 1, first: expect.stringMatching(/^row 4: .*He is none of the 85/) },
      'the target is not finite': { count: 2, first: 'row 6: "nan"' },
      'the target is no number': { count: 1, first: 'row 8: "abc"' },
      'the target is beyond ±100; it must be in eV (per atom)': { count: 1, first: 'row 9: "12345"' },
      'not a formula': { count: 1, first: expect.stringMatching(/^row 10: /) },
    });
    expect(loaded.fractions).toHaveLength(6 * 85);
  });
  it('thousands of rows keep their fractions and targets', async () => {
    const rows = Array.from({ length: 5000 }, (_, i) => `Na${1 + (i % 97)}Cl${101 + Math.floor(i / 97)},${i / 100}`);
    const loaded = await load(`formula,energy\n${rows.join('\n')}\n`);
    const table = tableOf(loaded.fractions, loaded.targets);
    for (let row = 0; row < loaded.rows; row++) {
      const sum = fractionsOf(table)
        .subarray(85 * row, 85 * row + 85)
        .reduce((total, v) => total + v, 0);
      if (Math.abs(sum - 1) > 1e-6) throw new Error(`row ${row}: ${sum}`);
      expect(targetsOf(table)[row]).toBe(Math.fround(loaded.targets[row]));
    }
    expect(targetsAt(loaded.rows) % 64).toBe(0);
  });
  it.each([
    ['no such column', 'formula,e\nNaCl,1\n', /has no column "energy" \(--target\); there are "formula", "e"/],
    [
      'no targets',
      'formula,energy\nNaCl,\nKCl,\n',
      /no row has a formula and a target in column "energy" \(2 have no target\)/,
    ],
    ['another unit', 'formula,energy\nNaCl,-411\nKCl,-436\nLiF,-2\n', /2 of 3 rows cannot be used .*must be in eV/],
    ['not a number among them', 'formula,energy\nNaCl,nan\n', /not finite; row 1: "nan"/],
  ])('%s', async (_, text, message) => {
    await expect(load(text)).rejects.toThrow(DataError);
    await expect(load(text)).rejects.toThrow(message);
  });
  it('is parted by the seed: no formula in two parts, the same ones again', async () => {
    const rows = Array.from({ length: 50 }, (_, i) => `Na${1 + i}Cl${51 + i},${i}`);
    const loaded = await load(`formula,energy\n${rows.join('\n')}\n`);
    const parts = regressionData(loaded, tinyElemNet(), 'x');
    const all = [parts.train, parts.leaveOut, parts.test].map((part) => [...targetsOf(part)]);
    expect(all.map((part) => part.length)).toEqual([32, 8, 10]);
    expect(new Set(all.flat()).size).toBe(loaded.rows);
    expect(regressionData(loaded, tinyElemNet(), 'x')).toEqual(parts);
    expect(regressionData(loaded, tinyElemNet({ seed: 6 }), 'x').fingerprint).not.toBe(parts.fingerprint);
    await expect(
      load('formula,energy\nNaCl,1\n').then((few) => regressionData(few, tinyElemNet(), 'few.csv')),
    ).rejects.toThrow(/few.csv: 1 formulas with a target are too few/);
  });
});

it('the report: errors, coverage, tenths', () => {
  const rows = 100;
  const truth = Array.from({ length: rows }, (_, i) => i / 10);
  const values = truth.map((v, i) => v + (i % 2 ? 0.1 : -0.3));
  const uncertainties = truth.map((_, i) => (i % 2 ? 0.101 : 0.301));
  const elements = truth.map((_, i) => 2 + (i % 2));
  const judged = { values, uncertainties, truth, elements };
  const report = propertyReport('energy', judged, { floor: 0.001, slope: 1 });
  expect(report.mae).toBeCloseTo(0.2);
  expect(report.byElements?.[2]).toEqual({ rows: 50, mae: expect.closeTo(0.3) });
  expect(report.within).toEqual([1, 1, 1]);
  expect(report.bins).toHaveLength(10);
  expect(report.bins?.[0]).toMatchObject({
    rows: 10,
    uncertainty: expect.closeTo(0.101),
    observed: expect.closeTo(0.1),
  });
  expect(report.maeOfMean).toBeCloseTo(2.5);
  expect(Object.keys(propertyCharts(report, judged))).toEqual(['parity', 'calibration']);
  // A model without uncertainties, rows that are no formulas.
  const plain = propertyReport('energy', { values, truth });
  expect(Object.keys(plain)).toEqual(['target', 'rows', 'mae', 'rmse', 'r2', 'maeOfMean']);
  expect(Object.keys(propertyCharts(plain, { values, truth }))).toEqual(['parity']);
});

describe.each([
  ['members', tinyElemNet()],
  ['dropout', tinyPlainElemNet()],
] as const)('a trained model of %s', (_, config) => {
  describeGpu('predicts', () => {
    let gpu: GpuExecutor;
    beforeAll(async () => {
      gpu = await openGpu();
    });
    afterAll(() => gpu.destroy());

    it('better than it began, the same in any batch, as the reference does, with an uncertainty', async () => {
      const folder = temporaryFolder();
      await trainTiny(gpu, { folder, config: { ...config, steps: 100 }, measureEvery: 20, best: 'loss' });
      const log = logOf(folder).filter(({ lossLeaveOut }) => lossLeaveOut !== undefined);
      expect(log.at(-1)!.lossLeaveOut).toBeLessThan(log[0].lossLeaveOut);
      const checkpoint = findCheckpoint(folder);
      const table = madeUpTable(tinyRows(21, 3));
      const before = [gpu.device.buffersAlive, gpu.device.bytesAlive];
      const runs = [];
      const roughs: Float32Array[] = [];
      for (const [executor, batch] of [
        [gpu, 21],
        [gpu, 8],
        [gpu, 64],
        [new ReferenceExecutor(), 10],
        // More batches than are asked for ahead.
        [gpu, 1],
      ] as const) {
        const model = await propertyModel(executor, checkpoint, batch);
        runs.push(await model.run(fractionsOf(table)));
        if (config.members > 1) {
          const rough = await model.rough!(fractionsOf(table));
          roughs.push(rough);
        } else expect(model.rough).toBeUndefined();
        // Dropout's masks belong to rows of a batch: the prediction does not depend on them.
        expect(model.calibration.floor + model.calibration.slope).toBeGreaterThan(0);
        model.destroy();
      }
      expect([gpu.device.buffersAlive, gpu.device.bytesAlive]).toEqual(before);
      const [whole, parted, padded, reference, single] = runs;
      expect(parted.values).toEqual(whole.values);
      expect(padded.values).toEqual(whole.values);
      whole.values.forEach((value, i) => {
        expect(reference.values[i]).toBeCloseTo(value, 5);
        expect(single.values[i]).toBeCloseTo(value, 5);
      });
      // The first member: of two, as far from their mean as the other.
      roughs[0]?.forEach((value, i) => {
        expect(Math.abs(value - whole.values[i])).toBeCloseTo(whole.spreads[i] / Math.SQRT2, 5);
        expect(roughs[3][i]).toBeCloseTo(value, 5);
      });
      expect(Math.max(...whole.spreads)).toBeGreaterThan(0);
      // The last measurement is what the model says of its validation rows.
      const model = await propertyModel(gpu, checkpoint);
      const { leaveOut } = tinyTable();
      const { values } = await model.run(fractionsOf(leaveOut));
      const errors = values.map((value, i) => Math.abs(value - targetsOf(leaveOut)[i]));
      expect(errors.reduce((sum, e) => sum + e / errors.length, 0)).toBeCloseTo(log.at(-1)!.lossLeaveOut, 5);
      model.destroy();
      expect(await ofAnotherKind(gpu)).toMatch(/it is a model of kind gan; predicting takes an elemnet/);
    }, 300_000);
  });
});

async function ofAnotherKind(gpu: GpuExecutor): Promise<string> {
  const error = await propertyModel(gpu, findCheckpoint('icsd')).then(
    () => undefined,
    (caught) => caught,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return error.message;
}
