// conv2d as a tiled product, the matrix of patches never written out: rows are output positions, columns output channels, the depth
// runs over taps and input channels. Left is x, right the filter.
override M: u32 = BATCH * OUT_HEIGHT * OUT_WIDTH;
override N: u32 = OUT_CHANNELS;
override K: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;
override PHASES: u32 = 1u;

fn depthOfPhase(share: u32) -> u32 { return K; }

/// Where the windows of four positions begin: index in x, row and column, which wrap where they are outside.
fn lanesLeft(share: u32, m: u32) -> Lanes {
  let v = m + vec4u(0u, 1u, 2u, 3u);
  let row = v / OUT_WIDTH;
  let h = (row % OUT_HEIGHT) * STRIDE_H - TOP;
  let w = (v % OUT_WIDTH) * STRIDE_W - LEFT;
  return Lanes(((row / OUT_HEIGHT * HEIGHT + h) * WIDTH + w) * CHANNELS, select(vec4u(OUTSIDE / 2u), h, v < vec4u(M)), w);
}

fn blockLeft(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  if (VEC4) {
    var block = mat4x4f();
    if (k >= end) { return block; }
    let tap = k / CHANNELS;
    let kh = tap / KERNEL_WIDTH;
    let kw = tap % KERNEL_WIDTH;
    let at = lanes.at + (kh * WIDTH + kw) * CHANNELS + k % CHANNELS;
    let inside = (lanes.h + kh < vec4u(HEIGHT)) & (lanes.w + kw < vec4u(WIDTH));
    if (inside.x) { block[0] = left4(at.x, 4u); }
    if (inside.y) { block[1] = left4(at.y, 4u); }
    if (inside.z) { block[2] = left4(at.z, 4u); }
    if (inside.w) { block[3] = left4(at.w, 4u); }
    return transpose(block);
  }
  return mat4x4f(column(lanes, k, end), column(lanes, k + 1u, end), column(lanes, k + 2u, end), column(lanes, k + 3u, end));
}

fn column(lanes: Lanes, k: u32, end: u32) -> vec4f {
  var v = vec4f();
  if (k >= end) { return v; }
  let tap = k / CHANNELS;
  let kh = tap / KERNEL_WIDTH;
  let kw = tap % KERNEL_WIDTH;
  let at = lanes.at + (kh * WIDTH + kw) * CHANNELS + k % CHANNELS;
  let inside = (lanes.h + kh < vec4u(HEIGHT)) & (lanes.w + kw < vec4u(WIDTH));
  if (inside.x) { v.x = left1(at.x); }
  if (inside.y) { v.y = left1(at.y); }
  if (inside.z) { v.z = left1(at.z); }
  if (inside.w) { v.w = left1(at.w); }
  return v;
}

fn lanesRight(share: u32, n: u32) -> Lanes { return Lanes(vec4u(select(OUTSIDE, n, n < N)), vec4u(), vec4u()); }
fn blockRight(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f { return rowsOfRight(lanes.at.x, k, end); }

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let at = (share * M + m) * N + n;
  if (m < M && n < N) { out4(at, N - n, finish(v, n, N, at)); }
}
