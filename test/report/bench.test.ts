import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/paths.ts';
import { chooseCases } from '../../src/report/bench.ts';
import { describeGpu } from '../gpu.ts';

const run = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [join(packageRoot, 'bin/matgan.mjs'), 'bench', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });

describe('bench', () => {
  it('chooses by name', () => {
    const names = chooseCases({ filter: 'conv2dWeightGrad icsd' }).map(({ name }) => name);
    expect(names).toHaveLength(4);
    expect(names[3]).toBe('conv2dWeightGrad icsd 11x8x64>128 k5 s2x2');
    const all = chooseCases({}).map(({ name }) => name);
    expect(new Set(all).size).toBe(all.length);
    expect(chooseCases({ quick: true }).length).toBeLessThan(all.length);
  });

  it('a filter that fits nothing is the user’s mistake', () => {
    const { status, stdout, stderr } = run(['--filter', 'conv3d']);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/ConfigError: bench: no case has "conv3d" in its name; they begin with conv2d, /);
  });

  it('without an adapter it fails and measures nothing', () => {
    const { status, stdout, stderr } = run(['--filter', 'leakyRelu', '--json'], { MATGAN_ADAPTER: 'none' });
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/DeviceError/);
  });
});

describeGpu('bench on a GPU', () => {
  it('prints the figures that it promises, as JSON alone', () => {
    const { status, stdout } = run(['--quick', '--json', '--filter', 'dense icsd 32x3072x1']);
    expect(status).toBe(0);
    const rows = JSON.parse(stdout);
    expect(rows).toHaveLength(3);
    for (const row of rows) {
      expect(row.medianMs).toBeGreaterThan(0);
      expect(row.spreadMs).toBeGreaterThanOrEqual(0);
      expect(row.flops).toBeGreaterThanOrEqual(2 * 32 * 3072);
      expect(row.gflops).toBeCloseTo(row.flops / row.medianMs / 1e6, 6);
      expect(row.gbps).toBeCloseTo(row.bytes / row.medianMs / 1e6, 6);
      expect(row.fmaShare).toBeGreaterThan(0);
      expect(row.fmaShare).toBeLessThan(1);
      expect(row.copyShare).toBeGreaterThan(0);
      expect(row.error).toBeLessThan(1e-5);
    }
  });
});
