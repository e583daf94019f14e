import { element, elements, matganElements } from './elements.ts';
import { maxCount, maxPairs, pairAt, rowWords } from './encoding.ts';
import { type Composition, FormulaFault, formatFormula, gcd, reduceFormula } from './formula.ts';

/**
 * The paper's two tests of a formula, by the rule of its released code (SMACT, Davies et al., Chem 1, 617 (2016)):
 *
 * - CN, charge-neutral: one oxidation state of SMACT's 2014 set per element can be chosen so that the charges sum to zero, and
 *   the greatest common divisor of the amounts is 1. All atoms of an element share its state, so Fe3O4 fails. Alloys
 *   have no exemption. No state is 0, so a formula of one element fails, as does any with an element that has no states.
 * - EN, electronegativity-balanced: some such choice has every cation's Pauling electronegativity strictly below every anion's;
 *   an element without a value fails. EN implies CN.
 *
 * EN needs no search over pairs: sorted by electronegativity, the elements below some cut are all cations and those above are
 * all anions, and the cut does not part equals. So both tests ask whether sums meet, which sets of bits answer in one
 * pass per element however many states there are.
 */
export const ruleName = 'paper';
/** Flags of `judgePacked`: charge-neutral, electronegativity-balanced. */
export const flagCN = 1;
export const flagEN = 2;

export interface Verdict {
  readonly chargeNeutral: boolean;
  readonly electronegativityBalanced: boolean;
  /** Charge of each element in one neutral choice, an electronegativity-balanced one where there is one; else null. */
  readonly oxidationStates: Record<string, number> | null;
}

/** More partial sums than any real formula needs, in about a third of a second: keeps a hostile one from running for hours. */
const mostWork = 1_000_000;

interface Part {
  readonly symbol: string;
  readonly count: number;
  readonly states: readonly number[];
}

/** How unusual a state is: 0 for the most usual one. Only chooses between assignments. */
function unusual(symbol: string, state: number): number {
  const place = element(symbol)!.commonStates.indexOf(state);
  return place < 0 ? 10 : place;
}

interface Choice {
  readonly cost: number;
  readonly states: Record<string, number>;
}

/**
 * The sums that some parts can have, in order of arrival, each with the cheapest way to it. Flat arrays and open addressing: a
 * Map of millions of large numbers to objects takes microseconds for each.
 */
class Sums {
  readonly sum: number[] = [];
  readonly cost: number[] = [];
  readonly state: number[] = [];
  /** Place of the sum before it in the table of one part less. */
  readonly before: number[] = [];
  private slots = new Int32Array(32).fill(-1);

  /** Notes a way to a sum; of equally cheap ones the first stays. */
  add(sum: number, cost: number, state: number, before: number): void {
    let slot = this.slot(sum);
    const at = this.slots[slot];
    if (at >= 0) {
      if (cost >= this.cost[at]) return;
      [this.cost[at], this.state[at], this.before[at]] = [cost, state, before];
      return;
    }
    if (2 * (this.sum.length + 1) > this.slots.length) {
      this.slots = new Int32Array(2 * this.slots.length).fill(-1);
      for (let i = 0; i < this.sum.length; i++) this.slots[this.slot(this.sum[i])] = i;
      slot = this.slot(sum);
    }
    this.slots[slot] = this.sum.length;
    this.sum.push(sum);
    this.cost.push(cost);
    this.state.push(state);
    this.before.push(before);
  }

  /** Place of a sum, or -1. */
  find(sum: number): number {
    return this.slots[this.slot(sum)];
  }

  private slot(sum: number): number {
    const mask = this.slots.length - 1;
    // Sums go up to 8e9 for each element: both halves count.
    let hash = Math.imul(sum | 0, 0x9e3779b1) ^ Math.imul(Math.floor(sum / 2 ** 32), 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const at = this.slots[slot];
      if (at < 0 || this.sum[at] === sum) return slot;
    }
  }
}

