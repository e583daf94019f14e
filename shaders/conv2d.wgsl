// y[n,oh,ow,o] = Σ_{kh,kw,c} x[n, oh·sh + kh − top, ow·sw + kw − left, c]·f[kh,kw,c,o], zeros outside the image.
// Implicit matrix product: each thread makes one output position by 8 channels; no im2col in memory.
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.outChannels + 7u) / 8u;
  let o0 = (t % across) * 8u;
  let m = t / across;
  if (m >= p.batch * p.outHeight * p.outWidth) { return; }
  let ow = m % p.outWidth;
  let oh = (m / p.outWidth) % p.outHeight;
  let n = m / p.outWidth / p.outHeight;
  let last = p.outChannels - 1u;
  let q0 = vec4u(min(o0, last), min(o0 + 1u, last), min(o0 + 2u, last), min(o0 + 3u, last));
  let q1 = vec4u(min(o0 + 4u, last), min(o0 + 5u, last), min(o0 + 6u, last), min(o0 + 7u, last));
  var a = vec4f();
  var b = vec4f();
  for (var kh = 0u; kh < p.kernelHeight; kh++) {
    // Wraps to a large number above the image: one comparison serves both edges.
    let h = oh * p.strideH + kh - p.top;
    if (h >= p.height) { continue; }
    for (var kw = 0u; kw < p.kernelWidth; kw++) {
      let w = ow * p.strideW + kw - p.left;
      if (w >= p.width) { continue; }
      let xi = ((n * p.height + h) * p.width + w) * p.channels;
      var fi = (kh * p.kernelWidth + kw) * p.channels * p.outChannels;
      for (var c = 0u; c < p.channels; c++) {
        let s = x[xi + c];
        a += s * vec4f(f[fi + q0.x], f[fi + q0.y], f[fi + q0.z], f[fi + q0.w]);
        b += s * vec4f(f[fi + q1.x], f[fi + q1.y], f[fi + q1.z], f[fi + q1.w]);
        fi += p.outChannels;
      }
    }
  }
  for (var j = 0u; j < 4u; j++) {
    if (o0 + j < p.outChannels) { y[m * p.outChannels + o0 + j] = a[j]; }
    if (o0 + 4u + j < p.outChannels) { y[m * p.outChannels + o0 + 4u + j] = b[j]; }
  }
}
