// Brings a fresh clone to where it can run: dependencies, then a WebGPU adapter. Says what it does, asks nothing, and
// does nothing that is done already. Node built-ins only: it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import {
  APT_PACKAGES,
  dependenciesMatch,
  formatDeb822,
  parseDeb822Sources,
  parseOneLineSources,
  parseOsRelease,
  planDriver,
} from './plan.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));
const say = (text) => process.stderr.write(`setup: ${text}\n`);

const readText = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
const readJson = (file) => {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
};

/** Installs what package-lock.json names, unless it is there. */
function dependencies() {
  const lock = readJson(join(root, 'package-lock.json'));
  if (!lock) throw new Error('package-lock.json is missing or unreadable; take it from the repository again');
  if (dependenciesMatch(lock, readJson(join(root, 'node_modules', '.package-lock.json')))) return;
  say('installing the packages of package-lock.json (npm ci)');
  // Under `npm run` npm names its own script; without it (node scripts/setup.mjs) the one on the path must do.
  const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const [command, ...before] = npm;
  const args = [...before, 'ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  // npm's report goes to standard error: standard output belongs to the command that setup prepares.
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && npm.length === 1,
    // onnxruntime (for tests) would fetch CUDA's libraries.
    env: { ONNXRUNTIME_NODE_INSTALL: 'skip', ...process.env },
  });
  if (result.status !== 0) {
    throw new Error(`npm ci failed${result.error ? ` (${result.error.message})` : ': its message stands above'}`);
  }
}

