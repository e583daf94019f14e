// y[goal + i] = x[start + i]: 32-bit words of any type. Traffic: 8 bytes an element.
struct Params { size: u32, start: u32, goal: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  y[p.goal + i] = x[p.start + i];
}
