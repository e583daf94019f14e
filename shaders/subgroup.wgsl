// out[m, n] = Σ left(m, ·)·right(·, n) with each factor loaded once for eight lanes: what a software adapter likes whose subgroup is one
// vector register (lavapipe on AVX: eight lanes). Its loads cost six instructions an element and lane, whether lanes ask for the same
// element or not, and a broadcast from a register one; where each thread loads what it needs (denseVec4.wgsl), three quarters of the
// instructions are loads. Here a lane loads its own of eight rows and gives it to the others.
//
// A workgroup is one subgroup of eight lanes and makes 16 rows by 64 columns (`wide`, a lane two fours of columns) or by 32 (`narrow`); or
// 32 rows, two terms a round, so that each load serves twice as many products and each sum is fetched and stored half as often
// (`tall`, `tallNarrow`: half as fast again where there are as many rows, three times as long to compile).
// What the factors are, where a sum's terms lie and where an output goes, the file before this one says: the product and the three
// convolutions share this loop. A sum's terms come in runs: stretches along which both factors advance by a fixed step.
const LANES = 8u;
const ROWS = 16u;

/// A workgroup's place: where its rows and columns begin, a number of the problem's own (OUTSIDE where there is nothing to do), which of a
/// sum's runs it adds, first and last + 1 of two counters, and where those count from. What a run needs to divide for is here: a
/// division costs a software adapter as much as a term of sixteen rows.
struct Place { row: u32, four: u32, base: u32, major: vec2u, minor: vec2u, origin: vec2u, tap: vec2u }
/// A run: where row 0's first term and column 0's first factors lie, and how many there are.
struct Run { left: u32, right: u32, count: u32 }

@compute @workgroup_size(LANES)
fn wide(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let t = placeOf(group.x + group.y * groups.x, 2u * LANES, ROWS);
  if (t.base == OUTSIDE) { return; }
  // Rows and columns beyond the last one repeat it and are not stored.
  let row0 = rowAt(t, lane);
  let row1 = rowAt(t, lane + LANES);
  let last = fours() - 1u;
  let column0 = min(t.four + lane, last);
  let column1 = min(t.four + lane + LANES, last);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  var a8 = vec4f(); var b8 = vec4f();
  var a9 = vec4f(); var b9 = vec4f();
  var a10 = vec4f(); var b10 = vec4f();
  var a11 = vec4f(); var b11 = vec4f();
  var a12 = vec4f(); var b12 = vec4f();
  var a13 = vec4f(); var b13 = vec4f();
  var a14 = vec4f(); var b14 = vec4f();
  var a15 = vec4f(); var b15 = vec4f();
  for (var major = t.major.x; major < t.major.y; major++) {
    for (var minor = t.minor.x; minor < t.minor.y; minor++) {
      let run = runAt(t, major, minor);
      var i = run.left;
      var j = run.right;
      for (var k = 0u; k < run.count; k++) {
        let u = right[j + column0];
        let v = right[j + column1];
        let r = left[row0 + i];
        let s = left[row1 + i];
        var x = vec4f(subgroupBroadcast(r, 0u)); a0 = fma(x, u, a0); b0 = fma(x, v, b0);
        x = vec4f(subgroupBroadcast(r, 1u)); a1 = fma(x, u, a1); b1 = fma(x, v, b1);
        x = vec4f(subgroupBroadcast(r, 2u)); a2 = fma(x, u, a2); b2 = fma(x, v, b2);
        x = vec4f(subgroupBroadcast(r, 3u)); a3 = fma(x, u, a3); b3 = fma(x, v, b3);
        x = vec4f(subgroupBroadcast(r, 4u)); a4 = fma(x, u, a4); b4 = fma(x, v, b4);
        x = vec4f(subgroupBroadcast(r, 5u)); a5 = fma(x, u, a5); b5 = fma(x, v, b5);
        x = vec4f(subgroupBroadcast(r, 6u)); a6 = fma(x, u, a6); b6 = fma(x, v, b6);
        x = vec4f(subgroupBroadcast(r, 7u)); a7 = fma(x, u, a7); b7 = fma(x, v, b7);
        x = vec4f(subgroupBroadcast(s, 0u)); a8 = fma(x, u, a8); b8 = fma(x, v, b8);
        x = vec4f(subgroupBroadcast(s, 1u)); a9 = fma(x, u, a9); b9 = fma(x, v, b9);
        x = vec4f(subgroupBroadcast(s, 2u)); a10 = fma(x, u, a10); b10 = fma(x, v, b10);
        x = vec4f(subgroupBroadcast(s, 3u)); a11 = fma(x, u, a11); b11 = fma(x, v, b11);
        x = vec4f(subgroupBroadcast(s, 4u)); a12 = fma(x, u, a12); b12 = fma(x, v, b12);
        x = vec4f(subgroupBroadcast(s, 5u)); a13 = fma(x, u, a13); b13 = fma(x, v, b13);
        x = vec4f(subgroupBroadcast(s, 6u)); a14 = fma(x, u, a14); b14 = fma(x, v, b14);
        x = vec4f(subgroupBroadcast(s, 7u)); a15 = fma(x, u, a15); b15 = fma(x, v, b15);
        i += leftStep();
        j += rightStep();
      }
    }
  }
  // By number: thirty-two epilogues written out take the compiler seconds.
  var first = array(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15);
  var second = array(b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15);
  for (var m = 0u; m < ROWS; m++) {
    put(t, m, t.four + lane, first[m]);
    put(t, m, t.four + lane + LANES, second[m]);
  }
}

