import { Stream } from '../../../src/autograd/philox.ts';
import type { Features } from '../../../src/models/map/engine.ts';

/** Gaussian clouds around centres far apart, one after the other in turn: point i belongs to cloud i mod `clouds`. */
export function blobs(points: number, clouds: number, dims: number, seed = 7): Features {
  const random = new Stream(seed);
  const centres = Float64Array.from({ length: clouds * dims }, () => 3 * random.normal());
  const values = Float32Array.from(
    { length: points * dims },
    (_, at) => centres[(Math.floor(at / dims) % clouds) * dims + (at % dims)] + random.normal(),
  );
  return { points, dims, values };
}

/** Numbers without pattern. */
export const noise = (points: number, dims: number, seed = 3): Features => {
  const random = new Stream(seed);
  return { points, dims, values: Float32Array.from({ length: points * dims }, () => random.normal()) };
};

/** Share of the `k` nearest points on a map that have a point's own label. */
export function purity(positions: Float32Array, dimensions: number, label: (i: number) => number, k = 10): number {
  const points = positions.length / dimensions;
  let right = 0;
  for (let i = 0; i < points; i++) {
    const far = Float64Array.from({ length: points }, (_, j) => {
      if (j === i) return Number.POSITIVE_INFINITY;
      let sum = 0;
      for (let c = 0; c < dimensions; c++) sum += (positions[i * dimensions + c] - positions[j * dimensions + c]) ** 2;
      return sum;
    });
    const near = Array.from(far.keys())
      .sort((a, b) => far[a] - far[b])
      .slice(0, k);
    right += near.filter((j) => label(j) === label(i)).length / k;
  }
  return right / points;
}
