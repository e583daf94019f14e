/** The map in space as a PNG, drawn through Dawn without a window. */
import { PNG } from 'pngjs';
import type { Device } from '../../kernels/device.ts';
import { shaderSource } from '../../kernels/kernel.ts';
import { type Camera, createScene, type Look } from './scene.ts';

/** @param points from `intoBall` @throws DeviceError */
export async function drawPicture(
  device: Device,
  points: Float32Array<ArrayBuffer>,
  camera: Camera,
  look: Look,
): Promise<Uint8Array> {
  const { width, height } = look;
  // Rows of a copy begin at multiples of 256 bytes.
  const stride = Math.ceil((4 * width) / 256) * 256;
  const format = 'rgba8unorm';
  const copy = device.createBuffer(stride * height, GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC, 'picture');
  try {
    await device.scoped('the picture of the map', async () => {
      const scene = createScene(device.gpu, shaderSource('scatter'), format, points);
      const target = device.gpu.createTexture({
        size: [width, height],
        format,
        usage: GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_SRC,
      });
      scene.draw(target, camera, look);
      const encoder = device.gpu.createCommandEncoder();
      encoder.copyTextureToBuffer({ texture: target }, { buffer: copy, bytesPerRow: stride }, [width, height]);
      device.gpu.queue.submit([encoder.finish()]);
      scene.destroy();
      target.destroy();
    });
    const rows = new Uint8Array(await device.read(copy, stride * height));
    const png = new PNG({ width, height });
    for (let y = 0; y < height; y++) png.data.set(rows.subarray(y * stride, y * stride + 4 * width), 4 * width * y);
    // Coverage ends as alpha: the picture has none.
    for (let at = 3; at < png.data.length; at += 4) png.data[at] = 255;
    return PNG.sync.write(png, { colorType: 2 });
  } finally {
    device.destroyBuffer(copy);
  }
}
