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
    // Only with --coverage; scripts/coverage.mjs (`npm run coverage`) adds child processes and writes the report.
    coverage: {
      provider: 'v8',
      include: ['src/**'],
      reporter: ['json'],
      reportsDirectory: 'build/coverage',
      reportOnFailure: true,
    },
  },
});
