/** The document on ops of one's own: its example passes, and each fault that it plants gives the message that it shows. */
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/paths.ts';
import { describeGpu } from '../gpu.ts';
import { temporaryFolder } from '../models/tiny.ts';

const text = readFileSync(join(packageRoot, 'docs/own-op.md'), 'utf8');

/** Each fault: the file, the line in it, the line in its place, and the failure that is shown below. */
const faults = [...text.matchAll(/```diff\n\/\/ (\S+)\n-(.*)\n\+(.*)\n```\n\n```console\n.*\n…\n(FAIL .*)\n/g)].map(
  ([, file, before, after, failure]) => ({ file: basename(file), before, after, failure }),
);

/** Runs the command that the document shows on a copy of the example. */
function check(change?: (typeof faults)[number]) {
  const folder = temporaryFolder();
  cpSync(join(packageRoot, 'docs/own-op'), folder, { recursive: true });
  const edit = (file: string, before: string, after: string): void => {
    const source = readFileSync(join(folder, file), 'utf8');
    expect(source.split(before), `${file}: ${before}`).toHaveLength(2);
    writeFileSync(join(folder, file), source.replace(before, after));
  };
  edit('dense-swish.ts', '../../src/index.ts', pathToFileURL(join(packageRoot, 'src/index.ts')).href);
  if (change) edit(change.file, `${change.before}\n`, `${change.after}\n`);
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const args = ['gradcheck', '--module', join(folder, 'dense-swish.ts'), '--device', 'gpu'];
  return spawnSync(process.execPath, [join(packageRoot, 'bin/matgan.mjs'), ...args], { encoding: 'utf8' });
}

/** A message with its numbers to four digits: another adapter rounds differently. */
const rounded = (message: string): string =>
  message.replace(/-?\d+\.\d+(e-?\d+)?/g, (number) => Number(number).toPrecision(4));

describeGpu('docs/own-op.md', () => {
  it('its example passes, with the rows shown', () => {
    const { status, stdout, stderr } = check();
    expect(status).toBe(0);
    expect(stderr).toContain('all 5 checks pass');
    for (const order of [0, 1, 2]) expect(stdout).toMatch(new RegExp(`denseSwish │ +${order} │`));
  });

  it('it plants five faults, in rules and kernel, of first and second order', () => {
    expect(faults.map(({ failure }) => /order \d/.exec(failure)![0])).toEqual(
      [1, 0, 1, 2, 0].map((order) => `order ${order}`),
    );
  });

  it.each(faults)('$after', (fault) => {
    const { status, stdout } = check(fault);
    expect(status).toBe(1);
    const failures = stdout.split('\n').filter((line) => line.startsWith('FAIL'));
    expect(failures.map(rounded)).toEqual([rounded(fault.failure)]);
  });
});
