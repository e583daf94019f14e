/** A filter tells generated formulas from real ones, and what it keeps of them is nearer to the real ones. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GpuExecutor, ReferenceExecutor } from '../../src/autograd/executor.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { uniformFormulas } from '../../src/chem/baseline.ts';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import { countByElements, type PackedFormulas, rowElements, writePairs } from '../../src/chem/encoding.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { CheckpointError, ConfigError } from '../../src/errors.ts';
import { checkConfig, type FilterConfig, loadConfig } from '../../src/models/config.ts';
import { filterNetwork, filterRows, filterTrainer, generatedRows, keepOffset, Sieve } from '../../src/models/filter.ts';
import { findCheckpoint, train } from '../../src/models/run.ts';
import { drawSamples, sample } from '../../src/models/sampler.ts';
import { describeGpu } from '../gpu.ts';
import { bitsOf, logOf, openGpu, temporaryFolder, tinyFilter, tinyGan, trainTiny } from './tiny.ts';

/** Rows with the numbers of elements that are given. */
function rowsOf(sizes: readonly number[]): PackedFormulas {
  const packed = new Uint32Array(4 * sizes.length);
  sizes.forEach((n, row) => {
    writePairs(
      packed,
      row,
      Uint16Array.from({ length: n }, (_, e) => ((e + 1) << 8) | 1),
      n,
    );
  });
  return { packed, rows: sizes.length };
}

describe('keepOffset', () => {
  const logits = Float64Array.from({ length: 1000 }, (_, i) => Math.sin(i) * 4 - 2);
  it.each([0.01, 0.1, 0.5, 0.9])('keeps the share %d', (keep) => {
    const m = keepOffset(logits, keep);
    const kept = logits.reduce((sum, logit) => sum + Math.min(1, Math.exp(logit - m)), 0) / logits.length;
    expect(kept).toBeCloseTo(keep, 6);
  });
  it('keeps everything at 1', () => expect(keepOffset(logits, 1)).toBe(Number.NEGATIVE_INFINITY));
});

describe('Sieve', () => {
  const many = 4000;
  const words = (): Uint32Array => rowsOf(new Array(many).fill(2)).packed;
  it('keeps formulas in proportion to exp(logit)', () => {
    // One in two has a logit greater by ln 3.
    const logits = Float64Array.from({ length: many }, (_, i) => (i % 2 ? Math.log(3) : 0));
    const kept = words();
    const count = new Sieve(logits, 0.2, 1).take(kept, many, many, 0, logits);
    const stays = (row: number): boolean => kept[4 * row] !== 0;
    const rows = Array.from({ length: many }, (_, i) => i).filter(stays);
    expect(rows).toHaveLength(count);
    expect(count / many).toBeGreaterThan(0.18);
    expect(count / many).toBeLessThan(0.22);
    const odd = rows.filter((row) => row % 2).length;
    // 600 and 200 are expected, with a deviation of about 20 and 13.
    expect(odd / (count - odd)).toBeGreaterThan(2.4);
    expect(odd / (count - odd)).toBeLessThan(3.8);
  });
  it('keeps the same ones whatever is wanted of them, and no more than is wanted', () => {
    const logits = new Float64Array(many);
    const [all, some] = [words(), words()];
    expect(new Sieve(logits, 0.5, 3).take(all, many, many, 0, logits)).toBeGreaterThan(100);
    expect(new Sieve(logits, 0.5, 3).take(some, many, 100, 0, logits)).toBe(100);
    const kept = (w: Uint32Array) => Array.from({ length: many }, (_, i) => i).filter((row) => w[4 * row] !== 0);
    expect(kept(some)).toEqual(kept(all).slice(0, 100));
  });
  it('keeps the same ones wherever drawing begins', () => {
    const logits = new Float64Array(many);
    const [whole, second] = [words(), words()];
    new Sieve(logits, 0.5, 3).take(whole, many, many, 7000, logits);
    new Sieve(logits, 0.5, 3).take(second, many - 1000, many, 8000, logits);
    expect(whole.subarray(4000)).toEqual(second.subarray(0, 4 * (many - 1000)));
  });
  it('says so where nothing ever stays', () => {
    const sieve = Sieve.all();
    const nothing = new Uint32Array(4 * 60_000);
    expect(sieve.take(nothing, 60_000, 1)).toBe(0);
    expect(() => sieve.take(nothing, 60_000, 1)).toThrow(CheckpointError);
  });
});

