// t-SNE's attraction over the sparse rows of P, and the repulsion's stretches joined, one thread a point:
//   attraction[i] = (Σⱼ pᵢⱼ w·(yᵢ − yⱼ), Σⱼ pᵢⱼ ln(1 + |yᵢ − yⱼ|²)),   repulsion[i] = Σ over stretches, less the w = 1 of i itself.
// Operations: about 20 an entry of P; traffic: 8 bytes an entry and its point's position (gathered), 16 bytes a point and stretch.
// The logarithm is the part of the KL divergence that changes from step to step: it costs little here and a second walk elsewhere.
struct Params { points: u32, padded: u32, dimensions: u32, stretches: u32 }

@group(0) @binding(0) var<uniform> p: Params;
/// [dimensions, padded].
@group(0) @binding(1) var<storage, read> y: array<f32>;
/// Where each row of P begins, [points + 1]; its columns and values.
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> columns: array<u32>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
/// [stretches, padded] of (x, y, z, Σw).
@group(0) @binding(5) var<storage, read> forces: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> attraction: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> repulsion: array<vec4f>;

fn position(i: u32) -> vec3f {
  var z = 0.0;
  if (p.dimensions == 3u) { z = y[2u * p.padded + i]; }
  return vec3f(y[i], y[p.padded + i], z);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.points) { return; }
  let here = position(i);
  var pull = vec4f();
  let end = rows[i + 1u];
  for (var at = rows[i]; at < end; at++) {
    let gap = here - position(columns[at]);
    let below = 1.0 + dot(gap, gap);
    pull = fma(vec4f(values[at]), vec4f(gap / below, log(below)), pull);
  }
  attraction[i] = pull;
  var push = vec4f(0.0, 0.0, 0.0, -1.0);
  for (var s = 0u; s < p.stretches; s++) { push += forces[s * p.padded + i]; }
  repulsion[i] = push;
}
