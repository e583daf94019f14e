/** Generators that change a draft: what drafts are, and that a generator starts as them. */
import { describe, expect, it } from 'vitest';
import * as b from '../../src/autograd/build.ts';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { adaptedSums, frequencyFormulas, frequencySums, meetsTarget, targetSums } from '../../src/chem/baseline.ts';
import { matganElements } from '../../src/chem/elements.ts';
import { countByElements, type PackedFormulas, packFormula, pairAt } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { CheckpointError, ConfigError, DataError } from '../../src/errors.ts';
import { checkConfig, type GanConfig, loadConfig } from '../../src/models/config.ts';
import { DraftPool, keepInRange, type PropertyRange } from '../../src/models/drafts.ts';
import { ganTrainer, generatorGraphs } from '../../src/models/gan.ts';
import { findCheckpoint } from '../../src/models/run.ts';
import { drawSamples } from '../../src/models/sampler.ts';

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

const element = (symbol: string): number => matganElements.indexOf(symbol);
const [lithium, oxygen] = [element('Li'), element('O')];

describe('a target', () => {
  it.each<[string, readonly number[], [number, number], boolean]>([
    ['LiFePO4', [], [1, 8], true],
    ['LiFePO4', [lithium, oxygen], [4, 4], true],
    ['LiFePO4', [lithium], [1, 3], false],
    ['FePO4', [lithium], [1, 8], false],
    ['Li2O', [oxygen, lithium], [2, 2], true],
  ])('%s, containing %j, of %j elements: %s', (formula, contains, sizes, met) => {
    expect(meetsTarget({ contains, sizes }, packFormula(parseFormula(formula)))).toBe(met);
  });

  it('parts the frequencies into what is asked for and the rest', async () => {
    const target = { contains: [lithium, oxygen], sizes: [3, 4] as const };
    const { required, others } = targetSums(frequencySums(training), target);
    const [first, second] = [await drawn(required, 500), await drawn(others, 500, 2)];
    const sizes = countByElements(second);
    // Three or four elements less the two, as often as training has such formulas.
    expect(sizes[1] + sizes[2]).toBe(500);
    const wanted = countByElements(training);
    expect(sizes[1] / 500).toBeCloseTo(wanted[3] / (wanted[3] + wanted[4]), 1);
    for (let row = 0; row < 500; row++) {
      expect(meetsTarget({ contains: target.contains, sizes: [2, 2] }, first.packed, row)).toBe(true);
      for (let p = 0; p < 8; p++) expect(target.contains).not.toContain((pairAt(second.packed, row, p) >> 8) - 1);
    }
  });

  it('that asks for nothing leaves the frequencies as they are', () => {
    const sums = frequencySums(training);
    const { others } = targetSums(sums, { contains: [], sizes: [1, 8] });
    for (let i = 0; i < sums.length; i++) expect(others[i]).toBeCloseTo(sums[i], 5);
  });

  it('that training says nothing of is refused', () => {
    const sums = frequencySums(training);
    expect(() => targetSums(sums, { contains: [], sizes: [8, 8] })).toThrow(/no formula .* has 8 to 8 elements/);
    expect(() =>
      targetSums(frequencySums({ packed: packFormula(parseFormula('NaCl')), rows: 1 }), {
        contains: [lithium],
        sizes: [1, 8],
      }),
    ).toThrow(DataError);
  });

  it('is met by far more samples than without it; only those that meet it are handed over', async () => {
    const checkpoint = findCheckpoint('icsd', 'last');
    const executor = new ReferenceExecutor();
    const target = { contains: [lithium, oxygen], sizes: [2, 8] as const };
    const options = { seed: 3, batch: 16 };
    const made: Uint32Array[] = [];
    const asked = await drawSamples(executor, checkpoint, { ...options, count: 24, target }, (words) => {
      made.push(words.slice());
    });
    const rows = made.flatMap((words) =>
      Array.from({ length: words.length / 4 }, (_, i) => words.subarray(4 * i, 4 * i + 4)),
    );
    const kept = rows.filter((row) => row[0] !== 0);
    expect(kept).toHaveLength(24);
    for (const row of kept) expect(meetsTarget(target, row)).toBe(true);
    expect(asked.hits).toBeGreaterThan(0.4 * asked.samples);
    // Of all samples about one in thirty has both.
    let met = 0;
    const any = await drawSamples(executor, checkpoint, { ...options, count: 160 }, (words, n) => {
      for (let row = 0; row < n; row++) if (meetsTarget(target, words, row)) met++;
    });
    expect(any.samples).toBe(160);
    expect(met).toBeLessThan(0.15 * 160);
  });

  it('drafts like those of other formulas have their elements', async () => {
    const like = { packed: packFormula(parseFormula('CsPbI3')), rows: 1 };
    const executor = new ReferenceExecutor();
    const counts = new Float64Array(85);
    await drawSamples(
      executor,
      findCheckpoint('icsd', 'last'),
      { seed: 1, count: 32, batch: 16, like },
      (words, rows) => {
        for (let row = 0; row < rows; row++)
          for (let p = 0; p < 8; p++) if (pairAt(words, row, p)) counts[(pairAt(words, row, p) >> 8) - 1]++;
      },
    );
    for (const symbol of ['Cs', 'Pb', 'I']) expect(counts[element(symbol)]).toBeGreaterThan(16);
  });

  it('a generator without drafts cannot be asked', async () => {
    const draw = drawSamples(
      new ReferenceExecutor(),
      findCheckpoint('icsd-conv', 'last'),
      { seed: 1, count: 1, target: { contains: [lithium], sizes: [1, 8] } },
      () => {},
    );
    await expect(draw).rejects.toThrow(CheckpointError);
  });
});

