// Rows of a table [n, columns] at row numbers [batch]: y[b, c] = x[rows[b], c].
// One thread an element, neighbours side by side. Traffic: 4 bytes read and written an element, and the row numbers; bound by memory.
struct Params { size: u32, columns: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.size) { return; }
  y[t] = x[rows[t / p.columns] * p.columns + t % p.columns];
}
