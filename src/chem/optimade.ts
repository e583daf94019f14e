/**
 * Formulas over OPTIMADE (https://www.optimade.org, specification 1.2), the common interface of materials databases: page by page into
 * a file of JSON lines that `matgan data prepare` reads. What a server sends is a stranger's: every page is checked, its size is
 * bounded, and a next page is only followed on the same host.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { DataError } from '../errors.ts';

/** A database known by name: its base URL, and what it calls energies and gaps. */
export interface Provider {
  url: string;
  /** Formation energy, eV an atom. */
  energyField?: string;
  /** Band gap, eV. */
  gapField?: string;
  /** Where its terms of use are told. */
  about: string;
}

export const providers: Readonly<Record<string, Provider>> = {
  oqmd: {
    url: 'https://oqmd.org/optimade/v1',
    energyField: '_oqmd_delta_e',
    gapField: '_oqmd_band_gap',
    about: 'https://oqmd.org (CC-BY 4.0)',
  },
  mp: { url: 'https://optimade.materialsproject.org/v1', about: 'https://materialsproject.org (CC-BY 4.0)' },
  alexandria: {
    url: 'https://alexandria.icams.rub.de/pbe/v1',
    energyField: '_alexandria_formation_energy_per_atom',
    gapField: '_alexandria_band_gap',
    about: 'https://alexandria.icams.rub.de (CC-BY 4.0)',
  },
  cod: { url: 'https://www.crystallography.net/cod/optimade/v1', about: 'https://www.crystallography.net (CC0)' },
};

export interface FetchOptions {
  /** Base URL, with its version: `https://oqmd.org/optimade/v1`. */
  url: string;
  /** JSON lines: id, formula, and energy and gap where their fields are named. Written beside, as FILE.part, until all is there. */
  out: string;
  /** In OPTIMADE's filter language, e.g. `elements HAS "Li" AND nelements>=2`. */
  filter?: string;
  energyField?: string;
  gapField?: string;
  /** Rows a page; the server may give fewer. */
  pageSize?: number;
  /** Rows after which to stop. */
  limit?: number;
  /** Sent as `X-API-KEY`, and never written anywhere. */
  apiKey?: string;
  /** Milliseconds between the starts of two requests. */
  interval?: number;
  /** Attempts at one page, and milliseconds that one may take. */
  attempts?: number;
  timeout?: number;
  /** Milliseconds before the second attempt; each further wait is twice as long, and never longer than `longestWait`. */
  firstWait?: number;
  signal?: AbortSignal;
  /** Rows so far, and how many the server says there are. */
  onProgress?: (rows: number, of: number | null) => void;
  /** What was tried again, and why. */
  onRetry?: (why: string) => void;
}

export interface Fetched {
  rows: number;
  /** Of these, since an earlier attempt that was cut off. */
  resumed: number;
  /** Rows of the server without a formula. */
  without: number;
  pages: number;
  /** Requests that had to be made again. */
  retries: number;
  /** What the server says it has for this filter; null where it does not. */
  offered: number | null;
  url: string;
  sha256: string;
}

/** Bytes of a page. A thousand structures with three fields are a third of a megabyte. */
const largestPage = 1 << 26;
/** Milliseconds that a server may make us wait between attempts. */
const longestWait = 120_000;
/** Pages in a row without a row, after which a server is taken to go round in circles. */
const mostEmptyPages = 3;

/** Worth trying again: the network's fault, or the server's. */
class Passing extends Error {
  readonly wait: number | undefined;
  constructor(message: string, wait?: number) {
    super(message);
    this.wait = wait;
  }
}

const plain = (value: unknown): string => String(value).replace(/\s+/g, ' ').slice(0, 300);

/** The first query, which an interrupted fetch must share to go on. */
function firstUrl({ url, filter, energyField, gapField, pageSize = 500 }: FetchOptions): URL {
  let base: URL;
  try {
    base = new URL(url);
  } catch {
    throw new DataError(`data fetch: ${plain(url)} is no URL; it takes one such as https://oqmd.org/optimade/v1`);
  }
  if (base.protocol !== 'https:' && base.protocol !== 'http:')
    throw new DataError(`data fetch: ${base.protocol}// is not http or https`);
  const at = base.pathname.replace(/\/+$/, '');
  base.pathname = /\/structures$/.test(at) ? at : `${at}${/\/v\d+(\.\d+)*$/.test(at) ? '' : '/v1'}/structures`;
  const fields = ['chemical_formula_reduced', energyField, gapField].filter((field) => field !== undefined);
  base.searchParams.set('response_fields', fields.join(','));
  base.searchParams.set('page_limit', String(pageSize));
  if (filter) base.searchParams.set('filter', filter);
  return base;
}

