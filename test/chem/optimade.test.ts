// Fetching over OPTIMADE, from a server on loopback that has every fault a server has.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type FetchOptions, fetchOptimade } from '../../src/chem/optimade.ts';
import { DataError } from '../../src/errors.ts';

const total = 23;
const formulas = Array.from({ length: total }, (_, i) => `Na${i + 1}Cl`);

let server: Server;
let base: string;
let folder: string;
let out: string;
/** What the server does before it answers properly: a fault consumes a request by answering it. */
let faults: ((request: IncomingMessage, response: ServerResponse) => void)[];
let asked: URL[];
let keys: (string | undefined)[];
let linkTo: (offset: number) => unknown;
let change: (page: Record<string, unknown>) => unknown;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'matgan-optimade-'));
  out = join(folder, 'rows.jsonl');
  faults = [];
  asked = [];
  keys = [];
  change = (page) => page;
  server = createServer((request, response) => {
    const url = new URL(request.url!, base);
    asked.push(url);
    keys.push(request.headers['x-api-key'] as string | undefined);
    const fault = faults.shift();
    if (fault) {
      fault(request, response);
      return;
    }
    const offset = Number(url.searchParams.get('page_offset') ?? 0);
    const size = Math.min(10, Number(url.searchParams.get('page_limit')));
    const data = formulas.slice(offset, offset + size).map((formula, i) => ({
      id: `row/${offset + i}`,
      type: 'structures',
      attributes: { chemical_formula_reduced: formula, _x_energy: -(offset + i) / 10, _x_gap: i === 0 ? null : 1.5 },
    }));
    const next = offset + size < total ? linkTo(offset + size) : null;
    const page = { data, links: { next }, meta: { data_returned: total, more_data_available: next !== null } };
    response.setHeader('content-type', 'application/vnd.api+json').end(JSON.stringify(change(page)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  linkTo = (offset) => `${base}/v1/structures?page_limit=10&page_offset=${offset}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

const go = (more: Partial<FetchOptions> = {}) =>
  fetchOptimade({ url: base, out, interval: 0, firstWait: 1, timeout: 300, attempts: 3, ...more });
const rows = () =>
  readFileSync(out, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const status =
  (code: number, body = '', headers: Record<string, string> = {}) =>
  (_: IncomingMessage, response: ServerResponse) => {
    response.writeHead(code, headers).end(body);
  };
const cutOff = (_: IncomingMessage, response: ServerResponse): void => {
  response.writeHead(200, { 'content-length': '1000' }).write('{"data":[');
  setTimeout(() => response.destroy(), 5);
};

describe('fetching', () => {
  it('takes all pages, in order, with the fields asked for', async () => {
    const fetched = await go({
      filter: 'elements HAS "Na" AND nelements=2',
      energyField: '_x_energy',
      gapField: '_x_gap',
    });
    expect(fetched).toMatchObject({ rows: total, resumed: 0, without: 0, pages: 3, retries: 0, offered: total });
    expect(rows().map(({ formula }) => formula)).toEqual(formulas);
    expect(rows()[11]).toEqual({
      id: 'row/11',
      formula: 'Na12Cl',
      formation_energy_ev_per_atom: -1.1,
      band_gap_ev: 1.5,
    });
    expect(rows()[10].band_gap_ev).toBeNull();
    const [first] = asked;
    expect(first.pathname).toBe('/v1/structures');
    expect(first.searchParams.get('filter')).toBe('elements HAS "Na" AND nelements=2');
    expect(first.searchParams.get('response_fields')).toBe('chemical_formula_reduced,_x_energy,_x_gap');
    expect(existsSync(`${out}.part`)).toBe(false);
    expect(existsSync(`${out}.part.state`)).toBe(false);
  });

  it('stops at a limit, and sends a key only as a header', async () => {
    const fetched = await go({ limit: 12, apiKey: 'secret' });
    expect(fetched).toMatchObject({ rows: 12, pages: 2 });
    expect(rows()).toHaveLength(12);
    expect(keys).toEqual(['secret', 'secret']);
    expect(asked.every((url) => !url.href.includes('secret'))).toBe(true);
  });

  it('follows a next page given as an object, and relative', async () => {
    linkTo = (offset) => ({ href: `/v1/structures?page_limit=10&page_offset=${offset}`, meta: {} });
    expect(await go()).toMatchObject({ rows: total });
  });

  it.each([
    ['a base with its version', '/optimade/v1/', '/optimade/v1/structures'],
    ['a base without', '/optimade', '/optimade/v1/structures'],
    ['the whole address', '/x/v1.1/structures', '/x/v1.1/structures'],
  ])('%s', async (_, given, expected) => {
    await go({ url: `${base}${given}`, limit: 1 });
    expect(asked[0].pathname).toBe(expected);
  });
});

describe('faults that pass', () => {
  it.each([
    ['429 with a time to wait', status(429, '', { 'retry-after': '0' }), /HTTP 429/],
    ['500', status(500, '<html>'), /HTTP 500/],
    ['503 that says why', status(503, '{"errors":[{"detail":"down for\\nmaintenance"}]}'), /503: down for maintenance/],
    ['a connection that is cut', cutOff, /./],
    ['no answer', () => {}, /no answer within 0\.3 s/],
    ['no JSON', status(200, 'OK'), /no JSON/],
    ['other JSON', status(200, '{"data":{}}'), /no list/],
    ['a closed socket', (request: IncomingMessage) => void request.socket.destroy(), /./],
  ])('%s: is asked again', async (_, fault, why) => {
    faults = [fault, fault];
    const reasons: string[] = [];
    const fetched = await go({ onRetry: (reason) => reasons.push(reason) });
    expect(fetched).toMatchObject({ rows: total, retries: 2 });
    expect(rows().map(({ formula }) => formula)).toEqual(formulas);
    for (const reason of reasons) expect(reason).toMatch(why);
  });

  it('waits as long as Retry-After says', async () => {
    faults = [status(429, '', { 'retry-after': '1' })];
    const start = performance.now();
    await go();
    expect(performance.now() - start).toBeGreaterThan(950);
  });

  it('waits longer each time, and keeps the interval', async () => {
    const times: number[] = [];
    const late = (_: IncomingMessage, response: ServerResponse): void => {
      times.push(performance.now());
      response.writeHead(500).end();
    };
    faults = [late, late, late];
    await expect(go({ firstWait: 40 })).rejects.toThrow(/HTTP 500, 3 times/);
    expect(times[1] - times[0]).toBeGreaterThan(35);
    expect(times[2] - times[1]).toBeGreaterThan(75);
  });
});

describe('faults that do not', () => {
  it.each([
    [
      '400',
      status(400, '{"errors":[{"detail":"filter: unexpected token"}]}'),
      /refuses: HTTP 400: filter: unexpected token/,
    ],
    ['401', status(401), /HTTP 401; it may want a key/],
    [
      'too many rows a page',
      status(403, '{"errors":[{"detail":"Max allowed page_limit is 100, you requested 500"}]}'),
      /HTTP 403: Max allowed page_limit is 100, you requested 500; ask for fewer rows with --page-size$/,
    ],
    ['404', status(404), /HTTP 404/],
    ['a redirect', status(302, '', { location: 'http://elsewhere.example/' }), /sends us on to http:\/\/elsewhere/],
  ])('%s', async (_, fault, message) => {
    faults = [fault];
    await expect(go()).rejects.toThrow(message);
    expect(asked).toHaveLength(1);
  });

  it.each([
    ['another host', () => 'http://localhost.example/v1/structures', /leads to another host, localhost\.example/],
    ['another port', () => 'http://127.0.0.1:9/v1/structures', /another port/],
    ['a file', () => 'file:///etc/passwd', /another host/],
    ['no URL', () => 'http://', /no URL/],
    ['itself', (_: number) => `${base}/v1/structures?page_limit=10&page_offset=0`, /in circles/],
  ])('a next page that is %s', async (_, link, message) => {
    linkTo = link;
    await expect(go()).rejects.toThrow(message);
  });

  it('pages without end and without rows', async () => {
    let page = 0;
    linkTo = () => `${base}/v1/structures?page_limit=10&page_offset=0&n=${page++}`;
    change = (answer) => ({ ...answer, data: [] });
    await expect(go()).rejects.toThrow(/page after page without a row/);
    expect(asked.length).toBeLessThan(10);
  });

  it('a page of no end is cut off', async () => {
    faults = [
      (_, response) => {
        const chunk = Buffer.alloc(1 << 20, 32);
        const more = (): void => {
          while (!response.destroyed && response.write(chunk));
          if (!response.destroyed) response.once('drain', more);
        };
        response.writeHead(200);
        more();
      },
    ];
    await expect(go({ timeout: 20_000 })).rejects.toThrow(/a page of over 64 MiB/);
  });

  it('rows without formulas, and of strange types, are counted', async () => {
    change = (answer) => ({
      ...answer,
      data: [
        null,
        3,
        { id: {}, attributes: { chemical_formula_reduced: 7 } },
        { id: 'a' },
        ...(answer.data as unknown[]),
      ],
    });
    expect(await go({ energyField: '_x_energy' })).toMatchObject({ rows: total, without: 12 });
  });

  it('a row without an id has an empty one', async () => {
    change = (answer) => ({
      ...answer,
      data: (answer.data as { attributes: object }[]).map(({ attributes }) => ({ attributes })),
    });
    await go();
    expect(rows()[0]).toEqual({ id: '', formula: formulas[0] });
  });

  it.each(['nonsense', 'ftp://x.example', ''])('%j for a database', async (url) => {
    await expect(go({ url })).rejects.toThrow(DataError);
  });
});

describe('going on', () => {
  const cut = async (): Promise<void> => {
    linkTo = (offset) => {
      if (offset === 20) faults = [status(500), status(500), status(500)];
      return `${base}/v1/structures?page_limit=10&page_offset=${offset}`;
    };
    await expect(go()).rejects.toThrow(/20 rows are in .*rows\.jsonl\.part: the same command goes on from there/);
    asked = [];
    linkTo = (offset) => `${base}/v1/structures?page_limit=10&page_offset=${offset}`;
  };

  it('after an interruption: only what is missing is asked for', async () => {
    await cut();
    expect(existsSync(out)).toBe(false);
    expect(await go()).toMatchObject({ rows: total, resumed: 20, pages: 3 });
    expect(asked).toHaveLength(1);
    expect(rows().map(({ formula }) => formula)).toEqual(formulas);
  });

  it('after a crash in the middle of a line', async () => {
    await cut();
    writeFileSync(`${out}.part`, '{"id":"row/20","for', { flag: 'a' });
    expect(await go()).toMatchObject({ rows: total, resumed: 20 });
    expect(rows().map(({ formula }) => formula)).toEqual(formulas);
  });

  it.each([
    ['another query', () => {}, { filter: 'nelements=2' }],
    ['a state that is nonsense', () => writeFileSync(`${out}.part.state`, '{"rows":-1}'), {}],
    ['rows that are gone', () => writeFileSync(`${out}.part`, ''), {}],
    [
      'a state that leads elsewhere',
      () => {
        const path = `${out}.part.state`;
        writeFileSync(
          path,
          readFileSync(path, 'utf8').replace(/"next":"[^"]*"/, '"next":"http://elsewhere.example/v1"'),
        );
      },
      {},
    ],
  ])('not from %s', async (_, spoil, more) => {
    await cut();
    spoil();
    expect(await go(more)).toMatchObject({ rows: total, resumed: 0 });
    expect(rows()).toHaveLength(total);
  });

  it('stops when told, and goes on', async () => {
    const stop = new AbortController();
    const reason = new Error('told to stop');
    await expect(
      go({ signal: stop.signal, onProgress: (count) => count === 10 && stop.abort(reason) }),
    ).rejects.toThrow('told to stop');
    expect(await go()).toMatchObject({ rows: total, resumed: 10 });
  });
});
