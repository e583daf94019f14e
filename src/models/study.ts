/** What an autoencoder can and can't write down: exact decoding of formulas, and which elements fail (Fig. 7 and S4 of the paper). */

import { type Share, shareOf } from '../chem/confidence.ts';
import { matganElements } from '../chem/elements.ts';
import {
  elementCount,
  maxCount,
  maxPairs,
  type PackedFormulas,
  type PackedSet,
  pairAt,
  rowElements,
  rowWords,
} from '../chem/encoding.ts';
import type { Codec, Decoded } from './codec.ts';

export type Rule = keyof Decoded;

/** Formulas of one part of a data set; those of other data than the run's are `other`. */
export type SetName = 'training' | 'leaveOut' | 'other';
export type StudySets = Partial<Record<SetName, PackedFormulas>>;

/** How a formula that is not decoded exactly comes out; each counts under the first that fits. */
export interface Mistakes {
  /** Nothing: no element, one, or more than eight. */
  nothing: number;
  /** The right elements with a wrong count. */
  counts: number;
  /** An element is missing, none is added. */
  missing: number;
  /** An element is added, none is missing. */
  added: number;
  /** Some missing, others added. */
  exchanged: number;
}

export interface SetStudy {
  readonly rows: number;
  /** Rows decoded exactly, by each rule. */
  readonly exact: Record<Rule, Share>;
  /** Number of elements → rows that are not decoded by the run's rule. */
  readonly failedBySize: Record<string, Share>;
  /** Greatest number of atoms of one element → the same. */
  readonly failedByAtoms: Record<string, Share>;
  readonly mistakes: Mistakes;
  /** Of rows that the rule decodes, and of those that it doesn't, how many a generator made; where one was given. */
  readonly generated?: { readonly decodable: Share; readonly undecodable: Share };
}

export interface Study {
  /** The rule that decides whether a row is decodable: the model's own unless another was asked for. */
  readonly rule: Rule;
  readonly sets: Partial<Record<SetName, SetStudy>>;
  /** Rows of all sets that hold an element and are not decoded, in the order of the elements; those that occur. */
  readonly elements: readonly (Share & { readonly element: string })[];
}

/** Decoded rows of one set, in its order. */
export type DecodedSets = Partial<Record<SetName, Decoded>>;

const sameRow = (a: Uint32Array, b: Uint32Array, row: number): boolean => {
  for (let w = row * rowWords; w < (row + 1) * rowWords; w++) if (a[w] !== b[w]) return false;
  return true;
};

/** Sends all rows through a codec, both rules, 32 bytes of memory a row. */
export async function decodeSets(
  codec: Codec,
  sets: StudySets,
  onProgress: (rows: number) => void = () => {},
): Promise<DecodedSets> {
  const all: DecodedSets = {};
  let done = 0;
  for (const [name, formulas] of Object.entries(sets) as [SetName, PackedFormulas][]) {
    const decoded = {
      argmax: new Uint32Array(formulas.rows * rowWords),
      paper: new Uint32Array(formulas.rows * rowWords),
    };
    await codec.reconstruct(formulas, ({ argmax, paper }, from, count) => {
      decoded.argmax.set(argmax, from * rowWords);
      decoded.paper.set(paper, from * rowWords);
      done += count;
      onProgress(done);
    });
    all[name] = decoded;
  }
  return all;
}

const setOf = (words: Uint32Array, row: number): Map<number, number> => {
  const pairs = new Map<number, number>();
  for (let p = 0; p < maxPairs; p++) {
    const pair = pairAt(words, row, p);
    if (pair === 0) break;
    pairs.set((pair >> 8) - 1, pair & 0xff);
  }
  return pairs;
};

function mistakeOf(wanted: Uint32Array, got: Uint32Array, row: number): keyof Mistakes {
  if (got[row * rowWords] === 0) return 'nothing';
  const [right, wrong] = [setOf(wanted, row), setOf(got, row)];
  const missing = [...right.keys()].some((e) => !wrong.has(e));
  const added = [...wrong.keys()].some((e) => !right.has(e));
  return missing ? (added ? 'exchanged' : 'missing') : added ? 'added' : 'counts';
}

/** Counts what was decoded. @param generated different formulas of a generator, in lowest terms as the rows are */
export function studyOf(sets: StudySets, decoded: DecodedSets, rule: Rule, generated?: PackedSet): Study {
  const result: Partial<Record<SetName, SetStudy>> = {};
  const failedWith = new Uint32Array(elementCount);
  const rowsWith = new Uint32Array(elementCount);
  for (const [name, { packed, rows }] of Object.entries(sets) as [SetName, PackedFormulas][]) {
    const got = decoded[name]!;
    const exact = { argmax: 0, paper: 0 };
    const bySize = { failed: new Uint32Array(maxPairs + 1), rows: new Uint32Array(maxPairs + 1) };
    const byAtoms = { failed: new Uint32Array(maxCount + 1), rows: new Uint32Array(maxCount + 1) };
    const mistakes: Mistakes = { nothing: 0, counts: 0, missing: 0, added: 0, exchanged: 0 };
    // Index 0: decodable rows, 1: the others.
    const found = [0, 0];
    for (let row = 0; row < rows; row++) {
      for (const each of ['argmax', 'paper'] as const) if (sameRow(packed, got[each], row)) exact[each]++;
      const failed = sameRow(packed, got[rule], row) ? 0 : 1;
      const size = rowElements(packed, row);
      let most = 0;
      for (let p = 0; p < size; p++) {
        const pair = pairAt(packed, row, p);
        most = Math.max(most, pair & 0xff);
        rowsWith[(pair >> 8) - 1]++;
        failedWith[(pair >> 8) - 1] += failed;
      }
      bySize.rows[size]++;
      bySize.failed[size] += failed;
      byAtoms.rows[most]++;
      byAtoms.failed[most] += failed;
      if (failed) mistakes[mistakeOf(packed, got[rule], row)]++;
      if (generated?.has(packed, row)) found[failed]++;
    }
    const shares = (counts: typeof bySize): Record<string, Share> =>
      Object.fromEntries(
        [...counts.rows].flatMap((n, i) => (n === 0 ? [] : [[i, shareOf(counts.failed[i], n)] as const])),
      );
    result[name] = {
      rows,
      exact: { argmax: shareOf(exact.argmax, rows), paper: shareOf(exact.paper, rows) },
      failedBySize: shares(bySize),
      failedByAtoms: shares(byAtoms),
      mistakes,
      ...(generated && {
        generated: {
          decodable: shareOf(found[0], exact[rule]),
          undecodable: shareOf(found[1], rows - exact[rule]),
        },
      }),
    };
  }
  const elements = matganElements.flatMap((element, e) =>
    rowsWith[e] === 0 ? [] : [{ element, ...shareOf(failedWith[e], rowsWith[e]) }],
  );
  return { rule, sets: result, elements };
}

/** True where a row came out as it went in. */
export const isExact = (wanted: Uint32Array, got: Uint32Array, row: number): boolean => sameRow(wanted, got, row);
