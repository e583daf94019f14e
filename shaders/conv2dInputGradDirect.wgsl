// conv2dInputGrad for few image channels, an image element a thread: it goes through the taps that it meets and all output channels.
// No scratch tensor, one dispatch; what neighbours share comes from the cache. Wins on GPUs, where conv2dInputGradGather.wgsl's two
// passes wait for memory twice. Output channels in fours.
@group(0) @binding(1) var<storage, read> y: array<vec4f>;
@group(0) @binding(2) var<storage, read> f: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= BATCH * HEIGHT * WIDTH * CHANNELS) { return; }
  let fours = OUT_CHANNELS / 4u;
  let c = t % CHANNELS;
  let m = t / CHANNELS;
  let w = m % WIDTH + LEFT;
  let row = m / WIDTH;
  let h = row % HEIGHT + TOP;
  let n = row / HEIGHT;
  var total = vec4f();
  for (var kh = h % STRIDE_H; kh < KERNEL_HEIGHT; kh += STRIDE_H) {
    let oh = (h - kh) / STRIDE_H;
    if (h < kh || oh >= OUT_HEIGHT) { continue; }
    for (var kw = w % STRIDE_W; kw < KERNEL_WIDTH; kw += STRIDE_W) {
      let ow = (w - kw) / STRIDE_W;
      if (w < kw || ow >= OUT_WIDTH) { continue; }
      let at = ((n * OUT_HEIGHT + oh) * OUT_WIDTH + ow) * fours;
      let weights = ((kh * KERNEL_WIDTH + kw) * CHANNELS + c) * fours;
      for (var o = 0u; o < fours; o++) { total += y[at + o] * f[weights + o]; }
    }
  }
  x[t] = finish(vec4f(total.x + total.y + total.z + total.w, 0.0, 0.0, 0.0), c, CHANNELS, t).x;
}
