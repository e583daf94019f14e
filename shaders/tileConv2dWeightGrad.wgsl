// conv2dWeightGrad as a tiled product: rows are taps and input channels, columns output channels, the depth runs over the output
// positions, shared out so that few taps still fill a device. Left is x, right y; each share writes a filter of its own.
override M: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;
override N: u32 = OUT_CHANNELS;
override K: u32 = BATCH * OUT_HEIGHT * OUT_WIDTH;
override PHASES: u32 = 1u;

fn depthOfPhase(share: u32) -> u32 { return K; }

/// Of four rows: index in x, row and column, each counted from an output position's own (they wrap where they are before it).
fn lanesLeft(share: u32, m: u32) -> Lanes {
  let v = m + vec4u(0u, 1u, 2u, 3u);
  let tap = v / CHANNELS;
  let h = tap / KERNEL_WIDTH - TOP;
  let w = tap % KERNEL_WIDTH - LEFT;
  return Lanes((h * WIDTH + w) * CHANNELS + v % CHANNELS, select(vec4u(OUTSIDE / 2u), h, v < vec4u(M)), w);
}

/// The four rows at output position (row, ow) of all images' rows.
fn patches(lanes: Lanes, row: u32, ow: u32) -> vec4f {
  let oh = (row % OUT_HEIGHT) * STRIDE_H;
  let at = lanes.at + ((row / OUT_HEIGHT * HEIGHT + oh) * WIDTH + ow * STRIDE_W) * CHANNELS;
  if (VEC4) {
    // Four channels of one tap.
    if (lanes.h.x + oh < HEIGHT && lanes.w.x + ow * STRIDE_W < WIDTH) { return left4(at.x, 4u); }
    return vec4f();
  }
  var v = vec4f();
  let inside = (lanes.h + oh < vec4u(HEIGHT)) & (lanes.w + ow * STRIDE_W < vec4u(WIDTH));
  if (inside.x) { v.x = left1(at.x); }
  if (inside.y) { v.y = left1(at.y); }
  if (inside.z) { v.z = left1(at.z); }
  if (inside.w) { v.w = left1(at.w); }
  return v;
}

fn blockLeft(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (OUT_WIDTH % 4u == 0u) {
    // The four positions lie in one row.
    let row = k / OUT_WIDTH;
    let ow = k % OUT_WIDTH;
    if (k >= end) { return block; }
    return mat4x4f(patches(lanes, row, ow), patches(lanes, row, ow + 1u), patches(lanes, row, ow + 2u), patches(lanes, row, ow + 3u));
  }
  if (k + 0u < end) { block[0] = patches(lanes, (k + 0u) / OUT_WIDTH, (k + 0u) % OUT_WIDTH); }
  if (k + 1u < end) { block[1] = patches(lanes, (k + 1u) / OUT_WIDTH, (k + 1u) % OUT_WIDTH); }
  if (k + 2u < end) { block[2] = patches(lanes, (k + 2u) / OUT_WIDTH, (k + 2u) % OUT_WIDTH); }
  if (k + 3u < end) { block[3] = patches(lanes, (k + 3u) / OUT_WIDTH, (k + 3u) % OUT_WIDTH); }
  return block;
}

fn lanesRight(share: u32, n: u32) -> Lanes { return Lanes(vec4u(select(OUTSIDE, n, n < N)), vec4u(), vec4u()); }
fn blockRight(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f { return rowsOfRight(lanes.at.x, k, end); }

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let at = (share * M + m) * N + n;
  if (m < M && n < N) { out4(at, N - n, finish(v, n, N, at)); }
}
