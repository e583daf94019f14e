// Adam, RMSProp and SGD with momentum over all parameters of a model in one dispatch, weight clipping included.
// The state holds the weights and the moments behind each other, `size` elements each, and is updated in place.
// Update number t = step·every + offset + 1 is worked out here from the step counter, and with it the learning rate
// (linear decay) and Adam's bias corrections: nothing has to come from the host. rest1 and rest2 are
// 1 − beta1 and 1 − beta2, rounded from doubles: in f32 the subtraction would keep five digits.
// Traffic: Adam reads 16 and writes 12 bytes a parameter.
struct Params {
  size: u32, every: u32, offset: u32,
  learningRate: f32, decayFrom: f32, decayTo: f32, clip: f32,
  beta1: f32, beta2: f32, rest1: f32, rest2: f32, eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> state: array<f32>;
@group(0) @binding(2) var<storage, read> gradient: array<f32>;
@group(0) @binding(3) var<storage, read> counter: array<u32>;

fn updateNumber() -> f32 { return f32(counter[0] * p.every + p.offset + 1u); }

fn rate(t: f32) -> f32 {
  if (p.decayTo <= p.decayFrom) { return p.learningRate; }
  return p.learningRate * clamp((p.decayTo - t) / (p.decayTo - p.decayFrom), 0.0, 1.0);
}

fn clipped(w: f32) -> f32 { return select(w, clamp(w, -p.clip, p.clip), p.clip > 0.0); }

// 1 − (1 − q)^t from q = 1 − beta, bit by bit from the top: no cancellation, so Adam's first updates are right to a few ULP.
fn oneMinusPower(q: f32, t: f32) -> f32 {
  let n = u32(t);
  var r = 0.0;
  for (var bit = 32u - countLeadingZeros(n); bit > 0u; bit--) {
    r = r * (2.0 - r);
    if (((n >> (bit - 1u)) & 1u) == 1u) { r = r + q * (1.0 - r); }
  }
  return r;
}

// Each thread strides over the parameters, so that what depends on the update number alone is worked out once for many.
@compute @workgroup_size(64)
fn adam(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = updateNumber();
  let correctionM = oneMinusPower(p.rest1, t);
  let correctionV = oneMinusPower(p.rest2, t);
  let step = rate(t);
  let threads = groups.x * groups.y * 64u;
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += threads) {
    let g = gradient[i];
    let m = p.beta1 * state[p.size + i] + p.rest1 * g;
    let v = p.beta2 * state[2u * p.size + i] + p.rest2 * g * g;
    state[p.size + i] = m;
    state[2u * p.size + i] = v;
    state[i] = clipped(state[i] - step * (m / correctionM) / (sqrt(v / correctionV) + p.eps));
  }
}

// beta1 is the decay of the mean square (TensorFlow's rho, PyTorch's alpha).
@compute @workgroup_size(64)
fn rmsProp(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let step = rate(updateNumber());
  let threads = groups.x * groups.y * 64u;
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += threads) {
    let g = gradient[i];
    let v = p.beta1 * state[p.size + i] + p.rest1 * g * g;
    state[p.size + i] = v;
    state[i] = clipped(state[i] - step * g / (sqrt(v) + p.eps));
  }
}

// beta1 is the momentum; velocity = momentum·velocity + g, as PyTorch's.
@compute @workgroup_size(64)
fn sgd(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let step = rate(updateNumber());
  let threads = groups.x * groups.y * 64u;
  for (var i = id.x + id.y * groups.x * 64u; i < p.size; i += threads) {
    let v = p.beta1 * state[p.size + i] + gradient[i];
    state[p.size + i] = v;
    state[i] = clipped(state[i] - step * v);
  }
}
