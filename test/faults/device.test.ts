/** A device that is lost or refuses memory: a DeviceError at once, nothing leaked, nothing lost. */
import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { mul } from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { checkOp } from '../../src/autograd/gradcheck.ts';
import type { Node } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import type { Data, Plan, Step } from '../../src/autograd/plan.ts';
import { DeviceError, ShaderError } from '../../src/errors.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { type Kernel, PipelineCache } from '../../src/kernels/kernel.ts';
import { kernels } from '../../src/kernels/table.ts';
import { findCheckpoint, type RunOptions } from '../../src/models/run.ts';
import { sample } from '../../src/models/sampler.ts';
import { describeGpu } from '../gpu.ts';
import { bitsOf, logOf, openGpu, temporaryFolder, tinyDenseGan, trainTiny } from '../models/tiny.ts';

/** Waits for a failure, and not for ever: a hang is a failure of the test that says so. */
async function failure(work: Promise<unknown>): Promise<Error> {
  const hang = new Promise<never>((_, reject) => setTimeout(() => reject(new Error('it hangs')), 20_000).unref());
  return Promise.race([work, hang]).then(
    () => new Error('it went well'),
    (error) => error,
  );
}

/** An executor that calls `on` when its n-th call of a kind is under way. */
class Watched extends GpuExecutor {
  on: Partial<Record<'plan' | 'idle' | 'read', (nth: number) => void>> = {};
  private readonly counts = { plan: 0, idle: 0, read: 0 };
  private after<T>(kind: 'plan' | 'idle' | 'read', started: T): T {
    this.on[kind]?.(++this.counts[kind]);
    return started;
  }
  override plan(step: Step): Promise<Plan> {
    return this.after('plan', super.plan(step));
  }
  override idle(): Promise<void> {
    return this.after('idle', super.idle());
  }
  override read(variable: Node): Promise<Data> {
    return this.after('read', super.read(variable));
  }
}

describeGpu('a device lost', () => {
  const config = tinyDenseGan({ steps: 30 });
  const every = { logEvery: 1, checkpointEvery: 7 };
  const whole = temporaryFolder();
  beforeAll(async () => {
    const gpu = await openGpu();
    await trainTiny(gpu, { folder: whole, config, ...every });
    gpu.destroy();
  }, 240_000);

  // Whose n-th call is under way, and the step of the checkpoint that is then on disk: none, where none was begun.
  it.each<[string, 'plan' | 'idle' | 'read', number, number | undefined]>([
    ['while pipelines are made', 'plan', 1, undefined],
    ['while the first checkpoint is read back', 'read', 2, undefined],
    ['in the first step', 'idle', 1, 0],
    ['in a later step', 'idle', 10, 7],
    ['while a later checkpoint is read back', 'read', 13, 7],
  ])('%s: a DeviceError, the checkpoint whole, resumed to the bits', async (_, kind, nth, step) => {
    const folder = temporaryFolder();
    const gpu = new Watched(await openDevice());
    gpu.on[kind] = (n) => n === nth && gpu.device.gpu.destroy();
    const error = await failure(trainTiny(gpu, { folder, config, ...every }));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/^the device was lost: /);
    const left = readdirSync(folder).sort();
    if (step === undefined) expect(left).toEqual([]);
    else {
      expect(left.filter((name) => name !== 'log.jsonl')).toEqual(['checkpoint.safetensors', 'config.json']);
      expect(findCheckpoint(folder).step).toBe(step);
      expect(logOf(folder)).toEqual(logOf(whole).slice(0, logOf(folder).length));
    }
    await resume(folder, step !== undefined);
  });

  it('between two steps', async () => {
    const folder = temporaryFolder();
    const gpu = await openGpu();
    const onProgress = (step: number): void => {
      if (step >= 10) gpu.device.gpu.destroy();
    };
    const error = await failure(trainTiny(gpu, { folder, config, ...every, onProgress }));
    expect(error).toBeInstanceOf(DeviceError);
    expect(findCheckpoint(folder).step).toBe(7);
    await resume(folder, true);
  });

  async function resume(folder: string, begun: boolean): Promise<void> {
    const gpu = await openGpu();
    const from = begun ? findCheckpoint(folder) : undefined;
    await trainTiny(gpu, { folder, config, from, ...every });
    gpu.destroy();
    expect(bitsOf(folder)).toEqual(bitsOf(whole));
    expect(logOf(folder)).toEqual(logOf(whole));
  }

  it('while formulas are generated', async () => {
    const gpu = await openGpu();
    const onProgress = (drawn: number): void => {
      if (drawn === 8) gpu.device.gpu.destroy();
    };
    const options = { count: 100, seed: 1, batch: 4, onProgress };
    expect(await failure(sample(gpu, findCheckpoint(whole), options))).toBeInstanceOf(DeviceError);
  });

  it('while an op is checked', async () => {
    const gpu = new Watched(await openDevice());
    gpu.on.plan = (n) => n === 3 && gpu.device.gpu.destroy();
    expect(await failure(checkOp('dense', { gpu }))).toBeInstanceOf(DeviceError);
  });
});

