/** `matgan gradcheck --module` and `--model`: what a user can do wrong ends with one line and exit code 2. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkTable } from '../../src/autograd/own.ts';
import { gradcheck } from '../../src/cli/gradcheck.ts';
import { ConfigError } from '../../src/errors.ts';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder } from '../models/tiny.ts';

const run = (args: string[]) =>
  spawnSync(process.execPath, [join(packageRoot, 'bin/matgan.mjs'), 'gradcheck', ...args], { encoding: 'utf8' });

/** Rows of a module in plain JavaScript: y = 2x by a kernel of its own. */
const twice = (shader: string): string => `
const kernel = { files: [${JSON.stringify(shader)}], entry: 'main', bindings: ['read', 'write'] };
export const ops = {
  twice: {
    summary: '2x',
    shape: ([x]) => x.shape,
    vjp: (node, g) => [() => g.graph.apply('scale', [g], { a: 2, b: 0 })],
    reference: ([x], attrs, out) => x.data.forEach((v, i) => { out.data[i] = 2 * v; }),
    roundings: () => 1,
    lowering: { kernels: (node) => {
      const size = node.shape[0];
      return { temps: [], calls: [{ kernel, params: [size, { f32: 2 }], workgroups: [Math.ceil(size / 64), 1, 1], buffers: [{ input: 0 }, 'out'] }] };
    } },
    samples: [{ inputs: [{ shape: [130], draw: 'normal' }] }],
    errors: [],
  },
};
`;

/** A module file of this text. */
function moduleOf(text: string, name = 'own.mjs'): string {
  const file = join(temporaryFolder(), name);
  writeFileSync(file, text);
  return file;
}

describe('matgan gradcheck --module', () => {
  // In this process, as far as nothing runs: a process of its own takes seconds.
  const refused = (...args: string[]) =>
    expect(
      gradcheck()
        .exitOverride()
        .parseAsync(['--device', 'reference', ...args], { from: 'user' }),
    ).rejects;

  it.each<[string, string, RegExp]>([
    ['no ops', 'export const table = {};', /own\.mjs: it exports no ops; write export const ops/],
    ['an empty table', 'export const ops = {};', /its table of ops is empty/],
    ['no table', 'export const ops = 3;', /its ops are no table/],
    ['a default export that is no row', 'export default { a: 1 };', /op a: it is no row of a table but 1/],
    ['an error of its own', 'throw new Error("two\\nlines");', /own\.mjs can't be loaded: two lines$/],
    ['a clash of names', 'export const ops = { relu: {} };', /op relu: the engine has an op of this name/],
  ])('%s is refused', async (_, text, message) => {
    const file = moduleOf(text);
    await refused('--module', file).toThrow(ConfigError);
    await refused('--module', file).toThrow(message);
  });

  it('a file that is not there, a folder, an op that is in neither table', async () => {
    await refused('--module', 'nosuch.ts').toThrow(/gradcheck: nosuch\.ts: there is no such module/);
    await refused('--module', temporaryFolder()).toThrow(/it is a folder, not a module/);
    await refused('--module', moduleOf(twice('/x.wgsl')), '--op', 'twise').toThrow(
      /no op twise \(did you mean twice\?\)/,
    );
  });

  it('a syntax error ends with one line and 2', () => {
    for (const name of ['own.mjs', 'own.ts']) {
      const { status, stdout, stderr } = run(['--module', moduleOf('export const ops = {;', name)]);
      expect(status).toBe(2);
      expect(stdout).toBe('');
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stderr).toMatch(new RegExp(`^ConfigError: gradcheck: .*${name} can't be loaded: `));
    }
  });

  it('--model and its options do not go with those of ops', async () => {
    await refused('--model', 'demo', '--op', 'relu').toThrow(/--model checks a whole model/);
    await refused('--batch', '2').toThrow(/--batch is for --model/);
    await refused('--model', 'demi').toThrow(/preset demi: there is none \(did you mean demo\?\)/);
  });
});

