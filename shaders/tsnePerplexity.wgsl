// Conditional affinities of each point to its k neighbours, p[i, m] = exp(−β d[i, m]) / Σ, with β such that the perplexity
// exp(−Σ p ln p) is the one asked for (van der Maaten and Hinton 2008): bisection, doubling while no bound is known.
// One thread a point; operations: about 25·k a round, 48 rounds; traffic: 4·k bytes a point and round, from cache. The least distance is taken off first: p stays as it is,
// and the sum is at least 1. Where more neighbours than the perplexity are equally near, β grows to its bound and they share alike.
struct Params { points: u32, k: u32, logPerplexity: f32 }

@group(0) @binding(0) var<uniform> p: Params;
/// Squared distances [points, k].
@group(0) @binding(1) var<storage, read> d: array<f32>;
/// [points, k].
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const rounds = 48u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= p.points) { return; }
  let start = i * p.k;
  let end = start + p.k;
  var least = d[start];
  for (var at = start; at < end; at++) { least = min(least, d[at]); }
  var mean = 0.0;
  for (var at = start; at < end; at++) { mean += d[at] - least; }
  mean /= f32(p.k);
  var beta = 1.0;
  // A normal number, so that 1 / mean is one too.
  if (mean > 1e-30) { beta = 1.0 / mean; }
  var low = 0.0;
  var high = 0.0;
  for (var r = 0u; r < rounds; r++) {
    var sum = 0.0;
    var weighted = 0.0;
    for (var at = start; at < end; at++) {
      let gap = d[at] - least;
      let e = exp(-beta * gap);
      sum += e;
      weighted = fma(e, gap, weighted);
    }
    let entropy = log(sum) + beta * weighted / sum;
    if (entropy > p.logPerplexity) {
      low = beta;
      beta = select(0.5 * (low + high), min(2.0 * beta, 1e30), high == 0.0);
    } else {
      high = beta;
      beta = 0.5 * (low + high);
    }
  }
  var sum = 0.0;
  for (var at = start; at < end; at++) { sum += exp(-beta * (d[at] - least)); }
  for (var at = start; at < end; at++) { y[at] = exp(-beta * (d[at] - least)) / sum; }
}
