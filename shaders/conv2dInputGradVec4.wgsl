// conv2dInputGrad for channels in fours and batches that fill a tile: the sum of conv2dInputGrad.wgsl. Each thread makes one image
// position of 8 images by 8 channels in registers. Neighbouring threads share the position, so that all of them visit the same
// filter taps. The filter comes with its last two axes swapped (filterSwap.wgsl, a copy of a few kB), so that a tile's
// channels are read as two vec4. Operations, bytes: as conv2dInputGrad.wgsl.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4f>;

fn store(n: u32, place: u32, k: u32, a: vec4f, b: vec4f) {
  if (n >= p.batch) { return; }
  let fours = p.channels / 4u;
  let i = (n * p.height * p.width + place) * fours + k;
  x[i] = finish(a, 4u * k, p.channels, 4u * i);
  if (k + 1u < fours) { x[i + 1u] = finish(b, 4u * k + 4u, p.channels, 4u * i + 4u); }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let fours = p.channels / 4u;
  let images = (p.batch + 7u) / 8u;
  let across = (fours + 1u) / 2u;
  let n = (t % images) * 8u;
  let k = (t / images % across) * 2u;
  let place = t / images / across;
  if (place >= p.height * p.width) { return; }
  let h = place / p.width + p.top;
  let w = place % p.width + p.left;
  // The second four of an odd number repeats the first and is not stored; so do images beyond the last one.
  let second = select(0u, 1u, k + 1u < fours);
  let size = p.outHeight * p.outWidth * p.outChannels;
  let last = p.batch - 1u;
  let r0 = min(n + 0u, last) * size;
  let r1 = min(n + 1u, last) * size;
  let r2 = min(n + 2u, last) * size;
  let r3 = min(n + 3u, last) * size;
  let r4 = min(n + 4u, last) * size;
  let r5 = min(n + 5u, last) * size;
  let r6 = min(n + 6u, last) * size;
  let r7 = min(n + 7u, last) * size;
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  // Only every stride-th filter row and column meets an output.
  for (var kh = h % p.strideH; kh < p.kernelHeight; kh += p.strideH) {
    let oh = (h - kh) / p.strideH;
    if (h < kh || oh >= p.outHeight) { continue; }
    for (var kw = w % p.strideW; kw < p.kernelWidth; kw += p.strideW) {
      let ow = (w - kw) / p.strideW;
      if (w < kw || ow >= p.outWidth) { continue; }
      let start = (oh * p.outWidth + ow) * p.outChannels;
      var g = (kh * p.kernelWidth + kw) * p.outChannels * fours + k;
      for (var i = start; i < start + p.outChannels; i++) {
        let u = f[g];
        let v = f[g + second];
        var s = y[r0 + i]; a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
        s = y[r1 + i]; a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
        s = y[r2 + i]; a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
        s = y[r3 + i]; a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
        s = y[r4 + i]; a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
        s = y[r5 + i]; a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
        s = y[r6 + i]; a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
        s = y[r7 + i]; a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
        g += fours;
      }
    }
  }
  store(n + 0u, place, k, a0, b0);
  store(n + 1u, place, k, a1, b1);
  store(n + 2u, place, k, a2, b2);
  store(n + 3u, place, k, a3, b3);
  store(n + 4u, place, k, a4, b4);
  store(n + 5u, place, k, a5, b5);
  store(n + 6u, place, k, a6, b6);
  store(n + 7u, place, k, a7, b7);
}
