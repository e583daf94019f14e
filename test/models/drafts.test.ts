/** Generators that change a draft: what drafts are, and that a generator starts as them. */
import { describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { frequencyFormulas, frequencySums } from '../../src/chem/baseline.ts';
import { countByElements, type PackedFormulas, pairAt } from '../../src/chem/encoding.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { ConfigError } from '../../src/errors.ts';
import { checkConfig, type GanConfig, loadConfig } from '../../src/models/config.ts';
import { ganTrainer, generatorGraphs } from '../../src/models/gan.ts';

const training = synthesize({ count: 4000 });
const best = loadConfig('gan', { preset: 'best' });

async function drawn(sums: Float32Array, batch: number, seed = 1): Promise<PackedFormulas> {
  const graph = newGraph();
  const step = graph.variable('step', [2], 'u32');
  const table = graph.variable('table', [774]);
  const executor = new ReferenceExecutor();
  executor.write(step, new Uint32Array(2));
  executor.write(table, sums);
  const node = b.randomFormulas(step, table, { batch, key: [seed, 0], stream: 0 });
  const plan = await executor.plan({ outputs: [node] });
  plan.run();
  const packed = (await plan.read(node)) as Uint32Array;
  plan.destroy();
  return { packed, rows: batch };
}

const shares = ({ packed, rows }: PackedFormulas): Float64Array => {
  const counts = new Float64Array(85 * 9);
  for (let row = 0; row < rows; row++) {
    for (let p = 0; p < 8; p++) {
      const pair = pairAt(packed, row, p);
      if (pair) counts[((pair >> 8) - 1) * 9 + (pair & 0xff)] += 1 / rows;
    }
  }
  return counts;
};
const distance = (a: ArrayLike<number>, c: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - c[i]);
  return sum;
};

describe('frequencySums', () => {
  it('are running sums that end at 1', () => {
    const sums = frequencySums(training);
    expect(sums).toHaveLength(774);
    const parts = [sums.subarray(0, 9), sums.subarray(9, 94)];
    for (let e = 0; e < 85; e++) parts.push(sums.subarray(94 + 8 * e, 102 + 8 * e));
    for (const part of parts) {
      for (let i = 1; i < part.length; i++) expect(part[i]).toBeGreaterThanOrEqual(part[i - 1]);
      // An element that training has not is never drawn: its counts have no sum.
      expect([0, 1]).toContain(part[part.length - 1]);
    }
    expect(sums[8]).toBe(1);
    expect(sums[93]).toBe(1);
  });
  it('of no rows are zeros', () => {
    expect(frequencySums({ packed: new Uint32Array(0), rows: 0 }).every((v) => v === 0)).toBe(true);
  });
});

describe('drafts', () => {
  it('are formulas as frequent as those that the baseline draws one by one', async () => {
    const rows = 20_000;
    const drafts = await drawn(frequencySums(training), rows);
    const sizes = countByElements(drafts);
    const baseline = frequencyFormulas(training, sizes, 7, { reduce: false });
    expect(baseline.rows).toBe(rows);
    // Two samples of the baseline itself are as far apart.
    const between = distance(shares(baseline), shares(frequencyFormulas(training, sizes, 8, { reduce: false })));
    expect(distance(shares(drafts), shares(baseline))).toBeLessThan(1.3 * between);
    const wanted = countByElements(training);
    for (let n = 0; n <= 8; n++) expect(sizes[n] / rows).toBeCloseTo(wanted[n] / training.rows, 1.5);
  });
  it('have their elements in order and once, whatever the table says', async () => {
    const odd = Float32Array.from({ length: 774 }, (_, i) => Math.sin(i) * 2);
    for (const sums of [frequencySums(training), odd, new Float32Array(774), new Float32Array(774).fill(1)]) {
      const { packed } = await drawn(sums, 300);
      for (let row = 0; row < 300; row++) {
        let last = 0;
        for (let p = 0; p < 8; p++) {
          const pair = pairAt(packed, row, p);
          if (pair === 0) continue;
          expect(pair >> 8).toBeGreaterThan(last);
          last = pair >> 8;
          expect(last).toBeLessThanOrEqual(85);
          expect(pair & 0xff).toBeGreaterThanOrEqual(1);
          expect(pair & 0xff).toBeLessThanOrEqual(8);
        }
      }
    }
  });
});

describe('a generator with drafts', () => {
  it('starts as its drafts', async () => {
    const config: GanConfig = { ...best, batch: 64, averaging: 0 };
    const graphs = generatorGraphs(config, 64, 'argmax', 5);
    const executor = new ReferenceExecutor();
    for (const { node, initial } of ganTrainer(config, training.rows).state) {
      if (node.attrs.name.startsWith('generator')) executor.write(node, initial(training));
    }
    executor.write(graphs.counter, new Uint32Array(2));
    const running = graphs.variables.find(({ attrs }) => attrs.name === 'generator.running')!;
    executor.write(running, new Float32Array(running.shape[0]));
    const plan = await executor.plan({ outputs: [graphs.formulas], updates: [graphs.count] });
    plan.run();
    const packed = (await plan.read(graphs.formulas)) as Uint32Array;
    plan.destroy();
    const made = { packed, rows: 64 };
    expect(countByElements(made)[0]).toBe(0);
    // Each is a draft: numbers of elements as training has them, and no two alike.
    expect(new Set(Array.from({ length: 64 }, (_, i) => packed.slice(4 * i, 4 * i + 4).join())).size).toBeGreaterThan(
      55,
    );
  });
  it('keeps its frequencies in the checkpoint, and they stay as they are', () => {
    const trainer = ganTrainer(best, training.rows);
    const variable = trainer.state.find(({ node }) => node.attrs.name === 'generator.frequencies')!;
    expect(variable.initial(training)).toEqual(frequencySums(training));
    expect(trainer.updates.some(([node]) => node === variable.node)).toBe(false);
  });
  it('drafts are no setting of a decoder, nor of convolutions', () => {
    const ae = loadConfig('ae', { preset: 'ae-best' });
    expect(() => checkConfig({ ...ae, decoder: { ...ae.decoder, draft: { strength: 8 } } }, 'x')).toThrow(ConfigError);
    const conv = loadConfig('gan', { preset: 'icsd' });
    const generator = { ...conv.generator, draft: { strength: 8 } };
    expect(() => checkConfig({ ...conv, generator }, 'x')).toThrow(/draft is no setting/);
    expect(() => checkConfig({ ...best, generator: { ...best.generator, draft: { strength: 0 } } }, 'x')).toThrow(
      /generator\.draft\.strength/,
    );
  });
});
