import { DeviceError } from '../errors.ts';

/** What `openDevice` accepts. */
export interface DeviceOptions {
  /** `default`: WebGPU's guaranteed limits; `adapter` (the default): the most that the adapter offers. */
  limits?: 'default' | 'adapter';
  /** Optional features to switch on where the adapter has them; `timestamp-query` and `subgroups` always are. */
  features?: readonly GPUFeatureName[];
  /** Dawn's own options, e.g. `backend=vulkan`, `adapter=NAME`. */
  dawn?: readonly string[];
  /**
   * Whether Dawn guards each access of a shader to memory (`true`, the default: for kernels under development). The engine's own
   * kernels stay inside their buffers by themselves; without the guards they are a seventh faster on a large GPU.
   */
  boundsChecks?: boolean;
}

/** Adapter facts that results are filed under. */
export interface AdapterInfo {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  /** True for a software rasteriser such as lavapipe or SwiftShader. */
  software: boolean;
  /** Lanes of a subgroup, where shaders may use subgroups and it always has as many. */
  subgroupSize?: number;
}

const limitNames = [
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxUniformBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
] as const;

// Dawn's instance must outlive every device that it made: an unreferenced one takes the process down with it.
const instances: GPU[] = [];

/**
 * The adapter that Dawn offers, or null. Loads Dawn on first use, so that commands that need no GPU start fast.
 * @throws DeviceError where Dawn itself can't be loaded.
 */
