/**
 * The script of a map's page, for browsers: bundled with the camera into data/viewer/map.js by scripts/viewer.mjs. It has a
 * TypeScript configuration of its own (tsconfig.viewer.json), since a browser's types and Node's contradict one another.
 */
import { type Camera, cameraMatrix, createScene, firstCamera, radiusOf } from './scene.ts';

/** What the page holds beside the script; `MapData` of page.ts. */
interface MapData {
  shader: string;
  flat: boolean;
  names: string[];
  colours: [number, number, number][];
  /** Base64 of little-endian 16-bit numbers, three a point: −32767 … 32767 for −2 … 2. */
  positions: string;
  /** Base64, a byte a point. */
  group: string;
  /** Lines. */
  formulas: string;
}

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const canvas = byId<HTMLCanvasElement>('map');
const tip = byId('tip');
const message = byId('message');

function say(text: string): void {
  message.textContent = text;
  message.hidden = text === '';
}

const bytesOf = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function start(): Promise<void> {
  const data = JSON.parse(byId('data').textContent ?? '') as MapData;
  const places = new Int16Array(bytesOf(data.positions).buffer);
  const group = bytesOf(data.group);
  const formulas = data.formulas.split('\n');
  const points = new Float32Array(4 * group.length);
  for (let i = 0; i < group.length; i++) {
    for (let c = 0; c < 3; c++) points[4 * i + c] = (places[3 * i + c] * 2) / 32767;
    points[4 * i + 3] = group[i];
  }

  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) {
    say(
      'This browser shows no WebGPU adapter, which this view is drawn by. Chrome and Edge have it from version 113, Safari from 26, Firefox from 141 (Windows); ' +
        'on Linux it may need to be switched on. The PNG and SVG beside this page show the same map.',
    );
    canvas.hidden = true;
    return;
  }
  const device = await adapter.requestDevice();
  device.lost.then(({ message: why, reason }) => {
    if (reason !== 'destroyed') say(`The graphics device was lost (${why || reason}). Reload the page.`);
  });
  device.addEventListener('uncapturederror', (event) => say((event as GPUUncapturedErrorEvent).error.message));
  const context = canvas.getContext('webgpu') as unknown as GPUCanvasContext;
  const format = navigator.gpu.getPreferredCanvasFormat();
  context.configure({ device, format, alphaMode: 'opaque' });
  const scene = createScene(device, data.shader, format, points);

  let camera: Camera = firstCamera(data.flat);
  const hidden = data.names.map(() => false);
  let size = 1;
  let spinning = false;
  let asked = false;
  const isDark = matchMedia('(prefers-color-scheme: dark)');

  const draw = (): void => {
    asked = false;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.max(1, Math.min(device.limits.maxTextureDimension2D, Math.round(canvas.clientWidth * ratio)));
    const height = Math.max(1, Math.min(device.limits.maxTextureDimension2D, Math.round(canvas.clientHeight * ratio)));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    if (spinning) camera.yaw += 0.006;
    scene.draw(context.getCurrentTexture(), camera, {
      width,
      height,
      radius: size * radiusOf(group.length),
      background: isDark.matches ? [0.11, 0.137, 0.153] : [1, 1, 1],
      colours: data.colours,
      hidden,
    });
    if (spinning) redraw();
  };
  function redraw(): void {
    if (asked) return;
    asked = true;
    requestAnimationFrame(draw);
  }

  /** Number of the nearest point that shows under the pointer, or -1. */
  const pick = (x: number, y: number): number => {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const { matrix: m } = cameraMatrix(camera, width / height);
    let found = -1;
    let nearest = Number.POSITIVE_INFINITY;
    const radius = size * radiusOf(group.length);
    for (let i = 0; i < group.length; i++) {
      if (hidden[group[i]]) continue;
      const [px, py, pz] = [points[4 * i], points[4 * i + 1], points[4 * i + 2]];
      const w = m[3] * px + m[7] * py + m[11] * pz + m[15];
      if (w <= 0 || w >= nearest) continue;
      const sx = ((m[0] * px + m[4] * py + m[8] * pz + m[12]) / w + 1) * 0.5 * width;
      const sy = (1 - (m[1] * px + m[5] * py + m[9] * pz + m[13]) / w) * 0.5 * height;
      // As large as it is drawn, and three pixels at least for an unsteady hand.
      const reach = Math.max(3, (radius * height * 1.37) / w);
      if ((sx - x) ** 2 + (sy - y) ** 2 < reach * reach) {
        found = i;
        nearest = w;
      }
    }
    return found;
  };

  const hover = (event: PointerEvent): void => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const i = pick(x, y);
    tip.hidden = i < 0;
    if (i < 0) return;
    const label = document.createElement('span');
    for (const part of formulas[i].split(/(\d+)/)) {
      const piece = document.createElement(/^\d/.test(part) ? 'sub' : 'b');
      piece.textContent = part;
      label.append(piece);
    }
    const name = document.createElement('small');
    name.textContent = data.names[group[i]];
    tip.replaceChildren(label, name);
    tip.style.left = `${Math.min(x + 14, box.width - 160)}px`;
    tip.style.top = `${Math.max(0, y - 40)}px`;
  };

  const zoom = (factor: number): void => {
    camera.distance = Math.min(20, Math.max(0.08, camera.distance * factor));
    redraw();
  };
  const turn = (dx: number, dy: number): void => {
    camera.yaw -= dx;
    camera.pitch = Math.min(1.55, Math.max(-1.55, camera.pitch + dy));
    redraw();
  };
  const move = (dx: number, dy: number): void => {
    const { right, up } = cameraMatrix(camera, 1);
    const scale = camera.distance * 0.73;
    for (let c = 0; c < 3; c++) camera.target[c] += scale * (up[c] * dy - right[c] * dx);
    redraw();
  };

  /** Pointers that are down: one turns or moves, two pinch. */
  const down = new Map<number, { x: number; y: number }>();
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    tip.hidden = true;
  });
  const up = (event: PointerEvent): void => void down.delete(event.pointerId);
  canvas.addEventListener('pointerup', up);
  canvas.addEventListener('pointercancel', up);
  canvas.addEventListener('pointerleave', () => {
    tip.hidden = true;
  });
  canvas.addEventListener('pointermove', (event) => {
    const before = down.get(event.pointerId);
    if (!before) return hover(event);
    const now = { x: event.clientX, y: event.clientY };
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    const [dx, dy] = [(now.x - before.x) / canvas.clientHeight, (now.y - before.y) / canvas.clientHeight];
    if (other) {
      const distance = (p: { x: number; y: number }): number => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      zoom(distance(before) / distance(now));
    } else if (data.flat || event.shiftKey || event.buttons & 6) move(dx, dy);
    else turn(4 * dx, 4 * dy);
    down.set(event.pointerId, now);
  });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      zoom(Math.exp(0.0012 * event.deltaY * (event.deltaMode ? 16 : 1)));
    },
    { passive: false },
  );
  canvas.addEventListener('keydown', (event) => {
    const step = 0.08;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => (data.flat ? move(step, 0) : turn(step, 0)),
      ArrowRight: () => (data.flat ? move(-step, 0) : turn(-step, 0)),
      ArrowUp: () => (data.flat ? move(0, step) : turn(0, step)),
      ArrowDown: () => (data.flat ? move(0, -step) : turn(0, -step)),
      '+': () => zoom(0.9),
      '=': () => zoom(0.9),
      '-': () => zoom(1 / 0.9),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  const reset = (): void => {
    camera = firstCamera(data.flat);
    redraw();
  };
  canvas.addEventListener('dblclick', reset);
  byId('reset').addEventListener('click', reset);
  byId('spin').addEventListener('click', () => {
    spinning = !spinning;
    byId('spin').setAttribute('aria-pressed', String(spinning));
    redraw();
  });
  byId<HTMLInputElement>('size').addEventListener('input', ({ target }) => {
    size = 2 ** Number((target as HTMLInputElement).value);
    redraw();
  });
  document.querySelectorAll<HTMLInputElement>('input[data-group]').forEach((box) => {
    box.addEventListener('change', () => {
      hidden[Number(box.dataset.group)] = !box.checked;
      tip.hidden = true;
      redraw();
    });
  });
  isDark.addEventListener('change', redraw);
  new ResizeObserver(redraw).observe(canvas);
  say('');
  redraw();
}

start().catch((error: unknown) => say(`The map could not be drawn: ${error instanceof Error ? error.message : error}`));
