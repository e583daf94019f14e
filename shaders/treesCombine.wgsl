// Adds the stretches of treesHistogram.wgsl: one thread a number. Traffic: 4 bytes a number and stretch.
struct Params { size: u32, stretches: u32 }

@group(0) @binding(0) var<uniform> p: Params;
/// [stretches, size].
@group(0) @binding(1) var<storage, read> sums: array<i32>;
/// [size].
@group(0) @binding(2) var<storage, read_write> total: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  var sum = 0;
  for (var s = 0u; s < p.stretches; s++) { sum += sums[s * p.size + i]; }
  total[i] = sum;
}
