// y[m,n] = z·sigmoid(βz), z = Σ_k x[m,k]·w[k,n]: a matrix product and its activation in one pass. A thread makes one
// element and reads a row and a column: 2·depth loads for depth multiply-adds, which is as simple as it is slow.
struct Params { rows: u32, depth: u32, columns: u32, beta: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.rows * p.columns) { return; }
  let m = i / p.columns;
  let n = i % p.columns;
  var z = 0.0;
  for (var k = 0u; k < p.depth; k++) {
    z += x[m * p.depth + k] * w[k * p.columns + n];
  }
  y[i] = z / (1.0 + exp(-p.beta * z));
}
