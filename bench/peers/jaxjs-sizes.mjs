/**
 * At which sizes jax-js's transposed convolution is right on WebGPU, against its own WebAssembly; and where it is wrong,
 * whether the shader or the adapter is: the shader is run in JavaScript, its whole numbers as BigInt, which divides as
 * WGSL does. `node jaxjs-sizes.mjs`.
 */
import './dawn.mjs';

const shaders = [];
const { createShaderModule } = GPUDevice.prototype;
GPUDevice.prototype.createShaderModule = function (descriptor) {
  shaders.push(descriptor.code);
  return createShaderModule.call(this, descriptor);
};
const { defaultDevice, init, lax, numpy: np } = await import('@jax-js/jax');
await init('webgpu', 'wasm');

const waves = (size, phase) => Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7 + phase));
const inputs = ([rows, channels, filters]) => [waves(rows * channels * 16, 1), waves(filters * channels * 9, 2)];
async function transposed(device, size) {
  defaultDevice(device);
  const [rows, channels, filters] = size;
  const [x, filter] = inputs(size).map((data) => np.array(data));
  const padding = [
    [2, 1],
    [2, 1],
  ];
  const y = lax.convGeneralDilated(
    x.reshape([rows, channels, 4, 4]),
    filter.reshape([filters, channels, 3, 3]),
    [1, 1],
    padding,
    { lhsDilation: [2, 2] },
  );
  return y.data();
}

/** An elementwise kernel of jax-js's, one invocation after the other. */
function emulate(code, buffers, size) {
  const body = code
    .slice(code.indexOf('{', code.indexOf('fn main')) + 1, code.lastIndexOf('}'))
    .replace(/(let|var) (\w+): \w+ =/g, 'let $2 =')
    .replace(/_ = &.*?;\n/g, '')
    .replace(/(?<![\w.])(\d+)(?![\w.])/g, '$1n')
    .replaceAll('f32(0n)', '0')
    .replaceAll('select(', 'select_(')
    .replaceAll('i32(id.x)', 'id_')
    .replaceAll('id.x', 'id_');
  const run = new Function('id_', 'in0', 'in1', 'result', 'select_', body);
  const result = new Float32Array(size);
  for (let id = 0; id < size; id++) run(BigInt(id), ...buffers, result, (no, yes, which) => (which ? yes : no));
  return result;
}
const wrong = (a, b) => a.filter((v, i) => !(Math.abs(v - b[i]) < 1e-4)).length;

for (const size of [
  [1, 1, 1],
  [4, 1, 1],
  [1, 3, 1],
  [1, 3, 4],
  [2, 1, 4],
  [4, 3, 4],
]) {
  shaders.length = 0;
  const gpu = await transposed('webgpu', size);
  const wasm = await transposed('wasm', size);
  const line = { size, elements: gpu.length, wrong: wrong(gpu, wasm) };
  if (line.wrong > 0) line.shaderAgainstAdapter = wrong(emulate(shaders.at(-1), inputs(size), gpu.length), gpu);
  console.log(JSON.stringify(line));
}
process.exit(0);
