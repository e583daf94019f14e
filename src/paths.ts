import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds package.json, shaders/, data/ and models/: the same from src/ under tsx and from dist/src/. */
export const packageRoot: string = (() => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) || !existsSync(join(folder, 'shaders'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('matgan: cannot find its own package.json beside shaders/');
    folder = parent;
  }
  return folder;
})();
