/** How large a configuration's networks are, before anything is made for them. */
import { ConfigError } from '../errors.ts';
import type { Config, CriticConfig, ElemNetConfig, GeneratorConfig } from './config.ts';

export interface NetworkSize {
  /** Trainable numbers. */
  parameters: number;
  /** Numbers that the layers make from one row. */
  activations: number;
  layers: number;
}

const cells = 85 * 8;

/**
 * What a configuration may ask for, several times the largest preset: 33.6 million trainable numbers, 4 GiB of activations
 * for one pass of a batch through both networks, and layers times critic steps that are a graph within a second.
 */
export const limits = { parameters: 2 ** 25, activations: 2 ** 30, layers: 512 };

/** Widths of fully connected layers, one after the other. */
function denseSize(widths: readonly number[], norm: boolean): NetworkSize {
  let [parameters, activations] = [0, 0];
  for (let i = 1; i < widths.length; i++) {
    const hidden = i < widths.length - 1;
    parameters += (widths[i - 1] + 1 + (norm && hidden ? 2 : 0)) * widths[i];
    activations += widths[i];
  }
  return { parameters, activations, layers: widths.length - 1 };
}

/** Of a generator or decoder, latent vector to cells; what `generatorNetwork` makes. */
export function generatorSize(config: GeneratorConfig): NetworkSize {
  const norm = config.norm !== 'none';
  if (config.kind === 'dense') {
    const size = denseSize([config.latent, ...config.hidden, cells], norm);
    if (config.draft) size.parameters += cells * (config.hidden[0] ?? 0);
    return size;
  }
  const [h, w, c] = config.head;
  let activations = h * w * c;
  let parameters = (config.latent + 1 + (norm ? 2 : 0)) * activations;
  let channels = c;
  config.layers.forEach(({ filters, kernel, size, norm: own }, i) => {
    const last = i === config.layers.length - 1;
    parameters += (kernel[0] * kernel[1] * channels + 1) * filters;
    if (!last && (own ?? config.norm) !== 'none') parameters += 2 * filters;
    activations += size[0] * size[1] * filters;
    channels = filters;
  });
  return { parameters, activations, layers: config.layers.length + 1 };
}

/** Of a critic (1 output) or encoder, cells to outputs; what `criticNetwork` makes. */
export function criticSize(config: CriticConfig, outputs = 1): NetworkSize {
  if (config.kind === 'dense') {
    const size = denseSize([cells, ...config.hidden, outputs], config.norm !== 'none');
    if (config.sizeInput !== undefined) size.parameters += config.hidden[0] ?? outputs;
    return size;
  }
  let [h, w, channels] = [85, 8, 1];
  let [parameters, activations] = [0, 0];
  for (const { filters, kernel, strides, norm: own } of config.layers) {
    parameters += (kernel[0] * kernel[1] * channels + 1) * filters;
    if ((own ?? config.norm) !== 'none') parameters += 2 * filters;
    [h, w, channels] = [Math.ceil(h / strides[0]), Math.ceil(w / strides[1]), filters];
    activations += h * w * channels;
  }
  const width = h * w * channels;
  return {
    parameters: parameters + (width + 1) * outputs,
    activations: activations + outputs,
    layers: config.layers.length + 1,
  };
}

/** Of all members of an ElemNet; what `elemNet` makes. */
export function elemNetSize({ network, members }: ElemNetConfig): NetworkSize {
  const size = network.kind === 'plain' ? plainSize(network) : residualSize(network);
  const [parameters, activations] = [members * size.parameters, members * size.activations];
  return { parameters, activations, layers: members * size.layers };
}

const plainSize = ({ blocks }: Extract<ElemNetConfig['network'], { kind: 'plain' }>): NetworkSize =>
  denseSize([85, ...blocks.flatMap(({ units, layers }) => Array<number>(layers).fill(units)), 1], false);

function residualSize(network: Extract<ElemNetConfig['network'], { kind: 'residual' }>): NetworkSize {
  const { width, blocks, hidden, bumps, embedding, norm } = network;
  const norms = norm === 'none' ? 0 : 2 * width * (blocks + 1);
  const first = (85 + 1 + 85 * bumps.length + 2 * embedding) * width + 85 * embedding;
  const inner = blocks * ((width + 1) * hidden + (hidden + 1) * width);
  return {
    parameters: first + inner + norms + width + 1,
    activations: (85 + 1) * (bumps.length + 1) + 4 * embedding + width + blocks * (2 * width + hidden) + 1,
    layers: 2 * blocks + 2,
  };
}

/** A configuration's networks: what they are called, and how large each is. */
function sizesOf(config: Config): readonly [names: string, sizes: readonly NetworkSize[]] {
  switch (config.model) {
    case 'gan':
      return ['generator and critic', [generatorSize(config.generator), criticSize(config.critic)]];
    case 'ae':
      return [
        'encoder and decoder',
        [criticSize(config.encoder, config.decoder.latent), generatorSize(config.decoder)],
      ];
    case 'filter':
      // Cells, elements, their atoms and the number of elements come in; real and generated rows go through side by side.
      return ['filter', [denseSize([cells + 85 + 85 + 1, ...config.hidden, 1], false)]];
    case 'elemnet':
      return ['members', [elemNetSize(config)]];
  }
}

/**
 * Refuses a configuration that no machine should be asked to make, by arithmetic alone. A checkpoint of a few bytes or a
 * short file of settings can name networks of any size.
 * @param batch rows at a time, the configuration's own unless said
 * @throws ConfigError naming the bound and the settings that count
 */
export function checkSize(config: Config, source: string, batch = config.batch): void {
  const [names, sizes] = sizesOf(config);
  const total = (of: (size: NetworkSize) => number): number => sizes.reduce((sum, size) => sum + of(size), 0);
  const refuse = (what: string, n: number, most: number, remedy: string): never => {
    throw new ConfigError(`${source}: ${names}: ${what} are ${n}, over the bound of ${most}; ${remedy}`);
  };
  const parameters = total((size) => size.parameters);
  if (parameters > limits.parameters) {
    refuse(
      'trainable numbers',
      parameters,
      limits.parameters,
      'use fewer filters, narrower layers or a smaller latent',
    );
  }
  const activations = batch * total((size) => size.activations);
  if (activations > limits.activations) {
    refuse(`activations of ${batch} rows`, activations, limits.activations, 'use a smaller batch or narrower layers');
  }
  const steps = config.model === 'gan' ? config.criticSteps : 1;
  const layers = steps * total((size) => size.layers);
  if (layers > limits.layers) {
    refuse('layers times criticSteps', layers, limits.layers, 'use fewer layers or criticSteps');
  }
}
