/** Principal components, from a covariance in f64 (ml-matrix finds its eigenvectors). */
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { elementCount, maxCount, maxPairs, type PackedFormulas, pairAt } from '../../chem/encoding.ts';
import type { Features } from './engine.ts';

export interface Principal {
  features: Features;
  /** Share of the variance that each component holds, falling. */
  explained: number[];
}

/**
 * Eigenvectors of a symmetric matrix [n, n] with the largest eigenvalues, as columns [n, count]; of each the entry that is
 * largest in size (the first of equals, to one part in a million) is positive, so that signs don't hang on rounding.
 */
function leading(covariance: Float64Array, n: number, count: number): { vectors: Float64Array; values: number[] } {
  const found = new EigenvalueDecomposition(Matrix.from1DArray(n, n, covariance), { assumeSymmetric: true });
  const order = found.realEigenvalues
    .map((value, k) => [value, k])
    .sort(([a, i], [b, j]) => b - a || i - j)
    .slice(0, count);
  const vectors = new Float64Array(n * count);
  order.forEach(([, from], to) => {
    const column = Array.from({ length: n }, (_, r) => found.eigenvectorMatrix.get(r, from));
    const peak = Math.max(...column.map(Math.abs));
    const sign = column.find((v) => Math.abs(v) >= peak * (1 - 1e-6))! < 0 ? -1 : 1;
    column.forEach((v, r) => {
      vectors[r * count + to] = sign * v;
    });
  });
  return { vectors, values: order.map(([value]) => Math.max(0, value)) };
}

/** Components of rows [points, dims]: at most `count`, and no more than there are dimensions. */
export function principalComponents({ points, dims, values }: Features, count: number): Principal {
  const mean = new Float64Array(dims);
  for (let i = 0; i < points; i++) for (let c = 0; c < dims; c++) mean[c] += values[i * dims + c] / points;
  const covariance = new Float64Array(dims * dims);
  const row = new Float64Array(dims);
  for (let i = 0; i < points; i++) {
    for (let c = 0; c < dims; c++) row[c] = values[i * dims + c] - mean[c];
    for (let a = 0; a < dims; a++)
      for (let b = 0; b < dims; b++) covariance[a * dims + b] += (row[a] * row[b]) / points;
  }
  const kept = Math.min(count, dims);
  const axes = leading(covariance, dims, kept);
  const out = new Float32Array(points * kept);
  for (let i = 0; i < points; i++) {
    for (let k = 0; k < kept; k++) {
      let sum = 0;
      for (let c = 0; c < dims; c++) sum += (values[i * dims + c] - mean[c]) * axes.vectors[c * kept + k];
      out[i * kept + k] = sum;
    }
  }
  let total = 0;
  for (let c = 0; c < dims; c++) total += covariance[c * dims + c];
  return { features: { points, dims: kept, values: out }, explained: axes.values.map((v) => v / (total || 1)) };
}

/** Components of the 85 × 8 matrices of formulas, found on the first `fit` rows; their ones alone are looked at. */
export function formulaComponents(
  { packed, rows }: PackedFormulas,
  count: number,
  fit: ArrayLike<number> = Uint32Array.from({ length: rows }, (_, i) => i),
): Principal {
  const cellAt = (row: number, p: number): number => {
    const pair = pairAt(packed, row, p);
    return pair === 0 ? -1 : ((pair >> 8) - 1) * maxCount + (pair & 0xff) - 1;
  };
  // Columns that are 0 in every row hold nothing: the eigenvectors of the others are what there is.
  const place = new Int32Array(elementCount * maxCount).fill(-1);
  let n = 0;
  for (let m = 0; m < fit.length; m++) {
    for (let p = 0, cell = 0; p < maxPairs && (cell = cellAt(fit[m], p)) >= 0; p++)
      if (place[cell] < 0) place[cell] = n++;
  }
  const together = new Float64Array(n * n);
  for (let m = 0; m < fit.length; m++) {
    for (let p = 0, a = 0; p < maxPairs && (a = cellAt(fit[m], p)) >= 0; p++) {
      for (let q = 0, b = 0; q < maxPairs && (b = cellAt(fit[m], q)) >= 0; q++) together[place[a] * n + place[b]]++;
    }
  }
  const mean = Float64Array.from({ length: n }, (_, a) => together[a * n + a] / fit.length);
  const covariance = together.map((v, at) => v / fit.length - mean[Math.floor(at / n)] * mean[at % n]);
  const kept = Math.min(count, n);
  const axes = leading(covariance, n, kept);
  const middle = Float64Array.from({ length: kept }, (_, k) => {
    let sum = 0;
    for (let a = 0; a < n; a++) sum += mean[a] * axes.vectors[a * kept + k];
    return sum;
  });
  const out = new Float32Array(rows * kept);
  const score = new Float64Array(kept);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < kept; k++) score[k] = -middle[k];
    for (let p = 0, cell = 0; p < maxPairs && (cell = cellAt(i, p)) >= 0; p++) {
      // A cell that no fitted row has is along no axis.
      if (place[cell] >= 0) for (let k = 0; k < kept; k++) score[k] += axes.vectors[place[cell] * kept + k];
    }
    out.set(score, i * kept);
  }
  const total = mean.reduce((sum, m) => sum + m - m * m, 0);
  return { features: { points: rows, dims: kept, values: out }, explained: axes.values.map((v) => v / (total || 1)) };
}
