/** Hostile checkpoints: one small whole file, changed in its header, its metadata, its tensors or its bytes. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { fingerprintOf } from '../../src/chem/dataset.ts';
import { writePairs } from '../../src/chem/encoding.ts';
import { readCheckpoint, restore } from '../../src/models/checkpoint.ts';
import { checkConfig, type GanConfig } from '../../src/models/config.ts';
import { checkpointName, findCheckpoint, makeTrainer, type RunOptions, train } from '../../src/models/run.ts';
import { sample } from '../../src/models/sampler.ts';
import { Choose } from './choose.ts';
import { hold, shown, type Tally } from './tally.ts';

/** The least network with every kind of state: a milliseconds' step on the reference executor. */
export const leastConfig = (own: object = {}): GanConfig =>
  checkConfig(
    {
      model: 'gan',
      seed: 5,
      batch: 2,
      steps: 3,
      leaveOut: 0,
      decay: 'none',
      decoding: 'argmax',
      batchNorm: { eps: 1e-5, decay: 0.9 },
      generator: {
        kind: 'dense',
        latent: 2,
        hidden: [2],
        norm: 'batch',
        activation: 'relu',
        output: 'sigmoid',
        initial: 'he',
      },
      critic: { kind: 'dense', hidden: [2], norm: 'none', activation: 'relu', initial: 'he' },
      constraint: { name: 'clipping', clip: 0.1 },
      criticSteps: 1,
      generatorOptimiser: { name: 'sgd', learningRate: 1e-3, momentum: 0.5 },
      criticOptimiser: { name: 'rmsProp', learningRate: 1e-3, rho: 0.9, eps: 1e-8 },
      averaging: 0.9,
      ...own,
    },
    'least',
  ) as GanConfig;

export function leastData(): RunOptions['data'] {
  const rows = 4;
  const packed = new Uint32Array(4 * rows);
  for (let row = 0; row < rows; row++) writePairs(packed, row, [((row + 1) << 8) | 1, (40 << 8) | (row + 1)], 2);
  const training = { packed, rows };
  const leaveOut = { packed: new Uint32Array(0), rows: 0 };
  return { train: training, leaveOut, fingerprint: fingerprintOf(training), source: null };
}

/** Trains one step (or goes on) in a folder. */
export async function leastRun(folder: string, own: Partial<RunOptions> = {}): Promise<void> {
  await train({
    folder,
    executor: new ReferenceExecutor(),
    adapter: 'fuzz',
    config: leastConfig(),
    data: leastData(),
    logEvery: 1,
    checkpointEvery: 1,
    measureEvery: 1,
    ...own,
  });
}

/** Memory that a file of so many bytes justifies: its tensors, a copy in the model's layout, and some for the header. */
export const justified = (bytes: number): number => 2 ** 22 + 16 * bytes;

/** Everything that is promised of a checkpoint that is read, resumed and generated from. */
export async function checkCheckpoint(file: string, draw: boolean): Promise<void> {
  const checkpoint = findCheckpoint(file);
  for (const { shape, data } of Object.values(checkpoint.tensors)) {
    hold(shape.reduce((n, d) => n * d, 1) === data.length, 'a tensor of another size than its shape');
  }
  hold(Number.isSafeInteger(checkpoint.step) && checkpoint.step >= 0, `step ${checkpoint.step}`);
  hold(Number.isFinite(checkpoint.seconds), `seconds ${checkpoint.seconds}`);
  restore(new ReferenceExecutor(), makeTrainer(checkpoint.config, 4), checkpoint);
  if (draw) await sample(new ReferenceExecutor(), checkpoint, { count: 4, seed: 1, batch: 2 });
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

interface Whole {
  header: Header & { __metadata__?: Record<string, string> };
  data: Buffer;
}

function split(bytes: Buffer): Whole {
  const end = 8 + Number(bytes.readBigUInt64LE());
  return { header: JSON.parse(bytes.subarray(8, end).toString()), data: bytes.subarray(end) };
}

/** The bytes of a file; `length` where the length field is to lie. */
function join8(header: string | Buffer, data: Buffer, length?: bigint): Buffer {
  const text = Buffer.from(header as string);
  const field = Buffer.alloc(8);
  field.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([field, text, data]);
}

const hostileNumbers = [
  ...[0, 1, -1, 2, 3, 7, 8, 255, 1e3, 65_536, 2 ** 20, 2 ** 30, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e21],
  ...[0.5, 1e308, -1e-9, Number.NaN],
];
const hostileValues: readonly unknown[] = [
  ...hostileNumbers,
  ...['', 'x', '0', '1e9', 'NaN', null, true, [], {}, [1], { a: 1 }, '__proto__', 'a\nb', '\u0000', 'x'.repeat(5000)],
];
const hostileTexts = [
  ...['', '{}', 'null', '[]', '0', '-1', '1', '7', '9007199254740993', '1e3', '0x10', ' 1', 'NaN', 'Infinity', '{"a":'],
  ...['[[[[', '"', 'x'.repeat(100_000), '\u0000', 'a\nb', '\u001b[2J'],
];
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
  'F32',
  'U64',
];

