// out[m, n] = Σ_k left(m, k)·right(k, n) by tiles that the threads of a workgroup load together: what a GPU likes. Each number that
// comes from memory serves a whole tile's row or column; on a processor the way through workgroup memory only costs (dense.wgsl
// wins there). What left, right and out are, the file before this one says (blockLeft, blockRight, put, M, N, K): the dense product
// and the three convolutions share this loop.
//
// A workgroup makes TM × TN outputs, a thread EDGE × EDGE of them in registers, as groups of four rows and four columns half a
// tile apart: neighbouring threads then read neighbouring vec4, without bank conflicts. Per step of 16 in depth the threads fetch
// 4×4 blocks, turned so that workgroup memory holds them by depth; while one step is multiplied the next one is on its way to
// registers. Workgroup memory: 64·(TM + TN) bytes, 16 KiB for 128 × 128.

/// Threads of a workgroup across and down.
override WX: u32 = 8u;
override WY: u32 = 8u;
override EDGE: u32 = 8u;
/// Whether neighbouring threads fetch along the depth, as memory has it, or along the tile's edge.
override LEFT_ALONG_DEPTH: bool = true;
override RIGHT_ALONG_DEPTH: bool = false;

override TM: u32 = EDGE * WY;
override TN: u32 = EDGE * WX;
override THREADS: u32 = WX * WY;
/// Blocks that a thread fetches a step, rounded up.
override BLOCKS: u32 = (TM + TN + THREADS - 1u) / THREADS;
/// vec4 in a row of either tile.
override PM: u32 = TM / 4u;
override PN: u32 = TN / 4u;
const DEPTH = 16u;

/// Steps of a tile's depth: a number that the compiler knows, so that it writes the loop out, or where that takes a software
/// adapter's compiler seconds, one that it does not.
struct Params { steps: u32 }
@group(0) @binding(0) var<uniform> p: Params;
override ROLLED: bool = false;
fn steps() -> u32 { return select(DEPTH, p.steps, ROLLED); }

var<workgroup> tileLeft: array<vec4f, DEPTH * PM>;
var<workgroup> tileRight: array<vec4f, DEPTH * PN>;

/// Where a vec4 lies in a row of a tile: rotated by the row's block, or the four blocks of a column would share a bank.
fn swizzled(four: u32, depthBlock: u32) -> u32 { return four ^ (depthBlock << 1u); }

struct Tile { share: u32, m: u32, n: u32 }

/// One of the blocks that a thread fetches each step: of the left or the right tile, where in the depth, and its lanes.
struct Block { left: bool, inside: bool, depth: u32, lanes: Lanes }

fn blockOf(block: u32, t: Tile) -> Block {
  if (block < TM) {
    let d = select(block / PM, block % 4u, LEFT_ALONG_DEPTH);
    let four = select(block % PM, block / 4u, LEFT_ALONG_DEPTH);
    return Block(true, true, 4u * d, lanesLeft(t.share, t.m + 4u * four));
  }
  let b = block - TM;
  let d = select(b / PN, b % 4u, RIGHT_ALONG_DEPTH);
  let four = select(b % PN, b / 4u, RIGHT_ALONG_DEPTH);
  return Block(false, b < TN, 4u * d, lanesRight(t.share, t.n + 4u * four));
}

fn fetch(b: Block, t: Tile, k: u32, end: u32) -> mat4x4f {
  if (b.left) { return blockLeft(t.share, b.lanes, k + b.depth, end); }
  if (!b.inside) { return mat4x4f(); }
  return blockRight(t.share, b.lanes, k + b.depth, end);
}

fn keep(block: u32, values: mat4x4f) {
  if (block < TM) {
    let d = select(block / PM, block % 4u, LEFT_ALONG_DEPTH);
    let at = 4u * d * PM + swizzled(select(block % PM, block / 4u, LEFT_ALONG_DEPTH), d);
    tileLeft[at] = values[0];
    tileLeft[at + PM] = values[1];
    tileLeft[at + 2u * PM] = values[2];
    tileLeft[at + 3u * PM] = values[3];
    return;
  }
  let b = block - TM;
  if (b >= TN) { return; }
  let d = select(b / PN, b % 4u, RIGHT_ALONG_DEPTH);
  let at = 4u * d * PN + swizzled(select(b % PN, b / 4u, RIGHT_ALONG_DEPTH), d);
  tileRight[at] = values[0];
  tileRight[at + PN] = values[1];
  tileRight[at + 2u * PN] = values[2];
  tileRight[at + 3u * PN] = values[3];
}

