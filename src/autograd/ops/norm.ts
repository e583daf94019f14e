import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import {
  add,
  batchNormApplyGrad,
  batchNormGrad,
  batchNormSums,
  concat,
  mean,
  moments,
  mul,
  normalise,
  reshape,
  rows,
  rsqrt,
  scale,
  square,
  sub,
  sum,
} from '../build.ts';
import { viaExpression } from '../grad.ts';
import {
  type ErrorSample,
  type Node,
  type Op,
  type Sample,
  type Shape,
  showShape,
  sizeOf,
  type Value,
} from '../graph.ts';

const channelsOf = (shape: Shape): number => shape[shape.length - 1];
const rowsOf = (shape: Shape): number => sizeOf(shape) / channelsOf(shape);
const leading = (x: Node): number[] => x.shape.slice(0, -1).map((_, axis) => axis);

function checkVectors(name: string, x: Node, vectors: Record<string, Node>): void {
  const c = channelsOf(x.shape);
  if (x.shape.length < 2) throw new ShapeError(`${name}: ${showShape(x.shape)} has no channel axis beside others`);
  for (const [what, v] of Object.entries(vectors)) {
    const wanted = what === 'stats' || what === 'sums' ? [2, c] : [c];
    if (showShape(v.shape) !== showShape(wanted)) {
      throw new ShapeError(`${name}: ${what} ${showShape(v.shape)} for ${c} channels, it wants ${showShape(wanted)}`);
    }
  }
}

/** Mean and variance of each channel, plainly. */
function referenceMoments(x: Value): { mean: Float64Array; variance: Float64Array } {
  const c = channelsOf(x.shape);
  const n = rowsOf(x.shape);
  const mu = new Float64Array(c);
  const variance = new Float64Array(c);
  x.data.forEach((v, i) => {
    mu[i % c] += v / n;
  });
  x.data.forEach((v, i) => {
    variance[i % c] += (v - mu[i % c]) ** 2 / n;
  });
  return { mean: mu, variance };
}

const shapes: readonly Shape[] = [
  [1, 1],
  [65, 1],
  [2, 3],
  [5, 7, 3, 5],
  [257, 3],
  [3, 2, 130],
];
const samples = (draws: (x: Shape) => Sample['inputs']): Sample[] =>
  shapes.filter((x) => rowsOf(x) > 1).map((x) => ({ inputs: draws(x), attrs: { eps: 1e-2 } }));
const vector = (x: Shape) => ({ shape: [channelsOf(x)], draw: 'normal' as const });
/** Moments as they come: a mean, and a variance above zero. */
const stats = (x: Shape) => ({ shape: [2, channelsOf(x)], draw: 'positive' as const });
const normal = (shape: Shape) => ({ shape, draw: 'normal' as const });
const badVector: ErrorSample = {
  shapes: [[4, 3], [2], [3]],
  attrs: { eps: 1e-5 },
  message: /gamma \[2\] for 3 channels, it wants \[3\]/,
};

// The same values in elementary ops: what the gradient rules of the fused kernels are derived from.
const centred = (x: Node, s: Node): Node => sub(x, reshape(rows(s, 0, 1), [channelsOf(x.shape)]));
const deviation = (x: Node, s: Node, eps: number): Node =>
  rsqrt(scale(reshape(rows(s, 1, 2), [channelsOf(x.shape)]), 1, eps));
const standard = (x: Node, s: Node, eps: number): Node => mul(centred(x, s), deviation(x, s, eps));
const elementaryMoments = (x: Node): Node => {
  const mu = mean(x, leading(x));
  const variance = mean(square(sub(x, mu)), leading(x));
  return concat([reshape(mu, [1, channelsOf(x.shape)]), reshape(variance, [1, channelsOf(x.shape)])]);
};
const elementaryGrad = (g: Node, x: Node, s: Node, gamma: Node, sums: Node, eps: number): Node => {
  const c = channelsOf(x.shape);
  const share = scale(sums, 1 / rowsOf(x.shape));
  const inner = sub(sub(g, reshape(rows(share, 0, 1), [c])), mul(standard(x, s, eps), reshape(rows(share, 1, 2), [c])));
  return mul(inner, mul(gamma, deviation(x, s, eps)));
};
const elementarySums = (g: Node, x: Node, s: Node, eps: number): Node => {
  const c = channelsOf(x.shape);
  const moment = sum(mul(g, standard(x, s, eps)), leading(x));
  return concat([reshape(sum(g, leading(x)), [1, c]), reshape(moment, [1, c])]);
};

/** Each sample by its own mean and variance over all axes but the first, then gamma and beta of each channel. */
const elementaryLayerNorm = (x: Node, gamma: Node, beta: Node, eps: number): Node => {
  const features = reshape(x, [x.shape[0], sizeOf(x.shape) / x.shape[0]]);
  const apart = sub(features, mean(features, [1], true));
  const hat = mul(apart, rsqrt(scale(mean(square(apart), [1], true), 1, eps)));
  return add(mul(reshape(hat, x.shape), gamma), beta);
};

