// x[n,h,w,c] = Σ_{kh,kw,o} y[n, (h + top − kh)/sh, (w + left − kw)/sw, o]·f[kh,kw,c,o] where the divisions leave no rest and
// the position is inside: the adjoint of conv2d in its image, which is transposed convolution.
// A gather, not a scatter: each thread makes one image position by 8 channels.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.channels + 7u) / 8u;
  let c0 = (t % across) * 8u;
  let m = t / across;
  if (m >= p.batch * p.height * p.width) { return; }
  let w = m % p.width;
  let h = (m / p.width) % p.height;
  let n = m / p.width / p.height;
  let last = p.channels - 1u;
  let q0 = p.outChannels * vec4u(min(c0, last), min(c0 + 1u, last), min(c0 + 2u, last), min(c0 + 3u, last));
  let q1 = p.outChannels * vec4u(min(c0 + 4u, last), min(c0 + 5u, last), min(c0 + 6u, last), min(c0 + 7u, last));
  var a = vec4f();
  var b = vec4f();
  // Only every stride-th filter row meets an output row.
  for (var kh = (h + p.top) % p.strideH; kh < p.kernelHeight; kh += p.strideH) {
    let oh = (h + p.top - kh) / p.strideH;
    if (h + p.top < kh || oh >= p.outHeight) { continue; }
    for (var kw = (w + p.left) % p.strideW; kw < p.kernelWidth; kw += p.strideW) {
      let ow = (w + p.left - kw) / p.strideW;
      if (w + p.left < kw || ow >= p.outWidth) { continue; }
      let yi = ((n * p.outHeight + oh) * p.outWidth + ow) * p.outChannels;
      let fi = (kh * p.kernelWidth + kw) * p.channels * p.outChannels;
      for (var o = 0u; o < p.outChannels; o++) {
        let s = y[yi + o];
        let g = fi + o;
        a += s * vec4f(f[g + q0.x], f[g + q0.y], f[g + q0.z], f[g + q0.w]);
        b += s * vec4f(f[g + q1.x], f[g + q1.y], f[g + q1.z], f[g + q1.w]);
      }
    }
  }
  for (var j = 0u; j < 4u; j++) {
    if (c0 + j < p.channels) { x[m * p.channels + c0 + j] = a[j]; }
    if (c0 + 4u + j < p.channels) { x[m * p.channels + c0 + 4u + j] = b[j]; }
  }
}
