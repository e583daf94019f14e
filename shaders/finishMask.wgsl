// What happens to an output before it is stored: the derivative of (leaky) ReLU, where what the activation made is not above zero.
// binary.wgsl's leakyReluGrad and reluGrad to the same bits. `n` is the column of the first of the four, `at` its index in all.
@group(0) @binding(4) var<storage, read> activated: array<f32>;

override ALPHA: f32 = 0.0;

fn masked(u: f32, v: f32) -> f32 {
  // ReLU's is a literal zero, so that an infinite cotangent behind a dead unit does not turn into NaN.
  if (ALPHA == 0.0) { return select(0.0, v, u > 0.0); }
  return select(ALPHA * v, v, u > 0.0);
}

fn finish(v: vec4f, n: u32, columns: u32, at: u32) -> vec4f {
  let last = at + min(3u, columns - 1u - n);
  return vec4f(
    masked(activated[at], v.x), masked(activated[min(at + 1u, last)], v.y),
    masked(activated[min(at + 2u, last)], v.z), masked(activated[min(at + 3u, last)], v.w));
}
