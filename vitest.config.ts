import { defineConfig } from 'vitest/config';

// GPU tests share two cores with the software rasteriser: two forks at most, one file each.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
});
