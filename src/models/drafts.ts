/** Drafts by what models predict of them: a pool that a generator takes its drafts from. */
import { drawnPairs } from '../autograd/ops/random.ts';
import { adaptedSums } from '../chem/baseline.ts';
import { maxPairs, type PackedFormulas, pairAt, rowWords, takeRows, writePairs } from '../chem/encoding.ts';
import { randomStream } from '../chem/random.ts';
import { DataError } from '../errors.ts';
import type { Regressor } from './regressor.ts';

/** A range that a model's prediction is to lie in, its ends included. */
export interface PropertyRange {
  /** For messages, such as "--gap 2..3". */
  readonly name: string;
  readonly model: Pick<Regressor, 'run' | 'rough'>;
  readonly range: readonly [low: number, high: number];
}

/**
 * Zeroes packed rows that a model predicts outside its range; the next model sees only what is left.
 * @param rough take cheaper predictions where a model has them
 * @returns how many are left
 */
export async function keepInRange(
  words: Uint32Array,
  rows: number,
  properties: readonly PropertyRange[],
  rough = false,
): Promise<number> {
  let left = Array.from({ length: rows }, (_, row) => row).filter((row) => words[rowWords * row] !== 0);
  for (const { model, range } of properties) {
    if (left.length === 0) break;
    const rest = takeRows(words, left);
    const { values } = await (rough && model.rough ? model.rough(rest, left.length) : model.run(rest, left.length));
    left = left.filter((row, i) => {
      const within = values[i] >= range[0] && values[i] <= range[1];
      if (!within) words.fill(0, rowWords * row, rowWords * (row + 1));
      return within;
    });
  }
  return left.length;
}

/** Drafts that models are asked about at a time. */
const chunk = 1024;
/** Drafts in range that frequencies are adapted to, round by round: few at first, while they are rare. */
const adapting = [64, 128, 256];
/** Drafts after which adapting does with what there is; and twice as many without any in range are given up. */
const enough = 65_536;

export interface PoolOptions {
  /** Frequencies of what every draft must have, and of the rest, see `targetSums`. */
  required: Float32Array;
  others: Float32Array;
  properties: readonly PropertyRange[];
  seed: number;
  /** Drafts that `next` gives. */
  batch: number;
}

/**
 * Drafts that models predict in range, roughly where they can: what comes of a draft is predicted again. Frequencies are adapted to such drafts first (the cross-entropy method), so that few have to
 * be drawn for one; after that the drafts stay independent of one another. Everything follows from the seed.
 */
export class DraftPool {
  /** Drafts that models were asked about so far, and how many were in range. */
  drawn = 0;
  hits = 0;
  private readonly options: PoolOptions;
  private readonly random: () => number;
  private required: Float32Array;
  private others: Float32Array;
  private waiting: PackedFormulas = { packed: new Uint32Array(0), rows: 0 };

  private constructor(options: PoolOptions) {
    this.options = options;
    this.required = options.required;
    this.others = options.others;
    const random = randomStream(options.seed, 'drafts');
    this.random = () => random.uniform();
  }

  /** Adapts the frequencies. @throws DataError where no draft is in range */
  static async open(options: PoolOptions): Promise<DraftPool> {
    const pool = new DraftPool(options);
    for (const rows of adapting) pool.adapt(await pool.gather(rows, enough));
    return pool;
  }

  /** Packed drafts [batch, 4]. @throws DataError where no more are in range */
  async next(): Promise<Uint32Array> {
    const { batch } = this.options;
    const { packed, rows } = await this.gather(batch, Number.POSITIVE_INFINITY);
    this.waiting = { packed: packed.slice(rowWords * batch), rows: rows - batch };
    return packed.slice(0, rowWords * batch);
  }

  /** At least `wanted` drafts in range, or those of `most` that are, but at least one. */
  private async gather(wanted: number, most: number): Promise<PackedFormulas> {
    let { packed, rows } = this.waiting;
    this.waiting = { packed: new Uint32Array(0), rows: 0 };
    let [drawn, missed] = [0, 0];
    while (rows < wanted && !(drawn >= most && rows > 0)) {
      const words = this.draw(chunk);
      const found = await keepInRange(words, chunk, this.options.properties, true);
      drawn += chunk;
      this.drawn += chunk;
      this.hits += found;
      missed = found > 0 ? 0 : missed + chunk;
      if (missed >= 2 * enough) {
        const ranges = this.options.properties.map(({ name }) => name).join(' and ');
        throw new DataError(
          `${ranges}: none of ${missed} drafts is predicted to be in range (${this.hits} of ${this.drawn} in all); widen it`,
        );
      }
      const chosen = Array.from({ length: chunk }, (_, row) => row).filter((row) => words[rowWords * row] !== 0);
      const larger = new Uint32Array(rowWords * (rows + found));
      larger.set(packed.subarray(0, rowWords * rows));
      larger.set(takeRows(words, chosen), rowWords * rows);
      [packed, rows] = [larger, rows + found];
    }
    return { packed, rows };
  }

  private draw(rows: number): Uint32Array {
    const words = new Uint32Array(rowWords * rows);
    for (let row = 0; row < rows; row++) {
      const pairs = drawnPairs(this.others, this.random);
      if (this.isRequired) pairs.push(...drawnPairs(this.required, this.random));
      writePairs(words, row, pairs, Math.min(pairs.length, maxPairs));
    }
    return words;
  }

  /** Whether drafts must have anything: then the first number of elements is not 0. */
  private get isRequired(): boolean {
    return this.options.required[0] < 1;
  }

  /** What must be there and the rest apart, as they are drawn. */
  private adapt({ packed, rows }: PackedFormulas): void {
    const parts = [new Uint32Array(packed.length), new Uint32Array(packed.length)];
    for (let row = 0; row < rows; row++) {
      const pairs = Array.from({ length: maxPairs }, (_, p) => pairAt(packed, row, p)).filter(Boolean);
      for (const [part, words] of parts.entries()) {
        const own = pairs.filter((pair) => this.mustHave((pair >> 8) - 1) === (part === 0));
        writePairs(words, row, own, own.length);
      }
    }
    if (this.isRequired) this.required = adaptedSums(this.required, { packed: parts[0], rows });
    this.others = adaptedSums(this.others, { packed: parts[1], rows });
  }

  private mustHave(e: number): boolean {
    const { required } = this.options;
    return this.isRequired && required[maxPairs + 1 + e] > (e > 0 ? required[maxPairs + e] : 0);
  }
}
