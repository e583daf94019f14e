/** What is computed, the same for everybody: pieces and small networks with hashed inputs, and how results are told. */

function word(seed, place) {
  let h = (Math.imul(place, 0x9e3779b1) + Math.imul(seed, 0x85ebca6b) + 0x165667b1) >>> 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  h ^= h >>> 16;
  return h >>> 0;
}

/** @typedef {{ shape: number[], seed: number, scale?: number, shift?: number, above?: number }} Spec */

/**
 * shift + scale·u, u in [−1, 1), rounded to f32; with `above` 1 where u is above it and 0 elsewhere.
 * @param {Spec} spec
 */
export const numbers = ({ shape, seed, scale = 1, shift = 0, above }) =>
  Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => {
    const u = (word(seed, i) >>> 8) / 2 ** 23 - 1;
    return above === undefined ? shift + scale * u : Number(u > above);
  });

const filter = { shape: [3, 3, 2, 4], seed: 2, scale: 0.5 };
const transposed = { shape: [3, 3, 4, 3], seed: 3, scale: 0.5 };
const bias = { shape: [4], seed: 4, scale: 0.25 };
const gamma = { shape: [4], seed: 5, scale: 0.25, shift: 1 };
const beta = { shape: [4], seed: 6, scale: 0.25 };
const image = { shape: [4, 8, 8, 2], seed: 1 };
const channels = { shape: [4, 8, 8, 4], seed: 1 };
const latent = { shape: [4, 4, 4, 3], seed: 1 };
const weights = { shape: [64, 1], seed: 7, scale: 0.25 };
const offset = { shape: [1], seed: 8 };
const large = { shape: [4, 8, 8, 4], seed: 9 };
const small = { shape: [4, 4, 4, 4], seed: 9 };
const column = { shape: [4, 1], seed: 9, scale: 0.5, shift: 1 };

/** Inputs of each piece by name; x is what the penalty's slopes are taken in, c the cotangent. Images [n,h,w,c]. */
export const pieces = {
  conv2d: { x: image, filter, c: small },
  conv2dTranspose: { x: latent, filter: transposed, c: large },
  batchNorm: { x: channels, gamma, beta, c: large },
  leakyRelu: { x: channels, c: large },
  dense: { x: { shape: [4, 64], seed: 1 }, weights, offset, c: column },
  critic: { x: image, filter, bias, gamma, beta, weights, offset, c: column },
  generator: { x: latent, filter: transposed, bias, gamma, beta, c: large },
};
/** What the slopes of a penalty are taken in: x, as WGAN-GP does, and the first weights where there are any. */
export const slopesIn = (piece) => ({
  second: 'x',
  ...('filter' in pieces[piece] && { 'second, in the filter': 'filter' }),
});
export const eps = 1e-5;
export const slope = 0.2;
/** @type {[number, number]} */
export const strides = [2, 2];

/** The worst ‖difference‖/‖expected‖ of some tensors by name; of the largest where one is zero but for round-off. */
export function difference(expected, actual) {
  const norm = (v) => Math.sqrt(v.reduce((total, a) => total + a * a, 0));
  const largest = Math.max(...Object.values(expected).map(norm));
  return Math.max(
    ...Object.entries(expected).map(([name, e]) => {
      const a = actual[name];
      if (a?.length !== e.length) return Infinity;
      const share = norm(e.map((v, i) => v - a[i])) / (norm(e) > 1e-9 * largest ? norm(e) : largest);
      return Number.isNaN(share) ? Infinity : share;
    }),
  );
}

/** One line of the table: how far off the tensors are that `compute` gives by name; the least time of five after a first. */
export async function attempt(who, piece, order, variant, expected, compute) {
  const line = { who, piece, order, variant };
  try {
    line.difference = difference(expected, await compute());
    const times = [];
    for (let run = 0; run < 5; run++) {
      const start = performance.now();
      await compute();
      times.push(performance.now() - start);
    }
    line.ms = Math.round(Math.min(...times));
  } catch (error) {
    line.error = String(error?.message ?? error).split('\n')[0];
  }
  console.log(JSON.stringify(line));
}
