// conv2dInputGrad for subgroup.wgsl: rows are images at one image position, columns image channels in fours. A run is a tap's output
// channels; the filter comes with its last two axes swapped (filterSwap.wgsl). Only every stride-th tap meets an output.
struct Params {
  batch: u32, height: u32, width: u32, channels: u32,
  outHeight: u32, outWidth: u32, outChannels: u32,
  kernelHeight: u32, kernelWidth: u32, strideH: u32, strideW: u32, top: u32, left: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
const OUTSIDE = 0xffffffffu;

fn fours() -> u32 { return p.channels / 4u; }
fn leftStep() -> u32 { return 1u; }
fn rightStep() -> u32 { return p.channels / 4u; }

/// First and last + 1 of the taps that lead from position `at`, padding counted, to one of `size` outputs.
fn taps(at: u32, stride: u32, kernel: u32, size: u32) -> vec3u {
  // at - tap is a multiple of the stride, and tap ≤ at, and (at - tap)/stride < size.
  let beyond = size * stride;
  let first = select(at % stride, at % stride + (at / stride + 1u - size) * stride, at >= beyond);
  return vec3u(first, min(at + 1u, kernel), stride);
}

fn placeOf(group: u32, width: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.batch + ROWS - 1u) / ROWS;
  let place = group / across / down;
  return Place(
    group / across % down * ROWS, group % across * width, select(place, OUTSIDE, place >= p.height * p.width),
    taps(place / p.width + p.top, p.strideH, p.kernelHeight, p.outHeight),
    taps(place % p.width + p.left, p.strideW, p.kernelWidth, p.outWidth));
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.batch - 1u) * p.outHeight * p.outWidth * p.outChannels; }

fn runAt(t: Place, kh: u32, kw: u32) -> Run {
  let oh = (t.base / p.width + p.top - kh) / p.strideH;
  let ow = (t.base % p.width + p.left - kw) / p.strideW;
  return Run(
    (oh * p.outWidth + ow) * p.outChannels, (kh * p.kernelWidth + kw) * p.outChannels * rightStep(), p.outChannels);
}

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.batch || four >= fours()) { return; }
  let at = ((t.row + m) * p.height * p.width + t.base) * fours() + four;
  out[at] = finish(v, 4u * four, p.channels, 4u * at);
}
