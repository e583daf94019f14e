// The right factor where memory has it as [K, N]: four columns from n in four rows from k.
fn rowsOfRight(n: u32, k: u32, end: u32) -> mat4x4f {
  var block = mat4x4f();
  if (n == OUTSIDE) { return block; }
  let inside = N - n;
  if (k + 0u < end) { block[0] = right4((k + 0u) * N + n, inside); }
  if (k + 1u < end) { block[1] = right4((k + 1u) * N + n, inside); }
  if (k + 2u < end) { block[2] = right4((k + 2u) * N + n, inside); }
  if (k + 3u < end) { block[3] = right4((k + 3u) * N + n, inside); }
  return block;
}

/// First product of a share's stretch of the depth, and the one after its last: whole steps of the tile's depth (16), the same
/// number for each but the last ones. A stretch may be empty.
fn depthOf(share: u32) -> vec2u {
  let depth = depthOfPhase(share);
  let splits = SHARES / PHASES;
  let stretch = ((depth + 15u) / 16u + splits - 1u) / splits * 16u;
  let split = share / PHASES;
  return vec2u(min(split * stretch, depth), min((split + 1u) * stretch, depth));
}
