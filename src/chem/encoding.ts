import { elementIndex, matganElements } from './elements.ts';
import { type Composition, FormulaFault, formatFormula, gcd } from './formula.ts';

/**
 * Packed formulas: the form in which compositions are stored, uploaded and read back.
 *
 * A row is 4 words of 32 bits, read as 8 half-words: pair p is in word p >> 1, the low half first. A pair is
 * (element index + 1) << 8 | count with the index 0 … 84 in `matganElements` and the count 1 … 8; 0 means no pair. Pairs
 * are sorted by element and empty ones come last, so equal formulas have equal words.
 */
export const rowWords = 4;
/** Elements per packed row, at most. */
export const maxPairs = 8;
/** Atoms of one element, at most: the columns of the matrix. */
export const maxCount = 8;
/** Rows of the matrix. */
export const elementCount = 85;
/** Cells of the matrix: element e with count c is cell 8 e + c - 1. */
export const matrixCells = elementCount * maxCount;

/** How a matrix of values is read as a formula; see `decodeMatrix`. */
export type DecodingRule = 'paper' | 'argmax';

/** Packed formulas together with their number: `packed` has at least 4 · rows words. */
export interface PackedFormulas {
  readonly packed: Uint32Array;
  readonly rows: number;
}

/** Half-word of pair p in a row: (element index + 1) << 8 | count, or 0. */
export function pairAt(words: Uint32Array, row: number, p: number): number {
  return (words[row * rowWords + (p >> 1)] >>> ((p & 1) << 4)) & 0xffff;
}

/** Writes pair p of a row; `pair` is (element index + 1) << 8 | count. */
function setPair(words: Uint32Array, row: number, p: number, pair: number): void {
  const shift = (p & 1) << 4;
  const word = row * rowWords + (p >> 1);
  words[word] = (words[word] & ~(0xffff << shift)) | (pair << shift);
}

/** Writes pairs, sorted here by element, as a row. `count` of them are taken; the rest of the row becomes empty. */
export function writePairs(words: Uint32Array, row: number, pairs: Uint16Array | number[], count: number): void {
  for (let i = 1; i < count; i++) {
    const pair = pairs[i];
    let j = i - 1;
    for (; j >= 0 && pairs[j] > pair; j--) pairs[j + 1] = pairs[j];
    pairs[j + 1] = pair;
  }
  for (let p = 0; p < maxPairs; p += 2) {
    const low = p < count ? pairs[p] : 0;
    const high = p + 1 < count ? pairs[p + 1] : 0;
    words[row * rowWords + (p >> 1)] = low | (high << 16);
  }
}

/**
 * Packs a composition into 4 words, as it stands: nothing is reduced.
 * @throws FormulaError where it does not fit 85 × 8: an element outside the 85, an amount that is fractional or above 8, more
 * than 8 elements.
 */
export function packFormula(composition: Composition): Uint32Array {
  const pairs: number[] = [];
  const fail = (kind: FormulaFault['kind'], what: string): never => {
    throw new FormulaFault(kind, `formula ${formatFormula(composition)}: ${what}`);
  };
  if (composition.size === 0) throw new FormulaFault('empty', 'the formula is empty; write one such as NaCl');
  for (const [symbol, count] of composition) {
    const index = elementIndex(symbol);
    if (index < 0)
      fail('element outside the 85', `${symbol} is none of the 85 elements of the matrix; leave this row out`);
    if (!Number.isInteger(count))
      fail('fractional amount', `${symbol} has a fractional amount; multiply the formula out`);
    if (count < 1 || count > maxCount) {
      fail(
        'more than 8 atoms of an element',
        `${count} atoms of ${symbol}; the matrix holds 1 to ${maxCount}, so reduce it`,
      );
    }
    pairs.push(((index + 1) << 8) | count);
  }
  if (pairs.length > maxPairs) fail('more than 8 elements', `${pairs.length} elements; a packed row holds ${maxPairs}`);
  const words = new Uint32Array(rowWords);
  writePairs(words, 0, pairs, pairs.length);
  return words;
}