/** The most usual choice of states with sum zero, or null. Sums that the rest cannot bring back to zero are dropped. */
function mostUsualNeutral(parts: readonly Part[], budget: { left: number }): Choice | null {
  // Least and greatest charge that parts i … can still add.
  const least = new Array<number>(parts.length + 1).fill(0);
  const most = new Array<number>(parts.length + 1).fill(0);
  for (let i = parts.length - 1; i >= 0; i--) {
    if (parts[i].states.length === 0) return null;
    least[i] = least[i + 1] + parts[i].count * Math.min(...parts[i].states);
    most[i] = most[i + 1] + parts[i].count * Math.max(...parts[i].states);
  }
  const levels = [new Sums()];
  levels[0].add(0, 0, 0, -1);
  for (const [i, { symbol, count, states }] of parts.entries()) {
    const last = levels[i];
    const next = new Sums();
    const costs = states.map((state) => unusual(symbol, state));
    for (let at = 0; at < last.sum.length; at++) {
      for (let s = 0; s < states.length; s++) {
        const total = last.sum[at] + count * states[s];
        if (total + least[i + 1] > 0 || total + most[i + 1] < 0) continue;
        if (--budget.left < 0) throw new Error('budget');
        next.add(total, last.cost[at] + costs[s], states[s], at);
      }
    }
    levels.push(next);
  }
  let at = levels[parts.length].find(0);
  if (at < 0) return null;
  const cost = levels[parts.length].cost[at];
  const chosen: Record<string, number> = {};
  for (let i = parts.length - 1; i >= 0; i--) {
    chosen[parts[i].symbol] = levels[i + 1].state[at];
    at = levels[i + 1].before[at];
  }
  return { cost, states: Object.fromEntries(parts.map(({ symbol }) => [symbol, chosen[symbol]])) };
}

/**
 * Judges one formula by the paper's rule; any number of elements, any whole amounts.
 * @param options.reduce divide by the greatest common divisor first (default true). Without it Na2Cl2 fails.
 * @throws FormulaError for fractional amounts that stay fractional, and where more than a million partial sums are needed.
 */
export function judge(composition: Composition, options: { reduce?: boolean } = {}): Verdict {
  const judged = (options.reduce ?? true) ? reduceFormula(composition) : composition;
  const none: Verdict = { chargeNeutral: false, electronegativityBalanced: false, oxidationStates: null };
  let divisor = 0;
  for (const [symbol, count] of judged) {
    if (!Number.isSafeInteger(count) || count < 1) {
      const what = `${symbol} has a fractional amount, which the rule cannot judge; multiply the formula out`;
      throw new FormulaFault('fractional amount', `formula ${formatFormula(judged)}: ${what}`);
    }
    divisor = gcd(divisor, count);
  }
  if (divisor !== 1) return none;
  const parts: Part[] = [...judged].map(([symbol, count]) => {
    const known = element(symbol);
    if (!known) throw new FormulaFault('unknown element', `${symbol} is not an element; check the spelling`);
    return { symbol, count, states: known.oxidationStates };
  });
  const budget = { left: mostWork };
  try {
    const neutral = mostUsualNeutral(parts, budget);
    if (!neutral) return none;
    const value = ({ symbol }: Part): number | null => element(symbol)!.electronegativity;
    let balanced: Choice | null = null;
    if (parts.every((part) => value(part) !== null)) {
      const rising = [...parts].sort((a, b) => value(a)! - value(b)!);
      for (let cut = 1; cut < rising.length; cut++) {
        if (value(rising[cut - 1])! >= value(rising[cut])!) continue;
        const choice = mostUsualNeutral(
          rising.map((part, i) => ({ ...part, states: part.states.filter((s) => (i < cut ? s > 0 : s < 0)) })),
          budget,
        );
        if (choice && (!balanced || choice.cost < balanced.cost)) balanced = choice;
      }
    }
    const { states } = balanced ?? neutral;
    return {
      chargeNeutral: true,
      electronegativityBalanced: balanced !== null,
      oxidationStates: Object.fromEntries(parts.map(({ symbol }) => [symbol, states[symbol]])),
    };
  } catch (error) {
    if (!(error instanceof Error && error.message === 'budget')) throw error;
    const what = `${parts.length} elements with these amounts have too many combinations of charges to judge`;
    throw new FormulaFault('too many combinations', `formula ${formatFormula(judged)}: ${what}; check the amounts`);
  }
}

// The fast path. Counts are at most 8, elements at most 8, the most negative state is -4: no negative charge exceeds 256.
const setWords = 9;
const statesOf = matganElements.map((symbol) => element(symbol)!.oxidationStates);
if (elements.some(({ oxidationStates }) => oxidationStates.some((s) => s === 0 || s < -4 || s > 8))) {
  throw new Error('validity: the sets of sums are sized for states from -4 to 8 without 0');
}
/** Electronegativities in hundredths, so that comparing is exact; -1 where there is none. */
const scaleOf = Int16Array.from(
  matganElements.map((symbol) => {
    const value = element(symbol)!.electronegativity;
    return value === null ? -1 : Math.round(value * 100);
  }),
);

