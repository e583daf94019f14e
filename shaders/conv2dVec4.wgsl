// conv2d for output channels in fours: the sum and the tile of conv2d.wgsl, 8 output positions by 8 channels a thread. The filter is
// read and the output written as vec4: a load costs a software adapter nearly the same whatever its width, and of the tile's 16
// loads 8 become 2. Operations and least bytes as conv2d.wgsl.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;

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
  return select(x[i + c], 0.0, i == OUTSIDE);
}

fn store(m: u32, o: u32, a: vec4f, b: vec4f) {
  if (m >= p.batch * p.outHeight * p.outWidth) { return; }
  let fours = p.outChannels / 4u;
  y[m * fours + o] = a;
  if (o + 1u < fours) { y[m * fours + o + 1u] = b; }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let eights = (p.batch * p.outHeight * p.outWidth + 7u) / 8u;
  let fours = p.outChannels / 4u;
  let m = (t % eights) * 8u;
  let o = (t / eights) * 2u;
  if (o >= fours) { return; }
  // The second four of an odd number repeats the first and is not stored.
  let second = select(0u, 1u, o + 1u < fours);
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
  var g = o;
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
        let u = f[g];
        let v = f[g + second];
        var s = load(i0, c); a0 += s * u; b0 += s * v;
        s = load(i1, c); a1 += s * u; b1 += s * v;
        s = load(i2, c); a2 += s * u; b2 += s * v;
        s = load(i3, c); a3 += s * u; b3 += s * v;
        s = load(i4, c); a4 += s * u; b4 += s * v;
        s = load(i5, c); a5 += s * u; b5 += s * v;
        s = load(i6, c); a6 += s * u; b6 += s * v;
        s = load(i7, c); a7 += s * u; b7 += s * v;
        g += fours;
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
