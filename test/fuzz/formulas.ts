/** Hostile formulas, and what has to hold for every text that is given as one. */
import { MF } from 'mf-parser';
import { elements } from '../../src/chem/elements.ts';
import { decodeMatrix, encodeMatrix, packFormula, unpackRow } from '../../src/chem/encoding.ts';
import {
  type Composition,
  FormulaFault,
  formatFormula,
  gcd,
  parseFormula,
  reduceFormula,
} from '../../src/chem/formula.ts';
import { judge, judgePacked } from '../../src/chem/validity.ts';
import { Choose } from './choose.ts';
import { hold, shown, type Tally } from './tally.ts';

const symbols = elements.map(({ symbol }) => symbol);
/** Elements of many states: the most work for the judge. */
const manyStates = [...elements]
  .sort((a, b) => b.oxidationStates.length - a.oxidationStates.length)
  .slice(0, 40)
  .map(({ symbol }) => symbol);
const dots = ['\u00b7', '\u2022', '\u22c5', '\u2219', '\u30fb', '*', '.', ' . '];
const pieces = [
  ...['(', ')', '[', ']', '{', '}', '.', '·', '*', '+', '-', '^', '0', '9', 'e', '1e9', '₂', '²', '⁻', ' ', '\t', '\n'],
  ...[
    '\u0000',
    '\ufeff',
    '\u00a0',
    '\u0301',
    '\u20dd',
    '\u202e',
    '\u2066',
    '\ud83d',
    '\ude00',
    '😀',
    'Ｎａ',
    '２',
    '．',
  ],
  ...['０', '٣', 'İ', 'ſ', 'K', 'ﬀ', 'NaCl', 'D', 'T', 'X', 'x', 'NaN', 'Infinity', '__proto__', "'", '"', '<b>', '\\'],
];

function amount(choose: Choose): string {
  const r = choose.below(20);
  if (r < 8) return '';
  if (r < 14) return String(1 + choose.below(12));
  if (r === 14) return String(1 + choose.below(1e9));
  if (r === 15) return (choose.below(1e6) / 1e5).toString();
  if (r === 16) return `.${choose.below(1000)}`;
  if (r === 17) return `${choose.below(1e9)}.${choose.below(1e8)}`;
  if (r === 18) return `0.${'0'.repeat(choose.below(8))}${choose.below(100)}`;
  return [...String(1 + choose.below(99))].map((d) => String.fromCharCode(0x2080 + Number(d))).join('');
}

/** One part of the grammar: elements and brackets with amounts. */
function part(choose: Choose, depth: number): string {
  let text = '';
  for (let n = 1 + choose.below(4); n > 0; n--) {
    if (depth > 0 && choose.chance(0.2)) {
      const [open, close] = choose.of(['()', '[]', '{}']);
      text += `${open}${part(choose, depth - 1)}${close}${amount(choose)}`;
    } else text += choose.of(symbols) + amount(choose);
    if (choose.chance(0.03)) text += ' ';
  }
  return text;
}

/** A text of the grammar; most are formulas, some have amounts out of range. */
export function grammatical(choose: Choose): string {
  let text = part(choose, 3);
  while (choose.chance(0.15)) text += choose.of(dots) + amount(choose) + part(choose, 1);
  return text;
}

/** Formulas that both readers take alike: elements and round brackets with whole amounts. */
function plain(choose: Choose, depth = 2): string {
  let text = '';
  for (let n = 1 + choose.below(4); n > 0; n--) {
    const times = choose.chance(0.5) ? '' : String(1 + choose.below(choose.chance(0.9) ? 12 : 5000));
    text += (depth > 0 && choose.chance(0.2) ? `(${plain(choose, depth - 1)})` : choose.of(symbols)) + times;
  }
  return text;
}

/** Work for the judge: many elements, amounts without common factors. */
function laborious(choose: Choose): string {
  let text = '';
  const most = choose.of([10, 1000, 1e6, 1e9]);
  for (let n = choose.size(30); n > 0; n--) text += choose.of(manyStates) + (1 + choose.below(most));
  return text;
}

function extreme(choose: Choose): string {
  const n = choose.size(1200);
  switch (choose.below(8)) {
    case 0:
      return `${choose.of(['(', '[', '{']).repeat(n)}Na${choose.of([')', ']', '}', '']).repeat(n)}`;
    case 1:
      return choose.chance(0.5)
        ? `${'('.repeat(30)}${part(choose, 0)}${')9'.repeat(30)}`
        : `(Fe${choose.below(10)}.${choose.below(1e8)}O)${choose.below(1e9)}`;
    case 2:
      return `Fe${choose.of(['9', '0', '1', '0.', '.0']).repeat(n)}${choose.of(['', '1', 'O'])}`;
    case 3:
      return choose.of([...symbols, ...pieces]).repeat(n);
    case 4:
      return `Fe${choose.of(['1e5', '1E-9', '0x10', '1_000', '1,5', '+3', '-1', '1e400', '5e-324', '4.9e-7'])}O`;
    case 5:
      return `${part(choose, 2)}${choose.of(dots).repeat(n)}`;
    case 6:
      return `${'H2O'.repeat(n)}.5H2O`;
    default:
      return `${choose.of(symbols)}${amount(choose)}`.repeat(choose.size(200));
  }
}

