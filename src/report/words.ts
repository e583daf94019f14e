import { wilson } from '../chem/confidence.ts';
import type { EvaluationResult } from '../chem/metrics.ts';
import { percent } from './table.ts';

/** What the figures of an evaluation mean, in sentences. The thresholds are below; `docs/evaluate.md` lists them. */
export interface Remark {
  readonly topic:
    | 'samples'
    | 'validity'
    | 'diversity'
    | 'chemistry'
    | 'sizes'
    | 'recovery'
    | 'memory'
    | 'nearness'
    | 'data';
  /** `fair`: neither, or a warning about the figures themselves. */
  readonly verdict: 'good' | 'fair' | 'bad';
  readonly text: string;
}

const count = (n: number): string => n.toLocaleString('en');
const times = (factor: number): string => `${factor < 10 ? factor.toFixed(1) : Math.round(factor)} times`;
const points = (difference: number): string => `${Math.abs(100 * difference).toFixed(1)} points`;

/** Samples below which every share is uncertain. */
const fewSamples = 1000;
/** Share of its formulas that one may have. */
const mostOfOne = 0.1;
/** Uniqueness against the frequency baseline's at the same number of samples. */
const [collapsed, narrowed] = [0.25, 0.7];
/** How much of the way from frequencies to training EN went, for "a part" and "most" of the chemistry. */
const [onlyFrequencies, mostOfTheWay] = [0.15, 0.6];
/** Total variation of the number of elements. */
const [sameSizes, otherSizes] = [0.05, 0.2];
/** Recovery against the frequency baseline's. */
const [noMore, clearlyMore] = [1.2, 1.5];
/** Left-out formulas found for each training formula found. */
const memorised = 0.7;
/** Below this share the two differ plainly, if by less. */
const readily = 0.9;
/** Median distance to the nearest training formula against that of left-out formulas. */
const [variations, farOut] = [0.6, 1.5];

/** True where two shares of `of` things are too far apart for chance: their 95 % intervals do not meet. */
function apart(a: number, b: number, of: number): boolean {
  const [x, y] = [wilson(Math.round(a * of), of), wilson(Math.round(b * of), of)];
  return x !== null && y !== null && (x[0] > y[1] || y[0] > x[1]);
}

