// dense for columns in fours and w stored [k, n]: the sum and the tile of dense.wgsl. w is read and y written as vec4: a load costs a
// software adapter nearly the same whatever its width, and of the tile's 16 loads 8 become 2. In `transposed`, where x is stored
// [k, m] with rows in fours (the gradient of weights), the other 8 become 2 as well.
struct Params { rows: u32, columns: u32, depth: u32, splits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> xt: array<vec4f>;
@group(0) @binding(2) var<storage, read> w: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;

/// First row, first four of columns, first and last + 1 of the depth, and where the share of a split begins in y.
struct Tile { m: u32, n: u32, k0: u32, k1: u32, base: u32 }

fn tile(id: vec3u, groups: vec3u) -> Tile {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.columns + 7u) / 8u;
  let down = (p.rows + 7u) / 8u;
  let split = t / across / down;
  let stretch = (p.depth + p.splits - 1u) / p.splits;
  let k0 = split * stretch;
  let base = select(split * p.rows * p.columns / 4u, OUTSIDE, split >= p.splits);
  return Tile((t / across % down) * 8u, (t % across) * 2u, k0, min(k0 + stretch, p.depth), base);
}
const OUTSIDE = 0xffffffffu;

fn store(t: Tile, m: u32, a: vec4f, b: vec4f) {
  if (m >= p.rows) { return; }
  let fours = p.columns / 4u;
  let i = t.base + m * fours + t.n;
  y[i] = finish(a, 4u * t.n, p.columns, 4u * i);
  if (t.n + 1u < fours) { y[i + 1u] = finish(b, 4u * t.n + 4u, p.columns, 4u * i + 4u); }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = tile(id, groups);
  if (t.base == OUTSIDE) { return; }
  let m = t.m;
  let fours = p.columns / 4u;
  // Rows beyond the last one, and the second four of an odd number, repeat what is there and are not stored.
  let second = select(0u, 1u, t.n + 1u < fours);
  let last = p.rows - 1u;
  let r0 = min(m + 0u, last) * p.depth;
  let r1 = min(m + 1u, last) * p.depth;
  let r2 = min(m + 2u, last) * p.depth;
  let r3 = min(m + 3u, last) * p.depth;
  let r4 = min(m + 4u, last) * p.depth;
  let r5 = min(m + 5u, last) * p.depth;
  let r6 = min(m + 6u, last) * p.depth;
  let r7 = min(m + 7u, last) * p.depth;
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  var g = t.k0 * fours + t.n;
  for (var k = t.k0; k < t.k1; k++) {
    let u = w[g];
    let v = w[g + second];
    var s = x[r0 + k]; a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
    s = x[r1 + k]; a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
    s = x[r2 + k]; a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
    s = x[r3 + k]; a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
    s = x[r4 + k]; a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
    s = x[r5 + k]; a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
    s = x[r6 + k]; a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
    s = x[r7 + k]; a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
    g += fours;
  }
  store(t, m + 0u, a0, b0);
  store(t, m + 1u, a1, b1);
  store(t, m + 2u, a2, b2);
  store(t, m + 3u, a3, b3);
  store(t, m + 4u, a4, b4);
  store(t, m + 5u, a5, b5);
  store(t, m + 6u, a6, b6);
  store(t, m + 7u, a7, b7);
}

@compute @workgroup_size(64)
fn transposed(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = tile(id, groups);
  if (t.base == OUTSIDE) { return; }
  let m = t.m;
  let fours = p.columns / 4u;
  let rowFours = p.rows / 4u;
  let second = select(0u, 1u, t.n + 1u < fours);
  let below = select(0u, 1u, m / 4u + 1u < rowFours);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  var g = t.k0 * fours + t.n;
  var h = t.k0 * rowFours + m / 4u;
  for (var k = t.k0; k < t.k1; k++) {
    let u = w[g];
    let v = w[g + second];
    let r = xt[h];
    let s = xt[h + below];
    a0 = fma(vec4f(r.x), u, a0); b0 = fma(vec4f(r.x), v, b0);
    a1 = fma(vec4f(r.y), u, a1); b1 = fma(vec4f(r.y), v, b1);
    a2 = fma(vec4f(r.z), u, a2); b2 = fma(vec4f(r.z), v, b2);
    a3 = fma(vec4f(r.w), u, a3); b3 = fma(vec4f(r.w), v, b3);
    a4 = fma(vec4f(s.x), u, a4); b4 = fma(vec4f(s.x), v, b4);
    a5 = fma(vec4f(s.y), u, a5); b5 = fma(vec4f(s.y), v, b5);
    a6 = fma(vec4f(s.z), u, a6); b6 = fma(vec4f(s.z), v, b6);
    a7 = fma(vec4f(s.w), u, a7); b7 = fma(vec4f(s.w), v, b7);
    g += fours;
    h += rowFours;
  }
  store(t, m + 0u, a0, b0);
  store(t, m + 1u, a1, b1);
  store(t, m + 2u, a2, b2);
  store(t, m + 3u, a3, b3);
  store(t, m + 4u, a4, b4);
  store(t, m + 5u, a5, b5);
  store(t, m + 6u, a6, b6);
  store(t, m + 7u, a7, b7);
}
