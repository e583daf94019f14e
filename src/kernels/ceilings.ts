import { DeviceError } from '../errors.ts';
import type { Device } from './device.ts';
import { type Field, type Kernel, PipelineCache } from './kernel.ts';

/** What one adapter can do at most, measured by kernels that do one thing only. */
export interface Ceilings {
  /** f32 fused multiply-adds, 2 FLOP each, in GFLOP/s. */
  fmaGflops: number;
  /** Bytes read plus bytes written by a copy too large for a cache, in GB/s (10⁹ bytes). */
  copyGbps: number;
  /** One small dispatch among many that depend on one another, in µs. */
  dispatchMicroseconds: number;
  /** One submit of one small dispatch, and waiting for it, in ms. */
  submitMilliseconds: number;
}

const fma: Kernel = { files: ['ceiling_fma'], entry: 'fma_ceiling', bindings: ['write'] };
const copy: Kernel = { files: ['ceiling_copy'], entry: 'copy_ceiling', bindings: ['read', 'write'] };

/** FLOP a thread and round of `shaders/ceiling_fma.wgsl`: 32 vec4 FMAs. */
const flopsPerRound = 256;
/** One batch must take this long, or the clock and the submit show in the figure. */
const batchMs = 10;
const repeats = 12;

const now = (): number => performance.now();

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/**
 * Measures an adapter's ceilings, against which `matgan bench` holds each kernel. Takes about a second. The best of
 * twelve batches counts: whatever else runs on the machine can only make a batch slower.
 * @throws DeviceError where a kernel of the measurement computes something wrong: its speed would mean nothing.
 */
export async function measureCeilings(device: Device): Promise<Ceilings> {
  const cache = new PipelineCache(device);
  const alive: GPUBuffer[] = [];
  const buffer = (bytes: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer => {
    const made = device.createBuffer(bytes, usage, label);
    alive.push(made);
    return made;
  };

  /** A function that submits `count` dispatches of the kernel and waits: ms from submit to end. */
  const prepare = async (kernel: Kernel, fields: readonly Field[], groups: number, storage: readonly GPUBuffer[]) => {
    const pipeline = await cache.get(kernel);
    const uniform = buffer(4 * fields.length, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST, 'ceilings: parameters');
    const words = new DataView(new ArrayBuffer(4 * fields.length));
    fields.forEach((field, i) => {
      if (typeof field === 'number') words.setUint32(4 * i, field, true);
      else words.setFloat32(4 * i, field.f32, true);
    });
    device.gpu.queue.writeBuffer(uniform, 0, words.buffer as ArrayBuffer);
    const entries = [uniform, ...storage].map((bound, binding) => ({ binding, resource: { buffer: bound } }));
    const group = device.gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return async (count: number): Promise<number> => {
      const encoder = device.gpu.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      for (let i = 0; i < count; i++) pass.dispatchWorkgroups(groups);
      pass.end();
      const commands = encoder.finish();
      await device.idle();
      const start = now();
      device.gpu.queue.submit([commands]);
      await device.idle();
      return now() - start;
    };
  };

  /** Milliseconds for one dispatch: as many in a submit as it takes to be long enough, then the best of twelve. */
  const time = async (batch: (count: number) => Promise<number>): Promise<number> => {
    await batch(1); // compiles
    let count = 1;
    while (count < 1 << 16 && (await batch(count)) < batchMs) count *= 2;
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < repeats; i++) best = Math.min(best, await batch(count));
    return best / count;
  };

  try {
    // A processor is full with a few thousand threads, a large GPU not with a hundred thousand.
    const threads = device.info.software ? 1 << 14 : 1 << 20;
    const rounds = 1 << 6;
    const out = buffer(4 * threads, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC, 'ceilings: fma');
    // x ← x·0.98 + 0.04 tends to 2 whatever it starts from: 0.98^1024 ≈ 1e-9, so each sum of 8 must be 16. The fixed
    // point in f32 is off by at most u/(1−a) = 50 roundings, relative 3e-6.
    const params: Field[] = [threads, rounds, { f32: 0.98 }, { f32: 0.04 }];
    const fmaMs = await time(await prepare(fma, params, threads / 64, [out]));
    const sums = new Float32Array(await device.read(out));
    const wrong = sums.findIndex((sum) => !(Math.abs(sum - 16) <= 16 * 1e-5));
    if (wrong >= 0)
      throw new DeviceError(`ceilings: fma: element ${wrong} is ${sums[wrong]}, not 16; distrust this driver`);

    // As large as WebGPU's default limit for a binding allows, which is more than any cache.
    const vectors = (128 << 20) / 16;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const source = buffer(16 * vectors, usage, 'ceilings: copy source');
    const target = buffer(16 * vectors, usage, 'ceilings: copy target');
    const mark = new Float32Array([1, 2, 3, 4]);
    device.gpu.queue.writeBuffer(source, 16 * (vectors - 1), mark);
    const groups = 1 << 14;
    const copyMs = await time(await prepare(copy, [vectors, groups * 64], groups, [source, target]));
    const last = new Float32Array(await device.read(target, 16, 16 * (vectors - 1)));
    if (!last.every((value, i) => value === mark[i])) {
      throw new DeviceError('ceilings: copy: the last element was not copied; distrust this driver');
    }

    const tiny = await prepare(fma, [64, 1, { f32: 0.5 }, { f32: 1 }], 1, [out]);
    const dispatchMs = await time(tiny);
    const submits: number[] = [];
    for (let i = 0; i < 50; i++) submits.push(await tiny(1));

    return {
      fmaGflops: (threads * rounds * flopsPerRound) / fmaMs / 1e6,
      copyGbps: (2 * 16 * vectors) / copyMs / 1e6,
      dispatchMicroseconds: dispatchMs * 1000,
      submitMilliseconds: median(submits),
    };
  } finally {
    for (const made of alive) device.destroyBuffer(made);
  }
}
