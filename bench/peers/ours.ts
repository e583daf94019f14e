/**
 * This project's row, and the values that the peers are held against: `npx tsx bench/peers/ours.ts FILE` writes the f64
 * reference's to FILE.
 */
import { writeFileSync } from 'node:fs';
import * as b from '../../src/autograd/build.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { runOnce } from '../../src/autograd/gradcheck.ts';
import { type Node, sizeOf, type Value } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { attempt, eps, numbers, pieces, slope, slopesIn, strides } from './pieces.mjs';

type Named = Record<string, Node>;
const conv = ({ x, filter }: Named): Node => {
  const padding = b.samePadding([8, 8], [3, 3], strides);
  return b.conv2d(x, filter, { strides, padding });
};
const transposed = ({ x, filter }: Named): Node => {
  const padding = b.samePadding([8, 8], [3, 3], strides);
  return b.conv2dInputGrad(x, filter, { strides, padding, size: [8, 8] });
};
const norm = (x: Node, { gamma, beta }: Named): Node => b.batchNorm(x, gamma, beta, eps);
const outputs: Record<string, (inputs: Named) => Node> = {
  conv2d: conv,
  conv2dTranspose: transposed,
  batchNorm: (inputs) => norm(inputs.x, inputs),
  leakyRelu: ({ x }) => b.leakyRelu(x, slope),
  dense: ({ x, weights, offset }) => b.add(b.dense(x, weights), offset),
  critic: (inputs) => {
    const features = b.leakyRelu(norm(b.add(conv(inputs), inputs.bias), inputs), slope);
    return b.add(b.dense(b.reshape(features, [4, 64]), inputs.weights), inputs.offset);
  },
  generator: (inputs) => b.leakyRelu(norm(b.add(transposed(inputs), inputs.bias), inputs), slope),
};

const gpu = new GpuExecutor(await openDevice());
const expected: Record<string, Record<string, number[]>> = {};
for (const [piece, specs] of Object.entries(pieces)) {
  const graph = newGraph();
  const values = new Map<Node, Value>();
  const inputs: Named = {};
  for (const [name, spec] of Object.entries(specs)) {
    inputs[name] = graph.variable(name, spec.shape);
    values.set(inputs[name], { shape: spec.shape, data: Float64Array.from(numbers(spec)) });
  }
  const score = b.sum(b.mul(outputs[piece](inputs), inputs.c));
  const scalars: Named = { first: score };
  for (const [order, name] of Object.entries(slopesIn(piece))) {
    const [slopes] = grad(score, [inputs[name]]);
    scalars[order] = b.gradientPenalty(name === 'x' ? slopes : b.reshape(slopes, [1, sizeOf(slopes.shape)]));
  }
  for (const [order, scalar] of Object.entries(scalars)) {
    const gradients = grad(scalar, Object.values(inputs));
    const byName = (data: readonly ArrayLike<number>[]): Record<string, number[]> =>
      Object.fromEntries(Object.keys(inputs).map((name, i) => [name, [...Array.from(data[i])]]));
    const exact = evaluate(gradients, (node) => values.get(node)!);
    expected[`${piece} ${order}`] = byName(exact.map(({ data }) => data));
    await attempt('ours', piece, order, 'op', expected[`${piece} ${order}`], async () =>
      byName(await runOnce(gpu, gradients, values)),
    );
  }
}
gpu.destroy();
writeFileSync(process.argv[2], JSON.stringify(expected));
