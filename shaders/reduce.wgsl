// y[o, s, i] = Σ (or max) over r ≡ s (mod splits) of x[o, r, i], times a factor: one pass of a reduction.
// x is [outer, reduce, inner], y [outer, splits, inner]. Each thread sums at most a few dozen terms in a fixed order,
// and further passes sum the splits: the same bits every time, and an error that grows with the depth, not the size.
// Traffic: 4 bytes read an element of x. Threads that lie side by side read side by side.
struct Params { outer: u32, reduce: u32, inner: u32, splits: u32, factor: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override MAXIMUM: bool = false;

// By its bits: WGSL lets a compiler take v != v for false, and some do.
fn isNan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= p.outer * p.splits * p.inner) { return; }
  let i = t % p.inner;
  let s = (t / p.inner) % p.splits;
  let base = (t / p.inner / p.splits) * p.reduce * p.inner + i;
  var total = x[base + s * p.inner];
  for (var r = s + p.splits; r < p.reduce; r += p.splits) {
    let v = x[base + r * p.inner];
    if (MAXIMUM) {
      // NaN wins, as IEEE's maximum has it.
      if (!isNan(total)) { total = select(total, v, v > total || isNan(v)); }
    } else {
      total += v;
    }
  }
  y[t] = total * p.factor;
}