const sumDepth = (x: Node): number => lower.reduceDepth(1, rowsOf(x.shape), channelsOf(x.shape)) + 2;

export const norm = {
  moments: {
    summary: 'x [.., channels] → [2, channels]: mean and biased variance of each channel, in two passes',
    shape: ([x]) => {
      checkVectors('moments', x, {});
      return [2, channelsOf(x.shape)];
    },
    vjp: viaExpression(([x]) => elementaryMoments(x)),
    reference: ([x], _attrs, out) => {
      const { mean: mu, variance } = referenceMoments(x);
      out.data.set(mu);
      out.data.set(variance, mu.length);
    },
    roundings: (node) => 3 * sumDepth(node.inputs[0]),
    lowering: {
      kernels: (node, target) => lower.moments(rowsOf(node.inputs[0].shape), channelsOf(node.shape), target),
    },
    samples: samples((x) => [normal(x)]),
    errors: [{ shapes: [[3]], message: /no channel axis/ }],
  },
  normalise: {
    summary: '(x − mean)/√(variance + eps)·gamma + beta with given moments [2, channels]',
    shape: ([x, s, gamma, beta]) => {
      checkVectors('normalise', x, { stats: s, gamma, beta });
      return x.shape;
    },
    vjp: viaExpression(([x, s, gamma, beta], { attrs }) => add(mul(standard(x, s, attrs.eps), gamma), beta)),
    reference: ([x, s, gamma, beta], { eps }, out) => {
      const c = channelsOf(x.shape);
      x.data.forEach((v, i) => {
        const k = i % c;
        out.data[i] = ((v - s.data[k]) / Math.sqrt(s.data[c + k] + eps)) * gamma.data[k] + beta.data[k];
      });
    },
    roundings: () => 16,
    lowering: {
      kernels: ({ shape, attrs }) => lower.normalise(sizeOf(shape), channelsOf(shape), attrs.eps, attrs.epilogue),
    },
    samples: samples((x) => [normal(x), stats(x), vector(x), vector(x)]),
    errors: [
      {
        shapes: [[4, 3], [3], [3], [3]],
        attrs: { eps: 1e-5 },
        message: /stats \[3\] for 3 channels, it wants \[2,3\]/,
      },
    ],
  },
  batchNorm: {
    summary: "normalise with the batch's own moments: batch norm in training",
    shape: ([x, gamma, beta]) => {
      checkVectors('batchNorm', x, { gamma, beta });
      return x.shape;
    },
    vjp: (node, g) => {
      const [x, gamma] = node.inputs;
      const { eps } = node.attrs;
      const c = channelsOf(x.shape);
      const sums = () => batchNormSums(g, x, moments(x), eps);
      return [
        () => batchNormGrad(x, gamma, g, eps),
        () => reshape(rows(sums(), 1, 2), [c]),
        () => reshape(rows(sums(), 0, 1), [c]),
      ];
    },
    reference: ([x, gamma, beta], { eps }, out) => {
      const { mean: mu, variance } = referenceMoments(x);
      const c = channelsOf(x.shape);
      x.data.forEach((v, i) => {
        const k = i % c;
        out.data[i] = ((v - mu[k]) / Math.sqrt(variance[k] + eps)) * gamma.data[k] + beta.data[k];
      });
    },
    roundings: (node) => 4 * sumDepth(node.inputs[0]) + 16,
    lowering: {
      expand: ({ inputs: [x, gamma, beta], attrs }) => normalise(x, moments(x), gamma, beta, attrs.eps),
    },
    samples: samples((x) => [normal(x), vector(x), vector(x)]),
    errors: [badVector],
  },
  batchNormGrad: {
    summary: "cotangent of batchNorm's x (inputs x, gamma, g)",
    shape: ([x, gamma, g]) => {
      checkVectors('batchNormGrad', x, { gamma });
      if (showShape(g.shape) !== showShape(x.shape)) {
        throw new ShapeError(`batchNormGrad: cotangent ${showShape(g.shape)} for x ${showShape(x.shape)}`);
      }
      return x.shape;
    },
    vjp: viaExpression(([x, gamma, g], { attrs: { eps } }) => {
      const s = elementaryMoments(x);
      return elementaryGrad(g, x, s, gamma, elementarySums(g, x, s, eps), eps);
    }),
    reference: ([x, gamma, g], { eps }, out) => {
      const { mean: mu, variance } = referenceMoments(x);
      const c = channelsOf(x.shape);
      const n = rowsOf(x.shape);
      const hat = (i: number): number => (x.data[i] - mu[i % c]) / Math.sqrt(variance[i % c] + eps);
      const total = new Float64Array(c);
      const moment = new Float64Array(c);
      g.data.forEach((v, i) => {
        total[i % c] += v;
        moment[i % c] += v * hat(i);
      });
      g.data.forEach((v, i) => {
        const k = i % c;
        out.data[i] = (gamma.data[k] / Math.sqrt(variance[k] + eps)) * (v - total[k] / n - (hat(i) * moment[k]) / n);
      });
    },
    roundings: (node) => 6 * sumDepth(node.inputs[0]) + 32,
    lowering: {
      expand: ({ inputs: [x, gamma, g], attrs: { eps } }) => {
        const s = moments(x);
        return batchNormApplyGrad(g, x, s, gamma, batchNormSums(g, x, s, eps), eps);
      },
    },
    samples: samples((x) => [normal(x), vector(x), normal(x)]),
    errors: [badVector],
  },
  layerNorm: {
    summary:
      'x [n, .., channels] with each sample at mean 0 and variance 1 over all its axes, ·gamma + beta by channel',
    shape: ([x, gamma, beta]) => {
      checkVectors('layerNorm', x, { gamma, beta });
      return x.shape;
    },
    vjp: viaExpression(([x, gamma, beta], { attrs }) => elementaryLayerNorm(x, gamma, beta, attrs.eps)),
    reference: ([x, gamma, beta], { eps }, out) => {
      const c = channelsOf(x.shape);
      const features = x.data.length / x.shape[0];
      for (let from = 0; from < x.data.length; from += features) {
        const sample = x.data.subarray(from, from + features);
        const mu = sample.reduce((total, v) => total + v, 0) / features;
        const variance = sample.reduce((total, v) => total + (v - mu) ** 2, 0) / features;
        sample.forEach((v, i) => {
          out.data[from + i] = ((v - mu) / Math.sqrt(variance + eps)) * gamma.data[i % c] + beta.data[i % c];
        });
      }
    },
    roundings: ({ inputs: [x] }) => 4 * (lower.reduceDepth(x.shape[0], sizeOf(x.shape) / x.shape[0], 1) + 2) + 16,
    lowering: {
      expand: ({ inputs: [x, gamma, beta], attrs }) => elementaryLayerNorm(x, gamma, beta, attrs.eps),
    },
    samples: [
      [1, 2],
      [65, 3],
      [2, 257],
      [5, 7, 3, 5],
      [3, 2, 130],
    ].map((x) => ({
      inputs: [normal(x), vector(x), vector(x)],
      attrs: { eps: 1e-2 },
    })),
    errors: [badVector],
  },
  batchNormSums: {
    summary: 'g, x, moments → [2, channels]: Σg and Σg·x̂, the cotangents of beta and gamma',
    shape: ([g, x, s]) => {
      checkVectors('batchNormSums', x, { stats: s });
      if (showShape(g.shape) !== showShape(x.shape)) {
        throw new ShapeError(`batchNormSums: cotangent ${showShape(g.shape)} for x ${showShape(x.shape)}`);
      }
      return [2, channelsOf(x.shape)];
    },
    vjp: viaExpression(([g, x, s], { attrs }) => elementarySums(g, x, s, attrs.eps)),
    reference: ([g, x, s], { eps }, out) => {
      const c = channelsOf(x.shape);
      g.data.forEach((v, i) => {
        const k = i % c;
        out.data[k] += v;
        out.data[c + k] += (v * (x.data[i] - s.data[k])) / Math.sqrt(s.data[c + k] + eps);
      });
    },
    roundings: (node) => 2 * sumDepth(node.inputs[0]) + 16,
    lowering: {
      kernels: ({ inputs: [, x], attrs }, target) =>
        lower.batchNormSums(rowsOf(x.shape), channelsOf(x.shape), attrs.eps, target),
    },
    samples: samples((x) => [normal(x), normal(x), stats(x)]),
    errors: [{ shapes: [[4, 3], [4, 3], [3]], attrs: { eps: 1e-5 }, message: /stats \[3\]/ }],
  },
  batchNormApplyGrad: {
    summary: "gamma/√(variance + eps)·(g − Σg/n − x̂·Σ(g·x̂)/n): batchNormGrad's last step (g, x, moments, gamma, sums)",
    shape: ([, x, s, gamma, sums]) => {
      checkVectors('batchNormApplyGrad', x, { stats: s, gamma, sums });
      return x.shape;
    },
    vjp: viaExpression(([g, x, s, gamma, sums], { attrs }) => elementaryGrad(g, x, s, gamma, sums, attrs.eps)),
    reference: ([g, x, s, gamma, sums], { eps }, out) => {
      const c = channelsOf(x.shape);
      const n = rowsOf(x.shape);
      g.data.forEach((v, i) => {
        const k = i % c;
        const d = Math.sqrt(s.data[c + k] + eps);
        const hat = (x.data[i] - s.data[k]) / d;
        out.data[i] = (gamma.data[k] / d) * (v - sums.data[k] / n - (hat * sums.data[c + k]) / n);
      });
    },
    roundings: () => 32,
    lowering: {
      kernels: ({ shape, attrs }) => lower.batchNormApplyGrad(rowsOf(shape), channelsOf(shape), attrs.eps),
    },
    samples: samples((x) => [normal(x), normal(x), stats(x), vector(x), { ...stats(x), draw: 'normal' }]),
    errors: [
      { shapes: [[4, 3], [4, 3], [2, 3], [3], [3]], attrs: { eps: 1e-5 }, message: /sums \[3\] for 3 channels/ },
    ],
  },
} satisfies Record<string, Op>;
