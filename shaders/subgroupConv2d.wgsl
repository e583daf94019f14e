// conv2d for subgroup.wgsl: rows are images at one output position, so that taps in the padding are nobody's; columns are output
// channels, in fours. A run is a tap's input channels.
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

fn fours() -> u32 { return p.outChannels / 4u; }
fn leftStep() -> u32 { return 1u; }
fn rightStep() -> u32 { return p.outChannels / 4u; }

/// First and last + 1 of the taps that meet an image of `size` from `at`, which counts the padding.
fn taps(at: u32, padding: u32, kernel: u32, size: u32) -> vec2u {
  let first = select(0u, padding - at, at < padding);
  return vec2u(first, clamp(size + padding - min(at, size + padding), first, kernel));
}

fn placeOf(group: u32, width: u32, rows: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.batch + rows - 1u) / rows;
  let place = group / across / down;
  let h = place / p.outWidth * p.strideH;
  let w = place % p.outWidth * p.strideW;
  return Place(
    group / across % down * rows, group % across * width, select(place, OUTSIDE, place >= p.outHeight * p.outWidth),
    taps(h, p.top, p.kernelHeight, p.height), taps(w, p.left, p.kernelWidth, p.width), vec2u(h - p.top, w - p.left), vec2u());
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.batch - 1u) * p.height * p.width * p.channels; }

fn runAt(t: Place, kh: u32, kw: u32) -> Run {
  let at = (t.origin.x + kh) * p.width + t.origin.y + kw;
  return Run(at * p.channels, (kh * p.kernelWidth + kw) * p.channels * rightStep(), p.channels);
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
  let at = ((t.row + m) * p.outHeight * p.outWidth + t.base) * fours() + four;
  out[at] = finish(v, 4u * four, p.outChannels, 4u * at);
}
