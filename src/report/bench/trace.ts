/** A profile as trace events, which chrome://tracing and ui.perfetto.dev open: one slice a dispatch. */
import { GpuExecutor } from '../../autograd/executor.ts';
import { showShape } from '../../autograd/graph.ts';
import { DeviceError } from '../../errors.ts';
import type { DispatchTime } from '../../kernels/program.ts';
import type { BenchCase } from './cases.ts';
import { openBenchDevice, prepare } from './measure.ts';

/** Chrome's trace event format: complete events (`X`) in µs, and metadata (`M`). */
export interface TraceEvent {
  name: string;
  ph: 'X' | 'M';
  pid: number;
  tid: number;
  cat?: string;
  ts?: number;
  dur?: number;
  args: Record<string, unknown>;
}
export interface Trace {
  traceEvents: TraceEvent[];
  displayTimeUnit: 'ms' | 'ns';
  otherData: Record<string, unknown>;
}

export interface Profile {
  adapter: string;
  name: string;
  times: DispatchTime[];
}

/**
 * Times of each dispatch of one replay of a case, which is checked and warmed up before.
 * @throws DeviceError where the adapter has no timestamps
 */
export async function profileCase(c: BenchCase): Promise<Profile> {
  const device = await openBenchDevice('own' in c && c.own !== undefined);
  try {
    const adapter = device.info.description || device.info.device;
    if (!device.features.has('timestamp-query')) {
      throw new DeviceError(`bench: ${adapter} has no timestamp queries, which --profile needs; time it without`);
    }
    const executor = new GpuExecutor(device);
    const prepared = await prepare(executor, c);
    try {
      await prepared.run();
      return { adapter, name: c.name, times: await prepared.plan.profile() };
    } finally {
      prepared.destroy();
    }
  } finally {
    device.destroy();
  }
}

/** Slices in the order in which they began. */
export function traceOf({ adapter, name, times }: Profile): Trace {
  const named = (what: string, text: string): TraceEvent => ({
    name: what,
    ph: 'M',
    pid: 1,
    tid: 1,
    args: { name: text },
  });
  const begin = Math.min(0, ...times.map(({ start }) => start));
  const slices = times.map((time): TraceEvent & { ts: number } => {
    const { label, scope, shape, kernel, workgroups, start, milliseconds, flops, bytes } = time;
    return {
      name: label,
      cat: 'dispatch',
      ph: 'X',
      pid: 1,
      tid: 1,
      ts: (start - begin) * 1000,
      dur: Math.max(0, milliseconds) * 1000,
      args: {
        ...(scope && { scope }),
        ...(shape && { shape: showShape(shape) }),
        kernel,
        workgroups: workgroups.join('×'),
        flops,
        bytes,
        ...(milliseconds > 0 && flops > 0 && { 'GFLOP/s': flops / milliseconds / 1e6 }),
        ...(milliseconds > 0 && bytes > 0 && { 'GB/s': bytes / milliseconds / 1e6 }),
      },
    };
  });
  slices.sort((a, b) => a.ts - b.ts);
  return {
    traceEvents: [named('process_name', adapter), named('thread_name', name), ...slices],
    displayTimeUnit: 'ms',
    otherData: { adapter, case: name, dispatches: times.length },
  };
}

/** Where the time of a profile goes, by op, the most first. */
export function byOp(
  times: readonly DispatchTime[],
): { op: string; dispatches: number; ms: number; flops: number; bytes: number }[] {
  const sums = new Map<string, { op: string; dispatches: number; ms: number; flops: number; bytes: number }>();
  for (const { label, milliseconds, flops, bytes } of times) {
    const sum = sums.get(label) ?? { op: label, dispatches: 0, ms: 0, flops: 0, bytes: 0 };
    sum.dispatches++;
    sum.ms += milliseconds;
    sum.flops += flops;
    sum.bytes += bytes;
    sums.set(label, sum);
  }
  return [...sums.values()].sort((a, b) => b.ms - a.ms);
}
