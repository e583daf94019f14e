/** The paper's sets from the real files: every count and fingerprint of docs/data.md. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { dataSets, fingerprintTable, makeDataSet, partsTable, rulesTable } from '../../scripts/data-sets.ts';
import { packageRoot } from '../../src/paths.ts';
import { sharedData } from './shared-data.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-sets-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const doc = readFileSync(join(packageRoot, 'docs/data.md'), 'utf8');

describe('docs/data.md', () => {
  for (const set of dataSets) {
    const raw = sharedData(set.from);
    it.skipIf(!raw)(
      `${set.name} from ${set.from} has the counts and fingerprints told${raw ? '' : ' (file missing)'}`,
      async () => {
        const made = await makeDataSet(set, dirname(raw!), folder);
        expect(made.info).toMatchObject({ verified: true, fingerprint: made.prepared.fingerprint });
        expect(made.training.verified).toBe(true);
        expect(doc).toContain(`${rulesTable(made)}\n`);
        for (const line of [...partsTable([made]).split('\n'), ...fingerprintTable([made]).split('\n')])
          expect(doc).toContain(`${line}\n`);
      },
    );
  }
});
