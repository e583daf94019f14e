/** Odd shapes made from samples: what is replaced, what is left alone, what is too much. */
import { describe, expect, it } from 'vitest';
import type { Op, Sample } from '../../src/autograd/graph.ts';
import { newGraph, ops } from '../../src/autograd/ops/index.ts';
import { variants } from '../../src/autograd/variants.ts';

const of = (name: keyof typeof ops, samples: readonly Sample[]) => {
  const op: Op = { ...ops[name], samples };
  return variants(name, op, () => newGraph());
};
const shapes = (samples: readonly { sample: Sample }[]): string[] =>
  samples.map(({ sample }) => sample.inputs.map(({ shape }) => `[${shape}]`).join(' '));
const normal = (shape: readonly number[]) => ({ shape, draw: 'normal' as const });

describe('variants of a sample', () => {
  it('replace one size everywhere, by each odd size', () => {
    const found = of('mul', [{ inputs: [normal([7, 5]), normal([5])] }]);
    expect(shapes(found).sort()).toEqual(
      [1, 3, 63, 64, 65, 257].flatMap((n) => [`[${n},5] [5]`, `[7,${n}] [${n}]`]).sort(),
    );
    expect(found[0]).toMatchObject({ of: 0, from: 7, to: 1 });
  });

  it('replace it in attributes that are shapes', () => {
    const attrs = { shape: [2, 5, 3] };
    const found = of('expand', [{ inputs: [normal([3])], attrs }]);
    expect(found.map(({ sample }) => sample.attrs.shape.join())).toContain('2,5,65');
    expect(found.map(({ sample }) => sample.attrs.shape.join())).toContain('64,5,3');
  });

  it('are left out where the shape rule refuses them, and where they are a sample already', () => {
    const attrs = { transposeX: false, transposeW: false };
    expect(shapes(of('dense', [{ inputs: [normal([2, 65]), normal([65, 4])], attrs }]))).not.toContain('[2,65] [65,4]');
    expect(of('conv2dWeightGrad', [{ ...ops.conv2dWeightGrad.samples[1] }]).length).toBeGreaterThan(0);
    const two = of('relu', [{ inputs: [normal([63])] }, { inputs: [normal([65])] }]);
    expect(shapes(two).sort()).toEqual(['[1]', '[257]', '[3]', '[64]']);
  });

  it('leave inputs with given values as they are', () => {
    expect(of('unfold', ops.unfold.samples)).toEqual([]);
    const adam = of('adam', [ops.adam.samples[2]]);
    expect(adam.every(({ sample }) => sample.inputs[2].shape[0] === 2)).toBe(true);
    expect(shapes(adam)).toContain('[3,257] [257] [2]');
  });

  it('are no larger than a quick check bears', () => {
    for (const { sample } of of('conv2d', ops.conv2d.samples)) {
      for (const { shape } of sample.inputs) expect(shape.reduce((a, b) => a * b, 1)).toBeLessThanOrEqual(2 ** 15);
    }
  });

  it('pass on what is no ShapeError: a shape rule that breaks at an odd shape is a fault', () => {
    const op: Op = {
      ...ops.relu,
      shape: ([x]) => {
        if (x.shape[0] === 63) throw new TypeError('undefined is not a shape');
        return x.shape;
      },
      samples: [{ inputs: [normal([5])] }],
    };
    expect(() => variants('own', op, () => newGraph({ own: op }))).toThrow(TypeError);
  });
});

it('every size has its turn in the table of ops', () => {
  const sizes = new Set(
    Object.entries<Op>(ops).flatMap(([name, op]) => variants(name, op, () => newGraph()).map((v) => v.to)),
  );
  expect([...sizes].sort((a, b) => a - b)).toEqual([1, 3, 63, 64, 65, 257]);
});
