/** `matgan devices` with adapters that this machine does not have. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DeviceError } from '../../src/errors.ts';
import * as ceilings from '../../src/kernels/ceilings.ts';
import * as device from '../../src/kernels/device.ts';
import { matganHere, onTerminal } from './here.ts';

vi.mock('../../src/kernels/device.ts');
vi.mock('../../src/kernels/ceilings.ts');
afterEach(() => vi.resetAllMocks());

const limits = Object.fromEntries(
  [
    'maxBufferSize',
    'maxStorageBufferBindingSize',
    'maxUniformBufferBindingSize',
    'maxStorageBuffersPerShaderStage',
    'maxComputeWorkgroupStorageSize',
    'maxComputeInvocationsPerWorkgroup',
    'maxComputeWorkgroupSizeX',
    'maxComputeWorkgroupsPerDimension',
  ].map((name, i) => [name, 1000 + i]),
);
const adapter = (info: object, features: string[] = []): GPUAdapter =>
  ({
    info: { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: false, ...info },
    features: new Set(features),
    limits,
    requestDevice: async () => ({ limits: { ...limits, maxBufferSize: 7 }, destroy: () => {} }),
  }) as unknown as GPUAdapter;

const card = adapter({ vendor: 'acme', architecture: 'one', device: 'A1', description: 'Acme One' }, ['b', 'a']);
const nameless = adapter({});
const plain = adapter({ device: 'SwiftShader Device' });

/** Dawn with these adapters by name; the first is the one it prefers. */
function dawn(adapters: Record<string, GPUAdapter | null>, refusal?: unknown): void {
  vi.mocked(device.openDevice).mockResolvedValue({ destroy: () => {} } as device.Device);
  vi.mocked(device.requestAdapter).mockImplementation(async (options = []) => {
    const wanted = options.find((option) => option.startsWith('adapter='))?.slice(8);
    if (wanted === undefined) return Object.values(adapters)[0];
    if (wanted in adapters) return adapters[wanted];
    if (refusal !== undefined) throw refusal;
    const rows = Object.keys(adapters).map((name) => ` * backend: 'vulkan', name: '${name}'`);
    throw new Error(`no such adapter, there are:\n${rows.join('\n')}`);
  });
  vi.mocked(ceilings.measureCeilings).mockResolvedValue({
    fmaGflops: 12.34,
    copyGbps: 5.67,
    dispatchMicroseconds: 8.9,
    submitMilliseconds: 0.1234,
  });
}

describe('matgan devices, for people', () => {
  it('every adapter by its best name, the one in use with its ceilings', async () => {
    dawn({ 'Acme One': card, Nameless: nameless, Soft: plain, Gone: null });
    const { status, stdout } = await matganHere('devices');
    expect(status).toBe(0);
    const [first, second, third, fourth] = stdout.split(/^(?=Acme One|unnamed|SwiftShader)/m);
    expect(first).toMatch(/^Acme One {2}\(in use\)\n {2}vendor acme, architecture one, device A1\n/);
    expect(first).toMatch(/\n {2}backend vulkan, hardware\n {2}features: a, b\n {2}ceilings: FMA 12\.3 GFLOP\/s, copy/);
    expect(first).toContain('copy 5.7 GB/s, dispatch 8.9 µs, submit and wait 0.123 ms');
    expect(first).toMatch(/maxBufferSize .* 1000 .* 7 /);
    expect(second).toMatch(/^unnamed adapter\n {2}vendor -, architecture -, device -\n/);
    expect(second).toMatch(/features: none\n[^ ]/);
    expect(third).toMatch(/^SwiftShader Device\n.*\n {2}backend vulkan, software: runs on the processor\n/);
    expect(fourth).toBeUndefined();
  });

  it('--no-ceilings measures nothing', async () => {
    dawn({ 'Acme One': card });
    const { stdout } = await matganHere('devices', '--no-ceilings');
    expect(stdout).not.toContain('ceilings');
    expect(ceilings.measureCeilings).not.toHaveBeenCalled();
  });

  it('says on a terminal that it measures', async () => {
    dawn({ 'Acme One': card });
    const { stderr } = await onTerminal('stderr', () => matganHere('devices'));
    expect(stderr).toBe('measuring the ceilings …\n');
  });
});

describe('matgan devices --json', () => {
  const reports = async () => JSON.parse((await matganHere('devices', '--json')).stdout).adapters;

  it('two equal adapters: one is in use', async () => {
    dawn({ 'Acme One': card, 'Acme Two': card });
    expect((await reports()).map(({ used }: { used: boolean }) => used)).toEqual([true, false]);
  });

  it('a fallback adapter is software whatever it is called', async () => {
    dawn({ X: adapter({ description: 'X', isFallbackAdapter: true }) });
    expect(await reports()).toMatchObject([{ description: 'X', software: true, used: true, ceilings: {} }]);
  });

  it('an adapter that Dawn prefers but does not list comes first, its backend unknown', async () => {
    dawn({ 'Acme One': card }, new Error("backend: 'gl', name: 'Other'"));
    vi.mocked(device.requestAdapter).mockImplementation(async (options = []) => {
      if (options.length === 0) return card;
      if (options.includes('adapter=Other')) return nameless;
      throw new Error("backend: 'gl', name: 'Other'");
    });
    expect(await reports()).toMatchObject([
      { backend: 'unknown', description: 'Acme One', used: true },
      { backend: 'gl', description: '', used: false },
    ]);
  });

  it('Dawn that cannot be asked is a DeviceError, 1', async () => {
    dawn({ 'Acme One': card }, new DeviceError('Dawn could not be loaded'));
    const { status, stdout, stderr } = await matganHere('devices', '--json');
    expect([status, stdout, stderr]).toEqual([1, '', 'DeviceError: Dawn could not be loaded\n']);
  });

  it('nothing listed and nothing preferred: an empty list', async () => {
    dawn({ 'Acme One': card });
    vi.mocked(device.requestAdapter).mockResolvedValue(null);
    expect(await reports()).toEqual([]);
    expect(ceilings.measureCeilings).not.toHaveBeenCalled();
  });
});
