// y = (x − mean)/√(variance + eps)·gamma + beta with the last axis as channel, then an activation
// (activate.wgsl), which saves a pass. Traffic: 8 bytes an element.
struct Params { size: u32, channels: u32, eps: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  // One channel a thread, striding over the rows: an integer division and a root an element would cost more than the rest.
  let t = id.x + id.y * groups.x * 64u;
  let stride = (groups.x * groups.y * 64u / p.channels) * p.channels;
  if (t >= stride) { return; }
  let c = t % p.channels;
  let mean = stats[c];
  // sqrt and division rather than inverseSqrt: they are held to tighter bounds.
  let deviation = sqrt(stats[p.channels + c] + p.eps);
  let scale = gamma[c];
  let shift = beta[c];
  for (var i = t; i < p.size; i += stride) { y[i] = activate((x[i] - mean) / deviation * scale + shift); }
}
