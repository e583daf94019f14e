import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { ops } from '../../src/autograd/ops/index.ts';
import type { Kernel } from '../../src/kernels/kernel.ts';
import { kernels } from '../../src/kernels/table.ts';
import { packageRoot } from '../../src/paths.ts';
import {
  allCases,
  type BenchCase,
  chooseCases,
  dispatched,
  type KernelCase,
  leastWork,
  matches,
  ownCases,
  stepOfCase,
} from '../../src/report/bench/cases.ts';
import { compareResults } from '../../src/report/bench/compare.ts';
import { openBenchDevice, prepare } from '../../src/report/bench/measure.ts';
import { benchPage } from '../../src/report/bench/page.ts';
import { type BenchReport, type BenchRow, readResults } from '../../src/report/bench/results.ts';
import { type Trace, traceOf } from '../../src/report/bench/trace.ts';
import { matganHere } from '../cli/here.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder } from '../models/tiny.ts';

const run = (args: string[]) =>
  spawnSync(process.execPath, [join(packageRoot, 'bin/matgan.mjs'), 'bench', ...args], {
    encoding: 'utf8',
    cwd: packageRoot,
  });
/** The same without a process of its own; no adapter is to be had. */
async function here(args: string[]): ReturnType<typeof matganHere> {
  vi.stubEnv('MATGAN_ADAPTER', 'none');
  try {
    return await matganHere('bench', ...args);
  } finally {
    vi.unstubAllEnvs();
  }
}
const own = (stderr: string): string[] => stderr.split('\n').filter((line) => line && !line.startsWith('Warning'));

const all = allCases();
const find = (name: string): BenchCase => all.find((c) => c.name === name)!;

describe('cases', () => {
  it('have names of their own, and every kernel of the table is in one', () => {
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
    // By the last file and the entry point: epilogues put other files in front.
    const key = ({ files, entry }: Kernel): string => `${files.at(-1)}:${entry}`;
    const used = new Set(
      [true, false].flatMap((software) =>
        all.flatMap((c) =>
          dispatched(stepOfCase(c), true, { software }).flatMap(({ lowered }) =>
            lowered.calls.map(({ kernel }) => key(kernel)),
          ),
        ),
      ),
    );
    const missing = Object.entries<Kernel>(kernels).filter(([, kernel]) => !used.has(key(kernel)));
    // What the plan puts in by itself, between ops.
    expect(missing.map(([name]) => name)).toEqual(['copy', 'finite']);
  });

  it('are the presets’ own shapes', () => {
    const first = 'conv2d [32,85,8,1] [3,3,1,16] strides 2x1 padding 1x1x1x1';
    expect(find(first)).toMatchObject({
      of: ['icsd'],
      op: 'conv2d',
      attrs: { strides: [2, 1], padding: [1, 1, 1, 1] },
    });
    expect(find('conv2d [512,85,8,1] [3,3,1,32] strides 1x1 padding 1x1x1x1').of).toEqual(['oqmd']);
    expect(find('adam [3,631104] [631104] [2]').of).toContain('icsd');
    // One case for the same shape in several nets.
    expect(all.some(({ of }) => of.includes('icsd') && of.includes('ae'))).toBe(true);
  });

  it('count operations and least bytes', () => {
    const { flops, leastBytes } = leastWork(stepOfCase(find('dense [64,64] [64,64]')));
    expect(flops).toBe(2 * 64 ** 3);
    expect(leastBytes).toBe(4 * 3 * 64 ** 2);
    const unfold = leastWork(stepOfCase(find('unfold [2048,4] [32]')));
    expect(unfold.leastBytes).toBe(4 * (32 * 4 + 32 + 32 * 680));
  });

  it('are chosen by words, or by a whole name', () => {
    const names = (filter: string, quick = false): string[] =>
      chooseCases(all, { filter, quick }).map(({ name }) => name);
    expect(names('step gan icsd batch 32')).toEqual(['step gan icsd batch 32']);
    expect(names('clipping critic norm').length).toBe(3);
    expect(names('conv2dWeightGrad oqmd').length).toBeGreaterThan(6);
    expect(names('', true).length).toBeLessThan(names('').length / 10);
    expect(names('relu', true).length).toBeGreaterThan(0);
    expect(matches('sum icsd', { name: 'sum [3]', of: ['oqmd'] })).toBe(false);
    expect(() => names('dense sweep', true)).toThrow(/none of the \d+ cases .* is a quick one/);
  });
});

