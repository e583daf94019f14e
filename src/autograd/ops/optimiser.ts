import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { type Attrs, type Op, type Sample, showShape, sizeOf, type Value } from '../graph.ts';

/** Number of this update, and the learning rate that the linear decay leaves of it. */
function rate(step: Value, a: Attrs): { t: number; learningRate: number } {
  const t = step.data[0] * a.every + a.offset + 1;
  const left = a.decayTo <= a.decayFrom ? 1 : (a.decayTo - t) / (a.decayTo - a.decayFrom);
  return { t, learningRate: a.learningRate * Math.min(1, Math.max(0, left)) };
}
const clipped = (w: number, clip: number): number => (clip > 0 ? Math.min(clip, Math.max(-clip, w)) : w);

function optimiser(
  name: 'adam' | 'rmsProp' | 'sgd',
  summary: string,
  parts: number,
  own: Attrs,
  betas: (a: Attrs) => { beta1: number; beta2: number; eps: number },
  reference: Op['reference'],
): Op {
  const schedules = [
    { learningRate: 1e-3, decayFrom: 0, decayTo: 0, every: 1, offset: 0, clip: 0 },
    { learningRate: 0.05, decayFrom: 10, decayTo: 40, every: 5, offset: 2, clip: 0.5 },
  ];
  return {
    summary,
    inputTypes: ['f32', 'f32', 'u32'],
    shape: ([state, gradient, step]) => {
      const size = sizeOf(gradient.shape);
      if (showShape(state.shape) !== `[${parts},${size}]` || gradient.shape.length !== 1 || sizeOf(step.shape) !== 2) {
        throw new ShapeError(
          `${name}: state ${showShape(state.shape)}, gradient ${showShape(gradient.shape)}, step ${showShape(step.shape)}; it takes [${parts},p], [p], [2]`,
        );
      }
      return state.shape;
    },
    vjp: { none: 'an update of parameters is the end of a graph' },
    reference,
    // Moments of one sign (mean square) are drawn positive; a difference of like numbers loses a few bits.
    roundings: () => 64,
    lowering: {
      inPlace: 0,
      kernels: (node) => lower.optimiser(name, sizeOf(node.inputs[1].shape), { ...node.attrs, ...betas(node.attrs) }),
    },
    samples: [
      [1, 0],
      [65, 0],
      [257, 5],
    ].flatMap(([size, step]) =>
      schedules.map(
        (schedule): Sample => ({
          inputs: [
            { shape: [parts, size], draw: 'positive' },
            { shape: [size], draw: 'normal' },
            { shape: [2], values: [step, 0], dtype: 'u32' },
          ],
          attrs: { ...schedule, ...own },
        }),
      ),
    ),
    errors: [{ shapes: [[1, 3], [3], [2]], attrs: { ...schedules[0], ...own }, message: /state \[1,3\]/ }],
  };
}

export const optimisers = {
  adam: optimiser(
    'adam',
    'Adam (Kingma and Ba 2015) over state [3,p] (weights, moments), gradient [p], step [2] u32, in place',
    3,
    { beta1: 0.5, beta2: 0.9, eps: 1e-8 },
    ({ beta1, beta2, eps }) => ({ beta1, beta2, eps }),
    ([state, gradient, step], a, out) => {
      const p = gradient.data.length;
      const { t, learningRate } = rate(step, a);
      for (let i = 0; i < p; i++) {
        const g = gradient.data[i];
        const m = a.beta1 * state.data[p + i] + (1 - a.beta1) * g;
        const v = a.beta2 * state.data[2 * p + i] + (1 - a.beta2) * g * g;
        const update = m / (1 - a.beta1 ** t) / (Math.sqrt(v / (1 - a.beta2 ** t)) + a.eps);
        out.data[i] = clipped(state.data[i] - learningRate * update, a.clip);
        out.data[p + i] = m;
        out.data[2 * p + i] = v;
      }
    },
  ),
  rmsProp: optimiser(
    'rmsProp',
    'RMSProp over state [2,p] (weights, mean square), gradient [p], step [2] u32, in place',
    2,
    { rho: 0.9, eps: 1e-8 },
    ({ rho, eps }) => ({ beta1: rho, beta2: 0, eps }),
    ([state, gradient, step], a, out) => {
      const p = gradient.data.length;
      const { learningRate } = rate(step, a);
      for (let i = 0; i < p; i++) {
        const g = gradient.data[i];
        const v = a.rho * state.data[p + i] + (1 - a.rho) * g * g;
        out.data[i] = clipped(state.data[i] - (learningRate * g) / (Math.sqrt(v) + a.eps), a.clip);
        out.data[p + i] = v;
      }
    },
  ),
  sgd: optimiser(
    'sgd',
    'gradient descent with momentum over state [2,p] (weights, velocity), gradient [p], step [2] u32, in place',
    2,
    { momentum: 0.9 },
    ({ momentum }) => ({ beta1: momentum, beta2: 0, eps: 0 }),
    ([state, gradient, step], a, out) => {
      const p = gradient.data.length;
      const { learningRate } = rate(step, a);
      for (let i = 0; i < p; i++) {
        const v = a.momentum * state.data[p + i] + gradient.data[i];
        out.data[i] = clipped(state.data[i] - learningRate * v, a.clip);
        out.data[p + i] = v;
      }
    },
  ),
  ema: {
    summary: 'average·decay + value·(1 − decay), over the memory of the average',
    shape: ([average, value]) => {
      if (showShape(average.shape) !== showShape(value.shape)) {
        throw new ShapeError(`ema: average ${showShape(average.shape)} of ${showShape(value.shape)}`);
      }
      return average.shape;
    },
    vjp: { none: 'an update of state is the end of a graph' },
    reference: ([average, value], { decay }, out) => {
      average.data.forEach((v, i) => {
        out.data[i] = decay * v + (1 - decay) * value.data[i];
      });
    },
    roundings: () => 8,
    lowering: { kernels: (node) => lower.ema(sizeOf(node.shape), node.attrs.decay), inPlace: 0 },
    samples: [
      {
        inputs: [
          { shape: [65], draw: 'normal' },
          { shape: [65], draw: 'normal' },
        ],
        attrs: { decay: 0.9 },
      },
    ],
    errors: [{ shapes: [[2], [3]], attrs: { decay: 0.9 }, message: /average \[2\] of \[3\]/ }],
  },
} satisfies Record<string, Op>;
