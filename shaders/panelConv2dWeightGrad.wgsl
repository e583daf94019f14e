// conv2dWeightGrad for panel.wgsl, after tileConv2dWeightGrad.wgsl: the depth is the output positions, of which memory has four channels
// side by side: nothing has to be turned. A spot is a tap and four channels: index, row and column.
const TURNED = false;

fn spotOf(share: u32, m: u32) -> Spot {
  let lanes = lanesLeft(share, m);
  return Spot(lanes.at, vec4u(lanes.h.x, lanes.w.x, 0u, 0u));
}

fn stepOf(share: u32, k: u32) -> Step { return Step(0u, 0u, k); }

fn unturned(share: u32, spot: Spot, k: u32, end: u32) -> mat4x4f {
  return blockLeft(share, Lanes(spot.at, vec4u(spot.taps.x), vec4u(spot.taps.y)), k, end);
}
