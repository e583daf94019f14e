/** The reference and the GPU held against PyTorch's digests: rows for the tests and for docs/agreement.md. */
import * as b from '../../../src/autograd/build.ts';
import { expandOps } from '../../../src/autograd/compile.ts';
import type { GpuExecutor } from '../../../src/autograd/executor.ts';
import { grad } from '../../../src/autograd/grad.ts';
import { compare, runOnce, tolerances } from '../../../src/autograd/gradcheck.ts';
import { type Node, sizeOf, topological, type Value } from '../../../src/autograd/graph.ts';
import { newGraph } from '../../../src/autograd/ops/index.ts';
import { evaluate } from '../../../src/autograd/reference.ts';
import {
  type AeConfig,
  type CriticConfig,
  type GanConfig,
  type GeneratorConfig,
  loadConfig,
} from '../../../src/models/config.ts';
import { criticNetwork, generatorNetwork, type Network, ParameterSet } from '../../../src/models/layers.ts';
import { trainingNorm } from '../../../src/models/training.ts';
import {
  type CriticStep,
  type Digest,
  distance,
  type NetworkCase,
  type OpCase,
  type OptimiserCase,
  scalarDigest,
  tensorOf,
} from './vectors.ts';

export interface Row {
  what: string;
  /** `value`, `gradient`, `second gradient`, `10 steps`, `penalty`. */
  part: string;
  /** Shapes of the worst tensor's own inputs. */
  detail: string;
  /** Reference against PyTorch, both f64, as a share of the norm. */
  reference: number;
  /** GPU against PyTorch, as a share of the norm; what may be; and against the reference in units in the last place of
   * the greatest element (not where all is zero but for round-off). */
  gpu?: number;
  allowed?: number;
  ulp?: number;
}

/** Roundings of everything below a node times the unit round-off. */
const depth = (node: Node): number =>
  topological(expandOps([node])).reduce((total, n) => total + (n.graph.ops[n.op]?.roundings(n) ?? 0), 0) * 2 ** -24;

interface Held {
  node: Node;
  part: string;
  digest: Digest;
}

async function hold(
  what: string,
  detail: string,
  held: readonly Held[],
  values: ReadonlyMap<Node, Value>,
  gpu: GpuExecutor | undefined,
  study?: (nodes: readonly Node[]) => number[],
): Promise<Row[]> {
  const nodes = held.map(({ node }) => node);
  // A gradient that is zero but for round-off is measured against the largest beside it.
  const floor = (part: string): number =>
    Math.max(1e-3, ...held.filter((other) => other.part === part).map(({ digest }) => 1e-4 * digest.norm));
  const exact = evaluate(nodes, (node) => values.get(node)!);
  const actual = gpu && (await runOnce(gpu, nodes, values));
  const spread = gpu && study?.(nodes);
  return held.map(({ part, digest }, i) => {
    const row: Row = { what, part, detail, reference: distance(digest, exact[i].data, floor(part)) };
    if (digest.shape.join() !== nodes[i].shape.join()) row.reference = Infinity;
    if (!actual) return row;
    const scale = floor(part);
    const nothing = digest.norm < scale;
    // Round-off of what cancels is a share of what it cancels in: of the largest gradient, which is 1e4 floors.
    const allowed = spread?.[i] ?? depth(nodes[i]) * (nothing ? 1e4 : 1);
    const ulp = nothing ? undefined : compare(exact[i], actual[i]).ulp;
    return { ...row, gpu: distance(digest, actual[i], scale), allowed, ulp };
  });
}

/** An op's value, gradients and gradients of gradients. */
export function opRows(vector: OpCase, gpu?: GpuExecutor): Promise<Row[]> {
  const graph = newGraph();
  const values = new Map<Node, Value>();
  const leaf = (name: string, shape: readonly number[], spec: Parameters<typeof tensorOf>[0]): Node => {
    const node = graph.variable(name, shape);
    values.set(node, tensorOf(spec));
    return node;
  };
  const inputs = vector.inputs.map((spec, i) => leaf(`x${i}`, spec.shape, spec));
  const output = graph.apply(vector.op, inputs, vector.attrs);
  const hashed = (name: string, like: Node, seed: number): Node =>
    leaf(name, like.shape, { shape: [...like.shape], seed });
  const cotangent = hashed('cotangent', output, 50);
  const first = grad(output, inputs, cotangent);
  const along = inputs.map((input, i) => hashed(`along${i}`, input, 60 + i));
  const scalar = first.map((g, i) => b.sum(b.mul(g, along[i]))).reduce((x, y) => b.add(x, y));
  const second = grad(scalar, [...inputs, cotangent]);
  const held: Held[] = [
    { node: output, part: 'value', digest: vector.output },
    ...first.map((node, i) => ({ node, part: 'gradient', digest: vector.first[i] })),
    ...second.map((node, i) => ({ node, part: 'second gradient', digest: vector.second[i] })),
  ];
  const detail = vector.inputs.map(({ shape }) => `[${shape.join(',')}]`).join(' ');
  const lookUp = (node: Node): Value => values.get(node)!;
  return hold(vector.op, detail, held, values, gpu, (nodes) => tolerances(nodes, lookUp));
}

