/** High half of the 64-bit product of two words, from halves of 16 bits: BigInt takes thirty times as long. */
function highProduct(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  return a1 * b1 + (middle >>> 16) + ((a0 * b1 + (middle & 0xffff)) >>> 16);
}

/**
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC'11, doi:10.1145/2063384.2063405), the same
 * stream as shaders/philox.wgsl. A pure function of counter and key: any element of any step can be made by itself.
 * @param out takes the four words; a new array unless given
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out = new Uint32Array(4),
): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const h0 = highProduct(c0, 0xd2511f53);
    const h1 = highProduct(c2, 0xcd9e8d57);
    const low0 = Math.imul(c0, 0xd2511f53);
    const low1 = Math.imul(c2, 0xcd9e8d57);
    c0 = h1 ^ c1 ^ k0;
    c1 = low1;
    c2 = h0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
  return out;
}

/** A whole-number seed as Philox's two key words. */
export function seedKey(seed: number): [number, number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** A number in (0, 1) from the top 23 bits of a word, as the shader has it. */
export const open01 = (word: number): number => ((word >>> 9) + 0.5) * 2 ** -23;

/** An endless stream of random words for the host: sample inputs, initial weights. */
export class Stream {
  private readonly block = new Uint32Array(4);
  private at = 4;
  private counter = 0;
  private readonly key: readonly [number, number];
  private readonly stream: number;

  constructor(seed: number, stream = 0) {
    this.key = seedKey(seed);
    this.stream = stream;
  }

  /** A random 32-bit word. */
  word(): number {
    if (this.at === this.block.length) {
      const n = this.counter++;
      philox([n >>> 0, Math.floor(n / 2 ** 32), this.stream, 0x686f7374], this.key, this.block);
      this.at = 0;
    }
    return this.block[this.at++];
  }

  /** In (0, 1). */
  uniform(): number {
    return open01(this.word());
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** Mean 0, variance 1. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }
}
