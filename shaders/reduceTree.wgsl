// reduce.wgsl's sum by whole workgroups: LX neighbours of `inner` and LY rows of the reduced axis at a time, joined by a tree. One
// or two passes where a thread an output would need three. Wins where thousands of threads are cheap, which is not so on a processor.
// x is [outer, reduce, inner], y [outer, splits, inner]. Traffic: 4 bytes read an element of x.
struct Params { outer: u32, reduce: u32, inner: u32, splits: u32, factor: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LX, LY)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
) {
  let w = group.x + group.y * groups.x;
  let across = (p.inner + LX - 1u) / LX;
  let i = w % across * LX + id.x;
  let s = w / across % p.splits;
  let o = w / across / p.splits;
  let stretch = stretchOf(s, p.splits, p.reduce);
  var total = 0.0;
  if (o < p.outer && i < p.inner) {
    // Four at a time are on their way while one is added.
    var r = stretch.x + id.y;
    for (; r + 3u * LY < stretch.y; r += 4u * LY) {
      let at = (o * p.reduce + r) * p.inner + i;
      let step = LY * p.inner;
      total += (x[at] + x[at + step]) + (x[at + 2u * step] + x[at + 3u * step]);
    }
    for (; r < stretch.y; r += LY) { total += x[(o * p.reduce + r) * p.inner + i]; }
  }
  let sum = treeSum(total, id);
  if (o < p.outer && i < p.inner && id.y == 0u) { y[(o * p.splits + s) * p.inner + i] = sum * p.factor; }
}
