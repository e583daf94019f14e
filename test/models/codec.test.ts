/** A trained autoencoder at work: exact decoding, its study, walks in its latent space. On the reference executor. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { shareOf } from '../../src/chem/confidence.ts';
import { type PackedFormulas, PackedSet, packFormula, rowWords, takeRows } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { formulaText } from '../../src/chem/rows.ts';
import { CheckpointError, ConfigError, DataError, FormulaError } from '../../src/errors.ts';
import type { Checkpoint } from '../../src/models/checkpoint.ts';
import { Codec } from '../../src/models/codec.ts';
import { interpolate, latentSpread, near, packedFormula } from '../../src/models/latent.ts';
import { writeLatents } from '../../src/models/latentTable.ts';
import { findCheckpoint } from '../../src/models/run.ts';
import { decodeSets, studyOf } from '../../src/models/study.ts';
import { studyPage, studyRows } from '../../src/report/autoencoder.ts';
import { temporaryFolder, tinyData, tinyDenseAe, tinyDenseGan, trainTiny } from './tiny.ts';

const executor = new ReferenceExecutor();
const data = tinyData();
let checkpoint: Checkpoint;
const packed = (...formulas: string[]): PackedFormulas => ({
  packed: Uint32Array.from(formulas.flatMap((formula) => [...packFormula(parseFormula(formula))])),
  rows: formulas.length,
});
const texts = ({ packed: words, rows }: PackedFormulas): string[] =>
  Array.from({ length: rows }, (_, row) => formulaText(words, row));

/** Wide enough to learn the made-up rows in a hundred steps. */
const config = (() => {
  const { encoder, decoder } = tinyDenseAe();
  return tinyDenseAe({
    encoder: { ...encoder, hidden: [48] },
    decoder: { ...decoder, hidden: [48], latent: 24 },
    loss: 'crossEntropy',
    optimiser: { name: 'adam', learningRate: 1e-2, beta1: 0.5, beta2: 0.9, eps: 1e-8 },
    batch: 15,
    steps: 100,
  });
})();
beforeAll(async () => {
  const folder = temporaryFolder();
  await trainTiny(executor, { folder, config, measureEvery: 1000, logEvery: 1000, checkpointEvery: 1000 });
  checkpoint = findCheckpoint(folder);
}, 240_000);

async function withCodec<T>(work: (codec: Codec) => Promise<T>, batch = 7): Promise<T> {
  const codec = new Codec(executor, checkpoint, batch);
  try {
    return await work(codec);
  } finally {
    codec.destroy();
  }
}

describe('a codec', () => {
  it('learned enough for these tests to mean something, and cross-entropy made it learn', async () => {
    const { training } = await withCodec((codec) => decodeSets(codec, { training: data.train }));
    const { exact } = studyOf({ training: data.train }, { training }, 'argmax').sets.training!;
    expect(exact.argmax.share).toBeGreaterThan(0.3);
    expect(exact.argmax.share).toBeLessThanOrEqual(1);
  });

  it('is encoding and then decoding, whatever the size of its batches', async () => {
    const sets = { training: data.train, leaveOut: data.leaveOut };
    const whole = await withCodec((codec) => decodeSets(codec, sets), 64);
    const parts = await withCodec((codec) => decodeSets(codec, sets), 7);
    expect(parts).toEqual(whole);
    await withCodec(async (codec) => {
      const latents = new Float32Array(data.train.rows * codec.latent);
      const seen: number[][] = [];
      await codec.encode(data.train, (some, from, count) => {
        seen.push([from, count]);
        latents.set(some, from * codec.latent);
      });
      expect(seen).toEqual([
        [0, 7],
        [7, 7],
        [14, 7],
        [21, 7],
        [28, 2],
      ]);
      expect(await codec.decode(latents)).toEqual(whole.training);
    });
  });

  it('refuses a GAN, and a batch that no machine could hold', async () => {
    const folder = temporaryFolder();
    await trainTiny(executor, { folder, config: tinyDenseGan({ steps: 1 }) });
    expect(() => new Codec(executor, findCheckpoint(folder))).toThrow(CheckpointError);
    expect(() => new Codec(executor, findCheckpoint(folder))).toThrow(/of kind gan; this takes an autoencoder/);
    expect(() => new Codec(executor, checkpoint, 10_000_000)).toThrow(/activations of 10000000 rows/);
  });
});

