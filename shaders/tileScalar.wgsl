// How the tiled products (tile.wgsl) reach memory for any sizes: one by one, and of four the first `n` where n is less.
const VEC4 = false;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn left1(i: u32) -> f32 { return left[i]; }
fn left4(i: u32, n: u32) -> vec4f {
  var v = vec4f(left[i], 0.0, 0.0, 0.0);
  if (n > 1u) { v.y = left[i + 1u]; }
  if (n > 2u) { v.z = left[i + 2u]; }
  if (n > 3u) { v.w = left[i + 3u]; }
  return v;
}
fn right4(i: u32, n: u32) -> vec4f {
  var v = vec4f(right[i], 0.0, 0.0, 0.0);
  if (n > 1u) { v.y = right[i + 1u]; }
  if (n > 2u) { v.z = right[i + 2u]; }
  if (n > 3u) { v.w = right[i + 3u]; }
  return v;
}
fn out4(i: u32, n: u32, v: vec4f) {
  out[i] = v.x;
  if (n > 1u) { out[i + 1u] = v.y; }
  if (n > 2u) { out[i + 2u] = v.z; }
  if (n > 3u) { out[i + 3u] = v.w; }
}
