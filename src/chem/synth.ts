import { ConfigError } from '../errors.ts';
import { element, elementIndex, matganElements } from './elements.ts';
import { maxCount, type PackedFormulas, PackedSet, rowWords, takeRows, writePairs } from './encoding.ts';
import { gcd } from './formula.ts';
import { type Random, randomStream, shuffle, WeightedChoice } from './random.ts';
import { flagEN, judgePacked } from './validity.ts';

/**
 * The embedded default set: compounds enumerated from element facts, since no corpus of formulas can be shipped.
 *
 * Every formula is charge-neutral and electronegativity-balanced by the paper's rule, in lowest terms, and occurs once.
 * Binaries are listed completely and drawn by weight without replacement; larger ones are drawn element by element: one or
 * two anions, cations of lower electronegativity, an oxidation state each (the usual ones mostly), small counts, and
 * the anion's count from the charges. So which elements meet, in which ratio, follows from chemistry alone, and that is
 * what a network can learn from it.
 *
 * The weights are our own rough figures for how often an element appears in inorganic compounds: abundant and
 * familiar elements often, radioactive and precious ones rarely. They describe no particular database. Pm never
 * appears: it has no electronegativity in the table, so no compound of it passes.
 */
export const defaultCount = 20_000;
export const defaultSeed = 1;

/** Shares of formulas with 2, 3, 4 and 5 elements: those of the Materials Project after the paper's rules. */
const shares: readonly (readonly [elements: number, share: number])[] = [
  [2, 0.19],
  [3, 0.53],
  [4, 0.24],
  [5, 0.04],
];

const cationWeights = weights(`
  Li 6 Na 8 K 8 Rb 4 Cs 5 Be 1 Mg 6 Ca 6 Sr 6 Ba 8 Sc 2 Y 3 La 4 Ti 4 Zr 3 Hf 2 V 4 Nb 4 Ta 3 Cr 3 Mo 4 W 3 Mn 5 Tc 0.2 Re 1
  Fe 5 Ru 1 Os 0.5 Co 5 Rh 1 Ir 1 Ni 4 Pd 1.5 Pt 1.5 Cu 6 Ag 3 Au 1 Zn 5 Cd 3 Hg 2 Al 5 Ga 4 In 4 Tl 2.5 Si 5 Ge 4 Sn 4 Pb 4
  As 3 Sb 4 Bi 4 Ce 3 Pr 3 Nd 3.5 Sm 3 Eu 3 Gd 2.5 Tb 2.5 Dy 2.5 Ho 2.5 Er 2.5 Tm 2 Yb 3 Lu 2 Th 1.5 Pa 0.2 U 3 Np 0.4 Pu 0.4
  Ac 0.1 H 6 B 4 C 2.5 N 2 P 6 S 4 Se 2 Te 2 I 1 Cl 0.5 Br 0.2 Xe 0.1`);
const anionWeights = weights(`
  O 52 S 10 F 9 Cl 8 Se 7 N 5 Br 4 I 4 P 4 Te 4 As 2 C 2 H 2 Si 1.5 Sb 1 Ge 1 Bi 0.3 Sn 0.5 Au 0.2 Pt 0.1`);
/** Nonmetals are cations beside the two most electronegative elements; beside others that is rare. */
const nonmetals = new Set(['H', 'B', 'C', 'N', 'P', 'S', 'Se', 'Te', 'I', 'Cl', 'Br', 'Xe', 'As', 'Si']);
const strongAnions = new Set(['O', 'F']);
const rareNonmetal = 0.15;
/** Odds of the first, second, third … usual state, and of each unusual one. */
const stateOdds = [8, 3, 1.5, 1];
const unusualOdds = 0.05;
/** Odds of 1 … 8 atoms of a cation. */
const countOdds = [50, 26, 9, 6, 2, 3, 1, 1];
/** Share of formulas with two anions, by number of elements. */
const twoAnions: Readonly<Record<number, number>> = { 3: 0.15, 4: 0.25, 5: 0.35 };

function weights(text: string): Float64Array {
  const list = new Float64Array(matganElements.length);
  const words = text.trim().split(/\s+/);
  for (let i = 0; i < words.length; i += 2) list[elementIndex(words[i])] = Number(words[i + 1]);
  return list;
}

interface State {
  readonly charge: number;
  readonly odds: number;
}

/** States of one sign with their odds, per element. */
function states(sign: 1 | -1): State[][] {
  return matganElements.map((symbol) => {
    const { oxidationStates, commonStates } = element(symbol)!;
    const usual = commonStates.filter((s) => s * sign > 0);
    return oxidationStates
      .filter((s) => s * sign > 0)
      .map((charge) => {
        const place = usual.indexOf(charge);
        return { charge, odds: place < 0 ? unusualOdds : (stateOdds[place] ?? unusualOdds) };
      });
  });
}

const cationStates = states(1);
const anionStates = states(-1);
const value = matganElements.map((symbol) => element(symbol)!.electronegativity);
const drawAnion = new WeightedChoice(anionWeights);
const drawCation = new WeightedChoice(cationWeights);
const drawCount = new WeightedChoice(countOdds);
const drawState = (list: State[][]): WeightedChoice[] => list.map((s) => new WeightedChoice(s.map(({ odds }) => odds)));
const drawCationState = drawState(cationStates);
const drawAnionState = drawState(anionStates);

/** True where the first may be a cation beside the second. */
function below(cation: number, anion: number): boolean {
  const [low, high] = [value[cation], value[anion]];
  return low !== null && high !== null && low < high;
}

