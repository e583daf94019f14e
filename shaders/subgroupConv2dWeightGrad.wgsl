// conv2dWeightGrad for subgroup.wgsl: rows are input channels of one filter tap, columns output channels in fours. A run is the part of an
// output row that the tap meets; the images are shared out among splits, each of which writes a filter of its own.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
  splits: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(1) var<storage, read> quads: array<vec4f>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
const OUTSIDE = 0xffffffffu;

fn fours() -> u32 { return p.outChannels / 4u; }
fn leftStep() -> u32 { return p.strideW * p.channels; }
fn rightStep() -> u32 { return p.outChannels / 4u; }

/// First and last + 1 of the outputs whose window meets an image of `size` with its tap `tap`.
fn outputs(tap: u32, padding: u32, stride: u32, size: u32, count: u32) -> vec2u {
  let first = select(0u, (padding - tap + stride - 1u) / stride, tap < padding);
  let last = select(0u, (size - 1u + padding - tap) / stride + 1u, tap < size + padding);
  return vec2u(first, max(first, min(last, count)));
}

fn placeOf(group: u32, width: u32, rows: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.channels + rows - 1u) / rows;
  let taps = p.kernelHeight * p.kernelWidth;
  let split = group / across / down / taps;
  let tap = vec2u(group / across / down % taps / p.kernelWidth, group / across / down % p.kernelWidth);
  // Images, in equal shares; then rows of the output.
  let share = (p.batch + p.splits - 1u) / p.splits;
  let image = min(split * share, p.batch);
  return Place(
    group / across % down * rows, group % across * width, select(group / across / down, OUTSIDE, split >= p.splits),
    vec2u(image, min(image + share, p.batch)), outputs(tap.x, p.top, p.strideH, p.height, p.outHeight),
    outputs(tap.y, p.left, p.strideW, p.width, p.outWidth), tap);
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.channels - 1u); }

fn runAt(t: Place, image: u32, oh: u32) -> Run {
  let h = oh * p.strideH + t.tap.x - p.top;
  let w = t.origin.x * p.strideW + t.tap.y - p.left;
  return Run(
    ((image * p.height + h) * p.width + w) * p.channels, ((image * p.outHeight + oh) * p.outWidth + t.origin.x) * rightStep(),
    t.origin.y - t.origin.x);
}

/// Four channels side by side, in one load: this lane's rows of each group are those, not every eighth. Channels come in fours where
/// this is asked.
fn rowsAt(t: Place, lane: u32) -> vec4u { return vec4u(min(t.row + 4u * lane, p.channels - 4u)); }
/// A run's term at `i` and the next one, or nothing where that is not of the run.
fn termsAt(rows: vec4u, i: u32, more: bool) -> mat4x2f {
  let at = rows.x + i;
  let x = quads[at / 4u];
  let y = select(vec4f(), quads[select(at, at + leftStep(), more) / 4u], more);
  return mat4x2f(x.x, y.x, x.y, y.y, x.z, y.z, x.w, y.w);
}
/// The row of an entry's m-th sum.
fn rowOf(m: u32) -> u32 { return 4u * (m % LANES) + m / LANES; }

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.channels || four >= fours()) { return; }
  out[(t.base * p.channels + t.row + m) * fours() + four] = v;
}
