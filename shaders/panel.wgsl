// out[m, n] = Σ_k left(m, k)·right(k, n) by tiles, as tile.wgsl, for sizes that need no care: everything in fours, sixteen of the depth
// always of one filter tap. What a step needs to know of taps is then the same for the whole workgroup, a thread's own part is an
// index and a bit a tap (Spot), and the right factor comes in whole rows, unturned: a thread keeps fewer numbers than in
// tile.wgsl to find its way by. Measured on an H200, of 62 TFLOP/s: the loop alone 45 in a
// product of 4096³, this kernel 32 to 35 in large convolutions, tile.wgsl 28 to 31 whatever the tile.
//
// A workgroup makes 8·WY × 8·WX outputs (`eights`), or half as many columns (`halves`), a thread 8 × 8 or 8 × 4 of them as groups of four
// rows and four columns, in steps of 16 in depth. The order of additions is tile.wgsl's. Workgroup memory: 64·(TM + TN) bytes.

/// Threads of a workgroup across and down; columns that each makes.
override WX: u32 = 8u;
override WY: u32 = 16u;
override EDGE: u32 = 8u;

override TM: u32 = 8u * WY;
override TN: u32 = EDGE * WX;
override THREADS: u32 = WX * WY;
/// vec4 in a row of either tile.
override PM: u32 = TM / 4u;
override PN: u32 = TN / 4u;
/// Rows of the right tile that all threads fetch at once, and how often.
override FETCHED: u32 = THREADS / PN;
override FETCHES: u32 = DEPTH / FETCHED;
const DEPTH = 16u;

/// Steps of a tile's depth: a number that the compiler knows, so that it writes the loop out, or where that takes a software
/// adapter's compiler seconds, one that it does not.
struct Params { steps: u32 }
@group(0) @binding(0) var<uniform> p: Params;
override ROLLED: bool = false;
fn steps() -> u32 { return select(DEPTH, p.steps, ROLLED); }

var<workgroup> tileLeft: array<vec4f, DEPTH * PM>;
var<workgroup> tileRight: array<vec4f, DEPTH * PN>;

struct Tile { share: u32, m: u32, n: u32 }

/// The tile of a workgroup; `share` is beyond the last one where there is nothing to do.
fn tileOf(group: vec3u, groups: vec3u) -> Tile {
  let w = group.x + group.y * groups.x;
  let down = (M + TM - 1u) / TM;
  let across = (N + TN - 1u) / TN;
  return Tile(w / (down * across), w % down * TM, w / down % across * TN);
}

/// Where a vec4 lies in a row of the left tile: rotated by the row's block, or the four blocks of a column would share a bank.
fn swizzled(four: u32, depthBlock: u32) -> u32 { return four ^ (depthBlock << 1u); }

/// The block of 4 × 4 of the left tile that a thread fetches: along the depth, and along the rows. Some threads have none.
fn depthBlock(thread: u32) -> u32 { return select(thread / PM, thread % 4u, TURNED); }
fn rowBlock(thread: u32) -> u32 { return select(thread % PM, thread / 4u, TURNED); }

fn fetchLeft(t: Tile, spot: Spot, k: u32, end: u32, block: u32) -> mat4x4f {
  if (TURNED) {
    let step = stepOf(t.share, k);
    let by = step.left + block;
    // Branches: loading always and selecting was 3 % slower.
    var rows = mat4x4f();
    if (((spot.taps.x >> step.tap) & 1u) != 0u) { rows[0] = left[spot.at.x + by]; }
    if (((spot.taps.y >> step.tap) & 1u) != 0u) { rows[1] = left[spot.at.y + by]; }
    if (((spot.taps.z >> step.tap) & 1u) != 0u) { rows[2] = left[spot.at.z + by]; }
    if (((spot.taps.w >> step.tap) & 1u) != 0u) { rows[3] = left[spot.at.w + by]; }
    return transpose(rows);
  }
  return unturned(t.share, spot, k + 4u * block, end);
}

fn keepLeft(block: u32, row: u32, v: mat4x4f) {
  let at = 4u * block * PM + swizzled(row, block);
  tileLeft[at] = v[0];
  tileLeft[at + PM] = v[1];
  tileLeft[at + 2u * PM] = v[2];
  tileLeft[at + 3u * PM] = v[3];
}

/// A vec4 of the right factor, `depth` rows into a step. Beyond the depth it is zero, beyond the columns what is not stored.
fn fetchRight(t: Tile, column: u32, k: u32, end: u32, depth: u32) -> vec4f {
  if (!TURNED && k + depth >= end) { return vec4f(); }
  return right[(stepOf(t.share, k).right + depth) * (N / 4u) + column];
}

