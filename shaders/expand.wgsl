// Broadcast x over at most four (collapsed) axes: a stride of 0 repeats. Traffic: 4 bytes written an element.
struct Params { size: u32, d1: u32, d2: u32, d3: u32, x0: u32, x1: u32, x2: u32, x3: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  let i3 = i % p.d3;
  let q3 = i / p.d3;
  let i2 = q3 % p.d2;
  let q2 = q3 / p.d2;
  y[i] = x[(q2 / p.d1) * p.x0 + (q2 % p.d1) * p.x1 + i2 * p.x2 + i3 * p.x3];
}
