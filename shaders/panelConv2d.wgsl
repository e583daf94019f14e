// conv2d for panel.wgsl, after tileConv2d.wgsl: the depth is taps × channels, these a multiple of sixteen.
const TURNED = true;

fn spotOf(share: u32, m: u32) -> Spot {
  let lanes = lanesLeft(share, m);
  var taps = vec4u();
  for (var kh = 0u; kh < KERNEL_HEIGHT; kh++) {
    for (var kw = 0u; kw < KERNEL_WIDTH; kw++) {
      let inside = (lanes.h + kh < vec4u(HEIGHT)) & (lanes.w + kw < vec4u(WIDTH));
      taps |= select(vec4u(), vec4u(1u << (kh * KERNEL_WIDTH + kw)), inside);
    }
  }
  return Spot(inFours(lanes.at), taps);
}

fn stepOf(share: u32, k: u32) -> Step {
  let tap = k / CHANNELS;
  let at = tap / KERNEL_WIDTH * WIDTH + tap % KERNEL_WIDTH;
  return Step((at * CHANNELS + k % CHANNELS) / 4u, tap, k);
}

fn unturned(share: u32, spot: Spot, k: u32, end: u32) -> mat4x4f { return mat4x4f(); }
