/** From a generator's packed rows to a table: the same rows whatever the bound of memory, and nothing half-written. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { uniformFormulas } from '../../src/chem/baseline.ts';
import { loadFormulas, uniqueRows } from '../../src/chem/dataset.ts';
import { matganElements } from '../../src/chem/elements.ts';
import { packFormula, reducePacked, rowElements, unpackRow } from '../../src/chem/encoding.ts';
import { formatFormula } from '../../src/chem/formula.ts';
import { Harvest, type HarvestOptions, type HarvestResult } from '../../src/chem/harvest.ts';
import { validityRates } from '../../src/chem/metrics.ts';
import { formulaBytes } from '../../src/chem/rows.ts';
import { flagCN, flagEN, judgePacked } from '../../src/chem/validity.ts';
import { DataError } from '../../src/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-harvest-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Samples as a generator's: some decode to nothing, many repeat, some are multiples. */
function drawn(): { packed: Uint32Array; rows: number } {
  const some = uniformFormulas([0, 0, 900, 700, 100, 50, 10, 10, 10], 4);
  const rows = 3 * some.rows;
  const packed = new Uint32Array(4 * rows);
  for (let row = 0; row < rows; row++) {
    if (row % 7 === 3) continue;
    const from = (row * 5) % some.rows;
    packed.set(some.packed.subarray(4 * from, 4 * from + 4), 4 * row);
  }
  packed.set(
    packFormula(new Map([['Na', 2]])).map((word) => word | (((17 << 8) | 2) << 16)),
    0,
  );
  return { packed, rows };
}

async function harvest(out: string, options: Omit<HarvestOptions, 'out'>): Promise<HarvestResult> {
  const { packed, rows } = drawn();
  const all = await Harvest.open({ out, ...options });
  for (let row = 0; row < rows; row += 100) {
    all.take(packed.slice(4 * row, 4 * (row + 100)), Math.min(100, rows - row));
  }
  return all.finish();
}

/** What the table must hold, worked out the plain way. */
function expected(unique: boolean, reduce: boolean): string[] {
  const { packed, rows } = drawn();
  const decoded = new Uint32Array(packed.length);
  let n = 0;
  for (let row = 0; row < rows; row++) {
    if (packed[4 * row] === 0) continue;
    decoded.set(packed.subarray(4 * row, 4 * row + 4), 4 * n);
    if (reduce) reducePacked(decoded, n);
    n++;
  }
  const all = { packed: decoded.subarray(0, 4 * n), rows: n };
  const kept = unique ? uniqueRows(all) : all;
  const flags = judgePacked(kept.packed, kept.rows);
  return Array.from({ length: kept.rows }, (_, row) =>
    [
      formatFormula(unpackRow(kept.packed, row)),
      rowElements(kept.packed, row),
      (flags[row] & flagCN) !== 0,
      (flags[row] & flagEN) !== 0,
    ].join(),
  );
}

