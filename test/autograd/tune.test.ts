import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { Graph, type Op, sizeOf } from '../../src/autograd/graph.ts';
import { ops } from '../../src/autograd/ops/index.ts';
import { tune } from '../../src/autograd/tune.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { unary } from '../../src/kernels/lower.ts';
import { adapterName, loadTuning, saveTuning, shaderDigest, tuningFile } from '../../src/kernels/tuning.ts';

let folder: string;
let before: string | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'matgan-tuning-'));
  before = process.env.MATGAN_TUNING;
  process.env.MATGAN_TUNING = folder;
});
afterEach(() => {
  if (before === undefined) delete process.env.MATGAN_TUNING;
  else process.env.MATGAN_TUNING = before;
  rmSync(folder, { recursive: true });
});

/** Twice x, in variants: the first and `quick` right, `wrong` off by a millionth, `slow` right but by way of two passes. */
const twice: Op = {
  ...ops.scale,
  lowering: {
    kernels: (node, target) => {
      const size = sizeOf(node.shape);
      const name = target?.choose?.('twice', `${size}`, ['first', 'quick', 'wrong']) ?? 'first';
      const right = unary('scale', size, 2);
      if (name === 'wrong') return unary('scale', size, 2.00001);
      if (name === 'quick') return right;
      // Fifty times over: no noise makes it the fastest.
      return { temps: [], calls: new Array(50).fill(right.calls[0]) };
    },
  },
};

describe('the tuner', () => {
  it('takes the fastest of those that are right', async () => {
    const executor = new GpuExecutor(await openDevice());
    const graph = new Graph({ ...ops, twice });
    const output = graph.apply('twice', [graph.variable('x', [100_000])], { a: 2, b: 0 });
    const { choices, rows } = await tune(executor, { outputs: [output] }, { samples: 3 });
    executor.destroy();
    expect([...choices]).toEqual([['twice 100000', 'quick']]);
    expect(rows.map(({ variant, chosen }) => [variant, chosen])).toEqual([
      ['first', false],
      ['quick', true],
      ['wrong', false],
    ]);
    expect(rows[2].why).toMatch(/off by 5\.0e-6/);
    expect(rows[2].microseconds).toBeNull();
  });
});

const info = { vendor: 'v', architecture: 'a', device: 'dev/../ice', description: 'driver 1', software: false };

describe('what is kept', () => {
  it('is read again, for the same adapter and shaders', () => {
    const path = saveTuning(info, new Map([['sum 1,2,3', 'tree']]));
    saveTuning(info, new Map([['dense 1', 'dot']]));
    expect(path).toBe(tuningFile(adapterName(info)));
    expect(path.startsWith(`${folder}/`)).toBe(true);
    expect(Object.fromEntries(loadTuning(info))).toEqual({ 'sum 1,2,3': 'tree', 'dense 1': 'dot' });
    expect(loadTuning({ ...info, description: 'driver 2' }).size).toBe(0);
    expect(JSON.parse(readFileSync(path, 'utf8')).shaders).toBe(shaderDigest());
    process.env.MATGAN_TUNING = 'none';
    expect(loadTuning(info).size).toBe(0);
  });

  it.each([
    ['no JSON', '{'],
    ['another thing', '[]'],
    ['null', 'null'],
    ['other shaders', JSON.stringify({ adapter: 'v / dev/../ice / driver 1', shaders: 'old', choices: { a: 'b' } })],
    [
      'choices that are no names',
      JSON.stringify({ adapter: 'v / dev/../ice / driver 1', shaders: shaderDigest(), choices: { a: 1 } }),
    ],
  ])('%s is as good as nothing', (_, text) => {
    writeFileSync(tuningFile(adapterName(info)), text);
    expect(loadTuning(info).size).toBe(0);
  });

  it('a choice that no variant has is the first one', async () => {
    const executor = new GpuExecutor(await openDevice());
    const graph = new Graph({ ...ops, twice });
    const x = graph.variable('x', [100]);
    const output = graph.apply('sum', [x], { from: 0, to: 1 });
    executor.write(x, new Float32Array(100).fill(0.5));
    const plan = await executor.plan(
      { outputs: [output] },
      { target: { software: true, choose: () => 'no such variant' } },
    );
    plan.run();
    expect(await plan.read(output)).toEqual(Float32Array.of(50));
    executor.destroy();
  });
});
