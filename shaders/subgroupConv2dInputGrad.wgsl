// conv2dInputGrad for subgroup.wgsl: rows are images at one image position, columns image channels in fours. A run is a tap's output
// channels; the filter comes with its last two axes swapped (filterSwap.wgsl). Only every stride-th tap meets an output.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(1) var<storage, read> pairs: array<vec2f>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
const OUTSIDE = 0xffffffffu;

fn fours() -> u32 { return p.channels / 4u; }
fn leftStep() -> u32 { return 1u; }
fn rightStep() -> u32 { return p.channels / 4u; }

/// Of the taps that lead from position `at`, padding counted, to one of `size` outputs: how many, the first one, and its output. Each
/// further tap is a stride more, and its output one less.
struct Taps { count: u32, tap: u32, output: u32 }
fn taps(at: u32, stride: u32, kernel: u32, size: u32) -> Taps {
  let highest = at / stride;
  let output = min(highest, size - 1u);
  let tap = at - output * stride;
  return Taps(select(0u, min((kernel - 1u - tap) / stride, output) + 1u, tap < kernel), tap, output);
}

fn placeOf(group: u32, width: u32, rows: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.batch + rows - 1u) / rows;
  let place = group / across / down;
  let h = taps(place / p.width + p.top, p.strideH, p.kernelHeight, p.outHeight);
  let w = taps(place % p.width + p.left, p.strideW, p.kernelWidth, p.outWidth);
  return Place(
    group / across % down * rows, group % across * width, select(place, OUTSIDE, place >= p.height * p.width),
    vec2u(0u, h.count), vec2u(0u, w.count), vec2u(h.output, w.output), vec2u(h.tap, w.tap));
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.batch - 1u) * p.outHeight * p.outWidth * p.outChannels; }

fn runAt(t: Place, major: u32, minor: u32) -> Run {
  let tap = (t.tap.x + major * p.strideH) * p.kernelWidth + t.tap.y + minor * p.strideW;
  let at = (t.origin.x - major) * p.outWidth + t.origin.y - minor;
  return Run(at * p.outChannels, tap * p.outChannels * rightStep(), p.outChannels);
}

/// A row's term at `at` and the next one: channels are even in number where this is asked.
fn pairAt(at: u32, more: bool) -> vec2f { return pairs[at / 2u]; }

/// Of four groups of eight rows, this lane's own: where they begin.
fn rowsAt(t: Place, lane: u32) -> vec4u {
  return vec4u(rowAt(t, lane), rowAt(t, lane + LANES), rowAt(t, lane + 2u * LANES), rowAt(t, lane + 3u * LANES));
}
fn termsAt(rows: vec4u, i: u32, more: bool) -> mat4x2f {
  return mat4x2f(pairAt(rows.x + i, more), pairAt(rows.y + i, more), pairAt(rows.z + i, more), pairAt(rows.w + i, more));
}
/// The row of an entry's m-th sum.
fn rowOf(m: u32) -> u32 { return m; }

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.batch || four >= fours()) { return; }
  let at = ((t.row + m) * p.height * p.width + t.base) * fours() + four;
  out[at] = finish(v, 4u * four, p.channels, 4u * at);
}
