// Choosing another kernel changes no bit where the order of additions is the same: what a tuner may do to a run's numbers. Every kernel of
// products says its multiply-adds as fma, one term after another: taps in order, channels within them, positions within a weight
// gradient's image rows. Only kernels that share a sum out (`by 4`, splits) or add in a tree (`dot`, `tree`) differ, and those are held
// to the op's derived bound elsewhere (tiles.test.ts, scripts/gpu/variants.ts).
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { type Graph, type Node, sizeOf, topological } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { type Target, targetOf } from '../../src/kernels/lower.ts';
import { loadConfig } from '../../src/models/config.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { initialise } from '../../src/models/training.ts';

let executor: GpuExecutor;
beforeAll(async () => {
  executor = new GpuExecutor(await openDevice());
});
afterAll(() => executor.destroy());

/** An expression's bits by each variant asked for, of those on offer. */
async function bitsOf(build: (graph: Graph) => Node, wanted: (name: string) => boolean): Promise<Map<string, Buffer>> {
  const graph = newGraph();
  const output = build(graph);
  const random = new Stream(5);
  const variables = topological([output]).filter(({ op }) => op === 'variable');
  for (const node of variables) {
    executor.write(
      node,
      Float32Array.from({ length: sizeOf(node.shape) }, () => random.normal()),
    );
  }
  const found = new Map<string, Buffer>();
  let names: readonly string[] = [];
  const run = async (name: string | undefined): Promise<Buffer> => {
    const choose = (_op: string, _sizes: string, all: readonly string[]): string | undefined => {
      names = all;
      return name;
    };
    const plan = await executor.plan({ outputs: [output] }, { target: { ...targetOf(executor.device.info), choose } });
    plan.run();
    const { buffer } = await plan.read(output);
    plan.destroy();
    return Buffer.from(buffer);
  };
  try {
    await run(undefined);
    for (const name of names.filter(wanted)) found.set(name, await run(name));
  } finally {
    executor.forget(variables);
  }
  return found;
}

const wide = { strides: [2, 2] as [number, number], padding: [2, 2, 1, 2] as [number, number, number, number] };
// More than eight threads' worth of outputs, so that nobody shares a sum out by itself.
const products: [string, (g: Graph) => Node][] = [
  ['dense', (g) => b.dense(g.variable('x', [70, 48]), g.variable('w', [48, 40]))],
  [
    'dense, left transposed',
    (g) => b.dense(g.variable('x', [48, 68]), g.variable('w', [48, 40]), { transposeX: true }),
  ],
  [
    'dense, right transposed',
    (g) => b.dense(g.variable('x', [70, 48]), g.variable('w', [40, 48]), { transposeW: true }),
  ],
  ['conv2d', (g) => b.conv2d(g.variable('x', [9, 9, 8, 16]), g.variable('f', [5, 5, 16, 36]), wide)],
  [
    'conv2dInputGrad',
    (g) =>
      b.conv2dInputGrad(g.variable('y', [9, 5, 4, 16]), g.variable('f', [5, 5, 36, 16]), { ...wide, size: [9, 8] }),
  ],
  [
    'conv2dWeightGrad',
    (g) =>
      b.conv2dWeightGrad(g.variable('x', [3, 9, 8, 16]), g.variable('y', [3, 5, 4, 36]), { ...wide, kernel: [5, 5] }),
  ],
];
/** Whether a variant adds each sum up in one go, in the usual order. A weight gradient's `threads` share its rows out. */
const wholly = (op: string, name: string): boolean =>
  !/ by \d|^dot$|^direct$|^product and gather$|^tree$/.test(name) && !(op === 'conv2dWeightGrad' && name === 'threads');

describe('kernels that add in the same order', () => {
  it.each(products)('%s: the same bits', async (title, build) => {
    const [op] = title.split(',');
    // Not every tile: each takes a software adapter's compiler a second.
    const bits = await bitsOf(build, (name) => wholly(op, name) && !/128x|64x128|32x64|64x32/.test(name));
    const [[first, expected], ...others] = bits;
    expect(others.length).toBeGreaterThan(3);
    const unlike = others.filter(([, actual]) => !actual.equals(expected)).map(([name]) => name);
    expect(unlike, `unlike ${first}`).toEqual([]);
  });

  it('two whole training steps: the same bits in all that they leave behind', async () => {
    const { packed, rows } = synthesize({ count: 64 });
    const trainer = makeTrainer(loadConfig('gan', { preset: 'icsd', overrides: { batch: 16 } }), rows);
    const swapped = new Set<string>();
    const run = async (choose: Target['choose']): Promise<Buffer[]> => {
      initialise(executor, trainer);
      executor.write(trainer.data, packed);
      const step = { outputs: Object.values(trainer.outputs), updates: trainer.updates };
      const plan = await executor.plan(step, { target: { ...targetOf(executor.device.info), choose } });
      plan.run(2);
      const state: Buffer[] = [];
      for (const { node } of trainer.state) state.push(Buffer.from((await executor.read(node)).buffer));
      plan.destroy();
      executor.forget([...trainer.state.map(({ node }) => node), trainer.step, trainer.data]);
      return state;
    };
    const before = await run(undefined);
    const after = await run((op, sizes, names) => {
      const other = names.slice(1).find((name) => wholly(op, name) && !/^(tile|panel|subgroup)/.test(name));
      if (!other || !wholly(op, names[0])) return undefined;
      swapped.add(`${op} ${sizes}`);
      return other;
    });
    expect(swapped.size).toBeGreaterThan(10);
    expect(before.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThan(1e6);
    expect(after.map((bits, i) => bits.equals(before[i]))).toEqual(before.map(() => true));
  });

  it('another order has other bits: the comparison sees it', async () => {
    const bits = await bitsOf(products[3][1], (name) => / by \d|^images$/.test(name));
    const [[, whole], ...shared] = bits;
    expect(shared.length).toBeGreaterThan(0);
    for (const [, actual] of shared) expect(actual.equals(whole)).toBe(false);
  });
});
