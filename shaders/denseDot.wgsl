// A matrix product of few outputs and a deep sum: a workgroup an output, its threads along the depth. One dispatch where
// dense.wgsl would split the depth and add the shares up. For w stored [columns, depth], or one column.
// Operations: 2·rows·columns·depth; each output reads 8 bytes a product, so it is for outputs that fit a device once or twice.
struct Params { rows: u32, columns: u32, depth: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LX, LY)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
) {
  let t = group.x + group.y * groups.x;
  let m = t / p.columns;
  let n = t % p.columns;
  var total = 0.0;
  if (m < p.rows) {
    for (var k = id.y; k < p.depth; k += LY) { total = fma(x[m * p.depth + k], w[n * p.depth + k], total); }
  }
  let sum = treeSum(total, id);
  if (m < p.rows && id.y == 0u) { y[t] = finish(vec4f(sum, 0.0, 0.0, 0.0), n, p.columns, t).x; }
}
