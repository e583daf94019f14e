// y = f(x), elementwise; the function is chosen when the pipeline is compiled.
// Traffic: 4 bytes read, 4 written an element: bound by memory everywhere.
struct Params { size: u32, a: f32, b: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override FUNCTION: u32;

// By its bits: WGSL lets a compiler take v != v for false, and some do.
fn isNan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

fn apply(v: f32) -> f32 {
  switch FUNCTION {
    case 0u: { return p.a * v + p.b; }
    case 1u: { return select(0.0, v, v > 0.0 || isNan(v)); }
    case 2u: { return select(p.a * v, v, v > 0.0); }
    case 3u: {
      // The half where exp does not overflow.
      let e = exp(-abs(v));
      return select(e, 1.0, v >= 0.0) / (1.0 + e);
    }
    case 4u: {
      // WGSL's tanh may be computed from exp(x)/exp(-x), which overflows.
      let e = exp(-2.0 * abs(v));
      let t = (1.0 - e) / (1.0 + e);
      return select(-t, t, v >= 0.0);
    }
    case 5u: { return exp(v); }
    case 6u: { return log(v); }
    case 7u: { return sqrt(v); }
    case 8u: { return 1.0 / sqrt(v); }
    case 9u: { return v * v; }
    case 10u: { return 1.0 / v; }
    case 11u: { return abs(v); }
    default: { return v; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  // Each thread strides over the elements: neighbours stay side by side, and a software adapter starts fewer threads.
  let threads = groups.x * groups.y * 64u;
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += threads) { y[i] = apply(x[i]); }
}
