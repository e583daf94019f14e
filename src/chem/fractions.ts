import { elementIndex } from './elements.ts';
import { elementCount, maxPairs, pairAt } from './encoding.ts';
import { type Composition, FormulaFault, formatFormula } from './formula.ts';

/** @throws FormulaFault for an element outside the 85, which it names */
export function refuseStrangers(composition: Composition): void {
  for (const symbol of composition.keys()) {
    if (elementIndex(symbol) >= 0) continue;
    const what = `formula ${formatFormula(composition)}: ${symbol} is none of the 85 elements of the matrix`;
    throw new FormulaFault('element outside the 85', `${what}; leave this row out`);
  }
}

/**
 * Writes the share of each of the 85 elements among a formula's atoms, at `offset` of `out`. Amounts need not be whole, nor few: a
 * regressor takes `Fe0.95O` as it is.
 * @throws FormulaFault for an element outside the 85, which it names
 */
export function writeFractions(composition: Composition, out: Float32Array, offset = 0): void {
  refuseStrangers(composition);
  out.fill(0, offset, offset + elementCount);
  let total = 0;
  for (const amount of composition.values()) total += amount;
  for (const [symbol, amount] of composition) out[offset + elementIndex(symbol)] = amount / total;
}

/** `writeFractions` of a packed row. */
export function packedFractions(words: Uint32Array, row: number, out: Float32Array, offset = 0): void {
  out.fill(0, offset, offset + elementCount);
  let total = 0;
  for (let p = 0; p < maxPairs; p++) total += pairAt(words, row, p) & 0xff;
  for (let p = 0; p < maxPairs; p++) {
    const pair = pairAt(words, row, p);
    if (pair !== 0) out[offset + (pair >> 8) - 1] = (pair & 0xff) / total;
  }
}