describe('filterRows', () => {
  const config = tinyFilter({ pool: 3, leaveOut: 0.5 });
  it('puts generated rows in front, and sets as many of both apart', () => {
    const real = rowsOf([2, 3, 2, 3]);
    const generated = rowsOf([5, 5, 5, 6, 6, 7]);
    expect(generatedRows(config, real.rows)).toBe(5);
    const { train, leaveOut } = filterRows(config, real, generated);
    const sizes = ({ packed, rows }: PackedFormulas) =>
      Array.from({ length: rows }, (_, row) => rowElements(packed, row));
    expect(sizes(train)).toEqual([5, 5, 5, 2, 2]);
    expect(sizes(leaveOut)).toEqual([3, 3, 6, 6]);
  });
  it('a pool without real rows behind it is refused', () => {
    expect(() => filterTrainer(config, 3)).toThrow(ConfigError);
    expect(() => filterTrainer(config, 3)).toThrow(/3 rows hold no real ones behind a pool of 3/);
  });
});

describe('filterNetwork', () => {
  it('is a function of cells, elements, their atoms and their number alone', () => {
    const graph = newGraph();
    const { parameters, apply } = filterNetwork({ hidden: [1] });
    const weights = parameters.list.map(({ name, shape }) => graph.variable(name, shape));
    const x = graph.variable('x', [1, 85, 8, 1]);
    const logit = apply([x], weights);
    const cells = new Float64Array(680);
    cells[8 * 3 + 1] = 1;
    cells[8 * 7 + 4] = 1;
    const value = (name: string, i: number): number =>
      ({
        'cells.weights': i / 1000,
        'elements.weights': i / 10,
        'atoms.weights': i / 20,
        'size.weights': 8,
        'first.bias': 0.5,
        'out.weights': 2,
        'out.bias': -1,
      })[name]!;
    const [{ data }] = evaluate([logit], (node) => ({
      shape: node.shape,
      data:
        node === x
          ? cells
          : Float64Array.from({ length: node.shape.reduce((a, n) => a * n, 1) }, (_, i) => value(node.attrs.name, i)),
    }));
    // 0.025 + 0.060 of the cells, 0.3 + 0.7 of the elements, (2 · 0.15 + 5 · 0.35) / 4 of their atoms, 8 · 2 / 4 of their number, 0.5; all above zero, so leaky ReLU does nothing.
    expect(data[0]).toBeCloseTo(2 * (0.025 + 0.06 + 0.3 + 0.7 + 0.075 + 0.4375 + 4 + 0.5) - 1, 10);
  });
});

describe('configuration', () => {
  it('has a preset, and refuses what makes no sense', () => {
    const config = loadConfig('filter', { preset: 'filter' });
    expect(config.model).toBe('filter');
    for (const wrong of [{ keep: 0 }, { keep: 1.1 }, { pool: 0 }, { dropout: 1 }, { hidden: [] }, { leaveOut: 0 }]) {
      expect(() => checkConfig({ ...config, ...wrong }, 'x'), JSON.stringify(wrong)).toThrow(ConfigError);
    }
    expect(() => checkConfig({ ...config, hidden: [16_384, 16_384] }, 'x')).toThrow(/trainable numbers/);
  });
});

