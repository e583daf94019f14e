/** Networks as functions from nodes to nodes, over one flat vector of parameters. */
import * as b from '../autograd/build.ts';
import { alignment } from '../autograd/compile.ts';
import { indexOf, type Node, type Shape, showShape, sizeOf } from '../autograd/graph.ts';
import type { Stream } from '../autograd/philox.ts';
import { ConfigError } from '../errors.ts';
import type { ActivationConfig, CriticConfig, GeneratorConfig, NormKind } from './config.ts';

/** Height and width of a formula's matrix: elements and counts. */
const matrix: readonly [number, number] = [85, 8];

export interface Parameter {
  name: string;
  shape: Shape;
  /** Place in the flat vector, elements; a multiple of the device's alignment. */
  offset: number;
  initial: Initial;
}

/** Standard deviation of the initial weights, the constant that they start from, or logits of training's frequencies. */
type Initial = { deviation: number } | { constant: number } | 'frequencies';

/** The parameters of one network, side by side in a flat vector, so that an optimiser is one dispatch. */
export class ParameterSet {
  readonly list: Parameter[] = [];
  /** Elements of the flat vector, padding included. */
  size = 0;
  /** Channels of each batch norm, in order: their running moments lie side by side as well. */
  readonly norms: { channels: number; offset: number }[] = [];
  runningSize = 0;

  add(name: string, shape: Shape, initial: Initial): number {
    this.list.push({ name, shape, offset: this.size, initial });
    this.size += Math.ceil(sizeOf(shape) / alignment) * alignment;
    return this.list.length - 1;
  }

  addNorm(channels: number): number {
    this.norms.push({ channels, offset: this.runningSize });
    this.runningSize += Math.ceil((2 * channels) / alignment) * alignment;
    return this.norms.length - 1;
  }

  /** Trainable numbers, without padding. */
  get count(): number {
    return this.list.reduce((total, { shape }) => total + sizeOf(shape), 0);
  }

  /** Initial weights, the same for the same stream; `logits` for the parameter that starts from frequencies. */
  initialise(random: Stream, logits?: ArrayLike<number>): Float32Array {
    const data = new Float32Array(this.size);
    for (const { shape, offset, initial } of this.list) {
      const end = offset + sizeOf(shape);
      for (let i = offset; i < end; i++) {
        if (initial === 'frequencies') data[i] = logits?.[i - offset] ?? 0;
        else data[i] = 'constant' in initial ? initial.constant : random.normal() * initial.deviation;
      }
    }
    return data;
  }

  /** Initial running moments: mean 0, variance 1. */
  initialRunning(): Float32Array {
    const data = new Float32Array(Math.max(1, this.runningSize));
    for (const { channels, offset } of this.norms) data.fill(1, offset + channels, offset + 2 * channels);
    return data;
  }

  /** Nodes of all parameters, views of a flat vector (or of the first row of an optimiser's state). */
  views(flat: Node): Node[] {
    return this.list.map(({ name, offset, shape }) => flat.graph.within(name, () => b.view(flat, offset, shape), true));
  }

  /** The parameter that an element of the flat vector belongs to, and its index there; undefined in the padding. */
  at(element: number): { name: string; index: number[] } | undefined {
    const found = this.list.find(({ offset, shape }) => element >= offset && element < offset + sizeOf(shape));
    return found && { name: found.name, index: indexOf(element - found.offset, found.shape) };
  }

  /** Gradients side by side as the parameters are. */
  pack(gradients: readonly Node[]): Node {
    return b.pack(
      gradients,
      this.list.map(({ offset }) => offset),
      this.size,
    );
  }
}

/** How batch norm works in a pass: with the batch's own moments, which it notes down, or with running ones. */
export type NormMode = { train: true; seen: (Node | undefined)[] } | { train: false; running: Node };

export interface Pass {
  /** Cells of the formulas that the network changes, [n, 85, 8, 1], for a generator that takes drafts. */
  drafts?: Node;
  /** Values for the network's further inputs; worked out from x where they are not given. */
  extras?: readonly Node[];
  weights: readonly Node[];
  norm: NormMode;
  eps: number;
}