describe('a study', () => {
  const training = packed('NaCl', 'Fe2O3', 'CaTiO3', 'Li2O', 'Mg2SiO4', 'KBr');
  const leaveOut = packed('CsAu', 'H2O');
  const zeros = new Uint32Array(rowWords);
  const decoded = {
    training: {
      // As it is, a wrong count, one missing, one more, exchanged, nothing.
      argmax: Uint32Array.from([
        ...packed('NaCl', 'Fe3O4', 'CaO3', 'LiKO', 'Mg2GeO4').packed.slice(0, 4 * 5),
        ...zeros,
      ]),
      paper: Uint32Array.from([...training.packed]),
    },
    leaveOut: { argmax: Uint32Array.from([...leaveOut.packed]), paper: Uint32Array.from([...zeros, ...zeros]) },
  };
  const generated = PackedSet.of(packed('NaCl', 'Fe2O3', 'H2O', 'RbI'));
  const study = studyOf({ training, leaveOut }, decoded, 'argmax', generated);

  it('counts rows, mistakes and elements', () => {
    const { training: first, leaveOut: second } = study.sets;
    expect(first!.exact).toEqual({ argmax: shareOf(1, 6), paper: shareOf(6, 6) });
    expect(second!.exact).toEqual({ argmax: shareOf(2, 2), paper: shareOf(0, 2) });
    // Li2O came out as LiKO: K is one too many, and Li has a wrong count as well.
    expect(first!.mistakes).toEqual({ nothing: 1, counts: 1, missing: 1, added: 1, exchanged: 1 });
    expect(first!.failedBySize).toEqual({ 2: shareOf(3, 4), 3: shareOf(2, 2) });
    expect(first!.failedByAtoms).toEqual({ 1: shareOf(1, 2), 2: shareOf(1, 1), 3: shareOf(2, 2), 4: shareOf(1, 1) });
    const rate = Object.fromEntries(study.elements.map(({ element, count, of }) => [element, [count, of]]));
    expect(rate.O).toEqual([4, 5]);
    expect(rate.Na).toEqual([0, 1]);
    expect(rate.Ge).toBe(undefined);
    expect(Object.keys(rate)[0]).toBe('H');
  });

  it('says how often a generator found either kind', () => {
    expect(study.sets.training!.generated).toEqual({ decodable: shareOf(1, 1), undecodable: shareOf(1, 5) });
    expect(study.sets.leaveOut!.generated).toEqual({ decodable: shareOf(1, 2), undecodable: shareOf(0, 0) });
    expect(studyOf({ training }, decoded, 'paper').sets.training!.generated).toBe(undefined);
  });

  it('as a page and as rows of a table', () => {
    const failures = [{ formula: 'Fe2O3', decoded: 'Fe3O4', set: 'training' } as const];
    const page = studyPage({ study, lead: 'a <test>', failures });
    expect(page).toContain('a &lt;test&gt;');
    expect(page).toContain('paper, OQMD: 96.31 %');
    expect(page).toContain('Does a generator find what the autoencoder can’t write?');
    expect(page.match(/NaN|undefined|Infinity|\[object/g)).toBe(null);
    expect(studyRows(study)).toEqual([
      ['training', 6, '16.67 %', '100.00 %', '96.3 %'],
      ['left out', 2, '100.00 %', '0.00 %', '95.5 %'],
    ]);
    const perfect = studyOf({ other: training }, { other: { ...decoded.training } }, 'paper');
    expect(studyPage({ study: perfect, lead: '', failures: [] })).toContain('Every formula comes out as it went in.');
  });

  it('shares come with Wilson’s interval', () => {
    expect(shareOf(0, 0)).toEqual({ count: 0, of: 0, share: null, interval: null });
    // 10 of 100: 5.52 to 17.44 %, as tables of this interval have it.
    const { interval } = shareOf(10, 100);
    expect(interval![0]).toBeCloseTo(0.0552, 4);
    expect(interval![1]).toBeCloseTo(0.1744, 4);
    expect(shareOf(0, 10).interval![0]).toBe(0);
    expect(shareOf(10, 10).interval![1]).toBe(1);
  });
});

describe('walks in latent space', () => {
  /** Formulas of training that are decoded exactly. */
  let good: string[];
  beforeAll(async () => {
    const { training } = await withCodec((codec) => decodeSets(codec, { training: data.train }));
    const equal = Array.from({ length: data.train.rows }, (_, i) => i).filter((i) =>
      training!.argmax.subarray(4 * i, 4 * i + 4).every((w, k) => w === data.train.packed[4 * i + k]),
    );
    good = texts({ packed: takeRows(data.train.packed, equal), rows: equal.length });
  });

  it('from one formula to another: ends that decode, neighbours merged, places from 0 to 1', async () => {
    const known = PackedSet.of(data.train);
    const [from, to] = good;
    const path = await withCodec((codec) => interpolate(codec, { from, to }, 20, 'argmax', known));
    expect(path).toMatchObject({ from, to, exact: { from: true, to: true } });
    const { stretches } = path;
    expect(stretches.reduce((total, { points }) => total + points, 0)).toBe(21);
    expect([stretches[0].from, stretches.at(-1)!.to]).toEqual([0, 1]);
    expect([stretches[0].found, stretches.at(-1)!.found]).toMatchObject([
      { formula: from, known: true },
      { formula: to, known: true },
    ]);
    for (let i = 1; i < stretches.length; i++) {
      expect(stretches[i].found?.formula).not.toBe(stretches[i - 1].found?.formula);
      expect(stretches[i].from - stretches[i - 1].to).toBeCloseTo(0.05, 9);
    }
    const one = await withCodec((codec) => interpolate(codec, { from, to: from }, 3, 'argmax'));
    expect(one.stretches).toMatchObject([{ from: 0, to: 1, points: 4, found: { formula: from, known: null } }]);
  });

  it('around a formula: itself at radius 0, others farther out, the nearest first, the same for the same seed', async () => {
    await withCodec(async (codec) => {
      const spread = await latentSpread(codec, data.train);
      expect(spread).toHaveLength(24);
      const options = {
        count: 60,
        radius: 0,
        seed: 1,
        rule: 'argmax',
        spread,
        known: PackedSet.of(data.train),
      } as const;
      expect(await near(codec, good[0], options)).toMatchObject({ samples: 60, decoded: 60, same: 60, neighbours: [] });
      const far = await near(codec, good[0], { ...options, radius: 2 });
      expect(far.neighbours.length).toBeGreaterThan(0);
      expect(far.decoded).toBe(far.same + far.neighbours.reduce((total, { times }) => total + times, 0));
      const distances = far.neighbours.map(({ distance }) => distance);
      expect(distances).toEqual([...distances].sort((a, b) => a - b));
      expect(distances[0]).toBeGreaterThan(0);
      expect(far.neighbours.map(({ formula }) => formula)).not.toContain(good[0]);
      expect(await near(codec, good[0], { ...options, radius: 2 })).toEqual(far);
      expect(await near(codec, good[0], { ...options, radius: 2, seed: 2 })).not.toEqual(far);
    });
  });

  it('distances are in standard deviations over the data', async () => {
    await withCodec(async (codec) => {
      const spread = await latentSpread(codec, data.train);
      const all = new Float32Array(data.train.rows * codec.latent);
      await codec.encode(data.train, (some, from) => all.set(some, from * codec.latent));
      for (const k of [0, 11, 23]) {
        const values = Array.from({ length: data.train.rows }, (_, i) => all[i * codec.latent + k]);
        const mean = values.reduce((a, v) => a + v, 0) / values.length;
        const sum = values.reduce((a, v) => a + (v - mean) ** 2, 0);
        expect(spread[k]).toBeCloseTo(Math.sqrt(sum / (values.length - 1)), 6);
      }
    });
  });

  it.each<[string, () => unknown, new (...args: never[]) => Error, RegExp]>([
    ['no formula', () => packedFormula('salt'), FormulaError, /salt/],
    ['nothing', () => packedFormula(''), FormulaError, /empty/],
    ['an element outside the 85', () => packedFormula('HeO'), FormulaError, /He/],
    ['one element', () => packedFormula('Fe4'), DataError, /it has one element, which never decodes/],
    ['too many atoms', () => packedFormula('Mg17Al12'), FormulaError, /17 atoms of Mg/],
  ])('refuses %s', (_, act, kind, message) => {
    expect(act).toThrow(kind);
    expect(act).toThrow(message);
  });

  it('refuses zero steps, zero points, and data that tell no spread', async () => {
    await withCodec(async (codec) => {
      const ends = { from: 'NaCl', to: 'KBr' };
      await expect(interpolate(codec, ends, 0, 'argmax')).rejects.toThrow(ConfigError);
      const spread = new Float64Array(24);
      const options = { radius: 1, seed: 1, rule: 'argmax', spread } as const;
      await expect(near(codec, 'NaCl', { ...options, count: 0 })).rejects.toThrow(ConfigError);
      await expect(latentSpread(codec, packed('NaCl'))).rejects.toThrow(DataError);
      // A spread of zero: every point is the formula's own.
      expect((await near(codec, good[0], { ...options, count: 3 })).same).toBe(3);
    });
  });
});

describe('a table of latent vectors', () => {
  it('has every row, in order, to the bit of f32; no file is left beside it', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'z.csv');
    const progress: number[] = [];
    const rows = await withCodec((codec) =>
      writeLatents(file, codec, { training: data.train, leaveOut: data.leaveOut }, (n) => progress.push(n)),
    );
    expect(rows).toBe(35);
    expect(progress.at(-1)).toBe(35);
    const [head, ...lines] = readFileSync(file, 'utf8').trim().split('\n');
    expect(head).toBe(`formula,elements,set,${Array.from({ length: 24 }, (_, k) => `z${k}`).join(',')}`);
    expect(lines).toHaveLength(35);
    expect(lines.map((line) => line.split(',')[0])).toEqual([...texts(data.train), ...texts(data.leaveOut)]);
    expect([lines[0].split(',')[2], lines[34].split(',')[2]]).toEqual(['training', 'leaveOut']);
    await withCodec((codec) =>
      codec.encode({ packed: data.train.packed, rows: 1 }, (latents) => {
        expect(
          lines[0]
            .split(',')
            .slice(3)
            .map((v) => Math.fround(Number(v))),
        ).toEqual([...latents]);
      }),
    );
    const parquet = join(folder, 'z.parquet');
    await withCodec((codec) => writeLatents(parquet, codec, { other: data.leaveOut }));
    expect(readFileSync(parquet).subarray(0, 4).toString()).toBe('PAR1');
    expect(readdirSync(folder).sort()).toEqual(['z.csv', 'z.parquet']);
  });

  it('into a folder that is not there', async () => {
    const file = join(temporaryFolder(), 'none', 'z.csv');
    await withCodec(async (codec) => {
      await expect(writeLatents(file, codec, { other: data.leaveOut })).rejects.toThrow(DataError);
    });
    expect(existsSync(file)).toBe(false);
  });
});