export async function requestAdapter(dawn: readonly string[] = []): Promise<GPUAdapter | null> {
  let webgpu: typeof import('webgpu');
  try {
    webgpu = await import('webgpu');
  } catch (cause) {
    throw new DeviceError(`Dawn could not be loaded (${(cause as Error).message.split('\n')[0]}); run npm ci`, {
      cause,
    });
  }
  for (const [name, value] of Object.entries(webgpu.globals)) {
    if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const gpu = webgpu.create([...dawn]) as GPU;
  instances.push(gpu);
  return gpu.requestAdapter({ powerPreference: 'high-performance' });
}

const scopes = ['out-of-memory', 'validation', 'internal'] as const;

const firstLine = ({ message, name }: { message: string; name?: string }): string =>
  message.split('\n')[0] || name || 'no reason given';

/** One adapter opened through Dawn. A lost device, or an error nobody caught, is thrown by the next call that waits. */
export class Device {
  readonly gpu: GPUDevice;
  readonly info: AdapterInfo;
  readonly limits: GPUSupportedLimits;
  readonly features: ReadonlySet<string>;
  /** Bytes of GPU buffers alive, made through `createBuffer`. */
  bytesAlive = 0;
  /** Number of GPU buffers alive, made through `createBuffer`. */
  buffersAlive = 0;
  private failure: DeviceError | undefined;
  private destroyed = false;
  /** An allocation that was refused, until a call that waits has thrown it. */
  private refusal: DeviceError | undefined;
  private readonly refused = new WeakSet<GPUBuffer>();
  /** The device's answers that are still to come; those about allocations also by buffer. */
  private readonly pending = new Set<Promise<void>>();
  private readonly allocations = new WeakMap<GPUBuffer, Promise<void>>();

  constructor(gpu: GPUDevice, info: AdapterInfo) {
    this.gpu = gpu;
    this.info = info;
    this.limits = gpu.limits;
    this.features = new Set(gpu.features);
    gpu.lost.then((lost) => {
      if (!this.destroyed) this.failure ??= new DeviceError(`the device was lost: ${lost.message || lost.reason}`);
    });
    gpu.addEventListener('uncapturederror', (event) => {
      this.failure ??= new DeviceError(`the device reports: ${event.error.message}`);
    });
  }

  /** Throws what the device has reported since it was opened, if anything. */
  check(): void {
    if (this.failure) throw this.failure;
  }

  /**
   * A zeroed buffer of `bytes` (rounded up to a multiple of 16).
   * @throws DeviceError where the size is over the device's limits, or the driver refuses at once; a refusal that it
   *   reports later is thrown, once, by the next call that waits (`settled`, `scoped`, `read`, `idle`), and the device
   *   is as good as before.
   */
  createBuffer(bytes: number, usage: GPUBufferUsageFlags, label: string): GPUBuffer {
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    const most =
      usage & 0x80 /* STORAGE */
        ? Math.min(this.limits.maxStorageBufferBindingSize, this.limits.maxBufferSize)
        : this.limits.maxBufferSize;
    if (size > most) {
      throw new DeviceError(
        `${label}: ${size} bytes are over this device's limit of ${most} for one buffer; use a smaller batch or model`,
      );
    }
    const refusal = (error: { message: string }): DeviceError =>
      new DeviceError(
        `${label}: the device refuses ${size} bytes (${firstLine(error)}); use a smaller batch or model`,
        {
          cause: error,
        },
      );
    // A scope of its own, closed before anything else can run: the error must neither count as one that nobody caught
    // nor be taken for another buffer's.
    this.gpu.pushErrorScope('out-of-memory');
    let buffer: GPUBuffer;
    try {
      buffer = this.gpu.createBuffer({ label, size, usage });
    } catch (cause) {
      this.expect(this.gpu.popErrorScope(), () => {});
      throw refusal(cause as Error);
    }
    this.bytesAlive += size;
    this.buffersAlive++;
    const answer = this.expect(this.gpu.popErrorScope(), (error) => {
      this.destroyBuffer(buffer);
      this.refused.add(buffer);
      this.refusal ??= refusal(error);
    });
    this.allocations.set(buffer, answer);
    return buffer;
  }

  /** True once the device has refused a buffer's allocation: it holds nothing, and is not counted as alive. */
  isRefused(buffer: GPUBuffer): boolean {
    return this.refused.has(buffer);
  }

  destroyBuffer(buffer: GPUBuffer): void {
    if (this.refused.has(buffer)) return;
    this.bytesAlive -= buffer.size;
    this.buffersAlive--;
    buffer.destroy();
  }

  /** Sets a buffer's first bytes. One that turns out to be refused takes none: the refusal says so, and only that. */
  writeBuffer(buffer: GPUBuffer, { buffer: from, byteOffset, byteLength }: ArrayBufferView): void {
    const scope = this.validated(() =>
      this.gpu.queue.writeBuffer(buffer, 0, from as ArrayBuffer, byteOffset, byteLength),
    );
    this.expect(
      scope.then(async (error) => {
        await this.allocations.get(buffer);
        return error;
      }),
      (error) => {
        if (!this.refused.has(buffer)) this.failure ??= new DeviceError(`the device reports: ${error.message}`);
      },
    );
  }

  /** Runs something that does not wait; what the device says against it. */
  private validated(make: () => void): Promise<GPUError | null> {
    this.gpu.pushErrorScope('validation');
    try {
      make();
    } catch (error) {
      this.expect(this.gpu.popErrorScope(), () => {});
      throw error;
    }
    return this.gpu.popErrorScope();
  }

  /** Keeps account of an error scope whose answer nobody waits for yet. */
  private expect(scope: Promise<GPUError | null>, caught: (error: GPUError) => void): Promise<void> {
    const answer = scope
      .then(
        (error) => {
          if (error) caught(error);
        },
        // A lost device has no answers; its loss is reported by `lost`.
        () => {},
      )
      .finally(() => this.pending.delete(answer));
    this.pending.add(answer);
    return answer;
  }

  /**
   * Waits until the device has answered for every buffer made or written.
   * @throws DeviceError, once, where it refused an allocation
   */
  async settled(): Promise<void> {
    while (this.pending.size > 0) await Promise.all(this.pending);
    this.check();
    const { refusal } = this;
    this.refusal = undefined;
    if (refusal) throw refusal;
  }

  /** Runs `make` inside error scopes and throws what they catch, so that a refused allocation reaches the caller. */
  async scoped<T>(what: string, make: () => T | Promise<T>): Promise<T> {
    this.check();
    for (const kind of scopes) this.gpu.pushErrorScope(kind);
    let result: T | undefined;
    let thrown: unknown;
    try {
      result = await make();
    } catch (error) {
      thrown = error;
    }
    const caught = await this.wait(Promise.all(scopes.map(() => this.gpu.popErrorScope())));
    // First the causes: whatever binds a refused buffer is invalid as well, and a lost device fails in many ways.
    await this.settled();
    if (thrown) throw thrown;
    const first = caught.find((error) => error !== null);
    if (first) throw new DeviceError(`${what}: ${firstLine(first)}`);
    return result as T;
  }

  /**
   * Copies `bytes` out of a buffer that has COPY_SRC usage; waits for all work submitted before.
   * @throws DeviceError where the device is lost, or refuses the copy's memory
   */
  async read(buffer: GPUBuffer, bytes: number = buffer.size, offset = 0): Promise<ArrayBuffer> {
    this.check();
    const size = Math.ceil(bytes / 4) * 4;
    const staging = this.createBuffer(size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST, 'staging');
    try {
      const scope = this.validated(() => {
        const encoder = this.gpu.createCommandEncoder();
        encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
        this.gpu.queue.submit([encoder.finish()]);
      });
      const error = await this.wait(scope);
      await this.settled();
      if (error) throw new DeviceError(`the device reports: ${firstLine(error)}`);
      await this.wait(staging.mapAsync(GPUMapMode.READ, 0, size));
      return staging.getMappedRange(0, size).slice(0, bytes);
    } finally {
      this.destroyBuffer(staging);
    }
  }

  /** Waits for all work submitted before. */
  async idle(): Promise<void> {
    await this.wait(this.gpu.queue.onSubmittedWorkDone());
    await this.settled();
  }

  /** A promise of the device's; when it fails because the device is gone, says so. */
  private async wait<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (cause) {
      // The loss is reported by another promise, which may settle just after this one.
      await new Promise((resolve) => setImmediate(resolve));
      this.check();
      throw new DeviceError(`the device failed: ${firstLine(cause as Error)}`, { cause });
    }
  }

  /** Ends the device; every buffer of it dies. Blocks until work that was submitted is done. */
  destroy(): void {
    this.destroyed = true;
    this.gpu.destroy();
  }
}