/** Remarks, the gravest topic first. */
export function inWords(result: EvaluationResult): Remark[] {
  const { baselines, training, totalVariation, nearest } = result;
  const { frequency } = baselines;
  const remarks: Remark[] = [];
  const say = (topic: Remark['topic'], verdict: Remark['verdict'], text: string): void => {
    remarks.push({ topic, verdict, text });
  };

  if (result.overlap > 0) {
    say(
      'data',
      'fair',
      `${count(result.overlap)} of ${count(result.leaveOut?.unique ?? 0)} left-out formulas are in training too; they count for training alone, not for recovery of the left-out.`,
    );
  }
  if (result.generated < fewSamples) {
    say('samples', 'fair', `${count(result.generated)} formulas are few: the intervals beside the shares are wide.`);
  }
  if (result.chargeNeutral === 0) {
    say(
      'validity',
      'bad',
      'Not one generated formula is charge-neutral: the generator has learned nothing of charges.',
    );
  } else if (result.electronegativityBalanced === 0) {
    say('validity', 'bad', 'Not one generated formula is electronegativity-balanced.');
  }

  const top = result.mostFrequent[0];
  const topShare = top ? top.count / result.generated : 0;
  const relative =
    frequency.count > 0 && frequency.unique > 0 ? result.uniqueness / (frequency.unique / frequency.count) : 1;
  const beside = `frequencies alone give ${percent(frequency.count > 0 ? frequency.unique / frequency.count : null)} at the same number of samples`;
  if (result.generated >= 100 && (relative < collapsed || topShare > 0.5)) {
    say(
      'diversity',
      'bad',
      `Collapsed: only ${percent(result.uniqueness)} of the formulas are different (${beside})${topShare > mostOfOne ? `, and ${top.formula} alone is ${percent(topShare)} of them` : ''}. Shares of valid formulas say nothing about such a generator; look at those of the different ones.`,
    );
  } else if (relative < narrowed || topShare > mostOfOne) {
    say(
      'diversity',
      'fair',
      `Narrow: ${percent(result.uniqueness)} of the formulas are different; ${beside}${topShare > mostOfOne ? `; ${top.formula} alone is ${percent(topShare)} of all` : ''}.`,
    );
  } else {
    say('diversity', 'good', `No collapse: ${percent(result.uniqueness)} of the formulas are different; ${beside}.`);
  }

  const own = result.reweighted.electronegativityBalanced;
  const plain = frequency.reweighted.electronegativityBalanced;
  const real = training.electronegativityBalanced;
  if (own !== null && plain !== null && real !== null) {
    const figures = `EN at training’s numbers of elements is ${percent(own)}; frequencies alone reach ${percent(plain)}, training ${percent(real)}`;
    if (real - plain < 0.02) {
      say('chemistry', 'fair', `${figures}: too near one another to tell chemistry from frequencies.`);
    } else {
      const way = (own - plain) / (real - plain);
      if (way >= 1) say('chemistry', 'good', `${figures}: as balanced as training or more.`);
      else if (way >= mostOfTheWay)
        say('chemistry', 'good', `${figures}: most of the way from frequencies to training.`);
      else if (way >= onlyFrequencies) {
        say(
          'chemistry',
          'fair',
          `${figures}: ${Math.round(100 * way)} % of the way; it has learned a part of the chemistry.`,
        );
      } else if (way > -onlyFrequencies) {
        say('chemistry', 'bad', `${figures}: near the frequency baseline. It has learned frequencies, not chemistry.`);
      } else say('chemistry', 'bad', `${figures}: below what frequencies alone reach.`);
    }
  }

  const mean = (kind: 'generated' | 'training'): number => {
    const sizes = Object.entries(result.byElementCount);
    const all = sizes.reduce((total, [, row]) => total + row[kind].count, 0);
    return sizes.reduce((total, [n, row]) => total + (Number(n) * row[kind].count) / all, 0);
  };
  const [ownMean, realMean] = [mean('generated'), mean('training')];
  const sizes = `total variation ${totalVariation.elementCount.toFixed(2)}; ${ownMean.toFixed(2)} elements a formula against ${realMean.toFixed(2)} in training`;
  if (totalVariation.elementCount <= sameSizes) {
    say('sizes', 'good', `The numbers of elements are those of training (${sizes}).`);
  } else {
    const direction =
      ownMean > realMean + 0.1 ? 'inflated' : ownMean < realMean - 0.1 ? 'too small' : 'spread differently';
    const gain = own === null ? 0 : result.electronegativityBalanced - own;
    const effect =
      Math.abs(gain) > 0.005
        ? ` This alone makes EN ${points(gain)} ${gain > 0 ? 'higher' : 'lower'} than at training’s numbers; compare the reweighted shares.`
        : '';
    say(
      'sizes',
      totalVariation.elementCount > otherSizes ? 'bad' : 'fair',
      `The numbers of elements are ${direction} (${sizes}).${effect}`,
    );
  }

  const leftOut = (result.leaveOut?.unique ?? 0) - result.overlap;
  const found = result.recoveredLeaveOut;
  const chance = frequency.recoveredLeaveOut;
  if (found !== null && chance !== null) {
    const figures = `${percent(found)} of the left-out formulas are found, ${percent(chance)} by frequencies with as many samples`;
    if (found === 0) say('recovery', 'bad', `No left-out formula is found; frequencies find ${percent(chance)}.`);
    else if (!apart(found, chance, leftOut))
      say('recovery', 'bad', `${figures}: no more than frequencies give, within the error of the figures.`);
    else if (chance === 0) say('recovery', 'good', `${figures}.`);
    else {
      const ratio = found / chance;
      if (ratio >= clearlyMore) say('recovery', 'good', `${figures}: ${times(ratio)} as many.`);
      else if (ratio >= noMore) say('recovery', 'fair', `${figures}: ${times(ratio)} as many, not by much.`);
      else say('recovery', 'bad', `${figures}: no more than frequencies give (${times(ratio)}).`);
    }
    const four = result.byElementCount['4'];
    const [ours, theirs] = [four?.recoveredLeaveOut ?? null, four?.frequencyRecoveredLeaveOut ?? null];
    if (ours !== null && theirs !== null && ours + theirs > 0) {
      const telling = apart(ours, theirs, four.leaveOut?.count ?? 0);
      const verdict = !telling
        ? 'fair'
        : ours >= clearlyMore * theirs
          ? 'good'
          : ours >= noMore * theirs
            ? 'fair'
            : 'bad';
      const ratio = !telling ? '; too few to tell the two apart' : theirs > 0 ? ` (${times(ours / theirs)})` : '';
      say(
        'recovery',
        verdict,
        `Of the quaternaries, where frequencies hardly help, ${percent(ours)} are found against ${percent(theirs)}${ratio}.`,
      );
    }
    const shown = result.recoveredTraining;
    if (shown > 0.005) {
      const share = found / shown;
      const differ = apart(found, shown, leftOut);
      const against = `(${percent(shown)} against ${percent(found)})`;
      const often = 'more often than left-out ones';
      if (differ && share < memorised) {
        say('memory', 'bad', `Training formulas are found ${often} ${against}: it repeats what it was shown.`);
      } else if (differ && share < readily) {
        say('memory', 'fair', `Training formulas are found somewhat ${often} ${against}: it remembers some of them.`);
      } else if (share >= memorised) {
        const both = `(${percent(found)}, ${percent(shown)})`;
        say('memory', 'good', `Left-out formulas are found as readily as training’s ${both}: no sign of memorising.`);
      }
    }
  }

  if (nearest.novel && nearest.leaveOut && nearest.leaveOut.median > 0) {
    const ratio = nearest.novel.median / nearest.leaveOut.median;
    const figures = `New formulas are a median ${nearest.novel.median.toFixed(2)} from the nearest training formula, left-out ones ${nearest.leaveOut.median.toFixed(2)} (share of atoms exchanged)`;
    if (ratio < variations) say('nearness', 'fair', `${figures}: they are small variations of training.`);
    else if (ratio > farOut) say('nearness', 'fair', `${figures}: farther out than real unseen compounds are.`);
    else say('nearness', 'good', `${figures}: about as far out as real unseen compounds.`);
  }
  const { share: worth, count: worthy } = result.validUniqueNew;
  say(
    'validity',
    worth >= 0.3 ? 'good' : worth >= 0.1 ? 'fair' : 'bad',
    `${percent(worth)} of the samples are balanced, different and new: ${count(worthy)} formulas to look at.`,
  );
  const order = ['data', 'samples', 'diversity', 'chemistry', 'sizes', 'recovery', 'memory', 'nearness', 'validity'];
  return remarks.sort((a, b) => order.indexOf(a.topic) - order.indexOf(b.topic));
}
