// What the problems of tile.wgsl share. A share is a grid of tiles of its own: a phase, or a stretch of the depth, or both.
const OUTSIDE = 0xffffffffu;
override SHARES: u32 = 1u;
/// Four rows or columns of a factor, worked out once: where they begin in memory, and what tells whether they are inside.
struct Lanes { at: vec4u, h: vec4u, w: vec4u }
