// The matrix product of dense.wgsl as a tiled one: left is x, right is w, either stored the other way round.
override M: u32;
override N: u32;
override K: u32;
override TRANSPOSE_X: bool = false;
override TRANSPOSE_W: bool = false;
override PHASES: u32 = 1u;

fn depthOfPhase(share: u32) -> u32 { return K; }

fn lanesLeft(share: u32, m: u32) -> Lanes {
  if (TRANSPOSE_X) { return Lanes(vec4u(select(OUTSIDE, m, m < M)), vec4u(), vec4u()); }
  let rows = m + vec4u(0u, 1u, 2u, 3u);
  return Lanes(select(vec4u(OUTSIDE), rows * K, rows < vec4u(M)), vec4u(), vec4u());
}

fn blockLeft(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  let at = lanes.at;
  if (TRANSPOSE_X) {
    if (at.x == OUTSIDE) { return block; }
    let inside = M - at.x;
    if (k + 0u < end) { block[0] = left4((k + 0u) * M + at.x, inside); }
    if (k + 1u < end) { block[1] = left4((k + 1u) * M + at.x, inside); }
    if (k + 2u < end) { block[2] = left4((k + 2u) * M + at.x, inside); }
    if (k + 3u < end) { block[3] = left4((k + 3u) * M + at.x, inside); }
    return block;
  }
  if (k >= end) { return block; }
  if (at.x != OUTSIDE) { block[0] = left4(at.x + k, end - k); }
  if (at.y != OUTSIDE) { block[1] = left4(at.y + k, end - k); }
  if (at.z != OUTSIDE) { block[2] = left4(at.z + k, end - k); }
  if (at.w != OUTSIDE) { block[3] = left4(at.w + k, end - k); }
  return transpose(block);
}

fn lanesRight(share: u32, n: u32) -> Lanes {
  if (!TRANSPOSE_W) { return Lanes(vec4u(select(OUTSIDE, n, n < N)), vec4u(), vec4u()); }
  let columns = n + vec4u(0u, 1u, 2u, 3u);
  return Lanes(select(vec4u(OUTSIDE), columns * K, columns < vec4u(N)), vec4u(), vec4u());
}

fn blockRight(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  if (!TRANSPOSE_W) { return rowsOfRight(lanes.at.x, k, end); }
  var block = mat4x4f();
  let at = lanes.at;
  if (k >= end) { return block; }
  if (at.x != OUTSIDE) { block[0] = right4(at.x + k, end - k); }
  if (at.y != OUTSIDE) { block[1] = right4(at.y + k, end - k); }
  if (at.z != OUTSIDE) { block[2] = right4(at.z + k, end - k); }
  if (at.w != OUTSIDE) { block[3] = right4(at.w + k, end - k); }
  return transpose(block);
}

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let at = (share * M + m) * N + n;
  if (m < M && n < N) { out4(at, N - n, finish(v, n, N, at)); }
}
