// y = f(a, b), elementwise with NumPy's broadcasting over at most four (collapsed) axes: a stride of 0 repeats.
// Traffic: 8 bytes read, 4 written an element; repeated operands come from the cache.
struct Params {
  size: u32, alpha: f32,
  d1: u32, d2: u32, d3: u32,
  a0: u32, a1: u32, a2: u32, a3: u32,
  b0: u32, b1: u32, b2: u32, b3: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override FUNCTION: u32;

fn apply(u: f32, v: f32) -> f32 {
  switch FUNCTION {
    case 0u: { return u + v; }
    case 1u: { return u - v; }
    case 2u: { return u * v; }
    case 3u: { return u / v; }
    case 4u: { return select(p.alpha * v, v, u > 0.0); }
    case 5u: { return v * u * (1.0 - u); }
    case 6u: { return select(0.0, 1.0, u == v); }
    // relu's: a literal zero, so that an infinite cotangent behind a dead unit does not turn into NaN.
    case 7u: { return select(0.0, v, u > 0.0); }
    default: { return u; }
  }
}

// Which operands repeat: 0 none, 1 b is one vector along the last axis, 2 a is, 3 anything else.
override REPEAT: u32 = 3u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let threads = groups.x * groups.y * 64u;
  let t = id.x + id.y * groups.x * 64u;
  if (REPEAT == 0u) {
    for (var i = t; i < p.size; i += threads) { y[i] = apply(a[i], b[i]); }
    return;
  }
  if (REPEAT != 3u) {
    // One place in the vector a thread: an integer division costs more than the rest.
    let column = t % p.d3;
    let stride = (threads / p.d3) * p.d3;
    if (t >= stride) { return; }
    for (var i = t; i < p.size; i += stride) {
      if (REPEAT == 1u) { y[i] = apply(a[i], b[column]); } else { y[i] = apply(a[column], b[i]); }
    }
    return;
  }
  for (var i = t; i < p.size; i += threads) {
    let i3 = i % p.d3;
    let q3 = i / p.d3;
    let i2 = q3 % p.d2;
    let q2 = q3 / p.d2;
    let i1 = q2 % p.d1;
    let i0 = q2 / p.d1;
    y[i] = apply(
      a[i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3],
      b[i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3]);
  }
}
