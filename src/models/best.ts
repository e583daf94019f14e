/** The best state of a run so far, by a criterion over the fields of its log. */
import type { ModelKind } from './config.ts';

interface Criterion {
  readonly models: readonly ModelKind[];
  readonly about: string;
  /** Greater is better; NaN and undefined are never better. */
  readonly value: (line: Readonly<Record<string, number>>) => number;
}

/**
 * None of a GAN's rewards a generator that repeats itself: CN and EN alone are highest in collapsed ones, and more elements raise
 * them by chance.
 */
export const criteria = {
  balanced: {
    models: ['gan'],
    about: 'share of samples that are valid, different and new, less both distances to training',
    value: (line) => line.sampleValidUniqueNew - line.sampleSizesTV - line.sampleElementsTV,
  },
  new: {
    models: ['gan'],
    about: 'share of samples that are valid, different and new',
    value: (line) => line.sampleValidUniqueNew,
  },
  recovery: {
    models: ['gan'],
    about: 'left-out formulas found, over what frequencies alone find; wants a --sample-size of 20,000 or more',
    value: (line) => line.sampleRecoveryRatio,
  },
  exact: {
    models: ['ae'],
    about: 'left-out formulas decoded exactly',
    value: (line) => line.exactLeaveOut,
  },
  loss: {
    models: ['filter', 'ae', 'elemnet'],
    about: 'loss of left-out formulas',
    value: (line) => -line.lossLeaveOut,
  },
} as const satisfies Record<string, Criterion>;

export type CriterionName = keyof typeof criteria;

/** Fields that tell a measurement from a line of losses: a GAN's, and the others'. */
const measuredBy = ['sampleDecoded', 'lossLeaveOut'];

/** Names of the criteria for a kind of model, the default first. */
export const criteriaFor = (model: ModelKind): CriterionName[] =>
  (Object.keys(criteria) as CriterionName[]).filter((name) =>
    (criteria[name].models as readonly ModelKind[]).includes(model),
  );

/** The best of the lines looked at so far. Lines are looked at in order; a resumed run looks at its old ones again. */
export class Best {
  readonly criterion: CriterionName;
  value = Number.NEGATIVE_INFINITY;
  step: number | undefined;
  /** Measurements since then. */
  since = 0;

  constructor(criterion: CriterionName) {
    this.criterion = criterion;
  }

  /** True where the line is better than all before; one without a measurement counts for nothing. */
  look(line: Readonly<Record<string, number>> & { step: number }): boolean {
    if (!measuredBy.some((field) => field in line)) return false;
    const value = criteria[this.criterion].value(line);
    if (!(value > this.value)) {
      this.since++;
      return false;
    }
    this.value = value;
    this.step = line.step;
    this.since = 0;
    return true;
  }

  /** The best state is not there any more: the next measurement counts as better. */
  lost(): void {
    this.value = Number.NEGATIVE_INFINITY;
    this.step = undefined;
  }
}
