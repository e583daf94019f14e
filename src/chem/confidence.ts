/** A range that holds the true value in 95 of 100 samples. */
export type Interval = readonly [low: number, high: number];

/** Standard normal deviate of 95 %, two-sided. */
const z95 = 1.959963984540054;

/**
 * Wilson's score interval of a share of independent draws, 95 % (Wilson, J. Am. Stat. Assoc. 22, 209 (1927)): keeps within 0 and 1,
 * and has a width where nothing or everything passed. Null where there was no draw.
 */
export function wilson(passed: number, of: number, z = z95): Interval | null {
  if (of === 0) return null;
  const share = passed / of;
  const square = (z * z) / of;
  const middle = (share + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((share * (1 - share)) / of + square / (4 * of));
  // At the ends the formula is exact but for rounding.
  return [passed === 0 ? 0 : Math.max(0, middle - half), passed === of ? 1 : Math.min(1, middle + half)];
}

/** A share with how sure it is. */
export interface Share {
  readonly count: number;
  readonly of: number;
  /** count / of; null where there is nothing to count. */
  readonly share: number | null;
  /** Wilson's 95 % interval, null likewise. */
  readonly interval: Interval | null;
}

/** `count` of `of`, with its interval. */
export const shareOf = (count: number, of: number): Share => ({
  count,
  of,
  share: of === 0 ? null : count / of,
  interval: wilson(count, of),
});
