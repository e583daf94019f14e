// batchNormGrad.wgsl's sums by whole workgroups: [splits, 2, channels] of Σg and Σg·x̂ over stretches of the rows.
// Traffic: 8 bytes an element.
struct Params { rows: u32, channels: u32, splits: u32, eps: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LX, LY)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
) {
  let w = group.x + group.y * groups.x;
  let across = (p.channels + LX - 1u) / LX;
  let c = w % across * LX + id.x;
  let s = w / across;
  let live = s < p.splits && c < p.channels;
  let stretch = stretchOf(s, p.splits, p.rows);
  var total = 0.0;
  var moment = 0.0;
  if (live) {
    let m = stats[c];
    let d = sqrt(stats[p.channels + c] + p.eps);
    // Four at a time are on their way while one is added.
    var r = stretch.x + id.y;
    for (; r + 3u * LY < stretch.y; r += 4u * LY) {
      let at = r * p.channels + c;
      let step = LY * p.channels;
      let gs = vec4f(g[at], g[at + step], g[at + 2u * step], g[at + 3u * step]);
      let xs = vec4f(x[at], x[at + step], x[at + 2u * step], x[at + 3u * step]);
      total += (gs.x + gs.y) + (gs.z + gs.w);
      moment += dot(gs, (xs - m) / d);
    }
    for (; r < stretch.y; r += LY) {
      let i = r * p.channels + c;
      total += g[i];
      moment += g[i] * ((x[i] - m) / d);
    }
  }
  let sum = treeSum(total, id);
  let sumMoment = treeSum(moment, id);
  if (live && id.y == 0u) {
    y[2u * s * p.channels + c] = sum;
    y[(2u * s + 1u) * p.channels + c] = sumMoment;
  }
}
