// How the tiled products (tile.wgsl) reach memory where everything they read side by side comes in fours: one load each. `n` is how
// many of the four are inside; here it is four or more.
const VEC4 = true;
@group(0) @binding(1) var<storage, read> left: array<vec4f>;
@group(0) @binding(2) var<storage, read> right: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;

fn left4(i: u32, n: u32) -> vec4f { return left[i >> 2u]; }
fn right4(i: u32, n: u32) -> vec4f { return right[i >> 2u]; }
fn out4(i: u32, n: u32, v: vec4f) { out[i >> 2u] = v; }
fn left1(i: u32) -> f32 { return left[i >> 2u][i & 3u]; }
