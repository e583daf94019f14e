// The k nearest points of each query of a tile, exactly; of equal distances those with the lower index.
// A float that is not negative sorts like its bits: the k-th smallest is found two bits at a time, the greatest v with
// fewer than k distances below it, by 16 counts of the whole column; one more walk collects, in order of index.
// One thread a query. Traffic: 17 reads of the tile (68 bytes a pair), 8 bytes written a neighbour. Nothing is sorted and nothing
// diverges, which suits software and cards alike; a heap of k in registers or memory does neither.
struct Params { tile: u32, first: u32, queries: u32, points: u32, k: u32 }

@group(0) @binding(0) var<uniform> p: Params;
/// Squared distances [points, tile], as bits.
@group(0) @binding(1) var<storage, read> d: array<u32>;
/// [queries, k].
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> distance: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let q = id.x;
  if (q >= p.tile || p.first + q >= p.queries) { return; }
  var v = 0u;
  var below = 0u;
  for (var s = 0u; s < 16u; s++) {
    let step = 1u << (30u - 2u * s);
    let v1 = v + step;
    let v2 = v1 + step;
    let v3 = v2 + step;
    var counts = vec3u();
    for (var j = 0u; j < p.points; j++) {
      let bits = d[j * p.tile + q];
      counts += select(vec3u(), vec3u(1u), vec3u(bits) < vec3u(v1, v2, v3));
    }
    // The last of the three that still has fewer than k below it.
    if (counts.z < p.k) { v = v3; below = counts.z; }
    else if (counts.y < p.k) { v = v2; below = counts.y; }
    else if (counts.x < p.k) { v = v1; below = counts.x; }
  }
  var equals = p.k - below;
  var at = (p.first + q) * p.k;
  let end = at + p.k;
  for (var j = 0u; j < p.points; j++) {
    let bits = d[j * p.tile + q];
    if (at < end && (bits < v || (bits == v && equals > 0u))) {
      if (bits == v) { equals--; }
      index[at] = j;
      distance[at] = bitcast<f32>(bits);
      at++;
    }
  }
}
