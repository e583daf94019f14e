import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { element, matganElements } from './elements.ts';
import { maxCount, maxPairs, pairAt } from './encoding.ts';
import { formatFormula } from './formula.ts';
import { type ColumnType, cannotWrite, checkOutput, convertCsv, isPlainCsv, temporaryBeside } from './tables.ts';
import { flagCN, flagEN } from './validity.ts';

/**
 * Packed formulas as rows of a table, written as they come. They go as CSV text, a megabyte at a time, to a file beside the one
 * that is asked for; in the end it is renamed, or turned into Parquet or what else the name says, in bounded memory. So a
 * hundred million rows take no more memory than one. Text is put together from the bytes of each (element, count).
 */

/** Bytes of an element with a count, as `formatFormula` writes them: at most 3, then their number. */
const cellText = new Uint8Array(matganElements.length * maxCount * 4);
/** Place of each element in a formula, as `formatFormula` sorts. */
const orderOf = new Uint8Array(matganElements.length);
matganElements.forEach((symbol, e) => {
  for (let count = 1; count <= maxCount; count++) {
    const text = formatFormula(new Map([[symbol, count]]));
    const at = (e * maxCount + count - 1) * 4;
    for (let i = 0; i < text.length; i++) cellText[at + i] = text.charCodeAt(i);
    cellText[at + 3] = text.length;
  }
});
const scale = (symbol: string): number => element(symbol)!.electronegativity ?? Number.POSITIVE_INFINITY;
[...matganElements.keys()]
  .sort((a, b) => {
    const [x, y] = [scale(matganElements[a]), scale(matganElements[b])];
    return x < y ? -1 : x > y ? 1 : matganElements[a] < matganElements[b] ? -1 : 1;
  })
  .forEach((e, place) => {
    orderOf[e] = place;
  });

const cells = new Uint16Array(maxPairs);

/** Writes a row's formula as ASCII at `to` (24 bytes at most), as `formatFormula` does; returns the place behind it. */
export function formulaBytes(words: Uint32Array, row: number, into: Uint8Array, to: number): number {
  let n = 0;
  for (; n < maxPairs; n++) {
    const pair = pairAt(words, row, n);
    if (pair === 0) break;
    const cell = ((pair >> 8) - 1) * maxCount + (pair & 0xff) - 1;
    const order = orderOf[cell >> 3];
    let j = n;
    for (; j > 0 && orderOf[cells[j - 1] >> 3] > order; j--) cells[j] = cells[j - 1];
    cells[j] = cell;
  }
  for (let i = 0; i < n; i++) {
    const from = cells[i] * 4;
    const length = cellText[from + 3];
    for (let k = 0; k < length; k++) into[to++] = cellText[from + k];
  }
  return to;
}

const scratch = Buffer.alloc(32);
/** `formatFormula` of a packed row, an order of magnitude quicker. */
export function formulaText(words: Uint32Array, row: number): string {
  return scratch.toString('latin1', 0, formulaBytes(words, row, scratch, 0));
}

const chunk = 1 << 20;
/** More than any line of ours takes. */
const longestLine = 64;
const [comma, newline, zero] = [44, 10, 48];
const truth = ['false', 'true'].map((word) => Buffer.from(`,${word}`));

/** Takes text as it comes: a stream instead of a file. */
export type TextSink = (text: Uint8Array) => void;

/** A table of formulas under way: `add` rows, then `close`, or `discard` what there is. */
export class FormulaWriter {
  private readonly file: string;
  private readonly sink: TextSink | undefined;
  private readonly csv: string;
  private readonly converted: string;
  private readonly columns: Readonly<Record<string, ColumnType>>;
  private readonly verdicts: boolean;
  private handle: number | undefined;
  private readonly buffer = Buffer.allocUnsafe(chunk);
  private at = 0;
  /** Rows added. */
  rows = 0;

  private constructor(out: string | TextSink, verdicts: boolean) {
    this.sink = typeof out === 'string' ? undefined : out;
    this.file = typeof out === 'string' ? out : 'standard output';
    this.csv = temporaryBeside(this.file);
    this.converted = temporaryBeside(this.file);
    this.verdicts = verdicts;
    this.columns = {
      formula: 'text',
      elements: 'integer',
      ...(verdicts && { charge_neutral: 'truth', electronegativity_balanced: 'truth' }),
    };
    if (!this.bare) this.at = this.buffer.write(`${Object.keys(this.columns).join(',')}\n`);
  }

  /**
   * Begins a table of `formula` and `elements`, with `verdicts` also of `charge_neutral` and `electronegativity_balanced`. The
   * ending decides on its form, as for `writeTable`. A stream gets CSV, and without verdicts bare formulas, one a line.
   * @throws DataError where it cannot be written
   */
  static async open(file: string | TextSink, options: { verdicts?: boolean } = {}): Promise<FormulaWriter> {
    const writer = new FormulaWriter(file, options.verdicts ?? false);
    if (typeof file !== 'string') return writer;
    await checkOutput(file);
    try {
      // Before any work is done for it, so that a folder that takes no file is known at once.
      writer.handle = openSync(writer.csv, 'wx');
    } catch (error) {
      throw cannotWrite(file, error);
    }
    return writer;
  }

  /** Adds a packed row; `flags` as `Judge.row` gives them. @throws DataError where the disk takes no more */
  add(words: Uint32Array, row: number, flags = 0): void {
    const { buffer } = this;
    const from = this.at;
    let to = formulaBytes(words, row, buffer, from);
    if (!this.bare) {
      buffer[to++] = comma;
      let elements = 0;
      while (elements < maxPairs && pairAt(words, row, elements) !== 0) elements++;
      buffer[to++] = zero + elements;
    }
    if (this.verdicts) {
      for (const flag of [flagCN, flagEN]) to += truth[flags & flag ? 1 : 0].copy(buffer, to);
    }
    buffer[to++] = newline;
    this.at = to;
    this.rows++;
    if (to > chunk - longestLine) this.flush();
  }

  private get bare(): boolean {
    return this.sink !== undefined && !this.verdicts;
  }

  /** Sends on what a stream has been given so far; a file waits for more. */
  send(): void {
    if (this.sink) this.flush();
  }

  private flush(): void {
    if (this.sink) {
      // A copy: a stream may take its time.
      if (this.at > 0) this.sink(Buffer.from(this.buffer.subarray(0, this.at)));
      this.at = 0;
      return;
    }
    try {
      for (let at = 0; at < this.at; ) at += writeSync(this.handle!, this.buffer, at, this.at - at);
      this.at = 0;
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** Puts the table in its place. @throws DataError where it cannot be written; then nothing is left of it */
  async close(): Promise<void> {
    this.flush();
    if (this.sink) return;
    try {
      closeSync(this.handle!);
      this.handle = undefined;
      if (isPlainCsv(this.file)) renameSync(this.csv, this.file);
      else {
        await convertCsv(this.csv, this.columns, this.file, this.converted);
        renameSync(this.converted, this.file);
        rmSync(this.csv);
      }
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** Removes what was written so far; does not wait. */
  discard(): void {
    if (this.sink) return;
    if (this.handle !== undefined) closeSync(this.handle);
    this.handle = undefined;
    for (const path of [this.csv, this.converted]) rmSync(path, { force: true });
  }

  private failed(error: unknown): Error {
    this.discard();
    return cannotWrite(this.file, error);
  }
}
