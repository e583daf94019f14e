// y = (x − mean)/√(variance + eps)·gamma + beta with the last axis as channel. Traffic: 8 bytes an element.
struct Params { size: u32, channels: u32, eps: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  let c = i % p.channels;
  // 1/sqrt rather than inverseSqrt: sqrt and division are held to tighter bounds.
  y[i] = (x[i] - stats[c]) / sqrt(stats[p.channels + c] + p.eps) * gamma[c] + beta[c];
}