@compute @workgroup_size(LANES)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let t = placeOf(group.x + group.y * groups.x, LANES, ROWS);
  if (t.base == OUTSIDE) { return; }
  let row0 = rowAt(t, lane);
  let row1 = rowAt(t, lane + LANES);
  let column = min(t.four + lane, fours() - 1u);
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  var a4 = vec4f();
  var a5 = vec4f();
  var a6 = vec4f();
  var a7 = vec4f();
  var a8 = vec4f();
  var a9 = vec4f();
  var a10 = vec4f();
  var a11 = vec4f();
  var a12 = vec4f();
  var a13 = vec4f();
  var a14 = vec4f();
  var a15 = vec4f();
  for (var major = t.major.x; major < t.major.y; major++) {
    for (var minor = t.minor.x; minor < t.minor.y; minor++) {
      let run = runAt(t, major, minor);
      var i = run.left;
      var j = run.right;
      for (var k = 0u; k < run.count; k++) {
        let u = right[j + column];
        let r = left[row0 + i];
        let s = left[row1 + i];
        a0 = fma(vec4f(subgroupBroadcast(r, 0u)), u, a0);
        a1 = fma(vec4f(subgroupBroadcast(r, 1u)), u, a1);
        a2 = fma(vec4f(subgroupBroadcast(r, 2u)), u, a2);
        a3 = fma(vec4f(subgroupBroadcast(r, 3u)), u, a3);
        a4 = fma(vec4f(subgroupBroadcast(r, 4u)), u, a4);
        a5 = fma(vec4f(subgroupBroadcast(r, 5u)), u, a5);
        a6 = fma(vec4f(subgroupBroadcast(r, 6u)), u, a6);
        a7 = fma(vec4f(subgroupBroadcast(r, 7u)), u, a7);
        a8 = fma(vec4f(subgroupBroadcast(s, 0u)), u, a8);
        a9 = fma(vec4f(subgroupBroadcast(s, 1u)), u, a9);
        a10 = fma(vec4f(subgroupBroadcast(s, 2u)), u, a10);
        a11 = fma(vec4f(subgroupBroadcast(s, 3u)), u, a11);
        a12 = fma(vec4f(subgroupBroadcast(s, 4u)), u, a12);
        a13 = fma(vec4f(subgroupBroadcast(s, 5u)), u, a13);
        a14 = fma(vec4f(subgroupBroadcast(s, 6u)), u, a14);
        a15 = fma(vec4f(subgroupBroadcast(s, 7u)), u, a15);
        i += leftStep();
        j += rightStep();
      }
    }
  }
  var first = array(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15);
  for (var m = 0u; m < ROWS; m++) { put(t, m, t.four + lane, first[m]); }
}

