/** A share with how sure it is. */
export interface Share {
  readonly count: number;
  readonly of: number;
  /** count / of; null where there is nothing to count. */
  readonly share: number | null;
  /** 95 % confidence interval (Wilson's score), null likewise. */
  readonly interval: readonly [low: number, high: number] | null;
}

/** Standard normal quantile of 97.5 %. */
const z = 1.959964;

/** `count` of `of`, with Wilson's 95 % interval, which stays inside [0, 1] and is honest for few counts. */
export function shareOf(count: number, of: number): Share {
  if (of === 0) return { count, of, share: null, interval: null };
  const p = count / of;
  const centre = (p + z ** 2 / (2 * of)) / (1 + z ** 2 / of);
  const reach = (z / (1 + z ** 2 / of)) * Math.sqrt((p * (1 - p)) / of + z ** 2 / (4 * of ** 2));
  return { count, of, share: p, interval: [Math.max(0, centre - reach), Math.min(1, centre + reach)] };
}
