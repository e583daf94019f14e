import { freemem } from 'node:os';
import { DeviceError } from '../errors.ts';

/** Bytes that this process can still take without the system ending it. */
function memoryLeft(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  const free = freemem();
  // Without a limit of its own a process is told 0, or a number beyond all memory.
  return limit > 0 && limit < 2 ** 50 ? Math.min(free, limit - process.memoryUsage.rss()) : free;
}

/**
 * Refuses work that the machine's memory does not hold, before any of it is taken: the system would end the process without a word.
 * @throws DeviceError
 */
export function checkMemory(what: string, bytes: number): void {
  const left = memoryLeft();
  if (bytes > left) {
    const gigabytes = (n: number): string => `${(n / 1e9).toFixed(1)} GB`;
    throw new DeviceError(
      `${what} needs ${gigabytes(bytes)}, this machine has ${gigabytes(left)} left; use a smaller batch or model`,
    );
  }
}
