// conv2dWeightGrad for few taps and input channels, a filter element a thread, over a share of the output positions: what a tile
// would pad is not computed, and the positions fill the device instead. Neighbouring threads read neighbouring output channels;
// that each number of y is read once a tap costs nothing but the cache. y is [shares, kh, kw, in, out].
override SHARES: u32;

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> f: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let size = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS * OUT_CHANNELS;
  let share = t / size;
  if (share >= SHARES) { return; }
  let o = t % OUT_CHANNELS;
  let c = t % size / OUT_CHANNELS % CHANNELS;
  let tap = t % size / (OUT_CHANNELS * CHANNELS);
  let kh = tap / KERNEL_WIDTH;
  let kw = tap % KERNEL_WIDTH;
  var total = 0.0;
  // Whole rows of the output, every SHARES-th.
  for (var row = share; row < BATCH * OUT_HEIGHT; row += SHARES) {
    // Wraps to a large number above the image: one comparison serves both edges.
    let h = (row % OUT_HEIGHT) * STRIDE_H + kh - TOP;
    if (h >= HEIGHT) { continue; }
    let line = (row / OUT_HEIGHT * HEIGHT + h) * WIDTH;
    for (var ow = 0u; ow < OUT_WIDTH; ow++) {
      let w = ow * STRIDE_W + kw - LEFT;
      if (w < WIDTH) { total = fma(x[(line + w) * CHANNELS + c], y[(row * OUT_WIDTH + ow) * OUT_CHANNELS + o], total); }
    }
  }
  f[t] = total;
}