/** The body of an answer, no larger than it may be. */
async function bodyOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  if (response.body) {
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      size += part.length;
      if (size > largestPage)
        throw new DataError(`data fetch: a page of over ${largestPage >> 20} MiB; ask for fewer rows with --page-size`);
      parts.push(part);
    }
  }
  return Buffer.concat(parts).toString('utf8');
}

/** A `Retry-After` in milliseconds: seconds, or a date. */
function retryAfter(response: Response): number | undefined {
  const text = response.headers.get('retry-after');
  if (!text) return undefined;
  const ms = /^\d+$/.test(text.trim()) ? 1000 * Number(text) : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(longestWait, Math.max(0, ms)) : undefined;
}

/** What a server says is wrong, as OPTIMADE has it. */
function complaint(body: string): string {
  try {
    const [error] = (JSON.parse(body) as { errors?: { title?: unknown; detail?: unknown }[] }).errors ?? [];
    return error ? `: ${plain(error.detail ?? error.title)}` : '';
  } catch {
    return '';
  }
}

interface Page {
  rows: { id: string; formula: string | null; energy: number | null; gap: number | null }[];
  next: string | null;
  offered: number | null;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const numberOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isFinite(value) ? value : null;

/** A page as OPTIMADE defines it. @throws Passing where it is something else: half a page is a common fault of a proxy */
function readPage(body: string, { energyField, gapField }: FetchOptions): Page {
  let page: unknown;
  try {
    page = JSON.parse(body);
  } catch {
    throw new Passing('the answer is no JSON, or cut off');
  }
  if (!isObject(page) || !Array.isArray(page.data)) throw new Passing('the answer has no list `data`');
  const rows = page.data.map((entry: unknown) => {
    const attributes = isObject(entry) && isObject(entry.attributes) ? entry.attributes : {};
    const formula = attributes.chemical_formula_reduced;
    return {
      id: isObject(entry) && (typeof entry.id === 'string' || typeof entry.id === 'number') ? plain(entry.id) : '',
      formula: typeof formula === 'string' && formula !== '' && formula.length <= 1000 ? formula : null,
      energy: energyField ? numberOf(attributes[energyField]) : null,
      gap: gapField ? numberOf(attributes[gapField]) : null,
    };
  });
  const links = isObject(page.links) ? page.links : {};
  const next = isObject(links.next) ? links.next.href : links.next;
  const meta = isObject(page.meta) ? page.meta : {};
  return { rows, next: typeof next === 'string' && next !== '' ? next : null, offered: numberOf(meta.data_returned) };
}

const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });

/** What an interrupted fetch leaves beside its rows. */
interface State {
  query: string;
  next: string;
  rows: number;
  without: number;
  pages: number;
  bytes: number;
  offered: number | null;
}

