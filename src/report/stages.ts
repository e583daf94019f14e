/** Work that goes on where it was interrupted: results of its parts, kept in a folder until all is done. */
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DataError } from '../errors.ts';
import { replaceFile } from '../models/files.ts';

/** Folder inside the results' folder. */
export const stagesName = '.stages';

const digest = (...parts: (string | Uint8Array)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/**
 * Parts of one piece of work, each a file of its own: a checksum over key, name and contents, then the contents. A file that was cut
 * short, changed, or belongs to other inputs (another key) does not fit its checksum and counts as not there.
 */
export class Stages {
  private readonly folder: string;
  private readonly key: string;
  /** Parts that were there already. */
  reused = 0;

  /**
   * @param out folder of the results, made where it is not there. @param key says everything that the results follow from
   * @throws DataError where the folder for the parts is something else
   */
  constructor(out: string, key: unknown) {
    this.folder = join(out, stagesName);
    this.key = JSON.stringify(key);
    mkdirSync(out, { recursive: true });
    const found = lstatSync(this.folder, { throwIfNoEntry: false });
    if (found && !found.isDirectory()) throw new DataError(`${this.folder}: it is no folder; remove it`);
    mkdirSync(this.folder, { recursive: true });
  }

  /** Keeps bytes. @throws DataError where they cannot be written */
  write(name: string, bytes: Uint8Array): void {
    replaceFile(this.path(name), [digest(this.key, name, bytes), bytes]);
  }

  /** Bytes that were kept; undefined where there are none that are whole and of this work. */
  read(name: string): Uint8Array<ArrayBuffer> | undefined {
    const path = this.path(name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (!found?.isFile() || found.size < 32) return undefined;
    // Aligned, so that it can be read as words.
    const bytes = new Uint8Array(found.size);
    const file = openSync(path, 'r');
    try {
      let at = 0;
      for (let got = 1; got > 0 && at < bytes.length; at += got) got = readSync(file, bytes, at, bytes.length - at, at);
      if (at !== bytes.length) return undefined;
    } finally {
      closeSync(file);
    }
    const contents = bytes.subarray(32);
    if (!digest(this.key, name, contents).equals(bytes.subarray(0, 32))) return undefined;
    this.reused++;
    return contents;
  }

  /** The result of some work, which is done only where it was not kept. Either way it has been through JSON. */
  run = <T>(name: string, work: () => T): T => {
    const kept = this.read(name);
    if (kept) return JSON.parse(Buffer.from(kept).toString('utf8')) as T;
    const text = JSON.stringify(work());
    this.write(name, Buffer.from(text));
    return JSON.parse(text) as T;
  };

  /** Removes what was kept: the work is done. */
  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private path(name: string): string {
    return join(this.folder, `${name.replace(/[^\w-]+/g, '-')}.part`);
  }
}