const row = (name: string, medianMs: number, spreadMs = 0.1, more: Partial<BenchRow> = {}) => ({
  name,
  medianMs,
  spreadMs,
  quartilesMs: [medianMs - spreadMs / 2, medianMs + spreadMs / 2] as [number, number],
  flops: 2e6,
  bytes: 1e3,
  ...more,
});
const ceilings = { fmaGflops: 100, copyGbps: 10 };

describe('comparison', () => {
  it('finds a regression, tolerates noise, names what is missing and new', () => {
    const base = { adapter: 'a', ceilings, rows: [row('x', 1), row('y', 1), row('z', 1), row('gone', 1), row('f', 1)] };
    const later = {
      adapter: 'a',
      ceilings,
      rows: [row('x', 1.3), row('y', 1.3, 0.6), row('z', 1.08, 0.01), row('new', 1), row('f', 0.5)],
    };
    const { warning, rows, regressions, missing, added } = compareResults(base, later, 0.1);
    expect(warning).toBeUndefined();
    expect(rows.map(({ name, verdict }) => `${name} ${verdict}`)).toEqual(['x slower', 'y same', 'z same', 'f faster']);
    expect(rows[0].ratio).toBeCloseTo(1.3);
    expect(rows[0].interval[0]).toBeCloseTo(1.25 / 1.05);
    expect(regressions).toEqual(['x']);
    expect(missing).toEqual(['gone']);
    expect(added).toEqual(['new']);
    expect(compareResults(base, later, 0.05).regressions).toEqual(['x', 'z']);
  });

  it('of two adapters warns, and shows ratios at equal ceilings', () => {
    const later = {
      adapter: 'b',
      ceilings: { fmaGflops: 200, copyGbps: 10 },
      rows: [row('x', 0.5), row('m', 1, 0.1, { flops: 1 })],
    };
    const { warning, rows } = compareResults(
      { adapter: 'a', ceilings, rows: [row('x', 1), row('m', 1, 0.1, { flops: 1 })] },
      later,
      0.1,
    );
    expect(warning).toMatch(/different adapters: a, then b/);
    // Twice the FMA ceiling, half the time: nothing gained. What is bound by memory has the same ceiling as before.
    expect(rows.map(({ normalised }) => normalised)).toEqual([1, 1]);
  });

  it('tells variants apart, and takes older files without quartiles', () => {
    const base = { rows: [row('x', 1, 0.1, { variant: 'a' }), row('x', 2, 0.1, { variant: 'b' })] };
    const plain = { name: 'x', variant: 'b', medianMs: 3, spreadMs: 0.1 };
    const { rows, missing } = compareResults(base, { rows: [plain] }, 0.1);
    expect(rows).toMatchObject([{ variant: 'b', baseMs: 2, newMs: 3, normalised: null, verdict: 'slower' }]);
    expect(missing).toEqual(['x (a)']);
  });
});