function readState(path: string, query: string): State | undefined {
  try {
    const state = JSON.parse(fs.readFileSync(path, 'utf8')) as State;
    const counts = [state.rows, state.without, state.pages, state.bytes];
    if (state.query !== query || typeof state.next !== 'string') return undefined;
    if (!counts.every((count) => Number.isSafeInteger(count) && count >= 0)) return undefined;
    // Its next page is as much a stranger's word as a page's own.
    return new URL(state.next).host === new URL(query).host ? state : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Fetches all rows that fit a filter into a file. Goes on where an earlier attempt at the same query was cut off.
 * @throws DataError where the server refuses, answers nonsense however often it is asked, or leads elsewhere; what has come stays
 *   in OUT.part for the next attempt
 */
export async function fetchOptimade(options: FetchOptions): Promise<Fetched> {
  const { out, limit = Number.POSITIVE_INFINITY, apiKey, signal, onProgress, onRetry } = options;
  const { interval = 200, attempts = 6, timeout = 60_000, firstWait = 1000 } = options;
  const first = firstUrl(options);
  const query = first.href;
  const part = `${out}.part`;
  const statePath = `${part}.state`;
  const saved = fs.existsSync(part) ? readState(statePath, query) : undefined;
  const whole = saved !== undefined && fs.statSync(part).size >= saved.bytes;
  const state: State = whole ? saved : { query, next: query, rows: 0, without: 0, pages: 0, bytes: 0, offered: null };
  const resumed = state.rows;
  let retries = 0;
  let lastStart = Number.NEGATIVE_INFINITY;

  const get = async (url: string): Promise<Page> => {
    for (let attempt = 1; ; attempt++) {
      await pause(Math.max(0, lastStart + interval - performance.now()), signal);
      lastStart = performance.now();
      try {
        const limits = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal ? [signal] : [])]);
        const response = await fetch(url, {
          headers: { accept: 'application/json', ...(apiKey ? { 'x-api-key': apiKey } : {}) },
          // A redirect to another host would take the key along.
          redirect: 'manual',
          signal: limits,
        });
        if (response.status >= 300 && response.status < 400) {
          throw new DataError(
            `data fetch: ${first.host} sends us on to ${plain(response.headers.get('location'))}; give that address if you trust it`,
          );
        }
        const body = await bodyOf(response);
        if (response.status === 429 || response.status >= 500)
          throw new Passing(`HTTP ${response.status}${complaint(body)}`, retryAfter(response));
        if (!response.ok) {
          const said = complaint(body);
          const barred = response.status === 401 || response.status === 403;
          // 403 is also the specification's answer to more rows a page than a server gives.
          const remedy = /page_limit/i.test(said)
            ? '; ask for fewer rows with --page-size'
            : barred
              ? '; it may want a key (--api-key-env)'
              : '';
          throw new DataError(`data fetch: ${first.host} refuses: HTTP ${response.status}${said}${remedy}`);
        }
        return readPage(body, options);
      } catch (error) {
        if (error instanceof DataError) throw error;
        if (signal?.aborted) throw signal.reason;
        const why =
          error instanceof Passing
            ? error.message
            : (error as Error).name === 'TimeoutError'
              ? `no answer within ${timeout / 1000} s`
              : plain(((error as Error).cause as Error | undefined)?.message || (error as Error).message);
        if (attempt >= attempts) {
          throw new DataError(
            `data fetch: ${first.host}: ${why}, ${attempts} times; ${state.rows} rows are in ${part}: the same command goes on from there`,
            { cause: error },
          );
        }
        retries++;
        onRetry?.(why);
        const wait = (error instanceof Passing ? error.wait : undefined) ?? firstWait * 2 ** (attempt - 1);
        await pause(Math.min(longestWait, wait), signal);
      }
    }
  };

  const file = fs.openSync(part, whole ? 'r+' : 'w');
  try {
    fs.ftruncateSync(file, state.bytes);
    const seen = new Set<string>();
    let empty = 0;
    while (state.next !== '' && state.rows < limit) {
      if (seen.has(state.next))
        throw new DataError(`data fetch: ${first.host} leads in circles, back to ${plain(state.next)}`);
      seen.add(state.next);
      const page = await get(state.next);
      empty = page.rows.length === 0 ? empty + 1 : 0;
      if (empty > mostEmptyPages) throw new DataError(`data fetch: ${first.host} gives page after page without a row`);
      const lines: string[] = [];
      for (const { id, formula, energy, gap } of page.rows) {
        if (state.rows >= limit) break;
        if (formula === null) {
          state.without++;
          continue;
        }
        state.rows++;
        lines.push(
          `${JSON.stringify({
            id,
            formula,
            ...(options.energyField ? { formation_energy_ev_per_atom: energy } : {}),
            ...(options.gapField ? { band_gap_ev: gap } : {}),
          })}\n`,
        );
      }
      const bytes = Buffer.from(lines.join(''));
      for (let at = 0; at < bytes.length; ) at += fs.writeSync(file, bytes, at, bytes.length - at, state.bytes + at);
      state.bytes += bytes.length;
      state.pages++;
      state.offered = page.offered ?? state.offered;
      state.next = page.next === null ? '' : nextUrl(page.next, state.next, first);
      // The rows first: a state that knows of more than is there is not believed.
      if (state.next !== '') {
        fs.writeFileSync(`${statePath}.new`, JSON.stringify(state));
        fs.renameSync(`${statePath}.new`, statePath);
      }
      onProgress?.(state.rows, state.offered);
    }
  } finally {
    fs.closeSync(file);
  }
  const digest = createHash('sha256').update(fs.readFileSync(part)).digest('hex');
  fs.renameSync(part, out);
  fs.rmSync(statePath, { force: true });
  const { rows, without, pages, offered } = state;
  return { rows, resumed, without, pages, retries, offered, url: query, sha256: digest };
}

/** The next page's address, which must be on the same host. A proxy may have lost its s: https stays https. */
function nextUrl(next: string, from: string, first: URL): string {
  let url: URL;
  try {
    url = new URL(next, from);
  } catch {
    throw new DataError(`data fetch: ${first.host} names a next page that is no URL: ${plain(next)}`);
  }
  if (url.hostname !== first.hostname || !/^https?:$/.test(url.protocol))
    throw new DataError(`data fetch: ${first.host} leads to another host, ${plain(url.host)}; not followed`);
  if (first.protocol === 'https:') url.protocol = 'https:';
  if (url.port !== first.port)
    throw new DataError(`data fetch: ${first.host} leads to another port, ${plain(url.host)}; not followed`);
  return url.href;
}