/** An optimiser's weights after its steps, in f64 without going through f32 between them. */
export async function optimiserRow(vector: OptimiserCase, gpu?: GpuExecutor): Promise<Row> {
  const graph = newGraph();
  const { op, size, steps, attrs, output } = vector;
  const parts = op === 'adam' ? 3 : 2;
  const state = graph.variable('agreement.state', [parts, size]);
  const gradient = graph.variable('agreement.gradient', [size]);
  const counter = graph.variable('agreement.step', [2], 'u32');
  const next = graph.apply(op, [state, gradient, counter], attrs);
  const start = new Float64Array(parts * size);
  start.set(tensorOf({ shape: [size], seed: 20 }).data);
  const gradientAt = (t: number): Value => tensorOf({ shape: [size], seed: 21 + t });

  let now: Value = { shape: state.shape, data: start };
  for (let t = 0; t < steps; t++) {
    const values = new Map<Node, Value>([
      [state, now],
      [gradient, gradientAt(t)],
      [counter, { shape: [2], data: Float64Array.of(t, 0) }],
    ]);
    [now] = evaluate([next], (node) => values.get(node)!);
  }
  const schedule = [attrs.decayTo ? 'rate falls' : '', attrs.clip ? 'clipped' : ''].filter((s) => s).join(', ');
  const weights = { shape: [size], data: now.data.slice(0, size) };
  const row: Row = {
    what: op,
    part: `${steps} steps`,
    detail: schedule || 'plain',
    reference: distance(output, weights.data),
  };
  if (!gpu) return row;
  const plan = await gpu.plan({
    updates: [
      [state, next],
      [counter, b.increment(counter)],
    ],
  });
  gpu.write(state, Float32Array.from(start));
  gpu.write(counter, new Uint32Array(2));
  for (let t = 0; t < steps; t++) {
    gpu.write(gradient, Float32Array.from(gradientAt(t).data));
    plan.run();
  }
  const actual = (await gpu.read(state)).slice(0, size);
  plan.destroy();
  gpu.forget([state, gradient, counter]);
  const allowed = steps * depth(next);
  return { ...row, gpu: distance(output, actual), allowed, ulp: compare(weights, actual).ulp };
}

const gan = (preset: string): GanConfig => loadConfig('gan', { preset }) as GanConfig;

/** A network of the project, and the products of its transposed convolutions' strides. */
interface Named {
  network: Network;
  strides: number[];
}
const ofGenerator = (config: GeneratorConfig): Named => ({
  network: generatorNetwork(config),
  strides: stridesOf(config),
});
const stridesOf = (config: GeneratorConfig): number[] =>
  config.kind === 'conv' ? config.layers.map(({ strides: [h, w] }) => h * w) : [];
const ofCritic = (config: CriticConfig): Named => ({ network: criticNetwork(config), strides: [] });

/** Three narrow layers: enough for the second derivatives of all that a critic is made of. */
const narrow = (norm: 'batch' | 'none'): CriticConfig => ({
  kind: 'conv',
  layers: [
    { filters: 2, kernel: [3, 3], strides: [2, 1] },
    { filters: 4, kernel: [3, 3], strides: [2, 1] },
    { filters: 4, kernel: [5, 5], strides: [4, 2] },
  ],
  norm,
  activation: { leakyRelu: 0.2 },
  initial: 'he',
});

/** The project's own networks, by the names that make.py gives them. */
const named: Record<string, () => Named> = {
  'GAN-ICSD generator': () => ofGenerator(gan('icsd').generator),
  'GAN-ICSD generator, inference': () => ofGenerator(gan('icsd').generator),
  "GAN-ICSD critic, the paper's": () => ofCritic(gan('icsd').critic),
  "GAN-ICSD, the paper's": () => ofCritic(gan('icsd').critic),
  'GAN-ICSD critic, the released': () => ofCritic(gan('icsd-released').critic),
  'GAN-OQMD generator': () => ofGenerator(gan('oqmd-paper').generator),
  'GAN-OQMD critic': () => ofCritic(gan('oqmd-paper').critic),
  narrow: () => ofCritic(narrow('none')),
  'narrow, batch norm': () => ofCritic(narrow('batch')),
  AE: () => {
    const { encoder, decoder } = loadConfig('ae', { preset: 'ae' }) as AeConfig;
    const parameters = new ParameterSet();
    const down = criticNetwork(encoder, decoder.latent, parameters, 'encoder.');
    const up = generatorNetwork(decoder, parameters, 'decoder.');
    return {
      network: { parameters, extras: () => [], apply: (x, pass) => up.apply(down.apply(x, pass), pass) },
      strides: stridesOf(decoder),
    };
  },
};

