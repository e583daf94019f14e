// Mean and variance of each channel of x [rows, channels] by whole workgroups, in two dispatches. Each workgroup takes a stretch of
// the rows: its mean, then the squares about it, which come from the cache the second time. The stretches are joined as Chan,
// Golub and LeVeque (1983) do: squares about the common mean are those about a stretch's own, plus its length times the squared
// distance of the means. As exact as moments.wgsl's two passes. Traffic: 4 bytes an element.
struct Params { rows: u32, channels: u32, splits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// y: [splits, 2, channels], mean and sum of squares about it.
@compute @workgroup_size(LX, LY)
fn stretches(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
) {
  let w = group.x + group.y * groups.x;
  let across = (p.channels + LX - 1u) / LX;
  let c = w % across * LX + id.x;
  let s = w / across;
  let live = s < p.splits && c < p.channels;
  let stretch = stretchOf(s, p.splits, p.rows);
  var total = 0.0;
  if (live) {
    // Four at a time are on their way while one is added.
    var r = stretch.x + id.y;
    for (; r + 3u * LY < stretch.y; r += 4u * LY) {
      let at = r * p.channels + c;
      let step = LY * p.channels;
      total += (x[at] + x[at + step]) + (x[at + 2u * step] + x[at + 3u * step]);
    }
    for (; r < stretch.y; r += LY) { total += x[r * p.channels + c]; }
  }
  let mean = treeSum(total, id) / f32(max(1u, stretch.y - stretch.x));
  var squares = 0.0;
  if (live) {
    var r = stretch.x + id.y;
    for (; r + 3u * LY < stretch.y; r += 4u * LY) {
      let at = r * p.channels + c;
      let step = LY * p.channels;
      let d = vec4f(x[at], x[at + step], x[at + 2u * step], x[at + 3u * step]) - mean;
      squares += dot(d, d);
    }
    for (; r < stretch.y; r += LY) {
      let d = x[r * p.channels + c] - mean;
      squares += d * d;
    }
  }
  let sum = treeSum(squares, id);
  if (live && id.y == 0u) {
    y[2u * s * p.channels + c] = mean;
    y[(2u * s + 1u) * p.channels + c] = sum;
  }
}

// x: what `stretches` wrote; y: [2, channels], mean and variance.
@compute @workgroup_size(LX, LY)
fn combine(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u) {
  let c = group.x * LX + id.x;
  let live = c < p.channels;
  var total = 0.0;
  if (live) {
    for (var s = id.y; s < p.splits; s += LY) {
      let stretch = stretchOf(s, p.splits, p.rows);
      total += f32(stretch.y - stretch.x) * x[2u * s * p.channels + c];
    }
  }
  let mean = treeSum(total, id) / f32(p.rows);
  var squares = 0.0;
  if (live) {
    for (var s = id.y; s < p.splits; s += LY) {
      let stretch = stretchOf(s, p.splits, p.rows);
      let d = x[2u * s * p.channels + c] - mean;
      squares += x[(2u * s + 1u) * p.channels + c] + f32(stretch.y - stretch.x) * d * d;
    }
  }
  let sum = treeSum(squares, id);
  if (live && id.y == 0u) {
    y[c] = mean;
    y[p.channels + c] = sum / f32(p.rows);
  }
}
