/** Choices out of a seeded stream: the same seed gives the same inputs everywhere. */
import { type Random, randomStream } from '../../src/chem/random.ts';

export class Choose {
  private readonly random: Random;

  constructor(seed: number, purpose: string) {
    this.random = randomStream(seed, `fuzz ${purpose}`);
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return this.random.below(n);
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.random.uniform() < p;
  }

  of<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)];
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.random.uint32() & 0xff;
    return bytes;
  }

  /** A small number most of the time, seldom one up to `most`. */
  size(most: number): number {
    return this.random.below(this.chance(0.9) ? Math.min(most, 12) : most) + 1;
  }

  /** One to three edits: a piece or a character put in, put over, taken out, or a part repeated or moved. */
  mutate(text: string, pieces: readonly string[], edits = 1 + this.below(3)): string {
    let changed = text;
    for (let i = 0; i < edits; i++) {
      const at = this.below(changed.length + 1);
      const piece = this.chance(0.5)
        ? this.of(pieces)
        : String.fromCharCode(this.below(this.chance(0.8) ? 128 : 65_536));
      switch (this.below(5)) {
        case 0:
          changed = changed.slice(0, at) + piece + changed.slice(at);
          break;
        case 1:
          changed = changed.slice(0, at) + piece + changed.slice(at + 1);
          break;
        case 2:
          changed = changed.slice(0, at) + changed.slice(at + 1 + this.below(6));
          break;
        case 3:
          changed =
            changed.slice(0, at) + changed.slice(at, at + this.size(40)).repeat(this.size(20)) + changed.slice(at);
          break;
        default:
          changed = changed.slice(at) + changed.slice(0, at);
      }
    }
    return changed;
  }
}
