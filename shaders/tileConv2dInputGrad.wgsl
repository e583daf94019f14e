// conv2dInputGrad as a tiled product: rows are the image positions of one phase (row and column modulo the strides), which all meet
// the same taps; columns are image channels, the depth runs over those taps and the output channels. Left is y, right the filter.
override ROWS: u32 = (HEIGHT + STRIDE_H - 1u) / STRIDE_H;
override COLUMNS: u32 = (WIDTH + STRIDE_W - 1u) / STRIDE_W;
override TAPS_H: u32 = (KERNEL_HEIGHT + STRIDE_H - 1u) / STRIDE_H;
override TAPS_W: u32 = (KERNEL_WIDTH + STRIDE_W - 1u) / STRIDE_W;
override M: u32 = BATCH * ROWS * COLUMNS;
override N: u32 = CHANNELS;
override K: u32 = TAPS_H * TAPS_W * OUT_CHANNELS;
override PHASES: u32 = STRIDE_H * STRIDE_W;

fn phaseOf(share: u32) -> vec2u { return vec2u(share % PHASES / STRIDE_W, share % STRIDE_W); }
/// The first filter row and column that a phase meets.
fn firstTap(share: u32) -> vec2u { return (phaseOf(share) + vec2u(TOP, LEFT)) % vec2u(STRIDE_H, STRIDE_W); }

/// Where four positions meet y through their phase's first tap: index, row and column. Each further tap is one less.
fn lanesLeft(share: u32, m: u32) -> Lanes {
  let v = m + vec4u(0u, 1u, 2u, 3u);
  let row = v / COLUMNS;
  let phase = phaseOf(share);
  let first = firstTap(share);
  let h = row % ROWS + (phase.x + TOP - first.x) / STRIDE_H;
  let w = v % COLUMNS + (phase.y + LEFT - first.y) / STRIDE_W;
  return Lanes(
    ((row / ROWS * OUT_HEIGHT + h) * OUT_WIDTH + w) * OUT_CHANNELS, select(vec4u(OUTSIDE / 2u), h, v < vec4u(M)), w);
}

/// Filter rows and columns that a phase meets: as many as the first phase, or one less.
fn tapsOf(share: u32) -> vec2u {
  let strides = vec2u(STRIDE_H, STRIDE_W);
  return (vec2u(KERNEL_HEIGHT, KERNEL_WIDTH) + strides - 1u - firstTap(share)) / strides;
}
fn depthOfPhase(share: u32) -> u32 {
  let taps = tapsOf(share);
  return taps.x * taps.y * OUT_CHANNELS;
}

/// Tap number `tap` of a phase: rows and columns of y to go back, and row and column of the filter.
fn tapOf(share: u32, tap: u32) -> vec4u {
  // Both divisors are constants: much cheaper than one that is not.
  let fewer = tapsOf(share).y != TAPS_W;
  let row = select(tap / TAPS_W, tap / max(1u, TAPS_W - 1u), fewer);
  let back = vec2u(row, tap - row * select(TAPS_W, TAPS_W - 1u, fewer));
  return vec4u(back, firstTap(share) + back * vec2u(STRIDE_H, STRIDE_W));
}

fn blockLeft(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  if (VEC4) {
    var block = mat4x4f();
    let t = tapOf(share, k / OUT_CHANNELS);
    if (k >= end) { return block; }
    let at = lanes.at - (t.x * OUT_WIDTH + t.y) * OUT_CHANNELS + k % OUT_CHANNELS;
    let inside = (lanes.h - t.x < vec4u(OUT_HEIGHT)) & (lanes.w - t.y < vec4u(OUT_WIDTH));
    if (inside.x) { block[0] = left4(at.x, 4u); }
    if (inside.y) { block[1] = left4(at.y, 4u); }
    if (inside.z) { block[2] = left4(at.z, 4u); }
    if (inside.w) { block[3] = left4(at.w, 4u); }
    return transpose(block);
  }
  return mat4x4f(
    column(share, lanes, k, end), column(share, lanes, k + 1u, end),
    column(share, lanes, k + 2u, end), column(share, lanes, k + 3u, end));
}

fn column(share: u32, lanes: Lanes, k: u32, end: u32) -> vec4f {
  var v = vec4f();
  let t = tapOf(share, k / OUT_CHANNELS);
  if (k >= end) { return v; }
  let at = lanes.at - (t.x * OUT_WIDTH + t.y) * OUT_CHANNELS + k % OUT_CHANNELS;
  let inside = (lanes.h - t.x < vec4u(OUT_HEIGHT)) & (lanes.w - t.y < vec4u(OUT_WIDTH));
  if (inside.x) { v.x = left1(at.x); }
  if (inside.y) { v.y = left1(at.y); }
  if (inside.z) { v.z = left1(at.z); }
  if (inside.w) { v.w = left1(at.w); }
  return v;
}

fn lanesRight(share: u32, n: u32) -> Lanes {
  let columns = n + vec4u(0u, 1u, 2u, 3u);
  return Lanes(select(vec4u(OUTSIDE), columns * OUT_CHANNELS, columns < vec4u(N)), vec4u(), vec4u());
}

fn blockRight(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  if (VEC4) {
    var block = mat4x4f();
    let t = tapOf(share, k / OUT_CHANNELS);
    if (k >= end) { return block; }
    let at = lanes.at;
    let by = (t.z * KERNEL_WIDTH + t.w) * CHANNELS * OUT_CHANNELS + k % OUT_CHANNELS;
    if (at.x != OUTSIDE) { block[0] = right4(at.x + by, 4u); }
    if (at.y != OUTSIDE) { block[1] = right4(at.y + by, 4u); }
    if (at.z != OUTSIDE) { block[2] = right4(at.z + by, 4u); }
    if (at.w != OUTSIDE) { block[3] = right4(at.w + by, 4u); }
    return transpose(block);
  }
  return mat4x4f(
    weights(share, lanes.at, k, end), weights(share, lanes.at, k + 1u, end),
    weights(share, lanes.at, k + 2u, end), weights(share, lanes.at, k + 3u, end));
}

fn weights(share: u32, at: vec4u, k: u32, end: u32) -> vec4f {
  var v = vec4f();
  let t = tapOf(share, k / OUT_CHANNELS);
  if (k >= end) { return v; }
  let by = (t.z * KERNEL_WIDTH + t.w) * CHANNELS * OUT_CHANNELS + k % OUT_CHANNELS;
  if (at.x != OUTSIDE) { v.x = right4(at.x + by, 1u).x; }
  if (at.y != OUTSIDE) { v.y = right4(at.y + by, 1u).x; }
  if (at.z != OUTSIDE) { v.z = right4(at.z + by, 1u).x; }
  if (at.w != OUTSIDE) { v.w = right4(at.w + by, 1u).x; }
  return v;
}

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let row = m / COLUMNS;
  let at = vec2u(row % ROWS, m % COLUMNS) * vec2u(STRIDE_H, STRIDE_W) + phaseOf(share);
  if (m >= M || n >= N || at.x >= HEIGHT || at.y >= WIDTH) { return; }
  let image = share / PHASES * BATCH + row / ROWS;
  let i = ((image * HEIGHT + at.x) * WIDTH + at.y) * N + n;
  out4(i, N - n, finish(v, n, N, i));
}