@compute @workgroup_size(LANES)
fn tall(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let t = placeOf(group.x + group.y * groups.x, 2u * LANES, 2u * ROWS);
  if (t.base == OUTSIDE) { return; }
  let rows = rowsAt(t, lane);
  let last = fours() - 1u;
  let column0 = min(t.four + lane, last);
  let column1 = min(t.four + lane + LANES, last);
  var a0 = vec4f(); var b0 = vec4f();
  var a1 = vec4f(); var b1 = vec4f();
  var a2 = vec4f(); var b2 = vec4f();
  var a3 = vec4f(); var b3 = vec4f();
  var a4 = vec4f(); var b4 = vec4f();
  var a5 = vec4f(); var b5 = vec4f();
  var a6 = vec4f(); var b6 = vec4f();
  var a7 = vec4f(); var b7 = vec4f();
  var a8 = vec4f(); var b8 = vec4f();
  var a9 = vec4f(); var b9 = vec4f();
  var a10 = vec4f(); var b10 = vec4f();
  var a11 = vec4f(); var b11 = vec4f();
  var a12 = vec4f(); var b12 = vec4f();
  var a13 = vec4f(); var b13 = vec4f();
  var a14 = vec4f(); var b14 = vec4f();
  var a15 = vec4f(); var b15 = vec4f();
  var a16 = vec4f(); var b16 = vec4f();
  var a17 = vec4f(); var b17 = vec4f();
  var a18 = vec4f(); var b18 = vec4f();
  var a19 = vec4f(); var b19 = vec4f();
  var a20 = vec4f(); var b20 = vec4f();
  var a21 = vec4f(); var b21 = vec4f();
  var a22 = vec4f(); var b22 = vec4f();
  var a23 = vec4f(); var b23 = vec4f();
  var a24 = vec4f(); var b24 = vec4f();
  var a25 = vec4f(); var b25 = vec4f();
  var a26 = vec4f(); var b26 = vec4f();
  var a27 = vec4f(); var b27 = vec4f();
  var a28 = vec4f(); var b28 = vec4f();
  var a29 = vec4f(); var b29 = vec4f();
  var a30 = vec4f(); var b30 = vec4f();
  var a31 = vec4f(); var b31 = vec4f();
  for (var major = t.major.x; major < t.major.y; major++) {
    for (var minor = t.minor.x; minor < t.minor.y; minor++) {
      let run = runAt(t, major, minor);
      var i = run.left;
      var j = run.right;
      for (var k = 0u; k < run.count; k += 2u) {
        // The second term of a run's last round is nothing, times what is there.
        let more = k + 1u < run.count;
        let next = select(j, j + rightStep(), more);
        let u = right[j + column0];
        let u1 = right[next + column0];
        let v = right[j + column1];
        let v1 = right[next + column1];
        let r = termsAt(rows, i, more);
        var x = vec4f(subgroupBroadcast(r[0].x, 0u)); var y = vec4f(subgroupBroadcast(r[0].y, 0u)); a0 = fma(y, u1, fma(x, u, a0)); b0 = fma(y, v1, fma(x, v, b0));
        x = vec4f(subgroupBroadcast(r[0].x, 1u)); y = vec4f(subgroupBroadcast(r[0].y, 1u)); a1 = fma(y, u1, fma(x, u, a1)); b1 = fma(y, v1, fma(x, v, b1));
        x = vec4f(subgroupBroadcast(r[0].x, 2u)); y = vec4f(subgroupBroadcast(r[0].y, 2u)); a2 = fma(y, u1, fma(x, u, a2)); b2 = fma(y, v1, fma(x, v, b2));
        x = vec4f(subgroupBroadcast(r[0].x, 3u)); y = vec4f(subgroupBroadcast(r[0].y, 3u)); a3 = fma(y, u1, fma(x, u, a3)); b3 = fma(y, v1, fma(x, v, b3));
        x = vec4f(subgroupBroadcast(r[0].x, 4u)); y = vec4f(subgroupBroadcast(r[0].y, 4u)); a4 = fma(y, u1, fma(x, u, a4)); b4 = fma(y, v1, fma(x, v, b4));
        x = vec4f(subgroupBroadcast(r[0].x, 5u)); y = vec4f(subgroupBroadcast(r[0].y, 5u)); a5 = fma(y, u1, fma(x, u, a5)); b5 = fma(y, v1, fma(x, v, b5));
        x = vec4f(subgroupBroadcast(r[0].x, 6u)); y = vec4f(subgroupBroadcast(r[0].y, 6u)); a6 = fma(y, u1, fma(x, u, a6)); b6 = fma(y, v1, fma(x, v, b6));
        x = vec4f(subgroupBroadcast(r[0].x, 7u)); y = vec4f(subgroupBroadcast(r[0].y, 7u)); a7 = fma(y, u1, fma(x, u, a7)); b7 = fma(y, v1, fma(x, v, b7));
        x = vec4f(subgroupBroadcast(r[1].x, 0u)); y = vec4f(subgroupBroadcast(r[1].y, 0u)); a8 = fma(y, u1, fma(x, u, a8)); b8 = fma(y, v1, fma(x, v, b8));
        x = vec4f(subgroupBroadcast(r[1].x, 1u)); y = vec4f(subgroupBroadcast(r[1].y, 1u)); a9 = fma(y, u1, fma(x, u, a9)); b9 = fma(y, v1, fma(x, v, b9));
        x = vec4f(subgroupBroadcast(r[1].x, 2u)); y = vec4f(subgroupBroadcast(r[1].y, 2u)); a10 = fma(y, u1, fma(x, u, a10)); b10 = fma(y, v1, fma(x, v, b10));
        x = vec4f(subgroupBroadcast(r[1].x, 3u)); y = vec4f(subgroupBroadcast(r[1].y, 3u)); a11 = fma(y, u1, fma(x, u, a11)); b11 = fma(y, v1, fma(x, v, b11));
        x = vec4f(subgroupBroadcast(r[1].x, 4u)); y = vec4f(subgroupBroadcast(r[1].y, 4u)); a12 = fma(y, u1, fma(x, u, a12)); b12 = fma(y, v1, fma(x, v, b12));
        x = vec4f(subgroupBroadcast(r[1].x, 5u)); y = vec4f(subgroupBroadcast(r[1].y, 5u)); a13 = fma(y, u1, fma(x, u, a13)); b13 = fma(y, v1, fma(x, v, b13));
        x = vec4f(subgroupBroadcast(r[1].x, 6u)); y = vec4f(subgroupBroadcast(r[1].y, 6u)); a14 = fma(y, u1, fma(x, u, a14)); b14 = fma(y, v1, fma(x, v, b14));
        x = vec4f(subgroupBroadcast(r[1].x, 7u)); y = vec4f(subgroupBroadcast(r[1].y, 7u)); a15 = fma(y, u1, fma(x, u, a15)); b15 = fma(y, v1, fma(x, v, b15));
        x = vec4f(subgroupBroadcast(r[2].x, 0u)); y = vec4f(subgroupBroadcast(r[2].y, 0u)); a16 = fma(y, u1, fma(x, u, a16)); b16 = fma(y, v1, fma(x, v, b16));
        x = vec4f(subgroupBroadcast(r[2].x, 1u)); y = vec4f(subgroupBroadcast(r[2].y, 1u)); a17 = fma(y, u1, fma(x, u, a17)); b17 = fma(y, v1, fma(x, v, b17));
        x = vec4f(subgroupBroadcast(r[2].x, 2u)); y = vec4f(subgroupBroadcast(r[2].y, 2u)); a18 = fma(y, u1, fma(x, u, a18)); b18 = fma(y, v1, fma(x, v, b18));
        x = vec4f(subgroupBroadcast(r[2].x, 3u)); y = vec4f(subgroupBroadcast(r[2].y, 3u)); a19 = fma(y, u1, fma(x, u, a19)); b19 = fma(y, v1, fma(x, v, b19));
        x = vec4f(subgroupBroadcast(r[2].x, 4u)); y = vec4f(subgroupBroadcast(r[2].y, 4u)); a20 = fma(y, u1, fma(x, u, a20)); b20 = fma(y, v1, fma(x, v, b20));
        x = vec4f(subgroupBroadcast(r[2].x, 5u)); y = vec4f(subgroupBroadcast(r[2].y, 5u)); a21 = fma(y, u1, fma(x, u, a21)); b21 = fma(y, v1, fma(x, v, b21));
        x = vec4f(subgroupBroadcast(r[2].x, 6u)); y = vec4f(subgroupBroadcast(r[2].y, 6u)); a22 = fma(y, u1, fma(x, u, a22)); b22 = fma(y, v1, fma(x, v, b22));
        x = vec4f(subgroupBroadcast(r[2].x, 7u)); y = vec4f(subgroupBroadcast(r[2].y, 7u)); a23 = fma(y, u1, fma(x, u, a23)); b23 = fma(y, v1, fma(x, v, b23));
        x = vec4f(subgroupBroadcast(r[3].x, 0u)); y = vec4f(subgroupBroadcast(r[3].y, 0u)); a24 = fma(y, u1, fma(x, u, a24)); b24 = fma(y, v1, fma(x, v, b24));
        x = vec4f(subgroupBroadcast(r[3].x, 1u)); y = vec4f(subgroupBroadcast(r[3].y, 1u)); a25 = fma(y, u1, fma(x, u, a25)); b25 = fma(y, v1, fma(x, v, b25));
        x = vec4f(subgroupBroadcast(r[3].x, 2u)); y = vec4f(subgroupBroadcast(r[3].y, 2u)); a26 = fma(y, u1, fma(x, u, a26)); b26 = fma(y, v1, fma(x, v, b26));
        x = vec4f(subgroupBroadcast(r[3].x, 3u)); y = vec4f(subgroupBroadcast(r[3].y, 3u)); a27 = fma(y, u1, fma(x, u, a27)); b27 = fma(y, v1, fma(x, v, b27));
        x = vec4f(subgroupBroadcast(r[3].x, 4u)); y = vec4f(subgroupBroadcast(r[3].y, 4u)); a28 = fma(y, u1, fma(x, u, a28)); b28 = fma(y, v1, fma(x, v, b28));
        x = vec4f(subgroupBroadcast(r[3].x, 5u)); y = vec4f(subgroupBroadcast(r[3].y, 5u)); a29 = fma(y, u1, fma(x, u, a29)); b29 = fma(y, v1, fma(x, v, b29));
        x = vec4f(subgroupBroadcast(r[3].x, 6u)); y = vec4f(subgroupBroadcast(r[3].y, 6u)); a30 = fma(y, u1, fma(x, u, a30)); b30 = fma(y, v1, fma(x, v, b30));
        x = vec4f(subgroupBroadcast(r[3].x, 7u)); y = vec4f(subgroupBroadcast(r[3].y, 7u)); a31 = fma(y, u1, fma(x, u, a31)); b31 = fma(y, v1, fma(x, v, b31));
        i += 2u * leftStep();
        j += 2u * rightStep();
      }
    }
  }
  var first = array(
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15,
    a16, a17, a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31);
  var second = array(
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15,
    b16, b17, b18, b19, b20, b21, b22, b23, b24, b25, b26, b27, b28, b29, b30, b31);
  for (var m = 0u; m < 2u * ROWS; m++) {
    put(t, rowOf(m), t.four + lane, first[m]);
    put(t, rowOf(m), t.four + lane + LANES, second[m]);
  }
}

