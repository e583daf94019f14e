// conv2dWeightGrad as a tiled product: rows are taps and input channels, columns output channels, the depth runs over the output
// positions, shared out so that few taps still fill a device. Left is x, right y; each share writes a filter of its own.
override M: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;
override N: u32 = OUT_CHANNELS;
override K: u32 = BATCH * OUT_HEIGHT * OUT_WIDTH;
/// Positions of a share, a multiple of the tile's depth.
override STRETCH: u32;

fn depthOf(share: u32) -> vec2u { return vec2u(share * STRETCH, min((share + 1u) * STRETCH, K)); }

fn patch4(m: u32, k: u32) -> vec4f {
  let tap = m / CHANNELS;
  let row = k / OUT_WIDTH;
  let h = (row % OUT_HEIGHT) * STRIDE_H + tap / KERNEL_WIDTH - TOP;
  let w = (k % OUT_WIDTH) * STRIDE_W + tap % KERNEL_WIDTH - LEFT;
  if (m >= M || h >= HEIGHT || w >= WIDTH) { return vec4f(); }
  return left4(((row / OUT_HEIGHT * HEIGHT + h) * WIDTH + w) * CHANNELS + m % CHANNELS, 4u);
}
fn patch1(m: u32, k: u32) -> f32 {
  let tap = m / CHANNELS;
  let row = k / OUT_WIDTH;
  let h = (row % OUT_HEIGHT) * STRIDE_H + tap / KERNEL_WIDTH - TOP;
  let w = (k % OUT_WIDTH) * STRIDE_W + tap % KERNEL_WIDTH - LEFT;
  if (m >= M || h >= HEIGHT || w >= WIDTH) { return 0.0; }
  return left1(((row / OUT_HEIGHT * HEIGHT + h) * WIDTH + w) * CHANNELS + m % CHANNELS);
}
fn patches(m: u32, k: u32) -> vec4f {
  if (VEC4) { return patch4(m, k); }
  return vec4f(patch1(m, k), patch1(m + 1u, k), patch1(m + 2u, k), patch1(m + 3u, k));
}

fn blockLeft(share: u32, m: u32, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (k + 0u < end) { block[0] = patches(m, k); }
  if (k + 1u < end) { block[1] = patches(m, k + 1u); }
  if (k + 2u < end) { block[2] = patches(m, k + 2u); }
  if (k + 3u < end) { block[3] = patches(m, k + 3u); }
  return block;
}

fn blockRight(share: u32, k: u32, n: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (n >= N) { return block; }
  if (k + 0u < end) { block[0] = right4((k + 0u) * N + n, N - n); }
  if (k + 1u < end) { block[1] = right4((k + 1u) * N + n, N - n); }
  if (k + 2u < end) { block[2] = right4((k + 2u) * N + n, N - n); }
  if (k + 3u < end) { block[3] = right4((k + 3u) * N + n, N - n); }
  return block;
}

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  if (m < M && n < N) { out4((share * M + m) * N + n, N - n, finish(v, n, N)); }
}
