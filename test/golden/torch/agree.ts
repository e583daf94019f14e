/** The reference and the GPU held against PyTorch's digests: rows for the tests and for docs/agreement.md. */
import * as b from '../../../src/autograd/build.ts';
import { expandOps } from '../../../src/autograd/compile.ts';
import type { GpuExecutor } from '../../../src/autograd/executor.ts';
import { grad } from '../../../src/autograd/grad.ts';
import { compare, runOnce, tolerances } from '../../../src/autograd/gradcheck.ts';
import { type Node, sizeOf, substitute, topological, type Value } from '../../../src/autograd/graph.ts';
import { newGraph } from '../../../src/autograd/ops/index.ts';
import { evaluate } from '../../../src/autograd/reference.ts';
import { aeTrainer } from '../../../src/models/ae.ts';
import {
  type AeConfig,
  type CriticConfig,
  type GanConfig,
  type GeneratorConfig,
  loadConfig,
} from '../../../src/models/config.ts';
import { ganTrainer } from '../../../src/models/gan.ts';
import { criticNetwork, generatorNetwork, type Network, ParameterSet } from '../../../src/models/layers.ts';
import { type Trainer, trainingNorm } from '../../../src/models/training.ts';
import {
  type CriticStep,
  type Digest,
  distance,
  type NetworkCase,
  type OpCase,
  type OptimiserCase,
  type TrainingStep,
  tensorOf,
} from './vectors.ts';

