// Sums across a workgroup of LX columns by LY rows of threads, in a fixed order: LY is a power of two.
override LX: u32 = 16u;
override LY: u32 = 16u;

var<workgroup> lanes: array<f32, LX * LY>;

/// The sum over all rows of a column's values; every thread of the workgroup must come here.
fn treeSum(v: f32, id: vec3u) -> f32 {
  let at = id.y * LX + id.x;
  // What an earlier sum left may still be read.
  workgroupBarrier();
  lanes[at] = v;
  for (var half = LY / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (id.y < half) { lanes[at] += lanes[at + half * LX]; }
  }
  workgroupBarrier();
  return lanes[id.x];
}

/// First row of a share's stretch of `rows`, and the row after its last.
fn stretchOf(share: u32, shares: u32, rows: u32) -> vec2u {
  let each = (rows + shares - 1u) / shares;
  return vec2u(min(share * each, rows), min((share + 1u) * each, rows));
}