describe('files', () => {
  const folder = temporaryFolder();
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  it('of before are read', () => {
    const old = readResults(join(packageRoot, 'bench/results/lavapipe-2026-11-23.json'));
    expect(old.rows.length).toBeGreaterThan(50);
    expect(readResults(file('rows.json', JSON.stringify([row('x', 1)]))).rows).toHaveLength(1);
  });

  it.each([
    ['no file', join(folder, 'gone.json'), /gone\.json: no such file or folder; it takes a file/],
    ['a folder', folder, /it is no plain file/],
    ['broken JSON', file('broken.json', '{"rows": ['), /broken\.json: it is no JSON/],
    ['another file', file('other.json', '{"a": 1}'), /these are no results \(rows: /],
    ['rows of something else', file('rows2.json', '[{"op": "relu"}]'), /these are no results \(rows\.0\.name: /],
    ['a time of nothing', file('zero.json', '[{"name": "x", "medianMs": 0, "spreadMs": 0}]'), /rows\.0\.medianMs/],
  ])('%s is refused before anything is measured', async (_, path, message) => {
    const { status, stdout, stderr } = await here(['--compare', path, '--filter', 'relu']);
    expect([status, stdout]).toEqual([2, '']);
    const lines = own(stderr);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(message);
  });

  it('two are compared without an adapter; a regression is exit code 1', async () => {
    const before = file('before.json', JSON.stringify({ adapter: 'a', rows: [row('x', 1), row('gone', 1)] }));
    const after = file('after.json', JSON.stringify({ adapter: 'b', rows: [row('x', 2)] }));
    const slower = await here(['--compare', before, after]);
    expect(slower.status).toBe(1);
    expect(slower.stdout).toMatch(/^WARNING: different adapters/);
    expect(slower.stdout).toContain('missing, of the earlier results: gone');
    expect(slower.stderr).toMatch(/1 of 1 rows are SLOWER beyond noise and 10 %: x/);
    expect((await here(['--compare', before, after, '--tolerance', '150%'])).status).toBe(0);
    expect((await here(['--compare', after, before])).status).toBe(0);
  });
});

const report = (rows: BenchRow[]): BenchReport => ({
  format: 'matgan-bench',
  version: 1,
  adapter: 'an <adapter> & more',
  software: true,
  device: { vendor: '', architecture: '', device: '', description: '', software: true },
  node: '20',
  webgpu: '0.6',
  date: '2026-01-02T03:04:05Z',
  commit: null,
  command: 'matgan bench',
  ceilings: { ...ceilings, dispatchMicroseconds: 6, submitMilliseconds: 0.1 },
  rows,
  leftOut: [{ name: 'step ae ae batch 1024', reason: 'too long' }],
});
const fullRow = (name: string, flops: number): BenchRow => ({
  ...row(name, 1),
  of: ['icsd'],
  minMs: 0.9,
  samples: 5,
  deviceMs: null,
  gflops: flops / 1e6,
  gbps: 1,
  fmaShare: flops / 1e8,
  copyShare: 0.1,
  dispatches: 1,
  submits: 1,
  flops,
  bytes: 1e6,
  leastBytes: 1e6,
  memory: 1e6,
  check: 'reference',
  error: 1e-7,
});

describe('the page', () => {
  const rows = [fullRow('a "quoted" <row>', 2e6), fullRow('nothing computed', 0), fullRow('step x', 5e7)];
  const text = benchPage(report(rows), compareResults({ rows: [row('step x', 1)] }, { rows }, 0.1));

  it('loads nothing, and runs its own script alone', () => {
    expect(text).not.toMatch(/https?:|<link (?!rel="icon" href="data:,")|src=/);
    expect(text).toMatch(/default-src &#39;none&#39;.*script-src &#39;sha256-/);
    const [, script] = /<script>(.*)<\/script>/s.exec(text)!;
    expect(() => new Function(script)).not.toThrow();
  });

  it('is well formed, whatever names stand in it', () => {
    const open: string[] = [];
    for (const [, end, name, attributes] of text
      .replace(/<script>.*<\/script>/s, '')
      .matchAll(/<(\/?)([a-z][a-z0-9]*)((?:\s[^<>]*)?)>/gi)) {
      if (['meta', 'link', 'br'].includes(name) || attributes.endsWith('/')) continue;
      if (end) expect(open.pop()).toBe(name);
      else open.push(name);
    }
    expect(open).toEqual([]);
    expect(text).toContain('a &quot;quoted&quot; &lt;row&gt;');
    expect(text).not.toContain('<row>');
  });

  it('has a dot for each row that computes, inside the picture', () => {
    const dots = [...text.matchAll(/<circle cx="([\d.-]+)" cy="([\d.-]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(dots).toHaveLength(2);
    for (const [x, y] of dots) {
      expect(x).toBeGreaterThan(64);
      expect(x).toBeLessThan(1020);
      expect(y).toBeGreaterThan(16);
      expect(y).toBeLessThan(416);
    }
    // More operations a byte further right, more operations a second further up.
    expect(dots[1][0]).toBeGreaterThan(dots[0][0]);
    expect(dots[1][1]).toBeLessThan(dots[0][1]);
  });
});

/** What the trace event format asks of a trace, as far as viewers need it. */
function checkTrace({ traceEvents }: Trace): void {
  let last = 0;
  for (const { ph, name, ts, dur, pid, tid, args } of traceEvents) {
    expect(name).not.toBe('');
    expect([pid, tid]).toEqual([1, 1]);
    if (ph === 'M') {
      expect(['process_name', 'thread_name']).toContain(name);
      expect(typeof args.name).toBe('string');
      continue;
    }
    expect(ts).toBeGreaterThanOrEqual(last);
    expect(dur).toBeGreaterThanOrEqual(0);
    last = ts!;
  }
}

it('a trace puts slices in order and keeps durations from below zero', () => {
  const time = { kernel: 'unary:main', workgroups: [1, 1, 1] as const, flops: 10, bytes: 0 };
  const trace = traceOf({
    adapter: 'a',
    name: 'n',
    times: [
      { ...time, label: 'second', start: 0, milliseconds: 1, scope: 'critic', shape: [2, 3] },
      { ...time, label: 'first', start: -1, milliseconds: -0.5 },
    ],
  });
  checkTrace(trace);
  expect(trace.traceEvents.map(({ name }) => name)).toEqual(['process_name', 'thread_name', 'first', 'second']);
  expect(trace.traceEvents[3]).toMatchObject({
    ts: 1000,
    dur: 1000,
    args: { scope: 'critic', shape: '[2,3]', workgroups: '1×1×1', flops: 10, 'GFLOP/s': 1e-5 },
  });
});

describe('what a user can do wrong', () => {
  it.each([
    [
      'a filter that fits nothing',
      ['--filter', 'conv3d'],
      /ConfigError: bench: no case has "conv3d" in its name \(did you mean conv2d\?\)/,
    ],
    ['three files', ['--compare', 'a', 'b', 'c'], /--compare takes one file or two, not 3/],
    ['a tolerance', ['--tolerance', 'much'], /It takes a share of the time/],
    ['two cases to profile', ['--profile', 'x.json', '--filter', 'relu icsd'], /--profile takes one case/],
    ['no module', ['--module', 'gone.ts'], /bench: gone\.ts: there is no such module/],
  ])('%s', async (_, args, message) => {
    const { status, stdout, stderr } = await here(args);
    expect([status, stdout]).toEqual([2, '']);
    expect(own(stderr)).toHaveLength(1);
    expect(stderr).toMatch(message);
  });

  it.each([
    ['sizes of an op that is not there', '{ other: [] }', /bench: there is no op other; ops has denseSwish/],
    ['sizes that are no list', '{ denseSwish: 3 }', /bench\.denseSwish: it takes a list of samples/],
    ['a sample that is none', '{ denseSwish: [{}] }', /bench\.denseSwish\[0\] is \{\}; it takes/],
  ])('%s in a module', async (_, sizes, message) => {
    const folder = temporaryFolder();
    const ops = pathToFileURL(join(packageRoot, 'docs/own-op/dense-swish.ts')).href;
    writeFileSync(join(folder, 'm.mjs'), `export { ops } from '${ops}';\nexport const bench = ${sizes};\n`);
    const { status, stderr } = await here(['--module', join(folder, 'm.mjs'), '--list']);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('without an adapter it fails and measures nothing', async () => {
    const { status, stdout, stderr } = await here(['--filter', 'leakyRelu', '--json']);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/DeviceError/);
  });

  it('--list needs none', async () => {
    const { status, stdout } = await here(['--list', '--json', '--filter', 'step']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toContain('step ae ae batch 1024');
  });
});

describeGpu('bench on a GPU', () => {
  it('prints the figures that it promises, as JSON alone, and writes its files', () => {
    const folder = temporaryFolder();
    const [out, page] = [join(folder, 'r.json'), join(folder, 'r.html')];
    const { status, stdout, stderr } = run([
      '--json',
      '--filter',
      'dense [64,64] [64,64]',
      '--out',
      out,
      '--html',
      page,
    ]);
    expect(status, stderr).toBe(0);
    const rows: BenchRow[] = JSON.parse(stdout);
    expect(rows).toHaveLength(1);
    const [row] = rows;
    expect(row.medianMs).toBeGreaterThan(0);
    expect(row.minMs).toBeLessThanOrEqual(row.medianMs);
    expect(row.spreadMs).toBeCloseTo(row.quartilesMs[1] - row.quartilesMs[0], 9);
    expect(row.samples).toBeGreaterThanOrEqual(5);
    expect(row.flops).toBeGreaterThanOrEqual(2 * 64 ** 3);
    expect(row.gflops).toBeCloseTo(row.flops / row.medianMs / 1e6, 6);
    expect(row.gbps).toBeCloseTo(row.bytes / row.medianMs / 1e6, 6);
    expect(row.fmaShare).toBeGreaterThan(0);
    expect(row.fmaShare).toBeLessThan(1);
    expect(row.copyShare).toBeGreaterThan(0);
    expect(row).toMatchObject({ submits: 1, check: 'reference', leastBytes: 4 * 3 * 64 ** 2 });
    expect(row.memory).toBeGreaterThanOrEqual(row.leastBytes);
    expect(row.error).toBeLessThan(1e-5);
    const report = JSON.parse(readFileSync(out, 'utf8'));
    expect(report).toMatchObject({ format: 'matgan-bench', version: 1, node: process.versions.node, rows });
    expect(report.command).toContain("--filter 'dense [64,64] [64,64]'");
    expect(Date.parse(report.date)).toBeGreaterThan(0);
    expect(readResults(out).rows).toHaveLength(1);
    expect(readFileSync(page, 'utf8')).toContain('<circle');
  });

  it('a comparison exits with 1 where a time was ten times better before', () => {
    const folder = temporaryFolder();
    const name = 'relu [1000]';
    const before = join(folder, 'before.json');
    writeFileSync(
      before,
      JSON.stringify([
        { name, medianMs: 1e-6, spreadMs: 1e-8 },
        { name: 'sum gone', medianMs: 1, spreadMs: 0 },
      ]),
    );
    const { status, stdout, stderr } = run(['--filter', name, '--quick', '--compare', before]);
    expect(status, stderr).toBe(1);
    expect(stdout).toMatch(/different adapters: an unnamed adapter, then/);
    // It was not asked for, so it is not missing.
    expect(stdout).not.toContain('sum gone');
  });

  it('a profile is a trace with a slice for each dispatch', () => {
    const file = join(temporaryFolder(), 't.json');
    const { status, stdout, stderr } = run(['--profile', file, '--json', '--filter', 'moments [1000,100]']);
    if (stderr.includes('no timestamp queries')) return expect(status).toBe(1);
    expect(status, stderr).toBe(0);
    const trace: Trace = JSON.parse(readFileSync(file, 'utf8'));
    checkTrace(trace);
    const slices = trace.traceEvents.filter(({ ph }) => ph === 'X');
    expect(slices.length).toBe(trace.otherData.dispatches);
    expect(slices.length).toBe(
      JSON.parse(stdout).reduce((n: number, op: { dispatches: number }) => n + op.dispatches, 0),
    );
    expect(slices.length).toBeGreaterThan(2);
    for (const { name, args } of slices) {
      expect(name).toBe('moments');
      expect(args).toMatchObject({ shape: '[2,100]', workgroups: expect.stringMatching(/^\d+×\d+×\d+$/) });
    }
    return undefined;
  });

  it('times a user’s ops at their samples and at the sizes of the module', () => {
    const { status, stdout, stderr } = run(['--module', 'docs/own-op/bench.ts', '--json']);
    expect(status, stderr).toBe(0);
    const rows: BenchRow[] = JSON.parse(stdout);
    expect(rows.map(({ name }) => name)).toEqual([
      'denseSwish [4,4] [4,4] beta 1.5',
      'denseSwish [5,7] [7,13] beta 0.5',
      ...[64, 128, 256].map((n) => `denseSwish [${n},${n}] [${n},${n}] beta 1`),
    ]);
    for (const { of, check, gbps } of rows) {
      expect([of, check]).toEqual([['own'], 'reference']);
      expect(gbps).toBeGreaterThan(0);
    }
  });

  describe('checks before it times', () => {
    let executor: GpuExecutor;
    beforeAll(async () => {
      executor = new GpuExecutor(await openBenchDevice());
    });
    afterAll(() => executor.destroy());
    const check = async (c: BenchCase): Promise<{ check: string; error: number | null }> => {
      const { check, error, destroy } = await prepare(executor, c);
      destroy();
      return { check, error };
    };

    it.each([
      'conv2d [64,22,8,64] [3,3,64,64] strides 1x1 padding 1x1x1x1',
      'conv2dInputGrad [64,22,8,64] [3,3,64,64] strides 1x1 padding 1x1x1x1 size 22x8',
      'conv2dWeightGrad [64,22,8,64] [64,22,8,64] strides 1x1 padding 1x1x1x1 kernel 3x3',
      'dense [512,512] [512,512]',
      'dense [512,512] [512,512] transposeX',
    ])('%s, by rows that repeat', async (name) => {
      const result = await check(find(name));
      expect(result.check).toBe('repeated rows');
      expect(result.error).toBeGreaterThan(0);
      expect(result.error).toBeLessThan(1e-5);
      const before = executor.device.bytesAlive;
      const row = ops[(find(name) as KernelCase).op as 'dense'] as { reference: (typeof ops.dense)['reference'] };
      const { reference } = row;
      row.reference = (inputs, attrs, out) => {
        reference(inputs, attrs, out);
        out.data[out.data.length - 1] *= -1;
      };
      try {
        await expect(check(find(name))).rejects.toThrow(/the GPU is off the reference by .* is allowed/);
      } finally {
        row.reference = reference;
      }
      // Nothing is left behind on the device.
      expect(executor.device.bytesAlive).toBe(before);
    });

    it('a wrong kernel of a user’s ends the run, and is the user’s', async () => {
      const { ops: table } = await import('../../docs/own-op/dense-swish.ts');
      const wrong = { denseSwish: { ...table.denseSwish, reference: () => {} } };
      await expect(check(ownCases(wrong, {})[0])).rejects.toMatchObject({ name: 'GradientError', userMistake: true });
      const throws = { denseSwish: { ...table.denseSwish, roundings: () => JSON.parse('{') } };
      await expect(check(ownCases(throws, {})[0])).rejects.toThrow(/denseSwish .*: its row throws /);
    });

    it('generating, against the reference and by decoding', async () => {
      const result = await check(find('generate icsd batch 32'));
      expect(result.check).toBe('first samples');
      expect(result.error).toBeGreaterThan(0);
      expect(result.error).toBeLessThan(1e-4);
    });

    it('every quick kernel', { timeout: 240_000 }, async () => {
      for (const c of chooseCases(all, { quick: true })) if (c.kind === 'kernel') await check(c);
    });
  });
});
