/**
 * A small reproducible random stream for choosing rows and drawing baselines: xoshiro128** (Blackman and Vigna, 2018), its
 * state filled by splitmix32 from the seed. Whole-number arithmetic only, so a seed gives the same numbers on every machine.
 * The noise of the networks is another stream, Philox, because it has to be the same in shaders.
 */
export interface Random {
  /** Next 32 bits. */
  uint32(): number;
  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number;
  /** Uniform whole number in [0, n), n from 1 to 2^32, without bias. */
  below(n: number): number;
}

/** Opens the stream of a seed (any whole number; its low 53 bits count). Different `purpose`s give independent streams. */
export function randomStream(seed: number, purpose = ''): Random {
  let mixed = (seed >>> 0) ^ Math.imul(Math.floor(Math.abs(seed) / 2 ** 32), 0x9e3779b1);
  for (let i = 0; i < purpose.length; i++) mixed = Math.imul(mixed ^ purpose.charCodeAt(i), 0x01000193);
  const fill = (): number => {
    mixed = (mixed + 0x9e3779b9) | 0;
    let z = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  const state = [fill(), fill(), fill(), fill()] as const;
  // All zeros is the one state that xoshiro cannot leave.
  return streamFromState(state.every((word) => word === 0) ? [1, 0, 0, 0] : state);
}

/** The stream of a state of four 32-bit words, not all 0. */
export function streamFromState(state: readonly [number, number, number, number]): Random {
  let [a, b, c, d] = state;
  const uint32 = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  const below = (n: number): number => {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let bits = uint32();
    while (bits >= limit) bits = uint32();
    return bits % n;
  };
  const uniform = (): number => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) / 2 ** 53;
  return { uint32, below, uniform };
}

/** Prepared draws from weights: returns the index with probability weight / sum, by bisection of the running sums. */
export class WeightedChoice {
  private readonly sums: Float64Array;

  /** @param weights at least one positive, none negative. */
  constructor(weights: ArrayLike<number>) {
    this.sums = new Float64Array(weights.length);
    let sum = 0;
    for (let i = 0; i < weights.length; i++) this.sums[i] = sum += weights[i];
  }

  draw(random: Random): number {
    const { sums } = this;
    const target = random.uniform() * sums[sums.length - 1];
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle] > target) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Shuffles whole numbers in place (Fisher and Yates). */
export function shuffle(values: Uint32Array, random: Random): Uint32Array {
  for (let i = values.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [values[i], values[j]] = [values[j], values[i]];
  }
  return values;
}
