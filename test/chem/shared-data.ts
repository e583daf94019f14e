import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/paths.ts';

/** Path of a file of real data, or null where it is not there; tests that need one then skip by name. */
export function sharedData(name: string): string | null {
  const path = join(process.env.MATGAN_DATA ?? join(packageRoot, '..', 'shared', 'data'), name);
  return existsSync(path) ? path : null;
}
