import { frequencyFormulas, scaleHistogram } from './baseline.ts';
import { totalVariation } from './distributions.ts';
import { countByElements, maxPairs, type PackedFormulas, PackedSet, rowElements } from './encoding.ts';
import { elementOccurrences, reducedRows } from './metrics.ts';
import { flagCN, flagEN, judgePacked } from './validity.ts';

/** Draws of the frequency baseline whose mean recovery a sample is held against: one alone finds a few formulas by luck. */
const baselineDraws = 16;

/**
 * Figures of a small sample, as training logs them. Formulas are judged in lowest terms by the paper's rule; shares are 0 to 1.
 * What cannot be worked out (rates of no formula, recovery without leave-out) is left out.
 */
export interface SampleFigures extends Record<string, number> {
  /** Samples that decode to a formula. */
  sampleDecoded: number;
  /** Charge-neutral and electronegativity-balanced formulas among those. */
  sampleCN: number;
  sampleEN: number;
  /** The same, averaged with training's shares of the numbers of elements. */
  sampleCNReweighted: number;
  sampleENReweighted: number;
  /** Different formulas among those. */
  sampleUnique: number;
  /** Different formulas that are balanced and in neither set, among all samples, decoded or not. */
  sampleValidUniqueNew: number;
  /** Total-variation distances to training: numbers of elements, elements. */
  sampleSizesTV: number;
  sampleElementsTV: number;
  /** Share of the left-out formulas found, and that over what frequencies alone find with as many samples. */
  sampleRecovery: number;
  sampleRecoveryRatio: number;
}

/** Judges samples of one size against training; what they are compared with is worked out once. */
export class SampleJudge {
  private readonly training: PackedSet;
  private readonly leaveOut: PackedSet;
  private readonly sizes: Uint32Array;
  private readonly elements: Uint32Array;
  private readonly size: number;
  /** Share of leave-out that frequencies find with `size` samples. */
  readonly baseline: number;

  /** @param size samples drawn each time; @param seed of the baseline */
  constructor(sets: { training: PackedFormulas; leaveOut: PackedFormulas }, size: number, seed: number) {
    const training = reducedRows(sets.training);
    this.training = PackedSet.of(training);
    this.leaveOut = PackedSet.of(reducedRows(sets.leaveOut));
    this.sizes = countByElements(training);
    this.elements = elementOccurrences(training);
    this.size = size;
    let found = 0;
    if (this.leaveOut.size > 0) {
      const histogram = scaleHistogram(this.sizes, size);
      for (let draw = 0; draw < baselineDraws; draw++) {
        found += this.recovered(PackedSet.of(frequencyFormulas(training, histogram, seed + draw)));
      }
    }
    this.baseline = found / baselineDraws;
  }

  /** Share of leave-out among some formulas. */
  private recovered(set: PackedSet): number {
    let found = 0;
    for (let row = 0; row < set.size; row++) if (this.leaveOut.has(set.packed, row)) found++;
    return found / Math.max(1, this.leaveOut.size);
  }

  /** @param sample what decoded of the `size` samples that were drawn */
  judge(sample: PackedFormulas): Partial<SampleFigures> {
    const figures: Partial<SampleFigures> = { sampleDecoded: sample.rows / this.size };
    const rows = reducedRows(sample);
    const set = PackedSet.of(rows);
    const flags = judgePacked(set.packed, set.size);
    let good = 0;
    for (let row = 0; row < set.size; row++) {
      if (flags[row] & flagEN && !this.training.has(set.packed, row) && !this.leaveOut.has(set.packed, row)) good++;
    }
    if (rows.rows > 0) {
      Object.assign(figures, this.rates(rows));
      figures.sampleUnique = set.size / rows.rows;
    }
    figures.sampleValidUniqueNew = good / this.size;
    // Of nothing a distance is the greatest there is.
    figures.sampleSizesTV = rows.rows === 0 ? 1 : totalVariation(countByElements(rows), this.sizes);
    figures.sampleElementsTV = rows.rows === 0 ? 1 : totalVariation(elementOccurrences(rows), this.elements);
    if (this.leaveOut.size > 0) {
      figures.sampleRecovery = this.recovered(set);
      if (this.baseline > 0) figures.sampleRecoveryRatio = figures.sampleRecovery / this.baseline;
    }
    return figures;
  }

  /** Validity of all formulas, repeats included. */
  private rates({ packed, rows }: PackedFormulas): Partial<SampleFigures> {
    const flags = judgePacked(packed, rows);
    const counts = new Uint32Array(maxPairs + 1);
    const neutral = new Uint32Array(maxPairs + 1);
    const balanced = new Uint32Array(maxPairs + 1);
    for (let row = 0; row < rows; row++) {
      const n = rowElements(packed, row);
      counts[n]++;
      if (flags[row] & flagCN) neutral[n]++;
      if (flags[row] & flagEN) balanced[n]++;
    }
    const sum = (values: Uint32Array): number => values.reduce((a, b) => a + b, 0);
    const figures: Partial<SampleFigures> = { sampleCN: sum(neutral) / rows, sampleEN: sum(balanced) / rows };
    const weighted = (valid: Uint32Array): number =>
      valid.reduce((total, n, i) => total + (counts[i] === 0 ? 0 : (this.sizes[i] * n) / counts[i]), 0);
    const covered = this.sizes.reduce((total, n, i) => total + (counts[i] === 0 ? 0 : n), 0);
    if (covered > 0) {
      figures.sampleCNReweighted = weighted(neutral) / covered;
      figures.sampleENReweighted = weighted(balanced) / covered;
    }
    return figures;
  }
}
