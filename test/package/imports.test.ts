import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

// Imports run one way: shaders <- kernels <- autograd <- models <- report, cli; chem knows nothing of the GPU.
const root = fileURLToPath(new URL('../..', import.meta.url));

/** What each folder of src/ may import from, besides itself, src/errors.ts and src/paths.ts. */
const allowed: Record<string, readonly string[]> = {
  kernels: [],
  autograd: ['kernels'],
  chem: [],
  models: ['kernels', 'autograd', 'chem'],
  report: ['kernels', 'autograd', 'chem', 'models'],
  cli: ['kernels', 'autograd', 'chem', 'models', 'report'],
};
const shared = new Set(['errors.ts', 'paths.ts']);

interface SourceFile {
  /** Inside src/, with forward slashes. */
  path: string;
  text: string;
}

/** One line for each import that runs the wrong way. */
function violations(files: readonly SourceFile[]): string[] {
  const found: string[] = [];
  for (const { path, text } of files) {
    const [folder, ...rest] = path.split('/');
    // Type-only and dynamic imports count: an understanding of the lower layer must not need the upper one.
    for (const { fileName: target } of ts.preProcessFile(text, true, true).importedFiles) {
      if (!target.startsWith('.')) {
        if (target === 'webgpu' && folder !== 'kernels') found.push(`${path}: only kernels/ may import ${target}`);
        continue;
      }
      const resolved = posix.join(posix.dirname(path), target);
      if (resolved.startsWith('..')) found.push(`${path}: ${target} lies outside src/`);
      else if (shared.has(path)) found.push(`${path}: imports ${target}, must import nothing`);
      else if (shared.has(resolved) || rest.length === 0) continue;
      else {
        const to = resolved.split('/')[0];
        if (!(folder in allowed)) found.push(`${path}: the folder ${folder}/ has no rule in this test`);
        else if (to !== folder && !allowed[folder].includes(to))
          found.push(`${path}: ${folder}/ may not import ${target}`);
      }
    }
  }
  return found;
}

const sources: SourceFile[] = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path, text: readFileSync(join(root, 'src', path), 'utf8') }));

describe('imports', () => {
  it('run one way in every file of src/', () => {
    expect(sources.length).toBeGreaterThan(10);
    expect(violations(sources)).toEqual([]);
  });

  it.each<[string, string, string]>([
    ['kernels/x.ts', "import type { Graph } from '../autograd/graph.ts';", 'kernels/ may not import'],
    ['chem/x.ts', "const k = await import('../kernels/device.ts');", 'chem/ may not import'],
    ['autograd/ops/x.ts', "export * from '../../models/gan.ts';", 'autograd/ may not import'],
    ['models/x.ts', "import '../cli/main.ts';", 'models/ may not import'],
    ['report/x.ts', "import { note } from '../cli/common.ts';", 'report/ may not import'],
    ['models/x.ts', "import { create } from 'webgpu';", 'only kernels/'],
    ['errors.ts', "import './paths.ts';", 'must import nothing'],
    ['cli/x.ts', "import '../../bench/run.ts';", 'outside src/'],
    ['newcomer/x.ts', "import '../models/gan.ts';", 'no rule'],
  ])('a planted violation is seen: %s %s', (path, text, message) => {
    const found = violations([{ path, text }]);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(message);
  });

  it('lets through what is allowed, and does not read comments or strings', () => {
    const text = `import { ShapeError } from '../errors.ts';
      import { grad } from '../autograd/grad.ts';
      import { parse } from '../chem/formula.ts';
      // import '../cli/main.ts';
      const text = "import '../cli/main.ts'";`;
    expect(violations([{ path: 'models/x.ts', text }])).toEqual([]);
  });

  it('every relative import names a file that exists', () => {
    const known = new Set(sources.map(({ path }) => path));
    const missing = sources.flatMap(({ path, text }) =>
      ts
        .preProcessFile(text, true, true)
        .importedFiles.map(({ fileName }) => fileName)
        .filter((target) => target.startsWith('.') && !known.has(posix.join(dirname(path), target)))
        .map((target) => `${path}: ${target}`),
    );
    expect(missing).toEqual([]);
  });
});
