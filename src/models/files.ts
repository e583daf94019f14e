/** Files of a run, written whole or not at all. */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { DataError } from '../errors.ts';

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
 * Writes a file whole or not at all: beside, to disk, then renamed over the previous one.
 * @throws DataError where it cannot be written (a full disk, no such folder); the previous file is untouched.
 */
export function replaceFile(path: string, parts: readonly Uint8Array[]): void {
  const temporary = temporaryName(path);
  let file: number | undefined;
  try {
    file = fs.openSync(temporary, 'w');
    writeAll(file, parts);
    fs.fsyncSync(file);
    fs.closeSync(file);
    file = undefined;
    fs.renameSync(temporary, path);
  } catch (cause) {
    if (file !== undefined) fs.closeSync(file);
    fs.rmSync(temporary, { force: true });
    throw new DataError(`${path}: cannot be written (${reason(cause)}); any file that was there is untouched`, {
      cause,
    });
  }
  syncFolder(dirname(path));
}

/**
 * Adds to the end of a file, which is made if it is not there.
 * @throws DataError where it cannot be written; the file is as long as it was.
 */
export function appendToFile(path: string, text: string): void {
  let file: number | undefined;
  try {
    file = fs.openSync(path, 'a');
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

function writeAll(file: number, parts: readonly Uint8Array[]): void {
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
