// conv2dWeightGrad for channels in fours on both sides: each thread makes 8 input by 8 output channels of one filter tap over its
// share of the positions, as conv2dWeightGrad.wgsl. Per position 4 vec4 loads serve 64 multiply-adds.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
  splits: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> y: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> f: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let inFours = p.channels / 4u;
  let outFours = p.outChannels / 4u;
  let across = (outFours + 1u) / 2u;
  let down = (inFours + 1u) / 2u;
  let o = (t % across) * 2u;
  let c = (t / across % down) * 2u;
  let tap = t / across / down % (p.kernelHeight * p.kernelWidth);
  let split = t / across / down / (p.kernelHeight * p.kernelWidth);
  if (split >= p.splits) { return; }
  let kh = tap / p.kernelWidth;
  let kw = tap % p.kernelWidth;
  // The second four of an odd number repeats the first and is not stored.
  let moreIn = select(0u, 1u, c + 1u < inFours);
  let moreOut = select(0u, 1u, o + 1u < outFours);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  for (var row = split; row < p.batch * p.outHeight; row += p.splits) {
    // Wraps to a large number above the image: one comparison serves both edges.
    let h = (row % p.outHeight) * p.strideH + kh - p.top;
    if (h >= p.height) { continue; }
    let line = (row / p.outHeight * p.height + h) * p.width;
    for (var ow = 0u; ow < p.outWidth; ow++) {
      let w = ow * p.strideW + kw - p.left;
      if (w >= p.width) { continue; }
      let i = (line + w) * inFours + c;
      let g = (row * p.outWidth + ow) * outFours + o;
      let r = x[i];
      let s = x[i + moreIn];
      let u = y[g];
      let v = y[g + moreOut];
      a0 = fma(vec4f(r.x), u, a0); b0 = fma(vec4f(r.x), v, b0);
      a1 = fma(vec4f(r.y), u, a1); b1 = fma(vec4f(r.y), v, b1);
      a2 = fma(vec4f(r.z), u, a2); b2 = fma(vec4f(r.z), v, b2);
      a3 = fma(vec4f(r.w), u, a3); b3 = fma(vec4f(r.w), v, b3);
      a4 = fma(vec4f(s.x), u, a4); b4 = fma(vec4f(s.x), v, b4);
      a5 = fma(vec4f(s.y), u, a5); b5 = fma(vec4f(s.y), v, b5);
      a6 = fma(vec4f(s.z), u, a6); b6 = fma(vec4f(s.z), v, b6);
      a7 = fma(vec4f(s.w), u, a7); b7 = fma(vec4f(s.w), v, b7);
    }
  }
  let at = ((split * p.kernelHeight * p.kernelWidth + tap) * p.channels + c * 4u) * outFours + o;
  f[at] = a0;
  f[at + outFours] = a1;
  f[at + 2u * outFours] = a2;
  f[at + 3u * outFours] = a3;
  if (moreOut == 1u) {
    f[at + 1u] = b0;
    f[at + outFours + 1u] = b1;
    f[at + 2u * outFours + 1u] = b2;
    f[at + 3u * outFours + 1u] = b3;
  }
  if (moreIn == 0u) { return; }
  f[at + 4u * outFours] = a4;
  f[at + 5u * outFours] = a5;
  f[at + 6u * outFours] = a6;
  f[at + 7u * outFours] = a7;
  if (moreOut == 1u) {
    f[at + 4u * outFours + 1u] = b4;
    f[at + 5u * outFours + 1u] = b5;
    f[at + 6u * outFours + 1u] = b6;
    f[at + 7u * outFours + 1u] = b7;
  }
}