/**
 * Opens the adapter that Dawn prefers.
 * @throws DeviceError where there is none: nothing falls back to the reference executor by itself.
 */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  if (process.env.MATGAN_ADAPTER === 'none') {
    throw new DeviceError('MATGAN_ADAPTER=none: no adapter is used; unset it, or pass --device reference');
  }
  const unguarded = options.boundsChecks === false ? ['enable-dawn-features=disable_robustness'] : [];
  const adapter = await requestAdapter([...(options.dawn ?? []), ...unguarded]);
  if (!adapter) {
    throw new DeviceError(
      'no WebGPU adapter: Linux needs a Vulkan driver (npm run setup installs one, or names it); ' +
        'or pass --device reference for the slow f64 executor',
    );
  }
  const limits: Record<string, number> = {};
  if (options.limits !== 'default') {
    for (const name of limitNames) {
      // Dawn reports 2^32-1 for maxBufferSize on some drivers and then refuses it unless asked for a multiple of 4.
      limits[name] = adapter.limits[name];
    }
  }
  const wanted = new Set<GPUFeatureName>(['timestamp-query', 'subgroups', ...(options.features ?? [])]);
  const requiredFeatures = [...wanted].filter((feature) => adapter.features.has(feature));
  const gpu = await adapter.requestDevice({ requiredLimits: limits, requiredFeatures });
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const software = /llvmpipe|lavapipe|swiftshader|software/i.test(`${description} ${device} ${architecture}`);
  const fixed = adapter.features.has('subgroups') && subgroupMinSize === subgroupMaxSize;
  const subgroups = fixed ? { subgroupSize: subgroupMaxSize } : {};
  return new Device(gpu, { vendor, architecture, device, description, software, ...subgroups });
}
