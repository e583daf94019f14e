// Activations at the end of other kernels: unary.wgsl's, to the same bits. 0 none, 1 ReLU, 2 leaky ReLU, 3 sigmoid.
override ACTIVATION: u32 = 0u;
override ALPHA: f32 = 0.0;

// By its bits: WGSL lets a compiler take v != v for false, and some do.
fn isNan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

fn activate(v: f32) -> f32 {
  switch ACTIVATION {
    case 1u: { return select(0.0, v, v > 0.0 || isNan(v)); }
    case 2u: { return select(ALPHA * v, v, v > 0.0); }
    case 3u: {
      let e = exp(-abs(v));
      return select(e, 1.0, v >= 0.0) / (1.0 + e);
    }
    default: { return v; }
  }
}
