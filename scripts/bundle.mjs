// `npm run bundle`: one archive that runs `matgan` on a bare x86-64 Linux with a Vulkan driver: no Node, no npm, no
// network, and no xz or zstd to unpack with, so it is a .tar.gz. libduckdb.so alone would burst the size as gzip; it
// travels as brotli, which the Node inside can read, and is unpacked beside itself by the first run.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants, createGzip } from 'node:zlib';
import { lowerVersionNeed } from './elf.mjs';
import { root, setupOrExit } from './setup.mjs';

const mostBytes = 60 * 2 ** 20;
const say = (text) => process.stderr.write(`bundle: ${text}\n`);
const stop = (text) => {
  say(text);
  process.exit(1);
};

if (process.platform !== 'linux' || process.arch !== 'x64') {
  stop(
    `the archive is for x86-64 Linux and takes Node from the machine that makes it; this is ${process.platform}-${process.arch}`,
  );
}
// Making it needs the packages but no adapter.
process.env.MATGAN_ADAPTER ??= 'none';
setupOrExit();

const build = join(root, 'build');
const folder = join(build, 'matgan-linux-x64');
const archive = join(build, 'matgan-linux-x64.tar.gz');
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, 'bin'), { recursive: true });

/** Debug symbols are a third of these files; where there is no strip they stay, and the size check speaks. */
function copyStripped(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, 0o755);
  if (spawnSync('strip', ['--strip-unneeded', to]).status !== 0)
    say(`strip is missing or failed: ${to} keeps its symbols`);
}

say(`Node ${process.versions.node}, Dawn, DuckDB`);
copyStripped(process.execPath, join(folder, 'bin', 'node'));

const modules = (path) => join(folder, 'node_modules', path);
const installed = (path) => join(root, 'node_modules', path);
const dawn = 'webgpu/dist/linux-x64/dawn.node';
copyStripped(installed(dawn), modules(dawn));
// Dawn's binary asks libstdc++ for one symbol by its newest version, which shuts out Red Hat 9 and its kin (glibc 2.34,
// GCC 11). The same function has carried the older version since GCC 4.4, and every newer library still has it.
if (
  !lowerVersionNeed(modules(dawn), 'GLIBCXX_3.4.30', 'GLIBCXX_3.4.11', [
    '_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE',
  ])
) {
  say('Dawn has changed: it keeps its need for GLIBCXX_3.4.30 (GCC 12 or newer), or has another');
}
for (const name of readdirSync(installed('webgpu'))) {
  if (name !== 'dist') cpSync(installed(`webgpu/${name}`), modules(`webgpu/${name}`), { recursive: true });
}
for (const name of ['node-api', 'node-bindings', 'node-bindings-linux-x64']) {
  cpSync(installed(`@duckdb/${name}`), modules(`@duckdb/${name}`), {
    recursive: true,
    dereference: true,
    filter: (path) => !path.endsWith('libduckdb.so') && !path.endsWith('.d.ts'),
  });
}
const library = modules('@duckdb/node-bindings-linux-x64/libduckdb.so');
const cached = join(build, 'libduckdb.so.br');
const source = installed('@duckdb/node-bindings-linux-x64/libduckdb.so');
// Twenty seconds of compressing, kept for the next time.
if (!existsSync(cached) || statSync(cached).mtimeMs < statSync(source).mtimeMs) {
  say('compressing libduckdb.so');
  copyStripped(source, library);
  const bytes = readFileSync(library);
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 9,
    [constants.BROTLI_PARAM_LGWIN]: 24,
    [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  };
  writeFileSync(cached, brotliCompressSync(bytes, { params }));
  rmSync(library);
}
copyFileSync(cached, `${library}.br`);