/** Makes a device refuse a buffer as a driver that has no memory does: in the error scope, or by throwing. */
function refusing(gpu: GPUDevice) {
  const state = { made: 0, refuse: 0, how: 'scope' as 'scope' | 'throw' };
  const scopes: { filter: GPUErrorFilter; error?: GPUError }[] = [];
  const createBuffer = gpu.createBuffer.bind(gpu);
  const push = gpu.pushErrorScope.bind(gpu);
  const pop = gpu.popErrorScope.bind(gpu);
  gpu.pushErrorScope = (filter) => {
    scopes.push({ filter });
    return push(filter);
  };
  gpu.popErrorScope = async () => {
    const scope = scopes.pop();
    const error = await pop();
    return scope?.error ?? error;
  };
  gpu.createBuffer = (descriptor) => {
    if (++state.made !== state.refuse) return createBuffer(descriptor);
    if (state.how === 'throw') throw new RangeError('createBuffer failed: out of memory');
    const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory');
    if (!scope) throw new Error('no scope would catch this');
    scope.error = new GPUOutOfMemoryError('no memory left\nsecond line');
    // What the caller then has is an invalid buffer, and each use of it a validation error.
    push('validation');
    const invalid = createBuffer({ ...descriptor, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.MAP_WRITE });
    void pop();
    return invalid;
  };
  return state;
}

