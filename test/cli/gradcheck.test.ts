import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { gradcheck } from '../../src/cli/gradcheck.ts';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';

// In this process a check fails; the runs below are processes of their own and see the real one.
vi.mock('../../src/autograd/gradcheck.ts', async (original) => ({
  ...(await original<object>()),
  checkOp: async (op: string) => [
    {
      op,
      order: 1,
      executor: 'reference',
      worst: 3,
      error: 3e-6,
      tolerance: 1e-6,
      ulp: 0,
      pass: false,
      samples: 1,
      detail: 'element [2]',
    },
  ],
}));

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

const run = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [join(packageRoot, 'bin/matgan.mjs'), 'gradcheck', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });

describe('matgan gradcheck', () => {
  it('an unknown op is the user’s mistake, with the nearest name', () => {
    const { status, stdout, stderr } = run(['--op', 'conv2D']);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/ConfigError: gradcheck: there is no op conv2D \(did you mean conv2d\?\)/);
  });

  it('without an adapter auto says that only the reference was checked, gpu fails', () => {
    const auto = run(['--op', 'dense', 'sampleRows', '--json'], { MATGAN_ADAPTER: 'none' });
    expect(auto.status).toBe(0);
    expect(auto.stderr).toContain('ONLY THE REFERENCE IS CHECKED');
    expect(auto.stderr).toContain('not checked, for want of a gradient or a GPU: sampleRows');
    const rows = JSON.parse(auto.stdout);
    expect(rows.map((row: { executor: string; order: number }) => [row.executor, row.order])).toEqual([
      ['reference', 1],
      ['reference', 2],
    ]);
    const gpu = run(['--op', 'dense', '--device', 'gpu'], { MATGAN_ADAPTER: 'none' });
    expect(gpu.status).toBe(1);
    expect(gpu.stderr).toMatch(/DeviceError: MATGAN_ADAPTER=none/);
  });

  it('a check that fails is printed with its place, and ends with 1', async () => {
    let out = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => Boolean((out += text)));
    vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
    await gradcheck().parseAsync(['--op', 'relu', '--device', 'reference'], { from: 'user' });
    expect(process.exitCode).toBe(1);
    expect(out).toContain('FAIL relu, order 1: element [2]');
    expect(out).toMatch(/relu .*3\.0e-6 .*1\.0e-6 .*3\.000 .*FAIL/);
  });

  it.each([
    ['--order', '3'],
    ['--seed', 'x'],
    ['--device', 'tpu'],
  ])('%s %s is refused', (option, value) => {
    expect(run([option, value]).status).toBe(2);
  });
});

describeGpu('matgan gradcheck on a GPU', () => {
  it('prints a row an op, order and executor', () => {
    const { status, stdout } = run(['--op', 'relu', '--device', 'gpu', '--json']);
    expect(status).toBe(0);
    const rows = JSON.parse(stdout);
    expect(rows).toHaveLength(5);
    for (const row of rows) {
      expect(row).toMatchObject({ op: 'relu', pass: true });
      expect(row.worst).toBeLessThanOrEqual(row.tolerance);
      expect(['reference', 'gpu']).toContain(row.executor);
    }
  });
});
