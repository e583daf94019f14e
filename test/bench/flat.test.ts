/** The instruments of docs/scale.md: fits, and a run that finds growth where there is some. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { adapterName, powerLaw, slope } from '../../bench/files.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder } from '../models/tiny.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('fits', () => {
  it('powerLaw finds exponent and factor, and leaves out what has no logarithm', () => {
    const points = [1, 10, 1000, 1e6].map((x) => [x, 3 * x ** 1.5] as const);
    const fit = powerLaw([...points, [0, 1], [5, 0]]);
    expect(fit.exponent).toBeCloseTo(1.5, 9);
    expect(fit.factor).toBeCloseTo(3, 6);
    expect(powerLaw([[1, 1]]).exponent).toBeNaN();
  });

  it('slope is that of a line through noise that cancels', () => {
    const points = [0, 1, 2, 3].map((x) => [x, 7 + 2 * x + (x === 1 || x === 2 ? 1 : -1)] as const);
    expect(slope(points)).toBeCloseTo(2, 9);
  });

  it('adapters are named for files', () => {
    const named = (description: string, device = ''): string =>
      adapterName({ vendor: '', architecture: '', device, description, software: false });
    expect(named('llvmpipe: Mesa 25')).toBe('lavapipe');
    expect(named('NVIDIA: 550.54 550.54', 'NVIDIA H100 80GB HBM3')).toBe('nvidia-h100-80gb-hbm3');
    expect(named('')).toBe('gpu');
  });
});

describeGpu('bench/flat.ts', () => {
  const run = (...more: string[]) => {
    const out = temporaryFolder();
    const args = ['--import', 'tsx', 'bench/flat.ts', '--steps', '40', '--every', '5', '--out', out, ...more];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    if (stdout === '') throw new Error(stderr);
    const [file] = readdirSync(out);
    return { status, printed: JSON.parse(stdout), written: JSON.parse(readFileSync(join(out, file), 'utf8')) };
  };

  it('samples memory all along, and passes within its bound', { timeout: 120_000 }, () => {
    // So short a run is still warming up: the bound is generous.
    const { status, printed, written } = run('--bound', '5000000');
    expect(status).toBe(0);
    expect(printed).toMatchObject({ steps: 40, flat: true, gpuPerStep: 0 });
    expect(written.samples.length).toBeGreaterThanOrEqual(4);
    expect(written.samples.at(-1).step).toBe(40);
    for (const { rss, gpuBytes } of written.samples) expect(Math.min(rss, gpuBytes)).toBeGreaterThan(1e6);
  });

  it('10 MB kept of each step: found, 1', { timeout: 120_000 }, () => {
    const { status, printed } = run('--bound', '5000000', '--leak', '10000000');
    expect([status, printed.flat]).toEqual([1, false]);
    expect(printed.rssPerStep).toBeGreaterThan(7e6);
  });
});