describe('a table of one’s own, checked at run time', () => {
  const row = {
    summary: 'x',
    shape: () => [],
    vjp: { none: 'why' },
    reference: () => {},
    roundings: () => 0,
    lowering: { view: () => 0 },
    samples: [{ inputs: [{ shape: [2], draw: 'normal' }] }],
    errors: [],
  };
  const check = (change: object) => () => checkTable({ mine: { ...row, ...change } }, 'own.ts');

  it('a right one passes', () => {
    expect(check({})).not.toThrow();
    expect(check({ dtype: 'u32', inputTypes: ['f32'], lowering: { kernels: () => 0, inPlace: 0 } })).not.toThrow();
  });

  it.each(Object.keys(row))('%s is missing', (field) => {
    expect(check({ [field]: undefined })).toThrow(new RegExp(`^own\\.ts: op mine: ${field} is missing; it takes `));
    expect(check({ [field]: 7 })).toThrow(new RegExp(`^own\\.ts: op mine: ${field} is 7; it takes `));
  });

  it.each<[string, object, RegExp]>([
    ['an unknown field', { gradient: 1 }, /gradient is no field; there are summary, /],
    ['two lowerings', { lowering: { view: () => 0, expand: () => 0 } }, /lowering is .*one function/],
    ['a view in place', { lowering: { view: () => 0, inPlace: 0 } }, /lowering is/],
    ['no samples', { samples: [] }, /samples is \[\]; it takes a list of at least one/],
    ['a sample without inputs', { samples: [{}] }, /samples\[0\] is \{\}; it takes \{ inputs/],
    ['a shape with 0', { samples: [{ inputs: [{ shape: [0], draw: 'normal' }] }] }, /samples\[0\]\.inputs\[0\] is/],
    [
      'an unknown draw',
      { samples: [{ inputs: [{ shape: [1], draw: 'odd' }] }] },
      /draw is "odd"; it takes normal, away/,
    ],
    ['too few values', { samples: [{ inputs: [{ shape: [2], values: [1] }] }] }, /values are no list of 2 numbers/],
    ['an error without a message', { errors: [{ shapes: [[1]] }] }, /errors\[0\] is .*it takes \{ shapes/],
    ['a type', { dtype: 'f16' }, /dtype is "f16"; it takes 'f32' or 'u32'/],
  ])('%s', (_, change, message) => {
    expect(check(change)).toThrow(ConfigError);
    expect(check(change)).toThrow(message);
  });

  it('a name of the engine’s', () => {
    expect(() => checkTable({ dense: row }, 'x')).toThrow(/op dense: the engine has an op of this name/);
    expect(() => checkTable({ variable: row }, 'x')).toThrow(/taken by a leaf/);
  });
});

describeGpu('matgan gradcheck --module on a GPU', () => {
  const shader = pathToFileURL(join(packageRoot, 'test/kernels/doubled.wgsl')).href;

  it('checks the ops of a plain module, and those alone', () => {
    const { status, stdout } = run(['--module', moduleOf(twice(shader)), '--json']);
    expect(status).toBe(0);
    const rows = JSON.parse(stdout);
    expect(rows).toHaveLength(5);
    expect(new Set(rows.map(({ op }: { op: string }) => op))).toEqual(new Set(['twice']));
    for (const row of rows) expect(row).toMatchObject(row.executor === 'gpu' ? { deterministic: true } : {});
    expect(rows[0].samples).toBeGreaterThan(5);
  });

  it.each<[string, string, RegExp]>([
    [
      'does not exist',
      shader.replace('doubled', 'nosuch'),
      /^ShaderError: .*nosuch\.wgsl: this shader can't be read: /,
    ],
    [
      'does not compile',
      shader.replace('doubled', 'broken'),
      /^ShaderError: .*broken\.wgsl:7: .*wrongName.* \| y\[id\.x\]/,
    ],
    ['is named relatively', 'own.wgsl', /^ShaderError: shader own\.wgsl: it takes a name in shaders\/, or an absolute/],
  ])('a shader that %s is the user’s mistake', (_, file, message) => {
    const { status, stderr } = run(['--module', moduleOf(twice(file)), '--device', 'gpu']);
    expect(status).toBe(2);
    const lines = stderr.split('\n').filter((line) => line && !line.startsWith('Warning'));
    expect(lines.at(-1)).toMatch(message);
  });
});
