// conv2dInputGrad as a tiled product: rows are the image positions of one phase (row and column modulo the strides, one phase a
// share), which all meet the same taps; columns are image channels, the depth runs over those taps and the output channels. Left is
// y, right the filter.
override ROWS: u32 = (HEIGHT + STRIDE_H - 1u) / STRIDE_H;
override COLUMNS: u32 = (WIDTH + STRIDE_W - 1u) / STRIDE_W;
override TAPS_H: u32 = (KERNEL_HEIGHT + STRIDE_H - 1u) / STRIDE_H;
override TAPS_W: u32 = (KERNEL_WIDTH + STRIDE_W - 1u) / STRIDE_W;
override M: u32 = BATCH * ROWS * COLUMNS;
override N: u32 = CHANNELS;
override K: u32 = TAPS_H * TAPS_W * OUT_CHANNELS;

fn depthOf(share: u32) -> vec2u { return vec2u(0u, K); }

/// Row and column of the image that position m of a phase is, and its image's number.
fn place(share: u32, m: u32) -> vec3u {
  let row = m / COLUMNS;
  return vec3u((row % ROWS) * STRIDE_H + share / STRIDE_W, (m % COLUMNS) * STRIDE_W + share % STRIDE_W, row / ROWS);
}

/// Filter row and column of a phase's tap; beyond the filter where the phase has fewer.
fn tapOf(share: u32, tap: u32) -> vec2u {
  return vec2u(
    (share / STRIDE_W + TOP) % STRIDE_H + tap / TAPS_W * STRIDE_H,
    (share % STRIDE_W + LEFT) % STRIDE_W + tap % TAPS_W * STRIDE_W);
}

/// Index of the first output channel that position m meets through a tap; none where `inside` is false.
struct Meeting { at: u32, inside: bool }
fn meeting(share: u32, m: u32, tap: u32) -> Meeting {
  let p = place(share, m);
  let t = tapOf(share, tap);
  // Wraps to a large number where it is negative: one comparison serves both edges.
  let oh = (p.x + TOP - t.x) / STRIDE_H;
  let ow = (p.y + LEFT - t.y) / STRIDE_W;
  let inside = m < M && t.x < KERNEL_HEIGHT && t.y < KERNEL_WIDTH && p.x + TOP >= t.x && p.y + LEFT >= t.y
    && oh < OUT_HEIGHT && ow < OUT_WIDTH;
  return Meeting(((p.z * OUT_HEIGHT + oh) * OUT_WIDTH + ow) * OUT_CHANNELS, inside);
}

fn seen4(share: u32, m: u32, tap: u32, o: u32) -> vec4f {
  let meets = meeting(share, m, tap);
  if (!meets.inside) { return vec4f(); }
  return left4(meets.at + o, 4u);
}
fn seen1(share: u32, m: u32, k: u32) -> f32 {
  let meets = meeting(share, m, k / OUT_CHANNELS);
  if (k >= K || !meets.inside) { return 0.0; }
  return left1(meets.at + k % OUT_CHANNELS);
}

fn blockLeft(share: u32, m: u32, k: u32, end: u32) -> mat4x4f {
  if (k >= end) { return mat4x4f(); }
  if (VEC4) {
    let tap = k / OUT_CHANNELS;
    let o = k % OUT_CHANNELS;
    return transpose(mat4x4f(
      seen4(share, m, tap, o), seen4(share, m + 1u, tap, o), seen4(share, m + 2u, tap, o), seen4(share, m + 3u, tap, o)));
  }
  return mat4x4f(
    seen1(share, m, k), seen1(share, m + 1u, k), seen1(share, m + 2u, k), seen1(share, m + 3u, k),
    seen1(share, m, k + 1u), seen1(share, m + 1u, k + 1u), seen1(share, m + 2u, k + 1u), seen1(share, m + 3u, k + 1u),
    seen1(share, m, k + 2u), seen1(share, m + 1u, k + 2u), seen1(share, m + 2u, k + 2u), seen1(share, m + 3u, k + 2u),
    seen1(share, m, k + 3u), seen1(share, m + 1u, k + 3u), seen1(share, m + 2u, k + 3u), seen1(share, m + 3u, k + 3u));
}

fn weight4(share: u32, tap: u32, n: u32, o: u32) -> vec4f {
  let t = tapOf(share, tap);
  if (n >= N || t.x >= KERNEL_HEIGHT || t.y >= KERNEL_WIDTH) { return vec4f(); }
  return right4(((t.x * KERNEL_WIDTH + t.y) * CHANNELS + n) * OUT_CHANNELS + o, 4u);
}
fn weight1(share: u32, k: u32, n: u32) -> f32 {
  let t = tapOf(share, k / OUT_CHANNELS);
  if (n >= N || k >= K || t.x >= KERNEL_HEIGHT || t.y >= KERNEL_WIDTH) { return 0.0; }
  return right4(((t.x * KERNEL_WIDTH + t.y) * CHANNELS + n) * OUT_CHANNELS + k % OUT_CHANNELS, 1u).x;
}

fn blockRight(share: u32, k: u32, n: u32, end: u32) -> mat4x4f {
  if (k >= end) { return mat4x4f(); }
  if (VEC4) {
    let tap = k / OUT_CHANNELS;
    let o = k % OUT_CHANNELS;
    return transpose(mat4x4f(
      weight4(share, tap, n, o), weight4(share, tap, n + 1u, o), weight4(share, tap, n + 2u, o), weight4(share, tap, n + 3u, o)));
  }
  return mat4x4f(
    weight1(share, k, n), weight1(share, k, n + 1u), weight1(share, k, n + 2u), weight1(share, k, n + 3u),
    weight1(share, k + 1u, n), weight1(share, k + 1u, n + 1u), weight1(share, k + 1u, n + 2u), weight1(share, k + 1u, n + 3u),
    weight1(share, k + 2u, n), weight1(share, k + 2u, n + 1u), weight1(share, k + 2u, n + 2u), weight1(share, k + 2u, n + 3u),
    weight1(share, k + 3u, n), weight1(share, k + 3u, n + 1u), weight1(share, k + 3u, n + 2u), weight1(share, k + 3u, n + 3u));
}

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  let p = place(share, m);
  if (m >= M || n >= N || p.x >= HEIGHT || p.y >= WIDTH) { return; }
  out4(((p.z * HEIGHT + p.x) * WIDTH + p.y) * N + n, N - n, finish(v, n, N));
}
