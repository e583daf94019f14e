/** What measurements share: names of result files, facts about the machine, fits. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { AdapterInfo } from '../src/kernels/device.ts';
import { packageRoot } from '../src/paths.ts';

/** An adapter in a file's name. */
export function adapterName({ description, device, software }: AdapterInfo): string {
  const text = `${device} ${description}`;
  if (/llvmpipe|lavapipe/i.test(text)) return 'lavapipe';
  if (/swiftshader/i.test(text)) return 'swiftshader';
  const name = (device || description).toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return name.replace(/^-+|-+$/g, '').slice(0, 40) || (software ? 'software' : 'gpu');
}

export const today = (): string => new Date().toISOString().slice(0, 10);

/** Facts that a figure means nothing without. */
export function machine(info: AdapterInfo): Record<string, unknown> {
  let commit = 'unknown';
  try {
    commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: packageRoot, stdio: 'pipe' })
      .toString()
      .trim();
  } catch {
    // A copy without its history.
  }
  const { dependencies } = JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8'));
  return {
    adapter: info.description || info.device,
    software: info.software,
    processor: cpus()[0]?.model,
    cores: cpus().length,
    node: process.versions.node,
    webgpu: dependencies.webgpu,
    commit,
    date: today(),
  };
}

/** Exponent and factor of y = a · x^b by least squares of the logarithms; NaN for fewer than two points. */
export function powerLaw(points: readonly (readonly [x: number, y: number])[]): { exponent: number; factor: number } {
  const logs = points.filter(([x, y]) => x > 0 && y > 0).map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (k: 0 | 1): number => logs.reduce((sum, p) => sum + p[k], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  const sum = (of: (x: number, y: number) => number): number =>
    logs.reduce((total, [x, y]) => total + of(x - mx, y - my), 0);
  const exponent = sum((x, y) => x * y) / sum((x) => x * x);
  return { exponent, factor: Math.exp(my - exponent * mx) };
}

/** Slope of y over x by least squares. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (k: 0 | 1): number => points.reduce((sum, p) => sum + p[k], 0) / points.length;
  const [mx, my] = [mean(0), mean(1)];
  const sum = (of: (x: number, y: number) => number): number =>
    points.reduce((total, [x, y]) => total + of(x - mx, y - my), 0);
  return sum((x, y) => x * y) / sum((x) => x * x);
}
