// Cells [batch, elements, counts] to packed formulas, one thread a sample. Rule paper (0): a cell is on where its value is
// at least 0.2, and the largest count that is on wins. Rule argmax (1): an element is there where its greatest cell
// is at least 0.5, with that cell's count. Fewer than two elements, or more than eight, give four zero words.
// Traffic: 4 bytes read a cell, 16 written a sample.
struct Params { batch: u32, elements: u32, counts: u32, rule: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let sample = id.x + id.y * groups.x * 64u;
  if (sample >= p.batch) { return; }
  let base = sample * p.elements * p.counts;
  var words = vec4u(0u);
  var found = 0u;
  for (var e = 0u; e < p.elements; e++) {
    var best = 0u;
    var greatest = 0.0;
    for (var c = 0u; c < p.counts; c++) {
      let v = x[base + e * p.counts + c];
      if (p.rule == 0u) {
        if (v >= 0.2) { best = c + 1u; }
      } else if (v >= 0.5 && v > greatest) {
        greatest = v;
        best = c + 1u;
      }
    }
    if (best > 0u) {
      if (found < 8u) {
        let pair = ((e + 1u) << 8u) | best;
        words[found >> 1u] |= pair << ((found & 1u) * 16u);
      }
      found++;
    }
  }
  if (found < 2u || found > 8u) { words = vec4u(0u); }
  for (var w = 0u; w < 4u; w++) { y[sample * 4u + w] = words[w]; }
}
