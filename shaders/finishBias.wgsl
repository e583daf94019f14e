// What happens to an output before it is stored: a bias by column, then an activation. Saves a pass over the output each; the same
// operations in the same order as binary.wgsl and unary.wgsl, hence the same bits. After activate.wgsl.
@group(0) @binding(4) var<storage, read> bias: array<f32>;

fn finish(v: vec4f, n: u32, columns: u32, at: u32) -> vec4f {
  let last = columns - 1u;
  let shifted = v + vec4f(bias[n], bias[min(n + 1u, last)], bias[min(n + 2u, last)], bias[min(n + 3u, last)]);
  return vec4f(activate(shifted.x), activate(shifted.y), activate(shifted.z), activate(shifted.w));
}
