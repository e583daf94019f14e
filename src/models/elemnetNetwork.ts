/**
 * ElemNet (Jha et al., Scientific Reports 8:17593, 2018): a property of a compound, such as its formation energy per atom, from the
 * fractions of its elements and nothing else. The paper's network is seventeen fully connected layers; the `residual` one adds what helps.
 */
import * as b from '../autograd/build.ts';
import type { Graph, Node } from '../autograd/graph.ts';
import { elementCount } from '../chem/encoding.ts';
import type { ElemNetConfig } from './config.ts';
import { ParameterSet } from './layers.ts';
import { targetsOf } from './table.ts';
import type { StateVariable } from './training.ts';

export const streams = { rows: 0, initial: 1, firstMask: 16 };
/** Zeroes a share of x's elements; `draw` tells the masks of one step apart. */
export type Dropout = (x: Node, draw: number, rate: number) => Node;

export interface Member {
  /** Fractions [n, 85] → what goes into the rest [n, width]. */
  first(fractions: Node, weights: readonly Node[]): Node;
  /** → one number a row [n, 1], in deviations of the training targets from their mean. */
  rest(x: Node, weights: readonly Node[], dropout: Dropout): Node;
  /** Where `first` is a bias and a part of each element by itself: indices of its parameters. */
  sums?: { bias: number; linear: number; bumps?: number };
}

export interface ElemNet {
  parameters: ParameterSet;
  members: readonly Member[];
}

/** All members over one parameter set, so that one optimiser dispatch updates them. */
export function elemNet({ network, members }: Pick<ElemNetConfig, 'network' | 'members'>): ElemNet {
  const parameters = new ParameterSet();
  const names = Array.from({ length: members }, (_, m) => (members === 1 ? '' : `member${m}.`));
  return {
    parameters,
    members: names.map((prefix) =>
      network.kind === 'plain'
        ? plainMember(network.blocks, parameters, prefix)
        : residualMember(network, parameters, prefix),
    ),
  };
}

type Layer = (x: Node, weights: readonly Node[]) => Node;
type Dense = Layer & { weights: number; bias: number };

/** A fully connected layer. @param deviation of the initial weights; He's for ReLU unless said */
function dense(
  parameters: ParameterSet,
  name: string,
  inputs: number,
  outputs: number,
  deviation = Math.sqrt(2 / inputs),
): Dense {
  const w = parameters.add(`${name}.weights`, [inputs, outputs], { deviation });
  const bias = parameters.add(`${name}.bias`, [outputs], { constant: 0 });
  const layer: Layer = (x, weights) => b.add(b.dense(x, weights[w]), weights[bias]);
  return Object.assign(layer, { weights: w, bias });
}

type Blocks = Extract<ElemNetConfig['network'], { kind: 'plain' }>['blocks'];

/** ElemNet as published: ReLU after every layer but the last, dropout after blocks of layers. */
function plainMember(blocks: Blocks, parameters: ParameterSet, prefix: string): Member {
  let width: number = elementCount;
  const layers = blocks.flatMap(({ units, layers, keep }) =>
    Array.from({ length: layers }, (_, i) => {
      // A row's fractions sum to 1 over about three elements: its first layer needs wider weights to keep the variance.
      const first = width === elementCount;
      const layer = dense(parameters, `${prefix}dense${units}.${i}`, width, units, first ? Math.SQRT2 : undefined);
      width = units;
      return { layer, rate: i === layers - 1 ? 1 - keep : 0 };
    }),
  );
  const out = dense(parameters, `${prefix}out`, width, 1, Math.sqrt(1 / width));
  return {
    first: (fractions) => fractions,
    rest: (fractions, weights, dropout) => {
      let x = fractions;
      layers.forEach(({ layer, rate }, i) => {
        x = b.relu(layer(x, weights));
        if (rate > 0) x = dropout(x, i, rate);
      });
      return out(x, weights);
    },
  };
}

type Residual = Extract<ElemNetConfig['network'], { kind: 'residual' }>;

