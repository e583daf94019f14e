// Normal and uniform noise and masks from Philox: thread t makes elements 4t … 4t+3 from the counter (t, stream, step low, step high).
// Traffic: 4 bytes written an element; about 100 integer operations an element.
struct Params { size: u32, stream: u32, key0: u32, key1: u32, rate: f32, kept: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// 0: uniform; 1: normal; 2: mask, zero at the rate p.rate and p.kept elsewhere.
override KIND: u32 = 0u;

// (cos 2πu, sin 2πu). WGSL's own sin and cos may be off by 2^-11: quarter turns are taken off exactly, and
// polynomials (Taylor's, error below 2^-25 on ±π/4) do the rest.
fn turn(u: f32) -> vec2f {
  let quarter = floor(u * 4.0 + 0.5);
  let a = (u - quarter * 0.25) * 6.283185307179586;
  let s = a * a;
  let sine = a * (1.0 + s * (-1.6666667e-1 + s * (8.333334e-3 + s * (-1.98412698e-4 + s * 2.7557319e-6))));
  let cosine = 1.0 + s * (-0.5 + s * (4.1666668e-2 + s * (-1.3888889e-3 + s * (2.4801587e-5 + s * -2.755732e-7))));
  switch u32(quarter) & 3u {
    case 0u: { return vec2f(cosine, sine); }
    case 1u: { return vec2f(-sine, cosine); }
    case 2u: { return vec2f(-cosine, -sine); }
    default: { return vec2f(sine, -cosine); }
  }
}

// -ln u for u in (0, 1). Near 1 the built-in has no relative accuracy left (WGSL allows 2^-21 there, absolutely), and the root of a
// normal's radius would enlarge that: a series in 1 - u, which is exact, takes over at 15/16 and is off by under 2^-26.
fn minusLog(u: f32) -> f32 {
  let w = 1.0 - u;
  let series = w * (1.0 + w * (0.5 + w * (3.3333334e-1 + w * (0.25 + w * (0.2 + w * 1.6666667e-1)))));
  return select(-log(u), series, w < 0.0625);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t * 4u >= p.size) { return; }
  let words = philox(vec4u(t, p.stream, step[0], step[1]), vec2u(p.key0, p.key1));
  var v = vec4f(open01(words.x), open01(words.y), open01(words.z), open01(words.w));
  if (KIND == 1u) {
    // Box and Muller: two normals from two uniforms.
    v = vec4f(sqrt(2.0 * minusLog(v.x)) * turn(v.y), sqrt(2.0 * minusLog(v.z)) * turn(v.w));
  }
  if (KIND == 2u) { v = select(vec4f(p.kept), vec4f(), v < vec4f(p.rate)); }
  for (var k = 0u; k < 4u; k++) {
    if (t * 4u + k < p.size) { y[t * 4u + k] = v[k]; }
  }
}
