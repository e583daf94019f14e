import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hashRow, PackedSet, rowWords } from './encoding.ts';

/**
 * Which rows of a long stream are the first of their kind, in bounded memory.
 *
 * Formulas are members of a `PackedSet` until that has as many as fit. From then on it grows no more: what is a
 * member is a repeat for certain, and everything else goes to one of 64 files, by its hash, with its place in the stream. In the
 * end each file, which holds 1/64 of those rows, is searched for repeats by itself, and what is left of all of them is merged by
 * place. So the first ones come out in the order of the stream whether or not files were needed, and whatever the bound is.
 */

/** Bytes of memory for each member, at the worst moment: its row, its slots, and the copy while an array grows. */
const bytesPerMember = 60;
const partitions = 64;
/** Words of a record in a file: the row, and its place in two halves. */
const recordWords = rowWords + 2;
const bufferedRecords = 2048;

/** Receives the first rows of their kind. */
export type FirstSink = (words: Uint32Array, row: number) => void;

export class Repeats {
  private readonly set = new PackedSet();
  private readonly most: number;
  private readonly folder: string;
  private files: Partition[] = [];
  /** Rows looked at so far. */
  private place = 0;

  /**
   * @param bytes memory for members: about a sixtieth as many formulas fit before files are used, and 64 times that before
   *   a file's own search takes more. @param folder a folder to make for the files when they are needed.
   */
  constructor(bytes: number, folder: string) {
    this.most = Math.max(16, Math.floor(bytes / bytesPerMember));
    this.folder = folder;
  }

  /** Different formulas known so far; those in files are not among them. */
  get known(): number {
    return this.set.size;
  }

  /** True once files are in use. */
  get spilled(): boolean {
    return this.files.length > 0;
  }

  /**
   * Looks at the next row.
   * @returns the formula's number, from 0 in the order of arrival; `known` has grown by one where it is the first of its kind.
   *   -1 where nobody can tell before `rest`
   */
  add(words: Uint32Array, row: number): number {
    const place = this.place++;
    if (this.set.size < this.most) return this.set.insert(words, row);
    const member = this.set.indexOf(words, row);
    if (member >= 0) return member;
    if (this.files.length === 0) {
      mkdirSync(this.folder);
      for (let i = 0; i < partitions; i++) this.files.push(new Partition(join(this.folder, String(i))));
    }
    // The high bits: a set's slots follow from the low ones, and a file's rows must spread over them.
    this.files[hashRow(words, row) >>> 26].append(words, row, place);
    return -1;
  }

  /** Hands over, in order, the first of each kind among the rows that `add` left open. */
  rest(sink: FirstSink): void {
    for (const record of this.firsts()) sink(record, 0);
  }

  /** `rest` for whoever has to wait between rows: one packed row after the other, each valid until the next. */
  *firsts(): Generator<Uint32Array> {
    if (this.files.length === 0) return;
    for (const file of this.files) file.dropRepeats();
    const heads = this.files.filter((file) => file.next());
    while (heads.length > 0) {
      let first = 0;
      for (let i = 1; i < heads.length; i++) if (heads[i].place < heads[first].place) first = i;
      yield heads[first].record;
      if (!heads[first].next()) heads.splice(first, 1);
    }
  }

  /** Removes the files. */
  close(): void {
    for (const file of this.files) file.close();
    this.files = [];
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A file of rows with their places, ascending. */
class Partition {
  private readonly file: number;
  private readonly buffer = new Uint32Array(bufferedRecords * recordWords);
  /** Words in the buffer, and the next of them to be read. */
  private filled = 0;
  private at = 0;
  private readAt = 0;
  private writtenAt = 0;
  /** The record that `next` found: the row's words first. */
  readonly record = new Uint32Array(recordWords);

  constructor(path: string) {
    this.file = openSync(path, 'wx+', 0o600);
  }

  get place(): number {
    return this.record[rowWords] + this.record[rowWords + 1] * 2 ** 32;
  }

  append(words: Uint32Array, row: number, place: number): void {
    const { buffer, filled } = this;
    for (let i = 0; i < rowWords; i++) buffer[filled + i] = words[row * rowWords + i];
    buffer[filled + rowWords] = place;
    buffer[filled + rowWords + 1] = Math.floor(place / 2 ** 32);
    this.filled += recordWords;
    if (this.filled === buffer.length) this.flush(this.filled);
  }

  private flush(words: number): void {
    const bytes = new Uint8Array(this.buffer.buffer, 0, 4 * words);
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(this.file, bytes, at, bytes.length - at, this.writtenAt + at);
    }
    this.writtenAt += bytes.length;
    this.filled = 0;
  }

  /** Keeps the first of each kind; then the file is read from its beginning. */
  dropRepeats(): void {
    this.flush(this.filled);
    const end = this.writtenAt;
    this.writtenAt = 0;
    const seen = new PackedSet();
    while (this.readAt < end) {
      const words = this.fill(end);
      // Those that stay move to the front of the buffer, and the buffer to the front of the file: never past what was read.
      let kept = 0;
      for (let from = 0; from < words; from += recordWords) {
        this.record.set(this.buffer.subarray(from, from + recordWords));
        if (!seen.add(this.record, 0)) continue;
        this.buffer.set(this.record, kept);
        kept += recordWords;
      }
      this.flush(kept);
    }
    ftruncateSync(this.file, this.writtenAt);
    this.readAt = 0;
  }

  /** Reads the next records into the buffer; the number of words. */
  private fill(end: number): number {
    const bytes = new Uint8Array(this.buffer.buffer, 0, Math.min(this.buffer.byteLength, end - this.readAt));
    let got = 0;
    while (got < bytes.length) {
      const n = readSync(this.file, bytes, got, bytes.length - got, this.readAt + got);
      if (n === 0) throw new Error(`a temporary file of ${end} bytes ends at ${this.readAt + got}`);
      got += n;
    }
    this.readAt += got;
    return got / 4;
  }

  /** Moves to the next record; false at the end. */
  next(): boolean {
    if (this.at === this.filled) {
      if (this.readAt === this.writtenAt) return false;
      this.filled = this.fill(this.writtenAt);
      this.at = 0;
    }
    for (let i = 0; i < recordWords; i++) this.record[i] = this.buffer[this.at + i];
    this.at += recordWords;
    return true;
  }

  close(): void {
    closeSync(this.file);
  }
}