/** One network: its parameters, and the function that it computes. */
export interface Network {
  parameters: ParameterSet;
  /** Further inputs worked out from the cells x; a gradient penalty counts them as inputs of their own. */
  extras(x: Node): Node[];
  apply(x: Node, pass: Pass): Node;
}

type Layer = (x: Node, pass: Pass) => Node;

/** Collects layers and their parameters. */
class Builder {
  readonly parameters: ParameterSet;
  private readonly prefix: string;
  private readonly layers: { name: string; layer: Layer }[] = [];
  private readonly initial: 'he' | 'normal';
  private readonly activation: ActivationConfig;

  constructor(initial: 'he' | 'normal', activation: ActivationConfig, parameters: ParameterSet, prefix: string) {
    this.parameters = parameters;
    this.prefix = prefix;
    this.initial = initial;
    this.activation = activation;
  }

  /** He's deviation keeps the variance of activations from layer to layer: gain √2 for ReLU, less for leaky ReLU. */
  private deviation(fanIn: number, linear = false): { deviation: number } {
    if (this.initial === 'normal') return { deviation: 1 };
    const slope = this.activation === 'relu' ? 0 : this.activation.leakyRelu;
    return { deviation: Math.sqrt((linear ? 1 : 2 / (1 + slope * slope)) / fanIn) };
  }

  /** @param share of the deviation that the weights start with */
  dense(
    name: string,
    inputs: number,
    outputs: number,
    last = false,
    start: number | 'frequencies' = 0,
    share = 1,
  ): void {
    const { deviation } = this.deviation(inputs, last);
    const w = this.parameters.add(`${this.prefix}${name}.weights`, [inputs, outputs], { deviation: share * deviation });
    const initial = start === 'frequencies' ? start : { constant: start };
    const bias = this.parameters.add(`${this.prefix}${name}.bias`, [outputs], initial);
    this.step(name, (x, { weights }) => b.add(b.dense(x, weights[w]), weights[bias]));
  }

  /** A dense layer on two inputs: x, and the cells of drafts. */
  denseWithDrafts(name: string, inputs: number, outputs: number, drafts: { inputs: number; set: number }): void {
    const [own, other] = (
      [
        ['weights', inputs, inputs],
        ['draftWeights', drafts.inputs, drafts.set],
      ] as const
    ).map(([what, rows, set]) =>
      this.parameters.add(`${this.prefix}${name}.${what}`, [rows, outputs], this.deviation(2 * set)),
    );
    const bias = this.parameters.add(`${this.prefix}${name}.bias`, [outputs], { constant: 0 });
    this.step(name, (x, pass) => {
      const cells = b.reshape(pass.drafts!, [x.shape[0], drafts.inputs]);
      const both = b.add(b.dense(x, pass.weights[own]), b.dense(cells, pass.weights[other]));
      return b.add(both, pass.weights[bias]);
    });
  }

  conv(name: string, size: readonly [number, number], channels: number, l: Conv): void {
    const [kh, kw] = l.kernel;
    const f = this.parameters.add(
      `${this.prefix}${name}.filter`,
      [kh, kw, channels, l.filters],
      this.deviation(kh * kw * channels),
    );
    const bias = this.parameters.add(`${this.prefix}${name}.bias`, [l.filters], { constant: 0 });
    const padding = b.samePadding(size, l.kernel, l.strides);
    this.step(name, (x, { weights }) => b.add(b.conv2d(x, weights[f], { strides: l.strides, padding }), weights[bias]));
  }

