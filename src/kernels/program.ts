import { DeviceError } from '../errors.ts';
import type { Device } from './device.ts';
import type { Call, PipelineCache } from './kernel.ts';

/** Where a tensor lies. Offsets of bindings are multiples of 256 bytes. */
export interface Place {
  buffer: GPUBuffer;
  /** Bytes. */
  offset: number;
  size: number;
}

/** A call with its buffers found. */
export interface PlacedCall {
  call: Call;
  places: readonly Place[];
  /** What it computes, for the profile: the op's name. */
  label: string;
  /** Where it was traced, and the shape of its result, where it computes one: for the profile. */
  scope?: string;
  shape?: readonly number[];
}

/** Time of one dispatch, measured on the device. */
export interface DispatchTime {
  label: string;
  scope?: string;
  shape?: readonly number[];
  /** Shader file and entry point. */
  kernel: string;
  workgroups: readonly [number, number, number];
  /** Milliseconds from the beginning of the first dispatch to that of this one. */
  start: number;
  milliseconds: number;
  flops: number;
  bytes: number;
}

const uniformAlignment = 256;

/** Recorded dispatches: pipelines made, uniforms written, bind groups bound. `encode` only replays. */
export class Program {
  private readonly device: Device;
  private readonly calls: readonly PlacedCall[];
  private readonly uniforms: GPUBuffer | undefined;
  private readonly pipelines: readonly GPUComputePipeline[];
  private readonly groups: readonly GPUBindGroup[];

  private constructor(
    device: Device,
    calls: readonly PlacedCall[],
    uniforms: GPUBuffer | undefined,
    pipelines: readonly GPUComputePipeline[],
    groups: readonly GPUBindGroup[],
  ) {
    this.device = device;
    this.calls = calls;
    this.uniforms = uniforms;
    this.pipelines = pipelines;
    this.groups = groups;
  }

  static async build(device: Device, cache: PipelineCache, calls: readonly PlacedCall[]): Promise<Program> {
    const most = device.limits.maxComputeWorkgroupsPerDimension;
    for (const { call, label } of calls) {
      if (call.workgroups.some((n) => n > most)) {
        throw new DeviceError(`${label}: ${call.workgroups.join('×')} workgroups are over this device's ${most}`);
      }
    }
    // Compiled in parallel; equal pipelines once. After a failure the others are waited for all the same: a process that
    // ends while Dawn compiles crashes.
    const made = await Promise.allSettled(calls.map(({ call }) => cache.get(call.kernel, call.constants)));
    const pipelines = made.map((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
    if (calls.length === 0) return new Program(device, [], undefined, [], []);

    let size = 0;
    const starts = calls.map(({ call }) => {
      const at = size;
      size += Math.ceil(Math.max(16, call.params.length * 4) / uniformAlignment) * uniformAlignment;
      return at;
    });
    const bytes = new DataView(new ArrayBuffer(size));
    calls.forEach(({ call }, i) => {
      call.params.forEach((field, k) => {
        const at = starts[i] + 4 * k;
        if (typeof field !== 'number') bytes.setFloat32(at, field.f32, true);
        else if (field < 0) bytes.setInt32(at, field, true);
        else bytes.setUint32(at, field, true);
      });
    });
    const uniforms = device.createBuffer(size, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST, 'uniforms');
    device.writeBuffer(uniforms, bytes);

    try {
      const groups = calls.map(({ call, places, label }, i) =>
        device.gpu.createBindGroup({
          label,
          layout: pipelines[i].getBindGroupLayout(0),
          entries: [
            {
              binding: 0,
              resource: {
                buffer: uniforms,
                offset: starts[i],
                size: Math.max(16, Math.ceil(call.params.length / 4) * 16),
              },
            },
            ...places.map(({ buffer, offset, size: length }, k) => ({
              binding: k + 1,
              resource: { buffer, offset, size: length },
            })),
          ],
        }),
      );
      return new Program(device, calls, uniforms, pipelines, groups);
    } catch (error) {
      device.destroyBuffer(uniforms);
      throw error;
    }
  }

  get dispatches(): number {
    return this.calls.length;
  }

  /** Operations and least bytes of one replay. */
  get cost(): { flops: number; bytes: number } {
    let flops = 0;
    let bytes = 0;
    for (const { call } of this.calls) {
      flops += call.flops ?? 0;
      bytes += call.bytes ?? 0;
    }
    return { flops, bytes };
  }

  /** One compute pass with every dispatch, `times` over. @param from first dispatch of a part, @param to the one after its last */
  encode(encoder: GPUCommandEncoder, times = 1, from = 0, to = this.calls.length): void {
    const pass = encoder.beginComputePass();
    let last: GPUComputePipeline | undefined;
    for (let k = 0; k < times * (to - from); k++) {
      const i = from + (k % (to - from));
      if (this.pipelines[i] !== last) pass.setPipeline((last = this.pipelines[i]));
      pass.setBindGroup(0, this.groups[i]);
      const [x, y, z] = this.calls[i].call.workgroups;
      pass.dispatchWorkgroups(x, y, z);
    }
    pass.end();
  }

  /**
   * One replay with a pass a dispatch, timed by the device's timestamps: slower than a plain replay, same results.
   * @throws DeviceError where the adapter has no timestamps.
   */
  async profile(): Promise<DispatchTime[]> {
    if (!this.device.features.has('timestamp-query')) throw new DeviceError('this adapter has no timestamp queries');
    const { gpu } = this.device;
    const times: DispatchTime[] = [];
    let first: bigint | undefined;
    const most = 2048;
    for (let from = 0; from < this.calls.length; from += most) {
      const part = this.calls.slice(from, from + most);
      const queries = gpu.createQuerySet({ type: 'timestamp', count: part.length * 2 });
      const resolved = this.device.createBuffer(
        part.length * 16,
        GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
        'timestamps',
      );
      const encoder = gpu.createCommandEncoder();
      part.forEach(({ call }, i) => {
        const pass = encoder.beginComputePass({
          timestampWrites: { querySet: queries, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
        });
        pass.setPipeline(this.pipelines[from + i]);
        pass.setBindGroup(0, this.groups[from + i]);
        pass.dispatchWorkgroups(...call.workgroups);
        pass.end();
      });
      encoder.resolveQuerySet(queries, 0, part.length * 2, resolved, 0);
      gpu.queue.submit([encoder.finish()]);
      let stamps: BigUint64Array;
      try {
        stamps = new BigUint64Array(await this.device.read(resolved, part.length * 16));
      } finally {
        this.device.destroyBuffer(resolved);
        queries.destroy();
      }
      first ??= stamps[0];
      const begin = first;
      part.forEach(({ call, label, scope, shape }, i) => {
        times.push({
          label,
          scope,
          shape,
          kernel: `${call.kernel.files.at(-1)}:${call.kernel.entry}`,
          workgroups: call.workgroups,
          start: Number(stamps[2 * i] - begin) / 1e6,
          milliseconds: Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6,
          flops: call.flops ?? 0,
          bytes: call.bytes ?? 0,
        });
      });
    }
    return times;
  }

  destroy(): void {
    if (this.uniforms) this.device.destroyBuffer(this.uniforms);
  }
}
