// y[i] = Σ_s x[s, i], in order, then a bias and an activation (activate.wgsl) or the derivative of one: joins what the shares of a product's depth made. Traffic: 4 bytes a share and element.
struct Params { size: u32, shares: u32, columns: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn total(i: u32) -> f32 {
  var sum = x[i];
  for (var s = 1u; s < p.shares; s++) { sum += x[s * p.size + i]; }
  return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < p.size) { y[i] = total(i); }
}

@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn biased(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < p.size) { out[i] = activate(total(i) + bias[i % p.columns]); }
}

@compute @workgroup_size(64)
fn masked(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  // As finishMask.wgsl: `bias` holds what the activation made.
  if (i < p.size) { out[i] = select(select(ALPHA * total(i), 0.0, ALPHA == 0.0), total(i), bias[i] > 0.0); }
}