/** Replaces one leaf (or branch) of a tree of JSON. */
export function replaceSomewhere(choose: Choose, value: unknown, depth = 0): unknown {
  if (value === null || typeof value !== 'object' || (depth > 0 && choose.chance(0.2))) {
    return choose.of(hostileValues);
  }
  const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
  const keys = Object.keys(copy);
  if (keys.length === 0 || choose.chance(0.05)) {
    if (Array.isArray(copy)) copy.push(...Array(choose.size(100)).fill(choose.of(hostileValues)));
    else copy[choose.of(['x', '__proto__x', 'constructor', 'seed'])] = choose.of(hostileValues);
    return copy;
  }
  const key = choose.of(keys);
  if (choose.chance(0.05)) delete copy[key];
  else copy[key] = replaceSomewhere(choose, copy[key], depth + 1);
  return copy;
}

/** A configuration that asks for far more than a file of a few kilobytes holds. */
function greedy(choose: Choose, config: GanConfig): unknown {
  const most = (): number => choose.of([64, 256, 1024, 4096, 16_384]);
  const hidden = Array.from({ length: choose.size(32) }, most);
  const layer = { filters: Math.min(4096, most()), kernel: [choose.size(64), 3], strides: [1, 1] };
  return {
    ...config,
    batch: choose.of([1, 32, 65_536]),
    criticSteps: choose.of([1, 100]),
    generator: { ...config.generator, latent: Math.min(4096, most()), hidden: choose.chance(0.5) ? hidden : [2] },
    critic: choose.chance(0.5)
      ? { ...config.critic, hidden }
      : { kind: 'conv', layers: Array(choose.size(64)).fill(layer), norm: 'none', activation: 'relu', initial: 'he' },
  };
}

