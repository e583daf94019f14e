// conv2dInputGrad for panel.wgsl, after tileConv2dInputGrad.wgsl: the depth is a phase's taps × output channels, these a multiple of
// sixteen. The filter comes with its last two axes swapped (filterSwap.wgsl): its rows are then columns of this product.
const TURNED = true;

fn spotOf(share: u32, m: u32) -> Spot {
  let lanes = lanesLeft(share, m);
  let count = tapsOf(share);
  var taps = vec4u();
  for (var row = 0u; row < count.x; row++) {
    for (var column = 0u; column < count.y; column++) {
      let inside = (lanes.h - row < vec4u(OUT_HEIGHT)) & (lanes.w - column < vec4u(OUT_WIDTH));
      taps |= select(vec4u(), vec4u(1u << (row * count.y + column)), inside);
    }
  }
  return Spot(inFours(lanes.at), taps);
}

fn stepOf(share: u32, k: u32) -> Step {
  let tap = k / OUT_CHANNELS;
  let o = k % OUT_CHANNELS;
  let t = tapOf(share, tap);
  // Taps go back in y: a negative distance, wrapped.
  let left = o / 4u - (t.x * OUT_WIDTH + t.y) * (OUT_CHANNELS / 4u);
  return Step(left, tap, (t.z * KERNEL_WIDTH + t.w) * OUT_CHANNELS + o);
}

fn unturned(share: u32, spot: Spot, k: u32, end: u32) -> mat4x4f { return mat4x4f(); }