/// The tile of a workgroup; `share` is beyond the last one where there is nothing to do.
fn tileOf(group: vec3u, groups: vec3u) -> Tile {
  let w = group.x + group.y * groups.x;
  let down = (M + TM - 1u) / TM;
  let across = (N + TN - 1u) / TN;
  return Tile(w / (down * across), w % down * TM, w / down % across * TN);
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
  let block0 = blockOf(thread, t);
  let block1 = blockOf(thread + THREADS, t);
  let block2 = blockOf(thread + 2u * THREADS, t);
  var g0 = mat4x4f();
  var g1 = mat4x4f();
  var g2 = mat4x4f();
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
      g0 = fetch(block0, t, k, end);
      if (BLOCKS > 1u) { g1 = fetch(block1, t, k, end); }
      if (BLOCKS > 2u) { g2 = fetch(block2, t, k, end); }
    }
    if (k > range.x) {
      for (var d = 0u; d < steps(); d++) {
        let r = tileLeft[d * PM + swizzled(id.y, d >> 2u)];
        let s = tileLeft[d * PM + swizzled(id.y + PM / 2u, d >> 2u)];
        let u = tileRight[d * PN + swizzled(id.x, d >> 2u)];
        let v = tileRight[d * PN + swizzled(id.x + PN / 2u, d >> 2u)];
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
    keep(thread, g0);
    if (BLOCKS > 1u) { keep(thread + THREADS, g1); }
    if (BLOCKS > 2u) { keep(thread + 2u * THREADS, g2); }
    workgroupBarrier();
  }
  let m = t.m + 4u * id.y;
  let n = t.n + 4u * id.x;
  let half = TN / 2u;
  put(t.share, m, n, a0); put(t.share, m, n + half, b0);
  put(t.share, m + 1u, n, a1); put(t.share, m + 1u, n + half, b1);
  put(t.share, m + 2u, n, a2); put(t.share, m + 2u, n + half, b2);
  put(t.share, m + 3u, n, a3); put(t.share, m + 3u, n + half, b3);
  let below = m + TM / 2u;
  put(t.share, below, n, a4); put(t.share, below, n + half, b4);
  put(t.share, below + 1u, n, a5); put(t.share, below + 1u, n + half, b5);
  put(t.share, below + 2u, n, a6); put(t.share, below + 2u, n + half, b6);
  put(t.share, below + 3u, n, a7); put(t.share, below + 3u, n + half, b7);
}

@compute @workgroup_size(WX, WY)
fn fours(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) id: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let t = tileOf(group, groups);
  if (t.share >= SHARES) { return; }
  let range = depthOf(t.share);
  let end = range.y;
  let block0 = blockOf(thread, t);
  var g0 = mat4x4f();
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  for (var k = range.x; k < end + DEPTH; k += DEPTH) {
    if (k < end) { g0 = fetch(block0, t, k, end); }
    if (k > range.x) {
      for (var d = 0u; d < steps(); d++) {
        let r = tileLeft[d * PM + swizzled(id.y, d >> 2u)];
        let u = tileRight[d * PN + swizzled(id.x, d >> 2u)];
        a0 = fma(vec4f(r.x), u, a0);
        a1 = fma(vec4f(r.y), u, a1);
        a2 = fma(vec4f(r.z), u, a2);
        a3 = fma(vec4f(r.w), u, a3);
      }
    }
    workgroupBarrier();
    keep(thread, g0);
    workgroupBarrier();
  }
  let m = t.m + 4u * id.y;
  let n = t.n + 4u * id.x;
  put(t.share, m, n, a0);
  put(t.share, m + 1u, n, a1);
  put(t.share, m + 2u, n, a2);
  put(t.share, m + 3u, n, a3);
}
