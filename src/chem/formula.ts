import { FormulaError } from '../errors.ts';
import { element } from './elements.ts';

/** Amount of each element, in the order in which the text names them. Keys are symbols, values are positive and finite. */
export type Composition = Map<string, number>;

/** What is wrong with a formula, in few enough kinds that rows of a table can be counted by them. */
export type FaultKind =
  | 'empty'
  | 'a number, not a formula'
  | 'unknown element'
  | 'not a formula'
  | 'amount out of range'
  | 'too long or too deep'
  | 'element outside the 85'
  | 'fractional amount'
  | 'more than 8 atoms of an element'
  | 'more than 8 elements'
  | 'too many combinations'
  | 'missing elemental value';

/** A FormulaError that also says of which kind it is. It prints as FormulaError. */
export class FormulaFault extends FormulaError {
  readonly kind: FaultKind;
  constructor(kind: FaultKind, message: string, position = 0) {
    super(message, position);
    this.name = 'FormulaError';
    this.kind = kind;
  }
}

const longestText = 1000;
const deepestNesting = 32;
const largestAmount = 1e9;
/** pymatgen too treats amounts that close to a whole number as whole; below this an amount is a misprint. */
const tolerance = 1e-8;
const smallestAmount = 1e-6;

const closing: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };
// Middle dot, bullet, dot operator, bullet operator, katakana dot, asterisk; the full stop is decided by its neighbours.
const separators = '\u00b7\u2022\u22c5\u2219\u30fb*';

/** A text for an error message: quoted, control characters escaped, cut after 60 characters. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

function isDigit(c: string): boolean {
  return c >= '0' && c <= '9' && c.length === 1;
}

/**
 * Reads a chemical formula.
 *
 * Understands brackets of three kinds nested at most 32 deep, decimals (`Fe0.95O`, `Fe.95O`), subscripts of Unicode, white
 * space between the parts, repeated elements (summed), and parts joined by a middle dot, an asterisk or a full stop, each
 * with an optional number before it (`CuSO4·5H2O`). A full stop between digits is a decimal point, as in pymatgen, except
 * before water at the end: `CuSO4.5H2O` is the hydrate. D and T are read as H: an isotope has its element's chemistry.
 * Charges, exponents and variables are refused, and so are an amount of zero, below 1e-6 or above 1e9.
 *
 * @returns amount of each element per formula unit.
 * @throws FormulaError with the zero-based position (UTF-16 units of the text as given) and what to do about it.
 */
