import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Cases, configOf, stepList } from '../../bench/peers/cases.ts';
import { reportPage, terminal } from '../../bench/peers/report.ts';
import { bestBatches, disagreement, join, ourTime, pairedRatio, parseRows, summary } from '../../bench/peers/rows.mjs';

const node = (...args: string[]) => spawnSync(process.execPath, args, { encoding: 'utf8' });
const conv = 'icsd 43x8x16>32 k3 s2x1';

describe('rows of the peers', () => {
  it('takes medians and quartiles', () => {
    expect(summary([4, 1, 2, 3, 100])).toEqual({ medianMs: 3, spreadMs: 2, samples: 5 });
    expect(summary([7])).toEqual({ medianMs: 7, spreadMs: 0, samples: 1 });
  });

  it('compares round by round, so that a slow machine cancels', () => {
    expect(pairedRatio([20, 400, 20], [10, 200, 10])).toBe(2);
  });

  it('finds results that differ, are missing or are no numbers', () => {
    const ours = { losses: [{ loss: -0.5 }, { loss: -0.6 }] };
    expect(disagreement(ours, { losses: [{ loss: -0.5001 }, { loss: -0.61 }] })).toBeUndefined();
    expect(disagreement(ours, { losses: [{ loss: -0.51 }, { loss: -0.6 }] })).toMatch(/step 1 off by 0.02/);
    expect(disagreement(ours, { losses: [{ loss: -0.5 }, { loss: -0.9 }] })).toMatch(/step 2/);
    expect(disagreement(ours, { losses: [{ loss: Number.NaN }, { loss: -0.6 }] })).toMatch(/no number/);
    const digests = { value: { norm: 10, dot: 1 }, x: { norm: 10, dot: 1 } };
    expect(disagreement(digests, digests)).toBeUndefined();
    // The same norm, other elements.
    expect(disagreement(digests, { ...digests, x: { norm: 10, dot: 2 } })).toMatch(/^computes something else: x off/);
    expect(disagreement(digests, { value: digests.value })).toMatch(/x off by no number/);
  });

  it('adds the three kernels of a convolution, of the right batch', () => {
    const kernels = ['conv2d', 'conv2dInputGrad', 'conv2dWeightGrad'];
    const ours = kernels.map((op, i) => ({ name: `${op} ${conv}`, medianMs: i + 1 }));
    expect(ourTime(`conv2dTranspose ${conv} batch 32`, ours)).toBe(6);
    expect(ourTime(`conv2dTranspose ${conv} batch 512`, ours)).toBeUndefined();
    expect(ourTime(`conv2d ${conv} batch 32`, ours.slice(1))).toBeUndefined();
    expect(ourTime('matmul 512', [{ name: 'dense sweep 512x512x512', medianMs: 3 }])).toBe(3);
  });

  it('joins two files and says where a row has no counterpart', () => {
    const peers = parseRows(
      '{"name":"about","why":"-"}\n{"name":"step a","framework":"P","mode":"eager","medianMs":6}\n' +
        '{"name":"step b","framework":"P","mode":"eager","why":"cannot"}\n',
      'peers',
    );
    const rows = join([{ name: 'step a', medianMs: 2 }], peers);
    expect(rows.map(({ name, ratio, why }) => [name, ratio, why])).toEqual([
      ['step a', undefined, undefined],
      ['step a', 3, undefined],
      ['step b', undefined, 'no row of this name in our file'],
      ['step b', undefined, 'cannot'],
    ]);
    expect(terminal({ made: {}, rows })).toMatch(/3×/);
    expect(reportPage({ made: { who: '<b>' }, rows })).toMatch(/&lt;b&gt;/);
    expect(() => parseRows('{"rows":[{}]}', 'x.json')).toThrow(/x.json: it holds no rows/);
  });

  it('compares generating at the best batch of each', () => {
    const row = (framework: string, batch: number, medianMs: number) => ({
      framework,
      mode: '',
      name: `generate icsd batch ${batch}`,
      medianMs,
    });
    const best = bestBatches([row('matgan', 32, 32), row('matgan', 128, 64), row('P', 32, 64), row('P', 128, 512)]);
    expect(best.map(({ framework, batch, ratio }) => [framework, batch, ratio])).toEqual([
      ['matgan', 128, 1],
      ['P', 32, 4],
    ]);
  });
});

describe('cases.json', () => {
  const cases = JSON.parse(readFileSync('bench/peers/cases.json', 'utf8')) as Cases;
  it('has the presets as they are; make it anew with npx tsx bench/peers/cases.ts', () => {
    expect(cases.steps.map(({ name, config }) => ({ name, config }))).toEqual(
      stepList.map((chosen) => ({ name: chosen.name, config: configOf(chosen) })),
    );
  });
});

describe('the commands', () => {
  it.each([
    [['bench/peers/run.mjs', '--fast'], /--fast/],
    [['bench/peers/run.mjs', '--rounds', '0'], /--rounds 0: it takes a whole number/],
    [['bench/peers/run.mjs', '--without', 'torch,jax'], /--without jax: it takes/],
    [['bench/peers/run.mjs', '--filter', 'nothing'], /no case has "nothing"/],
    [['bench/peers/join.mjs', 'one.json'], /usage/],
    [['bench/peers/join.mjs', 'one.json', 'two.json'], /one.json/],
  ])('%s is a mistake of the user', (args, message) => {
    const { status, stderr } = node(...args);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });

  it('joins files into a page', () => {
    const folder = mkdtempSync(path(tmpdir(), 'peers-'));
    writeFileSync(path(folder, 'a.json'), JSON.stringify({ rows: [{ name: 'step a', medianMs: 2 }] }));
    writeFileSync(path(folder, 'b.jsonl'), '{"name":"step a","framework":"P","mode":"eager","medianMs":6}\n');
    const { status, stdout } = node(
      'bench/peers/join.mjs',
      path(folder, 'a.json'),
      path(folder, 'b.jsonl'),
      '--out',
      folder,
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/3×/);
    expect(readFileSync(path(folder, 'peers.html'), 'utf8')).toMatch(/Peers in one run/);
  });
});
