/**
 * A lock file that one process at a time holds, and that a dead process holds no longer. It says who holds it: process
 * number, when that process started (numbers are used again; empty where the system does not tell), and a word of its own.
 */
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DataError } from '../errors.ts';
import { isTemporary, reason } from './files.ts';

/** What to tell who finds a folder taken. */
export const takenBy = (folder: string, owner: number): DataError =>
  new DataError(`${folder}: process ${owner} is training in it; wait, or take another folder`);

/** Locks of this process, by their text: it knows its own from those of a process before it that had the same number. */
const held = new Map<string, () => void>();

/** Gives back all that this process holds, for an end that runs nothing after it. */
export function releaseLocks(): void {
  for (const release of held.values()) release();
}
process.on('exit', releaseLocks);

/** The number of the live process that holds a lock, or undefined. */
export function lockOwner(file: string): number | undefined {
  const text = read(file);
  return text === undefined ? undefined : ownerOf(text);
}

/**
 * Takes a lock and returns what gives it back; it is also given back when the process ends by itself.
 * @throws DataError naming the live process that holds it, or where the folder can't be written
 */
export function takeLock(file: string): () => void {
  const mine = `${process.pid} ${startOf(process.pid) ?? ''} ${randomUUID()}`;
  // The text first, then the name, in one step: nobody ever reads a lock that does not say whose it is.
  const draft = `${file}.tmp-${process.pid}`;
  try {
    rmSync(draft, { force: true });
    writeFileSync(draft, mine, { flag: 'wx' });
    acquire(file, draft, mine);
    tidy(file, draft, mine);
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${dirname(file)}: it can't be written (${reason(cause)})`, { cause });
  } finally {
    rmSync(draft, { force: true });
  }
  const release = (): void => {
    held.delete(mine);
    if (read(file) === mine) rmSync(file, { force: true });
  };
  held.set(mine, release);
  return release;
}

/** How long a process may be in the middle of taking over a dead one's lock before it is called the owner. */
const patience = 2000;

function acquire(file: string, draft: string, mine: string): void {
  const since = performance.now();
  for (;;) {
    if (link(draft, file, mine)) return;
    const found = read(file);
    if (found === undefined) continue;
    const owner = ownerOf(found);
    if (owner !== undefined) {
      const takingOver = file.endsWith(takeover);
      if (!takingOver || performance.now() - since > patience) {
        throw takenBy(dirname(file), owner);
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      continue;
    }
    // A dead owner's. Only who holds a second lock may remove it, having seen it dead while holding that one: else two
    // could see the dead one, and the slower would remove the faster one's live lock. The second lock is taken in the
    // same way, so one whose holder died in these few lines blocks nobody either.
    const guard = `${file}${takeover}`;
    acquire(guard, draft, mine);
    try {
      const now = read(file);
      if (now !== undefined && ownerOf(now) === undefined) rmSync(file, { force: true });
    } finally {
      rmSync(guard, { force: true });
    }
  }
}
const takeover = '.takeover';

/** Gives the draft its name if that is free. */
function link(draft: string, file: string, mine: string): boolean {
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    // File systems without links, such as a memory card's: name first, then text.
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code ?? '')) throw error;
  }
  try {
    const handle = openSync(file, 'wx');
    writeSync(handle, mine);
    closeSync(handle);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** What a lock says; nothing where it is none of ours: a link is not followed, a pipe not waited for. */
function read(file: string): string | undefined {
  try {
    const found = lstatSync(file);
    return found.isFile() && found.size <= 200 ? readFileSync(file, 'utf8') : '';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Who wrote a lock, if that process is still there. */
function ownerOf(text: string): number | undefined {
  const [number, start] = text.split(' ');
  const pid = Number(number);
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  if (pid === process.pid) return held.has(text) ? pid : undefined;
  const now = startOf(pid);
  if (now === 'ended') return undefined;
  if (start && now !== undefined) return start === now ? pid : undefined;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined;
  }
}

/** When a process started, in the system's own count; undefined where it does not tell, or there is no such process. */
function startOf(pid: number): string | undefined {
  let fields: string[];
  try {
    // The second field is the program's name in brackets, which may hold anything.
    fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
  } catch {
    return undefined;
  }
  // One that was killed keeps its number until its parent asks after it.
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : fields[19];
}

/** Removes what processes left that were killed while they took the lock. Called by who holds it. */
function tidy(file: string, draft: string, mine: string): void {
  const guard = `${file}${takeover}`;
  if (existsSync(guard)) {
    acquire(guard, draft, mine);
    rmSync(guard, { force: true });
  }
  const drafts = `${basename(file)}.tmp-`;
  for (const entry of readdirSync(dirname(file))) {
    if (!isTemporary(entry, basename(file))) continue;
    if (ownerOf(entry.slice(drafts.length)) === undefined) rmSync(join(dirname(file), entry), { force: true });
  }
}
