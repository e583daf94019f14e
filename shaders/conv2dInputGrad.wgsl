// x[n,h,w,c] = Σ_{kh,kw,o} y[n, (h + top − kh)/sh, (w + left − kw)/sw, o]·f[kh,kw,c,o] where the divisions leave no rest and
// the position is inside: the adjoint of conv2d in its image, which is transposed convolution.
// A gather, not a scatter: each thread makes 8 image positions by 8 channels in registers. Positions are taken by phase,
// (h mod sh, w mod sw): all of a phase meet the same filter taps, so that no tap is visited in vain. Lanes lie along the positions
// of a phase; per tap and output channel 8 + 8 loads serve 64 multiply-adds. For any sizes; conv2dInputGradVec4.wgsl is faster for
// channels in fours, conv2dInputGradGather.wgsl for a few.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

const OUTSIDE = 0xffffffffu;

/// Image number, row and column of position m of a phase, the latter two in strides.
fn place(m: u32) -> vec3u {
  let columns = (p.width + p.strideW - 1u) / p.strideW;
  let rows = (p.height + p.strideH - 1u) / p.strideH;
  let row = m / columns;
  return vec3u(row / rows, row % rows, m % columns);
}

/// Index of the first output channel that position v meets through a tap `by` output rows and columns away.
fn pixel(v: vec3u, by: vec2u) -> u32 {
  // Wraps to a large number above the output: one comparison serves both edges.
  let at = v.yz + by;
  let inside = v.x < p.batch && at.x < p.outHeight && at.y < p.outWidth;
  return select(OUTSIDE, ((v.x * p.outHeight + at.x) * p.outWidth + at.y) * p.outChannels, inside);
}

fn load(i: u32, o: u32) -> f32 {
  return select(y[select(i + o, 0u, i == OUTSIDE)], 0.0, i == OUTSIDE);
}

fn store(v: vec3u, phase: vec2u, c: u32, a: vec4f, b: vec4f) {
  let at = v.yz * vec2u(p.strideH, p.strideW) + phase;
  if (v.x >= p.batch || at.x >= p.height || at.y >= p.width) { return; }
  let i = ((v.x * p.height + at.x) * p.width + at.y) * p.channels;
  for (var j = 0u; j < 4u; j++) {
    if (c + j < p.channels) { x[i + c + j] = a[j]; }
    if (c + 4u + j < p.channels) { x[i + c + 4u + j] = b[j]; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let columns = (p.width + p.strideW - 1u) / p.strideW;
  let rows = (p.height + p.strideH - 1u) / p.strideH;
  let eights = (p.batch * rows * columns + 7u) / 8u;
  let m = (t % eights) * 8u;
  let which = t / eights % (p.strideH * p.strideW);
  let phase = vec2u(which / p.strideW, which % p.strideW);
  let c = t / eights / (p.strideH * p.strideW) * 8u;
  if (c >= p.channels) { return; }
  let last = p.channels - 1u;
  let v0 = place(m + 0u);
  let v1 = place(m + 1u);
  let v2 = place(m + 2u);
  let v3 = place(m + 3u);
  let v4 = place(m + 4u);
  let v5 = place(m + 5u);
  let v6 = place(m + 6u);
  let v7 = place(m + 7u);
  let q0 = min(c + 0u, last) * p.outChannels;
  let q1 = min(c + 1u, last) * p.outChannels;
  let q2 = min(c + 2u, last) * p.outChannels;
  let q3 = min(c + 3u, last) * p.outChannels;
  let q4 = min(c + 4u, last) * p.outChannels;
  let q5 = min(c + 5u, last) * p.outChannels;
  let q6 = min(c + 6u, last) * p.outChannels;
  let q7 = min(c + 7u, last) * p.outChannels;
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  let origin = phase + vec2u(p.top, p.left);
  for (var kh = origin.x % p.strideH; kh < p.kernelHeight; kh += p.strideH) {
    for (var kw = origin.y % p.strideW; kw < p.kernelWidth; kw += p.strideW) {
      // Exact, and negative where the tap reaches back.
      let by = bitcast<vec2u>((vec2i(origin) - vec2i(vec2u(kh, kw))) / vec2i(vec2u(p.strideH, p.strideW)));
      let i0 = pixel(v0, by);
      let i1 = pixel(v1, by);
      let i2 = pixel(v2, by);
      let i3 = pixel(v3, by);
      let i4 = pixel(v4, by);
      let i5 = pixel(v5, by);
      let i6 = pixel(v6, by);
      let i7 = pixel(v7, by);
      var g = (kh * p.kernelWidth + kw) * p.channels * p.outChannels;
      for (var o = 0u; o < p.outChannels; o++) {
        let u = vec4f(f[g + q0], f[g + q1], f[g + q2], f[g + q3]);
        let v = vec4f(f[g + q4], f[g + q5], f[g + q6], f[g + q7]);
        var s = load(i0, o); a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
        s = load(i1, o); a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
        s = load(i2, o); a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
        s = load(i3, o); a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
        s = load(i4, o); a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
        s = load(i5, o); a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
        s = load(i6, o); a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
        s = load(i7, o); a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
        g += 1u;
      }
    }
  }
  store(v0, phase, c, a0, b0);
  store(v1, phase, c, a1, b1);
  store(v2, phase, c, a2, b2);
  store(v3, phase, c, a3, b3);
  store(v4, phase, c, a4, b4);
  store(v5, phase, c, a5, b5);
  store(v6, phase, c, a6, b6);
  store(v7, phase, c, a7, b7);
}
