/** Curves of the samples that a run judged while it trained. */

/** A chart of a log: its fields with their names, and a title. */
export interface Curve {
  readonly fields: Readonly<Record<string, string>>;
  readonly title: string;
  readonly percent?: boolean;
}

/** What a sample's fields of a log mean, in the order in which they are drawn. */
export const sampleCurves: readonly Curve[] = [
  {
    fields: {
      sampleENReweighted: 'EN, reweighted',
      sampleCNReweighted: 'CN, reweighted',
      sampleEN: 'EN',
      sampleCN: 'CN',
    },
    title: 'Validity of samples; reweighted: with training’s mix of numbers of elements',
    percent: true,
  },
  {
    fields: {
      sampleValidUniqueNew: 'valid, different and new',
      sampleUnique: 'different',
      sampleDecoded: 'decoded to a formula',
    },
    title: 'Samples that are worth something',
    percent: true,
  },
  {
    fields: { sampleSizesTV: 'numbers of elements', sampleElementsTV: 'elements' },
    title: 'Distance to training (total variation)',
  },
  { fields: { sampleRecoveryRatio: 'generator' }, title: 'Left-out formulas found, frequencies alone = 1' },
  { fields: { sampleRecovery: 'generator' }, title: 'Left-out formulas found, share' },
];
