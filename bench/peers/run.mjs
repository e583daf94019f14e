// `npm run bench:peers`: this project, TensorFlow.js, jax-js and PyTorch on the same work, in turn, in one run.
// docs/peers.md tells how, and what each peer cannot do.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { disagreement, pairedRatio, summary, us } from './rows.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const cache = join(root, 'build', 'peers');
// Exact: other versions have other faults.
const packages = [
  '@jax-js/jax@0.1.25',
  '@tensorflow/tfjs-core@4.22.0',
  '@tensorflow/tfjs-layers@4.22.0',
  '@tensorflow/tfjs-backend-cpu@4.22.0',
  '@tensorflow/tfjs-backend-webgpu@4.22.0',
];
const help = `usage: npm run bench:peers -- [options]
  --quick           convolutions, batch norm and products only, three rounds
  --filter TEXT     only cases with TEXT in their names
  --rounds N        rounds of all in turn, 3 to 9 unless said (fewer where a round takes long)
  --without NAMES   tfjs, jaxjs, torch, start-up: left out, apart by commas
  --no-install      never asks npm for the peers; they must be in build/peers
  --python FILE     a Python with torch; $PYTHON or /usr/bin/python3 unless said
  --out FOLDER      bench/results unless said
Needs nothing of the peers: one that is missing is a row that says so.
`;
const say = (text) => process.stderr.write(`${text}\n`);
function stop(text) {
  say(`bench:peers: ${text}`);
  process.exit(2);
}

let values;
try {
  ({ values } = parseArgs({
    options: {
      quick: { type: 'boolean' },
      filter: { type: 'string', default: '' },
      rounds: { type: 'string' },
      without: { type: 'string', default: '' },
      'no-install': { type: 'boolean' },
      python: { type: 'string' },
      out: { type: 'string', default: join(root, 'bench', 'results') },
      help: { type: 'boolean' },
    },
  }));
} catch (error) {
  stop(`${error.message}; --help lists the options`);
}
if (values.help) {
  process.stdout.write(help);
  process.exit(0);
}
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
if (rounds !== undefined && !(Number.isInteger(rounds) && rounds >= 1 && rounds <= 1000)) {
  stop(`--rounds ${values.rounds}: it takes a whole number from 1 to 1000`);
}
const without = values.without.split(',').filter(Boolean);
const unknown = without.filter((name) => !['tfjs', 'jaxjs', 'torch', 'start-up'].includes(name));
if (unknown.length > 0) stop(`--without ${unknown.join(', ')}: it takes tfjs, jaxjs, torch and start-up`);

/** What is run here: what the whole file has, at sizes that a software adapter gets through. */
function chooseCases() {
  const { steps, generate, ops } = JSON.parse(readFileSync(join(here, 'cases.json'), 'utf8'));
  const small = ops.filter((c) => !c.name.includes(' oqmd ') && !(c.op === 'matmul' && c.batch > 1024));
  const all = small.map((c) => ({ ...c, kind: 'op' }));
  if (!values.quick) {
    const { batches, flopsPerSample, ...rest } = generate;
    for (const batch of batches.filter((n) => n <= 512)) {
      all.push({
        ...rest,
        kind: 'generate',
        name: `${rest.name} batch ${batch}`,
        batch,
        flops: flopsPerSample * batch,
      });
    }
    all.push(...steps.filter(({ batch }) => batch === 32).map((c) => ({ ...c, kind: 'step' })));
  }
  const chosen = all.filter(({ name }) => name.includes(values.filter));
  if (chosen.length === 0) {
    stop(
      `no case has "${values.filter}" in its name; they begin with ${[...new Set(all.map((c) => c.name.split(' ')[0]))].join(', ')}`,
    );
  }
  return chosen;
}
const cases = chooseCases();

/** Puts the peers into the cache folder. @returns why not, where they cannot be had */
function install() {
  mkdirSync(cache, { recursive: true });
  const file = join(cache, 'package.json');
  if (!existsSync(file)) writeFileSync(file, '{"private":true,"type":"module"}\n');
  for (const name of readdirSync(here)) if (name.endsWith('.mjs')) copyFileSync(join(here, name), join(cache, name));
  const has = packages.every((wanted) => {
    const at = wanted.lastIndexOf('@');
    const manifest = join(cache, 'node_modules', wanted.slice(0, at), 'package.json');
    return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).version === wanted.slice(at + 1);
  });
  if (has) return undefined;
  if (values['no-install']) return 'not installed here (--no-install)';
  say('bench:peers: installing the JavaScript peers into build/peers');
  const arguments_ = ['install', '--no-audit', '--no-fund', '--save-exact', '--loglevel=error', ...packages];
  const { status, stderr } = spawnSync('npm', arguments_, { cwd: cache, encoding: 'utf8', timeout: 180_000 });
  return status === 0 ? undefined : `not installed here (npm: ${stderr?.trim().split('\n')[0] || 'failed'})`;
}