@compute @workgroup_size(LANES)
fn tallNarrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let t = placeOf(group.x + group.y * groups.x, LANES, 2u * ROWS);
  if (t.base == OUTSIDE) { return; }
  let rows = rowsAt(t, lane);
  let last = fours() - 1u;
  let column0 = min(t.four + lane, last);
  var a0 = vec4f();
  var a1 = vec4f();
  var a2 = vec4f();
  var a3 = vec4f();
  var a4 = vec4f();
  var a5 = vec4f();
  var a6 = vec4f();
  var a7 = vec4f();
  var a8 = vec4f();
  var a9 = vec4f();
  var a10 = vec4f();
  var a11 = vec4f();
  var a12 = vec4f();
  var a13 = vec4f();
  var a14 = vec4f();
  var a15 = vec4f();
  var a16 = vec4f();
  var a17 = vec4f();
  var a18 = vec4f();
  var a19 = vec4f();
  var a20 = vec4f();
  var a21 = vec4f();
  var a22 = vec4f();
  var a23 = vec4f();
  var a24 = vec4f();
  var a25 = vec4f();
  var a26 = vec4f();
  var a27 = vec4f();
  var a28 = vec4f();
  var a29 = vec4f();
  var a30 = vec4f();
  var a31 = vec4f();
  for (var major = t.major.x; major < t.major.y; major++) {
    for (var minor = t.minor.x; minor < t.minor.y; minor++) {
      let run = runAt(t, major, minor);
      var i = run.left;
      var j = run.right;
      for (var k = 0u; k < run.count; k += 2u) {
        // The second term of a run's last round is nothing, times what is there.
        let more = k + 1u < run.count;
        let next = select(j, j + rightStep(), more);
        let u = right[j + column0];
        let u1 = right[next + column0];
        let r = termsAt(rows, i, more);
        var x = vec4f(subgroupBroadcast(r[0].x, 0u)); var y = vec4f(subgroupBroadcast(r[0].y, 0u)); a0 = fma(y, u1, fma(x, u, a0));
        x = vec4f(subgroupBroadcast(r[0].x, 1u)); y = vec4f(subgroupBroadcast(r[0].y, 1u)); a1 = fma(y, u1, fma(x, u, a1));
        x = vec4f(subgroupBroadcast(r[0].x, 2u)); y = vec4f(subgroupBroadcast(r[0].y, 2u)); a2 = fma(y, u1, fma(x, u, a2));
        x = vec4f(subgroupBroadcast(r[0].x, 3u)); y = vec4f(subgroupBroadcast(r[0].y, 3u)); a3 = fma(y, u1, fma(x, u, a3));
        x = vec4f(subgroupBroadcast(r[0].x, 4u)); y = vec4f(subgroupBroadcast(r[0].y, 4u)); a4 = fma(y, u1, fma(x, u, a4));
        x = vec4f(subgroupBroadcast(r[0].x, 5u)); y = vec4f(subgroupBroadcast(r[0].y, 5u)); a5 = fma(y, u1, fma(x, u, a5));
        x = vec4f(subgroupBroadcast(r[0].x, 6u)); y = vec4f(subgroupBroadcast(r[0].y, 6u)); a6 = fma(y, u1, fma(x, u, a6));
        x = vec4f(subgroupBroadcast(r[0].x, 7u)); y = vec4f(subgroupBroadcast(r[0].y, 7u)); a7 = fma(y, u1, fma(x, u, a7));
        x = vec4f(subgroupBroadcast(r[1].x, 0u)); y = vec4f(subgroupBroadcast(r[1].y, 0u)); a8 = fma(y, u1, fma(x, u, a8));
        x = vec4f(subgroupBroadcast(r[1].x, 1u)); y = vec4f(subgroupBroadcast(r[1].y, 1u)); a9 = fma(y, u1, fma(x, u, a9));
        x = vec4f(subgroupBroadcast(r[1].x, 2u)); y = vec4f(subgroupBroadcast(r[1].y, 2u)); a10 = fma(y, u1, fma(x, u, a10));
        x = vec4f(subgroupBroadcast(r[1].x, 3u)); y = vec4f(subgroupBroadcast(r[1].y, 3u)); a11 = fma(y, u1, fma(x, u, a11));
        x = vec4f(subgroupBroadcast(r[1].x, 4u)); y = vec4f(subgroupBroadcast(r[1].y, 4u)); a12 = fma(y, u1, fma(x, u, a12));
        x = vec4f(subgroupBroadcast(r[1].x, 5u)); y = vec4f(subgroupBroadcast(r[1].y, 5u)); a13 = fma(y, u1, fma(x, u, a13));
        x = vec4f(subgroupBroadcast(r[1].x, 6u)); y = vec4f(subgroupBroadcast(r[1].y, 6u)); a14 = fma(y, u1, fma(x, u, a14));
        x = vec4f(subgroupBroadcast(r[1].x, 7u)); y = vec4f(subgroupBroadcast(r[1].y, 7u)); a15 = fma(y, u1, fma(x, u, a15));
        x = vec4f(subgroupBroadcast(r[2].x, 0u)); y = vec4f(subgroupBroadcast(r[2].y, 0u)); a16 = fma(y, u1, fma(x, u, a16));
        x = vec4f(subgroupBroadcast(r[2].x, 1u)); y = vec4f(subgroupBroadcast(r[2].y, 1u)); a17 = fma(y, u1, fma(x, u, a17));
        x = vec4f(subgroupBroadcast(r[2].x, 2u)); y = vec4f(subgroupBroadcast(r[2].y, 2u)); a18 = fma(y, u1, fma(x, u, a18));
        x = vec4f(subgroupBroadcast(r[2].x, 3u)); y = vec4f(subgroupBroadcast(r[2].y, 3u)); a19 = fma(y, u1, fma(x, u, a19));
        x = vec4f(subgroupBroadcast(r[2].x, 4u)); y = vec4f(subgroupBroadcast(r[2].y, 4u)); a20 = fma(y, u1, fma(x, u, a20));
        x = vec4f(subgroupBroadcast(r[2].x, 5u)); y = vec4f(subgroupBroadcast(r[2].y, 5u)); a21 = fma(y, u1, fma(x, u, a21));
        x = vec4f(subgroupBroadcast(r[2].x, 6u)); y = vec4f(subgroupBroadcast(r[2].y, 6u)); a22 = fma(y, u1, fma(x, u, a22));
        x = vec4f(subgroupBroadcast(r[2].x, 7u)); y = vec4f(subgroupBroadcast(r[2].y, 7u)); a23 = fma(y, u1, fma(x, u, a23));
        x = vec4f(subgroupBroadcast(r[3].x, 0u)); y = vec4f(subgroupBroadcast(r[3].y, 0u)); a24 = fma(y, u1, fma(x, u, a24));
        x = vec4f(subgroupBroadcast(r[3].x, 1u)); y = vec4f(subgroupBroadcast(r[3].y, 1u)); a25 = fma(y, u1, fma(x, u, a25));
        x = vec4f(subgroupBroadcast(r[3].x, 2u)); y = vec4f(subgroupBroadcast(r[3].y, 2u)); a26 = fma(y, u1, fma(x, u, a26));
        x = vec4f(subgroupBroadcast(r[3].x, 3u)); y = vec4f(subgroupBroadcast(r[3].y, 3u)); a27 = fma(y, u1, fma(x, u, a27));
        x = vec4f(subgroupBroadcast(r[3].x, 4u)); y = vec4f(subgroupBroadcast(r[3].y, 4u)); a28 = fma(y, u1, fma(x, u, a28));
        x = vec4f(subgroupBroadcast(r[3].x, 5u)); y = vec4f(subgroupBroadcast(r[3].y, 5u)); a29 = fma(y, u1, fma(x, u, a29));
        x = vec4f(subgroupBroadcast(r[3].x, 6u)); y = vec4f(subgroupBroadcast(r[3].y, 6u)); a30 = fma(y, u1, fma(x, u, a30));
        x = vec4f(subgroupBroadcast(r[3].x, 7u)); y = vec4f(subgroupBroadcast(r[3].y, 7u)); a31 = fma(y, u1, fma(x, u, a31));
        i += 2u * leftStep();
        j += 2u * rightStep();
      }
    }
  }
  var first = array(
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15,
    a16, a17, a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31);
  for (var m = 0u; m < 2u * ROWS; m++) {
    put(t, rowOf(m), t.four + lane, first[m]);
  }
}
