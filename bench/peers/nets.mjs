/**
 * The presets' networks over a kit of a framework's ops. Tensors are [n,h,w,c] or [n,features]; a kit may keep images
 * as it likes between `image` and `features`.
 *
 * A kit: dense(x, w, b), image(x, [h,w,c]), features(x), conv(x, f, b, {strides, padding, size}),
 * transposed(x, f, b, {strides, padding, size}), norm(x, gamma, beta, eps), normalise(x, moments, gamma, beta, eps),
 * leakyRelu(x, slope), sigmoid(x).
 */

/** TensorFlow's SAME: ⌈size/stride⌉ outputs, the odd zero at the end. */
export const samePadding = (size, kernel, strides) =>
  [0, 1].map((i) => {
    const total = Math.max(0, (Math.ceil(size[i] / strides[i]) - 1) * strides[i] + kernel[i] - size[i]);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  });

function layersOf(kit, parameters, { activation, eps }, running) {
  let norms = 0;
  return {
    norm: (x, kind, name) => {
      if (kind === 'none') return x;
      if (kind !== 'batch') throw new Error(`norm ${kind} is not written for peers`);
      const [gamma, beta] = [parameters[`${name}.gamma`], parameters[`${name}.beta`]];
      if (running) return kit.normalise(x, running[norms++], gamma, beta, eps);
      return kit.norm(x, gamma, beta, eps);
    },
    activate: (x) => kit.leakyRelu(x, activation === 'relu' ? 0 : activation.leakyRelu),
  };
}

/** Latent [n, latent] → cells [n,85,8,1]; `running`: moments of each norm [mean, variance], for inference. */
export function generator(kit, config, eps, parameters, x, { prefix = '', running } = {}) {
  const { norm, activate } = layersOf(kit, parameters, { ...config, eps }, running);
  const p = (name) => parameters[prefix + name];
  let y = kit.dense(x, p('head.weights'), p('head.bias'));
  y = kit.image(activate(norm(y, config.norm, `${prefix}headNorm`)), config.head);
  config.layers.forEach((layer, i) => {
    const padding = samePadding(layer.size, layer.kernel, layer.strides);
    y = kit.transposed(y, p(`transposed${i}.filter`), p(`transposed${i}.bias`), { ...layer, padding });
    if (i < config.layers.length - 1) y = activate(norm(y, layer.norm ?? config.norm, `${prefix}norm${i}`));
  });
  return kit.cells(kit.sigmoid(y));
}

/** Cells [n,85,8,1] → [n, outputs]. */
export function critic(kit, config, eps, parameters, x, { prefix = '' } = {}) {
  const { norm, activate } = layersOf(kit, parameters, { ...config, eps });
  const p = (name) => parameters[prefix + name];
  let size = [85, 8];
  let y = kit.image(x, [85, 8, 1]);
  config.layers.forEach((layer, i) => {
    const padding = samePadding(size, layer.kernel, layer.strides);
    y = kit.conv(y, p(`conv${i}.filter`), p(`conv${i}.bias`), { ...layer, padding });
    y = activate(norm(y, layer.norm ?? config.norm, `${prefix}norm${i}`));
    size = size.map((n, a) => Math.ceil(n / layer.strides[a]));
  });
  return kit.dense(kit.features(y), p('out.weights'), p('out.bias'));
}
