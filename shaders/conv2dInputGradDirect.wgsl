// conv2dInputGrad for few image channels, LX threads an image element: each takes every LX-th four of the output channels through
// the taps that the element meets, and a tree joins them. No scratch tensor, one dispatch; neighbours read neighbouring memory, and
// what image positions share comes from the cache. Output channels in fours; LX divides the workgroup. Wins on GPUs, where
// conv2dInputGradGather.wgsl's two passes wait for memory twice. LX is a power of two.
@group(0) @binding(1) var<storage, read> y: array<vec4f>;
@group(0) @binding(2) var<storage, read> f: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

override LX: u32 = 8u;
const THREADS = 128u;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let t = (group.x + group.y * groups.x) * (THREADS / LX) + thread / LX;
  let lane = thread % LX;
  let size = BATCH * HEIGHT * WIDTH * CHANNELS;
  let fours = OUT_CHANNELS / 4u;
  let c = t % CHANNELS;
  let m = t / CHANNELS;
  let w = m % WIDTH + LEFT;
  let row = m / WIDTH;
  let h = row % HEIGHT + TOP;
  let n = row / HEIGHT;
  var total = vec4f();
  if (t < size) {
    for (var kh = h % STRIDE_H; kh < KERNEL_HEIGHT; kh += STRIDE_H) {
      let oh = (h - kh) / STRIDE_H;
      if (h < kh || oh >= OUT_HEIGHT) { continue; }
      for (var kw = w % STRIDE_W; kw < KERNEL_WIDTH; kw += STRIDE_W) {
        let ow = (w - kw) / STRIDE_W;
        if (w < kw || ow >= OUT_WIDTH) { continue; }
        let at = ((n * OUT_HEIGHT + oh) * OUT_WIDTH + ow) * fours;
        let weights = ((kh * KERNEL_WIDTH + kw) * CHANNELS + c) * fours;
        for (var o = lane; o < fours; o += LX) { total = fma(y[at + o], f[weights + o], total); }
      }
    }
  }
  parts[thread] = total.x + total.y + total.z + total.w;
  for (var half = LX / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { parts[thread] += parts[thread + half]; }
  }
  if (t < size && lane == 0u) { x[t] = finish(vec4f(parts[thread], 0.0, 0.0, 0.0), c, CHANNELS, t).x; }
}
