import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { add, div, mean, mul, neg, scale, sqrt, square, sub, sum } from '../build.ts';
import { viaExpression } from '../grad.ts';
import { type Node, type Op, type Shape, showShape, sizeOf } from '../graph.ts';

type Build = (inputs: readonly Node[]) => Node;

/** An op that is an expression: its kernels and its gradient are the expression's. */
function composite(
  row: Pick<Op, 'summary' | 'shape' | 'reference' | 'roundings' | 'samples' | 'errors'>,
  build: Build,
): Op {
  return { ...row, vjp: viaExpression(build), lowering: { expand: (node) => build(node.inputs) } };
}

const dice: Build = ([a, b]) => div(scale(sum(mul(a, b)), -2), add(sum(a), sum(b)));
const batchRows = (x: Node): number[] => x.shape.slice(1).map((_, axis) => axis + 1);
/** √(1e-8 + Σg²): the constant keeps the root differentiable where the critic is flat. */
const slopeOffset = 1e-8;
const penalty: Build = (parts) => {
  const squares = parts.map((g) => sum(square(g), batchRows(g))).reduce(add);
  return mean(square(scale(sqrt(scale(squares, 1, slopeOffset)), 1, -1)));
};

const normal = (shape: Shape) => ({ shape, draw: 'normal' as const });
const depth = (node: Node): number => lower.reduceDepth(1, sizeOf(node.inputs[0].shape), 1) + 4;

function equalShapes(name: string, [a, b]: readonly Node[]): Shape {
  if (showShape(a.shape) !== showShape(b.shape)) {
    throw new ShapeError(`${name}: ${showShape(a.shape)} against ${showShape(b.shape)}`);
  }
  return [];
}

export const loss = {
  diceLoss: composite(
    {
      summary: '−2·(A·B)/(ΣA + ΣB) over the whole tensors, a scalar: the negative Dice coefficient',
      shape: (inputs) => equalShapes('diceLoss', inputs),
      reference: ([a, b], _attrs, out) => {
        let both = 0;
        let all = 0;
        a.data.forEach((v, i) => {
          both += v * b.data[i];
          all += v + b.data[i];
        });
        out.data[0] = (-2 * both) / all;
      },
      roundings: (node) => 2 * depth(node) + 8,
      samples: [[1], [65], [2, 85, 8, 1]].map((shape) => ({
        inputs: [
          { shape, draw: 'unit' },
          { shape, draw: 'unit' },
        ],
      })),
      errors: [{ shapes: [[3], [4]], message: /\[3\] against \[4\]/ }],
    },
    dice,
  ),
  wassersteinCritic: composite(
    {
      summary: 'E[f(fake)] − E[f(real)], a scalar (inputs real, fake)',
      shape: () => [],
      reference: ([real, fake], _attrs, out) => {
        for (const v of fake.data) out.data[0] += v / fake.data.length;
        for (const v of real.data) out.data[0] -= v / real.data.length;
      },
      roundings: (node) => 4 * depth(node),
      samples: [{ inputs: [normal([33, 1]), normal([65, 1])] }, { inputs: [normal([1]), normal([1])] }],
      errors: [],
    },
    ([real, fake]) => sub(mean(fake), mean(real)),
  ),
  wassersteinGenerator: composite(
    {
      summary: '−E[f(fake)], a scalar',
      shape: () => [],
      reference: ([fake], _attrs, out) => {
        for (const v of fake.data) out.data[0] -= v / fake.data.length;
      },
      roundings: (node) => 4 * depth(node),
      samples: [{ inputs: [normal([65, 1])] }, { inputs: [normal([1])] }],
      errors: [],
    },
    ([fake]) => neg(mean(fake)),
  ),
  gradientPenalty: composite(
    {
      summary: 'E[(√(1e-8 + Σg²) − 1)²] over the rows of one or more parts g, a scalar: WGAN-GP without its factor λ',
      shape: (parts) => {
        for (const g of parts) {
          if (g.shape.length < 2) throw new ShapeError(`gradientPenalty: ${showShape(g.shape)} has no batch axis`);
          if (g.shape[0] !== parts[0].shape[0]) {
            throw new ShapeError(
              `gradientPenalty: ${showShape(g.shape)} beside ${showShape(parts[0].shape)}: unequal rows`,
            );
          }
        }
        return [];
      },
      reference: (parts, _attrs, out) => {
        const [batch] = parts[0].shape;
        for (let n = 0; n < batch; n++) {
          let total = slopeOffset;
          for (const { data } of parts) {
            const row = data.length / batch;
            for (let i = 0; i < row; i++) total += data[n * row + i] ** 2;
          }
          out.data[0] += (Math.sqrt(total) - 1) ** 2 / batch;
        }
      },
      roundings: (node) => 4 * depth(node) + 32,
      samples: [
        { inputs: [normal([3, 5])] },
        { inputs: [normal([2, 85, 8, 1])] },
        { inputs: [normal([65, 2])] },
        { inputs: [normal([5, 7]), normal([5, 1])] },
      ],
      errors: [
        { shapes: [[4]], message: /no batch axis/ },
        {
          shapes: [
            [4, 2],
            [3, 1],
          ],
          message: /\[3,1\] beside \[4,2\]: unequal rows/,
        },
      ],
    },
    penalty,
  ),
  absentSoftmax: {
    summary: 'e^x/(1 + Σ e^x) along the last axis: softmax beside an implicit "absent" logit of 0',
    shape: ([x]) => {
      if (x.shape.length < 2) throw new ShapeError(`absentSoftmax: ${showShape(x.shape)} has no axis of states`);
      return x.shape;
    },
    reference: ([x], _attrs, out) => {
      const states = x.shape[x.shape.length - 1];
      for (let base = 0; base < x.data.length; base += states) {
        const row = x.data.subarray(base, base + states);
        const shift = Math.max(0, ...row);
        let total = Math.exp(-shift);
        for (const v of row) total += Math.exp(v - shift);
        row.forEach((v, i) => {
          out.data[base + i] = Math.exp(v - shift) / total;
        });
      }
    },
    vjp: (y, g) => {
      const last = [y.shape.length - 1];
      return [() => mul(y, sub(g, sum(mul(g, y), last, true)))];
    },
    lowering: {
      kernels: ({ shape }) => {
        const states = shape[shape.length - 1];
        return lower.absentSoftmax(sizeOf(shape) / states, states);
      },
    },
    roundings: () => 64,
    samples: [{ inputs: [normal([3, 8])] }, { inputs: [normal([2, 5, 1])] }, { inputs: [normal([65, 3])] }],
    errors: [{ shapes: [[4]], message: /no axis of states/ }],
  },
} satisfies Record<string, Op>;
