/** Telling repeats apart, in memory and with files: the first of each kind, in order, whatever the bound. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { packedKey, writePairs } from '../../src/chem/encoding.ts';
import { randomStream } from '../../src/chem/random.ts';
import { Repeats } from '../../src/chem/repeats.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-repeats-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const name = (): string => join(folder, String(files++));

/** Random rows of which about one in `times` is new. */
function stream(rows: number, times: number, seed = 1): Uint32Array {
  const random = randomStream(seed, 'test');
  const packed = new Uint32Array(4 * rows);
  const kinds = Math.ceil(rows / times);
  for (let row = 0; row < rows; row++) {
    const k = random.below(kinds);
    const pairs = [
      ((1 + (k % 40)) << 8) | (1 + (Math.floor(k / 40) % 8)),
      ((41 + (Math.floor(k / 320) % 45)) << 8) | (1 + (Math.floor(k / 14_400) % 8)),
    ];
    writePairs(packed, row, pairs, 2);
  }
  return packed;
}

/** Keys of the first of each kind, as `Repeats` finds them; `take` rows of the stream. */
function firsts(packed: Uint32Array, bytes: number, at = name()): { keys: string[]; spilled: boolean; known: number } {
  const repeats = new Repeats(bytes, at);
  const keys: string[] = [];
  try {
    for (let row = 0; row < packed.length / 4; row++) {
      const before = repeats.known;
      const member = repeats.add(packed, row);
      if (repeats.known === before) continue;
      expect(member).toBe(before);
      keys.push(packedKey(packed, row));
    }
    const { spilled, known } = repeats;
    repeats.rest((words, row) => keys.push(packedKey(words, row)));
    return { keys, spilled, known };
  } finally {
    repeats.close();
  }
}

const plain = (packed: Uint32Array): string[] => [
  ...new Set(Array.from({ length: packed.length / 4 }, (_, row) => packedKey(packed, row))),
];

describe('Repeats', () => {
  it.each([
    ['all in memory', 2 ** 20, false],
    ['most in files', 60 * 700, true],
    ['nearly all in files', 1, true],
  ])('%s: the same firsts in the same order', (_, bytes, spilled) => {
    const packed = stream(20_000, 3);
    const expected = plain(packed);
    expect(expected.length).toBeGreaterThan(5000);
    const found = firsts(packed, bytes);
    expect(found.spilled).toBe(spilled);
    expect(found.keys).toEqual(expected);
  });

  it('files longer than a buffer: a record is neither lost nor read twice', () => {
    // 2048 records fit a buffer; a file gets about 300,000 / 64 = 4700.
    const packed = stream(300_000, 1.5, 2);
    const { keys, known } = firsts(packed, 1);
    expect(known).toBe(16);
    const expected = plain(packed);
    expect(keys).toHaveLength(expected.length);
    expect(keys).toEqual(expected);
  });

  it('no more members than the bound has room for', () => {
    const { known, keys } = firsts(stream(5000, 1), 60 * 100);
    expect(known).toBe(100);
    expect(keys.length).toBeGreaterThan(1000);
  });

  it('files are made when they are needed, closed and removed', () => {
    const at = name();
    const repeats = new Repeats(1, at);
    const packed = stream(100, 1);
    for (let row = 0; row < 16; row++) repeats.add(packed, row);
    expect(existsSync(at)).toBe(false);
    for (let row = 0; row < 100; row++) repeats.add(packed, row);
    expect(readdirSync(at)).toHaveLength(64);
    repeats.close();
    expect(existsSync(at)).toBe(false);
    repeats.close();
  });
});
