import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { viewerFile } from '../../../scripts/viewer.mjs';
import { type Device, openDevice } from '../../../src/kernels/device.ts';
import { shaderSource } from '../../../src/kernels/kernel.ts';
import { groupColours } from '../../../src/report/map/figure.ts';
import { colourOf } from '../../../src/report/map/scene.ts';
import { describeGpu } from '../../gpu.ts';

// The page's script as it ships, with Dawn in place of the browser's WebGPU and as much of a page as it touches.

type Listener = (event: Record<string, unknown>) => void;
class Part {
  hidden = true;
  textContent = '';
  style: Record<string, string> = {};
  dataset: Record<string, string> = {};
  checked = true;
  width = 0;
  height = 0;
  clientWidth = 200;
  clientHeight = 100;
  children: Part[] = [];
  readonly listeners = new Map<string, Listener>();
  addEventListener(name: string, listener: Listener): void {
    this.listeners.set(name, listener);
  }
  fire(name: string, event: Record<string, unknown> = {}): void {
    this.listeners.get(name)?.({ target: this, preventDefault: () => {}, ...event });
  }
  setPointerCapture(): void {}
  setAttribute(): void {}
  append(part: Part): void {
    this.children.push(part);
  }
  replaceChildren(...parts: Part[]): void {
    this.children = parts;
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: this.clientWidth };
  }
  get text(): string {
    return this.textContent + this.children.map(({ text }) => text).join('');
  }
}

function openPage(gpu: unknown, texture: () => unknown = () => undefined) {
  const ids = Object.fromEntries(
    ['map', 'tip', 'message', 'data', 'reset', 'spin', 'size'].map((id) => [id, new Part()]),
  );
  const boxes = [0, 1].map((g) => Object.assign(new Part(), { dataset: { group: String(g) } }));
  const places = Int16Array.of(0, 0, 8192, 0, 0, 0);
  ids.data.textContent = JSON.stringify({
    shader: shaderSource('scatter'),
    flat: true,
    names: ['training', 'generated'],
    colours: groupColours.slice(0, 2).map(colourOf),
    positions: Buffer.from(places.buffer).toString('base64'),
    group: Buffer.from([0, 1]).toString('base64'),
    formulas: 'Fe2O3\nNaCl',
  });
  Object.assign(ids.map, { getContext: () => ({ configure: () => {}, getCurrentTexture: texture }) });
  let frame: (() => void) | undefined;
  const page = {
    document: {
      getElementById: (id: string) => ids[id],
      createElement: () => new Part(),
      querySelectorAll: () => boxes,
    },
    navigator: { gpu },
    matchMedia: () => ({ matches: false, addEventListener: () => {} }),
    ResizeObserver: class {
      observe(): void {}
    },
    requestAnimationFrame: (draw: () => void) => {
      frame = draw;
    },
    devicePixelRatio: 1,
  };
  new Function(...Object.keys(page), readFileSync(viewerFile, 'utf8'))(...Object.values(page));
  const draw = (): boolean => {
    const asked = frame;
    frame = undefined;
    asked?.();
    return asked !== undefined;
  };
  return { ids, boxes, draw };
}

describe('the page’s script', () => {
  it.each<[string, unknown]>([
    ['no WebGPU', undefined],
    ['no adapter', { requestAdapter: async () => null }],
  ])('says so where there is %s', async (_, gpu) => {
    const { ids } = openPage(gpu);
    await vi.waitFor(() => expect(ids.message.textContent).toMatch(/shows no WebGPU adapter.*PNG and SVG/));
    expect(ids.message.hidden).toBe(false);
    expect(ids.map.hidden).toBe(true);
  });

  it('says what else goes wrong', async () => {
    const requestAdapter = async () => {
      throw new Error('the driver is asleep');
    };
    const { ids } = openPage({ requestAdapter });
    await vi.waitFor(() => expect(ids.message.textContent).toBe('The map could not be drawn: the driver is asleep'));
  });
});

describeGpu('the page’s script', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ limits: 'default' });
  });
  afterAll(() => device.destroy());

  it('draws, names what is pointed at, hides groups, zooms and moves', async () => {
    const made: GPUTexture[] = [];
    const texture = (): GPUTexture => {
      const usage = GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_SRC;
      const target = device.gpu.createTexture({ size: [200, 100], format: 'rgba8unorm', usage });
      made.push(target);
      return target;
    };
    const gpu = {
      requestAdapter: async () => ({ requestDevice: async () => device.gpu }),
      getPreferredCanvasFormat: () => 'rgba8unorm',
    };
    const { ids, boxes, draw } = openPage(gpu, texture);
    await vi.waitFor(() => expect(draw()).toBe(true));
    expect(ids.message.hidden).toBe(true);
    /** The colour in the middle of the last picture. */
    const middle = async (): Promise<number[]> => {
      const copy = device.createBuffer(1024 * 100, GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC, 'picture');
      const encoder = device.gpu.createCommandEncoder();
      encoder.copyTextureToBuffer({ texture: made.at(-1)! }, { buffer: copy, bytesPerRow: 1024 }, [200, 100]);
      device.gpu.queue.submit([encoder.finish()]);
      const bytes = new Uint8Array(await device.read(copy));
      device.destroyBuffer(copy);
      return [...bytes.subarray(50 * 1024 + 400, 50 * 1024 + 403)];
    };
    const [blue, , most] = await middle();
    expect(most).toBeGreaterThan(blue + 40);

    const { map, tip } = ids;
    map.fire('pointermove', { clientX: 100, clientY: 50 });
    expect(tip.hidden).toBe(false);
    expect(tip.text).toBe('Fe2O3training');
    map.fire('pointermove', { clientX: 10, clientY: 10 });
    expect(tip.hidden).toBe(true);

    boxes[0].checked = false;
    boxes[0].fire('change');
    expect(draw()).toBe(true);
    const [red, , least] = await middle();
    expect(red).toBeGreaterThan(least + 40);
    map.fire('pointermove', { clientX: 100, clientY: 50 });
    expect(tip.text).toBe('NaClgenerated');

    map.fire('wheel', { deltaY: -600, deltaMode: 0 });
    expect(draw()).toBe(true);
    map.fire('pointerdown', { pointerId: 1, clientX: 100, clientY: 50 });
    map.fire('pointermove', { pointerId: 1, clientX: 160, clientY: 50 });
    map.fire('pointerup', { pointerId: 1 });
    draw();
    expect(await middle()).toEqual([255, 255, 255]);
    map.fire('pointermove', { clientX: 160, clientY: 50 });
    expect(tip.text).toBe('NaClgenerated');
    map.fire('dblclick');
    draw();
    expect((await middle())[0]).toBeGreaterThan(least + 40);
    for (const key of ['ArrowLeft', 'ArrowUp', '+', '-']) map.fire('keydown', { key });
    expect(draw()).toBe(true);
    device.check();
    for (const target of made) target.destroy();
  });
});
