// Batch norm's backward, x̂ = (x − mean)/√(variance + eps):
//   sums:  [2, channels] = Σg, Σg·x̂ (the cotangents of beta and gamma), over rows ≡ s (mod splits)
//   apply: dx = gamma/√(variance + eps)·(g − Σg/n − x̂·Σ(g·x̂)/n)
// Traffic: g and x twice, dx once.
struct Params { rows: u32, channels: u32, splits: u32, eps: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

// y: [splits, 2, channels].
@compute @workgroup_size(64)
fn sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.splits * p.channels) { return; }
  let c = t % p.channels;
  let s = t / p.channels;
  let m = stats[c];
  let d = sqrt(stats[p.channels + c] + p.eps);
  var total = 0.0;
  var moment = 0.0;
  for (var r = s; r < p.rows; r += p.splits) {
    let i = r * p.channels + c;
    total += g[i];
    moment += g[i] * ((x[i] - m) / d);
  }
  y[(2u * s) * p.channels + c] = total;
  y[(2u * s + 1u) * p.channels + c] = moment;
}

@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> totals: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn apply(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  // One channel a thread, striding over the rows (see normalise.wgsl).
  let t = id.x + id.y * groups.x * 64u;
  let stride = (groups.x * groups.y * 64u / p.channels) * p.channels;
  if (t >= stride) { return; }
  let c = t % p.channels;
  let n = f32(p.rows);
  let mean = stats[c];
  let d = sqrt(stats[p.channels + c] + p.eps);
  let scale = gamma[c] / d;
  let shift = totals[c] / n;
  let slope = totals[p.channels + c] / n;
  for (var i = t; i < p.rows * p.channels; i += stride) {
    dx[i] = scale * (g[i] - shift - (x[i] - mean) / d * slope);
  }
}
