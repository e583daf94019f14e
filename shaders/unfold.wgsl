// Packed formulas (eight 16-bit pairs a row: (element + 1) << 8 | count, 0 for none) to 85×8 cells, 1 at (element, count − 1).
// One thread a cell: a cell is looked for in its row's pairs, so that every cell is written exactly once.
// Traffic: 4 bytes written a cell.
struct Params { size: u32, elements: u32, counts: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> formulas: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.size) { return; }
  let cells = p.elements * p.counts;
  let cell = t % cells;
  let pair = ((cell / p.counts + 1u) << 8u) | (cell % p.counts + 1u);
  let base = rows[t / cells] * 4u;
  var found = false;
  for (var w = 0u; w < 4u; w++) {
    let word = formulas[base + w];
    found = found || (word & 0xffffu) == pair || (word >> 16u) == pair;
  }
  y[t] = select(0.0, 1.0, found);
}