/** Asks for an adapter in a process of its own. */
export function probe(timeoutMs = 60_000) {
  const file = fileURLToPath(new URL('./probe.mjs', import.meta.url));
  const child = spawnSync(process.execPath, [file], {
    cwd: root,
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  if (child.error?.code === 'ETIMEDOUT')
    return { ok: false, why: `the driver did not answer in ${timeoutMs / 1000} s` };
  const line = child.stdout?.trim().split('\n').at(-1) ?? '';
  try {
    const result = JSON.parse(line);
    // Dawn says why on standard error, among complaints about the windows that a headless machine has not.
    const words = (child.stderr ?? '').split('\n').filter((text) => text.trim() && !text.includes('XDG_RUNTIME_DIR'));
    if (!result.ok && words.length > 0) result.why += ` (${words[0].trim()})`;
    return result;
  } catch {
    return { ok: false, why: `the driver ended the process (${child.signal ?? `exit ${child.status}`})` };
  }
}

/** The machine's own apt entries, both formats. */
function aptSources() {
  const folder = '/etc/apt/sources.list.d';
  const entries = parseOneLineSources(readText('/etc/apt/sources.list'));
  for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
    if (name.endsWith('.list')) entries.push(...parseOneLineSources(readText(join(folder, name))));
    if (name.endsWith('.sources')) entries.push(...parseDeb822Sources(readText(join(folder, name))));
  }
  return entries;
}

/** The version of mesa-vulkan-drivers that apt would take by its present lists, '' where it knows none. */
function aptCandidate() {
  const { stdout } = spawnSync('apt-cache', ['policy', 'mesa-vulkan-drivers'], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  return /^\s*Candidate: (\d\S*)/m.exec(stdout ?? '')?.[1] ?? '';
}

/**
 * Runs the apt plan. The sources and the lists are temporary and lie outside /etc/apt and /var/lib/apt, so that the
 * machine's own configuration stays as it was, even if we are killed half-way.
 */
function installWithApt(plan) {
  const folder = mkdtempSync(join(tmpdir(), 'matgan-apt-'));
  try {
    // apt downloads as the user _apt, who must be able to look inside.
    chmodSync(folder, 0o755);
    const options = [
      '-o',
      'DPkg::Lock::Timeout=120',
      '-o',
      'Acquire::Retries=2',
      '-o',
      'Dpkg::Options::=--force-confold',
    ];
    if (plan.entries.length > 0) {
      mkdirSync(join(folder, 'lists', 'partial'), { recursive: true });
      mkdirSync(join(folder, 'parts'));
      writeFileSync(join(folder, 'parts', 'matgan.sources'), formatDeb822(plan.entries));
      options.push('-o', 'Dir::Etc::sourcelist=/dev/null', '-o', `Dir::Etc::sourceparts=${folder}/parts`);
      options.push('-o', `Dir::State::lists=${folder}/lists`);
      options.push('-o', 'Dir::Cache::pkgcache=', '-o', 'Dir::Cache::srcpkgcache=');
    }
    const env = {
      ...process.env,
      DEBIAN_FRONTEND: 'noninteractive',
      DEBCONF_NONINTERACTIVE_SEEN: 'true',
      APT_LISTCHANGES_FRONTEND: 'none',
      NEEDRESTART_MODE: 'a',
    };
    const target = plan.target ? ['-t', plan.target] : [];
    const install = ['install', '-y', '-q', '--no-install-recommends', ...target, ...APT_PACKAGES];
    const apt = (args) =>
      spawnSync('apt-get', [...options, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env, encoding: 'utf8' });
    // Its 60 lines interest nobody unless it fails.
    const lastWords = (result) =>
      (result.error?.message ?? result.stderr.trim().split('\n').at(-1)) || `exit ${result.status}`;
    // Without entries of our own the lists the machine has may do; where a file of theirs is gone, update and try again.
    let result = plan.entries.length > 0 ? null : apt(install);
    if (result?.status !== 0) {
      const update = apt(['update', '-q']);
      if (update.status !== 0) say(`apt-get update complained: ${lastWords(update)}`);
      result = apt(install);
    }
    if (result.status !== 0) say(`apt-get install failed: ${lastWords(result)}`);
    return result.status === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Finds an adapter, installs a software one where that can be done; true if there is one in the end. */
function adapter() {
  if (process.env.MATGAN_ADAPTER === 'none') {
    say('MATGAN_ADAPTER=none: no adapter is looked for, the reference executor will do the work');
    return false;
  }
  let found = probe();
  if (!found.ok && process.platform === 'linux') {
    say(`no WebGPU adapter: ${found.why}`);
    const os = parseOsRelease(readText('/etc/os-release') || readText('/usr/lib/os-release'));
    const machine = { os, root: process.getuid?.() === 0, sources: aptSources(), candidate: aptCandidate() };
    const plan = planDriver(machine);
    if (plan.kind === 'apt') {
      const from = plan.target ? ` from ${plan.target}, a temporary apt source` : '';
      say(`installing ${APT_PACKAGES.join(' and ')}${from} (${plan.why})`);
      if (installWithApt(plan)) found = probe();
      if (!found.ok) say(`still no adapter: ${found.why}`);
    } else {
      say(plan.why);
      if (plan.command) say(`to have one, run:\n\n    ${plan.command}\n`);
    }
  } else if (!found.ok) {
    say(`no WebGPU adapter: ${found.why}; ${process.platform} brings its own, so look at the graphics driver`);
  }
  if (found.ok) {
    const { description, vendor, architecture } = found.adapter;
    say(`adapter: ${description || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed'}`);
    return true;
  }
  say('*** GOING ON WITHOUT A GPU: only the reference executor works, which is exact and very slow ***');
  return false;
}

/**
 * All of it. Returns the environment for what runs next: MATGAN_ADAPTER is `none` where no adapter was found, so that
 * tests which need one can say so by name (test/gpu.ts).
 */
export function setup() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new Error(`Node ${process.versions.node} is too old; version 20 or newer is needed`);
  dependencies();
  return { ...process.env, MATGAN_ADAPTER: adapter() ? 'found' : 'none' };
}

/** setup() for a script: one line and exit code 1 where it fails. */
export function setupOrExit() {
  try {
    return setup();
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) setupOrExit();
