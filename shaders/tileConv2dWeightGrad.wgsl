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

/// An output position: its image, row and column.
struct Position { image: u32, oh: u32, ow: u32 }

/// The next one: by carrying, which takes fewer instructions than dividing again.
fn after(p: Position) -> Position {
  let ow = select(p.ow + 1u, 0u, p.ow + 1u == OUT_WIDTH);
  let oh = p.oh + u32(ow == 0u);
  return Position(p.image + u32(oh == OUT_HEIGHT), select(oh, 0u, oh == OUT_HEIGHT), ow);
}

/// The four rows of the left factor at an output position.
fn patches(lanes: Lanes, p: Position) -> vec4f {
  let h = p.oh * STRIDE_H;
  let w = p.ow * STRIDE_W;
  let at = lanes.at + ((p.image * HEIGHT + h) * WIDTH + w) * CHANNELS;
  if (VEC4) {
    // Four channels of one tap.
    if (lanes.h.x + h < HEIGHT && lanes.w.x + w < WIDTH) { return left4(at.x, 4u); }
    return vec4f();
  }
  var v = vec4f();
  let inside = (lanes.h + h < vec4u(HEIGHT)) & (lanes.w + w < vec4u(WIDTH));
  if (inside.x) { v.x = left1(at.x); }
  if (inside.y) { v.y = left1(at.y); }
  if (inside.z) { v.z = left1(at.z); }
  if (inside.w) { v.w = left1(at.w); }
  return v;
}

fn blockLeft(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  let row = k / OUT_WIDTH;
  var p = Position(row / OUT_HEIGHT, row % OUT_HEIGHT, k % OUT_WIDTH);
  if (k >= end) { return block; }
  block[0] = patches(lanes, p);
  p = after(p);
  if (k + 1u < end) { block[1] = patches(lanes, p); }
  p = after(p);
  if (k + 2u < end) { block[2] = patches(lanes, p); }
  p = after(p);
  if (k + 3u < end) { block[3] = patches(lanes, p); }
  return block;
}

fn lanesRight(share: u32, n: u32) -> Lanes { return Lanes(vec4u(select(OUTSIDE, n, n < N)), vec4u(), vec4u()); }
fn blockRight(share: u32, lanes: Lanes, k: u32, end: u32) -> mat4x4f { return rowsOfRight(lanes.at.x, k, end); }

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let at = (share * M + m) * N + n;
  if (m < M && n < N) { out4(at, N - n, finish(v, n, N, at)); }
}