/** Index of an element by its letters, first · 32 + second, where a second one is 1 … 26; -1 where there is none. */
const byLetters = new Int8Array(26 * 32).fill(-1);
matganElements.forEach((symbol, e) => {
  byLetters[(symbol.charCodeAt(0) - 65) * 32 + (symbol.length > 1 ? symbol.charCodeAt(1) - 96 : 0)] = e;
});
const plainPairs = new Uint16Array(maxPairs);
const plainCounts = new Float64Array(maxPairs);

/**
 * Reads, reduces and packs a plain formula (`Fe4O6`: elements and whole amounts, nothing else) into row `row`, twenty times
 * quicker than `parseFormula` and the rest of the way.
 * @returns false, and a row as it was, for everything that is not plain, has an element twice, or does not fit 85 × 8: whoever
 *   wants it, or an error that says why, takes the long way
 */
export function packPlain(text: string, words: Uint32Array, row: number): boolean {
  let n = 0;
  let divisor = 0;
  for (let at = 0; at < text.length; n++) {
    if (n === maxPairs) return false;
    const first = text.charCodeAt(at++) - 65;
    if (first < 0 || first > 25) return false;
    let second = at < text.length ? text.charCodeAt(at) - 96 : 0;
    if (second >= 1 && second <= 26) at++;
    else second = 0;
    const e = byLetters[first * 32 + second];
    if (e < 0) return false;
    const from = at;
    let count = 0;
    for (; at < text.length; at++) {
      const digit = text.charCodeAt(at) - 48;
      if (digit < 0 || digit > 9) break;
      count = 10 * count + digit;
    }
    // Zeros, and numbers that are long enough to be refused elsewhere.
    if (at - from > 6 || (at > from && count === 0)) return false;
    if (at === from) count = 1;
    for (let p = 0; p < n; p++) if (plainPairs[p] >> 8 === e + 1) return false;
    plainPairs[n] = (e + 1) << 8;
    plainCounts[n] = count;
    divisor = gcd(divisor, count);
  }
  if (n === 0) return false;
  for (let p = 0; p < n; p++) {
    const count = plainCounts[p] / divisor;
    if (count > maxCount) return false;
    plainPairs[p] |= count;
  }
  writePairs(words, row, plainPairs, n);
  return true;
}

/** The composition of a packed row; empty for a row of zeros. */
export function unpackRow(words: Uint32Array, row = 0): Composition {
  const composition: Composition = new Map();
  for (let p = 0; p < maxPairs; p++) {
    const pair = pairAt(words, row, p);
    if (pair === 0) break;
    composition.set(matganElements[(pair >> 8) - 1], pair & 0xff);
  }
  return composition;
}

/** Number of elements of a packed row, 0 to 8. */
export function rowElements(words: Uint32Array, row: number): number {
  let n = 0;
  while (n < maxPairs && pairAt(words, row, n) !== 0) n++;
  return n;
}

/** Number of rows with 0 … 8 elements. */
export function countByElements({ packed, rows }: PackedFormulas): Uint32Array {
  const counts = new Uint32Array(maxPairs + 1);
  for (let row = 0; row < rows; row++) counts[rowElements(packed, row)]++;
  return counts;
}

/** Eight UTF-16 units that are equal for equal rows: a key for a Map or Set. `PackedSet` is faster for many rows. */
export function packedKey(words: Uint32Array, row = 0): string {
  const at = row * rowWords;
  const [a, b, c, d] = [words[at], words[at + 1], words[at + 2], words[at + 3]];
  return String.fromCharCode(a & 0xffff, a >>> 16, b & 0xffff, b >>> 16, c & 0xffff, c >>> 16, d & 0xffff, d >>> 16);
}

