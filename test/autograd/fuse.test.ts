/** Products of unfolded formulas: the sum that takes their place, against what it takes the place of. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { fuse } from '../../src/autograd/fuse.ts';
import { grad } from '../../src/autograd/grad.ts';
import { type Node, topological } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

const rows = 200;
const columns = 37;

function product() {
  const graph = newGraph();
  const packed = graph.variable('packed', [rows, 4], 'u32');
  const chosen = graph.variable('chosen', [65], 'u32');
  const w = graph.variable('w', [680, columns]);
  const cells = b.unfold(packed, chosen);
  const y = b.dense(b.reshape(cells, [65, 680]), w);
  return { graph, packed, chosen, w, cells, y };
}
const opsOf = (roots: readonly Node[]): string[] => topological(fuse(roots)).map(({ op }) => op);

it('a product of unfolded formulas becomes a sum, and the cells are not made', () => {
  expect(opsOf([product().y])).toEqual(['variable', 'variable', 'variable', 'unfoldDense']);
});

it('its gradient in the weights is still a product of the cells', () => {
  const { w, y } = product();
  const ops = opsOf([y, ...grad(b.sum(y), [w])]);
  expect(ops).toContain('unfoldDense');
  expect(ops).toContain('dense');
  expect(ops).toContain('unfold');
});

it('products of anything else stay', () => {
  const { graph, cells, w } = product();
  expect(opsOf([b.dense(b.reshape(b.scale(cells, 2), [65, 680]), w)])).toContain('dense');
  // Two formulas a row: the cells of a row are not one formula's.
  const wide = graph.variable('wide', [1360, 2]);
  const even = b.unfold(graph.variable('packed', [rows, 4], 'u32'), graph.variable('two', [4], 'u32'));
  expect(opsOf([b.dense(b.reshape(even, [2, 1360]), wide)])).not.toContain('unfoldDense');
  const across = graph.variable('across', [columns, 680]);
  const turned = b.dense(b.reshape(cells, [65, 680]), across, { transposeX: false, transposeW: true });
  expect(opsOf([turned])).not.toContain('unfoldDense');
});

describeGpu('on the device', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = new GpuExecutor(await openDevice({ limits: 'default' }), { poison: true });
  });
  afterAll(() => gpu.destroy());

  it('sums and products agree to a few roundings', async () => {
    const { packed, chosen, w, cells, y } = product();
    const random = new Stream(3);
    const weights = Float32Array.from({ length: 680 * columns }, () => random.normal());
    gpu.write(packed, synthesize().packed.slice(0, 4 * rows));
    gpu.write(
      chosen,
      Uint32Array.from({ length: 65 }, (_, i) => (i * 7) % rows),
    );
    gpu.write(w, weights);
    // A product of cells that something else has touched is no sum: the same numbers by the other way.
    const other = b.dense(b.reshape(b.abs(cells), [65, 680]), w);
    const plan = await gpu.plan({ outputs: [y, other] });
    plan.run();
    const [sums, products] = (await Promise.all([plan.read(y), plan.read(other)])) as Float32Array[];
    plan.destroy();
    expect(products.some((v) => Math.abs(v) > 1)).toBe(true);
    for (const [i, v] of sums.entries()) expect(Math.abs(v - products[i])).toBeLessThan(1e-5);
  });
});