/** How readily a cation goes with an anion, 0 to 1. */
function affinity(cation: number, anion: number): number {
  const rare = nonmetals.has(matganElements[cation]) && !strongAnions.has(matganElements[anion]);
  return rare ? rareNonmetal : 1;
}

/** All binaries with their weights; the ratio follows from the charges. */
function binaries(): { set: PackedSet; odds: number[] } {
  const set = new PackedSet(16_384);
  const odds: number[] = [];
  const row = new Uint32Array(rowWords);
  for (let cation = 0; cation < matganElements.length; cation++) {
    for (let anion = 0; anion < matganElements.length; anion++) {
      const weight = cationWeights[cation] * anionWeights[anion];
      if (weight === 0 || !below(cation, anion)) continue;
      for (const plus of cationStates[cation]) {
        for (const minus of anionStates[anion]) {
          const divisor = gcd(plus.charge, -minus.charge);
          const [cations, anions] = [-minus.charge / divisor, plus.charge / divisor];
          writePairs(row, 0, [((cation + 1) << 8) | cations, ((anion + 1) << 8) | anions], 2);
          if (set.add(row, 0)) odds.push(0);
          odds[set.indexOf(row, 0)] += weight * affinity(cation, anion) * plus.odds * minus.odds;
        }
      }
    }
  }
  return { set, odds };
}

/** One try at a formula of n elements; false where the draw leads nowhere. */
function propose(n: number, random: Random, out: Uint32Array, row: number): boolean {
  const anionCount = n > 2 && random.uniform() < (twoAnions[n] ?? 0) ? 2 : 1;
  const chosen: number[] = [];
  const charges: number[] = [];
  const counts: number[] = [];
  for (let i = 0; i < anionCount; i++) {
    const anion = drawAnion.draw(random);
    if (chosen.includes(anion)) return false;
    chosen.push(anion);
    charges.push(anionStates[anion][drawAnionState[anion].draw(random)].charge);
    counts.push(0);
  }
  let positive = 0;
  for (let i = anionCount; i < n; i++) {
    const cation = drawCation.draw(random);
    if (chosen.includes(cation)) return false;
    for (let a = 0; a < anionCount; a++) {
      if (!below(cation, chosen[a]) || random.uniform() >= affinity(cation, chosen[a])) return false;
    }
    chosen.push(cation);
    charges.push(cationStates[cation][drawCationState[cation].draw(random)].charge);
    counts.push(drawCount.draw(random) + 1);
    positive += charges[i] * counts[i];
  }
  if (anionCount === 2) {
    const most = Math.min(maxCount, Math.floor((positive - 1) / -charges[1]));
    if (most < 1) return false;
    counts[1] = random.below(most) + 1;
    positive += charges[1] * counts[1];
  }
  // The first anion takes up what is left; where that is no whole number, everything else is multiplied.
  const times = -charges[0] / gcd(positive, -charges[0]);
  for (let i = 1; i < n; i++) counts[i] *= times;
  counts[0] = (positive * times) / -charges[0];
  const divisor = counts.reduce(gcd, 0);
  const pairs: number[] = [];
  for (let i = 0; i < n; i++) {
    const count = counts[i] / divisor;
    if (count > maxCount) return false;
    pairs.push(((chosen[i] + 1) << 8) | count);
  }
  writePairs(out, row, pairs, n);
  return true;
}

/**
 * Draws the default set. The same count and seed give the same bits everywhere; another count gives another set, not a prefix.
 * @param options.count number of formulas, 1 to 200,000 (default 20,000). @param options.seed whole number (default 1).
 * @returns packed formulas, all different, in random order.
 */
export function synthesize(options: { count?: number; seed?: number } = {}): PackedFormulas {
  const count = options.count ?? defaultCount;
  const seed = options.seed ?? defaultSeed;
  if (!Number.isInteger(count) || count < 1 || count > 200_000) {
    throw new ConfigError(`synth: count ${count} is not a whole number from 1 to 200,000`);
  }
  if (!Number.isSafeInteger(seed)) throw new ConfigError(`synth: seed ${seed} is not a whole number`);
  const random = randomStream(seed, 'synth');
  const set = new PackedSet(count);

  // Weighted draw without replacement: the greatest log(u) / weight win (Efraimidis and Spirakis 2006). At most half of
  // all binaries are taken, so that even a large set keeps to the likelier ones; ternaries make up for the rest.
  const all = binaries();
  const wanted = Math.min(Math.round(count * shares[0][1]), all.set.size >> 1);
  const keys = all.odds.map((weight, row) => ({ row, key: Math.log(1 - random.uniform()) / weight }));
  keys.sort((a, b) => b.key - a.key || a.row - b.row);
  for (const { row } of keys.slice(0, wanted)) set.add(all.set.packed, row);

  const one = new Uint32Array(rowWords);
  for (let s = shares.length - 1; s >= 1; s--) {
    const [n, share] = shares[s];
    const until = s === 1 ? count : Math.min(count, set.size + Math.round(count * share));
    while (set.size < until) {
      if (!propose(n, random, one, 0)) continue;
      if ((judgePacked(one, 1)[0] & flagEN) === 0) {
        throw new Error('synth: a formula made by the rule fails it'); // a fault of ours, not of the user's
      }
      set.add(one, 0);
    }
  }
  const order = shuffle(
    Uint32Array.from({ length: set.size }, (_, i) => i),
    random,
  );
  return { packed: takeRows(set.packed, order), rows: set.size };
}
