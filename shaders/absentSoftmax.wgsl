// Softmax along the last axis beside an implicit logit of 0, one thread a row: the greatest logit, or 0, is taken off first, so that
// nothing overflows.
// Traffic: 8 bytes an element; the second and third time it is read from cache.
struct Params { rows: u32, states: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= p.rows) { return; }
  let base = row * p.states;
  var shift = 0.0;
  for (var i = 0u; i < p.states; i++) { shift = max(shift, x[base + i]); }
  var total = exp(-shift);
  for (var i = 0u; i < p.states; i++) { total += exp(x[base + i] - shift); }
  for (var i = 0u; i < p.states; i++) { y[base + i] = exp(x[base + i] - shift) / total; }
}