/** Numbers of each cell (element with a count; `elementIndex · 8 + count - 1`), side by side and ascending. */
class CellTable {
  readonly values: Uint8Array;
  /** Cell c has the values from start[c] up to start[c + 1]. */
  readonly start = new Uint16Array(matganElements.length * maxCount + 1);
  /** Bit v is set for each value v below 32. */
  readonly mask = new Int32Array(matganElements.length * maxCount);

  constructor(of: (states: readonly number[], count: number) => number[]) {
    const values: number[] = [];
    for (let cell = 0; cell < this.mask.length; cell++) {
      const own = of(statesOf[cell >> 3], (cell & 7) + 1).sort((a, b) => a - b);
      for (const value of own) if (value < 32) this.mask[cell] |= 1 << value;
      values.push(...own);
      this.start[cell + 1] = values.length;
    }
    this.values = Uint8Array.from(values);
  }
}
/** Charges that a cell can have: as cations, as anions (without the sign), and above its lowest one, so that sums only grow. */
const cations = new CellTable((states, count) => states.filter((s) => s > 0).map((s) => s * count));
const anions = new CellTable((states, count) => states.filter((s) => s < 0).map((s) => -s * count));
const rises = new CellTable((states, count) => states.map((s) => (s - Math.min(...states)) * count));
const lowestOf = Int8Array.from(statesOf, (states) => Math.min(...states));
/** Primes up to 8 that divide a count, a bit each: amounts have no common divisor where no bit is in all of them. */
const divisorsOf = Uint8Array.of(15, 0, 1, 2, 1, 4, 3, 8, 1);

/** Sums of a member of `set` and a value of the cell, as bits; those above `most` (at most 31) may be missing. */
function plusCell(table: CellTable, cell: number, set: number, most: number): number {
  const { values, start } = table;
  let sums = 0;
  for (let i = start[cell], end = start[cell + 1]; i < end; i++) {
    const value = values[i];
    if (value > most) break;
    sums |= set << value;
  }
  return sums;
}

/** into |= set shifted up by `shift`, both of `words` words from their places on; bits beyond are lost. */
function orShifted(into: Uint32Array, to: number, set: Uint32Array, base: number, shift: number, words: number): void {
  const skip = shift >> 5;
  const bits = shift & 31;
  for (let w = words - 1; w >= skip; w--) {
    let value = set[base + w - skip] << bits;
    if (bits !== 0 && w > skip) value |= set[base + w - skip - 1] >>> (32 - bits);
    into[to + w] |= value;
  }
}

/** `plusCell` for sets of any size: `into` becomes the sums. */
function plusCellWide(
  table: CellTable,
  cell: number,
  into: Uint32Array,
  to: number,
  set: Uint32Array,
  base: number,
  words: number,
): void {
  into.fill(0, to, to + words);
  const { values, start } = table;
  for (let i = start[cell]; i < start[cell + 1] && values[i] >> 5 < words; i++) {
    orShifted(into, to, set, base, values[i], words);
  }
}

/** Judges packed rows one by one; its working memory is made once. */
export class Judge {
  /** Cells of the row under judgement, by rising electronegativity. */
  private readonly cells = new Uint16Array(maxPairs);
  private readonly scales = new Int16Array(maxPairs);
  /** Sums of the anions' charges from the k-th element up. */
  private readonly narrow = new Int32Array(maxPairs + 1);
  private readonly wide = new Uint32Array((maxPairs + 1) * setWords);
  private sums = new Uint32Array(setWords);
  private next = new Uint32Array(setWords);

