// Philox4x32-10 (Salmon et al., SC'11, doi:10.1145/2063384.2063405): a counter and a key in, four random words out.
// The same stream as src/autograd/philox.ts.
fn mulHigh(a: u32, b: u32) -> u32 {
  // WGSL has no 32×32→64 product.
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let mid = ah * bl + ((al * bl) >> 16u);
  let low = al * bh + (mid & 0xffffu);
  return ah * bh + (mid >> 16u) + (low >> 16u);
}

fn philox(counter: vec4u, seed: vec2u) -> vec4u {
  var c = counter;
  var k = seed;
  for (var round = 0u; round < 10u; round++) {
    let h0 = mulHigh(0xD2511F53u, c.x);
    let l0 = 0xD2511F53u * c.x;
    let h1 = mulHigh(0xCD9E8D57u, c.z);
    let l1 = 0xCD9E8D57u * c.z;
    c = vec4u(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
    k += vec2u(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

// (0, 1): the top 23 bits and a half, exact in f32.
fn open01(word: u32) -> f32 { return (f32(word >> 9u) + 0.5) * 0x1p-23; }
