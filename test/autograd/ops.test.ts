import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { type CheckRow, checkOp } from '../../src/autograd/gradcheck.ts';
import type { Op } from '../../src/autograd/graph.ts';
import { newGraph, ops } from '../../src/autograd/ops/index.ts';
import { ShapeError } from '../../src/errors.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

const names = Object.keys(ops) as (keyof typeof ops)[];

/** Rows that fail, in words. */
const failures = (rows: readonly CheckRow[]): string[] =>
  rows
    .filter((row) => !row.pass)
    .map(({ op, order, executor, error, tolerance, detail }) =>
      [op, `order ${order}`, executor, `${error} > ${tolerance}`, detail].join(', '),
    );

describeGpu('every op on the GPU, at default limits, on poisoned buffers', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
  });
  afterAll(() => gpu.destroy());

  it.each(names)('%s', async (name) => {
    const rows = await checkOp(name, { gpu });
    expect(failures(rows)).toEqual([]);
    const op: Op = ops[name];
    const checked = rows.map(({ order, executor }) => `${order} ${executor}`).sort();
    const values = ['0 gpu'];
    // stopGradient and equal have rules that give nothing to any input: there is nothing to differentiate.
    const differentiable = typeof op.vjp === 'function' && name !== 'stopGradient' && name !== 'equal';
    expect(checked).toEqual(differentiable ? [...values, '1 gpu', '1 reference', '2 gpu', '2 reference'] : values);
    expect(rows.find((row) => row.order === 0)!.samples).toBeGreaterThanOrEqual(op.samples.length);
  });
});

describe('every op on the reference', () => {
  it.each(names)('%s', async (name) => {
    expect(failures(await checkOp(name, { seed: 7, variants: false }))).toEqual([]);
  });

  it.each(names)('%s has samples and a summary', (name) => {
    const op: Op = ops[name];
    expect(op.samples.length).toBeGreaterThan(0);
    expect(op.summary.length).toBeGreaterThan(0);
  });

  const errors = names.flatMap((name) => (ops[name] as Op).errors.map((error, i) => ({ name, i, error })));
  it.each(errors)('$name refuses its error sample $i', ({ name, error }) => {
    const graph = newGraph();
    const op: Op = ops[name];
    const inputs = error.shapes.map((shape, i) => graph.variable(`x${i}`, shape, op.inputTypes?.[i] ?? 'f32'));
    const call = (): unknown => graph.apply(name, inputs, error.attrs ?? {});
    expect(call).toThrow(ShapeError);
    expect(call).toThrow(error.message);
    expect(call).toThrow(name);
  });

  it('an unknown op is named', async () => {
    await expect(checkOp('conv3d')).rejects.toThrow(/no op conv3d/);
  });
});
