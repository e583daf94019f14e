// Asks Dawn for an adapter, runs one kernel on it and reads the result back. A process of its own: a broken driver can
// end it, and setup.mjs then knows. Prints one line of JSON: {"ok": true, "adapter": {…}} or {"ok": false, "why": "…"}.
import { writeSync } from 'node:fs';

const report = (result) => {
  writeSync(1, `${JSON.stringify(result)}\n`);
  // Dawn's threads must not keep the process: everything worth knowing has been written.
  process.exit(result.ok ? 0 : 1);
};

try {
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  const gpu = create([]);
  // On globalThis, so that it outlives the device: Dawn aborts when it is collected first.
  globalThis.keep = gpu;
  const adapter = await gpu.requestAdapter();
  if (!adapter) report({ ok: false, why: 'Dawn found no adapter' });
  const device = await adapter.requestDevice();
  const count = 64;
  const module = device.createShaderModule({
    code: `@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { data[id.x] = id.x * id.x + 1u; }`,
  });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const buffer = device.createBuffer({ size: count * 4, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const readback = device.createBuffer({ size: count * 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const entries = [{ binding: 0, resource: { buffer } }];
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, readback, 0, count * 4);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(GPUMapMode.READ);
  const values = new Uint32Array(readback.getMappedRange());
  const wrong = values.findIndex((value, i) => value !== i * i + 1);
  if (wrong >= 0) report({ ok: false, why: `the adapter computes wrongly: element ${wrong} is ${values[wrong]}` });
  const { vendor, architecture, description } = adapter.info;
  report({ ok: true, adapter: { vendor, architecture, description } });
} catch (error) {
  report({ ok: false, why: error instanceof Error ? error.message : String(error) });
}
