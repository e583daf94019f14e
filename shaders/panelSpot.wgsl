// What the problems of panel.wgsl share. A spot is what a thread knows of its four rows of the left factor: where their first terms lie, in
// vec4, and a bit a tap that meets them. A step is what a workgroup knows of sixteen of the depth, all of one tap: how far the left
// factor's terms lie from the spot's, which tap it is, and the right factor's row.
struct Spot { at: vec4u, taps: vec4u }
struct Step { left: u32, tap: u32, right: u32 }

/// Element indices as indices of vec4; they may be below zero, wrapped, where a window begins in the padding.
fn inFours(at: vec4u) -> vec4u { return bitcast<vec4u>(bitcast<vec4i>(at) >> vec4u(2u)); }