/** A Python with torch, and whether it sees a card; or why there is none. */
function findTorch() {
  const python = values.python ?? process.env.PYTHON ?? '/usr/bin/python3';
  const probe = 'import json,torch,numpy; print(json.dumps([torch.__version__, torch.cuda.is_available()]))';
  const { status, stdout } = spawnSync(python, ['-c', probe], { encoding: 'utf8', timeout: 120_000 });
  if (status !== 0) return { why: `${python} has no torch and numpy; name one that has by --python` };
  const [version, cuda] = JSON.parse(stdout.trim().split('\n').at(-1));
  return { python, version, cuda };
}

class Child {
  constructor(command, arguments_, options) {
    this.started = performance.now();
    this.process = spawn(command, arguments_, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    this.errors = '';
    this.process.stderr.on('data', (text) => {
      this.errors = (this.errors + text).slice(-4000);
    });
    this.process.stdin.on('error', () => {});
    this.process.on('error', (error) => {
      this.errors += `\n${error.message}`;
    });
  }

  /** The next line of JSON; `why` where the process is gone or takes too long. */
  async next(seconds = 300) {
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve({ late: true }), seconds * 1000);
    });
    for (;;) {
      const got = await Promise.race([this.lines.next(), late]);
      if (got.late) {
        this.stop();
        return { why: `it took more than ${seconds} s and was ended`, gone: true };
      }
      clearTimeout(timer);
      if (got.done) return { why: `its process ended: ${this.errors.trim().split('\n').at(-1) ?? ''}`, gone: true };
      // Libraries print to standard output too.
      if (got.value.startsWith('{')) return JSON.parse(got.value);
    }
  }

  ask(message, seconds) {
    if (this.process.exitCode !== null) return { why: 'its process ended earlier', gone: true };
    this.process.stdin.write(`${JSON.stringify(message)}\n`);
    return this.next(seconds);
  }

  stop() {
    this.process.kill('SIGKILL');
  }
}

const missing = install();
const torch = without.includes('torch') ? undefined : findTorch();
const js = (file) => ({ command: process.execPath, arguments: [join(cache, file)], why: missing });
const participants = [
  {
    framework: us,
    mode: 'polling',
    command: process.execPath,
    arguments: ['--import', 'tsx', join(here, 'run-ours.ts')],
  },
];
if (!without.includes('tfjs')) participants.push({ framework: 'TensorFlow.js', mode: 'WebGPU', ...js('run-tfjs.mjs') });
if (!without.includes('jaxjs')) participants.push({ framework: 'jax-js', mode: 'WebGPU', ...js('run-jaxjs.mjs') });
if (torch) {
  const peer = (framework, mode, device, ...more) => ({
    framework,
    mode,
    command: torch.python,
    arguments: [join(here, 'torch_peer.py'), '--serve', '--device', device, ...more],
    why: torch.why,
  });
  participants.push(peer('PyTorch CPU', 'eager', 'cpu', '--no-tf32'));
  if (torch.cuda) {
    for (const mode of ['eager', 'graph']) {
      participants.push(peer('PyTorch CUDA', mode, 'cuda', '--modes', mode, '--no-tf32'));
      participants.push(peer('PyTorch CUDA', `${mode}, TF32`, 'cuda', '--modes', mode));
    }
  }
}

async function start(p, env = process.env) {
  if (p.why) return;
  p.child = new Child(p.command, p.arguments, { cwd: root, env });
  const hello = await p.child.next();
  if (hello.why) p.why = hello.why;
  else p.about = hello.about;
}
for (const p of participants) await start(p);
const [ours] = participants;
if (ours.why) {
  say(`bench:peers: ${ours.why}\n${ours.child.errors}`);
  process.exit(1);
}
say(`bench:peers: ${cases.length} cases on ${ours.about.adapter}; ${participants.map((p) => p.framework).join(', ')}`);

const rows = [];
/** Runs so often that a sample takes about this long. */
const sampleMs = 40;

