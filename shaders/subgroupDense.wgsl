// The matrix product for subgroup.wgsl: x [rows, depth], or [depth, rows] where LEFT_TRANSPOSED, times w [depth, columns], columns in
// fours. One run a workgroup: a split's stretch of the depth; each split writes a product of its own.
struct Params { rows: u32, columns: u32, depth: u32, splits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
override LEFT_TRANSPOSED: bool = false;
const OUTSIDE = 0xffffffffu;

fn fours() -> u32 { return p.columns / 4u; }
fn leftStep() -> u32 { return select(1u, p.rows, LEFT_TRANSPOSED); }
fn rightStep() -> u32 { return p.columns / 4u; }

fn placeOf(group: u32, width: u32, rows: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.rows + rows - 1u) / rows;
  let split = group / across / down;
  let stretch = (p.depth + p.splits - 1u) / p.splits;
  let first = min(split * stretch, p.depth);
  return Place(
    group / across % down * rows, group % across * width,
    select(split * p.rows * fours(), OUTSIDE, split >= p.splits),
    vec2u(0u, 1u), vec2u(0u, 1u), vec2u(first, min(first + stretch, p.depth)), vec2u());
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.rows - 1u) * select(p.depth, 1u, LEFT_TRANSPOSED); }

fn runAt(t: Place, major: u32, minor: u32) -> Run {
  return Run(t.origin.x * leftStep(), t.origin.x * rightStep(), t.origin.y - t.origin.x);
}

/// A row's term at `at` and the next one, or nothing where that is not of the run.
fn pairAt(at: u32, more: bool) -> vec2f {
  return vec2f(left[at], select(0.0, left[select(at, at + leftStep(), more)], more));
}

/// Of four groups of eight rows, this lane's own: where they begin.
fn rowsAt(t: Place, lane: u32) -> vec4u {
  return vec4u(rowAt(t, lane), rowAt(t, lane + LANES), rowAt(t, lane + 2u * LANES), rowAt(t, lane + 3u * LANES));
}
fn termsAt(rows: vec4u, i: u32, more: bool) -> mat4x2f {
  return mat4x2f(pairAt(rows.x + i, more), pairAt(rows.y + i, more), pairAt(rows.z + i, more), pairAt(rows.w + i, more));
}
/// The row of an entry's m-th sum.
fn rowOf(m: u32) -> u32 { return m; }

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.rows || four >= fours()) { return; }
  let at = t.base + (t.row + m) * fours() + four;
  out[at] = finish(v, 4u * four, p.columns, 4u * at);
}