@compute @workgroup_size(WX, WY)
fn eights(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let t = tileOf(group, groups);
  if (t.share >= SHARES) { return; }
  let range = depthOf(t.share);
  let end = range.y;
  let block = depthBlock(thread);
  let row = rowBlock(thread);
  let fetches = thread < 4u * PM;
  var spot = Spot();
  if (fetches) { spot = spotOf(t.share, t.m + 4u * row); }
  let depth = thread / PN;
  let place = thread % PN;
  let column = min(t.n / 4u + place, N / 4u - 1u);
  var g = mat4x4f();
  var h0 = vec4f();
  var h1 = vec4f();
  var h2 = vec4f();
  var h3 = vec4f();
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  for (var k = range.x; k < end + DEPTH; k += DEPTH) {
    if (k < end) {
      if (fetches) { g = fetchLeft(t, spot, k, end, block); }
      h0 = fetchRight(t, column, k, end, depth);
      if (FETCHES > 1u) { h1 = fetchRight(t, column, k, end, depth + FETCHED); }
      if (FETCHES > 2u) { h2 = fetchRight(t, column, k, end, depth + 2u * FETCHED); }
      if (FETCHES > 3u) { h3 = fetchRight(t, column, k, end, depth + 3u * FETCHED); }
    }
    if (k > range.x) {
      for (var d = 0u; d < steps(); d++) {
        let r = tileLeft[d * PM + swizzled(id.y, d >> 2u)];
        let s = tileLeft[d * PM + swizzled(id.y + WY, d >> 2u)];
        let u = tileRight[d * PN + id.x];
        let v = tileRight[d * PN + id.x + WX];
        a0 = fma(vec4f(r.x), u, a0); b0 = fma(vec4f(r.x), v, b0);
        a1 = fma(vec4f(r.y), u, a1); b1 = fma(vec4f(r.y), v, b1);
        a2 = fma(vec4f(r.z), u, a2); b2 = fma(vec4f(r.z), v, b2);
        a3 = fma(vec4f(r.w), u, a3); b3 = fma(vec4f(r.w), v, b3);
        a4 = fma(vec4f(s.x), u, a4); b4 = fma(vec4f(s.x), v, b4);
        a5 = fma(vec4f(s.y), u, a5); b5 = fma(vec4f(s.y), v, b5);
        a6 = fma(vec4f(s.z), u, a6); b6 = fma(vec4f(s.z), v, b6);
        a7 = fma(vec4f(s.w), u, a7); b7 = fma(vec4f(s.w), v, b7);
      }
    }
    workgroupBarrier();
    if (fetches) { keepLeft(block, row, g); }
    tileRight[depth * PN + place] = h0;
    if (FETCHES > 1u) { tileRight[(depth + FETCHED) * PN + place] = h1; }
    if (FETCHES > 2u) { tileRight[(depth + 2u * FETCHED) * PN + place] = h2; }
    if (FETCHES > 3u) { tileRight[(depth + 3u * FETCHED) * PN + place] = h3; }
    workgroupBarrier();
  }
  let m = t.m + 4u * id.y;
  let n = t.n + 4u * id.x;
  let half = 4u * WX;
  put(t.share, m, n, a0); put(t.share, m, n + half, b0);
  put(t.share, m + 1u, n, a1); put(t.share, m + 1u, n + half, b1);
  put(t.share, m + 2u, n, a2); put(t.share, m + 2u, n + half, b2);
  put(t.share, m + 3u, n, a3); put(t.share, m + 3u, n + half, b3);
  let below = m + 4u * WY;
  put(t.share, below, n, a4); put(t.share, below, n + half, b4);
  put(t.share, below + 1u, n, a5); put(t.share, below + 1u, n + half, b5);
  put(t.share, below + 2u, n, a6); put(t.share, below + 2u, n + half, b6);
  put(t.share, below + 3u, n, a7); put(t.share, below + 3u, n + half, b7);
}

@compute @workgroup_size(WX, WY)
fn halves(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let t = tileOf(group, groups);
  if (t.share >= SHARES) { return; }
  let range = depthOf(t.share);
  let end = range.y;
  let block = depthBlock(thread);
  let row = rowBlock(thread);
  let fetches = thread < 4u * PM;
  var spot = Spot();
  if (fetches) { spot = spotOf(t.share, t.m + 4u * row); }
  let depth = thread / PN;
  let place = thread % PN;
  let column = min(t.n / 4u + place, N / 4u - 1u);
  var g = mat4x4f();
  var h0 = vec4f();
  var h1 = vec4f();
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  var a4 = vec4f();
  var a5 = vec4f();
  var a6 = vec4f();
  var a7 = vec4f();
  for (var k = range.x; k < end + DEPTH; k += DEPTH) {
    if (k < end) {
      if (fetches) { g = fetchLeft(t, spot, k, end, block); }
      h0 = fetchRight(t, column, k, end, depth);
      if (FETCHES > 1u) { h1 = fetchRight(t, column, k, end, depth + FETCHED); }
    }
    if (k > range.x) {
      for (var d = 0u; d < steps(); d++) {
        let r = tileLeft[d * PM + swizzled(id.y, d >> 2u)];
        let s = tileLeft[d * PM + swizzled(id.y + WY, d >> 2u)];
        let u = tileRight[d * PN + id.x];
        a0 = fma(vec4f(r.x), u, a0);
        a1 = fma(vec4f(r.y), u, a1);
        a2 = fma(vec4f(r.z), u, a2);
        a3 = fma(vec4f(r.w), u, a3);
        a4 = fma(vec4f(s.x), u, a4);
        a5 = fma(vec4f(s.y), u, a5);
        a6 = fma(vec4f(s.z), u, a6);
        a7 = fma(vec4f(s.w), u, a7);
      }
    }
    workgroupBarrier();
    if (fetches) { keepLeft(block, row, g); }
    tileRight[depth * PN + place] = h0;
    if (FETCHES > 1u) { tileRight[(depth + FETCHED) * PN + place] = h1; }
    workgroupBarrier();
  }
  let m = t.m + 4u * id.y;
  let n = t.n + 4u * id.x;
  put(t.share, m, n, a0);
  put(t.share, m + 1u, n, a1);
  put(t.share, m + 2u, n, a2);
  put(t.share, m + 3u, n, a3);
  let below = m + 4u * WY;
  put(t.share, below, n, a4);
  put(t.share, below + 1u, n, a5);
  put(t.share, below + 2u, n, a6);
  put(t.share, below + 3u, n, a7);
}
