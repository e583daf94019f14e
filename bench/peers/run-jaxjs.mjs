/** jax-js on Dawn, as a child of run.mjs. Steps are compiled whole (`jit`), as its users would. */
import './dawn.mjs';
import { digest, inputsOf, serve } from './child.mjs';
import { critic, generator, samePadding } from './nets.mjs';
import { numbers } from './pieces.mjs';

const {
  blockUntilReady,
  defaultDevice,
  grad,
  init,
  jit,
  lax,
  nn,
  numpy: np,
  tree,
  valueAndGrad,
  vjp,
} = await import('@jax-js/jax');
// Its WebAssembly, which computes the same thing rightly, shows whose fault a wrong result is.
const device = process.env.JAXJS_DEVICE ?? 'webgpu';
await init(device);
defaultDevice(device);
const array = (spec) => np.array(numbers(spec)).reshape(spec.shape);
const sizeOf = (shape) => shape.reduce((n, d) => n * d, 1);

// Arrays are counted: `.ref` wherever one is used again. Images are [n,c,h,w] here, filters [out,in,kh,kw].
const first = (x) => np.transpose(x, [0, 3, 1, 2]);
const last = (x) => np.transpose(x, [0, 2, 3, 1]);
const conv = (x, f, { strides, padding }) =>
  lax.convGeneralDilated(x, np.transpose(f, [3, 2, 0, 1]), [...strides], padding);
/** Of what comes in with zeros between, by the filter turned round: [kh,kw,out,in] to [out,in,kh,kw]. */
const transposed = (x, f, { strides, padding, size, kernel }) => {
  const around = padding.map(([before], i) => {
    const start = kernel[i] - 1 - before;
    const inside = (x.shape[2 + i] - 1) * strides[i] + 1;
    return [start, size[i] + kernel[i] - 1 - inside - start];
  });
  const turned = np.flip(np.transpose(f, [2, 3, 0, 1]), [2, 3]);
  return lax.convGeneralDilated(x, turned, [1, 1], around, { lhsDilation: [...strides] });
};
const channels = (v) => v.reshape([1, sizeOf(v.shape), 1, 1]);
const shaped = (x, v) => (x.ndim === 4 ? channels(v) : v);
const norm = (x, gamma, beta, eps) => {
  const axes = x.ndim === 4 ? [0, 2, 3] : [0];
  const [g, b] = [shaped(x, gamma), shaped(x, beta)];
  const apart = x.ref.sub(np.mean(x, axes, { keepdims: true }));
  const variance = np.mean(np.square(apart.ref), axes, { keepdims: true });
  return apart
    .div(np.sqrt(variance.add(eps)))
    .mul(g)
    .add(b);
};
const kit = {
  dense: (x, w, b) => np.matmul(x, w).add(b),
  image: (x, [h, w, c]) => first(x.reshape([x.shape[0], h, w, c])),
  cells: last,
  features: (x) => {
    const [n, ...rest] = x.shape;
    return last(x).reshape([n, sizeOf(rest)]);
  },
  conv: (x, f, b, o) => conv(x, f, o).add(channels(b)),
  transposed: (x, f, b, o) => transposed(x, f, o).add(channels(b)),
  norm,
  normalise: (x, [mean, variance], gamma, beta, eps) => {
    const [m, v, g, b] = [mean, variance, gamma, beta].map((a) => shaped(x, a));
    return x
      .sub(m)
      .div(np.sqrt(v.add(eps)))
      .mul(g)
      .add(b);
  },
  leakyRelu: (x, slope) => (slope === 0 ? nn.relu(x) : nn.leakyRelu(x, slope)),
  sigmoid: (x) => nn.sigmoid(x),
};

const entries = (names, f) => Object.fromEntries(names.map((name) => [name, f(name)]));
/** Parameters and moments after one update with gradients g; t counts from 1. */
function updated(o, { p, m, v }, g, t, clip) {
  const names = Object.keys(p);
  const next = { p: {}, m: {}, v: {} };
  for (const name of names) {
    const beta2 = o.name === 'adam' ? o.beta2 : o.rho;
    next.v[name] = v[name].mul(beta2).add(np.square(g[name].ref).mul(1 - beta2));
    let change;
    if (o.name === 'adam') {
      next.m[name] = m[name].mul(o.beta1).add(g[name].mul(1 - o.beta1));
      const right = (moment, beta) => moment.ref.div(np.subtract(1, np.power(beta, t.ref)));
      change = right(next.m[name], o.beta1 || 1e-30).div(np.sqrt(right(next.v[name], beta2)).add(o.eps));
    } else {
      next.m[name] = m[name];
      change = g[name].div(np.sqrt(next.v[name].ref).add(o.eps));
    }
    next.p[name] = p[name].sub(change.mul(o.learningRate));
    if (clip) next.p[name] = np.clip(next.p[name], -clip, clip);
  }
  t.dispose?.();
  return next;
}

