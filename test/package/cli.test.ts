import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { missingEntries } from '../../scripts/complete-lock.mjs';
import { commands, program } from '../../src/cli/main.ts';
import { describeGpu } from '../gpu.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));

function matgan(args: readonly string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [bin, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
}

describe('the command line', () => {
  it('--help ends with 0 and lists every command', () => {
    const { status, stdout, stderr } = matgan(['--help']);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    for (const { name, about } of commands) {
      expect(stdout).toContain(`  ${name} `);
      expect(stdout.replace(/\s+/g, ' ')).toContain(about);
    }
  });

  it('--version prints the version of package.json', () => {
    const { version } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
    expect(matgan(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n` });
  });

  it.each<[string, string[], RegExp]>([
    ['an unknown option', ['devices', '--jsn'], /unknown option '--jsn' \(Did you mean --json\?\)/],
    ['an unknown global option', ['--frob'], /unknown option '--frob'/],
    ['an unknown command', ['trian'], /unknown command 'trian' \(Did you mean train\?\)/],
    ['too many arguments', ['devices', 'x'], /too many arguments/],
  ])('%s ends with 2 and one line', (_, args, message) => {
    const { status, stdout, stderr } = matgan(args);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(status).toBe(2);
  });

  it('without a command: help on standard error, 2', () => {
    const { status, stdout, stderr } = matgan([]);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain('Usage: matgan');
  });

  it('no adapter: one line that names the remedy, 1; a stack only with --debug', () => {
    const plain = matgan(['devices', '--json'], { MATGAN_ADAPTER: 'none' });
    expect(plain.status).toBe(1);
    expect(plain.stdout).toBe('');
    expect(plain.stderr).toMatch(/^DeviceError: .*--device reference\n$/);
    const debug = matgan(['devices', '--debug'], { MATGAN_ADAPTER: 'none' });
    expect(debug.stderr).toMatch(/\n\s+at /);
    expect(debug.status).toBe(1);
  });

  it('a reader that closes the pipe early is no error', async () => {
    const child = spawn(process.execPath, [bin, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const status = await new Promise((resolve) => child.on('close', resolve));
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it.each(commands.map(({ name }) => name))('%s --help ends with 0 and shows an example', (name) => {
    const { status, stdout, stderr } = matgan([name, '--help']);
    expect(stderr).toBe('');
    expect(stdout).toMatch(new RegExp(`^Usage: matgan ${name}`));
    // `data` has its examples one level down.
    if (name !== 'data') expect(stdout).toMatch(/Example:\n\s+.*matgan/);
    expect(status).toBe(0);
  });

  it('each command is loaded under its own name, and only when it is named', async () => {
    for (const { name, load } of commands) expect((await load())().name()).toBe(name);
    const loaded = (await program(['devices'])).commands.filter((command) => command.options.length > 0);
    expect(loaded.map((command) => command.name())).toEqual(['devices']);
  });
});

describeGpu('matgan devices', () => {
  it('prints JSON alone, with limits and ceilings of the adapter in use', () => {
    const { status, stdout } = matgan(['devices', '--json']);
    expect(status).toBe(0);
    const { adapters } = JSON.parse(stdout);
    const used = adapters.filter((adapter: { used: boolean }) => adapter.used);
    expect(used).toHaveLength(1);
    const [{ backend, features, limits, ceilings }] = used;
    expect(backend).not.toBe('unknown');
    expect(Array.isArray(features)).toBe(true);
    // WebGPU guarantees these to everybody.
    expect(limits.default.maxStorageBufferBindingSize).toBe(128 * 2 ** 20);
    expect(limits.default.maxComputeInvocationsPerWorkgroup).toBe(256);
    expect(limits.adapter.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(128 * 2 ** 20);
    // Wide, but not so wide that a unit gone wrong would pass: from a slow laptop to the largest card.
    expect(ceilings.fmaGflops).toBeGreaterThan(1);
    expect(ceilings.fmaGflops).toBeLessThan(2e5);
    expect(ceilings.copyGbps).toBeGreaterThan(0.1);
    expect(ceilings.copyGbps).toBeLessThan(2e4);
    expect(ceilings.dispatchMicroseconds).toBeGreaterThan(0.1);
    expect(ceilings.submitMilliseconds).toBeGreaterThan(0);
  });
});

describe('the package', () => {
  const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));

  it('is MIT, ESM, for Node 20, with its command', () => {
    expect(manifest).toMatchObject({
      name: 'matgan-webgpu',
      type: 'module',
      license: 'MIT',
      engines: { node: '>=20' },
    });
    expect(readFileSync(`${root}/LICENSE`, 'utf8')).toMatch(/^MIT License/);
    expect(manifest.bin.matgan).toBe('bin/matgan.mjs');
  });

  it('pins every dependency exactly', () => {
    const all = { ...manifest.dependencies, ...manifest.devDependencies };
    for (const [name, version] of Object.entries(all)) expect(`${name} ${version}`).toMatch(/ \d+\.\d+\.\d+(-\S+)?$/);
  });

  it('locks the binaries of every platform, or npm ci refuses the lock (scripts/complete-lock.mjs adds them)', () => {
    const lock = JSON.parse(readFileSync(`${root}/package-lock.json`, 'utf8'));
    expect(missingEntries(lock)).toEqual({});
    const asker = { version: '1.0.0', dev: true, optionalDependencies: { '@x/cli-linux-x64-musl': '1.0.0' } };
    expect(missingEntries({ packages: { 'node_modules/x': asker } })).toEqual({
      'node_modules/@x/cli-linux-x64-musl': {
        version: '1.0.0',
        cpu: ['x64'],
        dev: true,
        libc: ['musl'],
        optional: true,
        os: ['linux'],
      },
    });
  });

  it('ships what it reads at run time', () => {
    for (const name of ['bin', 'dist', 'shaders', 'data', 'models']) expect(manifest.files).toContain(name);
  });

  it('starts on a fresh clone: scripts that run before npm ci import nothing but Node and one another', () => {
    for (const name of ['setup.mjs', 'plan.mjs', 'test.mjs', 'demo.mjs']) {
      const text = readFileSync(`${root}/scripts/${name}`, 'utf8');
      const targets = [...text.matchAll(/^(?:import|export)\b[^;]*?from '([^']+)'/gms)].map((match) => match[1]);
      expect(targets.length + (name === 'plan.mjs' ? 1 : 0)).toBeGreaterThan(0);
      for (const target of targets) expect(target).toMatch(/^(node:|\.\/)/);
    }
  });

  it('names no file in version control that a build makes', () => {
    const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n');
    expect(tracked.filter((path) => /^(dist|build|runs|node_modules)\//.test(path))).toEqual([]);
    expect(readdirSync(`${root}/.ci`)).toContain('run');
  });
});