  /** Transposed convolution: the adjoint of the convolution from `size` (what it makes) to what comes in. */
  transposed(name: string, size: readonly [number, number], channels: number, l: Conv, last: boolean): void {
    const [kh, kw] = l.kernel;
    // Each output element meets the taps that its phase leaves.
    const fanIn = (kh * kw * channels) / (l.strides[0] * l.strides[1]);
    const f = this.parameters.add(
      `${this.prefix}${name}.filter`,
      [kh, kw, l.filters, channels],
      this.deviation(fanIn, last),
    );
    const bias = this.parameters.add(`${this.prefix}${name}.bias`, [l.filters], { constant: 0 });
    const padding = b.samePadding(size, l.kernel, l.strides);
    this.step(name, (x, { weights }) =>
      b.add(b.conv2dInputGrad(x, weights[f], { strides: l.strides, padding, size }), weights[bias]),
    );
  }

  norm(kind: NormKind, name: string, channels: number): void {
    if (kind === 'none') return;
    const gamma = this.parameters.add(`${this.prefix}${name}.gamma`, [channels], { constant: 1 });
    const beta = this.parameters.add(`${this.prefix}${name}.beta`, [channels], { constant: 0 });
    if (kind === 'layer') {
      this.step(name, (x, { weights, eps }) => b.layerNorm(x, weights[gamma], weights[beta], eps));
      return;
    }
    const k = this.parameters.addNorm(channels);
    const { offset } = this.parameters.norms[k];
    this.step(name, (x, { weights, norm, eps }) => {
      if (norm.train) {
        norm.seen[k] = b.moments(x);
        return b.batchNorm(x, weights[gamma], weights[beta], eps);
      }
      return b.normalise(x, b.view(norm.running, offset, [2, channels]), weights[gamma], weights[beta], eps);
    });
  }

  activate(): void {
    const { activation } = this;
    this.step('activation', (x) => (activation === 'relu' ? b.relu(x) : b.leakyRelu(x, activation.leakyRelu)));
  }

  /** Adds a layer; what it traces is named after it. */
  step(name: string, layer: Layer): void {
    this.layers.push({ name: `${this.prefix}${name}`, layer });
  }

  network(): Network {
    const { parameters, layers } = this;
    const apply: Network['apply'] = (x, pass) =>
      layers.reduce((y, { name, layer }) => y.graph.within(name, () => layer(y, pass)), x);
    return { parameters, extras: () => [], apply };
  }
}

interface Conv {
  filters: number;
  kernel: readonly [number, number];
  strides: readonly [number, number];
}

const ceilings = ([h, w]: readonly [number, number], [sh, sw]: readonly [number, number]): [number, number] => [
  Math.ceil(h / sh),
  Math.ceil(w / sw),
];

/**
 * Generator or decoder: latent [n, latent] → cells [n, 85, 8, 1] in (0, 1).
 * Its parameters join `parameters`, named with `prefix`, so that two networks can share one optimiser.
 * @throws ConfigError where the layers' sizes don't follow from their strides, or don't end at 85×8×1
 */
