/** TensorFlow.js on Dawn, as a child of run.mjs. */
import './dawn.mjs';
import '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
// Only with the layers are gradients and the methods of tensors registered.
import '@tensorflow/tfjs-layers';
import { digest, inputsOf, serve } from './child.mjs';
import { critic, generator } from './nets.mjs';
import { numbers } from './pieces.mjs';

await tf.setBackend('webgpu');
await tf.ready();
const tensor = (spec) => tf.tensor(numbers(spec), spec.shape);
const data = async (t) => (await t.data()).slice();
/** Waits for what was computed last, and so for all before it, by reading one element of it. */
const finished = async (made) => {
  const last = Object.values(made).at(-1);
  const one = tf.tidy(() => tf.slice(tf.reshape(last, [last.size]), [0], [1]));
  await one.data();
  one.dispose();
};

const kit = {
  dense: (x, w, b) => tf.add(tf.matMul(x, w), b),
  image: (x, [h, w, c]) => tf.reshape(x, [x.shape[0], h, w, c]),
  cells: (x) => x,
  features: (x) => tf.reshape(x, [x.shape[0], x.size / x.shape[0]]),
  conv: (x, f, b, { strides }) => tf.add(tf.conv2d(x, f, strides, 'same'), b),
  transposed: (x, f, b, { strides, size }) =>
    tf.add(tf.conv2dTranspose(x, f, [x.shape[0], ...size, f.shape[2]], strides, 'same'), b),
  norm: (x, gamma, beta, eps) => {
    const { mean, variance } = tf.moments(x, [...x.shape.keys()].slice(0, -1));
    return x.rank === 4
      ? tf.batchNorm(x, mean, variance, beta, gamma, eps)
      : plain(x, mean, variance, gamma, beta, eps);
  },
  normalise: (x, [mean, variance], gamma, beta, eps) =>
    x.rank === 4 ? tf.batchNorm(x, mean, variance, beta, gamma, eps) : plain(x, mean, variance, gamma, beta, eps),
  // Its own have gradients without a kernel on WebGPU (ReluGrad, SigmoidGrad) or without a second one (LeakyRelu).
  leakyRelu: (x, slope) => tf.mul(x, slope === 0 ? tf.step(x) : tf.add(tf.mul(tf.step(x), 1 - slope), slope)),
  sigmoid: (x) => tf.div(1, tf.add(1, tf.exp(tf.neg(x)))),
};
const plain = (x, mean, variance, gamma, beta, eps) =>
  tf.add(tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, eps))), gamma), beta);

let networks = 0;
const variables = (specs) => {
  const id = networks++;
  return Object.fromEntries(specs.map((spec) => [spec.name, tf.variable(tensor(spec), true, `${id}.${spec.name}`)]));
};
const optimiserOf = (o) => {
  if (o.name === 'adam') return tf.train.adam(o.learningRate, o.beta1, o.beta2, o.eps);
  return tf.train.rmsprop(o.learningRate, o.rho, 0, o.eps);
};