export function parseFormula(text: string): Composition {
  if (typeof text !== 'string') throw new FormulaFault('not a formula', `a formula must be a text, not ${typeof text}`);
  if (text.length > longestText) {
    const message = `formula ${quoted(text)} has ${text.length} characters; the longest that is read has ${longestText}`;
    throw new FormulaFault('too long or too deep', message, longestText);
  }
  const fail = (kind: FaultKind, position: number, what: string): never => {
    throw new FormulaFault(kind, `formula ${quoted(text)}, character ${position + 1}: ${what}`, position);
  };
  // Same length as the text, so that positions stay those of the text.
  const plain = text.replace(/[\u2080-\u2089]/g, (c) => String.fromCharCode(c.charCodeAt(0) - 0x2080 + 48));
  if (plain.trim() === '') throw new FormulaFault('empty', 'the formula is empty; write one such as NaCl', 0);
  if (Number.isFinite(Number(plain)))
    fail('a number, not a formula', 0, 'a number is not a formula; write one such as NaCl');

  let at = 0;
  const skipSpace = (): void => {
    while (at < plain.length && plain[at].trim() === '') at++;
  };
  /** True where the full stop at `at` joins a hydrate's water instead of being a decimal point. */
  const joins = (): boolean =>
    /^\.(?!\d)|^\.\d*(\.\d+)?\s*(H2O|D2O|\(H2O\)|\(D2O\))\s*$/.test(plain.slice(at, at + 32));
  /** The number at `at`, or 1 where there is none. The number before a part has no part before it to be joined to. */
  const amount = (beforePart = false): number => {
    const from = at;
    while (at < plain.length && isDigit(plain[at])) at++;
    if (plain[at] === '.' && (beforePart ? isDigit(plain[at + 1] ?? '') : !joins())) {
      at++;
      while (at < plain.length && isDigit(plain[at])) at++;
    }
    if (at === from) return 1;
    const value = Number(plain.slice(from, at));
    if (value === 0) fail('amount out of range', from, 'an amount of zero; leave the element out');
    if (at - from > 18 || !(value >= smallestAmount && value <= largestAmount)) {
      fail('amount out of range', from, `the amount is not between ${smallestAmount} and ${largestAmount}`);
    }
    return value;
  };

  interface Level {
    readonly bracket: string;
    readonly from: number;
    readonly sums: Composition;
  }
  const total: Composition = new Map();
  const add = (into: Composition, symbol: string, value: number, position: number): void => {
    const sum = (into.get(symbol) ?? 0) + value;
    if (!(sum >= smallestAmount && sum <= largestAmount)) {
      fail(
        'amount out of range',
        position,
        `the amount of ${symbol} is not between ${smallestAmount} and ${largestAmount}`,
      );
    }
    into.set(symbol, sum);
  };

  let factor = 1; // the number before the part that is being read
  let levels: Level[] = [{ bracket: '', from: 0, sums: new Map() }];
  const endPart = (): void => {
    if (levels.length > 1) {
      const { bracket, from } = levels[levels.length - 1];
      fail('not a formula', from, `the bracket ${bracket} is never closed; add ${closing[bracket]}`);
    }
    if (levels[0].sums.size === 0) fail('not a formula', Math.min(at, text.length - 1), 'an element is missing here');
    for (const [symbol, value] of levels[0].sums) add(total, symbol, value * factor, levels[0].from);
  };

  for (skipSpace(); at < plain.length; skipSpace()) {
    const c = plain[at];
    const level = levels[levels.length - 1];
    if (c >= 'A' && c <= 'Z') {
      const from = at++;
      while (at < plain.length && plain[at] >= 'a' && plain[at] <= 'z') at++;
      const symbol = plain.slice(from, at);
      const known = symbol === 'D' || symbol === 'T' ? 'H' : symbol;
      if (!element(known))
        fail('unknown element', from, `${symbol.slice(0, 12)} is not an element; check the spelling`);
      skipSpace();
      add(level.sums, known, amount(), from);
    } else if (c in closing) {
      if (levels.length > deepestNesting) {
        fail('too long or too deep', at, `brackets nest more than ${deepestNesting} deep; multiply some out`);
      }
      levels.push({ bracket: c, from: at++, sums: new Map() });
    } else if (c === ')' || c === ']' || c === '}') {
      const from = at;
      if (levels.length === 1) fail('not a formula', at, `no bracket is open for this ${c}; remove it`);
      if (closing[level.bracket] !== c)
        fail('not a formula', at, `${level.bracket} is closed by ${c}; write ${closing[level.bracket]}`);
      if (level.sums.size === 0) fail('not a formula', level.from, 'the brackets are empty; remove them');
      at++;
      skipSpace();
      const times = amount();
      levels.pop();
      for (const [symbol, value] of level.sums) add(levels[levels.length - 1].sums, symbol, value * times, from);
    } else if (separators.includes(c) || (c === '.' && joins())) {
      endPart();
      at++;
      skipSpace();
      factor = amount(true);
      levels = [{ bracket: '', from: at, sums: new Map() }];
    } else if (c === '+' || c === '-' || c === '^' || c === '\u2212' || (c >= '\u207a' && c <= '\u208b')) {
      fail('not a formula', at, `${c} is not read; leave charges and variables out`);
    } else if (isDigit(c) || c === '.') {
      fail('not a formula', at, 'a number without an element before it; numbers follow an element, a bracket or a ·');
    } else if (c >= 'a' && c <= 'z') {
      fail('not a formula', at, `${c} cannot begin an element; symbols start with a capital letter`);
    } else {
      fail(
        'not a formula',
        at,
        `${quoted(String.fromCodePoint(plain.codePointAt(at)!))} does not belong in a formula; remove it`,
      );
    }
  }
  endPart();
  for (const [symbol, value] of total) {
    const whole = Math.round(value);
    if (value !== whole && whole > 0 && Math.abs(value - whole) < tolerance) total.set(symbol, whole);
  }
  return total;
}

/** Greatest common divisor of two non-negative whole numbers; gcd(0, b) = b. */
export function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/** Smallest denominator up to 10,000 that makes a whole number of the value to within 1e-6, or 0 (continued fraction). */
function denominatorOf(value: number): number {
  let rest = value;
  let [p0, q0, p1, q1] = [0, 1, 1, 0];
  for (let i = 0; i < 20; i++) {
    const whole = Math.floor(rest);
    [p0, q0, p1, q1] = [p1, q1, whole * p1 + p0, whole * q1 + q0];
    if (q1 > 10_000) return 0;
    if (Math.abs(value - p1 / q1) < tolerance * Math.max(1, value)) return q1;
    rest = 1 / (rest - whole);
  }
  return 0;
}

/**
 * The formula in its smallest whole numbers. Whole amounts are divided by their greatest common divisor. Fractional ones are
 * multiplied first (`Fe0.95O` → `Fe19O20`, as pymatgen's integer formula); where no denominator up to 10,000 makes
 * all of them whole, a copy comes back unchanged.
 */
export function reduceFormula(composition: Composition): Composition {
  let multiple = 1;
  for (const value of composition.values()) {
    const denominator = Number.isInteger(value) ? 1 : denominatorOf(value);
    multiple *= denominator / (gcd(multiple, denominator) || 1);
    if (denominator === 0 || multiple > 10_000) return new Map(composition);
  }
  const whole = [...composition].map(([symbol, value]) => [symbol, Math.round(value * multiple)] as const);
  const divisor = whole.reduce((sum, [, value]) => gcd(sum, value), 0) || 1;
  return new Map(whole.map(([symbol, value]) => [symbol, value / divisor]));
}

/**
 * Writes a composition on one line without brackets: elements by rising electronegativity, then by symbol, as pymatgen does;
 * elements without a value come last. An amount of 1 is left out, fractions have at most 8 decimals.
 */
export function formatFormula(composition: Composition): string {
  const key = (symbol: string): number => element(symbol)?.electronegativity ?? Number.POSITIVE_INFINITY;
  return [...composition]
    .sort(([a], [b]) => {
      const [x, y] = [key(a), key(b)];
      return x < y ? -1 : x > y ? 1 : a < b ? -1 : 1;
    })
    .map(([symbol, value]) => (value === 1 ? symbol : `${symbol}${Number(value.toFixed(8))}`))
    .join('');
}