export interface Row {
  what: string;
  /** `value`, `gradient`, `second gradient`, `10 steps`, `penalty`, `update`. */
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

/** Both in f64: what is left is the order of sums. */
const f64 = 1e-9;
/** The rows that do not agree: reference and PyTorch to 1e-9, GPU and PyTorch to what roundings allow. */
export const wrong = (rows: readonly Row[]): Row[] =>
  rows.filter(({ reference, gpu, allowed }) => !(reference < f64) || (gpu !== undefined && !(gpu <= allowed! + f64)));

/** Roundings of everything below a node times the unit round-off. */
const depth = (node: Node): number =>
  topological(expandOps([node])).reduce((total, n) => total + (n.graph.ops[n.op]?.roundings(n) ?? 0), 0) * 2 ** -24;

interface Held {
  node: Node;
  part: string;
  digest: Digest;
}

const norm = (data: Float64Array): number => Math.sqrt(data.reduce((total, v) => total + v * v, 0));

interface Results {
  exact: Value[];
  actual?: ArrayLike<number>[];
}

/** Nodes on the reference, and where there is one on the GPU. */
async function run(
  nodes: readonly Node[],
  values: ReadonlyMap<Node, Value>,
  gpu: GpuExecutor | undefined,
): Promise<Results> {
  return {
    exact: evaluate(nodes, (node) => values.get(node)!),
    ...(gpu && { actual: await runOnce(gpu, nodes, values) }),
  };
}

/** `bounds`: what may be between GPU and PyTorch for each, where the roundings below a node are not enough. */
function rowsOf(
  what: string,
  detail: string,
  held: readonly Held[],
  { exact, actual }: Results,
  bounds?: readonly number[],
): Row[] {
  // A gradient that is zero but for round-off is measured against the largest beside it.
  const floor = (part: string): number =>
    Math.max(1e-3, ...held.filter((other) => other.part === part).map(({ digest }) => 1e-4 * digest.norm));
  return held.map(({ node, part, digest }, i) => {
    const row: Row = { what, part, detail, reference: distance(digest, exact[i].data, floor(part)) };
    if (digest.shape.join() !== node.shape.join()) row.reference = Infinity;
    if (!actual) return row;
    const scale = floor(part);
    const nothing = digest.norm < scale;
    // Round-off of what cancels is a share of what it cancels in: of the largest gradient, which is 1e4 floors.
    const allowed = bounds?.[i] ?? depth(node) * (nothing ? 1e4 : 1);
    const ulp = nothing ? undefined : compare(exact[i], actual[i]).ulp;
    return { ...row, gpu: distance(digest, actual[i], scale), allowed, ulp };
  });
}

async function hold(
  what: string,
  detail: string,
  held: readonly Held[],
  values: ReadonlyMap<Node, Value>,
  gpu: GpuExecutor | undefined,
): Promise<Row[]> {
  const nodes = held.map(({ node }) => node);
  return rowsOf(what, detail, held, await run(nodes, values, gpu));
}

/** First gradients in the targets, and those of ⟨first, along⟩ in the targets and the cotangent. */
function gradients(
  output: Node,
  targets: readonly Node[],
  cotangent: Node,
  along: readonly Node[],
  first: readonly Digest[],
  second: readonly Digest[],
): Held[] {
  const rates = grad(output, targets, cotangent);
  const scalar = rates.map((g, i) => b.sum(b.mul(g, along[i]))).reduce((x, y) => b.add(x, y));
  return [
    ...rates.map((node, i) => ({ node, part: 'gradient', digest: first[i] })),
    ...grad(scalar, [...targets, cotangent]).map((node, i) => ({ node, part: 'second gradient', digest: second[i] })),
  ];
}

/** An op's value, gradients and gradients of gradients. */
export async function opRows(vector: OpCase, gpu?: GpuExecutor): Promise<Row[]> {
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
  const held: Held[] = [{ node: output, part: 'value', digest: vector.output }];
  if (vector.first.length > 0) {
    const cotangent = hashed('cotangent', output, 50);
    const along = inputs.map((input, i) => hashed(`along${i}`, input, 60 + i));
    held.push(...gradients(output, inputs, cotangent, along, vector.first, vector.second));
  }
  const detail = vector.inputs.map(({ shape }) => `[${shape.join(',')}]`).join(' ');
  const nodes = held.map(({ node }) => node);
  const bounds = gpu && tolerances(nodes, (node) => values.get(node)!);
  return rowsOf(vector.op, detail, held, await run(nodes, values, gpu), bounds);
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

const ofAe = ({ encoder, decoder }: AeConfig): Named => {
  const parameters = new ParameterSet();
  const down = criticNetwork(encoder, decoder.latent, parameters, 'encoder.');
  const up = generatorNetwork(decoder, parameters, 'decoder.');
  return {
    network: { parameters, extras: () => [], apply: (x, pass) => up.apply(down.apply(x, pass), pass) },
    strides: stridesOf(decoder),
  };
};

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
  "GAN-ICSD critic, the paper's, layer norm": () => ofCritic({ ...gan('icsd').critic, norm: 'layer' } as CriticConfig),
  "GAN-ICSD, the paper's": () => ofCritic(gan('icsd').critic),
  'GAN-ICSD critic, the released': () => ofCritic(gan('icsd-released').critic),
  'GAN-OQMD generator': () => ofGenerator(gan('oqmd-paper').generator),
  'GAN-OQMD critic': () => ofCritic(gan('oqmd-paper').critic),
  narrow: () => ofCritic(narrow('none')),
  'narrow, batch norm': () => ofCritic(narrow('batch')),
  AE: () => ofAe(loadConfig('ae', { preset: 'ae' }) as AeConfig),
};

/** The flat vector of a network's parameters, hashed as make.py does; names and shapes must be the same. */
function hashedWeights(
  { network: { parameters }, strides }: Named,
  expected?: NetworkCase['parameters'],
): Float64Array {
  const own = parameters.list.map(({ name, shape }) => ({ name, shape: [...shape] }));
  if (expected && JSON.stringify(own) !== JSON.stringify(expected)) {
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
  const targets = [...weights, x];
  const hashed = (name: string, like: Node, seed: number): Node => {
    const node = graph.variable(name, like.shape);
    values.set(node, tensorOf({ shape: [...like.shape], seed }));
    return node;
  };
  const along = targets.map((target, i) => hashed(`along${i}`, target, 1000 + i));
  held.push(...gradients(output, targets, hashed('cotangent', output, 50), along, vector.first, vector.second));
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
    { node: loss, part: 'loss', digest: vector.outputs.loss },
    { node: penalty, part: 'penalty', digest: vector.outputs.penalty },
    { node: slopes, part: 'slopes', digest: vector.outputs.slopes },
    ...gradients.map((node, i) => ({ node, part: 'gradient of the whole', digest: vector.gradients[i] })),
  ];
  const detail = `batch ${sizeOf(share.shape)}`;
  return hold(`WGAN-GP step, ${vector.critic}`, detail, held, values, gpu);
}

/** A trainer's own graph, with hashed variables in place of its noise and its rows. */
function trainingGraph({ preset, norm, step, inputs, parameters }: TrainingStep) {
  const settings = { batch: 2, decay: 'none' };
  const networks: Record<string, Named> = {};
  let trainer: Trainer;
  if (step === 'whole') {
    const config = loadConfig('ae', { preset, overrides: settings }) as AeConfig;
    networks.autoencoder = ofAe(config);
    trainer = aeTrainer(config, 2);
  } else {
    const overrides = { ...settings, criticSteps: 1, critic: { norm } };
    const config = loadConfig('gan', { preset, overrides }) as GanConfig;
    networks.generator = ofGenerator(config.generator);
    networks.critic = ofCritic(config.critic);
    trainer = ganTrainer(config, 2);
  }
  const trained = step === 'whole' ? 'autoencoder' : step;
  const own = networks[trained];
  const values = new Map<Node, Value>([[trainer.step, { shape: [2], data: new Float64Array(2) }]]);
  const updates = new Map(trainer.updates.map(([variable, next]) => [variable.attrs.name, { variable, next }]));
  for (const [name, network] of Object.entries(networks)) {
    const { variable } = updates.get(name)!;
    // Adam's moments start from zero.
    const data = new Float64Array(sizeOf(variable.shape));
    data.set(hashedWeights(network, network === own ? parameters : undefined));
    values.set(variable, { shape: variable.shape, data });
  }
  const replaced = new Map<Node, Node>();
  if (step === 'generator') {
    // The trainer's generator meets the critic after its update, of which round-off decides some signs; here before it.
    const { variable, next } = updates.get('critic')!;
    replaced.set(next, variable);
  }
  const { loss, lossCritic, lossGenerator, gradientPenalty } = trainer.outputs;
  const losses = { critic: [lossCritic, gradientPenalty], generator: [lossGenerator], whole: [loss] }[step];
  const roots = [updates.get(trained)!.next, ...losses];
  for (const node of topological(substitute(roots, replaced))) {
    const drawn = { randomNormal: 'noise', unfold: 'real', randomUniform: 'share' }[node.op];
    if (!drawn) continue;
    const variable = node.graph.variable(`agreement.${drawn}`, node.shape);
    values.set(variable, tensorOf(inputs[drawn as 'noise' | 'real' | 'share']!));
    replaced.set(node, variable);
  }
  const [next, first, penalty] = substitute(roots, replaced);
  const outputs: Record<string, Node> = penalty ? { loss: first, penalty, slopes: penalty.inputs[0] } : { loss: first };
  return { own, outputs, next, values };
}

/**
 * One update as the trainers make it: losses, gradients, and what Adam's first step adds to the parameters.
 *
 * That is −rate·g/(|g| + ε), all but the sign of g. Where every |g| > cut and g is off by at most δ < cut, it is off by
 * rate·ε·δ/(cut − δ)², by Adam's own roundings, and by that of the parameter; δ is what the GPU's gradient is off, which
 * a row of its own holds against what may be.
 */
export async function trainingRows(vector: TrainingStep, gpu?: GpuExecutor): Promise<Row[]> {
  const { own, outputs, next, values } = trainingGraph(vector);
  const { parameters } = own.network;
  const [state, gradient] = next.inputs;
  const what = `${vector.preset}${vector.norm === 'layer' ? ' with layer norm' : ''}, ${vector.step} step`;
  const { learningRate, beta1, beta2, eps } = next.attrs;
  if (JSON.stringify({ learningRate, beta1, beta2 }) !== JSON.stringify(vector.adam)) {
    throw new Error(`${what}: Adam's settings are not ${JSON.stringify(vector.adam)}`);
  }
  const detail = 'batch 2';
  const held: Held[] = [
    ...Object.entries(vector.outputs).map(([part, digest]) => ({ node: outputs[part], part, digest })),
    ...parameters.views(gradient).map((node, i) => ({ node, part: 'gradient', digest: vector.gradients[i] })),
  ];
  const { exact, actual } = await run([...held.map(({ node }) => node), gradient, next], values, gpu);
  const rows = rowsOf(what, detail, held, { exact, actual });

  const before = values.get(state)!.data;
  const [slopes, after] = exact.slice(-2).map(({ data }) => data);
  const [slopesGpu, afterGpu] = actual?.slice(-2) ?? [];
  parameters.list.forEach(({ shape, offset }, p) => {
    const digest = vector.updates[p];
    if (!digest) return;
    const { cut } = digest;
    const g = slopes.subarray(offset, offset + sizeOf(shape));
    const kept = (of: (i: number) => number): Float64Array => g.map((v, k) => (Math.abs(v) > cut ? of(offset + k) : 0));
    const update = kept((i) => after[i] - before[i]);
    const row: Row = { what, part: 'update', detail, reference: distance(digest, update, 0) };
    rows.push(row);
    if (!slopesGpu || !afterGpu) return;
    const off = g.reduce((worst, v, k) => Math.max(worst, Math.abs(v - slopesGpu[offset + k])), 0);
    const slope = off < cut ? (learningRate * eps * off) / (cut - off) ** 2 : Infinity;
    const unit = 2 ** -24;
    const own = next.graph.ops.adam.roundings(next) * unit * learningRate;
    const bounds = kept((i) => slope + own + unit * Math.abs(after[i]));
    row.gpu = distance(
      digest,
      kept((i) => afterGpu[i] - before[i]),
      0,
    );
    row.allowed = norm(bounds) / digest.norm;
    row.ulp = compare(
      { shape, data: kept((i) => after[i]) },
      kept((i) => afterGpu[i]),
    ).ulp;
  });
  return rows;
}
