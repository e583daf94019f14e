// A 64-bit counter in two words, plus one, in place.
struct Params { unused: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn main() {
  let low = step[0] + 1u + p.unused;
  step[0] = low;
  if (low == 0u) { step[1] = step[1] + 1u; }
}
