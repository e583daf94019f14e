/**
 * Files of a run folder, written whole or not at all. Whoever made the folder may have put links, pipes and nonsense where a
 * run's own files belong: nothing leads out of it.
 */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { DataError } from '../errors.ts';

const { O_APPEND, O_CREAT, O_NOFOLLOW = 0, O_NONBLOCK = 0, O_WRONLY } = fs.constants;

/** What went wrong with a file, in words. */
export const reason = (cause: unknown): string => {
  const { code, message } = cause as NodeJS.ErrnoException;
  const words: Record<string, string> = {
    ENOSPC: 'no space left on the disk',
    EDQUOT: 'the disk quota is used up',
    EFBIG: 'the file would be larger than the system allows',
    ENOENT: 'no such file or folder',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ELOOP: 'it is a link; remove it',
    EROFS: 'the disk is read-only',
  };
  return words[code ?? ''] ?? String(message).split('\n')[0];
};

/** The name under which a file is written before it takes its place; `isTemporary` knows it again. */
const temporaryName = (path: string): string => `${path}.tmp-${process.pid}`;

/** True for what a process that was killed while writing `name` can have left beside it. */
export const isTemporary = (entry: string, name: string): boolean =>
  entry.startsWith(`${name}.tmp-`) && /^\d+$/.test(entry.slice(name.length + 5));

/**
 * Writes a file whole or not at all: beside, to disk, then renamed over the previous one, a link included.
 * @throws DataError where it cannot be written (a full disk, no such folder); the previous file is untouched.
 */
export function replaceFile(path: string, parts: Iterable<Uint8Array>): void {
  const temporary = temporaryName(path);
  let file: number | undefined;
  try {
    // Made anew: a link of that name must not lead the bytes elsewhere.
    fs.rmSync(temporary, { force: true });
    file = fs.openSync(temporary, 'wx');
    writeAll(file, parts);
    fs.fsyncSync(file);
    fs.closeSync(file);
    file = undefined;
    fs.renameSync(temporary, path);
  } catch (cause) {
    if (file !== undefined) fs.closeSync(file);
    fs.rmSync(temporary, { force: true, recursive: true });
    throw new DataError(`${path}: cannot be written (${reason(cause)}); any file that was there is untouched`, {
      cause,
    });
  }
  syncFolder(dirname(path));
}

/**
 * Copies a file whole or not at all, a megabyte at a time.
 * @throws DataError where it cannot be written; what was at `to` is untouched
 */
export function copyWhole(from: string, to: string): void {
  const file = fs.openSync(from, 'r');
  try {
    replaceFile(
      to,
      (function* () {
        const chunk = Buffer.alloc(1 << 20);
        for (let size = fs.readSync(file, chunk); size > 0; size = fs.readSync(file, chunk)) {
          yield chunk.subarray(0, size);
        }
      })(),
    );
  } finally {
    fs.closeSync(file);
  }
}

/**
 * Adds to the end of a plain file, which is made if it is not there. No link is followed, and a pipe without a reader fails
 * instead of waiting.
 * @throws DataError where it cannot be written; the file is as long as it was.
 */
export function appendToFile(path: string, text: string): void {
  let file: number | undefined;
  try {
    file = fs.openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o666);
    const { size } = fs.fstatSync(file);
    try {
      writeAll(file, [Buffer.from(text)]);
    } catch (error) {
      fs.ftruncateSync(file, size);
      throw error;
    }
  } catch (cause) {
    throw new DataError(`${path}: cannot be written (${reason(cause)}); what was in it is untouched`, { cause });
  } finally {
    if (file !== undefined) fs.closeSync(file);
  }
}

/**
 * Checks that lines can be added to a file: it is a plain file or none.
 * @throws DataError
 */
export function checkPlain(path: string): void {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  if (found && !found.isFile()) {
    throw new DataError(`${path}: it is no plain file but a link, a folder or a pipe; remove it`);
  }
}

/** A million lines of a log. */
const largestLog = 200_000_000;
/** Longer than any line of ours. */
const longestLine = 65_536;

/**
 * Leaves out lines of a log, in little memory; what is longer than any line of ours goes too. A log that is right already is
 * left alone: on a full disk that works.
 * @throws DataError
 */
export function filterLines(path: string, keep: (line: string) => boolean): void {
  checkPlain(path);
  const found = fs.statSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (found.size > largestLog) throw new DataError(`${path}: ${found.size} bytes are too many for a log; remove it`);
  let kept = 0;
  for (const line of linesOf(path)) if (keep(line)) kept += Buffer.byteLength(line) + 1;
  if (kept === found.size) return;
  replaceFile(
    path,
    (function* () {
      for (const line of linesOf(path)) if (keep(line)) yield Buffer.from(`${line}\n`);
    })(),
  );
}

/** Lines of a file without their ends, but for those that are too long. */
function* linesOf(path: string): Generator<string> {
  const file = fs.openSync(path, 'r');
  try {
    const chunk = Buffer.alloc(longestLine);
    let rest = Buffer.alloc(0);
    let tooLong = false;
    for (let size = fs.readSync(file, chunk); size > 0; size = fs.readSync(file, chunk)) {
      const part = chunk.subarray(0, size);
      let from = 0;
      for (let end = part.indexOf(10); end >= 0; end = part.indexOf(10, from)) {
        if (!tooLong) yield Buffer.concat([rest, part.subarray(from, end)]).toString('utf8');
        tooLong = false;
        rest = Buffer.alloc(0);
        from = end + 1;
      }
      rest = Buffer.concat([rest, part.subarray(from)]);
      if (rest.length > longestLine) {
        tooLong = true;
        rest = Buffer.alloc(0);
      }
    }
    if (!tooLong && rest.length) yield rest.toString('utf8');
  } finally {
    fs.closeSync(file);
  }
}

function writeAll(file: number, parts: Iterable<Uint8Array>): void {
  for (const part of parts) {
    for (let at = 0; at < part.byteLength; ) at += fs.writeSync(file, part, at);
  }
}

/** Makes a rename survive a power cut; not every system lets a folder be opened. */
function syncFolder(folder: string): void {
  try {
    const handle = fs.openSync(folder, 'r');
    fs.fsyncSync(handle);
    fs.closeSync(handle);
  } catch {
    // The file itself is on disk; only the order of two directory writes is at the system's will.
  }
}
