// Ceiling of memory: how many bytes a second this adapter reads and writes when arithmetic plays no part.
//
// Traffic: 16 bytes read and 16 written a vec4, neighbouring threads on neighbouring addresses. Each thread walks with the
// stride of the whole grid, so that the number of threads and the size of the buffer are free of one another.

struct Params { vectors: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn copy_ceiling(@builtin(global_invocation_id) id: vec3u) {
  for (var i = id.x; i < p.vectors; i += p.stride) {
    out[i] = source[i];
  }
}
