import { describe, expect, it } from 'vitest';
import { makeCase } from '../../src/autograd/gradcheck.ts';
import type { Op } from '../../src/autograd/graph.ts';
import { ops } from '../../src/autograd/ops/index.ts';
import { conv2dWeightGrad, dense } from '../../src/kernels/lower.ts';

/** Shader files of the kernels that an op's samples reach. */
function reached(name: keyof typeof ops): Set<string> {
  const files = new Set<string>();
  ops[name].samples.forEach((sample, i) => {
    const { output } = makeCase(name, sample, i);
    const { lowering }: Op = ops[name];
    if (!('kernels' in lowering)) throw new Error(`${name} has no kernels of its own`);
    for (const { kernel } of lowering.kernels(output).calls) {
      for (const file of kernel.files) if (file !== 'finishNone') files.add(file);
    }
  });
  return files;
}

describe('kernel variants', () => {
  // A variant that no sample reaches is a variant that nobody checks.
  it.each([
    ['dense', ['dense', 'denseVec4', 'reduce']],
    ['conv2d', ['conv2d', 'conv2dVec4']],
    ['conv2dInputGrad', ['conv2dInputGrad', 'conv2dInputGradVec4', 'filterSwap', 'dense', 'conv2dInputGradGather']],
    ['conv2dWeightGrad', ['conv2dWeightGrad', 'conv2dWeightGradVec4', 'reduce']],
  ] as const)('of %s are all reached by its samples', (name, files) => {
    expect([...reached(name)].sort()).toEqual([...files].sort());
  });

  it('splits deep sums with small results, and no others', () => {
    expect(dense(32, 1, 3072, false, false).temps).toEqual([48 * 32]);
    expect(dense(32, 1, 3072, false, false).calls.length).toBeGreaterThan(1);
    expect(dense(32, 3072, 128, false, false).temps).toEqual([]);
    expect(dense(32, 1, 63, false, false).temps).toEqual([]);
  });

  it('keeps shares of a filter gradient inside the default binding limit', () => {
    const sizes = {
      batch: 4096,
      height: 16,
      width: 16,
      channels: 512,
      outHeight: 16,
      outWidth: 16,
      outChannels: 512,
      kernelHeight: 5,
      kernelWidth: 5,
      strideH: 1,
      strideW: 1,
      top: 2,
      left: 2,
    };
    for (const elements of conv2dWeightGrad(sizes).temps) expect(elements * 4).toBeLessThanOrEqual(128 * 2 ** 20);
    expect(conv2dWeightGrad({ ...sizes, batch: 1 }).temps).toEqual([]);
  });
});
