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

fn placeOf(group: u32, width: u32) -> Place {
  let across = (fours() + width - 1u) / width;
  let down = (p.rows + ROWS - 1u) / ROWS;
  let split = group / across / down;
  let stretch = (p.depth + p.splits - 1u) / p.splits;
  let first = min(split * stretch, p.depth);
  return Place(
    group / across % down * ROWS, group % across * width,
    select(split * p.rows * fours(), OUTSIDE, split >= p.splits),
    vec2u(0u, 1u), vec2u(0u, 1u), vec2u(first, min(first + stretch, p.depth)), vec2u());
}

fn rowAt(t: Place, row: u32) -> u32 { return min(t.row + row, p.rows - 1u) * select(p.depth, 1u, LEFT_TRANSPOSED); }

fn runAt(t: Place, major: u32, minor: u32) -> Run {
  return Run(t.origin.x * leftStep(), t.origin.x * rightStep(), t.origin.y - t.origin.x);
}

fn put(t: Place, m: u32, four: u32, v: vec4f) {
  if (t.row + m >= p.rows || four >= fours()) { return; }
  let at = t.base + (t.row + m) * fours() + four;
  out[at] = finish(v, 4u * four, p.columns, 4u * at);
}