/** One hostile file. */
export function hostileCheckpoint(choose: Choose, whole: Buffer): Buffer {
  const { header, data } = split(whole);
  const names = Object.keys(header).filter((name) => name !== '__metadata__');
  const metadata = { ...header.__metadata__! };
  const write = (): Buffer => join8(JSON.stringify({ ...header, __metadata__: metadata }), data);
  const r = choose.below(100);
  if (r < 12) {
    // Bits, mostly of the length field and the header.
    const bytes = Buffer.from(whole);
    for (let n = choose.size(8); n > 0; n--) {
      const at = choose.chance(0.2) ? choose.below(8) : choose.below(choose.chance(0.8) ? 1500 : bytes.length);
      bytes[at] ^= 1 << choose.below(8);
    }
    return bytes;
  }
  if (r < 17) return Buffer.from(whole.subarray(0, choose.below(whole.length)));
  if (r < 20) {
    const length = choose.of([0n, 1n, 8n, 100_000_000n, 100_000_001n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]);
    return join8(JSON.stringify(header), data, choose.chance(0.5) ? length : BigInt(choose.below(10_000)));
  }
  if (r < 40) return join8(Buffer.from(choose.mutate(JSON.stringify(header), pieces), 'latin1'), data);
  if (r < 65) {
    // Tensors: names, types, shapes and places.
    const name = choose.of(names);
    const entry = structuredClone(header[name]);
    const other = header[choose.of(names)];
    switch (choose.below(9)) {
      case 0:
        entry.dtype = choose.of(['F32', 'F16', 'U32', 'I32', 'U64', 'F64', 'BF16', 'BOOL', '', '__proto__', 'f32']);
        break;
      case 1:
        entry.shape = choose.of([[], [0], [1], [...entry.shape].reverse(), [...entry.shape, 1], Array(500).fill(1)]);
        break;
      case 2:
        entry.shape[0] = choose.of(hostileNumbers);
        break;
      case 3:
        entry.data_offsets[choose.below(2)] = choose.of(hostileNumbers);
        break;
      case 4:
        entry.data_offsets = other.data_offsets;
        break;
      case 5:
        [entry.shape, entry.data_offsets] = [other.shape, other.data_offsets];
        other.data_offsets = structuredClone(header[name].data_offsets);
        break;
      case 6:
        delete header[name];
        header[choose.of(['x', '', `${name} `, name.toUpperCase(), '../x', 'x'.repeat(1000), '\u0000'])] = entry;
        return write();
      case 7:
        delete header[name];
        return write();
      default:
        (entry as Record<string, unknown>)[choose.of(['x', 'dtype', 'strides', 'shape'])] = choose.of(hostileValues);
    }
    header[name] = entry;
    return write();
  }
  if (r < 90) {
    const config = JSON.parse(metadata.config) as GanConfig;
    switch (choose.below(8)) {
      case 0:
      case 1:
        metadata.config = JSON.stringify(replaceSomewhere(choose, config));
        break;
      case 2:
        metadata.config = JSON.stringify(greedy(choose, config));
        break;
      case 3:
        metadata.data = JSON.stringify(replaceSomewhere(choose, JSON.parse(metadata.data)));
        break;
      case 4:
        metadata.data = JSON.stringify({
          fingerprint: choose.of(['', 'x', 'a\nb', 'x'.repeat(100_000)]),
          rows: choose.of([1, 2, 2 ** 30, 2 ** 32, 2 ** 53 - 1, 2 ** 53]),
          source: choose.of([null, '', '/etc/passwd', '/dev/zero', '../x', 'a\nb', 'http://x/', '\u001b[2J']),
        });
        break;
      case 5:
        metadata.step = choose.of(hostileTexts);
        break;
      case 6:
        metadata[choose.of(Object.keys(metadata))] = choose.of(hostileTexts);
        break;
      default:
        metadata[choose.of(['format', 'x', '', 'seconds'])] = choose.of(hostileTexts);
    }
    return write();
  }
  // Weights that are no numbers, or the counter.
  const bytes = Buffer.from(data);
  for (let n = choose.size(50); n > 0; n--) {
    const at = 4 * choose.below(bytes.length / 4);
    bytes.writeFloatLE(choose.of([Number.NaN, Infinity, -Infinity, 3e38, -0, 1e-45]), at);
  }
  return join8(JSON.stringify(header), bytes);
}

/** The small whole checkpoint that all others are made from. */
export async function wholeCheckpoint(folder: string): Promise<Buffer> {
  const run = mkdtempSync(join(folder, 'whole-'));
  await leastRun(run, { pauseAt: 1 });
  const file = join(run, checkpointName);
  hold(readCheckpoint(file).step === 1, 'the whole checkpoint');
  return readFileSync(file);
}

export async function fuzzCheckpoints(tally: Tally, folder: string, count: number, seed: number): Promise<void> {
  const choose = new Choose(seed, 'checkpoints');
  const whole = await wholeCheckpoint(folder);
  const file = join(folder, 'hostile.safetensors');
  for (let i = 0; i < count; i++) {
    const bytes = hostileCheckpoint(choose, whole);
    writeFileSync(file, bytes);
    const draw = choose.chance(0.2);
    await tally.attemptAsync(
      () => shown(bytes),
      () => checkCheckpoint(file, draw),
      justified(bytes.length),
    );
  }
}

/** A copy of a file's parts with something changed, for tests of single cases. */
export function changedCheckpoint(
  whole: Buffer,
  change: (parts: { tensors: Header; metadata: Record<string, string>; data: Buffer }) => void,
): Buffer {
  const { header, data } = split(whole);
  const { __metadata__: metadata = {}, ...tensors } = header;
  const parts = { tensors: tensors as Header, metadata: { ...metadata }, data: Buffer.from(data) };
  change(parts);
  return join8(JSON.stringify({ __metadata__: parts.metadata, ...parts.tensors }), parts.data);
}