/** Blocks x + f(x) over a first layer that also sees bumps over each fraction, and mean and variance of learned element vectors. */
function residualMember(config: Residual, parameters: ParameterSet, prefix: string): Member {
  const { width, blocks, hidden, norm, dropout: rate, bumps, embedding } = config;
  const first = dense(parameters, `${prefix}fractions`, elementCount, width, 1);
  const onBumps =
    bumps.length > 0
      ? parameters.add(`${prefix}bumps.weights`, [elementCount * bumps.length, width], { deviation: 0.3 })
      : undefined;
  const vectors =
    embedding > 0
      ? {
          elements: parameters.add(`${prefix}elements`, [elementCount, embedding], { deviation: 0.5 }),
          mean: parameters.add(`${prefix}mean.weights`, [embedding, width], { deviation: 1 / Math.sqrt(embedding) }),
          variance: parameters.add(`${prefix}variance.weights`, [embedding, width], {
            deviation: 1 / Math.sqrt(embedding),
          }),
        }
      : undefined;
  const normed = (name: string): Layer => {
    if (norm === 'none') return (x) => x;
    const gamma = parameters.add(`${name}.gamma`, [width], { constant: 1 });
    const beta = parameters.add(`${name}.beta`, [width], { constant: 0 });
    return (x, weights) => b.layerNorm(x, weights[gamma], weights[beta], 1e-5);
  };
  const layers = Array.from({ length: blocks }, (_, i) => ({
    norm: normed(`${prefix}block${i}.norm`),
    down: dense(parameters, `${prefix}block${i}.in`, width, hidden),
    // Blocks start as little more than the identity: the deeper the network, the less each adds.
    up: dense(parameters, `${prefix}block${i}.out`, hidden, width, 0.3 / Math.sqrt(hidden)),
  }));
  const lastNorm = normed(`${prefix}norm`);
  const out = dense(parameters, `${prefix}out`, width, 1, Math.sqrt(0.1 / width));
  return {
    first: (fractions, weights) => {
      // Each kind of input has weights of its own: a sum of products is the product of what stands side by side.
      let x = first(fractions, weights);
      if (onBumps !== undefined) x = b.add(x, b.dense(bumpsOver(fractions, bumps), weights[onBumps]));
      if (!vectors) return x;
      const elements = weights[vectors.elements];
      const mean = b.dense(fractions, elements);
      const variance = b.sub(b.dense(fractions, b.square(elements)), b.square(mean));
      return b.add(x, b.add(b.dense(mean, weights[vectors.mean]), b.dense(variance, weights[vectors.variance])));
    },
    rest: (start, weights, dropout) => {
      let x = start;
      layers.forEach(({ norm, down, up }, i) => {
        const h = b.relu(down(norm(x, weights), weights));
        x = b.add(x, up(rate > 0 ? dropout(h, i, rate) : h, weights));
      });
      return out(b.relu(lastNorm(x, weights)), weights);
    },
    sums: vectors ? undefined : { bias: first.bias, linear: first.weights, bumps: onBumps },
  };
}

/** Fractions [n, 85] → [n, 85·k]: for each element there is, exp(−((f − at)/width)²) at each of k places; 0 for the others. */
function bumpsOver(fractions: Node, bumps: Residual['bumps']): Node {
  const [n] = fractions.shape;
  const { graph } = fractions;
  const row = (values: readonly number[]): Node =>
    b.reshape(b.concat(values.map((value) => b.fill(graph, value, [1]))), [1, 1, values.length]);
  const x = b.reshape(fractions, [n, elementCount, 1]);
  const there = b.leakyReluGrad(x, b.fill(graph, 1, x.shape), 0);
  const away = b.mul(b.sub(x, row(bumps.map(({ at }) => at))), row(bumps.map(({ width }) => 1 / width)));
  return b.reshape(b.mul(b.exp(b.neg(b.square(away))), there), [n, elementCount * bumps.length]);
}

/** Mean and deviation of the training targets: constant, and saved with the model. */
export function targetVariable(graph: Graph): StateVariable {
  return {
    node: graph.variable('elemnet.target', [2]),
    initial: (rows) => {
      if (!rows || !('values' in rows)) return Float32Array.of(0, 1);
      const targets = targetsOf(rows);
      const mean = targets.reduce((sum, value) => sum + value / targets.length, 0);
      const variance = targets.reduce((sum, value) => sum + (value - mean) ** 2 / targets.length, 0);
      // Targets that are all the same have none.
      return Float32Array.of(mean, Math.sqrt(variance) || 1);
    },
  };
}

/** What turns the members' spread into an uncertainty; set whenever the run measures. */
export const calibrationVariable = (graph: Graph): StateVariable => ({
  node: graph.variable('elemnet.calibration', [2]),
  initial: () => Float32Array.of(0, 1),
});
