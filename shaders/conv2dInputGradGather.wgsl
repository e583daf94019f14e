// Second half of conv2dInputGrad for few image channels. The first half is a matrix product (dense.wgsl) of the output positions
// and the filter, z[n,oh,ow,kh,kw,c] = Σ_o y[n,oh,ow,o]·f[kh,kw,c,o], which shares each y between all taps; here every image
// element adds up the taps that meet it. Wins up to 4 channels, where the 8 channels of a tile would lie idle; costs z's memory.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.batch * p.height * p.width * p.channels) { return; }
  let c = t % p.channels;
  let m = t / p.channels;
  let w = m % p.width + p.left;
  let row = m / p.width;
  let h = row % p.height + p.top;
  let n = row / p.height;
  var total = 0.0;
  // Only every stride-th filter row and column meets an output.
  for (var kh = h % p.strideH; kh < p.kernelHeight; kh += p.strideH) {
    let oh = (h - kh) / p.strideH;
    if (h < kh || oh >= p.outHeight) { continue; }
    for (var kw = w % p.strideW; kw < p.kernelWidth; kw += p.strideW) {
      let ow = (w - kw) / p.strideW;
      if (w < kw || ow >= p.outWidth) { continue; }
      let at = (n * p.outHeight + oh) * p.outWidth + ow;
      total += z[((at * p.kernelHeight + kh) * p.kernelWidth + kw) * p.channels + c];
    }
  }
  x[t] = total;
}
