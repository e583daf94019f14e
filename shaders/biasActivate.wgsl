// An epilogue (finishBias.wgsl) as a pass of its own, for kernels that have no room for it. Traffic: 8 bytes an element.
struct Params { size: u32, columns: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let threads = groups.x * groups.y * 64u;
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += threads) { y[i] = activate(x[i] + bias[i % p.columns]); }
}
