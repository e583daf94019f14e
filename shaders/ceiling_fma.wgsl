// Ceiling of arithmetic: how many fused multiply-adds a second this adapter does when memory plays no part.
//
// Maths: two vec4 accumulators a thread, each x ← x·a + b, 16 times a round: 2·4·2·16 = 256 FLOP a round and thread.
// Traffic: 4 bytes a thread, written so that no compiler can drop the loop.
// Who wins when: eight independent chains a thread hide an FMA's latency on a GPU, together with the other threads. On a
// processor (lavapipe, 16 or 32 vector registers) more than three vec4 spill and lose a factor of two to five, and a loop
// that is not unrolled pays for its mask and counter: 8 vec4 without unrolling gave 11 GFLOP/s where this gives 120.

struct Params { threads: u32, rounds: u32, a: f32, b: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn fma_ceiling(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.threads) { return; }
  let a = vec4f(p.a);
  let b = vec4f(p.b);
  var x0 = vec4f(f32(id.x & 255u)) + vec4f(0.0, 0.25, 0.5, 0.75);
  var x1 = x0 + 1.0;
  for (var i = 0u; i < p.rounds; i++) {
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
    x0 = fma(x0, a, b); x1 = fma(x1, a, b);
  }
  out[id.x] = dot(x0 + x1, vec4f(1.0));
}
