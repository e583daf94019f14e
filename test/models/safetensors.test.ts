import { spawnSync } from 'node:child_process';
import fs, { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { Stream } from '../../src/autograd/philox.ts';
import { CheckpointError, DataError, ShapeError } from '../../src/errors.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../src/models/safetensors.ts';
import { packageRoot } from '../../src/paths.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-safetensors-'));
const file = join(folder, 'a.safetensors');
const golden = join(packageRoot, 'test/golden/safetensors.safetensors');

afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

/** What test/golden/safetensors.py writes. */
const tensors: Record<string, Tensor> = {
  weights: { dtype: 'F32', shape: [3, 4], data: Float32Array.from({ length: 12 }, (_, i) => i / 8 - 0.5) },
  packed: { dtype: 'U32', shape: [2, 2], data: Uint32Array.of(1, 2 ** 32 - 1, 0x01010101, 7) },
  signed: { dtype: 'I32', shape: [3], data: Int32Array.of(-1, 0, 2 ** 31 - 1) },
  step: { dtype: 'U64', shape: [1], data: BigUint64Array.of(2n ** 53n + 1n) },
  scalar: { dtype: 'F32', shape: [], data: Float32Array.of(1.5) },
  empty: { dtype: 'F32', shape: [0, 5], data: new Float32Array(0) },
};
const metadata = { format: 'golden', größe: '"quoted"\n' };

/** A file with any header and data. */
function put(header: string | Uint8Array, data: Uint8Array | number = 0, length?: bigint): void {
  const bytes = typeof header === 'string' ? Buffer.from(header) : header;
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(bytes.length));
  writeFileSync(file, Buffer.concat([prefix, bytes, typeof data === 'number' ? Buffer.alloc(data) : data]));
}

const one = (fields: string): string => `{"a":{${fields}}}`;
const entry = (dtype: string, shape: string, offsets: string): string =>
  `{"dtype":${JSON.stringify(dtype)},"shape":${shape},"data_offsets":${offsets}}`;

describe('safetensors', () => {
  it('gives back what was written, to the bit', () => {
    const odd = Float32Array.of(Number.NaN, -0, Number.POSITIVE_INFINITY, 1e-45);
    writeSafetensors(file, { ...tensors, odd: { dtype: 'F32', shape: [2, 2], data: odd } }, metadata);
    const read = readSafetensors(file);
    expect({ ...read.metadata }).toEqual(metadata);
    expect(Object.keys(read.tensors).sort()).toEqual([...Object.keys(tensors), 'odd'].sort());
    for (const [name, tensor] of Object.entries(tensors)) expect(read.tensors[name]).toEqual(tensor);
    expect(new Uint32Array(read.tensors.odd.data.buffer as ArrayBuffer)).toEqual(new Uint32Array(odd.buffer));
    // The data begins at a multiple of 8, for readers that map the file.
    expect(Number(readFileSync(file).readBigUInt64LE()) % 8).toBe(0);
  });

  it('writes a view of a larger buffer, and nothing around it', () => {
    const all = Float32Array.of(1, 2, 3, 4);
    writeSafetensors(file, { a: { dtype: 'F32', shape: [2], data: all.subarray(1, 3) } });
    expect(readSafetensors(file).tensors.a.data).toEqual(Float32Array.of(2, 3));
  });

  it("reads what the format's own package wrote", () => {
    const read = readSafetensors(golden);
    expect({ ...read.metadata }).toEqual(metadata);
    expect({ ...read.tensors }).toEqual(tensors);
  });

  const python = process.env.MATGAN_PYTHON;
  it.skipIf(!python)("the format's own package reads what we write (MATGAN_PYTHON names one that has it)", () => {
    writeSafetensors(file, tensors, metadata);
    const result = spawnSync(python!, [join(packageRoot, 'test/golden/safetensors.py'), file], { encoding: 'utf8' });
    expect(result.stderr).toBe('');
    expect(result.stdout.trim()).toBe('equal');
  });

  it('refuses to write what it could not read back', () => {
    const data = new Float32Array(3);
    expect(() => writeSafetensors(file, { a: { dtype: 'F32', shape: [2], data } })).toThrow(ShapeError);
    expect(() => writeSafetensors(file, { __metadata__: { dtype: 'F32', shape: [3], data } })).toThrow(ShapeError);
  });
});

