// y[n,oh,ow,o] = Σ_{kh,kw,c} x[n, oh·sh + kh − top, ow·sw + kw − left, c]·f[kh,kw,c,o], zeros outside the image.
// Implicit matrix product, no im2col in memory: each thread makes 8 neighbouring output positions by 8 channels in registers, the
// lanes of a workgroup lie along the positions. Per tap and input channel 8 + 8 loads serve 64 multiply-adds. Written out by hand:
// an indexed array of accumulators would live in memory. For any sizes; conv2dVec4.wgsl is faster for output channels in fours.
// Operations: 2·n·oh·ow·kh·kw·in·out (less at the edges); least bytes: 4·(|x| + |f| + |y|).
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const OUTSIDE = 0xffffffffu;

/// Image row base, first row and first column of the window of output position m; the latter two wrap where they are negative.
fn window(m: u32) -> vec3u {
  // A position beyond the last one repeats it and is not stored.
  let v = min(m, p.batch * p.outHeight * p.outWidth - 1u);
  let row = v / p.outWidth;
  return vec3u(row / p.outHeight * p.height, (row % p.outHeight) * p.strideH - p.top, (v % p.outWidth) * p.strideW - p.left);
}

/// Index of the first channel that the tap (kh, kw) of a window sees.
fn pixel(v: vec3u, kh: u32, kw: u32) -> u32 {
  let h = v.y + kh;
  let w = v.z + kw;
  return select(OUTSIDE, ((v.x + h) * p.width + w) * p.channels, h < p.height && w < p.width);
}

fn load(i: u32, c: u32) -> f32 {
  return select(x[select(i + c, 0u, i == OUTSIDE)], 0.0, i == OUTSIDE);
}

fn store(m: u32, o: u32, a: vec4f, b: vec4f) {
  if (m >= p.batch * p.outHeight * p.outWidth) { return; }
  for (var j = 0u; j < 4u; j++) {
    if (o + j < p.outChannels) { y[m * p.outChannels + o + j] = a[j]; }
    if (o + 4u + j < p.outChannels) { y[m * p.outChannels + o + 4u + j] = b[j]; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let eights = (p.batch * p.outHeight * p.outWidth + 7u) / 8u;
  let m = (t % eights) * 8u;
  let o = (t / eights) * 8u;
  if (o >= p.outChannels) { return; }
  // Channels beyond the last one repeat it and are not stored.
  let last = p.outChannels - 1u;
  let q0 = min(o + 0u, last);
  let q1 = min(o + 1u, last);
  let q2 = min(o + 2u, last);
  let q3 = min(o + 3u, last);
  let q4 = min(o + 4u, last);
  let q5 = min(o + 5u, last);
  let q6 = min(o + 6u, last);
  let q7 = min(o + 7u, last);
  let v0 = window(m + 0u);
  let v1 = window(m + 1u);
  let v2 = window(m + 2u);
  let v3 = window(m + 3u);
  let v4 = window(m + 4u);
  let v5 = window(m + 5u);
  let v6 = window(m + 6u);
  let v7 = window(m + 7u);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  var g = 0u;
  for (var kh = 0u; kh < p.kernelHeight; kh++) {
    for (var kw = 0u; kw < p.kernelWidth; kw++) {
      let i0 = pixel(v0, kh, kw);
      let i1 = pixel(v1, kh, kw);
      let i2 = pixel(v2, kh, kw);
      let i3 = pixel(v3, kh, kw);
      let i4 = pixel(v4, kh, kw);
      let i5 = pixel(v5, kh, kw);
      let i6 = pixel(v6, kh, kw);
      let i7 = pixel(v7, kh, kw);
      for (var c = 0u; c < p.channels; c++) {
        let u = vec4f(f[g + q0], f[g + q1], f[g + q2], f[g + q3]);
        let v = vec4f(f[g + q4], f[g + q5], f[g + q6], f[g + q7]);
        var s = load(i0, c); a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
        s = load(i1, c); a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
        s = load(i2, c); a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
        s = load(i3, c); a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
        s = load(i4, c); a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
        s = load(i5, c); a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
        s = load(i6, c); a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
        s = load(i7, c); a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
        g += p.outChannels;
      }
    }
  }
  store(m + 0u, o, a0, b0);
  store(m + 1u, o, a1, b1);
  store(m + 2u, o, a2, b2);
  store(m + 3u, o, a3, b3);
  store(m + 4u, o, a4, b4);
  store(m + 5u, o, a5, b5);
  store(m + 6u, o, a6, b6);
  store(m + 7u, o, a7, b7);
}
