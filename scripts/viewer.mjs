// `npm run viewer`: the script of a map's page, src/report/map/viewer.ts and what it imports in one file that browsers run,
// data/viewer/map.js. It is in version control, so that a map needs no bundler; a test says when it is out of date.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
export const viewerFile = join(root, 'data/viewer/map.js');

/** The bundle's text: the same for the same sources. */
export async function bundleViewer() {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['src/report/map/viewer.ts'],
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    write: false,
    banner: { js: '// Made by scripts/viewer.mjs from src/report/map/viewer.ts; wgpu-matrix is MIT, Gregg Tavares.' },
  });
  return outputFiles[0].text;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  mkdirSync(join(root, 'data/viewer'), { recursive: true });
  writeFileSync(viewerFile, await bundleViewer());
}