say('the project');
const { build: esbuild } = await import('esbuild');
await esbuild({
  absWorkingDir: root,
  entryPoints: ['src/cli/main.ts'],
  outdir: join(folder, 'dist', 'src', 'cli'),
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  legalComments: 'inline',
  external: ['webgpu', '@duckdb/*', 'benchmark'],
  // commander and others are CommonJS: their require() of Node's own modules needs one to call.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module';\nconst require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
for (const name of ['shaders', 'data', 'models', 'LICENSE', 'README.md', 'package.json', 'bin/matgan.mjs']) {
  if (existsSync(join(root, name))) cpSync(join(root, name), join(folder, name), { recursive: true });
}

writeFileSync(
  join(folder, 'bin', 'unpack.mjs'),
  `// Once: libduckdb.so travels as brotli. Written beside and renamed, so that two first runs at once do no harm.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';
const file = new URL('../node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so', import.meta.url).pathname;
const beside = \`\${file}.\${process.pid}\`;
try {
  writeFileSync(beside, brotliDecompressSync(readFileSync(\`\${file}.br\`)), { mode: 0o755 });
  renameSync(beside, file);
} catch (error) {
  process.stderr.write(\`matgan: the first run unpacks libduckdb.so and could not (\${error.message}); run it once where its folder can be written, or tables cannot be read\\n\`);
}
`,
);
writeFileSync(
  join(folder, 'matgan'),
  `#!/bin/sh
# Runs matgan with the Node beside it, from any folder and through symbolic links.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
here=$(CDPATH= cd "$(dirname "$self")" && pwd)
[ -f "$here/node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so" ] || "$here/bin/node" "$here/bin/unpack.mjs"
exec "$here/bin/node" "$here/bin/matgan.mjs" "$@"
`,
);
chmodSync(join(folder, 'matgan'), 0o755);

const nodeLicence = [join(dirname(process.execPath), '..', 'LICENSE'), '/usr/share/doc/nodejs/LICENSE'].find(
  existsSync,
);
if (nodeLicence) copyFileSync(nodeLicence, join(folder, 'bin', 'LICENSE-node'));
else say('the licence of Node was not found beside it: add it before you give the archive away');

/** The newest version of a symbol set (GLIBC, GLIBCXX) that any file here needs. */
function newest(prefix) {
  const wanted = new RegExp(`\\b${prefix}_(\\d+(?:\\.\\d+)+)\\b`, 'g');
  const versions = [
    'bin/node',
    `node_modules/${dawn}`,
    'node_modules/@duckdb/node-bindings-linux-x64/duckdb.node',
  ].flatMap((file) =>
    [...readFileSync(join(folder, file)).toString('latin1').matchAll(wanted)].map((match) => match[1]),
  );
  return versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
}
const needs = `glibc ${newest('GLIBC')} or newer, libstdc++ with GLIBCXX_${newest('GLIBCXX')}, a Vulkan driver (or --device reference)`;
writeFileSync(
  join(folder, 'READ-ME-FIRST.txt'),
  `matgan for x86-64 Linux: Node, Dawn and DuckDB are inside.\nNeeds: ${needs}.\nRun: ./matgan devices\n` +
    `Licences: LICENSE (matgan), bin/LICENSE-node (Node), node_modules/*/ (Dawn, DuckDB), comments in dist/ (libraries).\n`,
);

say('packing');
rmSync(archive, { force: true });
const { spawn } = await import('node:child_process');
const tar = spawn('tar', ['--owner=0', '--group=0', '-C', build, '-cf', '-', 'matgan-linux-x64'], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const { pipeline } = await import('node:stream/promises');
const ended = new Promise((resolve) => tar.on('close', resolve));
await pipeline(tar.stdout, createGzip({ level: 9 }), createWriteStream(archive));
if ((await ended) !== 0) stop('tar failed');

const { size } = statSync(archive);
const mib = (size / 2 ** 20).toFixed(1);
if (size > mostBytes) {
  say(
    execFileSync('du', ['-ak', folder], { encoding: 'utf8' })
      .split('\n')
      .sort((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10))
      .slice(0, 12)
      .join('\n'),
  );
  stop(`${archive} is ${mib} MiB, more than the ${mostBytes / 2 ** 20} it may have`);
}
say(`needs ${needs}`);
process.stdout.write(`${archive} ${mib} MiB\n`);
