/** What `--device` opens, with adapters that this machine does not have. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openExecutor } from '../../src/autograd/open.ts';
import { DeviceError } from '../../src/errors.ts';
import { type Device, openDevice } from '../../src/kernels/device.ts';

vi.mock('../../src/kernels/device.ts', () => ({ openDevice: vi.fn() }));
afterEach(() => vi.resetAllMocks());

const found = (info: object): void => {
  const whole = { vendor: '', architecture: '', device: '', description: '', software: false, ...info };
  vi.mocked(openDevice).mockResolvedValue({ info: whole } as Device);
};

describe('openExecutor', () => {
  it.each([
    [{ description: 'Card', device: 'C1' }, 'runs on Card'],
    [{ device: 'C1' }, 'runs on C1'],
    [{}, 'runs on an unnamed adapter'],
    [{ description: 'llvmpipe', software: true }, 'runs on llvmpipe (software)'],
  ])('%j: %s', async (info, note) => {
    found(info);
    for (const choice of ['auto', 'gpu'] as const) {
      expect(await openExecutor(choice)).toMatchObject({ executor: { kind: 'gpu' }, note });
    }
  });

  it('the reference needs no device', async () => {
    expect(await openExecutor('reference')).toMatchObject({
      executor: { kind: 'reference' },
      note: 'runs on the f64 reference executor',
    });
    expect(openDevice).not.toHaveBeenCalled();
  });

  it('without a GPU: auto goes on and says why, gpu fails', async () => {
    vi.mocked(openDevice).mockRejectedValue(new DeviceError('nothing there'));
    expect(await openExecutor('auto')).toMatchObject({
      executor: { kind: 'reference' },
      note: 'NO GPU: runs on the f64 reference executor, which is slow (nothing there)',
    });
    await expect(openExecutor('gpu')).rejects.toThrow(new DeviceError('nothing there'));
  });

  it('a fault of ours never falls back', async () => {
    vi.mocked(openDevice).mockRejectedValue(new TypeError('ours'));
    await expect(openExecutor('auto')).rejects.toThrow(new TypeError('ours'));
  });
});
