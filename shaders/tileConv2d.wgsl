// conv2d as a tiled product, the matrix of patches never written out: rows are output positions, columns output channels, the depth
// runs over taps and input channels. Left is x, right the filter.
override M: u32 = BATCH * OUT_HEIGHT * OUT_WIDTH;
override N: u32 = OUT_CHANNELS;
override K: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;

fn depthOf(share: u32) -> vec2u { return vec2u(0u, K); }

/// First row and column of the image in the window of position m (they wrap where they are negative), and the image's first row.
fn window(m: u32) -> vec3u {
  let row = m / OUT_WIDTH;
  return vec3u((row % OUT_HEIGHT) * STRIDE_H - TOP, (m % OUT_WIDTH) * STRIDE_W - LEFT, row / OUT_HEIGHT * HEIGHT);
}

fn patch4(m: u32, tap: u32, c: u32) -> vec4f {
  let at = window(m);
  let h = at.x + tap / KERNEL_WIDTH;
  let w = at.y + tap % KERNEL_WIDTH;
  if (m >= M || h >= HEIGHT || w >= WIDTH) { return vec4f(); }
  return left4(((at.z + h) * WIDTH + w) * CHANNELS + c, 4u);
}

fn patch1(m: u32, k: u32) -> f32 {
  let at = window(m);
  let tap = k / CHANNELS;
  let h = at.x + tap / KERNEL_WIDTH;
  let w = at.y + tap % KERNEL_WIDTH;
  if (m >= M || k >= K || h >= HEIGHT || w >= WIDTH) { return 0.0; }
  return left1(((at.z + h) * WIDTH + w) * CHANNELS + k % CHANNELS);
}

fn blockLeft(share: u32, m: u32, k: u32, end: u32) -> mat4x4f {
  if (k >= end) { return mat4x4f(); }
  if (VEC4) {
    let tap = k / CHANNELS;
    let c = k % CHANNELS;
    return transpose(mat4x4f(patch4(m, tap, c), patch4(m + 1u, tap, c), patch4(m + 2u, tap, c), patch4(m + 3u, tap, c)));
  }
  return mat4x4f(
    patch1(m, k), patch1(m + 1u, k), patch1(m + 2u, k), patch1(m + 3u, k),
    patch1(m, k + 1u), patch1(m + 1u, k + 1u), patch1(m + 2u, k + 1u), patch1(m + 3u, k + 1u),
    patch1(m, k + 2u), patch1(m + 1u, k + 2u), patch1(m + 2u, k + 2u), patch1(m + 3u, k + 2u),
    patch1(m, k + 3u), patch1(m + 1u, k + 3u), patch1(m + 2u, k + 3u), patch1(m + 3u, k + 3u));
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
  if (m < M && n < N) { out4(m * N + n, N - n, finish(v, n, N)); }
}