/** The flat vector of a network's parameters, hashed as make.py does; names and shapes must be the same. */
function hashedWeights({ network: { parameters }, strides }: Named, expected: NetworkCase['parameters']): Float64Array {
  const own = parameters.list.map(({ name, shape }) => ({ name, shape: [...shape] }));
  if (JSON.stringify(own) !== JSON.stringify(expected)) {
    throw new Error(`parameters are ${JSON.stringify(own)}, not ${JSON.stringify(expected)}`);
  }
  const flat = new Float64Array(parameters.size);
  parameters.list.forEach(({ name, shape, offset }, i) => {
    const [kh, kw, a, c] = shape;
    let scale = 0.25;
    if (name.endsWith('weights')) scale = Math.sqrt(6 / shape[0]);
    // √(6/fan-in) of the convolution, and of the taps that a transposed one's phase leaves.
    if (/conv\d+\.filter$/.test(name)) scale = Math.sqrt(6 / (kh * kw * a));
    const transposed = /transposed(\d+)\.filter$/.exec(name);
    if (transposed) scale = Math.sqrt(6 / ((kh * kw * c) / strides[Number(transposed[1])]));
    const shift = name.endsWith('gamma') ? 1 : 0;
    flat.set(tensorOf({ shape: [...shape], seed: 100 + i, scale, shift }).data, offset);
  });
  return flat;
}

/** A whole network's output, and where stored the gradients of its parameters and input. */
export function networkRows(vector: NetworkCase, gpu?: GpuExecutor): Promise<Row[]> {
  const own = named[vector.network]();
  const { parameters, apply } = own.network;
  const graph = newGraph();
  const flat = graph.variable('weights', [parameters.size]);
  const x = graph.variable('x', vector.input.shape);
  const values = new Map<Node, Value>([
    [flat, { shape: flat.shape, data: hashedWeights(own, vector.parameters) }],
    [x, tensorOf(vector.input)],
  ]);
  const weights = parameters.views(flat);
  let norm = trainingNorm(parameters).mode;
  if (vector.network.endsWith('inference')) {
    const running = graph.variable('running', [parameters.runningSize]);
    const data = new Float64Array(parameters.runningSize);
    parameters.norms.forEach(({ channels, offset }, i) => {
      data.set(tensorOf({ shape: [2, channels], seed: 500 + i, shift: 1, scale: 0.5 }).data, offset);
    });
    values.set(running, { shape: running.shape, data });
    norm = { train: false, running };
  }
  const output = apply(x, { weights, norm, eps: 1e-5 });
  const held: Held[] = [{ node: output, part: 'value', digest: vector.output }];
  if (vector.gradients) {
    const cotangent = graph.variable('cotangent', output.shape);
    values.set(cotangent, tensorOf({ shape: [...output.shape], seed: 50 }));
    grad(output, [...weights, x], cotangent).forEach((node, i) => {
      held.push({ node, part: 'gradient', digest: vector.gradients![i] });
    });
  }
  const detail = `batch ${vector.input.shape[0]}`;
  return hold(vector.network, detail, held, values, gpu);
}

/** One WGAN-GP step of a critic: loss, penalty, the slopes it is of, and the gradient of both in every parameter. */
export function criticRows(vector: CriticStep, gpu?: GpuExecutor): Promise<Row[]> {
  const own = named[vector.critic]();
  const { parameters, apply } = own.network;
  const graph = newGraph();
  const flat = graph.variable('weights', [parameters.size]);
  const values = new Map<Node, Value>([[flat, { shape: flat.shape, data: hashedWeights(own, vector.parameters) }]]);
  const [real, fake, share] = (['real', 'fake', 'share'] as const).map((name) => {
    const node = graph.variable(name, vector.inputs[name].shape);
    values.set(node, tensorOf(vector.inputs[name]));
    return node;
  });
  const weights = parameters.views(flat);
  const judge = (input: Node): Node => apply(input, { weights, norm: trainingNorm(parameters).mode, eps: 1e-5 });
  const loss = b.wassersteinCritic(judge(real), judge(fake));
  const between = b.add(real, b.mul(share, b.sub(fake, real)));
  const [slopes] = grad(b.sum(judge(between)), [between]);
  const penalty = b.gradientPenalty(slopes);
  const gradients = grad(b.add(loss, b.scale(penalty, 10)), weights);
  const held: Held[] = [
    { node: loss, part: 'loss', digest: scalarDigest(vector.loss) },
    { node: penalty, part: 'penalty', digest: scalarDigest(vector.penalty) },
    { node: slopes, part: 'slopes', digest: vector.slopes },
    ...gradients.map((node, i) => ({ node, part: 'gradient of the whole', digest: vector.gradients[i] })),
  ];
  const detail = `batch ${sizeOf(share.shape)}`;
  return hold(`WGAN-GP step, ${vector.critic}`, detail, held, values, gpu);
}
