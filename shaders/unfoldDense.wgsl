// Product of unfolded formulas and a matrix [cells, columns] without the cells: each output is the sum of the at most eight rows that
// a formula's pairs name, in the order of the pairs. One thread an output; neighbouring threads read neighbouring weights.
// Traffic: 20 bytes a formula, 4 bytes an addition and 4 written an output.
struct Params { size: u32, columns: u32, elements: u32, counts: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> formulas: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.size) { return; }
  let base = rows[t / p.columns] * 4u;
  let column = t % p.columns;
  var total = 0.0;
  for (var k = 0u; k < 8u; k++) {
    let pair = (formulas[base + (k >> 1u)] >> ((k & 1u) * 16u)) & 0xffffu;
    // Pairs fill a formula from the front.
    if (pair == 0u) { break; }
    let cell = ((pair >> 8u) - 1u) * p.counts + (pair & 0xffu) - 1u;
    total += weights[cell * p.columns + column];
  }
  y[t] = total;
}
