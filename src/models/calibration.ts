/** From how far an ensemble's members lie apart to a standard uncertainty: two numbers, fitted to errors on rows that nothing trained on. */

/** Uncertainty = floor + slope · spread. */
export interface Calibration {
  floor: number;
  slope: number;
}

export const uncertainty = (spread: number, { floor, slope }: Calibration): number => floor + slope * spread;

/** Share of a normal distribution within one deviation of its mean: what an uncertainty claims to cover. */
export const coverage = 0.6827;

/** The value that a share of the (sorted) values lie below. */
export const quantile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/**
 * The calibration under which errors are likeliest, as if drawn from Laplace distributions (errors of such models have heavy tails, in
 * which a normal likelihood would see nothing but the worst rows), then scaled so that 68.27 % of the errors lie within the uncertainty.
 * @param spreads deviations between members, of the same rows as the absolute `errors`
 */
export function calibrate(spreads: ArrayLike<number>, errors: ArrayLike<number>): Calibration {
  const n = errors.length;
  let [error, spread] = [0, 0];
  for (let i = 0; i < n; i++) {
    error += errors[i] / n;
    spread += spreads[i] / n;
  }
  // A model that is right everywhere, and one whose members agree everywhere, have nothing to fit.
  if (!(error > 0)) return { floor: 0, slope: spread > 0 ? 1 : 0 };
  let best = { floor: error, slope: 0 };
  let least = Number.POSITIVE_INFINITY;
  // Of the mean error a share is the floor, the rest comes from the spread; the scale follows from the share.
  for (let share = spread > 0 ? 0 : 1; share <= 1; share += 0.02) {
    const [floor, slope] = [share * error, spread > 0 ? ((1 - share) * error) / spread : 0];
    let [scale, logs] = [0, 0];
    for (let i = 0; i < n; i++) {
      const u = Math.max(floor + slope * spreads[i], 1e-3 * error);
      scale += errors[i] / u / n;
      logs += Math.log(u) / n;
    }
    const loss = Math.log(scale) + logs;
    if (loss < least) [least, best] = [loss, { floor, slope }];
  }
  const ratios = Float64Array.from(
    { length: n },
    (_, i) => errors[i] / Math.max(uncertainty(spreads[i], best), 1e-3 * error),
  );
  const scale = quantile(ratios.sort(), coverage);
  return { floor: best.floor * scale, slope: best.slope * scale };
}
