import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reducePacked } from './encoding.ts';
import { Repeats } from './repeats.ts';
import { FormulaWriter, type TextSink } from './rows.ts';
import { temporaryBeside } from './tables.ts';
import { flagCN, flagEN, Judge } from './validity.ts';

export interface HarvestOptions {
  /** Table to write, whose ending decides on its form; or where text goes, see `FormulaWriter.open`. */
  out: string | TextSink;
  /** Divide each formula by the greatest common divisor of its counts. */
  reduce?: boolean;
  /** Write each formula once, where it comes first. */
  unique?: boolean;
  /** Judge each formula, and write the verdicts beside it. */
  judge?: boolean;
  /** Bytes that finding repeats may take, `defaultMemory` unless said; beyond it files beside `out` are used, or temporary ones. */
  memory?: number;
}

/** 17 million different formulas; with files, about a thousand million. */
export const defaultMemory = 2 ** 30;

export interface HarvestResult {
  /** Rows that hold a formula. */
  decoded: number;
  /** Different ones among them. */
  unique: number;
  written: number;
  /** Shares of the decoded formulas, and of the different ones; null where there are none. Only with `judge`. */
  chargeNeutral?: number | null;
  electronegativityBalanced?: number | null;
  uniqueChargeNeutral?: number | null;
  uniqueElectronegativityBalanced?: number | null;
  /** True where temporary files were needed to find repeats. */
  spilled: boolean;
}

/** Rows by verdict: of all, and of the first of each kind. */
const verdictCount = 4;

/**
 * A generator's packed rows on their way to a table: reduced, told from repeats, judged and written as they come. Memory does
 * not grow with the number of rows beyond `memory`; what comes out does not depend on it.
 */
export class Harvest {
  private readonly options: HarvestOptions;
  private readonly writer: FormulaWriter;
  private readonly repeats: Repeats;
  private readonly judge = new Judge();
  /** Verdict of each known formula, so that a repeat is not judged again. */
  private verdicts = new Uint8Array(1024);
  private readonly all = new Float64Array(verdictCount);
  private readonly different = new Float64Array(verdictCount);

  private constructor(writer: FormulaWriter, options: HarvestOptions) {
    this.options = options;
    this.writer = writer;
    const near = typeof options.out === 'string' ? options.out : join(tmpdir(), 'matgan');
    this.repeats = new Repeats(options.memory ?? defaultMemory, `${temporaryBeside(near)}.repeats`);
  }

  /** @throws DataError where the table cannot be written */
  static async open(options: HarvestOptions): Promise<Harvest> {
    return new Harvest(await FormulaWriter.open(options.out, { verdicts: options.judge }), options);
  }

  /** Takes the next rows, which are changed where they are reduced; rows of zeros are left out. @throws DataError */
  take(words: Uint32Array, rows: number): void {
    const { reduce, unique, judge } = this.options;
    const { repeats, writer, all, different } = this;
    for (let row = 0; row < rows; row++) {
      if (words[4 * row] === 0) continue;
      if (reduce) reducePacked(words, row);
      const known = repeats.known;
      const member = repeats.add(words, row);
      const first = repeats.known > known;
      let flags = 0;
      if (judge) {
        if (member < 0) flags = this.judge.row(words, row);
        else if (first) this.remember(member, (flags = this.judge.row(words, row)));
        else flags = this.verdicts[member];
      }
      all[flags]++;
      if (first) different[flags]++;
      if (first || !unique) writer.add(words, row, flags);
    }
    writer.send();
  }

  private remember(member: number, flags: number): void {
    if (member >= this.verdicts.length) {
      const larger = new Uint8Array(2 * this.verdicts.length);
      larger.set(this.verdicts);
      this.verdicts = larger;
    }
    this.verdicts[member] = flags;
  }

  /** Puts the table in its place and counts. @throws DataError */
  async finish(): Promise<HarvestResult> {
    const { judge, unique } = this.options;
    const { repeats, writer, different } = this;
    const { spilled } = repeats;
    repeats.rest((words, row) => {
      const flags = judge ? this.judge.row(words, row) : 0;
      different[flags]++;
      if (unique) writer.add(words, row, flags);
    });
    repeats.close();
    await writer.close();
    const [decoded, differing] = [this.all, different].map((counts) => counts.reduce((a, b) => a + b, 0));
    const share = (counts: Float64Array, flag: number): number | null => {
      let [passed, total] = [0, 0];
      counts.forEach((count, flags) => {
        total += count;
        if (flags & flag) passed += count;
      });
      return total === 0 ? null : passed / total;
    };
    return {
      decoded,
      unique: differing,
      written: writer.rows,
      ...(judge && {
        chargeNeutral: share(this.all, flagCN),
        electronegativityBalanced: share(this.all, flagEN),
        uniqueChargeNeutral: share(different, flagCN),
        uniqueElectronegativityBalanced: share(different, flagEN),
      }),
      spilled,
    };
  }

  /** Removes everything that was written, also in the middle of `finish`; does not wait. */
  discard(): void {
    this.writer.discard();
    this.repeats.close();
  }
}