describe('Harvest', () => {
  it.each([
    [true, true, undefined],
    [true, true, 60 * 200],
    [true, false, 1],
    [false, true, 1],
    [false, false, undefined],
  ])('unique %s, reduced %s, memory %s: the rows, in order, with their verdicts', async (unique, reduce, memory) => {
    const out = join(folder, 'all.csv');
    const result = await harvest(out, { unique, reduce, judge: true, memory });
    const [head, ...lines] = readFileSync(out, 'utf8').trimEnd().split('\n');
    expect(head).toBe('formula,elements,charge_neutral,electronegativity_balanced');
    expect(lines).toEqual(expected(unique, reduce));
    const [every, once] = [expected(false, reduce), expected(true, reduce)];
    const share = (rows: string[], pattern: RegExp): number => rows.filter((r) => pattern.test(r)).length / rows.length;
    expect(result).toEqual({
      decoded: every.length,
      unique: once.length,
      written: lines.length,
      chargeNeutral: share(every, /,true,\w+$/),
      electronegativityBalanced: share(every, /,true$/),
      uniqueChargeNeutral: share(once, /,true,\w+$/),
      uniqueElectronegativityBalanced: share(once, /,true$/),
      spilled: memory !== undefined,
    });
    expect(once.length).toBeLessThan(every.length / 2);
    expect(readdirSync(folder)).toEqual(['all.csv']);
  });

  it.each(['parquet', 'tsv', 'jsonl', 'json', 'csv.gz'])(
    '%s: the same rows as CSV, also from a folder [x]*',
    async (ending) => {
      const odd = mkdtempSync(join(folder, '[x]*-'));
      const out = join(odd, `rows.${ending}`);
      const result = await harvest(out, { unique: true, reduce: true, judge: true });
      const { packed, rows } = await loadFormulas(out);
      const formulas = Array.from({ length: rows }, (_, row) => formatFormula(unpackRow(packed, row)));
      expect(formulas).toEqual(expected(true, true).map((line) => line.split(',')[0]));
      expect(validityRates({ packed, rows }).chargeNeutral).toBe(result.uniqueChargeNeutral);
      expect(readdirSync(odd)).toEqual([`rows.${ending}`]);
      rmSync(odd, { recursive: true });
    },
  );

  it('without --judge there are two columns and no shares; nothing at all is a table without rows', async () => {
    const out = join(folder, 'plain.csv');
    expect(await harvest(out, {})).not.toHaveProperty('chargeNeutral');
    expect(readFileSync(out, 'utf8')).toMatch(/^formula,elements\n\w+,\d\n/);
    for (const ending of ['csv', 'parquet']) {
      const none = await Harvest.open({ out: join(folder, `none.${ending}`), judge: true });
      none.take(new Uint32Array(400), 100);
      expect(await none.finish()).toMatchObject({ decoded: 0, unique: 0, written: 0, chargeNeutral: null });
    }
    expect(readFileSync(join(folder, 'none.csv'), 'utf8').split('\n')).toHaveLength(2);
    for (const file of ['plain.csv', 'none.csv', 'none.parquet']) rmSync(join(folder, file));
  });

  it('discarded in the middle, files in use and rows on the disk: nothing is left', async () => {
    const { packed, rows } = uniformFormulas([0, 0, 0, 100_000], 1);
    const own = mkdtempSync(join(folder, 'cut-'));
    const all = await Harvest.open({ out: join(own, 'cut.csv'), memory: 1 });
    all.take(packed, rows);
    const entries = readdirSync(own);
    expect(entries).toHaveLength(2);
    for (const ending of ['.partial', '.repeats']) expect(entries.some((entry) => entry.endsWith(ending))).toBe(true);
    all.discard();
    expect(readdirSync(own)).toEqual([]);
    rmSync(own, { recursive: true });
  });

  it('a folder that is gone: an error that names the file', async () => {
    const gone = mkdtempSync(join(folder, 'gone-'));
    const all = await Harvest.open({ out: join(gone, 'x.csv') });
    rmSync(gone, { recursive: true });
    all.take(packFormula(new Map([['Na', 1]])), 1);
    await expect(all.finish()).rejects.toThrow(DataError);
    await expect(Harvest.open({ out: join(gone, 'x.csv') })).rejects.toThrow(/does not exist/);
  });

  it('memory does not follow the number of rows', async () => {
    // 240,000 rows would be 14 MB of members; the bound is 2 MB, and what is not different costs nothing.
    const out = join(folder, 'many.csv');
    const all = await Harvest.open({ out, judge: true, unique: true, memory: 2 * 2 ** 20 });
    const used = (): number => process.memoryUsage().arrayBuffers;
    const before = used();
    let most = 0;
    for (let part = 0; part < 8; part++) {
      const { packed, rows } = uniformFormulas([0, 0, 0, 30_000], part);
      all.take(packed, rows);
      globalThis.gc?.();
      most = Math.max(most, used() - before);
    }
    // Members, buffers of 64 files (49 kB each), a megabyte of text, and batches that nobody has collected yet.
    expect(most).toBeLessThan(2 * 2 ** 20 + 64 * 50_000 + 2 ** 20 + 8 * 480_000);
    const { unique, spilled } = await all.finish();
    expect(spilled).toBe(true);
    expect(unique).toBeGreaterThan(235_000);
    rmSync(out);
  });
});

describe('formulaBytes', () => {
  it('writes as formatFormula does', () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.constantFrom(...matganElements), fc.integer({ min: 1, max: 8 })), {
      minLength: 1,
      maxLength: 8,
      selector: ([symbol]) => symbol,
    });
    fc.assert(
      fc.property(pairs, (list) => {
        const composition = new Map(list);
        const bytes = new Uint8Array(32);
        const end = formulaBytes(packFormula(composition), 0, bytes, 3);
        expect(Buffer.from(bytes.subarray(3, end)).toString()).toBe(formatFormula(composition));
      }),
      { seed: 7, numRuns: 3000 },
    );
  });
});
