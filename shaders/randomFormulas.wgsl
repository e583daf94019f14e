// Packed formulas drawn from frequencies, one thread a formula: how many elements, which (without repeats), how many atoms of each.
// The table holds running sums of shares, each ending at 1: of 0 … 8 elements, of the elements, of each element's counts. Every
// choice is the first place that a uniform number falls below: comparisons alone, so that all devices draw the same.
// Traffic: 16 bytes written a formula; the table stays in cache.
struct Params { batch: u32, stream: u32, key0: u32, key1: u32, elements: u32, counts: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

// Draws of an element that is there already before the next one that is not takes its place.
const TRIES = 16u;

var<private> row: u32;
var<private> used: u32;
var<private> words: vec4u;

fn uniform01() -> f32 {
  if ((used & 3u) == 0u) {
    words = philox(vec4u((used >> 2u) * p.batch + row, p.stream, step[0], step[1]), vec2u(p.key0, p.key1));
  }
  let word = words[used & 3u];
  used++;
  return open01(word);
}

fn isTaken(taken: array<u32, 3>, e: u32) -> bool {
  var bits = taken;
  return ((bits[e >> 5u] >> (e & 31u)) & 1u) == 1u;
}

// First of `n` sums from `base` on that the number is below; the last one where there is none.
fn place(base: u32, n: u32, u: f32) -> u32 {
  var low = 0u;
  var high = n - 1u;
  while (low < high) {
    let middle = (low + high) >> 1u;
    if (u < sums[base + middle]) { high = middle; } else { low = middle + 1u; }
  }
  return low;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  row = id.x + id.y * groups.x * 64u;
  if (row >= p.batch) { return; }
  used = 0u;
  let first = 9u;
  let n = place(0u, 9u, uniform01());
  var pairs: array<u32, 8>;
  var taken = array<u32, 3>(0u, 0u, 0u);
  var found = 0u;
  for (; found < n; found++) {
    var e = place(first, p.elements, uniform01());
    for (var tries = 1u; tries < TRIES && isTaken(taken, e); tries++) {
      e = place(first, p.elements, uniform01());
    }
    var free = false;
    for (var k = 0u; k < p.elements && !free; k++) {
      let likely = sums[first + e] > select(0.0, sums[first + max(e, 1u) - 1u], e > 0u);
      free = likely && !isTaken(taken, e);
      if (!free) { e = select(e + 1u, 0u, e + 1u == p.elements); }
    }
    if (!free) { break; }
    taken[e >> 5u] |= 1u << (e & 31u);
    let count = place(first + p.elements + e * p.counts, p.counts, uniform01());
    let pair = ((e + 1u) << 8u) | (count + 1u);
    var at = found;
    for (; at > 0u && pairs[at - 1u] > pair; at--) { pairs[at] = pairs[at - 1u]; }
    pairs[at] = pair;
  }
  for (var w = 0u; w < 4u; w++) {
    let low = select(0u, pairs[2u * w], 2u * w < found);
    let high = select(0u, pairs[2u * w + 1u], 2u * w + 1u < found);
    y[row * 4u + w] = low | (high << 16u);
  }
}
