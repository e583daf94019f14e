// t[k,o,c] = f[k,c,o]: a filter's last two axes swapped, for conv2dInputGradVec4.wgsl. One thread an element; 8 bytes each.
struct Params { size: u32, channels: u32, outChannels: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> t: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.size) { return; }
  let c = i % p.channels;
  let o = i / p.channels % p.outChannels;
  let k = i / p.channels / p.outChannels;
  t[i] = f[(k * p.channels + c) * p.outChannels + o];
}
