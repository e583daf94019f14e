/**
 * Time from the start of a process to the first step's losses, cold and warm.
 *
 *     npx tsx scripts/startup.ts [--presets ae,icsd,demo] [--runs 3] [--out FOLDER]
 *
 * Cold: the driver's cache of compiled shaders is an empty folder of its own (Mesa's and NVIDIA's; on another driver it may stay
 * warm). Warm: the same folder again. Also the command line alone, without a model, from source as in a checkout and built
 * (where dist/ is there: npm run build). Writes startup-ADAPTER-DATE.json to bench/results, or to FOLDER.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { adapterName, machine, today } from '../bench/files.ts';
import { openDevice } from '../src/kernels/device.ts';
import { loadConfig } from '../src/models/config.ts';
import { packageRoot } from '../src/paths.ts';
import { consoleTable } from '../src/report/table.ts';

const { values } = parseArgs({
  options: {
    presets: { type: 'string', default: 'ae,icsd,demo' },
    runs: { type: 'string', default: '3' },
    out: { type: 'string', default: `${packageRoot}/bench/results` },
  },
});

/** Milliseconds from spawn until a line matches, or to the end of the process where `line` is undefined. */
function timed(args: readonly string[], line?: RegExp, environment: NodeJS.ProcessEnv = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(process.execPath, args, {
      cwd: packageRoot,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    let found: number | undefined;
    const look = (chunk: Buffer): void => {
      text += chunk;
      if (line?.test(text)) found ??= performance.now() - started;
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('close', (code) => {
      if (code !== 0 || (line && found === undefined))
        reject(new Error(`matgan ended with ${code}: ${text.slice(-500)}`));
      else resolve(found ?? performance.now() - started);
    });
  });
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1];
const runs = Number(values.runs);
async function repeated(make: () => Promise<number>): Promise<{ medianMs: number; all: number[] }> {
  const all: number[] = [];
  for (let i = 0; i < runs; i++) all.push(await make());
  return { medianMs: median(all), all };
}

const folder = mkdtempSync(join(tmpdir(), 'matgan-startup-'));
let number = 0;
const fresh = (): string => join(folder, String(number++));
const caches = (path: string): NodeJS.ProcessEnv => {
  mkdirSync(path, { recursive: true });
  return { MESA_SHADER_CACHE_DIR: path, __GL_SHADER_DISK_CACHE_PATH: path, XDG_CACHE_HOME: path };
};
const rows: { what: string; medianMs: number; all: number[] }[] = [];
const measure = async (what: string, make: () => Promise<number>): Promise<void> => {
  rows.push({ what, ...(await repeated(make)) });
  process.stderr.write(
    `${what}: ${rows
      .at(-1)!
      .all.map((ms) => ms.toFixed(0))
      .join(', ')} ms\n`,
  );
};

const entry = join(packageRoot, 'bin/matgan.mjs');
const built = join(packageRoot, 'dist/src/cli/main.js');
const device = await openDevice();
const { info } = device;
device.destroy();
try {
  const help = ['train', 'gan', '--help'];
  await measure('train --help, from source', () => timed([entry, ...help]));
  if (existsSync(built)) {
    const call = `import(${JSON.stringify(built)}).then((m) => m.main(${JSON.stringify(help)})).then(() => process.exit())`;
    await measure('train --help, built', () => timed(['-e', call]));
  }
  for (const preset of values.presets.split(',')) {
    const kind = loadConfig(undefined, { preset }).model;
    const first = (cache: string): Promise<number> =>
      timed(
        [entry, 'train', kind, '--preset', preset, '--steps', '1', '--log-every', '1', '--out', fresh()],
        /step 1\//,
        caches(cache),
      );
    await measure(`${preset}, cold`, () => first(fresh()));
    const warm = fresh();
    await first(warm);
    await measure(`${preset}, warm`, () => first(warm));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
mkdirSync(values.out, { recursive: true });
const file = join(values.out, `startup-${adapterName(info)}-${today()}.json`);
writeFileSync(file, `${JSON.stringify({ ...machine(info), rows }, null, 1)}\n`);
process.stdout.write(
  `${consoleTable(
    ['start-up', 'median s', 'least', 'most'],
    rows.map(({ what, medianMs, all }) => [
      what,
      ...[medianMs, Math.min(...all), Math.max(...all)].map((ms) => (ms / 1000).toFixed(2)),
    ]),
  )}\n${file}\n`,
  () => process.exit(0),
);