describeGpu('memory refused', () => {
  let gpu: GpuExecutor;
  let faults: ReturnType<typeof refusing>;
  beforeAll(async () => {
    const device = await openDevice();
    faults = refusing(device.gpu);
    gpu = new GpuExecutor(device);
  });
  afterAll(() => gpu.destroy());
  afterEach(() => {
    faults.refuse = 0;
    vi.restoreAllMocks();
  });
  const alive = (): number[] => [gpu.device.buffersAlive, gpu.device.bytesAlive];
  const config = tinyDenseGan({ steps: 1 });
  const start = async (options: Partial<RunOptions> = {}): Promise<Record<string, string>> => {
    const folder = temporaryFolder();
    await trainTiny(gpu, { folder, config, ...options });
    return bitsOf(folder);
  };

  it.each(['scope', 'throw'] as const)(
    'at any buffer of a training, %s: a DeviceError that names it, nothing leaked, the next run right',
    { timeout: 300_000 },
    async (how) => {
      const right = await start();
      const before = alive();
      faults.made = 0;
      await start();
      const buffers = faults.made;
      expect(buffers).toBeGreaterThan(30);
      faults.how = how;
      const named = new Set<string>();
      for (let n = 1; n <= buffers; n++) {
        faults.made = 0;
        faults.refuse = n;
        const error = await failure(start());
        expect(error, `buffer ${n}`).toBeInstanceOf(DeviceError);
        const [, name] = /^(.+): the device refuses \d+ bytes \((?:no memory left|.*out of memory)\); use/.exec(
          error.message,
        ) ?? [error.message, '?'];
        expect(name, `buffer ${n}: ${error.message}`).not.toBe('?');
        named.add(name);
        expect(alive(), `buffer ${n}`).toEqual(before);
        faults.refuse = 0;
        if (n % 4 === 0 || n === buffers) expect(await start(), `after buffer ${n}`).toEqual(right);
      }
      expect([...named]).toEqual(expect.arrayContaining(['uniforms', 'staging', 'critic', 'generator']));
      // Tensors by the op and its place in the model. Tensors with lifetimes apart share a buffer, which has the largest one's name.
      const tensors = [...named].flatMap((name) => /^\w+ \[[\d,]+\] \((.+)\)$/.exec(name)?.[1] ?? []);
      for (const place of ['generator', 'critic']) expect(tensors.join('; ')).toContain(place);
      expect(tensors.length).toBeGreaterThan(5);
    },
  );

  it('to a variable that is written, or to the copy of one that is read', async () => {
    const x = newGraph().variable('x', [3]);
    const before = alive();
    faults.made = 0;
    faults.refuse = 1;
    faults.how = 'scope';
    gpu.write(x, Float32Array.of(1, 2, 3));
    await expect(gpu.idle()).rejects.toThrow(/^x: the device refuses 16 bytes \(no memory left\)/);
    expect(alive()).toEqual(before);
    // Said once; then all is as before.
    await gpu.idle();
    gpu.write(x, Float32Array.of(4, 5, 6));
    for (const how of ['scope', 'throw'] as const) {
      faults.made = 0;
      faults.how = how;
      await expect(gpu.read(x)).rejects.toThrow(/^staging: the device refuses 16 bytes/);
      expect(await gpu.read(x)).toEqual(Float32Array.of(4, 5, 6));
    }
    gpu.forget([x]);
    expect(alive()).toEqual(before);
  });

  it('a copy that cannot be mapped is a DeviceError and is freed; the next read works', async () => {
    const x = newGraph().variable('x', [3]);
    gpu.write(x, Float32Array.of(1, 2, 3));
    const before = alive();
    vi.spyOn(GPUBuffer.prototype, 'mapAsync').mockImplementationOnce(() =>
      Promise.reject(new DOMException('', 'OperationError')),
    );
    const error = await failure(gpu.read(x));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toBe('the device failed: OperationError');
    expect(alive()).toEqual(before);
    expect(await gpu.read(x)).toEqual(Float32Array.of(1, 2, 3));
    gpu.forget([x]);
  });

  it('a call that is wrong in itself is still an error of the device', async () => {
    const other = new GpuExecutor(await openDevice());
    const x = newGraph().variable('x', [3]);
    const plan = await other.plan({ outputs: [mul(x, x)] });
    plan.destroy();
    plan.run();
    await expect(other.idle().then(() => other.idle())).rejects.toThrow(/^the device reports: /);
    other.destroy();
  });
});

// That a fault in a shader shows file, line and text, alone or joined to others: test/kernels/shader.test.ts.
describeGpu('a pipeline refused', () => {
  it.each<[string, Kernel, Record<string, number>]>([
    ['an entry point that is not there', { ...kernels.copy, entry: 'none' }, {}],
    ['a constant that is not there', kernels.copy, { NOSUCH: 1 }],
    ['a constant that is no number', kernels.unary, { FUNCTION: Number.NaN }],
    ['a constant out of range', kernels.unary, { FUNCTION: -1 }],
    ['too few bindings', { ...kernels.copy, bindings: ['read'] }, {}],
  ])('%s: a ShaderError of one line that names the kernel; the device goes on', async (_, kernel, constants) => {
    const device = await openDevice();
    const cache = new PipelineCache(device);
    const error = await failure(cache.get(kernel, constants));
    expect(error).toBeInstanceOf(ShaderError);
    expect(error.message).toMatch(/^(copy|unary):\w+:\{.*\}: ./);
    expect(error.message).not.toContain('\n');
    await cache.get(kernels.copy);
    await device.idle();
    device.destroy();
  });
});