const rowsOf = (words: Uint32Array): Uint32Array[] =>
  Array.from({ length: words.length / 4 }, (_, row) => words.slice(4 * row, 4 * row + 4));
const has = (words: Uint32Array, e: number): boolean => meetsTarget({ contains: [e], sizes: [1, 8] }, words);
/** Predicts 1 of formulas with all of these elements, else 0. */
const predicting = (...symbols: string[]): PropertyRange & { asked: number } => {
  const property = {
    name: `--gap 1 (${symbols})`,
    range: [1, 1] as const,
    asked: 0,
    model: {
      run: async (words: Uint32Array, rows: number) => {
        property.asked += rows;
        return { values: rowsOf(words).map((row) => Number(symbols.every((s) => has(row, element(s))))) };
      },
    },
  };
  return property;
};

describe('drafts by what a model predicts', () => {
  it('rows outside a range are zeroed; the next model sees only what is left', async () => {
    const formulas = ['LiF', 'NaCl', 'Li2O', 'CaF2'].map((text) => packFormula(parseFormula(text)));
    const words = new Uint32Array([...formulas.flatMap((row) => [...row]), 0, 0, 0, 0]);
    const [first, second] = [predicting('Li'), predicting('O')];
    expect(await keepInRange(words, 5, [first, second])).toBe(1);
    expect([first.asked, second.asked]).toEqual([4, 2]);
    expect(rowsOf(words).map((row) => row[0] !== 0)).toEqual([false, false, true, false, false]);
    const nothing = { name: '', range: [0, 1] as const, model: { run: async () => ({ values: [Number.NaN] }) } };
    expect(await keepInRange(formulas[0], 1, [nothing])).toBe(0);
  });

  it('frequencies move towards those of what was chosen, and keep what they had', () => {
    const sums = frequencySums(training);
    const chosen = { packed: new Uint32Array(4 * 300), rows: 300 };
    for (let row = 0; row < 300; row++) chosen.packed.set(packFormula(parseFormula('LiF2')), 4 * row);
    const adapted = adaptedSums(sums, chosen);
    const share = (of: Float32Array, i: number): number => of[i] - (i > 0 ? of[i - 1] : 0);
    expect(share(adapted, 2)).toBeGreaterThan(0.8);
    for (const [first, n] of [[0, 9], [9, 85], ...Array.from({ length: 85 }, (_, e) => [94 + 8 * e, 8])]) {
      expect(adapted[first + n - 1]).toBe(sums[first + n - 1]);
      for (let i = 1; i < n; i++) {
        expect(adapted[first + i]).toBeGreaterThanOrEqual(adapted[first + i - 1]);
        if (sums[first + i] > sums[first + i - 1]) expect(adapted[first + i]).toBeGreaterThan(adapted[first + i - 1]);
      }
    }
    // Of a few only a little is learned.
    const few = adaptedSums(sums, { packed: chosen.packed, rows: 4 });
    expect(share(few, 2) - share(sums, 2)).toBeLessThan(0.1);
  });

  const pool = (properties: PropertyRange[], contains: number[] = []): Promise<DraftPool> =>
    DraftPool.open({
      ...targetSums(frequencySums(training), { contains, sizes: [2, 5] }),
      ...{ properties, seed: 4, batch: 100 },
    });

  it('a pool gives drafts in range that are found ever more often, the same for the same seed', async () => {
    const symbols = ['F', 'Na'];
    const drafts = await pool([predicting(...symbols)]);
    const [before, drawn] = [drafts.hits, drafts.drawn];
    const given = await drafts.next();
    const second = await drafts.next();
    for (const row of [...rowsOf(given), ...rowsOf(second)])
      for (const s of symbols) expect(has(row, element(s))).toBe(true);
    let met = 0;
    for (let row = 0; row < training.rows; row++)
      met += Number(symbols.every((s) => has(training.packed.subarray(4 * row, 4 * row + 4), element(s))));
    for (let i = 0; i < 10; i++) await drafts.next();
    expect((drafts.hits - before) / (drafts.drawn - drawn)).toBeGreaterThan((5 * met) / training.rows);
    // No two alike but by chance.
    expect(new Set([...rowsOf(given), ...rowsOf(second)].map((row) => row.join())).size).toBeGreaterThan(150);
    const again = await pool([predicting(...symbols)]);
    expect(await again.next()).toEqual(given);
    expect(await again.next()).toEqual(second);
  });

  it('a pool keeps to elements and numbers of them', async () => {
    const drafts = await pool([predicting('F')], [lithium]);
    const given = await drafts.next();
    for (const row of rowsOf(given)) {
      expect(meetsTarget({ contains: [lithium, element('F')], sizes: [2, 5] }, row)).toBe(true);
    }
    expect(await drafts.next()).not.toEqual(given);
  });

  it('a pool that finds nothing gives up and names what was asked for', async () => {
    const never = predicting('Li', 'Na', 'K', 'Rb', 'Cs');
    await expect(pool([never])).rejects.toThrow(
      /--gap 1 \(Li,Na,K,Rb,Cs\): none of \d+ drafts is predicted to be in range/,
    );
    expect(never.asked).toBeLessThan(300_000);
  });
});
