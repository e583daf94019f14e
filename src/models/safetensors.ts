/**
 * The safetensors format (github.com/huggingface/safetensors): eight bytes of header length, a JSON header, then the
 * tensors' bytes without gaps. Files from others are hostile: everything is checked before anything is allocated for it.
 */
import fs from 'node:fs';
import { CheckpointError, DataError, ShapeError } from '../errors.ts';
import { reason, replaceFile } from './files.ts';

/** One tensor: row-major elements, little-endian in the file. */
export type Tensor =
  | { dtype: 'F32'; shape: number[]; data: Float32Array }
  | { dtype: 'U32'; shape: number[]; data: Uint32Array }
  | { dtype: 'I32'; shape: number[]; data: Int32Array }
  | { dtype: 'U64'; shape: number[]; data: BigUint64Array };

export type TensorDType = Tensor['dtype'];

/** What is written in half the bytes: rounded to the nearest float16, ties to even. Read back it is F32 again. */
export interface HalfTensor {
  dtype: 'F16';
  shape: number[];
  data: Float32Array;
}

/** What a file holds; both records have no prototype, so any name is safe to look up. */
export interface Safetensors {
  tensors: Record<string, Tensor>;
  metadata: Record<string, string>;
}

const elementBytes: Record<TensorDType | 'F16', number> = { F32: 4, F16: 2, U32: 4, I32: 4, U64: 8 };
/** More than any model has: an array of millions is no shape. */
const mostDimensions = 16;
/** The format's own limit. */
const maxHeaderBytes = 100_000_000;

/**
 * Writes a file whole or not at all: beside, to disk, then renamed over the previous one.
 * @throws ShapeError where a tensor's data and shape disagree, or a name is none.
 * @throws DataError where a number is beyond F16, or the file cannot be written (a full disk, no such folder); the previous file is untouched.
 */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor | HalfTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const header: Record<string, unknown> = { __metadata__: metadata };
  const parts: Uint8Array[] = [];
  let end = 0;
  // Wide elements first: each tensor is then aligned for readers that map the file.
  const ordered = Object.entries(tensors).sort(([, a], [, b]) => elementBytes[b.dtype] - elementBytes[a.dtype]);
  for (const [name, { dtype, shape, data: values }] of ordered) {
    if (name === '__metadata__' || name === '__proto__')
      throw new ShapeError(`${path}: a tensor cannot be named ${name}`);
    const size = shape.reduce((product, d) => product * d, 1);
    if (size !== values.length) {
      throw new ShapeError(`${path}: tensor ${name} [${shape}] wants ${size} elements, not ${values.length}`);
    }
    const data = dtype === 'F16' ? halves(values as Float32Array, `${path}: tensor ${name}`) : values;
    header[name] = { dtype, shape, data_offsets: [end, end + data.byteLength] };
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    end += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  // Spaces up to a multiple of 8, so that the tensors are aligned for readers that map the file.
  const padding = Buffer.alloc((8 - (json.length % 8)) % 8, ' ');
  if (json.length + padding.length > maxHeaderBytes) {
    throw new DataError(`${path}: the header has ${json.length} bytes, the format allows ${maxHeaderBytes}`);
  }
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length + padding.length));

  replaceFile(path, [length, json, padding, ...parts]);
}

/**
 * Reads a file of F32, F16 (widened to F32), U32, I32 and U64 tensors. Stricter than the format asks: no unknown fields, no repeated names.
 * @throws CheckpointError naming the file and what is wrong with it.
 */
export function readSafetensors(path: string): Safetensors {
  const fail = (what: string, options?: ErrorOptions): never => {
    throw new CheckpointError(`${path}: ${what}`, options);
  };
  let file: number;
  try {
    // Asked before it is opened: opening a pipe would wait for its other end.
    if (!fs.statSync(path).isFile()) fail('is not a file; name a .safetensors file');
    file = fs.openSync(path, 'r');
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail(`cannot be read (${reason(cause)})`, { cause });
  }
  try {
    const { size } = fs.fstatSync(file);
    const read = (bytes: Uint8Array, position: number): void => {
      for (let at = 0; at < bytes.byteLength; ) {
        const count = fs.readSync(file, bytes, at, bytes.byteLength - at, position + at);
        if (count === 0) fail('became shorter while it was read');
        at += count;
      }
    };
    if (size < 10) fail(`has ${size} bytes, too few for a safetensors file; it is cut short or something else`);
    const length = Buffer.alloc(8);
    read(length, 0);
    const wanted = length.readBigUInt64LE();
    if (wanted > BigInt(maxHeaderBytes)) {
      fail(`asks for a header of ${wanted} bytes, more than the ${maxHeaderBytes} allowed; it is no safetensors file`);
    }
    if (wanted > BigInt(size - 8)) {
      fail(`has a header of ${wanted} bytes, but ${size - 8} follow; the file is cut short`);
    }
    const headerBytes = Buffer.alloc(Number(wanted));
    read(headerBytes, 8);
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(headerBytes);
    } catch (cause) {
      return fail('the header is not UTF-8 text', { cause });
    }
    const { entries, metadata } = new HeaderParser(text, fail).parse();
    const dataStart = 8 + headerBytes.length;
    checkLayout(entries, size - dataStart, fail);

    const tensors: Record<string, Tensor> = Object.create(null);
    for (const [name, { dtype, shape, from, to }] of entries) {
      const bytes = new ArrayBuffer(to - from);
      read(new Uint8Array(bytes), dataStart + from);
      if (dtype === 'F16') tensors[name] = { dtype: 'F32', shape, data: widened(new Uint16Array(bytes)) };
      else if (dtype === 'F32') tensors[name] = { dtype, shape, data: new Float32Array(bytes) };
      else if (dtype === 'U32') tensors[name] = { dtype, shape, data: new Uint32Array(bytes) };
      else if (dtype === 'I32') tensors[name] = { dtype, shape, data: new Int32Array(bytes) };
      else tensors[name] = { dtype, shape, data: new BigUint64Array(bytes) };
    }
    return { tensors, metadata };
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail(`cannot be read (${reason(cause)})`, { cause });
  } finally {
    fs.closeSync(file);
  }
}

