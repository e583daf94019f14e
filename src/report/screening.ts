/** From generated formulas to candidates: cheap filters first, models on what is left, then sorted. docs/screening.md. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { loadFormulas } from '../chem/dataset.ts';
import { elementIndex } from '../chem/elements.ts';
import {
  maxPairs,
  PackedSet,
  packFormula,
  packPlain,
  pairAt,
  rowElements,
  rowWords,
  takeRows,
} from '../chem/encoding.ts';
import { FormulaFault, parseFormula, reduceFormula } from '../chem/formula.ts';
import { NearestIndex } from '../chem/nearest.ts';
import { metadataOf, writeSidecar } from '../chem/provenance.ts';
import { Repeats } from '../chem/repeats.ts';
import { formulaText } from '../chem/rows.ts';
import {
  checkOutput,
  firstOfParts,
  type OutColumn,
  readTable,
  writeSorted,
  writeTable,
  writeWhole,
} from '../chem/tables.ts';
import { flagCN, flagEN, Judge } from '../chem/validity.ts';
import { ConfigError, DataError } from '../errors.ts';
import type { Regressor } from '../models/regressor.ts';
import { names, screeningPage } from './screeningPage.ts';
import { Stages } from './stages.ts';

export const sortKeys = ['energy', 'gap', 'formula'] as const;

export interface ScreenOptions {
  /** Table to write, and the page of its first rows. */
  readonly out: string;
  readonly html?: string;
  readonly formulaColumn?: string;
  /** Models; without one its columns are left out. */
  readonly energy?: Regressor;
  readonly gap?: Regressor;
  /** Data sets by name: files of formulas. */
  readonly known?: Readonly<Record<string, string>>;
  /** Elements that must all be there. */
  readonly contains?: readonly string[];
  /** Least and most number of elements. */
  readonly elements?: readonly [number, number];
  readonly rule?: 'neutral' | 'balanced';
  /** Least and most, eV per atom and eV. */
  readonly energies?: readonly [number, number];
  readonly gaps?: readonly [number, number];
  /** Only formulas that no known set has. */
  readonly onlyNew?: boolean;
  /** Rising unless `falling`; in the order of the file unless given. */
  readonly sort?: (typeof sortKeys)[number];
  readonly falling?: boolean;
  readonly top?: number;
  /** Of so many of the first rows the nearest known formula is looked for. */
  readonly nearest?: number;
  /** Bytes for telling repeats, and formulas of a part. */
  readonly memory?: number;
  readonly partRows?: number;
  readonly progress?: (rows: number) => void;
}

/** What a screening did; the JSON output of `matgan screen`. */
export interface Screened {
  readonly source: { readonly file: string; readonly sha256: string; readonly formulaColumn: string };
  readonly rows: number;
  /** Rows that are no formula of 85 × 8, by reason. */
  readonly unusable: Record<string, number>;
  /** What each filter took away, in order. `repeats` are of formulas that had passed the filters before. */
  readonly removed: Record<string, number>;
  /** Different formulas that passed every filter, and those written (fewer where only the first were asked for). */
  readonly passed: number;
  readonly kept: number;
  /** Models, by what they predict. */
  readonly models: Record<string, { readonly kind: string; readonly target: string; readonly sha256: string }>;
  /** Data sets: how many formulas each has. */
  readonly known: Record<string, number>;
  /** Parts that an interrupted screening had done already. */
  readonly resumed: number;
  readonly out: string;
}

/** Rows that a page shows. */
export const pageRows = 2000;
/** In the order of the file: the column that sorting falls back on. */
const place = 'place';

/** Folder beside the table in which an interrupted screening is kept. */
export const screeningFolder = (out: string): string => `${out}.screening`;

