/**
 * Facts about the elements, one table for the whole project.
 *
 * Sources: Pauling electronegativities are those of the CRC Handbook of Chemistry and Physics, 92nd edition (2011), with 1.3
 * for the elements from Am on (Pauling 1939) and 3.0 for Kr (Allen and Huheey 1980), as compiled in SMACT (MIT licence).
 * Oxidation states are SMACT's original set, compiled by hand in 2014: the set that the MatGAN paper judged formulas with,
 * so the paper's rule needs exactly these, oddities included (Na -1, no state for He). Common states are our own
 * selection from that set after any textbook of inorganic chemistry, most usual first: they choose among assignments
 * and weigh the enumerated data set, and never decide a verdict.
 */

/** What is known of one element. */
export interface Element {
  readonly symbol: string;
  /** Protons. */
  readonly atomicNumber: number;
  /** Pauling's scale; null where SMACT's table has none. */
  readonly electronegativity: number | null;
  /** SMACT's 2014 set, ascending, never 0; empty where the set has none. */
  readonly oxidationStates: readonly number[];
  /** The usual ones among them, most usual first. */
  readonly commonStates: readonly number[];
}

// symbol, electronegativity (- for none), oxidation states, then the common ones behind a bar; line n is atomic number n.
const table = `
H 2.2 -1 +1 | +1 -1
He -
Li 0.98 +1 | +1
Be 1.57 +1 +2 | +2
B 2.04 +1 +2 +3 | +3
C 2.55 -4 -3 -2 -1 +1 +2 +3 +4 | +4 -4
N 3.04 -3 -2 -1 +1 +2 +3 +4 +5 | -3 +5 +3
O 3.44 -2 -1 +1 +2 | -2
F 3.98 -1 | -1
Ne -
Na 0.93 -1 +1 | +1
Mg 1.31 +1 +2 | +2
Al 1.61 +1 +2 +3 | +3
Si 1.9 -4 -3 -2 -1 +1 +2 +3 +4 | +4 -4
P 2.19 -3 -2 -1 +1 +2 +3 +4 +5 | +5 +3 -3
S 2.58 -2 -1 +1 +2 +3 +4 +5 +6 | -2 +6 +4
Cl 3.16 -1 +1 +2 +3 +4 +5 +6 +7 | -1 +5 +7
Ar -
K 0.82 -1 +1 | +1
Ca 1 +1 +2 | +2
Sc 1.36 +1 +2 +3 | +3
Ti 1.54 -1 +1 +2 +3 +4 | +4 +3 +2
V 1.63 -1 +1 +2 +3 +4 +5 | +5 +4 +3 +2
Cr 1.66 -2 -1 +1 +2 +3 +4 +5 +6 | +3 +6 +2
Mn 1.55 -3 -2 -1 +1 +2 +3 +4 +5 +6 +7 | +2 +4 +3 +7
Fe 1.83 -2 -1 +1 +2 +3 +4 +5 +6 | +3 +2
Co 1.88 -1 +1 +2 +3 +4 +5 | +2 +3
Ni 1.91 -1 +1 +2 +3 +4 | +2 +3
Cu 1.9 +1 +2 +3 +4 | +2 +1
Zn 1.65 +1 +2 | +2
Ga 1.81 +1 +2 +3 | +3
Ge 2.01 -4 -3 -2 -1 +1 +2 +3 +4 | +4 -4 +2
As 2.18 -3 +1 +2 +3 +5 | +5 +3 -3
Se 2.55 -2 +1 +2 +4 +6 | -2 +4 +6
Br 2.96 -1 +1 +2 +3 +4 +5 +7 | -1 +5
Kr 3 +2 | +2
Rb 0.82 -1 +1 | +1
Sr 0.95 +1 +2 | +2
Y 1.22 +1 +2 +3 | +3
Zr 1.33 +1 +2 +3 +4 | +4
Nb 1.6 -1 +1 +2 +3 +4 +5 | +5 +4 +3
Mo 2.16 -2 -1 +1 +2 +3 +4 +5 +6 | +6 +4 +5
Tc 2.1 -3 -1 +1 +2 +3 +4 +5 +6 +7 | +4 +7
Ru 2.2 -2 +1 +2 +3 +4 +5 +6 +7 +8 | +4 +3
Rh 2.28 -1 +1 +2 +3 +4 +5 +6 | +3
Pd 2.2 +1 +2 +4 +6 | +2 +4
Ag 1.93 +1 +2 +3 +4 | +1
Cd 1.69 +1 +2 | +2
In 1.78 +1 +2 +3 | +3 +1
Sn 1.96 -4 +2 +4 | +4 +2 -4
Sb 2.05 -3 +3 +5 | +3 +5 -3
Te 2.1 -2 +2 +4 +5 +6 | -2 +4 +6
I 2.66 -1 +1 +3 +4 +5 +7 | -1 +5 +7
Xe 2.6 +1 +2 +4 +6 +8 | +6 +4 +2
Cs 0.79 -1 +1 | +1
Ba 0.89 +2 | +2
La 1.1 +2 +3 | +3
Ce 1.12 +2 +3 +4 | +3 +4
Pr 1.13 +2 +3 +4 | +3 +4
Nd 1.14 +2 +3 +4 | +3
Pm - +2 +3 | +3
Sm 1.17 +2 +3 | +3
Eu 1.2 +2 +3 | +3 +2
Gd 1.2 +1 +2 +3 | +3
Tb 1.2 +1 +2 +3 +4 | +3 +4
Dy 1.22 +2 +3 +4 | +3
Ho 1.23 +2 +3 | +3
Er 1.24 +2 +3 | +3
Tm 1.25 +2 +3 | +3
Yb 1.1 +2 +3 | +3 +2
Lu 1 +3 | +3
Hf 1.3 +2 +3 +4 | +4
Ta 1.5 -1 +2 +3 +4 +5 | +5 +4 +3
W 1.7 -2 -1 +1 +2 +3 +4 +5 +6 | +6 +4 +5
Re 1.9 -3 -1 +1 +2 +3 +4 +5 +6 +7 | +4 +7 +6
Os 2.2 -2 -1 +1 +2 +3 +4 +5 +6 +7 +8 | +4 +6
Ir 2.2 -3 -1 +1 +2 +3 +4 +5 +6 +7 +8 | +4 +3
Pt 2.2 -2 -1 +1 +2 +3 +4 +5 +6 | +4 +2
Au 2.4 -1 +1 +2 +3 +5 | +3 +1
Hg 1.9 +1 +2 +4 | +2 +1
Tl 1.8 -1 +1 +3 | +1 +3
Pb 1.8 -4 +2 +4 | +2 +4
Bi 1.9 -3 +1 +3 +5 +7 | +3 +5
Po 2 -2 +2 +4 +5 +6 | +4 +2 -2
At 2.2 -1 +1 +3 +5 +7 | -1
Rn - +2 +6
Fr 0.7 +1 | +1
Ra 0.9 +2 | +2
Ac 1.1 +2 +3 | +3
Th 1.3 +2 +3 +4 | +4
Pa 1.5 +2 +3 +4 +5 | +5 +4
U 1.7 +2 +3 +4 +5 +6 | +6 +4
Np 1.3 +3 +4 +5 +6 +7 | +5 +4
Pu 1.3 +2 +3 +4 +5 +6 +7 +8 | +4 +3
Am 1.3 +2 +3 +4 +5 +6 +7 | +3
Cm 1.3 +2 +3 +4 +6 +8 | +3
Bk 1.3 +2 +3 +4 | +3 +4
Cf 1.3 +2 +3 +4 | +3
Es 1.3 +2 +3 +4 | +3
Fm 1.3 +2 +3 | +3
Md 1.3 +2 +3 | +3
No 1.3 +2 +3 | +2 +3
Lr - +3 | +3
Rf - +4 | +4
Db - +5 | +5
Sg - +6 | +6
Bh - +7 | +7
Hs - +8 | +8
Mt -
Ds -
Rg -
Cn -
Nh -
Fl -
Mc -
Lv -
Ts -
Og -`;

