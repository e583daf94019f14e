// y[m, n] = Σ_k x[m, k]·w[k, n], either factor transposed on the fly (x stored [k, m], w stored [n, k]).
// Each thread makes 8 rows by 8 columns in registers (16 vec4 accumulators). Operations: 2·m·n·k; least bytes: 4·(mk + kn + mn).
// Rows and columns beyond the edge read a clamped index and are not stored. Small results of deep sums would leave few threads:
// then `splits` threads take a stretch of the depth each and reduce.wgsl adds the [splits, m, n] in a fixed order.
struct Params { rows: u32, columns: u32, depth: u32, splits: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override TRANSPOSE_X: bool = false;
override TRANSPOSE_W: bool = false;

fn store(base: u32, m: u32, n: u32, v: vec4f) {
  if (m >= p.rows) { return; }
  for (var j = 0u; j < 4u; j++) {
    if (n + j < p.columns) { y[base + m * p.columns + n + j] = v[j]; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  let across = (p.columns + 7u) / 8u;
  let down = (p.rows + 7u) / 8u;
  let m0 = (t / across % down) * 8u;
  let n0 = (t % across) * 8u;
  let split = t / across / down;
  if (split >= p.splits) { return; }
  let stretch = (p.depth + p.splits - 1u) / p.splits;
  let k0 = split * stretch;
  let k1 = min(k0 + stretch, p.depth);
  let xm = select(p.depth, 1u, TRANSPOSE_X);
  let xk = select(1u, p.rows, TRANSPOSE_X);
  let wk = select(p.columns, 1u, TRANSPOSE_W);
  let wn = select(1u, p.depth, TRANSPOSE_W);
  let lm = p.rows - 1u;
  let ln = p.columns - 1u;
  var x0 = min(m0, lm) * xm + k0 * xk; var x1 = min(m0 + 1u, lm) * xm + k0 * xk; var x2 = min(m0 + 2u, lm) * xm + k0 * xk; var x3 = min(m0 + 3u, lm) * xm + k0 * xk;
  var x4 = min(m0 + 4u, lm) * xm + k0 * xk; var x5 = min(m0 + 5u, lm) * xm + k0 * xk; var x6 = min(m0 + 6u, lm) * xm + k0 * xk; var x7 = min(m0 + 7u, lm) * xm + k0 * xk;
  var w0 = min(n0, ln) * wn + k0 * wk; var w1 = min(n0 + 1u, ln) * wn + k0 * wk; var w2 = min(n0 + 2u, ln) * wn + k0 * wk; var w3 = min(n0 + 3u, ln) * wn + k0 * wk;
  var w4 = min(n0 + 4u, ln) * wn + k0 * wk; var w5 = min(n0 + 5u, ln) * wn + k0 * wk; var w6 = min(n0 + 6u, ln) * wn + k0 * wk; var w7 = min(n0 + 7u, ln) * wn + k0 * wk;
  var a0 = vec4f(); var a1 = vec4f(); var a2 = vec4f(); var a3 = vec4f();
  var a4 = vec4f(); var a5 = vec4f(); var a6 = vec4f(); var a7 = vec4f();
  var b0 = vec4f(); var b1 = vec4f(); var b2 = vec4f(); var b3 = vec4f();
  var b4 = vec4f(); var b5 = vec4f(); var b6 = vec4f(); var b7 = vec4f();
  for (var k = k0; k < k1; k++) {
    let u = vec4f(w[w0], w[w1], w[w2], w[w3]);
    let v = vec4f(w[w4], w[w5], w[w6], w[w7]);
    var s = x[x0]; a0 = fma(vec4f(s), u, a0); b0 = fma(vec4f(s), v, b0);
    s = x[x1]; a1 = fma(vec4f(s), u, a1); b1 = fma(vec4f(s), v, b1);
    s = x[x2]; a2 = fma(vec4f(s), u, a2); b2 = fma(vec4f(s), v, b2);
    s = x[x3]; a3 = fma(vec4f(s), u, a3); b3 = fma(vec4f(s), v, b3);
    s = x[x4]; a4 = fma(vec4f(s), u, a4); b4 = fma(vec4f(s), v, b4);
    s = x[x5]; a5 = fma(vec4f(s), u, a5); b5 = fma(vec4f(s), v, b5);
    s = x[x6]; a6 = fma(vec4f(s), u, a6); b6 = fma(vec4f(s), v, b6);
    s = x[x7]; a7 = fma(vec4f(s), u, a7); b7 = fma(vec4f(s), v, b7);
    x0 += xk; x1 += xk; x2 += xk; x3 += xk; x4 += xk; x5 += xk; x6 += xk; x7 += xk;
    w0 += wk; w1 += wk; w2 += wk; w3 += wk; w4 += wk; w5 += wk; w6 += wk; w7 += wk;
  }
  let base = split * p.rows * p.columns;
  store(base, m0, n0, a0); store(base, m0, n0 + 4u, b0);
  store(base, m0 + 1u, n0, a1); store(base, m0 + 1u, n0 + 4u, b1);
  store(base, m0 + 2u, n0, a2); store(base, m0 + 2u, n0 + 4u, b2);
  store(base, m0 + 3u, n0, a3); store(base, m0 + 3u, n0 + 4u, b3);
  store(base, m0 + 4u, n0, a4); store(base, m0 + 4u, n0 + 4u, b4);
  store(base, m0 + 5u, n0, a5); store(base, m0 + 5u, n0 + 4u, b5);
  store(base, m0 + 6u, n0, a6); store(base, m0 + 6u, n0 + 4u, b6);
  store(base, m0 + 7u, n0, a7); store(base, m0 + 7u, n0 + 4u, b7);
}
