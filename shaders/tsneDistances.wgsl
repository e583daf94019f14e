// Squared distances of a tile of queries to all points, d[j, q] = Σ_c (x[c, q] − b[c, j])², features stored [dims, points].
// Differences, not |x|² + |b|² − 2xb: equal points are at distance 0 exactly, whatever their size.
// Each thread makes 4 queries by 4 points in registers. Operations: 3·dims a pair; least bytes: 4 a pair written, the features read once.
// The tile lies with the queries side by side, so that the selection that follows (tsneNeighbours.wgsl) reads neighbouring words.
struct Params { tile: u32, first: u32, queries: u32, points: u32, padded: u32, dims: u32, itself: u32 }

@group(0) @binding(0) var<uniform> p: Params;
/// [dims, queries / 4]; `queries` counts the padding.
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
/// [dims, padded / 4].
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
/// [padded, tile / 4].
@group(0) @binding(3) var<storage, read_write> d: array<vec4f>;

/// Farther than any distance between features of size 1.
const nowhere = 3e38;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = p.tile / 4u;
  let q = t % across;
  let j = t / across;
  if (4u * j >= p.padded) { return; }
  var d0 = vec4f();
  var d1 = vec4f();
  var d2 = vec4f();
  var d3 = vec4f();
  var atX = min(p.first / 4u + q, p.queries / 4u - 1u);
  var atB = j;
  for (var c = 0u; c < p.dims; c++) {
    let u = x[atX];
    let v = b[atB];
    let e0 = u - v.x; d0 = fma(e0, e0, d0);
    let e1 = u - v.y; d1 = fma(e1, e1, d1);
    let e2 = u - v.z; d2 = fma(e2, e2, d2);
    let e3 = u - v.w; d3 = fma(e3, e3, d3);
    atX += p.queries / 4u;
    atB += p.padded / 4u;
  }
  if (p.itself == 1u) {
    let i = vec4u(p.first + 4u * q) + vec4u(0u, 1u, 2u, 3u);
    d0 = select(d0, vec4f(nowhere), i == vec4u(4u * j));
    d1 = select(d1, vec4f(nowhere), i == vec4u(4u * j + 1u));
    d2 = select(d2, vec4f(nowhere), i == vec4u(4u * j + 2u));
    d3 = select(d3, vec4f(nowhere), i == vec4u(4u * j + 3u));
  }
  let at = 4u * j * across + q;
  d[at] = d0;
  d[at + across] = d1;
  d[at + 2u * across] = d2;
  d[at + 3u * across] = d3;
}
