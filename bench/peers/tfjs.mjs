/** TensorFlow.js: `node tfjs.mjs FILE [webgpu|cpu]`, FILE from ours.ts. */
import './dawn.mjs';
import { readFileSync } from 'node:fs';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
// Only with the layers are gradients and the methods of tensors registered.
import '@tensorflow/tfjs-layers';
import { attempt, eps, numbers, pieces, slope, slopesIn, strides } from './pieces.mjs';

const [file, backend = 'webgpu'] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(file, 'utf8'));
await tf.setBackend(backend);
await tf.ready();
console.error(`tfjs ${tf.version_core}, ${tf.getBackend()}`);

const conv = ({ x, filter }) => tf.conv2d(x, filter, strides, 'same');
const transposed = ({ x, filter }) => tf.conv2dTranspose(x, filter, [4, 8, 8, 4], strides, 'same');
const primitives = {
  // The gradient of the op itself goes through Greater, which has none; Step has one, of zeros.
  leakyRelu: (x) => tf.mul(x, tf.add(tf.mul(tf.step(x), 1 - slope), slope)),
  norm: (x, gamma, beta) => {
    const mean = tf.mean(x, [0, 1, 2], true);
    const apart = tf.sub(x, mean);
    const variance = tf.mean(tf.mul(apart, apart), [0, 1, 2], true);
    return tf.add(tf.mul(tf.div(apart, tf.sqrt(tf.add(variance, eps))), gamma), beta);
  },
};
const ops = {
  leakyRelu: (x) => tf.leakyRelu(x, slope),
  norm: (x, gamma, beta) => {
    const { mean, variance } = tf.moments(x, [0, 1, 2]);
    return tf.batchNorm(x, mean, variance, beta, gamma, eps);
  },
};
const outputs = ({ leakyRelu, norm }) => ({
  conv2d: conv,
  conv2dTranspose: transposed,
  batchNorm: ({ x, gamma, beta }) => norm(x, gamma, beta),
  leakyRelu: ({ x }) => leakyRelu(x),
  dense: ({ x, weights, offset }) => tf.add(tf.matMul(x, weights), offset),
  critic: (inputs) => {
    const features = leakyRelu(norm(tf.add(conv(inputs), inputs.bias), inputs.gamma, inputs.beta));
    return tf.add(tf.matMul(tf.reshape(features, [4, 64]), inputs.weights), inputs.offset);
  },
  generator: (inputs) => leakyRelu(norm(tf.add(transposed(inputs), inputs.bias), inputs.gamma, inputs.beta)),
});

for (const [piece, specs] of Object.entries(pieces)) {
  const names = Object.keys(specs);
  const values = names.map((name) => tf.tensor(numbers(specs[name]), specs[name].shape));
  const named = (list) => Object.fromEntries(names.map((name, i) => [name, list[i]]));
  const same = ['conv2d', 'conv2dTranspose', 'dense'].includes(piece);
  for (const [variant, kit] of same ? [['op', ops]] : Object.entries({ op: ops, primitives })) {
    // A gradient in what a value does not depend on is an error here, not zero; nothing of everything is added.
    const all =
      (scalar) =>
      (...list) =>
        list.reduce((total, v) => tf.add(total, tf.mul(tf.sum(v), 0)), scalar(...list));
    const score = (...list) => tf.sum(tf.mul(outputs(kit)[piece](named(list)), named(list).c));
    const penalty =
      (wanted) =>
      (...list) => {
        const slopes = tf.grad((v) => score(...list.map((w, i) => (names[i] === wanted ? v : w))))(named(list)[wanted]);
        const squares = tf.sum(tf.reshape(tf.mul(slopes, slopes), [wanted === 'x' ? 4 : 1, -1]), 1);
        return tf.mean(tf.square(tf.sub(tf.sqrt(tf.add(squares, 1e-8)), 1)));
      };
    const scalars = { first: score };
    for (const [order, wanted] of Object.entries(slopesIn(piece))) scalars[order] = penalty(wanted);
    for (const [order, scalar] of Object.entries(scalars)) {
      await attempt(`tfjs ${backend}`, piece, order, variant, expected[`${piece} ${order}`], async () => {
        const gradients = tf.tidy(() => tf.grads(all(scalar))(values));
        const data = [];
        for (const g of gradients) data.push([...(await g.data())]);
        tf.dispose(gradients);
        return named(data);
      });
    }
  }
}
process.exit(0);