  /**
   * Verdict on a row as it stands (reduce it first where that is wanted).
   * @returns 1 charge-neutral, 2 electronegativity-balanced, so 0, 1 or 3
   */
  row(words: Uint32Array, row: number): number {
    const { cells, scales } = this;
    let n = 0;
    let divisors = 15;
    let target = 0;
    for (; n < maxPairs; n++) {
      const pair = pairAt(words, row, n);
      if (pair === 0) break;
      const e = (pair >> 8) - 1;
      const count = pair & 0xff;
      const scale = scaleOf[e];
      let j = n;
      for (; j > 0 && scales[j - 1] > scale; j--) {
        cells[j] = cells[j - 1];
        scales[j] = scales[j - 1];
      }
      cells[j] = (e << 3) + count - 1;
      scales[j] = scale;
      divisors &= divisorsOf[count];
      target -= count * lowestOf[e];
    }
    if (divisors !== 0 || target < 0) return 0;
    // EN first: most formulas that pass one test pass both, and this one is the cheaper. A missing value is sorted to the front.
    if (scales[0] >= 0 && this.balanced(n)) return flagCN | flagEN;
    return (target < 32 ? this.neutral(n, target) : this.neutralWide(n, target)) ? flagCN : 0;
  }

  /** CN: with every element at its lowest state the charge is -target; can the rises make it up? */
  private neutral(n: number, target: number): boolean {
    const { cells } = this;
    if (n < 2) return n === 1 && (rises.mask[cells[0]] & (1 << target)) !== 0;
    let set = rises.mask[cells[0]];
    for (let i = 1; i < n - 1; i++) set = plusCell(rises, cells[i], set, target);
    const { values, start } = rises;
    for (let i = start[cells[n - 1]], end = start[cells[n - 1] + 1]; i < end && values[i] <= target; i++) {
      if ((set >>> (target - values[i])) & 1) return true;
    }
    return false;
  }

  private neutralWide(n: number, target: number): boolean {
    const words = (target >> 5) + 1;
    this.sums.fill(0, 0, words);
    this.sums[0] = 1;
    for (let i = 0; i < n; i++) this.addWide(rises, this.cells[i], words);
    return ((this.sums[target >> 5] >>> (target & 31)) & 1) !== 0;
  }

  private addWide(table: CellTable, cell: number, words: number): void {
    plusCellWide(table, cell, this.next, 0, this.sums, 0, words);
    [this.sums, this.next] = [this.next, this.sums];
  }

  /** EN: does a sum of the cations below some cut meet one of the anions above it? */
  private balanced(n: number): boolean {
    const { cells, scales, narrow } = this;
    let lowest = n;
    let highest = 0;
    while (lowest > 1 && anions.start[cells[lowest - 1]] < anions.start[cells[lowest - 1] + 1]) {
      lowest--;
      highest += anions.values[anions.start[cells[lowest] + 1] - 1];
    }
    if (lowest === n) return false;
    if (highest > 31) return this.balancedWide(n, lowest, highest);
    narrow[n - 1] = anions.mask[cells[n - 1]];
    for (let k = n - 2; k >= lowest; k--) narrow[k] = plusCell(anions, cells[k], narrow[k + 1], highest);
    let set = cations.mask[cells[0]];
    for (let cut = 1; ; cut++) {
      if (cut >= lowest && scales[cut - 1] !== scales[cut] && (set & narrow[cut]) !== 0) return true;
      if (cut + 1 === n) return false;
      set = plusCell(cations, cells[cut], set, highest);
    }
  }

  private balancedWide(n: number, lowest: number, highest: number): boolean {
    const { cells, scales, wide } = this;
    const words = (highest >> 5) + 1;
    wide.fill(0, n * setWords, n * setWords + words);
    wide[n * setWords] = 1;
    for (let k = n - 1; k >= lowest; k--) {
      plusCellWide(anions, cells[k], wide, k * setWords, wide, (k + 1) * setWords, words);
    }
    this.sums.fill(0, 0, words);
    this.sums[0] = 1;
    for (let cut = 1; cut < n; cut++) {
      this.addWide(cations, cells[cut - 1], words);
      if (cut < lowest || scales[cut - 1] === scales[cut]) continue;
      for (let w = 0; w < words; w++) if ((this.sums[w] & wide[cut * setWords + w]) !== 0) return true;
    }
    return false;
  }
}

/**
 * Judges packed formulas by the paper's rule, as they stand (reduce them first where that is wanted).
 * @param words packed rows, 4 words each. @param rows how many of them.
 * @returns a byte per row: 1 charge-neutral, 2 electronegativity-balanced, so 0, 1 or 3.
 */
export function judgePacked(words: Uint32Array, rows: number = words.length / rowWords): Uint8Array {
  const flags = new Uint8Array(rows);
  const judge = new Judge();
  for (let row = 0; row < rows; row++) flags[row] = judge.row(words, row);
  return flags;
}