/** Half of the texts follow the grammar or nearly, the others do not. */
export function formulaText(choose: Choose): string {
  const r = choose.below(100);
  if (r < 30) return grammatical(choose);
  if (r < 65) return choose.mutate(grammatical(choose), pieces);
  if (r < 72) return choose.bytes(choose.size(200)).toString('latin1');
  if (r < 82) {
    let text = '';
    for (let n = choose.size(60); n > 0; n--) text += choose.of(choose.chance(0.4) ? symbols : pieces);
    return text;
  }
  if (r < 90) {
    const codes = Array.from({ length: choose.size(100) }, () => choose.below(0x10000));
    return String.fromCharCode(...codes);
  }
  // Up to a third of a second each: few.
  if (r === 90 && choose.chance(0.1)) return laborious(choose);
  return extreme(choose);
}

const same = (a: Composition, b: Composition, tolerance = 0): boolean =>
  a.size === b.size &&
  [...a].every(([symbol, value]) => Math.abs((b.get(symbol) ?? Number.NaN) - value) <= tolerance * Math.max(1, value));

/** Everything that is promised about a text given as a formula. @throws FormulaError where it is refused as it should be */
export function checkFormula(text: string): void {
  let composition: Composition;
  try {
    composition = parseFormula(text);
  } catch (error) {
    if (error instanceof FormulaFault) {
      const { position } = error;
      hold(Number.isInteger(position) && position >= 0 && position <= text.length, `position ${position}`);
    }
    throw error;
  }
  hold(composition.size > 0, 'a formula without elements');
  for (const [symbol, value] of composition) {
    hold(symbols.includes(symbol), `element ${symbol}`);
    hold(value >= 1e-6 && value <= 1e9, `amount ${value}`);
  }
  // Eight decimals are written: what is read again is equal to half a unit there.
  const written = formatFormula(composition);
  const again = parseFormula(written);
  hold(same(composition, again, 1e-8), `${written} reads as ${formatFormula(again)}`);
  hold(formatFormula(again) === written, `${written} is written again as ${formatFormula(again)}`);

  const reduced = reduceFormula(composition);
  hold(same(reduceFormula(reduced), reduced), `reduced twice: ${formatFormula(reduced)}`);
  const whole = [...reduced.values()].every(Number.isSafeInteger);
  if (whole) {
    hold([...reduced.values()].reduce(gcd, 0) === 1, `not in lowest terms: ${formatFormula(reduced)}`);
    if ([...reduced.values()].every((value) => value <= 1e9)) {
      hold(same(parseFormula(formatFormula(reduced)), reduced), `reduced reads otherwise: ${formatFormula(reduced)}`);
    }
  }
  let packed: Uint32Array | undefined;
  try {
    packed = packFormula(reduced);
  } catch (error) {
    if (!(error instanceof FormulaFault)) throw error;
  }
  if (packed) {
    hold(same(unpackRow(packed), reduced), 'packed reads otherwise');
    const decoded = decodeMatrix(encodeMatrix(packed), 0, 'argmax');
    hold((decoded === null) === reduced.size < 2 && (decoded ?? packed).every((w, i) => w === packed[i]), 'matrix');
  }
  const verdict = judge(composition);
  if (verdict.oxidationStates) {
    const charge = [...reduced].reduce((sum, [symbol, n]) => sum + n * verdict.oxidationStates![symbol], 0);
    hold(charge === 0, `charges sum to ${charge}`);
  }
  if (packed) {
    const flags = (verdict.chargeNeutral ? 1 : 0) | (verdict.electronegativityBalanced ? 2 : 0);
    hold(judgePacked(packed)[0] === flags, `judged ${flags}, packed ${judgePacked(packed)[0]}`);
  }
}

/**
 * The same text through mf-parser, another project's reader, where both mean the same. Not compared, because the readers differ on
 * purpose: `CuSO4.5H2O` (a decimal there, a hydrate here), square brackets (isotopes there), groups such as Me, Ph and Bz
 * (not elements here), charges (refused here), D (an isotope there, hydrogen here).
 */
export function compareFormula(text: string): void {
  const ours = parseFormula(text);
  const theirs = new MF(text).getInfo().atoms as Record<string, number>;
  hold(
    same(ours, new Map(Object.entries(theirs)), 1e-12),
    `mf-parser reads ${text} as ${JSON.stringify(theirs)}, we as ${formatFormula(ours)}`,
  );
}

export function fuzzFormulas(tally: Tally, count: number, seed: number): void {
  const choose = new Choose(seed, 'formulas');
  for (let i = 0; i < count; i++) {
    const text = formulaText(choose);
    tally.attempt(
      () => shown(text),
      () => checkFormula(text),
    );
  }
}

export function fuzzAgainstOther(tally: Tally, count: number, seed: number): void {
  const choose = new Choose(seed, 'mf-parser');
  for (let i = 0; i < count; i++) {
    const text = plain(choose);
    tally.attempt(
      () => shown(text),
      () => compareFormula(text),
    );
  }
}