/**
 * IEEE 754 binary16 of binary32, rounded to nearest, ties to even; subnormals, infinities and NaN are kept.
 * @throws DataError for a finite number that would become infinite
 */
function halves(values: Float32Array, name: string): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (b, i) => {
    const sign = (b >>> 16) & 0x8000;
    const exponent = ((b >>> 23) & 0xff) - 112;
    const mantissa = b & 0x7fffff;
    // The top bit of a NaN's rest is set, so that what is cut off never makes it an infinity.
    if (exponent === 143) return sign | 0x7c00 | (mantissa === 0 ? 0 : 0x200 | (mantissa >>> 13));
    // Below 2^-14 the leading one is written out, and the exponent is 0.
    const whole = exponent > 0 ? (exponent << 23) | mantissa : mantissa | 0x800000;
    const shift = exponent > 0 ? 13 : 14 - exponent;
    if (shift > 24) return sign;
    let half = exponent > 31 ? 0x7c00 : whole >>> shift;
    const rest = whole & (2 ** shift - 1);
    const tie = 2 ** (shift - 1);
    if (rest > tie || (rest === tie && half & 1)) half++;
    if (half >= 0x7c00)
      throw new DataError(`${name} has ${values[i]} at ${i}, beyond float16 (65504); write it as F32`);
    return sign | half;
  });
}

/** Each binary16 as binary32, exactly. */
function widened(values: Uint16Array): Float32Array {
  const bits = new Uint32Array(values.length);
  const result = new Float32Array(bits.buffer);
  for (let i = 0; i < values.length; i++) {
    const sign = (values[i] & 0x8000) << 16;
    const exponent = (values[i] >>> 10) & 31;
    const mantissa = values[i] & 0x3ff;
    if (exponent === 0) {
      result[i] = mantissa * 2 ** -24;
      bits[i] |= sign;
    } else bits[i] = sign | ((exponent === 31 ? 255 : exponent + 112) << 23) | (mantissa << 13);
  }
  return result;
}

type Fail = (what: string, options?: ErrorOptions) => never;

interface Entry {
  dtype: TensorDType | 'F16';
  shape: number[];
  /** Bytes from the start of the data. */
  from: number;
  to: number;
}

/** Every byte of the data belongs to exactly one tensor, and each tensor has as many as its shape wants. */
function checkLayout(entries: ReadonlyMap<string, Entry>, dataBytes: number, fail: Fail): void {
  for (const [name, { dtype, shape, from, to }] of entries) {
    if (to < from) fail(`tensor ${show(name)} ends at ${to}, before its start at ${from}`);
    if (to > dataBytes) {
      fail(`tensor ${show(name)} ends at byte ${to} of ${dataBytes}; the file is cut short or its header is wrong`);
    }
    // Zero first: [0, 2^50, 2^50] is empty, not too large.
    const bytes = shape.includes(0) ? 0 : shape.reduce((product, d) => product * d, elementBytes[dtype]);
    if (bytes !== to - from) {
      fail(`tensor ${show(name)} has ${to - from} bytes, ${dtype} [${shape}] wants ${bytes}`);
    }
  }
  let end = 0;
  for (const [name, { from, to }] of [...entries].sort(([, a], [, b]) => a.from - b.from || a.to - b.to)) {
    if (from < end) fail(`tensor ${show(name)} starts at ${from}, inside another that ends at ${end}`);
    if (from > end) fail(`nothing owns the bytes from ${end} to ${from}, before tensor ${show(name)}`);
    end = to;
  }
  if (end !== dataBytes) fail(`${dataBytes - end} bytes follow the last tensor`);
}

