// Mean and variance of each channel of x [rows, channels], in two passes over x (E[x²]−E[x]² loses everything where the
// mean is large). `mean` comes from reduce.wgsl; `centred` sums (x − mean)² over rows ≡ s (mod splits); `join` writes
// [2, channels]. Traffic: x twice.
struct Params { rows: u32, channels: u32, splits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn centred(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.splits * p.channels) { return; }
  let c = t % p.channels;
  let m = mean[c];
  var total = 0.0;
  for (var r = t / p.channels; r < p.rows; r += p.splits) {
    let d = x[r * p.channels + c] - m;
    total += d * d;
  }
  y[t] = total;
}

// x: the sums of squares [channels].
@compute @workgroup_size(64)
fn join(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c >= p.channels) { return; }
  y[c] = mean[c];
  y[p.channels + c] = x[c] / f32(p.rows);
}
