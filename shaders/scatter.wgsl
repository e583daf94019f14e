// Points in space as shaded discs that face the camera: the one shader that draws, in the browser (the map's page) and headless.
// Four vertices a point make a square of the point's size, at least `least` pixels wide; the fragment cuts the disc, lights it
// like a ball, and fades it into the background with its distance. A group whose colour has no alpha is hidden.
// Traffic: 16 bytes a point; who wins is whoever has fill rate: 20,000 points are nothing to any card.
struct View {
  /// World to clip.
  camera: mat4x4f,
  right: vec4f,
  up: vec4f,
  background: vec4f,
  /// Radius in the world, least radius in clip units of height at w = 1, where fog begins and ends (w).
  size: vec4f,
  colours: array<vec4f, 12>,
}

@group(0) @binding(0) var<uniform> view: View;
/// (x, y, z, group).
@group(0) @binding(1) var<storage, read> points: array<vec4f>;

struct Corner {
  @builtin(position) position: vec4f,
  @location(0) offset: vec2f,
  @location(1) @interpolate(flat) colour: vec4f,
  @location(2) fog: f32,
}

@vertex
fn corner(@builtin(vertex_index) v: u32, @builtin(instance_index) i: u32) -> Corner {
  let point = points[i];
  let colour = view.colours[u32(point.w)];
  let offset = vec2f(f32(v & 1u), f32(v >> 1u)) * 2.0 - 1.0;
  let depth = (view.camera * vec4f(point.xyz, 1.0)).w;
  let radius = max(view.size.x, view.size.y * depth);
  let world = point.xyz + radius * (offset.x * view.right.xyz + offset.y * view.up.xyz);
  var position = view.camera * vec4f(world, 1.0);
  // Behind the far plane nothing is drawn.
  if (colour.a == 0.0) { position = vec4f(0.0, 0.0, 2.0, 1.0); }
  let fog = clamp((depth - view.size.z) / (view.size.w - view.size.z), 0.0, 1.0);
  return Corner(position, offset, colour, fog);
}

@fragment
fn disc(in: Corner) -> @location(0) vec4f {
  let square = dot(in.offset, in.offset);
  let edge = fwidth(square);
  let cover = 1.0 - smoothstep(1.0 - edge, 1.0, square);
  if (cover <= 0.0) { discard; }
  let normal = vec3f(in.offset, sqrt(max(0.0, 1.0 - square)));
  let light = 0.62 + 0.38 * dot(normal, normalize(vec3f(-0.4, 0.6, 0.7)));
  let lit = in.colour.rgb * light;
  return vec4f(mix(lit, view.background.rgb, 0.72 * in.fog), cover);
}
