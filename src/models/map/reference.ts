/** t-SNE in f64 and plain loops: what the kernels are held against, and `--device reference`. */
import {
  type Affinities,
  type Descended,
  type Descent,
  type Features,
  type MapEngine,
  type Neighbours,
  negativeEntropy,
} from './engine.ts';

/** Squared distances of query i to all points. */
export function squaredDistances(queries: Features, i: number, base: Features): Float64Array {
  const { dims } = base;
  return Float64Array.from({ length: base.points }, (_, j) => {
    let sum = 0;
    for (let c = 0; c < dims; c++) sum += (queries.values[i * dims + c] - base.values[j * dims + c]) ** 2;
    return sum;
  });
}

/** The k smallest by value, then index; in order of index. */
export function smallest(values: Float64Array, k: number, without = -1): number[] {
  const all = Array.from(values.keys()).filter((j) => j !== without);
  return all
    .sort((a, b) => values[a] - values[b] || a - b)
    .slice(0, k)
    .sort((a, b) => a - b);
}

/** Affinities exp(−β d) / Σ whose perplexity is the one asked for, by bisection. */
export function conditionalRow(d: ArrayLike<number>, perplexity: number): Float64Array {
  const least = Math.min(...Array.from(d));
  const gaps = Array.from(d, (v) => v - least);
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  let beta = mean > 0 ? 1 / mean : 1;
  let low = 0;
  let high = 0;
  const row = new Float64Array(gaps.length);
  const fill = (): number => {
    let sum = 0;
    gaps.forEach((gap, m) => {
      sum += row[m] = Math.exp(-beta * gap);
    });
    let entropy = 0;
    gaps.forEach((gap, m) => {
      row[m] /= sum;
      entropy += row[m] * beta * gap;
    });
    return entropy + Math.log(sum);
  };
  for (let round = 0; round < 100; round++) {
    if (fill() > Math.log(perplexity)) {
      low = beta;
      beta = high === 0 ? Math.min(2 * beta, 1e30) : (low + high) / 2;
    } else {
      high = beta;
      beta = (low + high) / 2;
    }
  }
  fill();
  return row;
}

/** Forces, and from them the gradient and the KL divergence in nats, at positions [points, dimensions]. */
export function forces(affinities: Affinities, y: ArrayLike<number>, dimensions: number, exaggeration = 1) {
  const { points, rows, columns, values } = affinities;
  const attraction = new Float64Array(points * dimensions);
  const repulsion = new Float64Array(points * dimensions);
  let z = 0;
  let logs = 0;
  for (let i = 0; i < points; i++) {
    for (let j = 0; j < points; j++) {
      if (j === i) continue;
      let below = 1;
      for (let c = 0; c < dimensions; c++) below += (y[i * dimensions + c] - y[j * dimensions + c]) ** 2;
      const w = 1 / below;
      z += w;
      for (let c = 0; c < dimensions; c++) {
        repulsion[i * dimensions + c] += w * w * (y[i * dimensions + c] - y[j * dimensions + c]);
      }
    }
    for (let at = rows[i]; at < rows[i + 1]; at++) {
      const j = columns[at];
      let below = 1;
      for (let c = 0; c < dimensions; c++) below += (y[i * dimensions + c] - y[j * dimensions + c]) ** 2;
      logs += values[at] * Math.log(below);
      for (let c = 0; c < dimensions; c++) {
        attraction[i * dimensions + c] += (values[at] / below) * (y[i * dimensions + c] - y[j * dimensions + c]);
      }
    }
  }
  z = Math.max(z, 1e-30);
  const gradient = attraction.map((a, m) => 4 * (exaggeration * a - repulsion[m] / z));
  return { attraction, repulsion, z, gradient, divergence: negativeEntropy(affinities) + logs + Math.log(z) };
}

/** Lets signals and timers have their turn, now and then: without it Ctrl-C would wait for the end. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class ReferenceMapEngine implements MapEngine {
  readonly kind = 'reference';

  async nearest(
    queries: Features,
    base: Features | undefined,
    k: number,
    onProgress?: (done: number) => void,
  ): Promise<Neighbours> {
    const index = new Uint32Array(queries.points * k);
    const distance = new Float32Array(queries.points * k);
    for (let i = 0; i < queries.points; i++) {
      const d = squaredDistances(queries, i, base ?? queries);
      const near = smallest(d, k, base ? -1 : i);
      index.set(near, i * k);
      distance.set(
        Float32Array.from(near, (j) => d[j]),
        i * k,
      );
      if (i % 64 === 63) {
        onProgress?.(i + 1);
        await breathe();
      }
    }
    return { k, index, distance };
  }

  async conditional({ k, distance }: Neighbours, perplexity: number): Promise<Float32Array> {
    const out = new Float32Array(distance.length);
    for (let from = 0; from < distance.length; from += k) {
      out.set(conditionalRow(distance.subarray(from, from + k), perplexity), from);
    }
    return out;
  }

  async descend(affinities: Affinities, start: Float32Array, descent: Descent): Promise<Descended> {
    const { dimensions, longest } = descent;
    const y = Float64Array.from(start);
    const velocity = new Float64Array(y.length);
    const gains = new Float64Array(y.length).fill(1);
    const history: Descended['history'] = [];
    let done = 0;
    for (const { iterations, exaggeration, momentum, rate } of descent.phases) {
      for (let n = 0; n < iterations; n++) {
        const { gradient, divergence } = forces(affinities, y, dimensions, exaggeration);
        if (done % 50 === 0) {
          history.push({ iteration: done, divergence });
          descent.onProgress?.(done, divergence);
        }
        for (let i = 0; i < affinities.points; i++) {
          let size = 0;
          for (let m = i * dimensions; m < (i + 1) * dimensions; m++) {
            gains[m] = Math.max(0.01, gradient[m] * velocity[m] < 0 ? gains[m] + 0.2 : gains[m] * 0.8);
            velocity[m] = momentum * velocity[m] - rate * gains[m] * gradient[m];
            size += velocity[m] ** 2;
          }
          const shrink = Math.min(1, longest / Math.sqrt(size));
          for (let m = i * dimensions; m < (i + 1) * dimensions; m++) {
            if (shrink < 1) velocity[m] *= shrink;
            y[m] += velocity[m];
          }
        }
        done++;
        await breathe();
      }
    }
    const { divergence } = forces(affinities, y, dimensions);
    history.push({ iteration: done, divergence });
    return { positions: Float32Array.from(y), history, divergence };
  }
}