/** All elements, index = atomic number - 1. */
export const elements: readonly Element[] = table
  .trim()
  .split('\n')
  .map((line, row) => {
    const [facts, common = ''] = line.split('|');
    const [symbol, electronegativity, ...states] = facts.trim().split(/\s+/);
    return Object.freeze({
      symbol,
      atomicNumber: row + 1,
      electronegativity: electronegativity === '-' ? null : Number(electronegativity),
      oxidationStates: Object.freeze(states.map(Number)),
      commonStates: Object.freeze(common.trim() === '' ? [] : common.trim().split(/\s+/).map(Number)),
    });
  });

const bySymbol: ReadonlyMap<string, Element> = new Map(elements.map((element) => [element.symbol, element]));

/** The element of a symbol (`Fe`, case matters), or undefined. */
export function element(symbol: string): Element | undefined {
  return bySymbol.get(symbol);
}

// The released code's 85: H to Pu without the light noble gases, Kr, and the elements with hardly any solid compounds.
const leftOut = new Set(['He', 'Ne', 'Ar', 'Kr', 'Po', 'At', 'Rn', 'Fr', 'Ra']);

/** The 85 rows of MatGAN's matrix, in order of atomic number: H to Pu without He, Ne, Ar, Kr, Po, At, Rn, Fr and Ra. */
export const matganElements: readonly string[] = elements
  .filter(({ symbol, atomicNumber }) => atomicNumber <= 94 && !leftOut.has(symbol))
  .map(({ symbol }) => symbol);

const rowOf: ReadonlyMap<string, number> = new Map(matganElements.map((symbol, index) => [symbol, index]));

/** Row of an element in the 85 × 8 matrix, 0 to 84, or -1 where MatGAN has no row for it. */
export function elementIndex(symbol: string): number {
  return rowOf.get(symbol) ?? -1;
}