async function sha256Of(file: string): Promise<string> {
  if (!existsSync(file)) throw new DataError(`${file}: no such file; check the path`);
  if (!lstatSync(resolve(file)).isFile() && !lstatSync(file).isSymbolicLink())
    throw new DataError(`${file}: is no plain file; name a table`);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** Checks what was asked for, before any work. @throws ConfigError */
function checkOptions(file: string, options: ScreenOptions): void {
  const { energy, gap, known = {}, sort, out, html } = options;
  const fail = (what: string): never => {
    throw new ConfigError(`screen: ${what}`);
  };
  if (!energy && (options.energies || sort === 'energy')) fail('energies need a model; name one with --energy-model');
  if (!gap && (options.gaps || sort === 'gap')) fail('gaps need a model; name one with --gap-model');
  if (options.onlyNew && Object.keys(known).length === 0)
    fail('--new needs a data set; name one with --known NAME=FILE');
  for (const symbol of options.contains ?? [])
    if (elementIndex(symbol) < 0) fail(`--contains ${symbol}: it is none of the 85 elements; check the spelling`);
  const paths = [file, out, ...(html === undefined ? [] : [html])].map((path) => resolve(path));
  if (new Set(paths).size < paths.length) fail('it would write over a file that it reads or writes; name another');
}

/**
 * Screens a table of formulas: those that pass the filters, each once, with what models say of them. Memory is bounded whatever the
 * table's size: what passes waits in Parquet files in a folder beside `out`, which also is what an interrupted screening goes on from.
 * @throws ConfigError for options that contradict, DataError for a table or an output that cannot be used
 */
export async function screen(file: string, options: ScreenOptions): Promise<Screened> {
  const { out, html, energy, gap, contains = [], elements = [1, maxPairs], rule, onlyNew = false } = options;
  const { energies, gaps, memory = 2 ** 28, partRows = 65_536 } = options;
  checkOptions(file, options);
  await checkOutput(out);
  if (html !== undefined) await checkOutput(html);
  const known = await Promise.all(
    Object.entries(options.known ?? {}).map(async ([name, path]) => {
      const { packed, rows } = await loadFormulas(path);
      return { name, packed, rows, set: PackedSet.of({ packed, rows }) };
    }),
  );
  const models = Object.fromEntries(
    Object.entries({ energy, gap }).flatMap(([name, model]) =>
      model ? [[name, { kind: model.kind, target: model.target, sha256: model.sha256 }]] : [],
    ),
  );
  const sets = known.map(({ name, packed }) => [name, createHash('sha256').update(packed).digest('hex')]);
  const sha256 = await sha256Of(file);
  const filters = { contains, elements, rule, energies, gaps, onlyNew, partRows };
  const folder = screeningFolder(out);
  if (existsSync(folder) && !isOurs(folder))
    throw new DataError(`${folder}: is no folder of an interrupted screening; move it away`);
  const fresh = !existsSync(folder);
  const stages = new Stages(folder, {
    sha256,
    column: options.formulaColumn ?? null,
    filters,
    models,
    sets,
    version: 2,
  });
  const clear = (): void => rmSync(folder, { recursive: true, force: true });
  const repeatsFolder = join(folder, 'repeats');
  rmSync(repeatsFolder, { recursive: true, force: true });
  const repeats = new Repeats(memory, repeatsFolder);

  const removed: Record<string, number> = {
    elements: 0,
    contains: 0,
    validity: 0,
    known: 0,
    repeats: 0,
    energy: 0,
    gap: 0,
  };
  const unusable = new Map<string, number>();
  const judge = new Judge();
  const must = contains.map((symbol) => elementIndex(symbol) + 1);
  const row = new Uint32Array(rowWords);
  /** Formulas that wait for the models, with room for what a chunk of the table adds. */
  let waiting = new Uint32Array((partRows + 4096) * rowWords);
  let count = 0;
  const push = (words: Uint32Array): void => {
    if ((count + 1) * rowWords > waiting.length) {
      const larger = new Uint32Array(2 * waiting.length);
      larger.set(waiting);
      waiting = larger;
    }
    waiting.set(words.subarray(0, rowWords), count++ * rowWords);
  };
  const reject = (kind: string): unknown => unusable.set(kind, (unusable.get(kind) ?? 0) + 1);
  const has = (pair: number): boolean => {
    for (let p = 0; p < maxPairs; p++) if (pairAt(row, 0, p) >> 8 === pair) return true;
    return false;
  };

  const parts: string[] = [];
  let [passed, resumed, undecided] = [0, 0, 0];
  /** Runs models on the first rows that wait, and writes those that pass. */
  const flush = async (rows: number): Promise<void> => {
    const name = `${parts.length}.parquet`;
    const kept = stages.read(name);
    let result: { energy: number; gap: number; passed: number; sha256: string } | undefined = kept
      ? JSON.parse(Buffer.from(kept).toString('utf8'))
      : undefined;
    // The part itself may be another screening's, which ended before it had noted it.
    if (result && existsSync(join(folder, name)) && (await sha256Of(join(folder, name))) === result.sha256) resumed++;
    else {
      const words = waiting.slice(0, rows * rowWords);
      const written = await writePart(join(folder, name), words, rows, parts.length * partRows);
      result = { ...written, sha256: await sha256Of(join(folder, name)) };
      stages.write(name, Buffer.from(JSON.stringify(result)));
    }
    parts.push(name);
    removed.energy += result.energy;
    removed.gap += result.gap;
    passed += result.passed;
    waiting.copyWithin(0, rows * rowWords, count * rowWords);
    count -= rows;
  };
  const writePart = async (
    path: string,
    words: Uint32Array,
    rows: number,
    first: number,
  ): Promise<{ energy: number; gap: number; passed: number }> => {
    let places = Uint32Array.from({ length: rows }, (_, i) => i);
    const fell = { energy: 0, gap: 0 };
    const columns: OutColumn[] = [];
    // Side by side where neither waits for what the other leaves: one computes on the device, the other on the processor.
    const together =
      energies === undefined && energy && gap
        ? { energy: energy.run(words, rows), gap: gap.run(words, rows) }
        : undefined;
    // Whoever comes to wait for it sees the error; until then it must not count as one that nobody caught.
    together?.gap.catch(() => {});
    for (const kind of ['energy', 'gap'] as const) {
      const [model, range] = kind === 'energy' ? [energy, energies] : [gap, gaps];
      if (!model) continue;
      const found = await (together?.[kind] ?? model.run(takeRows(words, places), places.length));
      // By place in the part: later filters leave fewer rows.
      const values = new Float64Array(rows).fill(Number.NaN);
      const uncertainties = new Float64Array(rows).fill(Number.NaN);
      places.forEach((at, i) => {
        values[at] = found.values[i];
        if (found.uncertainties) uncertainties[at] = found.uncertainties[i];
      });
      if (range) {
        const before = places.length;
        places = places.filter((at) => values[at] >= range[0] && values[at] <= range[1]);
        fell[kind] += before - places.length;
      }
      columns.push({ name: names[kind], type: 'real', value: (i) => values[places[i]] });
      if (found.uncertainties)
        columns.push({ name: names[`${kind}Uncertainty`], type: 'real', value: (i) => uncertainties[places[i]] });
    }
    const flags = Uint8Array.from(places, (at) => judge.row(words, at));
    const truth = (flag: number) => (i: number) => (flags[i] & flag) !== 0;
    await writeTable(
      path,
      [
        { name: place, type: 'integer', value: (i) => first + places[i] },
        { name: 'formula', type: 'text', value: (i) => formulaText(words, places[i]) },
        { name: 'elements', type: 'integer', value: (i) => rowElements(words, places[i]) },
        { name: 'charge_neutral', type: 'truth', value: truth(flagCN) },
        { name: 'electronegativity_balanced', type: 'truth', value: truth(flagEN) },
        ...columns,
        ...(known.length === 0
          ? []
          : [{ name: 'known', type: 'text' as const, value: (i: number) => namesOf(words, places[i]) }]),
      ],
      places.length,
    );
    return { ...fell, passed: places.length };
  };
  const namesOf = (words: Uint32Array, at: number): string | null =>
    known
      .filter(({ set }) => set.has(words, at))
      .map(({ name }) => name)
      .join(', ') || null;

  const drain = async (): Promise<void> => {
    while (count >= partRows) await flush(partRows);
  };
  const { progress, formulaColumn } = options;
  let table: Awaited<ReturnType<typeof readTable>>;
  try {
    table = await readTable(file, { formulaColumn, drain, progress }, (text) => {
      if (text === null || text.trim() === '') return reject('missing');
      if (!packPlain(text, row, 0)) {
        try {
          row.set(packFormula(reduceFormula(parseFormula(text))));
        } catch (error) {
          if (!(error instanceof FormulaFault)) throw error;
          return reject(error.kind);
        }
      }
      const n = rowElements(row, 0);
      if (n < elements[0] || n > elements[1]) return removed.elements++;
      if (!must.every(has)) return removed.contains++;
      if (rule && !(judge.row(row, 0) & (rule === 'balanced' ? flagEN : flagCN))) return removed.validity++;
      if (onlyNew && known.some(({ set }) => set.has(row, 0))) return removed.known++;
      const before = repeats.known;
      if (repeats.add(row, 0) < 0) undecided++;
      else if (repeats.known > before) push(row);
      else removed.repeats++;
    });
    if (table.malformed.length > 0) unusable.set('malformed line', table.malformed.length);
    let firsts = 0;
    for (const record of repeats.firsts()) {
      firsts++;
      push(record);
      if (count >= partRows) await flush(partRows);
    }
    removed.repeats += undecided - firsts;
    if (count > 0 || parts.length === 0) await flush(count);
  } catch (error) {
    // Nothing done yet, nothing to keep.
    if (fresh && parts.length === 0) clear();
    throw error;
  } finally {
    repeats.close();
  }

  const by = options.sort && (options.sort === 'formula' ? 'formula' : names[options.sort]);
  const order = [...(by ? [options.falling ? { falling: by } : by] : []), place];
  const sorted = { folder, parts, order, limit: options.top };
  const shown = Math.max(html === undefined ? 0 : pageRows, known.length > 0 ? (options.nearest ?? 1000) : 0);
  const first = shown > 0 ? await firstOfParts({ ...sorted, limit: Math.min(shown, options.top ?? shown) }) : [];
  let beside: string | undefined;
  if (known.length > 0) {
    beside = 'nearest.parquet';
    const near = nearestOf(
      known,
      first.slice(0, options.nearest ?? 1000).map((r) => String(r.formula)),
    );
    for (const [i, found] of near.entries()) Object.assign(first[i], found);
    await writeTable(
      join(folder, beside),
      [
        { name: place, type: 'integer', value: (i) => first[i][place] },
        { name: 'nearest_known', type: 'text', value: (i) => near[i].nearest_known },
        { name: 'distance', type: 'real', value: (i) => near[i].distance },
      ],
      near.length,
    );
  }
  const facts = {
    source: { file: basename(file), sha256: table.sha256, formulaColumn: table.formulaColumn },
    rows: table.rows + table.malformed.length,
    unusable: Object.fromEntries([...unusable].sort((a, b) => b[1] - a[1])),
    removed,
    passed,
    kept: Math.min(passed, options.top ?? passed),
    models,
    known: Object.fromEntries(known.map(({ name, rows }) => [name, rows])),
  };
  await writeSorted(out, sorted, { key: place, beside }, metadataOf(facts));
  await writeSidecar(out, facts);
  const screened = { ...facts, resumed, out };
  if (html !== undefined) {
    const notes = [energy, gap].flatMap((model) => (model?.kind === 'trees' ? [model.note] : []));
    const text = screeningPage(screened, first.slice(0, pageRows), options.sort, notes);
    await writeWhole(html, (temporary) => writeFile(temporary, text));
  }
  clear();
  return screened;
}

/** True for a folder that a screening left: the name says nothing of what is in it. */
function isOurs(folder: string): boolean {
  return (
    lstatSync(folder).isDirectory() &&
    readdirSync(folder).every((name) =>
      /^(\.stages|repeats|sorting|(nearest|\d+)\.parquet|\..*\.partial.*)$/.test(name),
    )
  );
}

type Known = { readonly name: string; readonly packed: Uint32Array; readonly rows: number };

/** Nearest known formula of each, with the share of atoms that would have to be exchanged. */
function nearestOf(
  known: readonly Known[],
  formulas: readonly string[],
): { nearest_known: string | null; distance: number | null }[] {
  const rows = known.reduce((sum, set) => sum + set.rows, 0);
  const packed = new Uint32Array(rows * rowWords);
  let at = 0;
  for (const set of known) {
    packed.set(set.packed.subarray(0, set.rows * rowWords), at);
    at += set.rows * rowWords;
  }
  const index = new NearestIndex({ packed, rows });
  const words = new Uint32Array(rowWords);
  return formulas.map((formula) => {
    packPlain(formula, words, 0);
    const found = index.nearest(words, 0);
    return found.row < 0
      ? { nearest_known: null, distance: null }
      : { nearest_known: formulaText(packed, found.row), distance: found.distance };
  });
}