/** Divides a row by the greatest common divisor of its counts, in place; returns the divisor (0 for an empty row). */
export function reducePacked(words: Uint32Array, row = 0): number {
  let divisor = 0;
  for (let p = 0; p < maxPairs && divisor !== 1; p++) {
    const pair = pairAt(words, row, p);
    if (pair === 0) break;
    divisor = gcd(divisor, pair & 0xff);
  }
  if (divisor <= 1) return divisor;
  for (let p = 0; p < maxPairs; p++) {
    const pair = pairAt(words, row, p);
    if (pair === 0) break;
    setPair(words, row, p, (pair & 0xff00) | ((pair & 0xff) / divisor));
  }
  return divisor;
}

/** The 85 × 8 matrix of a row, row-major: 680 zeros and ones. Written at `offset` of `out` where one is given. */
export function encodeMatrix(
  words: Uint32Array,
  row = 0,
  out: Float32Array = new Float32Array(matrixCells),
  offset = 0,
): Float32Array {
  out.fill(0, offset, offset + matrixCells);
  for (let p = 0; p < maxPairs; p++) {
    const pair = pairAt(words, row, p);
    if (pair === 0) break;
    out[offset + ((pair >> 8) - 1) * maxCount + (pair & 0xff) - 1] = 1;
  }
  return out;
}

const found = new Uint16Array(elementCount);

/** Reads one matrix into row `row` of `out`; false where the rule drops it. */
function decodeInto(
  values: ArrayLike<number>,
  offset: number,
  rule: DecodingRule,
  out: Uint32Array,
  row: number,
): boolean {
  let n = 0;
  for (let e = 0; e < elementCount; e++) {
    const from = offset + e * maxCount;
    let count = 0;
    if (rule === 'paper') {
      for (let c = maxCount; c > 0 && count === 0; c--) if (values[from + c - 1] >= 0.2) count = c;
    } else {
      // Starts below the threshold so that NaN, which compares false, never wins.
      let best = Number.NEGATIVE_INFINITY;
      for (let c = 1; c <= maxCount; c++) {
        if (values[from + c - 1] > best) {
          best = values[from + c - 1];
          count = c;
        }
      }
      if (!(best >= 0.5)) count = 0;
    }
    if (count > 0) found[n++] = ((e + 1) << 8) | count;
  }
  if (n < 2 || n > maxPairs) return false;
  writePairs(out, row, found, n);
  return true;
}

/**
 * Reads the 680 values at `offset` as a formula. Nothing is divided by the greatest common divisor.
 *
 * - `paper`: the released code's rule. A cell is on where its value is at least 0.2; the largest count that is on wins.
 * - `argmax`: an element is there where its greatest value is at least 0.5; that cell gives the count (the first of equals).
 *
 * Both drop results of no element, of one, and of more than 8.
 * @returns 4 words, or null where the result is dropped.
 */
export function decodeMatrix(values: ArrayLike<number>, offset: number, rule: DecodingRule): Uint32Array | null {
  const words = new Uint32Array(rowWords);
  return decodeInto(values, offset, rule, words, 0) ? words : null;
}

/** Decodes `count` matrices that lie one after the other; the dropped ones are left out. */
export function decodeMatrices(values: ArrayLike<number>, count: number, rule: DecodingRule): PackedFormulas {
  const packed = new Uint32Array(count * rowWords);
  let rows = 0;
  for (let i = 0; i < count; i++) if (decodeInto(values, i * matrixCells, rule, packed, rows)) rows++;
  return { packed: packed.slice(0, rows * rowWords), rows };
}

/** Copies the chosen rows, in the order given. */
export function takeRows(words: Uint32Array, chosen: ArrayLike<number>): Uint32Array {
  const out = new Uint32Array(chosen.length * rowWords);
  for (let i = 0; i < chosen.length; i++) {
    const from = chosen[i] * rowWords;
    for (let w = 0; w < rowWords; w++) out[i * rowWords + w] = words[from + w];
  }
  return out;
}

