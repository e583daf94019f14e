import { uniformDraw } from './baseline.ts';
import { type Interval, wilson } from './confidence.ts';
import { elementCount, maxCount, maxPairs, rowWords } from './encoding.ts';
import { gcd } from './formula.ts';
import { flagCN, flagEN, Judge } from './validity.ts';

/**
 * All reduced formulas of the 85 elements with counts 1 … 8, and how many of them pass: what a generator that knows nothing is
 * held against. Binaries and ternaries were counted one by one, those of four to eight elements by uniform samples;
 * `scripts/enumerate.ts` counts them again.
 */

/** What was judged of the formulas with so many elements, and how many passed. */
interface Counted {
  readonly judged: number;
  readonly neutral: number;
  readonly balanced: number;
}

const counted: Readonly<Record<number, Counted>> = {
  2: { judged: 153_510, neutral: 16_251, balanced: 11_158 },
  3: { judged: 43_360_030, neutral: 13_104_731, balanced: 8_048_317 },
  4: { judged: 4_000_000, neutral: 1_714_459, balanced: 998_064 },
  5: { judged: 4_000_000, neutral: 2_025_088, balanced: 1_153_939 },
  6: { judged: 4_000_000, neutral: 2_212_168, balanced: 1_236_771 },
  7: { judged: 4_000_000, neutral: 2_333_335, balanced: 1_259_787 },
  8: { judged: 4_000_000, neutral: 2_417_173, balanced: 1_240_474 },
};

/** Formulas of one number of elements, whether generated or not. */
export interface Enumeration {
  /** How many there are; above 2^53 rounded. */
  readonly formulas: number;
  /** How many of them were judged: all, or a uniform sample. */
  readonly judged: number;
  readonly exact: boolean;
  readonly chargeNeutral: number;
  readonly electronegativityBalanced: number;
  /** Of the shares; a point where they are exact. */
  readonly intervals: { readonly chargeNeutral: Interval; readonly electronegativityBalanced: Interval };
}

/** Number of tuples of n counts 1 … 8 without a common divisor, by inclusion and exclusion. */
function coprimeCounts(n: number): number {
  const mobius = [0, 1, -1, -1, 0, -1, 1, -1, 0];
  let sum = 0;
  for (let d = 1; d <= maxCount; d++) sum += mobius[d] * Math.floor(maxCount / d) ** n;
  return sum;
}

/** Number of reduced formulas with n elements. */
export function reducedFormulas(n: number): number {
  let choices = 1;
  for (let i = 0; i < n; i++) choices = (choices * (elementCount - i)) / (i + 1);
  return Math.round(choices) * coprimeCounts(n);
}

/** Shares of the formulas with n elements that pass; null for a number other than 1 … 8. */
export function enumeration(n: number): Enumeration | null {
  if (n < 1 || n > maxPairs) return null;
  // No state is 0: a single element never passes.
  const { judged, neutral, balanced } = counted[n] ?? { judged: elementCount, neutral: 0, balanced: 0 };
  const formulas = reducedFormulas(n);
  const exact = judged === formulas;
  const interval = (passed: number): Interval => (exact ? [passed / judged, passed / judged] : wilson(passed, judged)!);
  return {
    formulas,
    judged,
    exact,
    chargeNeutral: neutral / judged,
    electronegativityBalanced: balanced / judged,
    intervals: { chargeNeutral: interval(neutral), electronegativityBalanced: interval(balanced) },
  };
}

/** Judges every reduced formula with n elements, 2 or 3: a fraction of a second, half a minute. */
export function countAll(n: 2 | 3): Counted {
  const judge = new Judge();
  const words = new Uint32Array(rowWords);
  let [judged, neutral, balanced] = [0, 0, 0];
  const look = (): void => {
    const flags = judge.row(words, 0);
    judged++;
    if (flags & flagCN) neutral++;
    if (flags & flagEN) balanced++;
  };
  for (let a = 1; a <= elementCount; a++) {
    for (let b = a + 1; b <= elementCount; b++) {
      for (let c = n === 2 ? elementCount : b + 1; c <= elementCount; c++) {
        for (let x = 1; x <= maxCount; x++) {
          for (let y = 1; y <= maxCount; y++) {
            const divisor = gcd(x, y);
            words[0] = (a << 8) | x | (((b << 8) | y) << 16);
            if (n === 2) {
              if (divisor === 1) look();
              continue;
            }
            for (let z = 1; z <= maxCount; z++) {
              if (gcd(divisor, z) !== 1) continue;
              words[1] = (c << 8) | z;
              look();
            }
          }
        }
      }
    }
  }
  return { judged, neutral, balanced };
}

/** Judges `rows` uniform random reduced formulas with n elements. */
export function countSome(n: number, rows: number, seed: number): Counted {
  const judge = new Judge();
  const words = new Uint32Array(rowWords);
  const draw = uniformDraw(seed);
  let [neutral, balanced] = [0, 0];
  for (let i = 0; i < rows; i++) {
    draw(words, 0, n);
    const flags = judge.row(words, 0);
    if (flags & flagCN) neutral++;
    if (flags & flagEN) balanced++;
  }
  return { judged: rows, neutral, balanced };
}
