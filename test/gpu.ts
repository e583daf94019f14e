import { describe } from 'vitest';

/**
 * `describe` for tests that need a GPU adapter. Set-up (`scripts/setup.mjs`, run by `npm test`) puts MATGAN_ADAPTER=none
 * into the environment where it found no adapter and could install none; the tests are then skipped, and their names say
 * why. With CI set they run all the same and fail: a GPU test never turns into a CPU test, and never into nothing.
 */
export function describeGpu(name: string, body: () => void): void {
  if (process.env.MATGAN_ADAPTER === 'none' && !process.env.CI) describe.skip(`${name} (no adapter)`, body);
  else describe(name, body);
}
