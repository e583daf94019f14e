/** Hostile run folders: links, pipes, folders and nonsense where a run's own files belong. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { bestName, checkpointName, findCheckpoint, logName } from '../../src/models/run.ts';
import { readLog } from '../../src/report/log.ts';
import { leastConfig, leastRun, wholeCheckpoint } from './checkpoints.ts';
import { Choose } from './choose.ts';
import { hold, type Tally } from './tally.ts';

export const names = ['config.json', logName, 'lock', checkpointName, bestName] as const;

/** What may lie at a name; `outside` is a folder that nothing may be written to. */
export const obstacles: Record<string, (path: string, outside: string, choose: Choose) => void> = {
  'a link to a file outside': (path, outside) => symlinkSync(join(outside, 'secret'), path),
  'a link to nothing outside': (path, outside) => symlinkSync(join(outside, 'new'), path),
  'a link to a folder outside': (path, outside) => symlinkSync(outside, path),
  'a link to /dev/zero': (path) => symlinkSync('/dev/zero', path),
  'a link to itself': (path) => symlinkSync(path, path),
  'a link to /dev/full': (path) => symlinkSync('/dev/full', path),
  'a folder': (path) => mkdirSync(path),
  'a folder with something in it': (path) => {
    mkdirSync(path);
    writeFileSync(join(path, 'x'), 'x');
  },
  'a pipe': (path) => void spawnSync('mkfifo', [path]),
  nothing: () => {},
  'an empty file': (path) => writeFileSync(path, ''),
  garbage: (path, _, choose) => writeFileSync(path, choose.bytes(choose.size(5000))),
  '8 GB of zeros': (path) => {
    writeFileSync(path, '');
    truncateSync(path, 2 ** 33);
  },
  '5 MB without a line break': (path) => writeFileSync(path, '{'.repeat(5_000_000)),
  'lines of nonsense': (path) =>
    writeFileSync(
      path,
      ['null', '[]', '{"step":"1"}', '{"step":1}', '{"step":0,"x":"<b>"}', '{"step":1e999}', ''].join('\n'),
    ),
};

/** Everything in a folder, by name, kind and bytes. */
function state(folder: string): string {
  return readdirSync(folder)
    .sort()
    .map((name) => {
      const path = join(folder, name);
      return `${name} ${lstatSync(path).mode} ${lstatSync(path).isFile() ? readFileSync(path, 'hex') : ''}`;
    })
    .join('\n');
}

/**
 * Resumes (or starts) in a folder with obstacles, and holds that nothing outside of it changes and that the run is whole where it
 * goes through.
 */
export async function checkRun(
  scratch: string,
  whole: Buffer,
  put: Partial<Record<string, string>>,
  choose: Choose,
): Promise<void> {
  const folder = mkdtempSync(join(scratch, 'run-'));
  const outside = mkdtempSync(join(scratch, 'outside-'));
  writeFileSync(join(outside, 'secret'), '{"step":1}\n{"step":2}\nkeep\n');
  writeFileSync(join(folder, checkpointName), whole);
  for (const [name, kind] of Object.entries(put)) {
    rmSync(join(folder, name), { force: true });
    obstacles[kind!](join(folder, name), outside, choose);
  }
  const before = state(outside);
  try {
    const from = findCheckpoint(folder);
    await leastRun(folder, { from, config: leastConfig(), sampleEvery: 1, sampleSize: 3, best: 'new' });
    readLog(join(folder, logName));
    hold(findCheckpoint(folder).step === 3, 'a run that ended without its checkpoint');
    for (const name of ['config.json', logName, checkpointName, bestName]) {
      hold(lstatSync(join(folder, name)).isFile(), `${name} is no plain file after a run`);
    }
    hold(!existsSync(join(folder, 'lock')), 'the lock is still there');
  } finally {
    hold(state(outside) === before, 'something outside the folder was changed');
    hold(!readdirSync(folder).some((name) => name.includes('.tmp-')), 'a half-written file was left');
    rmSync(folder, { recursive: true, force: true });
    rmSync(outside, { recursive: true, force: true });
  }
}

export async function fuzzRuns(tally: Tally, scratch: string, count: number, seed: number): Promise<void> {
  const choose = new Choose(seed, 'runs');
  const whole = await wholeCheckpoint(scratch);
  const attempt = (put: Partial<Record<string, string>>): Promise<void> =>
    tally.attemptAsync(
      () => JSON.stringify(put),
      () => checkRun(scratch, whole, put, choose),
      2 ** 24,
    );
  // Each obstacle at each name by itself, then several at once.
  const kinds = Object.keys(obstacles);
  for (const name of names) for (const kind of kinds) await attempt({ [name]: kind });
  for (let i = 0; i < count; i++) {
    const put: Partial<Record<string, string>> = {};
    for (let n = 2 + choose.below(2); n > 0; n--) put[choose.of(names)] = choose.of(kinds);
    await attempt(put);
  }
}