describe('float16', () => {
  const put16 = (data: number[] | Float32Array): number[] => {
    const values = Float32Array.from(data);
    writeSafetensors(file, { a: { dtype: 'F16', shape: [values.length], data: values } });
    const bytes = readFileSync(file);
    const halves = new Uint16Array(new Uint8Array(bytes.subarray(bytes.length - 2 * values.length)).buffer);
    return [...halves];
  };
  const back = (): number[] => [...readSafetensors(file).tensors.a.data] as number[];

  it.each<[string, number, number]>([
    ['one', 1, 0x3c00],
    ['minus two', -2, 0xc000],
    ['minus zero', -0, 0x8000],
    ['the largest', 65504, 0x7bff],
    ['just below what would be infinite', 65519.99609375, 0x7bff],
    ['the smallest normal', 2 ** -14, 0x0400],
    ['the largest subnormal', 1023 * 2 ** -24, 0x03ff],
    ['between that and the smallest normal: even', 1023.5 * 2 ** -24, 0x0400],
    ['the smallest', 2 ** -24, 0x0001],
    ['half of it: even, zero', 2 ** -25, 0x0000],
    ['a little over half of it', 2 ** -25 * (1 + 2 ** -23), 0x0001],
    ['one and a half of it: even, two', 1.5 * 2 ** -24, 0x0002],
    ['a float32 subnormal', -1e-45, 0x8000],
    ['a tie down to even', 1 + 2 ** -11, 0x3c00],
    ['a tie up to even', 1 + 3 * 2 ** -11, 0x3c02],
    ['over a tie', 1 + 2 ** -11 + 2 ** -23, 0x3c01],
    ['a carry into the exponent', 2 - 2 ** -12, 0x4000],
    ['infinity', Number.POSITIVE_INFINITY, 0x7c00],
    ['minus infinity', Number.NEGATIVE_INFINITY, 0xfc00],
  ])('%s', (_, value, half) => {
    expect(put16([value])).toEqual([half]);
  });

  it('NaN stays one, also where its payload is cut off', () => {
    const bits = Uint32Array.of(0x7f800001, 0xffc00000, 0x7fffffff);
    for (const half of put16(new Float32Array(bits.buffer))) expect((half & 0x7fff) > 0x7c00).toBe(true);
    expect(back()).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  });

  it('every float16 reads as the number it is, and is written back as itself', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    put(`{"a":${entry('F16', '[65536]', '[0,131072]')}}`, new Uint8Array(all.buffer));
    const { dtype, data } = readSafetensors(file).tensors.a;
    expect(dtype).toBe('F32');
    const [values, wrong] = [data as Float32Array, [] as number[]];
    all.forEach((h, i) => {
      const [sign, exponent, rest] = [h >> 15 ? -1 : 1, (h >> 10) & 31, h & 1023];
      const size = exponent === 0 ? rest * 2 ** -24 : (1 + rest / 1024) * 2 ** (exponent - 15);
      const wanted = exponent < 31 ? sign * size : rest ? Number.NaN : sign * Number.POSITIVE_INFINITY;
      if (!Object.is(values[i], wanted)) wrong.push(i);
    });
    expect(wrong).toEqual([]);
    const again = put16(values);
    // A quiet NaN is kept; one that signals becomes quiet.
    expect(again.filter((h, i) => h !== i && h !== (i | 0x200))).toEqual([]);
    expect(again.filter((h, i) => h !== i).every((h) => (h & 0x7fff) > 0x7c00)).toBe(true);
  });

  it('rounds as numpy does, and reads what the format’s own package wrote', () => {
    const { values, halves } = readSafetensors(join(packageRoot, 'test/golden/float16.safetensors')).tensors;
    const given = values.data as Float32Array;
    expect(given.length).toBeGreaterThan(5000);
    put16(given);
    expect(back()).toEqual([...(halves.data as Float32Array)]);
  });

  it.skipIf(!process.env.MATGAN_PYTHON)('the format’s own package reads ours', () => {
    const { values } = readSafetensors(join(packageRoot, 'test/golden/float16.safetensors')).tensors;
    writeSafetensors(file, { values: { dtype: 'F16', shape: values.shape, data: values.data as Float32Array } });
    const script = join(packageRoot, 'test/golden/float16.py');
    const result = spawnSync(process.env.MATGAN_PYTHON!, [script, file], { encoding: 'utf8' });
    expect([result.stderr, result.stdout.trim()]).toEqual(['', 'equal']);
  });

  it('what would be infinite is refused by name, and the file before stays', () => {
    put16([1]);
    const before = readFileSync(file);
    for (const value of [65520, -1e5, 3.4e38]) {
      expect(() => put16([0, value])).toThrow(DataError);
      expect(() => put16([0, value])).toThrow(/tensor a has -?[\d.e+]+ at 1, beyond float16 \(65504\)/);
    }
    expect(readFileSync(file)).toEqual(before);
  });

  it('wide elements come first, so that each tensor is aligned', () => {
    writeSafetensors(file, {
      half: { dtype: 'F16', shape: [3], data: Float32Array.of(1, 2, 3) },
      word: { dtype: 'U32', shape: [1], data: Uint32Array.of(7) },
      long: { dtype: 'U64', shape: [1], data: BigUint64Array.of(8n) },
    });
    const bytes = readFileSync(file);
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
    expect([header.long, header.word, header.half].map(({ data_offsets }) => data_offsets[0])).toEqual([0, 8, 12]);
    const { half, word, long } = readSafetensors(file).tensors;
    expect([[...half.data], [...word.data], [...long.data]]).toEqual([[1, 2, 3], [7], [8n]]);
  });
});

