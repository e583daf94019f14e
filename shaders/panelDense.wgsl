// The matrix product for panel.wgsl, after tileDense.wgsl. w is stored [depth, columns] (TRANSPOSE_W is false).
override TURNED: bool = !TRANSPOSE_X;

fn spotOf(share: u32, m: u32) -> Spot {
  if (TRANSPOSE_X) { return Spot(vec4u(m / 4u), vec4u()); }
  let rows = m + vec4u(0u, 1u, 2u, 3u);
  return Spot(rows * (K / 4u), select(vec4u(0u), vec4u(1u), rows < vec4u(M)));
}

fn stepOf(share: u32, k: u32) -> Step { return Step(k / 4u, 0u, k); }

fn unturned(share: u32, spot: Spot, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (spot.at.x >= M / 4u) { return block; }
  let at = k * (M / 4u) + spot.at.x;
  if (k + 0u < end) { block[0] = left[at]; }
  if (k + 1u < end) { block[1] = left[at + M / 4u]; }
  if (k + 2u < end) { block[2] = left[at + 2u * (M / 4u)]; }
  if (k + 3u < end) { block[3] = left[at + 3u * (M / 4u)]; }
  return block;
}
