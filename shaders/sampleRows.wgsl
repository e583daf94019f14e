// Row numbers of a batch, from `first` on: position q = (step·draws + draw)·batch + i of an endless sequence of shuffled epochs. An epoch's
// permutation is a four-round Feistel network on the smallest even number of bits that holds `rows`, keyed by Philox with
// the epoch, walked until it falls below `rows`: nothing is stored, and any step can be resumed.
struct Params { rows: u32, batch: u32, draw: u32, draws: u32, stream: u32, key0: u32, key1: u32, half: u32, first: u32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> step: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= p.batch) { return; }
  // 64-bit position by 32-bit row count, bit by bit: WGSL has no 64-bit integers.
  let perStep = p.draws * p.batch;
  var high = mulHigh(step[0], perStep) + step[1] * perStep;
  let product = step[0] * perStep;
  var low = product + p.draw * p.batch + i;
  if (low < product) { high++; }
  var epoch = vec2u(0u, 0u);
  var rest = 0u;
  for (var bit = 0u; bit < 64u; bit++) {
    let top = high >> 31u;
    high = (high << 1u) | (low >> 31u);
    low = low << 1u;
    // `rows` is below 2^31, so the shifted remainder fits.
    rest = (rest << 1u) | top;
    epoch = vec2u((epoch.x << 1u), (epoch.y << 1u) | (epoch.x >> 31u));
    if (rest >= p.rows) { rest -= p.rows; epoch.x |= 1u; }
  }
  let keys = philox(vec4u(0xffffffffu, p.stream, epoch.x, epoch.y), vec2u(p.key0, p.key1));
  let mask = (1u << p.half) - 1u;
  var v = rest;
  loop {
    var left = v >> p.half;
    var right = v & mask;
    for (var round = 0u; round < 4u; round++) {
      // A finaliser in MurmurHash3's manner mixes the half with the round's key.
      var h = right ^ keys[round];
      h = (h ^ (h >> 16u)) * 0x85ebca6bu;
      h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
      h = h ^ (h >> 16u);
      let next = (left ^ h) & mask;
      left = right;
      right = next;
    }
    v = (left << p.half) | right;
    if (v < p.rows) { break; }
  }
  y[i] = p.first + v;
}