describe('a file that cannot be written', () => {
  it.each(['writeSync', 'fsyncSync', 'renameSync'] as const)('%s fails: the previous file stays whole', (name) => {
    writeSafetensors(file, tensors, metadata);
    const before = readFileSync(file);
    vi.spyOn(fs, name).mockImplementation(() => {
      throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    });
    const write = (): void => writeSafetensors(file, { a: { dtype: 'F32', shape: [1], data: Float32Array.of(7) } });
    expect(write).toThrow(DataError);
    expect(write).toThrow(`${file}: cannot be written (no space left on the disk)`);
    expect(readFileSync(file)).toEqual(before);
    expect(readdirSync(folder)).toEqual(['a.safetensors']);
  });

  it('a disk that takes part of a write gets the rest', () => {
    const { writeSync } = fs;
    const spy = vi
      .spyOn(fs, 'writeSync')
      // biome-ignore lint/suspicious/noExplicitAny: one of many overloads.
      .mockImplementation((fd: number, bytes: any, at: any) =>
        writeSync(fd, bytes, at, Math.min(5, bytes.length - at)),
      );
    writeSafetensors(file, tensors, metadata);
    expect(spy.mock.calls.length).toBeGreaterThan(20);
    expect({ ...readSafetensors(file).tensors }).toEqual(tensors);
  });

  it('a folder that is not there', () => {
    expect(() => writeSafetensors(join(folder, 'none', 'a'), tensors)).toThrow(/no such file or folder/);
  });
});