function step(c) {
  const { config } = c;
  const { eps } = config.batchNorm;
  const inputs = Object.fromEntries(Object.entries(inputsOf(c)).map(([name, spec]) => [name, tensor(spec)]));
  const nets = Object.fromEntries(Object.entries(c.parameters).map(([name, specs]) => [name, variables(specs)]));
  const lists = Object.fromEntries(Object.entries(nets).map(([name, net]) => [name, Object.values(net)]));
  const optimisers = {};
  for (const name of Object.keys(nets)) {
    optimisers[name] = optimiserOf(name === 'autoencoder' ? config.optimiser : config[`${name}Optimiser`]);
  }
  const learn = (name, loss) => {
    const { value, grads } = tf.variableGrads(loss, lists[name]);
    optimisers[name].applyGradients(grads);
    return value;
  };
  const once = () => {
    if (config.model === 'ae') {
      const loss = learn('autoencoder', () => {
        const x = inputs.real0;
        const code = critic(kit, config.encoder, eps, nets.autoencoder, x, { prefix: 'encoder.' });
        const y = generator(kit, config.decoder, eps, nets.autoencoder, code, { prefix: 'decoder.' });
        return tf.div(tf.mul(tf.sum(tf.mul(x, y)), -2), tf.add(tf.sum(x), tf.sum(y)));
      });
      return { loss };
    }
    const judge = (x) => critic(kit, config.critic, eps, nets.critic, x);
    const make = (noise) => generator(kit, config.generator, eps, nets.generator, noise);
    const apart = config.critic.norm !== 'none';
    let total;
    for (let k = 0; k < config.criticSteps; k++) {
      const real = inputs[`real${k}`];
      const fake = make(inputs[`noise${k}`]);
      total = learn('critic', () => {
        const [onReal, onFake] = apart ? [judge(real), judge(fake)] : tf.split(judge(tf.concat([real, fake])), 2);
        const loss = tf.sub(tf.mean(onFake), tf.mean(onReal));
        if (config.constraint.name !== 'gradientPenalty') return loss;
        const share = tf.reshape(inputs[`share${k}`], [-1, 1, 1, 1]);
        const between = tf.add(real, tf.mul(share, tf.sub(fake, real)));
        const slopes = tf.grad((x) => tf.sum(judge(x)))(between);
        const norms = tf.sqrt(tf.add(tf.sum(tf.mul(slopes, slopes), [1, 2, 3]), 1e-8));
        return tf.add(loss, tf.mul(tf.mean(tf.square(tf.sub(norms, 1))), config.constraint.lambda));
      });
      if (config.constraint.name === 'clipping') {
        const { clip } = config.constraint;
        for (const v of lists.critic) v.assign(tf.clipByValue(v, -clip, clip));
      }
    }
    const made = learn('generator', () => tf.neg(tf.mean(judge(make(inputs.noise)))));
    return { critic: total, generator: made };
  };
  const run = async () => {
    const losses = tf.tidy(once);
    const values = {};
    for (const [name, loss] of Object.entries(losses)) values[name] = (await loss.data())[0];
    tf.dispose(losses);
    return values;
  };
  return {
    run,
    results: async () => ({ losses: [await run(), await run()] }),
    drop: () => {
      tf.dispose([inputs, lists]);
      for (const o of Object.values(optimisers)) o.dispose();
    },
  };
}

function generate(c) {
  const parameters = Object.fromEntries(c.parameters.map((spec) => [spec.name, tensor(spec)]));
  const running = c.running.map(({ spec }) => tf.unstack(tensor(spec)));
  const noise = tensor(inputsOf(c).noise);
  const cells = () =>
    tf.tidy(() => generator(kit, c.config.generator, c.config.batchNorm.eps, parameters, noise, { running }));
  return once(cells, async (t) => ({ cells: digest(await data(t)) }), [parameters, running, noise]);
}

/** Something that is computed again and again without state. */
const once = (compute, results, inputs) => ({
  run: async (last) => {
    const made = compute();
    if (last) await finished(made instanceof tf.Tensor ? { made } : made);
    tf.dispose(made);
  },
  results: async () => {
    const made = compute();
    const found = await results(made);
    tf.dispose(made);
    return found;
  },
  drop: () => tf.dispose(inputs),
});

function op(c) {
  const inputs = Object.fromEntries(Object.entries(inputsOf(c)).map(([name, spec]) => [name, tensor(spec)]));
  const { cotangent, ...leaves } = inputs;
  const names = Object.keys(leaves);
  const { strides, x: image } = c.conv ?? {};
  if (c.op === 'conv2dWeightGrad') throw new Error('it has no gradient of Conv2DBackpropFilter');
  const value = {
    matmul: ({ x, w }) => tf.matMul(x, w),
    conv2d: ({ x, filter }) => tf.conv2d(x, filter, strides, 'same'),
    conv2dTranspose: ({ x, filter }) => tf.conv2dTranspose(x, filter, [c.batch, ...image], strides, 'same'),
    batchNorm: ({ x, gamma, beta }) => kit.norm(x, gamma, beta, 1e-5),
  }[c.op];
  const compute = () =>
    tf.tidy(() => {
      if (!cotangent) return { value: value(leaves) };
      const f = (...list) => value(Object.fromEntries(names.map((name, i) => [name, list[i]])));
      const { value: y, grads } = tf.valueAndGrads(f)(Object.values(leaves), cotangent);
      return { value: y, ...Object.fromEntries(names.map((name, i) => [name, grads[i]])) };
    });
  const results = async (made) => {
    const found = {};
    for (const [name, t] of Object.entries(made)) found[name] = digest(await data(t));
    return found;
  };
  return once(compute, results, inputs);
}

await serve((c) => (c.kind === 'step' ? step(c) : c.kind === 'generate' ? generate(c) : op(c)), {
  version: tf.version_core,
});
