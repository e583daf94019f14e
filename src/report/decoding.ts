/** The two rules of decoding, side by side on the same samples. */

import type { Distances } from '../chem/distributions.ts';
import { type DecodingRule, type PackedFormulas, PackedSet } from '../chem/encoding.ts';
import { distributionsOf, reducedRows, validityRates } from '../chem/metrics.ts';

export interface DecodingRow {
  readonly rule: DecodingRule;
  readonly samples: number;
  /** Samples that are a formula of 2 to 8 elements. */
  readonly decoded: number;
  /** Different ones, in lowest terms. */
  readonly unique: number;
  /** Shares of the decoded formulas as they are, nothing divided: as the paper counts. */
  readonly asDecoded: { readonly chargeNeutral: number | null; readonly electronegativityBalanced: number | null };
  /** Shares in lowest terms. */
  readonly chargeNeutral: number | null;
  readonly electronegativityBalanced: number | null;
  readonly meanElements: number | null;
  readonly totalVariation: Distances | null;
  readonly recoveredLeaveOut: number | null;
}

export interface Decodings {
  /** The rule of all other figures. */
  readonly own: DecodingRule;
  readonly rows: readonly DecodingRow[];
}

/** Figures of some decoded rows. @param samples how many samples they are of */
export function decodingRow(
  rule: DecodingRule,
  samples: number,
  decoded: PackedFormulas,
  sets: { training: PackedFormulas; leaveOut?: PackedFormulas },
): DecodingRow {
  const reduced = reducedRows(decoded);
  const set = PackedSet.of(reduced);
  const spread = distributionsOf(reduced);
  const asDecoded = validityRates(decoded);
  const rates = validityRates(reduced);
  const training = reducedRows(sets.training);
  const known = PackedSet.of(training);
  const wanted = new PackedSet();
  if (sets.leaveOut) {
    const { packed, rows } = reducedRows(sets.leaveOut);
    for (let row = 0; row < rows; row++) if (!known.has(packed, row)) wanted.add(packed, row);
  }
  let found = 0;
  for (let row = 0; row < wanted.size; row++) if (set.has(wanted.packed, row)) found++;
  const { rows } = reduced;
  return {
    rule,
    samples,
    decoded: rows,
    unique: set.size,
    asDecoded: {
      chargeNeutral: asDecoded.chargeNeutral,
      electronegativityBalanced: asDecoded.electronegativityBalanced,
    },
    chargeNeutral: rates.chargeNeutral,
    electronegativityBalanced: rates.electronegativityBalanced,
    meanElements: rows === 0 ? null : spread.sizes.reduce((total, many, n) => total + many * n, 0) / rows,
    totalVariation: rows === 0 ? null : spread.distance(distributionsOf(training)),
    recoveredLeaveOut: wanted.size === 0 ? null : found / wanted.size,
  };
}