describe('a hostile file', () => {
  const cases: [string, () => void, RegExp][] = [
    ['empty', () => writeFileSync(file, ''), /0 bytes, too few/],
    ['seven bytes', () => writeFileSync(file, 'abcdefg'), /7 bytes, too few/],
    ['zeros', () => writeFileSync(file, Buffer.alloc(100)), /where \{ is expected/],
    ['header over 100 MB', () => put('{}', 0, 100_000_001n), /more than the 100000000 allowed/],
    ['header of 2^64 - 1 bytes', () => put('{}', 0, 2n ** 64n - 1n), /more than/],
    ['header longer than the file', () => put('{}', 0, 3n), /header of 3 bytes, but 2 follow; the file is cut short/],
    ['not UTF-8', () => put(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), /not UTF-8/],
    ['a byte order mark', () => put('\ufeff{}'), /where \{ is expected/],
    ['no object', () => put('[1,2,3]'), /where \{ is expected/],
    ['broken JSON', () => put('{"a":'), /its end at character 5/],
    ['string without end', () => put('{"a'), /string without an end/],
    ['bad escape', () => put('{"\\x":1}'), /no JSON/],
    ['control character', () => put('{"\n":1}'), /no JSON/],
    ['trailing comma', () => put('{"a":{},}'), /lacks one of/],
    ['text after the object', () => put('{} {}'), /where the end is expected/],
    [
      'repeated tensor',
      () => put(`{"a":${entry('F32', '[1]', '[0,4]')},"\\u0061":${entry('F32', '[1]', '[4,8]')}}`, 8),
      /"a" twice/,
    ],
    ['repeated field', () => put(one('"dtype":"F32","dtype":"F32"')), /"dtype" twice/],
    ['repeated metadata', () => put('{"__metadata__":{"k":"1","k":"2"}}'), /"k" twice/],
    ['metadata that is no text', () => put('{"__metadata__":{"k":1}}'), /where " is expected/],
    ['metadata that nests', () => put('{"__metadata__":{"k":{}}}'), /where " is expected/],
    [
      '__proto__ as a tensor',
      () => put(`{"__proto__":${entry('F32', '[1]', '[0,4]')}}`, 4),
      /"__proto__", which is not accepted/,
    ],
    ['__proto__ as metadata', () => put('{"__metadata__":{"__proto__":"x"}}'), /"__proto__"/],
    ['unknown dtype', () => put(`{"a":${entry('F128', '[1]', '[0,16]')}}`, 16), /"a" is "F128"; only F32, F16, U32/],
    ['dtype constructor', () => put(`{"a":${entry('constructor', '[1]', '[0,4]')}}`, 4), /"a" is "constructor"/],
    ['F16 of an odd length', () => put(`{"a":${entry('F16', '[2]', '[0,3]')}}`, 3), /has 3 bytes, F16 \[2\] wants 4/],
    [
      'F16 with the bytes of F32',
      () => put(`{"a":${entry('F16', '[2]', '[0,8]')}}`, 8),
      /has 8 bytes, F16 \[2\] wants 4/,
    ],
    [
      'BF16',
      () => put(`{"a":${entry('BF16', '[2]', '[0,4]')}}`, 4),
      /"a" is "BF16"; only F32, F16, U32, I32, U64 are read/,
    ],
    [
      'F16 beyond all memory',
      () => put(`{"a":${entry('F16', '[9007199254740991]', '[0,4]')}}`, 4),
      /has 4 bytes, F16 \[9007199254740991\] wants/,
    ],
    [
      'unknown field',
      () => put(one('"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]'), 4),
      /unknown field "strides"/,
    ],
    ['missing field', () => put(one('"dtype":"F32","shape":[1]'), 4), /lacks one of/],
    ['offset pair of three', () => put(`{"a":${entry('F32', '[1]', '[0,4,8]')}}`, 4), /3 data_offsets/],
    ['negative offset', () => put(`{"a":${entry('F32', '[1]', '[-4,0]')}}`, 4), /"-4" where only a whole number/],
    ['fractional offset', () => put(`{"a":${entry('F32', '[1]', '[0,4.0]')}}`, 4), /"4\.0" where only/],
    ['exponent', () => put(`{"a":${entry('F32', '[1]', '[0,4e0]')}}`, 4), /"4e0" where only/],
    ['offset over 2^53', () => put(`{"a":${entry('F32', '[1]', '[0,9007199254740993]')}}`, 4), /where only a whole/],
    ['end before start', () => put(`{"a":${entry('F32', '[1]', '[4,0]')}}`, 4), /ends at 0, before its start at 4/],
    ['end after the file', () => put(`{"a":${entry('F32', '[2]', '[0,8]')}}`, 4), /ends at byte 8 of 4/],
    [
      'terabytes',
      () => put(`{"a":${entry('F32', '[1099511627776]', '[0,4398046511104]')}}`, 4),
      /of 4; the file is cut/,
    ],
    ['shape that overflows', () => put(`{"a":${entry('F32', '[4294967296,4294967296]', '[0,4]')}}`, 4), /wants/],
    [
      'shape that wraps to 4 bytes',
      () => put(`{"a":${entry('F32', '[9007199254740991,9007199254740991]', '[0,4]')}}`, 4),
      /wants/,
    ],
    ['shape of other size', () => put(`{"a":${entry('F32', '[2]', '[0,4]')}}`, 4), /4 bytes, F32 \[2\] wants 8/],
    ['negative dimension', () => put(`{"a":${entry('F32', '[-1,-1]', '[0,4]')}}`, 4), /"-1" where only/],
    [
      'overlap',
      () => put(`{"a":${entry('F32', '[2]', '[0,8]')},"b":${entry('F32', '[2]', '[4,12]')}}`, 12),
      /"b" starts at 4, inside/,
    ],
    [
      'the same bytes twice',
      () => put(`{"a":${entry('F32', '[1]', '[0,4]')},"b":${entry('F32', '[1]', '[0,4]')}}`, 4),
      /inside/,
    ],
    [
      'gap',
      () => put(`{"a":${entry('F32', '[1]', '[0,4]')},"b":${entry('F32', '[1]', '[8,12]')}}`, 12),
      /nothing owns the bytes from 4 to 8/,
    ],
    ['bytes after the last', () => put(`{"a":${entry('F32', '[1]', '[0,4]')}}`, 6), /2 bytes follow the last tensor/],
    ['deep nesting', () => put(`${'['.repeat(100_000)}`), /where \{ is expected/],
    ['deep nesting inside', () => put(`{"a":${'{"b":'.repeat(100_000)}`), /unknown field "b"/],
    ['deep nesting of a shape', () => put(one(`"shape":${'['.repeat(100_000)}`)), /where a number is expected/],
  ];
  it.each(cases)('%s', (_, make, message) => {
    make();
    expect(() => readSafetensors(file)).toThrow(CheckpointError);
    expect(() => readSafetensors(file)).toThrow(message);
    expect(() => readSafetensors(file)).toThrow(file);
  });

  it('cut short anywhere', () => {
    writeSafetensors(file, tensors, metadata);
    const whole = readFileSync(file);
    for (let size = 0; size < whole.length; size++) {
      writeFileSync(file, whole.subarray(0, size));
      expect(() => readSafetensors(file), `${size} bytes`).toThrow(CheckpointError);
    }
  });

  it('a folder, a missing file, a pipe', () => {
    mkdirSync(join(folder, 'sub'), { recursive: true });
    expect(() => readSafetensors(join(folder, 'sub'))).toThrow(/is not a file/);
    expect(() => readSafetensors(join(folder, 'missing'))).toThrow(CheckpointError);
    if (statSync('/dev/zero', { throwIfNoEntry: false })) {
      expect(() => readSafetensors('/dev/zero')).toThrow(/is not a file/);
    }
    rmSync(join(folder, 'sub'), { recursive: true });
  });

  it('names are no way into the prototype', () => {
    put(`{"constructor":${entry('F32', '[1]', '[0,4]')},"toString":${entry('F32', '[0]', '[4,4]')}}`, 4);
    const { tensors: read } = readSafetensors(file);
    expect(Object.getPrototypeOf(read)).toBe(null);
    expect(Object.keys(read)).toEqual(['constructor', 'toString']);
  });

  it('4,000 mutated headers are refused, or read as what they say', () => {
    writeSafetensors(file, tensors, metadata);
    const whole = readFileSync(file);
    const headerEnd = 8 + Number(whole.readBigUInt64LE());
    const header = whole.subarray(8, headerEnd);
    const data = whole.subarray(headerEnd);
    const random = new Stream(2024);
    const pieces = [
      '"',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '0',
      '-',
      '9',
      '1e9',
      '.5',
      '\\',
      'null',
      '4294967296',
      '\u0000',
      'F32',
      'U64',
    ];
    let refused = 0;
    let accepted = 0;
    for (let i = 0; i < 4000; i++) {
      let text = header.toString('latin1');
      for (let edits = 1 + random.below(3); edits > 0; edits--) {
        const at = random.below(text.length);
        const kind = random.below(4);
        if (kind === 0) text = text.slice(0, at) + String.fromCharCode(random.below(256)) + text.slice(at + 1);
        else if (kind === 1) text = text.slice(0, at) + pieces[random.below(pieces.length)] + text.slice(at);
        else if (kind === 2) text = text.slice(0, at) + text.slice(at + 1 + random.below(8));
        else text = text.slice(0, at) + text.slice(random.below(text.length)) + text.slice(at);
      }
      const bytes = Buffer.from(text, 'latin1');
      put(bytes, data, random.below(20) === 0 ? BigInt(random.below(1 << 12)) : undefined);
      try {
        const read = readSafetensors(file);
        let total = 0;
        for (const { shape, data: values } of Object.values(read.tensors)) {
          expect(shape.reduce((product, d) => product * d, 1)).toBe(values.length);
          total += values.byteLength;
        }
        expect(total).toBe(data.length);
        accepted++;
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
        expect([...(error as Error).message].every((c) => c >= ' ')).toBe(true);
        refused++;
      }
    }
    // Some edits change only a name or the padding; most must not get through.
    expect(refused).toBeGreaterThan(3000);
    expect(accepted).toBeGreaterThan(50);
  });
});
