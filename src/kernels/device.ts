import { DeviceError } from '../errors.ts';

/** What `openDevice` accepts. */
export interface DeviceOptions {
  /** `default`: WebGPU's guaranteed limits; `adapter` (the default): the most that the adapter offers. */
  limits?: 'default' | 'adapter';
  /** Optional features to switch on where the adapter has them; `timestamp-query` always is. */
  features?: readonly GPUFeatureName[];
  /** Dawn's own options, e.g. `backend=vulkan`, `adapter=NAME`. */
  dawn?: readonly string[];
}

/** Adapter facts that results are filed under. */
export interface AdapterInfo {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  /** True for a software rasteriser such as lavapipe or SwiftShader. */
  software: boolean;
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
   * @throws DeviceError where the size is over the device's limits; an allocation that the driver refuses is
   *   reported by `settled()`.
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
    const buffer = this.gpu.createBuffer({ label, size, usage });
    this.bytesAlive += size;
    this.buffersAlive++;
    return buffer;
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.bytesAlive -= buffer.size;
    this.buffersAlive--;
    buffer.destroy();
  }

  /** Runs `make` inside error scopes and throws what they catch, so that a refused allocation reaches the caller. */
  async scoped<T>(what: string, make: () => T | Promise<T>): Promise<T> {
    this.check();
    this.gpu.pushErrorScope('out-of-memory');
    this.gpu.pushErrorScope('validation');
    this.gpu.pushErrorScope('internal');
    let result: T | undefined;
    let thrown: unknown;
    try {
      result = await make();
    } catch (error) {
      thrown = error;
    }
    const caught = [await this.gpu.popErrorScope(), await this.gpu.popErrorScope(), await this.gpu.popErrorScope()];
    if (thrown) throw thrown;
    const first = caught.find((error) => error !== null);
    if (first) throw new DeviceError(`${what}: ${first.message.split('\n')[0]}`);
    this.check();
    return result as T;
  }

  /** Copies `bytes` out of a buffer that has COPY_SRC usage; waits for all work submitted before. */
  async read(buffer: GPUBuffer, bytes: number = buffer.size, offset = 0): Promise<ArrayBuffer> {
    this.check();
    const size = Math.ceil(bytes / 4) * 4;
    const staging = this.createBuffer(size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST, 'staging');
    try {
      const encoder = this.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      this.gpu.queue.submit([encoder.finish()]);
      await this.wait(staging.mapAsync(GPUMapMode.READ, 0, size));
      return staging.getMappedRange(0, size).slice(0, bytes);
    } finally {
      this.destroyBuffer(staging);
    }
  }

  /** Waits for all work submitted before. */
  async idle(): Promise<void> {
    await this.wait(this.gpu.queue.onSubmittedWorkDone());
    this.check();
  }

  /** A promise of the device's; when it fails because the device is gone, says so. */
  private async wait<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (cause) {
      // The loss is reported by another promise, which may settle just after this one.
      await new Promise((resolve) => setImmediate(resolve));
      this.check();
      throw new DeviceError(`the device failed: ${(cause as Error).message}`, { cause });
    }
  }

  /** Ends the device; every buffer of it dies. */
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
  const adapter = await requestAdapter(options.dawn);
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
  const wanted = new Set<GPUFeatureName>(['timestamp-query', ...(options.features ?? [])]);
  const requiredFeatures = [...wanted].filter((feature) => adapter.features.has(feature));
  const gpu = await adapter.requestDevice({ requiredLimits: limits, requiredFeatures });
  const { vendor, architecture, device, description } = adapter.info;
  const software = /llvmpipe|lavapipe|swiftshader|software/i.test(`${description} ${device} ${architecture}`);
  return new Device(gpu, { vendor, architecture, device, description, software });
}