/** Hash of a packed row: 32 bits, those at both ends well mixed. */
function hashWords(a: number, b: number, c: number, d: number): number {
  let hash = Math.imul(a, 0x9e3779b1);
  hash = Math.imul((hash ^ (hash >>> 15)) + b, 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 15)) + c, 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 15)) + d, 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** Hash of row `row`, 0 to 2^32 - 1. */
export function hashRow(words: Uint32Array, row: number): number {
  const at = row * rowWords;
  return hashWords(words[at], words[at + 1], words[at + 2], words[at + 3]);
}

/**
 * A set of packed formulas: open addressing over flat arrays, 22 to 36 bytes a formula (and half as much again for the moment
 * in which it grows), so that millions fit where as many strings would not. Members are numbered in the order of arrival.
 */
export class PackedSet {
  private words: Uint32Array;
  private slots: Int32Array;
  /** Number of different formulas. */
  size = 0;

  constructor(expected = 1024) {
    const capacity = Math.max(16, expected);
    this.words = new Uint32Array(capacity * rowWords);
    this.slots = new Int32Array(slotsFor(capacity)).fill(-1);
  }

  /** The set of all rows of some packed formulas. */
  static of({ packed, rows }: PackedFormulas): PackedSet {
    const set = new PackedSet(rows);
    for (let row = 0; row < rows; row++) set.add(packed, row);
    return set;
  }

  /** The members, one row each, in order of arrival. */
  get packed(): Uint32Array {
    return this.words.subarray(0, this.size * rowWords);
  }

  /** Bytes of its arrays. */
  get bytes(): number {
    return this.words.byteLength + this.slots.byteLength;
  }

  /** Number of a formula, or -1 where it is no member. */
  indexOf(words: Uint32Array, row: number): number {
    return this.slots[this.slot(words, row)];
  }

  has(words: Uint32Array, row: number): boolean {
    return this.indexOf(words, row) >= 0;
  }

  /** Adds a formula; true where it was not there yet. */
  add(words: Uint32Array, row: number): boolean {
    const before = this.size;
    this.insert(words, row);
    return this.size > before;
  }

  /** Number of a formula, which becomes a member where it was none: `size` then grows by one. */
  insert(words: Uint32Array, row: number): number {
    let slot = this.slot(words, row);
    const member = this.slots[slot];
    if (member >= 0) return member;
    if ((this.size + 1) * rowWords > this.words.length) {
      const larger = new Uint32Array(Math.ceil(this.words.length / rowWords / 2) * 3 * rowWords);
      larger.set(this.words);
      this.words = larger;
    }
    if (2 * this.slots.length < 3 * (this.size + 1)) {
      this.rehash(2 * this.slots.length);
      slot = this.slot(words, row);
    }
    const from = row * rowWords;
    const to = this.size * rowWords;
    for (let i = 0; i < rowWords; i++) this.words[to + i] = words[from + i];
    this.slots[slot] = this.size;
    return this.size++;
  }

  /** Slot that holds the formula, or the free one where it belongs. */
  private slot(from: Uint32Array, row: number): number {
    const { words, slots } = this;
    const at = row * rowWords;
    const a = from[at];
    const b = from[at + 1];
    const c = from[at + 2];
    const d = from[at + 3];
    const mask = slots.length - 1;
    for (let slot = hashWords(a, b, c, d) & mask; ; slot = (slot + 1) & mask) {
      const m = slots[slot] * rowWords;
      if (m < 0 || (words[m] === a && words[m + 1] === b && words[m + 2] === c && words[m + 3] === d)) return slot;
    }
  }

  private rehash(length: number): void {
    this.slots = new Int32Array(length).fill(-1);
    for (let member = 0; member < this.size; member++) this.slots[this.slot(this.words, member)] = member;
  }
}

/** A power of two of slots of which `members` fill at most two thirds. */
function slotsFor(members: number): number {
  return 2 ** Math.ceil(Math.log2(members * 1.5));
}
