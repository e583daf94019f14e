// f[kh,kw,c,o] = Σ_{n,oh,ow} x[n, oh·sh + kh − top, ow·sw + kw − left, c]·y[n,oh,ow,o]: the adjoint of conv2d in its filter.
// Each thread makes one (kh, kw, c) by 8 output channels over its share of the positions (`splits` of them, in whole images
// and rows); reduce.wgsl adds the shares in a fixed order.
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.outChannels + 7u) / 8u;
  let taps = p.kernelHeight * p.kernelWidth * p.channels;
  let o0 = (t % across) * 8u;
  let m = (t / across) % taps;
  let split = t / across / taps;
  if (split >= p.splits) { return; }
  let c = m % p.channels;
  let kw = (m / p.channels) % p.kernelWidth;
  let kh = m / p.channels / p.kernelWidth;
  let last = p.outChannels - 1u;
  let q0 = vec4u(min(o0, last), min(o0 + 1u, last), min(o0 + 2u, last), min(o0 + 3u, last));
  let q1 = vec4u(min(o0 + 4u, last), min(o0 + 5u, last), min(o0 + 6u, last), min(o0 + 7u, last));
  var a = vec4f();
  var b = vec4f();
  for (var row = split; row < p.batch * p.outHeight; row += p.splits) {
    let h = (row % p.outHeight) * p.strideH + kh - p.top;
    if (h >= p.height) { continue; }
    let xi = ((row / p.outHeight) * p.height + h) * p.width;
    for (var ow = 0u; ow < p.outWidth; ow++) {
      let w = ow * p.strideW + kw - p.left;
      if (w >= p.width) { continue; }
      let s = x[(xi + w) * p.channels + c];
      let g = (row * p.outWidth + ow) * p.outChannels;
      a += s * vec4f(y[g + q0.x], y[g + q0.y], y[g + q0.z], y[g + q0.w]);
      b += s * vec4f(y[g + q1.x], y[g + q1.y], y[g + q1.z], y[g + q1.w]);
    }
  }
  let out = (split * taps + m) * p.outChannels;
  for (var j = 0u; j < 4u; j++) {
    if (o0 + j < p.outChannels) { f[out + o0 + j] = a[j]; }
    if (o0 + 4u + j < p.outChannels) { f[out + o0 + 4u + j] = b[j]; }
  }
}
