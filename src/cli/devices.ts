import Table from 'cli-table3';
import { Command } from 'commander';
import { DeviceError } from '../errors.ts';
import { type Ceilings, measureCeilings } from '../kernels/ceilings.ts';
import { openDevice, requestAdapter } from '../kernels/device.ts';
import { note, standardOptions } from './common.ts';

/** The limits that decide what a kernel may do; the rest of WebGPU's are about pictures. */
const shownLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupsPerDimension',
] as const satisfies readonly (keyof GPUSupportedLimits)[];
type Limits = Record<(typeof shownLimits)[number], number>;

/** One row of `matgan devices --json`. */
interface AdapterReport {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  backend: string;
  /** True for a software rasteriser. */
  software: boolean;
  /** True for the adapter that the other commands use. */
  used: boolean;
  features: string[];
  /** What the adapter offers, and what a device gets that asks for nothing. */
  limits: { adapter: Limits; default: Limits };
  /** Only for the adapter in use. */
  ceilings?: Ceilings;
}

const pick = (limits: GPUSupportedLimits): Limits =>
  Object.fromEntries(shownLimits.map((name) => [name, limits[name]])) as Limits;

/**
 * Backend and name of each adapter. WebGPU itself hands out one adapter and keeps the others to itself; Dawn lists them
 * all in the message with which it refuses a name that none has.
 */
async function listAdapters(): Promise<{ backend: string; name: string }[]> {
  try {
    await requestAdapter(['adapter=\u0001']);
    return [];
  } catch (error) {
    if (error instanceof DeviceError) throw error;
    const rows = (error as Error).message.matchAll(/backend: '([^']*)', name: '(.*)'$/gm);
    return [...rows].map(([, backend, name]) => ({ backend, name }));
  }
}

const identity = ({ info }: GPUAdapter): string =>
  [info.vendor, info.architecture, info.device, info.description].join('|');

async function report(backend: string, adapter: GPUAdapter, used: boolean): Promise<AdapterReport> {
  const { vendor, architecture, device, description } = adapter.info;
  const software =
    adapter.info.isFallbackAdapter ||
    /llvmpipe|lavapipe|swiftshader|software/i.test(`${architecture} ${device} ${description}`);
  // Read before the device is made: making one uses the adapter up.
  const offered = pick(adapter.limits);
  const features = [...adapter.features].sort();
  const plain = await adapter.requestDevice();
  const limits = { adapter: offered, default: pick(plain.limits) };
  plain.destroy();
  return { vendor, architecture, device, description, backend, software, used, features, limits };
}

async function show(options: { json?: boolean; ceilings: boolean }): Promise<void> {
  const reports: AdapterReport[] = [];
  // First the device that every other command opens: where there is none, its error says what to do.
  const device = await openDevice();
  const preferred = await requestAdapter();
  const mine = preferred ? identity(preferred) : '';
  for (const { backend, name } of await listAdapters()) {
    const adapter = await requestAdapter([`backend=${backend}`, `adapter=${name}`]);
    if (!adapter) continue;
    const used = identity(adapter) === mine && !reports.some((other) => other.used);
    reports.push(await report(backend, adapter, used));
  }
  if (!reports.some((other) => other.used) && preferred) reports.unshift(await report('unknown', preferred, true));
  if (options.ceilings) {
    if (process.stderr.isTTY) note('measuring the ceilings …');
    const used = reports.find((other) => other.used);
    if (used) used.ceilings = await measureCeilings(device);
  }
  device.destroy();

  if (options.json) {
    process.stdout.write(`${JSON.stringify({ adapters: reports }, null, 2)}\n`);
    return;
  }
  for (const adapter of reports) process.stdout.write(`${render(adapter)}\n`);
}

function render(adapter: AdapterReport): string {
  const { limits, ceilings } = adapter;
  const lines = [
    `${adapter.description || adapter.device || 'unnamed adapter'}${adapter.used ? '  (in use)' : ''}`,
    `  vendor ${adapter.vendor || '-'}, architecture ${adapter.architecture || '-'}, device ${adapter.device || '-'}`,
    `  backend ${adapter.backend}, ${adapter.software ? 'software: runs on the processor' : 'hardware'}`,
    `  features: ${adapter.features.join(', ') || 'none'}`,
  ];
  if (ceilings) {
    const { fmaGflops, copyGbps, dispatchMicroseconds, submitMilliseconds } = ceilings;
    lines.push(
      `  ceilings: FMA ${fmaGflops.toFixed(1)} GFLOP/s, copy ${copyGbps.toFixed(1)} GB/s, ` +
        `dispatch ${dispatchMicroseconds.toFixed(1)} µs, submit and wait ${submitMilliseconds.toFixed(3)} ms`,
    );
  }
  const table = new Table({ head: ['limit', 'adapter', 'default'], style: { head: [], border: [] } });
  for (const name of shownLimits) table.push([name, limits.adapter[name], limits.default[name]]);
  return `${lines.join('\n')}\n${table.toString()}`;
}

/** `matgan devices`: adapters, limits, features, measured ceilings. */
export function devices(): Command {
  const command = new Command('devices')
    .description(
      'Show the adapters that Dawn finds, their limits and features, and the ceilings measured on the one in use.',
    )
    .option('--no-ceilings', 'do not measure')
    .action(show);
  return standardOptions(command, 'matgan devices --json');
}
