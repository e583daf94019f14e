/** Formulas drawn for an evaluation, which goes on where it was interrupted. */
import type { openExecutor } from '../autograd/open.ts';
import { type DecodingRule, type PackedFormulas, rowWords } from '../chem/encoding.ts';
import { ConfigError } from '../errors.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import { defaultBatch, drawSamples } from '../models/sampler.ts';
import type { Stages } from './stages.ts';

type Opened = Awaited<ReturnType<typeof openExecutor>>;

export interface DrawingOptions {
  readonly count: number;
  readonly seed: number;
  /** The model's own rule unless said. */
  readonly rule?: DecodingRule;
  /** A filter, and the share of the samples that it keeps: `count` are those. */
  readonly sieve?: { readonly filter: Checkpoint; readonly keep: number };
}

/** Formulas as they were decoded, and how many of them the first `bothRules` samples gave. */
export type Drawn = PackedFormulas & { readonly early: number };

/** Samples that the other rule of decoding gets, at most. */
export const bothRules = 100_000;
/** Samples that are kept at a time while they are drawn, at least. */
const keptSamples = 16_384;

/** Draws formulas from a checkpoint, going on where an interrupted evaluation ended. */
export class Drawing {
  private readonly seed: number;
  private readonly checkpoint: Checkpoint;
  private readonly device: Opened;
  readonly rule: DecodingRule;
  readonly count: number;
  readonly batch: number;
  private readonly sieve: DrawingOptions['sieve'];

  constructor(options: DrawingOptions, checkpoint: Checkpoint, device: Opened) {
    const { config } = checkpoint;
    if (config.model !== 'gan') {
      throw new ConfigError(`${checkpoint.path}: it is a model of kind ${config.model}; generating takes a gan`);
    }
    this.seed = options.seed;
    this.checkpoint = checkpoint;
    this.device = device;
    this.count = options.count;
    this.rule = options.rule ?? config.decoding;
    this.batch = Math.min(this.count, defaultBatch(device.executor, config));
    this.sieve = options.sieve;
  }

  /** What the formulas follow from; the same seed gives other bits on another adapter. */
  get facts() {
    const { checkpoint, rule, count, batch, sieve } = this;
    const filter = sieve ? { step: sieve.filter.step, trained: sieve.filter.data.fingerprint, keep: sieve.keep } : null;
    return { rule, requested: count, batch, step: checkpoint.step, filter, adapter: this.device.note };
  }

  /** Rows as they were decoded. @param onProgress receives the samples done */
  async draw(
    rule: DecodingRule,
    count: number,
    stages: Stages | undefined,
    onProgress: (drawn: number) => void,
  ): Promise<Drawn> {
    const { batch, checkpoint, sieve } = this;
    const rows = new Rows();
    /** Samples drawn, and those that count: all of them, or with a filter those that it keeps. */
    let [drawn, counted] = [0, 0];
    let early: number | undefined;
    const name = (part: number): string => `drawn ${rule} ${count} ${part}`;
    // A part: a row that says of how many samples it is, how many count and how many formulas are early (0 where all are or were), then formulas.
    let parts = 0;
    for (let part = stages?.read(name(parts)); part; part = stages?.read(name(++parts))) {
      const words = new Uint32Array(part.buffer, part.byteOffset, part.byteLength / 4);
      if (words[2] > 0) early = rows.size + words[2] - 1;
      rows.add(words.subarray(rowWords), words.length / rowWords - 1);
      drawn += words[0];
      counted += words[1];
    }
    onProgress(counted);
    const result = (): Drawn => ({ ...rows.packed(), early: early ?? rows.size });
    if (counted >= count) return result();
    let pending = new Rows();
    let part = Uint32Array.of(0, 0, 0, 0);
    const options = { count: count - counted, seed: this.seed, rule, batch, ...sieve, skipBatches: drawn / batch };
    await drawSamples(this.device.executor, checkpoint, options, (words, some) => {
      for (let row = 0; row < some; row++) {
        const counts = !sieve || words[row * rowWords] !== 0;
        if (counts && counted === bothRules) {
          early = rows.size + pending.size;
          part[2] = pending.size + 1;
        }
        if (counts) {
          counted++;
          part[1]++;
        }
        pending.add(words.subarray(row * rowWords, (row + 1) * rowWords), 1);
      }
      part[0] += some;
      if (part[0] >= keptSamples || counted >= count) {
        const { packed } = pending.packed();
        rows.add(packed, packed.length / rowWords);
        stages?.write(
          name(parts++),
          Buffer.concat([part, packed].map((w) => Buffer.from(w.buffer, w.byteOffset, w.byteLength))),
        );
        pending = new Rows();
        part = Uint32Array.of(0, 0, 0, 0);
      }
      onProgress(counted);
    });
    return result();
  }
}

/** Rows that grow; those of zeros are left out. */
class Rows {
  private words = new Uint32Array(4096);
  private rows = 0;

  get size(): number {
    return this.rows;
  }

  add(words: Uint32Array, rows: number): void {
    for (let row = 0; row < rows; row++) {
      const from = row * rowWords;
      if (words[from] === 0) continue;
      const to = this.rows * rowWords;
      if (to === this.words.length) {
        const larger = new Uint32Array(2 * to);
        larger.set(this.words);
        this.words = larger;
      }
      for (let w = 0; w < rowWords; w++) this.words[to + w] = words[from + w];
      this.rows++;
    }
  }

  packed(): PackedFormulas {
    return { packed: this.words.subarray(0, this.rows * rowWords), rows: this.rows };
  }
}
