/**
 * The gradient penalty of WGAN-GP: its gradient in the weights is a second derivative of the critic. For a critic of
 * convolutions, dense layers and leaky ReLU it needs nothing but the convolution triad, dense and leakyReluGrad.
 */
import { describe, expect, it } from 'vitest';
import { add, conv2d, dense, gradientPenalty, leakyRelu, reshape, samePadding, sum } from '../../src/autograd/build.ts';
import { expandOps } from '../../src/autograd/compile.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { runOnce } from '../../src/autograd/gradcheck.ts';
import { type Node, sizeOf, topological, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { describeGpu } from '../gpu.ts';

/** Two strided convolutions and a dense layer on [3,11,8,1], leaky ReLU 0.2 between them. */
function critic() {
  const graph = newGraph();
  const x = graph.variable('x', [3, 11, 8, 1]);
  const weights = [
    graph.variable('f1', [3, 3, 1, 4]),
    graph.variable('b1', [4]),
    graph.variable('f2', [5, 5, 4, 6]),
    graph.variable('b2', [6]),
    graph.variable('w', [3 * 4 * 6, 1]),
  ];
  const [f1, b1, f2, b2, w] = weights;
  const layer = (input: Node, f: Node, b: Node): Node => {
    const strides = [2, f === f1 ? 1 : 2] as const;
    const padding = samePadding([input.shape[1], input.shape[2]], [f.shape[0], f.shape[1]], strides);
    return leakyRelu(add(conv2d(input, f, { strides, padding }), b), 0.2);
  };
  const features = layer(layer(x, f1, b1), f2, b2);
  const score = dense(reshape(features, [3, sizeOf(features.shape) / 3]), w);
  const slope = grad(sum(score), [x])[0];
  const penalty = gradientPenalty(slope);
  const values = new Map<Node, Value>(
    [x, ...weights].map((node, i) => {
      const random = new Stream(12, i);
      const size = node === x ? 1 : 0.5;
      return [
        node,
        {
          shape: node.shape,
          data: Float64Array.from({ length: sizeOf(node.shape) }, () => Math.fround(size * random.normal())),
        },
      ];
    }),
  );
  return { weights, penalty, gradients: grad(penalty, weights), values };
}

describe('gradient penalty of a convolutional critic', () => {
  it('its gradient in every weight equals central differences', () => {
    const { weights, penalty, gradients, values } = critic();
    const at = (): number => evaluate([penalty], (node) => values.get(node)!)[0].data[0];
    const analytic = evaluate(gradients, (node) => values.get(node)!);
    const h = 1e-6;
    weights.forEach((weight, k) => {
      const { data } = values.get(weight)!;
      const scale = Math.max(1e-6, ...analytic[k].data.map(Math.abs));
      for (let i = 0; i < data.length; i += Math.max(1, Math.floor(data.length / 40))) {
        const original = data[i];
        data[i] = original + h;
        const up = at();
        data[i] = original - h;
        const down = at();
        data[i] = original;
        expect(
          Math.abs((up - down) / (2 * h) - analytic[k].data[i]) / scale,
          `${weight.attrs.name}[${i}]`,
        ).toBeLessThan(1e-6);
      }
    });
    // The biases only move kinks: where nothing crosses one, the slope does not depend on them.
    expect(analytic[1].data.every((v) => v === 0)).toBe(true);
    expect(analytic[0].data.every((v) => v !== 0)).toBe(true);
  });

  it('needs only the triad, dense and leaky ReLU of the linear ops', () => {
    const { gradients } = critic();
    const used = new Set(topological(expandOps(gradients)).map(({ op }) => op));
    for (const op of ['conv2d', 'conv2dInputGrad', 'conv2dWeightGrad', 'dense', 'leakyReluGrad'])
      expect(used).toContain(op);
    expect([...used].filter((op) => /norm|moments|sigmoid|Grad$/i.test(op)).sort()).toEqual([
      'conv2dInputGrad',
      'conv2dWeightGrad',
      'leakyReluGrad',
    ]);
  });
});

describeGpu('gradient penalty on the GPU', () => {
  it('equals the reference', async () => {
    const gpu = new GpuExecutor(await openDevice(), { poison: true });
    try {
      const { penalty, gradients, values } = critic();
      const nodes = [penalty, ...gradients];
      const expected = evaluate(nodes, (node) => values.get(node)!);
      const actual = await runOnce(gpu, nodes, values);
      const depth = topological(expandOps(nodes)).reduce(
        (total, node) => total + (node.graph.ops[node.op]?.roundings(node) ?? 0),
        0,
      );
      nodes.forEach((_, i) => {
        const difference = Math.hypot(...expected[i].data.map((v, k) => v - actual[i][k]));
        expect(difference).toBeLessThanOrEqual(depth * 2 ** -24 * Math.hypot(...expected[i].data));
      });
    } finally {
      gpu.destroy();
    }
  });
});
