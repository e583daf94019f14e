/** Samples of a time, collected by the package `benchmark`. */
import { ConfigError, DeviceError } from '../../errors.ts';

/** Seconds of each call of `run`, for about `seconds` and at least 5 calls. @throws whatever `run` throws */
export async function sample(name: string, run: () => Promise<void>, seconds: number): Promise<readonly number[]> {
  let Benchmark: typeof import('benchmark');
  try {
    // Imported here: a bundle without it must still do everything else.
    Benchmark = (await import('benchmark')).default;
  } catch (cause) {
    throw new ConfigError('bench: the package "benchmark" is missing here; run npm i benchmark', { cause });
  }
  let failure: unknown;
  const benchmark = new Benchmark(name, {
    // Without `defer` an asynchronous function is not awaited; with it a throw would hang, so none gets out.
    defer: true,
    async: true,
    minSamples: 5,
    maxTime: seconds,
    initCount: 1,
    minTime: 0.001,
    fn: (deferred: { resolve: () => void }) => {
      run().then(
        () => deferred.resolve(),
        (error) => {
          failure = error;
          benchmark.abort();
          deferred.resolve();
        },
      );
    },
  });
  await new Promise<void>((resolve) => {
    benchmark.on('complete abort error', () => resolve());
    benchmark.run({ async: true });
  });
  if (failure) throw failure;
  if (benchmark.error) throw benchmark.error;
  if (benchmark.stats.sample.length === 0) throw new DeviceError(`bench: ${name}: nothing was measured`);
  return benchmark.stats.sample;
}
