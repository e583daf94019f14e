// conv2d for output channels in fours and batches that fill a tile: the sum of conv2d.wgsl. Each thread makes one output position of
// 8 images by 8 channels in registers. Neighbouring threads share the position (they differ in images and channels), so that taps
// in the padding, a quarter of a 5×5 filter's on an 11×8 image, are skipped by all of them at once. The filter is read and the
// output written as vec4: a load costs a software adapter nearly the same whatever its width. Operations, bytes: as conv2d.wgsl.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;

fn store(n: u32, place: u32, k: u32, a: vec4f, b: vec4f) {
  if (n >= p.batch) { return; }
  let fours = p.outChannels / 4u;
  let i = (n * p.outHeight * p.outWidth + place) * fours + k;
  y[i] = finish(a, 4u * k, p.outChannels, 4u * i);
  if (k + 1u < fours) { y[i + 1u] = finish(b, 4u * k + 4u, p.outChannels, 4u * i + 4u); }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let fours = p.outChannels / 4u;
  let images = (p.batch + 7u) / 8u;
  let across = (fours + 1u) / 2u;
  let n = (t % images) * 8u;
  let k = (t / images % across) * 2u;
  let place = t / images / across;
  if (place >= p.outHeight * p.outWidth) { return; }
  let oh = place / p.outWidth;
  let ow = place % p.outWidth;
  // The second four of an odd number repeats the first and is not stored; so do images beyond the last one.
  let second = select(0u, 1u, k + 1u < fours);
  let size = p.height * p.width * p.channels;
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
  for (var kh = 0u; kh < p.kernelHeight; kh++) {
    // Wraps to a large number above the image: one comparison serves both edges.
    let h = oh * p.strideH + kh - p.top;
    if (h >= p.height) { continue; }
    for (var kw = 0u; kw < p.kernelWidth; kw++) {
      let w = ow * p.strideW + kw - p.left;
      if (w >= p.width) { continue; }
      let start = (h * p.width + w) * p.channels;
      var g = (kh * p.kernelWidth + kw) * p.channels * fours + k;
      for (var i = start; i < start + p.channels; i++) {
        let u = f[g];
        let v = f[g + second];
        var s = x[r0 + i]; a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
        s = x[r1 + i]; a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
        s = x[r2 + i]; a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
        s = x[r3 + i]; a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
        s = x[r4 + i]; a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
        s = x[r5 + i]; a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
        s = x[r6 + i]; a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
        s = x[r7 + i]; a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
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
