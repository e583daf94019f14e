import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ShaderError } from '../../src/errors.ts';
import { type Device, openDevice } from '../../src/kernels/device.ts';
import { compileModule, type Kernel, PipelineCache, shaderSource } from '../../src/kernels/kernel.ts';
import { subgroupKernels } from '../../src/kernels/subgroup.ts';
import { kernels } from '../../src/kernels/table.ts';
import { tiledKernels } from '../../src/kernels/tile.ts';
import { treesKernels } from '../../src/kernels/trees.ts';
import { tsneKernels } from '../../src/kernels/tsne.ts';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';

/** A shader of one's own, as a row names it. */
const broken = new URL('./broken.wgsl', import.meta.url).href;

describeGpu('shaders', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ limits: 'default' });
  });
  afterAll(() => device.destroy());

  it.each(Object.entries<Kernel>({ ...kernels, ...treesKernels, ...tsneKernels }))(
    '%s compiles',
    async (_, { files }) => {
      await expect(compileModule(device, files)).resolves.toBeDefined();
    },
  );

  it.for(
    [...tiledKernels(), ...subgroupKernels()].map(
      (kernel) => [`${kernel.files.join('+')}:${kernel.entry}`, kernel] as const,
    ),
  )('%s compiles', async ([, { files }], { skip }) => {
    skip(files[0] === 'enableSubgroups' && !device.features.has('subgroups'), 'the adapter has no subgroups');
    await expect(compileModule(device, files)).resolves.toBeDefined();
  });

  it('every file of shaders/ is used, and by the names in the table', () => {
    const all = [
      ...Object.values<Kernel>({ ...kernels, ...treesKernels, ...tsneKernels }),
      ...tiledKernels(),
      ...subgroupKernels(),
    ];
    const used = new Set(all.flatMap(({ files }) => files));
    const found = readdirSync(`${packageRoot}/shaders`).map((name) => name.replace(/\.wgsl$/, ''));
    // The ceilings are measured by two kernels of their own; `scatter` draws.
    expect(found.filter((name) => !used.has(name)).sort()).toEqual(['ceiling_copy', 'ceiling_fma', 'scatter']);
    for (const name of [...used, 'scatter'])
      expect(shaderSource(name).startsWith('//'), `${name}.wgsl opens with its maths`).toBe(true);
  });

  it.each([
    ['alone', [broken]],
    ['after another file', ['philox', broken]],
  ])('a fault shows file, line and text: %s', async (_, files) => {
    const kernel: Kernel = { files, entry: 'main', bindings: ['read', 'write'] };
    const failure = new PipelineCache(device).get(kernel);
    await expect(failure).rejects.toThrow(ShaderError);
    await expect(failure).rejects.toThrow(
      /test\/kernels\/broken\.wgsl:7: .*wrongName.*\| y\[id\.x\] = x\[id\.x\] \+ wrongName;/,
    );
    // The device is as good as before.
    device.check();
  });

  it('a fault in the first of two files is placed in the first', async () => {
    await expect(compileModule(device, [broken, 'philox'])).rejects.toThrow(/broken\.wgsl:7: /);
  });

  it('an entry point or a constant that is not there is a ShaderError', async () => {
    const cache = new PipelineCache(device);
    await expect(cache.get({ ...kernels.copy, entry: 'none' })).rejects.toThrow(ShaderError);
    await expect(cache.get(kernels.copy, { NOSUCH: 1 })).rejects.toThrow(/copy:main:\{"NOSUCH":1\}/);
    device.check();
  });

  it.each([
    ['a path that is not absolute', '../test/kernels/broken.wgsl'],
    ['a name that leaves shaders/', '../test/kernels/broken'],
    ['a URL of something else', new URL('./lower.test.ts', import.meta.url).href],
  ])('%s is refused', async (_, file) => {
    await expect(compileModule(device, [file])).rejects.toThrow(
      /it takes a name in shaders\/, or an absolute path or file URL that ends in \.wgsl/,
    );
  });

  it('a shader of one’s own may be named by its path, and one that is missing is the user’s mistake', async () => {
    await expect(compileModule(device, [fileURLToPath(broken)])).rejects.toThrow(/test\/kernels\/broken\.wgsl:7: /);
    const missing = compileModule(device, [broken.replace('broken', 'nosuch')]);
    await expect(missing).rejects.toThrow(/^test\/kernels\/nosuch\.wgsl: this shader can't be read: ENOENT/);
    await expect(missing).rejects.toMatchObject({ userMistake: true });
    await expect(compileModule(device, ['nosuch'])).rejects.toMatchObject({ userMistake: false });
  });

  it('equal kernels with equal constants are compiled once', async () => {
    const cache = new PipelineCache(device);
    const [a, b, c] = await Promise.all([
      cache.get(kernels.unary, { FUNCTION: 1 }),
      cache.get(kernels.unary, { FUNCTION: 1 }),
      cache.get(kernels.unary, { FUNCTION: 2 }),
    ]);
    expect(a).toBe(b);
    expect(c).not.toBe(a);
    expect(cache.size).toBe(2);
  });
});
