// Makes .carry/: what a bare x86-64 Linux with a GPU driver needs for the scripts of this folder. No Node, no npm, no network there.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const carry = join(root, '.carry');
mkdirSync(carry, { recursive: true });
const compress = (from, to) => {
  if (existsSync(to)) return;
  const stripped = `${to}.stripped`;
  cpSync(from, stripped, { dereference: true });
  execFileSync('strip', ['--strip-unneeded', stripped]);
  execFileSync('sh', ['-c', `xz -T2 -6 -c '${stripped}' > '${to}'`]);
  rmSync(stripped);
};
compress(process.execPath, join(carry, 'node.xz'));
compress(join(root, 'node_modules/webgpu/dist/linux-x64/dawn.node'), join(carry, 'dawn.node.xz'));
rmSync(join(carry, 'node_modules'), { recursive: true, force: true });
for (const name of ['webgpu', 'benchmark', 'lodash', 'platform']) {
  cpSync(join(root, 'node_modules', name), join(carry, 'node_modules', name), {
    recursive: true,
    filter: (path) => !path.includes('/dist/') && !path.endsWith('/dist') && !path.includes('/fp/'),
  });
}
mkdirSync(join(carry, 'node_modules/webgpu/dist/linux-x64'), { recursive: true });
// Tables are prepared elsewhere: DuckDB is 60 MB.
const absent = join(carry, 'node_modules/@duckdb/node-api');
mkdirSync(absent, { recursive: true });
writeFileSync(join(absent, 'package.json'), '{"name":"@duckdb/node-api","main":"index.cjs"}\n');
writeFileSync(
  join(absent, 'index.cjs'),
  'exports.DOUBLE = exports.INTEGER = exports.VARCHAR = exports.DuckDBDataChunk = exports.DuckDBInstance = undefined;\n',
);
rmSync(join(carry, 'js'), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: ['src/cli/main.ts', 'scripts/gpu/steps.ts', 'scripts/gpu/variants.ts', 'scripts/gpu/models.ts'],
  outdir: join(carry, 'js'),
  entryNames: '[name]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // Charts stay SVG there.
  external: ['webgpu', '@duckdb/*', 'benchmark', '@resvg/*'],
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module';\nconst require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
writeFileSync(
  join(carry, 'js/matgan.js'),
  "import { main } from './main.js';\nprocess.exitCode = await main(process.argv.slice(2));\n",
);
writeFileSync(join(carry, 'js/package.json'), '{"type":"module"}\n');
