/**
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, SC'11, doi:10.1145/2063384.2063405), the same
 * stream as shaders/philox.wgsl. A pure function of counter and key: any element of any step can be made by itself.
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = BigInt(c0 >>> 0) * 0xd2511f53n;
    const p1 = BigInt(c2 >>> 0) * 0xcd9e8d57n;
    const h0 = Number(p0 >> 32n);
    const h1 = Number(p1 >> 32n);
    [c0, c1, c2, c3] = [h1 ^ c1 ^ k0, Number(p1 & 0xffffffffn), h0 ^ c3 ^ k1, Number(p0 & 0xffffffffn)];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/** A whole-number seed as Philox's two key words. */
export function seedKey(seed: number): [number, number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** A number in (0, 1) from the top 23 bits of a word, as the shader has it. */
export const open01 = (word: number): number => ((word >>> 9) + 0.5) * 2 ** -23;

/** An endless stream of random words for the host: sample inputs, initial weights. */
export class Stream {
  private block: Uint32Array = new Uint32Array(0);
  private at = 0;
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
      this.block = philox([n >>> 0, Math.floor(n / 2 ** 32), this.stream, 0x686f7374], this.key);
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