describeGpu('training a filter', () => {
  let gpu: GpuExecutor;
  beforeAll(async () => {
    gpu = await openGpu();
  });
  afterAll(() => gpu.destroy());

  it('learns to tell uniform random formulas from the default set, also those that it has not seen', async () => {
    const real = synthesize();
    const config: FilterConfig = tinyFilter({ pool: 8000, steps: 150, batch: 64, hidden: [32, 32] });
    const drawn = uniformFormulas([0, 0, 0, 10_000], 1);
    const data = filterRows(config, real, drawn);
    const folder = temporaryFolder();
    const options = { logEvery: 50, checkpointEvery: 150, measureEvery: 50, best: 'loss' as const };
    await train({
      ...options,
      folder,
      executor: gpu,
      adapter: 'test',
      config,
      data: { ...data, fingerprint: fingerprintOf(data.train), source: null },
    });
    const losses = logOf(folder).map(({ lossLeaveOut }) => lossLeaveOut);
    // 2 ln 2 is a coin's.
    expect(losses.at(-1)).toBeLessThan(1);
    expect(findCheckpoint(folder, 'best').config).toEqual(config);
  }, 60_000);

  it('a generator with a filter gives formulas nearer to the real ones', async () => {
    // An untrained generator makes formulas of all sizes; the real ones are the smaller of them.
    const ganFolder = temporaryFolder();
    await trainTiny(gpu, { folder: ganFolder, config: tinyGan({ criticSteps: 1, steps: 1 }) });
    const generator = findCheckpoint(ganFolder);
    (generator.tensors['generator.average/average/transposed3.bias'].data as Float32Array).fill(-2);
    const pool = await sample(gpu, generator, { count: 700, seed: 2, formulas: true });
    expect(pool.rows).toBe(700);
    const few = (sizes: Uint32Array): number => {
      let [n, sum] = [1, 0];
      while (sum < 0.1 * 700) sum += sizes[++n];
      return n;
    };
    const most = few(countByElements(pool));
    const small: number[] = [];
    for (let row = 0; row < pool.rows; row++) if (rowElements(pool.packed, row) <= most) small.push(row);
    const shareOf = (rows: PackedFormulas): number =>
      countByElements(rows).reduce((sum, count, n) => sum + (n <= most ? count : 0), 0) / rows.rows;
    expect(shareOf(pool)).toBeLessThan(0.7);
    const real = {
      packed: Uint32Array.from(small.flatMap((row) => [...pool.packed.subarray(4 * row, 4 * row + 4)])),
      rows: small.length,
    };
    const config = tinyFilter({ pool: 600, steps: 100, batch: 64, hidden: [32], keep: 0.2 });
    const data = filterRows(config, real, pool);
    const folder = temporaryFolder();
    await train({
      folder,
      executor: gpu,
      adapter: 'test',
      config,
      data: { ...data, fingerprint: 'x', source: null },
      logEvery: 100,
      checkpointEvery: 100,
      measureEvery: 100,
    });
    const filter = findCheckpoint(folder);
    const options = { count: 60, seed: 9, batch: 64, filter };
    const kept = await sample(gpu, generator, options);
    expect(kept.rows).toBe(60);
    const raw = shareOf(pool);
    expect(shareOf(kept)).toBeGreaterThan(raw + (1 - raw) / 2);
    // The same ones again, in one batch or the next.
    expect(await sample(gpu, generator, options)).toEqual(kept);
    await expect(drawSamples(gpu, generator, { ...options, filter: generator }, () => {})).rejects.toThrow(
      /it is a model of kind gan, not a filter/,
    );
    await expect(drawSamples(gpu, filter, options, () => {})).rejects.toThrow(/generating takes a gan/);
  }, 120_000);

  it('stopped and resumed = unbroken, to the bit, with dropout on', async () => {
    const config = tinyFilter({ dropout: 0.5, steps: 40 });
    const [whole, parted] = [temporaryFolder(), temporaryFolder()];
    await trainTiny(gpu, { folder: whole, config, measureEvery: 10 });
    await trainTiny(gpu, { folder: parted, config, measureEvery: 10, pauseAt: 20 });
    expect(bitsOf(parted)).not.toEqual(bitsOf(whole));
    await trainTiny(gpu, { folder: parted, config, measureEvery: 10, from: findCheckpoint(parted) });
    expect(bitsOf(parted)).toEqual(bitsOf(whole));
    expect(logOf(parted)).toEqual(logOf(whole));
  }, 60_000);
});

it('the reference executor filters too', async () => {
  const reference = new ReferenceExecutor();
  const folder = temporaryFolder();
  await trainTiny(reference, { folder, config: tinyFilter({ steps: 2 }) });
  const [line] = logOf(folder);
  expect(line.loss).toBeGreaterThan(0);
});