function step(c) {
  const { config } = c;
  const { eps } = config.batchNorm;
  const inputs = Object.fromEntries(Object.entries(inputsOf(c)).map(([name, spec]) => [name, array(spec)]));
  const states = Object.fromEntries(
    Object.entries(c.parameters).map(([name, specs]) => {
      const zeros = () => Object.fromEntries(specs.map((s) => [s.name, np.zeros(s.shape)]));
      return [name, { p: Object.fromEntries(specs.map((s) => [s.name, array(s)])), m: zeros(), v: zeros() }];
    }),
  );
  const judge = (p, x) => critic(kit, config.critic, eps, p, x);
  const make = (p, noise) => generator(kit, config.generator, eps, p, noise);
  const learning = (o, loss, clip) =>
    jit((state, t, ...rest) => {
      const [value, g] = valueAndGrad(loss)(tree.ref(state.p), ...rest);
      return { value, state: updated(o, state, g, t, clip) };
    });
  let t = 0;
  let once;
  const time = (n) => np.array(Float32Array.of(n)).reshape([]);
  if (config.model === 'ae') {
    const learn = learning(config.optimiser, (p, x) => {
      const code = critic(kit, config.encoder, eps, tree.ref(p), x.ref, { prefix: 'encoder.' });
      const y = generator(kit, config.decoder, eps, p, code, { prefix: 'decoder.' });
      const both = x.ref.mul(y.ref).sum();
      return both.mul(-2).div(x.sum().add(y.sum()));
    });
    once = () => {
      const { value, state } = learn(states.autoencoder, time(++t), inputs.real0.ref);
      states.autoencoder = state;
      return { loss: value };
    };
  } else {
    const { constraint, criticSteps } = config;
    const apart = config.critic.norm !== 'none';
    const criticLoss = (p, real, fake, share) => {
      let loss;
      if (apart)
        loss = judge(tree.ref(p), fake.ref)
          .mean()
          .sub(judge(tree.ref(p), real.ref).mean());
      else {
        const both = judge(tree.ref(p), np.concatenate([real.ref, fake.ref], 0));
        const sign = np.array(Float32Array.from({ length: 2 * c.batch }, (_, i) => (i < c.batch ? -1 : 1) / c.batch));
        loss = both.mul(sign.reshape([2 * c.batch, 1])).sum();
      }
      if (constraint.name !== 'gradientPenalty') return loss;
      const between = real.ref.add(share.reshape([c.batch, 1, 1, 1]).mul(fake.sub(real)));
      const slopes = grad((x) => judge(p, x).sum())(between);
      const norms = np.sqrt(np.square(slopes).reshape([c.batch, 680]).sum(1).add(1e-8));
      return loss.add(np.square(norms.sub(1)).mean().mul(constraint.lambda));
    };
    const generate = jit(make);
    const learnCritic = learning(config.criticOptimiser, criticLoss, constraint.clip);
    const learnGenerator = learning(config.generatorOptimiser, (p, criticParameters, noise) =>
      judge(criticParameters, make(p, noise)).mean().mul(-1),
    );
    once = () => {
      let total;
      t++;
      for (let k = 0; k < criticSteps; k++) {
        const fake = generate(tree.ref(states.generator.p), inputs[`noise${k}`].ref);
        const share = inputs[`share${k}`]?.ref ?? np.zeros([1]);
        total?.dispose?.();
        const done = learnCritic(
          states.critic,
          time((t - 1) * criticSteps + k + 1),
          inputs[`real${k}`].ref,
          fake,
          share,
        );
        states.critic = done.state;
        total = done.value;
      }
      const done = learnGenerator(states.generator, time(t), tree.ref(states.critic.p), inputs.noise.ref);
      states.generator = done.state;
      return { critic: total, generator: done.value };
    };
  }
  const run = async () => {
    const losses = once();
    const values = {};
    for (const [name, loss] of Object.entries(losses)) values[name] = (await loss.data())[0];
    return values;
  };
  return { run, results: async () => ({ losses: [await run(), await run()] }) };
}

/** Something that is computed again and again without state. */
const again = (f, inputs) => {
  const compiled = jit(f);
  const compute = () => compiled(tree.ref(inputs));
  return {
    run: async (finish) => {
      const made = compute();
      if (finish) await blockUntilReady(tree.ref(made));
      tree.dispose(made);
    },
    results: async () => {
      const found = {};
      for (const [name, t] of Object.entries(compute())) found[name] = digest(await t.data());
      return found;
    },
    drop: () => tree.dispose(inputs),
  };
};

function generate(c) {
  const inputs = {
    noise: array(inputsOf(c).noise),
    parameters: Object.fromEntries(c.parameters.map((spec) => [spec.name, array(spec)])),
    running: c.running.map(({ spec }) => {
      const both = numbers(spec);
      const half = spec.shape[1];
      return [np.array(both.slice(0, half)), np.array(both.slice(half))];
    }),
  };
  return again(
    ({ noise, parameters, running }) => ({
      cells: generator(kit, c.config.generator, c.config.batchNorm.eps, parameters, noise, { running }),
    }),
    inputs,
  );
}

function op(c) {
  const inputs = Object.fromEntries(Object.entries(inputsOf(c)).map(([name, spec]) => [name, array(spec)]));
  const { x: image, strides, kernel, filters } = c.conv ?? {};
  const o = c.conv && { strides, kernel, size: image.slice(0, 2), padding: samePadding(image, kernel, strides) };
  const convolved = (x, f) => last(conv(first(x), f, o));
  const value = {
    matmul: ({ x, w }) => np.matmul(x, w),
    conv2d: ({ x, filter }) => convolved(x, filter),
    conv2dTranspose: ({ x, filter }) => last(transposed(first(x), filter, o)),
    batchNorm: ({ x, gamma, beta }) => last(norm(first(x), gamma, beta, 1e-5)),
    conv2dWeightGrad: ({ x, y }) => grad((f) => convolved(x, f).mul(y).sum())(np.zeros([...kernel, image[2], filters])),
  }[c.op];
  return again(({ cotangent, ...leaves }) => {
    if (!cotangent) return { value: value(leaves) };
    const [y, back] = vjp(value, [leaves]);
    const [gradients] = back(cotangent);
    return { value: y, ...entries(Object.keys(leaves), (name) => gradients[name]) };
  }, inputs);
}

await serve((c) => (c.kind === 'step' ? step(c) : c.kind === 'generate' ? generate(c) : op(c)), { version: '0.1.25' });
