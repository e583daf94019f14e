// The matrix product of dense.wgsl as a tiled one: left is x, right is w, either stored the other way round.
override M: u32;
override N: u32;
override K: u32;
override TRANSPOSE_X: bool = false;
override TRANSPOSE_W: bool = false;
/// Products that one share of the depth adds up, a multiple of the tile's depth.
override STRETCH: u32;
override SHARES: u32 = 1u;

fn depthOf(share: u32) -> vec2u { return vec2u(share * STRETCH, min((share + 1u) * STRETCH, K)); }

fn blockLeft(share: u32, m: u32, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (TRANSPOSE_X) {
    if (m >= M) { return block; }
    if (k + 0u < end) { block[0] = left4((k + 0u) * M + m, M - m); }
    if (k + 1u < end) { block[1] = left4((k + 1u) * M + m, M - m); }
    if (k + 2u < end) { block[2] = left4((k + 2u) * M + m, M - m); }
    if (k + 3u < end) { block[3] = left4((k + 3u) * M + m, M - m); }
    return block;
  }
  if (k >= end) { return block; }
  if (m + 0u < M) { block[0] = left4((m + 0u) * K + k, end - k); }
  if (m + 1u < M) { block[1] = left4((m + 1u) * K + k, end - k); }
  if (m + 2u < M) { block[2] = left4((m + 2u) * K + k, end - k); }
  if (m + 3u < M) { block[3] = left4((m + 3u) * K + k, end - k); }
  return transpose(block);
}

fn blockRight(share: u32, k: u32, n: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (!TRANSPOSE_W) {
    if (n >= N) { return block; }
    if (k + 0u < end) { block[0] = right4((k + 0u) * N + n, N - n); }
    if (k + 1u < end) { block[1] = right4((k + 1u) * N + n, N - n); }
    if (k + 2u < end) { block[2] = right4((k + 2u) * N + n, N - n); }
    if (k + 3u < end) { block[3] = right4((k + 3u) * N + n, N - n); }
    return block;
  }
  if (k >= end) { return block; }
  if (n + 0u < N) { block[0] = right4((n + 0u) * K + k, end - k); }
  if (n + 1u < N) { block[1] = right4((n + 1u) * K + k, end - k); }
  if (n + 2u < N) { block[2] = right4((n + 2u) * K + k, end - k); }
  if (n + 3u < N) { block[3] = right4((n + 3u) * K + k, end - k); }
  return transpose(block);
}

fn put(share: u32, m: u32, n: u32, v: vec4f) {
  if (m < M && n < N) { out4((share * M + m) * N + n, N - n, finish(v, n, N)); }
}
