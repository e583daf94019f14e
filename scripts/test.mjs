// `npm test`: set-up, then vitest with the arguments given (a file name, -t NAME, …).
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setupOrExit } from './setup.mjs';

const env = setupOrExit();
if (env.MATGAN_ADAPTER === 'none') {
  const consequence = env.CI
    ? 'CI is set, so tests that need one FAIL'
    : 'tests that need one are skipped, "(no adapter)" in their names';
  process.stderr.write(`test: no adapter: ${consequence}\n`);
}
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const { status } = spawnSync(process.execPath, [vitest, 'run', ...process.argv.slice(2)], {
  cwd: root,
  env,
  stdio: 'inherit',
});
process.exit(status ?? 1);
