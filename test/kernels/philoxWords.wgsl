// The random words themselves, for comparison with published vectors: only the tests run this.
@group(0) @binding(1) var<storage, read> input: array<u32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3u) {
  let at = id.x * 6u;
  let c = vec4u(input[at], input[at + 1u], input[at + 2u], input[at + 3u]);
  let result = philox(c, vec2u(input[at + 4u], input[at + 5u]));
  for (var i = 0u; i < 4u; i++) { words[id.x * 4u + i] = result[i]; }
}
