// f[kh,kw,c,o] = Σ_{n,oh,ow} x[n, oh·sh + kh − top, ow·sw + kw − left, c]·y[n,oh,ow,o]: the adjoint of conv2d in its filter.
// Each thread makes 8 rows of the filter, (kh, kw, c) flattened, by 8 output channels in registers, over its share of the positions:
// `splits` threads a tile take whole output rows in turn, and reduce.wgsl adds their shares in a fixed order. Per position 8 + 8
// loads serve 64 multiply-adds. For any sizes; conv2dWeightGradVec4.wgsl is faster for channels in fours.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
  splits: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> f: array<f32>;

/// One row of the filter: kh, kw, c.
fn tap(m: u32) -> vec3u {
  // A row beyond the last one repeats it and is not stored.
  let v = min(m, p.kernelHeight * p.kernelWidth * p.channels - 1u);
  let k = v / p.channels;
  return vec3u(k / p.kernelWidth, k % p.kernelWidth, v % p.channels);
}

/// The image element that a filter row sees from output (n, oh, ow), or 0 outside. `line` is n, oh·sh − top, ow·sw − left; the latter
/// two wrap where they are negative.
fn load(line: vec3u, v: vec3u) -> f32 {
  let h = line.y + v.x;
  let w = line.z + v.y;
  let i = ((line.x * p.height + h) * p.width + w) * p.channels + v.z;
  let inside = h < p.height && w < p.width;
  return select(0.0, x[select(0u, i, inside)], inside);
}

fn store(base: u32, m: u32, o: u32, a: vec4f, b: vec4f) {
  if (m >= p.kernelHeight * p.kernelWidth * p.channels) { return; }
  let i = base + m * p.outChannels;
  for (var j = 0u; j < 4u; j++) {
    if (o + j < p.outChannels) { f[i + o + j] = a[j]; }
    if (o + 4u + j < p.outChannels) { f[i + o + 4u + j] = b[j]; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.outChannels + 7u) / 8u;
  let taps = p.kernelHeight * p.kernelWidth * p.channels;
  let down = (taps + 7u) / 8u;
  let o = (t % across) * 8u;
  let m = (t / across % down) * 8u;
  let split = t / across / down;
  if (split >= p.splits) { return; }
  let last = p.outChannels - 1u;
  let v0 = tap(m + 0u);
  let v1 = tap(m + 1u);
  let v2 = tap(m + 2u);
  let v3 = tap(m + 3u);
  let v4 = tap(m + 4u);
  let v5 = tap(m + 5u);
  let v6 = tap(m + 6u);
  let v7 = tap(m + 7u);
  let q0 = min(o + 0u, last);
  let q1 = min(o + 1u, last);
  let q2 = min(o + 2u, last);
  let q3 = min(o + 3u, last);
  let q4 = min(o + 4u, last);
  let q5 = min(o + 5u, last);
  let q6 = min(o + 6u, last);
  let q7 = min(o + 7u, last);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  for (var row = split; row < p.batch * p.outHeight; row += p.splits) {
    for (var ow = 0u; ow < p.outWidth; ow++) {
      let line = vec3u(row / p.outHeight, (row % p.outHeight) * p.strideH - p.top, ow * p.strideW - p.left);
      let g = (row * p.outWidth + ow) * p.outChannels;
      let u = vec4f(y[g + q0], y[g + q1], y[g + q2], y[g + q3]);
      let v = vec4f(y[g + q4], y[g + q5], y[g + q6], y[g + q7]);
      var s = load(line, v0); a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
      s = load(line, v1); a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
      s = load(line, v2); a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
      s = load(line, v3); a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
      s = load(line, v4); a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
      s = load(line, v5); a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
      s = load(line, v6); a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
      s = load(line, v7); a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
    }
  }
  let base = split * taps * p.outChannels;
  store(base, m + 0u, o, a0, b0);
  store(base, m + 1u, o, a1, b1);
  store(base, m + 2u, o, a2, b2);
  store(base, m + 3u, o, a3, b3);
  store(base, m + 4u, o, a4, b4);
  store(base, m + 5u, o, a5, b5);
  store(base, m + 6u, o, a6, b6);
  store(base, m + 7u, o, a7, b7);
}
