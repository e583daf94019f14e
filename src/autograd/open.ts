import { DeviceError } from '../errors.ts';
import { type DeviceOptions, openDevice } from '../kernels/device.ts';
import { type Executor, GpuExecutor, ReferenceExecutor } from './executor.ts';

/** What `--device` takes: a GPU if there is one, a GPU or an error, the f64 reference. */
export type DeviceChoice = 'auto' | 'gpu' | 'reference';

/**
 * Opens the executor that `--device` asks for. `note` says what runs, for people; where `auto` found no GPU it says so
 * and why, and has to be shown: nothing falls back silently.
 * @throws DeviceError for `gpu` where there is no adapter.
 */
export async function openExecutor(
  choice: DeviceChoice,
  options: DeviceOptions = {},
): Promise<{ executor: Executor; note: string }> {
  if (choice === 'reference') return { executor: new ReferenceExecutor(), note: 'runs on the f64 reference executor' };
  try {
    const device = await openDevice(options);
    const { description, device: name, software } = device.info;
    const note = `runs on ${description || name || 'an unnamed adapter'}${software ? ' (software)' : ''}`;
    return { executor: new GpuExecutor(device), note };
  } catch (error) {
    if (choice === 'gpu' || !(error instanceof DeviceError)) throw error;
    const note = `NO GPU: runs on the f64 reference executor, which is slow (${error.message})`;
    return { executor: new ReferenceExecutor(), note };
  }
}
