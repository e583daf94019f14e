// y = factor·x, one thread an element: a kernel that the tests of the tester can spoil.
struct Params { size: u32, factor: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < p.size) { y[id.x] = p.factor * x[id.x]; }
}
