// conv2dWeightGrad for subgroup.wgsl: rows are input channels of one filter tap, columns output channels in fours. A run is the part of an
// output row that the tap meets; the rows are shared out among splits, each of which writes a filter of its own.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
  splits: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
const OUTSIDE = 0xffffffffu;

fn fours() -> u32 { return p.outChannels / 4u; }
fn leftStep() -> u32 { return p.strideW * p.channels; }
fn rightStep() -> u32 { return p.outChannels / 4u; }

fn placeOf(group: u32, width: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.channels + ROWS - 1u) / ROWS;
  let taps = p.kernelHeight * p.kernelWidth;
  let tap = group / across / down % taps;
  let split = group / across / down / taps;
  let kw = tap % p.kernelWidth;
  // First and last + 1 of the outputs in a row whose window's column kw lies on the image.
  let first = select(0u, (p.left - kw + p.strideW - 1u) / p.strideW, kw < p.left);
  let to = select(0u, (p.width - 1u + p.left - kw) / p.strideW + 1u, kw < p.width + p.left);
  return Place(
    group / across % down * ROWS, group % across * width, select(split * taps + tap, OUTSIDE, split >= p.splits),
    vec3u(split, p.batch * p.outHeight, p.splits), vec3u(first, min(to, p.outWidth), p.outWidth));
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.channels - 1u); }

fn runAt(t: Place, row: u32, ow: u32) -> Run {
  let tap = t.base % (p.kernelHeight * p.kernelWidth);
  // Wraps to a large number above the image: one comparison serves both edges.
  let h = row % p.outHeight * p.strideH + tap / p.kernelWidth - p.top;
  let w = ow * p.strideW + tap % p.kernelWidth - p.left;
  let line = (row / p.outHeight * p.height + h) * p.width + w;
  return Run(line * p.channels, (row * p.outWidth + ow) * rightStep(), select(0u, t.minor.y - ow, h < p.height));
}

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.channels || four >= fours()) { return; }
  out[(t.base * p.channels + t.row + m) * fours() + four] = v;
}
