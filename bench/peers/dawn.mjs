/** WebGPU from Dawn in the places where browsers have it; import it before a framework. */
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const gpu = create([]);
const request = gpu.requestAdapter.bind(gpu);
gpu.requestAdapter = async (options) => {
  const adapter = await request(options);
  // TensorFlow.js still asks by the call that WebGPU has dropped.
  if (adapter && !adapter.requestAdapterInfo) adapter.requestAdapterInfo = async () => adapter.info;
  return adapter;
};
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu, userAgent: 'node', hardwareConcurrency: 2 },
  configurable: true,
});
const { info } = await gpu.requestAdapter();
console.error(`adapter: ${info.description || info.device}`);
