// A step of t-SNE's descent. `totals`, one workgroup: Z = Σᵢⱼ w and the sum of the KL divergence's logarithms, in a fixed order.
// `main`, one thread a point: gradient 4·(exaggeration·attraction − repulsion / Z); gains grow by 0.2 where the gradient turns
// against the velocity and shrink to 0.8 where not (Jacobs 1988); no step is longer than `longest`.
// Traffic: 32 bytes a point for `totals`, 100 for `main`: nothing beside the repulsion.
struct Params { points: u32, padded: u32, dimensions: u32, exaggeration: f32, rate: f32, momentum: f32, longest: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> attraction: array<vec4f>;
@group(0) @binding(2) var<storage, read> repulsion: array<vec4f>;
/// Z and the sum of logarithms.
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
/// [dimensions, padded].
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
/// Velocities and gains, [2, points] of (x, y, z, –).
@group(0) @binding(5) var<storage, read_write> state: array<vec4f>;

var<workgroup> partial: array<vec2f, 256>;

@compute @workgroup_size(256)
fn totals(@builtin(local_invocation_index) t: u32) {
  var sum = vec2f();
  for (var i = t; i < p.points; i += 256u) { sum += vec2f(repulsion[i].w, attraction[i].w); }
  partial[t] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (t < half) { partial[t] += partial[t + half]; }
    workgroupBarrier();
  }
  if (t == 0u) {
    sums[0] = partial[0].x;
    sums[1] = partial[0].y;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.points) { return; }
  // A lone w below the smallest number: points are too far apart to push.
  let z = max(sums[0], 1e-30);
  let gradient = 4.0 * (p.exaggeration * attraction[i].xyz - repulsion[i].xyz / z);
  let velocity = state[i].xyz;
  let before = state[p.points + i].xyz;
  let gains = max(select(before * 0.8, before + 0.2, gradient * velocity < vec3f()), vec3f(0.01));
  var step = p.momentum * velocity - p.rate * gains * gradient;
  let size = length(step);
  if (size > p.longest) { step *= p.longest / size; }
  state[i] = vec4f(step, 0.0);
  state[p.points + i] = vec4f(gains, 0.0);
  y[i] += step.x;
  y[p.padded + i] += step.y;
  if (p.dimensions == 3u) { y[2u * p.padded + i] += step.z; }
}
