// Histograms of boosted trees: for each bin of a column the sum of gradients and the number of rows, over the rows of a node.
// Gradients are whole numbers in two halves, q = high · 2^half + low with low ≥ 0, whose sums stay below 2^31: atomics give the same bits in any
// order. `main`: a workgroup takes a stretch of rows and four columns (one word of codes a row) and sums in its own memory, 12 KiB; `combine`
// adds the stretches. Traffic: 12 bytes a row and word, 12 KiB a stretch and word. Wins on a graphics card with tens of thousands of rows; a
// software adapter's atomics cost more than the processor's own loop.
struct Params { rows: u32, across: u32, words: u32, stretch: u32, stretches: u32, half: u32 }

@group(0) @binding(0) var<uniform> p: Params;
/// Rows of the node.
@group(0) @binding(1) var<storage, read> order: array<u32>;
/// By row of the table.
@group(0) @binding(2) var<storage, read> gradients: array<i32>;
/// [rows of the table, across], four codes a word.
@group(0) @binding(3) var<storage, read> codes: array<u32>;
/// Words of a row that are wanted.
@group(0) @binding(4) var<storage, read> wanted: array<u32>;
/// [stretches, words, 4 columns, 256 bins, (high, low, rows)].
@group(0) @binding(5) var<storage, read_write> sums: array<i32>;

const size = 3072u;
var<workgroup> own: array<atomic<i32>, 3072>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) t: u32) {
  for (var i = t; i < size; i += 256u) { atomicStore(&own[i], 0); }
  workgroupBarrier();
  let word = wanted[group.x];
  let end = min(p.rows, (group.y + 1u) * p.stretch);
  for (var i = group.y * p.stretch + t; i < end; i += 256u) {
    let row = order[i];
    let q = gradients[row];
    let high = q >> p.half;
    let low = q - (high << p.half);
    let four = codes[row * p.across + word];
    for (var c = 0u; c < 4u; c++) {
      let at = 3u * (256u * c + ((four >> (8u * c)) & 255u));
      atomicAdd(&own[at], high);
      atomicAdd(&own[at + 1u], low);
      atomicAdd(&own[at + 2u], 1);
    }
  }
  workgroupBarrier();
  let to = (group.y * p.words + group.x) * size;
  for (var i = t; i < size; i += 256u) { sums[to + i] = atomicLoad(&own[i]); }
}
