// flags[slot] = max over i of ~(2·i + 1 where x[i] is infinite, 2·i where it is NaN): the first element that is no number,
// zero where there is none. Bits are looked at, not values: WGSL lets a compiler take every float for finite. An integer
// maximum does not depend on the order. Traffic: 4 bytes read an element; runs only where anomalies are looked for.
struct Params { size: u32, slot: u32, threads: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> flags: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += p.threads) {
    if ((x[i] & 0x7f800000u) == 0x7f800000u) {
      let infinite = select(0u, 1u, (x[i] & 0x007fffffu) == 0u);
      atomicMax(&flags[p.slot], ~(2u * i + infinite));
      return;
    }
  }
}
