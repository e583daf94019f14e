/** Every op at random shapes, the GPU against the reference: values and gradients, twice, to the same bits. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compare, runTwice, tolerances } from '../../src/autograd/compare.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { makeCase } from '../../src/autograd/gradcheck.ts';
import { type Op, type Sample, sizeOf } from '../../src/autograd/graph.ts';
import { newGraph, ops } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { resized, sizesOf } from '../../src/autograd/variants.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

const seed = 20_261_126;
const table = Object.entries(ops) as [string, Op][];

/** The sample with each of its sizes replaced by a drawn one; its own where a replacement is not accepted. */
function redrawn(name: string, op: Op, sample: Sample, drawn: readonly number[]): Sample {
  const sizes = sizesOf(sample);
  const all = new Map(sizes.map((size, i) => [size, drawn[i % drawn.length]]));
  const together = resized(name, op, sample, (d) => all.get(d) ?? d, newGraph);
  if (together) return together;
  return sizes.reduce((now, size) => {
    const to = all.get(size)!;
    return resized(name, op, now, (d) => (d === size ? to : d), newGraph) ?? now;
  }, sample);
}

describe('random shapes', () => {
  it('are other shapes than the samples’, for all ops whose sizes are free', () => {
    const fixed = table.filter(([name, op]) =>
      op.samples.every((sample) => JSON.stringify(redrawn(name, op, sample, [11, 6, 19])) === JSON.stringify(sample)),
    );
    // What these make is sized by their attributes alone.
    expect(fixed.map(([name]) => name).sort()).toEqual(['iota', 'randomFormulas', 'sampleRows']);
  });
});

describeGpu('every op at random shapes', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
  });
  afterAll(() => gpu.destroy());

  it.each(table)('%s', async (name, op) => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 70 })), {
      minLength: 4,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(fc.nat(op.samples.length - 1), sizes, async (of, drawn) => {
        const sample = redrawn(name, op, op.samples[of], drawn);
        const { graph, inputs, output, values } = makeCase(name, sample, seed);
        const nodes = [output];
        if (typeof op.vjp === 'function') {
          const cotangent = graph.variable('cotangent', output.shape);
          const random = new Stream(seed);
          const data = Float64Array.from({ length: sizeOf(output.shape) }, () => Math.fround(random.normal()));
          values.set(cotangent, { shape: output.shape, data });
          const rules = op.vjp(output, cotangent);
          const floats = inputs.filter((input, i) => input.dtype === 'f32' && rules[i] !== null);
          if (floats.length) nodes.push(...grad(output, floats, cotangent));
        }
        const lookUp = (node: (typeof inputs)[number]) => values.get(node)!;
        const allowed = tolerances(nodes, lookUp);
        const expected = evaluate(nodes, lookUp);
        const results = await runTwice(gpu, nodes, values);
        results.forEach(([one, other], i) => {
          expect(Buffer.from(one.buffer).equals(Buffer.from(other.buffer)), 'the same bits').toBe(true);
          const { error } = compare(expected[i], one);
          expect(error, `output ${i}, ${JSON.stringify(sample.attrs)}`).toBeLessThanOrEqual(allowed[i]);
        });
      }),
      { numRuns: 12, seed },
    );
  });
});