export function generatorNetwork(config: GeneratorConfig, parameters = new ParameterSet(), prefix = ''): Network {
  const net = new Builder(config.initial, config.activation, parameters, prefix);
  const last = [-1, ...matrix, 1].slice(1);
  if (config.kind === 'dense') {
    const { draft } = config;
    let width = config.latent;
    // The latent vector and the draft, which sets about three cells, give half of the first layer's variance each.
    const beside = draft && { inputs: matrix[0] * matrix[1], set: 3 };
    config.hidden.forEach((units, i) => {
      if (i === 0 && beside) net.denseWithDrafts(`dense${i}`, width, units, beside);
      else net.dense(`dense${i}`, width, units);
      net.norm(config.norm, `norm${i}`, units);
      net.activate();
      width = units;
    });
    net.dense('out', width, matrix[0] * matrix[1], true, config.outputBias, draft && 0.1);
    net.step('reshape', (x) => b.reshape(x, [x.shape[0], ...last]));
    if (draft) {
      // An element's states are its counts and "absent", whose logit is 0: a draft that has the element raises its count's logit, one
      // that has not lowers all of them.
      net.step('draft', (x, { drafts }) => {
        const present = b.sum(drafts!, [2], true);
        return b.add(x, b.scale(b.add(drafts!, present), draft.strength, -draft.strength));
      });
    }
  } else {
    const [h, w, c] = config.head;
    net.dense('head', config.latent, h * w * c);
    net.norm(config.norm, 'headNorm', h * w * c);
    net.activate();
    net.step('reshape', (x) => b.reshape(x, [x.shape[0], h, w, c]));
    let size: readonly [number, number] = [h, w];
    let channels = c;
    config.layers.forEach((layer, i) => {
      const from = ceilings(layer.size, layer.strides);
      if (from[0] !== size[0] || from[1] !== size[1]) {
        throw new ConfigError(
          `generator.layers.${i}: strides ${showShape(layer.strides)} lead to ${showShape(layer.size)} from ${showShape(from)}, but ${showShape(size)} comes in`,
        );
      }
      const end = i === config.layers.length - 1;
      net.transposed(`transposed${i}`, layer.size, channels, layer, end);
      if (!end) {
        net.norm(layer.norm ?? config.norm, `norm${i}`, layer.filters);
        net.activate();
      }
      size = layer.size;
      channels = layer.filters;
    });
    if (showShape([...size, channels]) !== showShape(last)) {
      throw new ConfigError(
        `generator.layers: they end at ${showShape([...size, channels])}, not at ${showShape(last)}`,
      );
    }
  }
  // Softmax is along the counts; the cells' last axis is the single channel.
  const { output } = config;
  if (output === 'sigmoid') net.step('sigmoid', (x) => b.sigmoid(x));
  else {
    const temperature = output === 'softmax' ? 1 : output.softmax;
    net.step('softmax', (x) => {
      const rows = b.reshape(b.scale(x, 1 / temperature), [x.shape[0] * matrix[0], matrix[1]]);
      return b.reshape(b.absentSoftmax(rows), x.shape);
    });
  }
  return net.network();
}

/** Critic (outputs 1) or encoder (outputs latent): cells [n, 85, 8, 1] → [n, outputs], no activation at the end. */
export function criticNetwork(
  config: CriticConfig,
  outputs = 1,
  parameters = new ParameterSet(),
  prefix = '',
): Network {
  const net = new Builder(config.initial, config.activation, parameters, prefix);
  let width: number;
  let extras: Network['extras'] = () => [];
  if (config.kind === 'dense') {
    const cells = matrix[0] * matrix[1];
    width = cells;
    net.step('reshape', (x) => b.reshape(x, [x.shape[0], cells]));
    const { sizeInput, hidden } = config;
    [...hidden, outputs].forEach((units, i) => {
      const last = i === hidden.length;
      net.dense(last ? 'out' : `dense${i}`, width, units, last);
      if (i === 0 && sizeInput !== undefined) {
        // One more row of the first layer's weights, kept apart: the cells need no copy to stand beside the size.
        const row = net.parameters.add(`${prefix}size.weights`, [1, units], { deviation: Math.sqrt(2 / cells) });
        net.step('size', (x, pass) => b.add(x, b.dense(pass.extras![0], pass.weights[row])));
        extras = (x) => [b.scale(b.sum(b.reshape(x, [x.shape[0], cells]), [1], true), sizeInput)];
      }
      if (last) return;
      net.norm(config.norm, `norm${i}`, units);
      net.activate();
      width = units;
    });
  } else {
    let size: readonly [number, number] = matrix;
    let channels = 1;
    config.layers.forEach((layer, i) => {
      net.conv(`conv${i}`, size, channels, layer);
      net.norm(layer.norm ?? config.norm, `norm${i}`, layer.filters);
      net.activate();
      size = ceilings(size, layer.strides);
      channels = layer.filters;
    });
    width = size[0] * size[1] * channels;
    net.step('reshape', (x) => b.reshape(x, [x.shape[0], width]));
    net.dense('out', width, outputs, true);
  }
  const network = net.network();
  return {
    ...network,
    extras,
    apply: (x, pass) => network.apply(x, { ...pass, extras: pass.extras ?? extras(x) }),
  };
}
