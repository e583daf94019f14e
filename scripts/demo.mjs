// `npm run demo`: set-up, then `matgan demo` with the arguments given.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setupOrExit } from './setup.mjs';

const env = setupOrExit();
// Ctrl-C reaches the child too, which ends in its own good order; we wait for it.
process.on('SIGINT', () => {});
const args = [join(root, 'bin', 'matgan.mjs'), 'demo', ...process.argv.slice(2)];
if (env.MATGAN_ADAPTER === 'none') args.push('--device', 'reference');
const { status } = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
process.exit(status ?? 1);