/** A name fit for a message, whatever a stranger put into it. */
const show = (name: string): string => JSON.stringify(name.length > 60 ? `${name.slice(0, 57)}…` : name);

/**
 * The header's grammar and nothing beyond it. JSON.parse would keep the last of two equal names without a word, and
 * follow any nesting; here nothing nests deeper than the format does.
 */
class HeaderParser {
  private readonly text: string;
  private readonly fail: Fail;
  private at = 0;

  constructor(text: string, fail: Fail) {
    this.text = text;
    this.fail = fail;
  }

  parse(): { entries: Map<string, Entry>; metadata: Record<string, string> } {
    const entries = new Map<string, Entry>();
    const metadata: Record<string, string> = Object.create(null);
    if (this.text[0] !== '{') this.wrong('{');
    this.object((name) => {
      if (name === '__metadata__') {
        this.object((key) => {
          metadata[key] = this.string();
        });
      } else entries.set(name, this.entry(name));
    });
    this.space();
    if (this.at < this.text.length) this.wrong('the end');
    return { entries, metadata };
  }

  private entry(name: string): Entry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.object((field) => {
      if (field === 'dtype') dtype = this.string();
      else if (field === 'shape') shape = this.numbers();
      else if (field === 'data_offsets') offsets = this.numbers();
      else this.fail(`tensor ${show(name)} has an unknown field ${show(field)}`);
    });
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      return this.fail(`tensor ${show(name)} lacks one of dtype, shape and data_offsets`);
    }
    if (!Object.hasOwn(elementBytes, dtype)) {
      this.fail(`tensor ${show(name)} is ${show(dtype)}; only ${Object.keys(elementBytes).join(', ')} are read`);
    }
    if (offsets.length !== 2) this.fail(`tensor ${show(name)} has ${offsets.length} data_offsets, not 2`);
    return { dtype: dtype as Entry['dtype'], shape, from: offsets[0], to: offsets[1] };
  }

  /** An object; `value` reads the value of each name. */
  private object(value: (name: string) => void): void {
    const names = new Set<string>();
    this.expect('{');
    this.space();
    if (this.text[this.at] === '}') {
      this.at++;
      return;
    }
    do {
      this.space();
      const name = this.string();
      if (names.has(name)) this.fail(`the header has ${show(name)} twice`);
      if (name === '__proto__') this.fail('the header has the name "__proto__", which is not accepted');
      names.add(name);
      this.expect(':');
      this.space();
      value(name);
      this.space();
    } while (this.more('}'));
  }

  /** An array of whole numbers. */
  private numbers(): number[] {
    const result: number[] = [];
    this.expect('[');
    this.space();
    if (this.text[this.at] === ']') {
      this.at++;
      return result;
    }
    do {
      this.space();
      const number = /-?[0-9][0-9.eE+-]*/y;
      number.lastIndex = this.at;
      const word = number.exec(this.text)?.[0] ?? this.wrong('a number');
      if (!/^(0|[1-9][0-9]*)$/.test(word) || !Number.isSafeInteger(Number(word))) {
        this.fail(`the header has ${show(word)} where only a whole number from 0 to 2^53 - 1 can stand`);
      }
      if (result.length === mostDimensions) this.fail(`the header has a list of over ${mostDimensions} numbers`);
      result.push(Number(word));
      this.at += word.length;
      this.space();
    } while (this.more(']'));
    return result;
  }

  private string(): string {
    if (this.text[this.at] !== '"') this.wrong('"');
    let end = this.at;
    for (;;) {
      end = this.text.indexOf('"', end + 1);
      if (end < 0) return this.fail('the header has a string without an end');
      let backslashes = 0;
      while (this.text[end - 1 - backslashes] === '\\') backslashes++;
      if (backslashes % 2 === 0) break;
    }
    const literal = this.text.slice(this.at, end + 1);
    try {
      const value: string = JSON.parse(literal);
      this.at = end + 1;
      return value;
    } catch (cause) {
      return this.fail(`the header has a string that is no JSON: ${show(literal)}`, { cause });
    }
  }

  /** After an element: true at a comma, false at the closing bracket. */
  private more(close: string): boolean {
    const c = this.text[this.at];
    if (c !== ',' && c !== close) this.wrong(`, or ${close}`);
    this.at++;
    return c === ',';
  }

  private expect(c: string): void {
    this.space();
    if (this.text[this.at] !== c) this.wrong(c);
    this.at++;
  }

  private space(): void {
    while (this.at < this.text.length && ' \t\n\r'.includes(this.text[this.at])) this.at++;
  }

  private wrong(wanted: string): never {
    const found = this.at < this.text.length ? show(this.text.slice(this.at, this.at + 20)) : 'its end';
    return this.fail(`the header has ${found} at character ${this.at} where ${wanted} is expected`);
  }
}
