/** The map in space: points, camera and drawing, the same in a browser and through Dawn. Nothing here is of Node or a page. */
import { mat4, vec3 } from 'wgpu-matrix';

/** Groups that the shader has colours for. */
export const mostColours = 12;

/** Where the camera is: it circles the origin. */
export interface Camera {
  /** Radians: around the vertical, and above the horizon. */
  yaw: number;
  pitch: number;
  /** From what it looks at; the points fill a ball of radius 1. */
  distance: number;
  target: [number, number, number];
}

export const firstCamera = (flat: boolean): Camera =>
  flat
    ? { yaw: 0, pitch: 0, distance: 2.9, target: [0, 0, 0] }
    : { yaw: 0.6, pitch: 0.35, distance: 2.6, target: [0, 0, 0] };

/** What is drawn besides the points. */
export interface Look {
  /** Pixels. */
  width: number;
  height: number;
  /** Radius of a point in the world. */
  radius: number;
  background: readonly [number, number, number];
  /** Of each group, 0 to 1; `hidden` ones are not drawn. */
  colours: readonly (readonly [number, number, number])[];
  hidden?: readonly boolean[];
}

const fieldOfView = 0.7;

/** The camera's axes and its matrix from world to clip, column-major. */
export function cameraMatrix(camera: Camera, aspect: number) {
  const { yaw, pitch, distance, target } = camera;
  const back = vec3.create(Math.sin(yaw) * Math.cos(pitch), Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch));
  const eye = vec3.addScaled(target, back, distance);
  const view = mat4.lookAt(eye, target, [0, 1, 0]);
  const projection = mat4.perspective(fieldOfView, aspect, 0.02, distance + 20);
  return {
    matrix: mat4.multiply(projection, view) as Float32Array,
    right: [view[0], view[4], view[8]],
    up: [view[1], view[5], view[9]],
  };
}

/** Points moved and scaled into a ball of radius 1 around the origin: (x, y, z, group) each. */
export function intoBall(positions: Float32Array, dimensions: number, group: Uint8Array): Float32Array<ArrayBuffer> {
  const points = group.length;
  const out = new Float32Array(4 * points);
  for (let c = 0; c < dimensions; c++) {
    let sum = 0;
    for (let i = 0; i < points; i++) sum += positions[i * dimensions + c];
    for (let i = 0; i < points; i++) out[4 * i + c] = positions[i * dimensions + c] - sum / points;
  }
  const sizes = Float32Array.from({ length: points }, (_, i) =>
    Math.hypot(out[4 * i], out[4 * i + 1], out[4 * i + 2]),
  ).sort();
  // A few points far out must not make the rest small.
  const radius = sizes[Math.floor(0.995 * (points - 1))] || 1;
  for (let i = 0; i < points; i++) {
    for (let c = 0; c < dimensions; c++) out[4 * i + c] /= radius;
    out[4 * i + 3] = group[i];
  }
  return out;
}

/** Radius of a point where there are so many. */
export const radiusOf = (points: number): number => Math.min(0.03, Math.max(0.0035, 0.6 / Math.sqrt(points)));

const samples = 4;
/** Floats of the shader's `View`. */
const viewFloats = 16 + 4 * 4 + 4 * mostColours;

/** Bits of WebGPU's usage flags, which Dawn does not define as globals before it is loaded. */
const usage = { copyDst: 8, uniform: 0x40, storage: 0x80, attachment: 0x10 };

export interface Scene {
  /** Draws into a texture of the scene's format. */
  draw(target: GPUTexture, camera: Camera, look: Look): void;
  destroy(): void;
}

/** @param points from `intoBall` */
export function createScene(
  device: GPUDevice,
  shader: string,
  format: GPUTextureFormat,
  points: Float32Array<ArrayBuffer>,
): Scene {
  const module = device.createShaderModule({ label: 'scatter', code: shader });
  const pipeline = device.createRenderPipeline({
    label: 'scatter',
    layout: 'auto',
    vertex: { module, entryPoint: 'corner' },
    fragment: { module, entryPoint: 'disc', targets: [{ format }] },
    primitive: { topology: 'triangle-strip' },
    depthStencil: { format: 'depth24plus', depthWriteEnabled: true, depthCompare: 'less' },
    multisample: { count: samples, alphaToCoverageEnabled: true },
  });
  const view = device.createBuffer({ size: 4 * viewFloats, usage: usage.uniform | usage.copyDst });
  const buffer = device.createBuffer({ size: Math.max(16, points.byteLength), usage: usage.storage | usage.copyDst });
  device.queue.writeBuffer(buffer, 0, points);
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [
      { binding: 0, resource: { buffer: view } },
      { binding: 1, resource: { buffer } },
    ],
  });
  let colour: GPUTexture | undefined;
  let depth: GPUTexture | undefined;
  return {
    draw(target, camera, look) {
      const { width, height, background, colours, hidden = [] } = look;
      if (colour?.width !== width || colour.height !== height) {
        colour?.destroy();
        depth?.destroy();
        const attachment = { size: [width, height], sampleCount: samples, usage: usage.attachment };
        colour = device.createTexture({ ...attachment, format });
        depth = device.createTexture({ ...attachment, format: 'depth24plus' });
      }
      const { matrix, right, up } = cameraMatrix(camera, width / height);
      const values = new Float32Array(viewFloats);
      values.set(matrix, 0);
      values.set(right, 16);
      values.set(up, 20);
      values.set(background, 24);
      // At w = 1 half the height is tan(half the field of view): a radius of 0.7 pixels at least.
      const least = (0.7 * 2 * Math.tan(fieldOfView / 2)) / height;
      values.set([look.radius, least, Math.max(0.05, camera.distance - 1), camera.distance + 1.4], 28);
      colours.slice(0, mostColours).forEach((c, g) => {
        values.set([...c, hidden[g] ? 0 : 1], 32 + 4 * g);
      });
      device.queue.writeBuffer(view, 0, values);
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginRenderPass({
        colorAttachments: [
          {
            view: colour.createView(),
            resolveTarget: target.createView(),
            clearValue: [...background, 1],
            loadOp: 'clear',
            storeOp: 'discard',
          },
        ],
        depthStencilAttachment: {
          view: depth!.createView(),
          depthClearValue: 1,
          depthLoadOp: 'clear',
          depthStoreOp: 'discard',
        },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.draw(4, points.length / 4);
      pass.end();
      device.queue.submit([encoder.finish()]);
    },
    destroy() {
      for (const made of [view, buffer, colour, depth]) made?.destroy();
    },
  };
}

/** `#2f6db3` as three numbers from 0 to 1. */
export const colourOf = (hex: string): [number, number, number] =>
  [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255) as [number, number, number];
