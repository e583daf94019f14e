// average = average + (1 − decay)·(value − average), in place: running statistics and averaged weights.
// Traffic: 12 bytes an element.
struct Params { size: u32, rate: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> average: array<f32>;
@group(0) @binding(2) var<storage, read> value: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  average[i] = average[i] + p.rate * (value[i] - average[i]);
}