/** One case: everybody prepares and is held against ours, then samples in turn. */
async function measure(c) {
  say(c.name);
  const able = [];
  for (const p of participants) {
    const row = { framework: p.framework, mode: p.mode, name: c.name };
    rows.push(row);
    if (p.why) {
      row.why = p.why;
      continue;
    }
    const prepared = await p.child.ask({ prepare: c });
    if (prepared.why) {
      row.why = prepared.why;
      if (prepared.gone) await start(p);
      continue;
    }
    if (p === ours) ours.results = prepared.results;
    else if (prepared.results) row.why = disagreement(ours.results, prepared.results);
    if (prepared.note) row.note = prepared.note;
    const once = await p.child.ask({ sample: 1 });
    if (once.why) row.why ??= once.why;
    // A wrong result's time is told, but is no figure to compare with.
    if (row.why) {
      if (once.ms) row.note = `${once.ms.toPrecision(3)} ms for it`;
      if (row.note) row.why = `${row.why} (${row.note})`;
      continue;
    }
    able.push({ p, row, ms: once.ms, count: Math.max(1, Math.round(sampleMs / once.ms)), samples: [] });
  }
  const [first] = able;
  if (first?.p !== ours) {
    say(`bench:peers: ${c.name}: ours did not run: ${rows.find((r) => r.name === c.name && r.framework === us)?.why}`);
    return;
  }
  const roundMs = able.reduce((total, { ms, count }) => total + ms * count, 0);
  const many = rounds ?? (values.quick ? 3 : Math.min(9, Math.max(3, Math.floor(4000 / roundMs))));
  const sleeping = [];
  for (let round = 0; round < many; round++) {
    // Each begins in turn: what a neighbour leaves behind (caches, heat) meets everybody.
    for (let i = 0; i < able.length; i++) {
      const one = able[(i + round) % able.length];
      const { ms, rssMiB, why } = await one.p.child.ask({ sample: one.count });
      if (why) one.row.why = why;
      else one.samples.push(ms);
      if (rssMiB) one.row.rssMiB = Math.round(rssMiB);
    }
    const { ms } = await ours.child.ask({ sleeping: { count: first.count, ms: first.ms } });
    if (ms) sleeping.push(ms);
  }
  for (const { row, samples } of able) {
    if (row.why) continue;
    Object.assign(row, summary(samples));
    if (c.flops) row.gflops = c.flops / row.medianMs / 1e6;
    if (row.framework !== us) row.ratio = pairedRatio(samples, first.samples);
  }
  const at = rows.indexOf(first.row);
  const row = { framework: us, mode: 'sleeping', name: c.name, ...summary(sleeping) };
  if (c.flops) row.gflops = c.flops / row.medianMs / 1e6;
  if (sleeping.length > 0) rows.splice(at + 1, 0, row);
}

for (const c of cases) await measure(c);
for (const { child } of participants) child?.stop();

/** From starting a process to the end of its first AE step. */
async function startUp() {
  const { steps } = JSON.parse(readFileSync(join(here, 'cases.json'), 'utf8'));
  const first = { ...steps.find(({ name }) => name === 'step ae ae batch 32'), kind: 'step' };
  const found = [];
  for (const p of participants.filter(({ mode }) => !mode.includes('TF32'))) {
    const row = { framework: `${p.framework}${p.framework === us ? '' : `, ${p.mode}`}` };
    found.push(row);
    const webgpu = !p.framework.startsWith('PyTorch');
    for (const [key, env] of [
      ['warmSeconds', {}],
      ...(webgpu ? [['coldSeconds', { MESA_SHADER_CACHE_DISABLE: '1' }]] : []),
    ]) {
      const fresh = { ...p, child: undefined };
      await start(fresh, { ...process.env, ...env });
      if (fresh.why) {
        row.why = fresh.why;
        break;
      }
      const { why, rssMiB } = await fresh.child.ask({ first });
      if (why) row.why = why;
      else row[key] = (performance.now() - fresh.child.started) / 1000;
      if (rssMiB) row.rssMiB = Math.round(rssMiB);
      fresh.child.stop();
    }
    say(JSON.stringify(row));
  }
  return found;
}
const begun = values.quick || without.includes('start-up') || values.filter ? [] : await startUp();

const { register } = await import('tsx/esm/api');
register();
const { reportPage, terminal } = await import('./report.ts');
const date = new Date().toISOString().slice(0, 10);
const git = (...arguments_) => {
  try {
    return execFileSync('git', arguments_, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
};
const report = {
  made: {
    date,
    commit: git('rev-parse', '--short', 'HEAD'),
    adapter: ours.about.adapter,
    node: process.versions.node,
    packages: missing ? missing : packages.join(' '),
    torch: torch?.version ?? torch?.why ?? 'left out',
    quick: values.quick ?? false,
  },
  rows,
  startUp: begun,
};
process.stdout.write(terminal(report));
mkdirSync(values.out, { recursive: true });
const short = /llvmpipe|lavapipe/i.test(ours.about.adapter)
  ? 'lavapipe'
  : ours.about.adapter
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .slice(0, 40);
const base = join(values.out, `peers-${short}-${date}`);
writeFileSync(`${base}.json`, `${JSON.stringify(report, null, 1)}\n`);
writeFileSync(`${base}.html`, reportPage(report));
say(`${base}.json, ${base}.html`);
process.exit(0);
