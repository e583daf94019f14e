/** WebGPU from Dawn in the places where browsers have it; import it before a framework. */
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const gpu = create([]);
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu, userAgent: 'node', hardwareConcurrency: 2 },
  configurable: true,
});
const { info } = await gpu.requestAdapter();
console.error(`adapter: ${info.description || info.device}`);
