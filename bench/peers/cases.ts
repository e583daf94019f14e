/**
 * What the peers are timed on, as JSON: the presets' resolved configurations, every parameter and input as a hash
 * (pieces.mjs), and what our GPU makes of them at a small batch, which a peer must agree with before it is timed.
 * `npx tsx bench/peers/cases.ts` writes cases.json anew.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import * as b from '../../src/autograd/build.ts';
import { expandOps } from '../../src/autograd/compile.ts';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { grad } from '../../src/autograd/grad.ts';
import { type Node, sizeOf, substitute, topological } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { type Config, type GanConfig, loadConfig } from '../../src/models/config.ts';
import { generatorNetwork } from '../../src/models/layers.ts';
import { makeTrainer } from '../../src/models/run.ts';
import type { StateVariable, Trainer } from '../../src/models/training.ts';
import { numbers, type Spec } from './pieces.mjs';

export type { Spec } from './pieces.mjs';
/** Norm of a tensor, and its product with the hashed vector of seed 4242. */
export interface Digest {
  norm: number;
  dot: number;
}
export type ParameterSpec = Spec & { name: string; offset: number };

export interface StepCase {
  name: string;
  config: Config;
  batch: number;
  /** Of matrix products and convolutions in one step at `batch`. */
  flops: number;
  /** What two f32 gradients may differ by: twice what PyTorch's f32 is off its own f64. */
  gradientTolerance: number;
  /** Of each network, in the order of its flat vector. */
  parameters: Record<string, ParameterSpec[]>;
  /** At `checkBatch`, given in place of what a step draws. */
  inputs: Record<string, Spec>;
  /** Loss and gradients of each network before any update, and all losses of three steps on the same inputs. */
  expected: { networks: Record<string, { loss: number; gradients: Digest[] }>; losses: Record<string, number>[] };
}

/** A linear op's forward and backward: all three products of its two factors and its cotangent. */
export interface OpCase {
  name: string;
  op: 'conv2d' | 'conv2dTranspose' | 'conv2dWeightGrad' | 'batchNorm' | 'matmul';
  batch: number;
  flops: number;
  /** Of a convolution: [height, width, in], kernel, strides, padding, filters. A transposed one goes the other way. */
  conv?: {
    x: [number, number, number];
    kernel: [number, number];
    strides: [number, number];
    padding: number[];
    filters: number;
  };
  /** Named as the op's arguments; `cotangent` is of its value. Batch `checkBatch`. */
  inputs: Record<string, Spec>;
  /** Of `value`, then of the gradients by the name of what they are in. */
  expected: Record<string, Digest>;
}

export interface GenerateCase {
  name: string;
  config: GanConfig;
  batches: number[];
  flopsPerSample: number;
  parameters: ParameterSpec[];
  running: { channels: number; spec: Spec }[];
  inputs: { noise: Spec; cells: Spec };
  /** Cells from the noise; Σ (element + 1)·count of the formulas that `cells` decodes to. */
  expected: { cells: Digest; decoded: number };
}

export interface Cases {
  made: { adapter: string; commit: string };
  checkBatch: number;
  steps: StepCase[];
  generate: GenerateCase;
  ops: OpCase[];
}

const checkBatch = 8;
/** Rows of a data set that steps draw from. */
export const dataRows = 4096;
const rmsProp = { name: 'rmsProp', learningRate: 5e-4, rho: 0.9, eps: 1e-8 };
const clipping = {
  constraint: { name: 'clipping', clip: 0.01 },
  generatorOptimiser: rmsProp,
  criticOptimiser: rmsProp,
  criticSteps: 1,
};
interface Chosen {
  name: string;
  preset: string;
  batch: number;
  overrides?: object;
  gradientTolerance?: number;
}
/** Named as rows of `matgan bench`. */
export const stepList: readonly Chosen[] = [
  { name: 'step gan icsd batch 32', preset: 'icsd', batch: 32 },
  { name: 'step gan icsd-paper batch 32', preset: 'icsd-paper', batch: 32 },
  { name: 'step gan icsd, clipping, critic norm none batch 32', preset: 'icsd', batch: 32, overrides: clipping },
  { name: 'step ae ae batch 32', preset: 'ae', batch: 32, gradientTolerance: 5e-2 },
  { name: 'step ae ae batch 1024', preset: 'ae', batch: 1024, gradientTolerance: 5e-2 },
  { name: 'step gan oqmd batch 512', preset: 'oqmd', batch: 512 },
];
export const configOf = ({ preset, batch, overrides }: Chosen): Config =>
  loadConfig(undefined, { preset, overrides: { ...overrides, batch } });

export const digest = (data: ArrayLike<number>): Digest => {
  const along = numbers({ shape: [data.length], seed: 4242 });
  let squares = 0;
  let dot = 0;
  for (let i = 0; i < data.length; i++) {
    squares += data[i] ** 2;
    dot += data[i] * along[i];
  }
  return { norm: Math.sqrt(squares), dot };
};

/** Multiplications and additions of all matrix products and convolutions, each counted. */
export function matrixFlops(nodes: readonly Node[]): number {
  let flops = 0;
  for (const { op, inputs, attrs, shape } of topological(expandOps(nodes))) {
    if (op === 'dense') {
      const [rows, columns] = inputs[0].shape;
      flops += 2 * sizeOf(shape) * (attrs.transposeX ? rows : columns);
    }
    // Each element of the convolution's output meets the filter once, whichever of the three is wanted.
    if (op === 'conv2d') flops += 2 * sizeOf(shape) * sizeOf(inputs[1].shape.slice(0, 3));
    if (op === 'conv2dInputGrad') flops += 2 * sizeOf(inputs[0].shape) * sizeOf(inputs[1].shape.slice(0, 3));
    if (op === 'conv2dWeightGrad') flops += 2 * sizeOf(inputs[1].shape) * sizeOf(shape.slice(0, 3));
  }
  return flops;
}

/** Hashed weights that keep the size of activations: √(6/fan-in), of the taps that a transposed one's phase leaves. */
function parameterSpecs(
  { parameters }: StateVariable | { parameters: StateVariable['parameters'] },
  strides: number[],
) {
  return parameters!.list.map(({ name, shape, offset }, i): ParameterSpec => {
    const [kh, kw, a, c] = shape;
    let scale = 0.25;
    if (name.endsWith('weights')) scale = Math.sqrt(6 / shape[0]);
    if (/conv\d+\.filter$/.test(name)) scale = Math.sqrt(6 / (kh * kw * a));
    const transposed = /transposed(\d+)\.filter$/.exec(name);
    if (transposed) scale = Math.sqrt(6 / ((kh * kw * c) / strides[Number(transposed[1])]));
    const shift = name.endsWith('gamma') ? 1 : 0;
    return { name, offset, shape: [...shape], seed: 100 + i, scale, shift };
  });
}
const stridesOf = (config: Config): number[] => {
  const up = config.model === 'ae' ? config.decoder : config.model === 'gan' ? config.generator : undefined;
  return up?.kind === 'conv' ? up.layers.map(({ strides: [h, w] }) => h * w) : [];
};

/** What a step draws, by the names that cases.json gives it; fixed inputs stand in for them. */
export function drawnInputs(roots: readonly Node[]): Map<Node, { name: string; spec: Spec }> {
  const drawn = new Map<Node, { name: string; spec: Spec }>();
  for (const node of topological(roots)) {
    const shape = [...node.shape];
    const { stream } = node.attrs;
    if (node.op === 'unfold') {
      const { draw } = node.inputs[1].attrs;
      drawn.set(node, { name: `real${draw}`, spec: { shape, seed: 31 + 10 * draw, above: 0.98 } });
    }
    if (node.op === 'randomNormal') {
      const name = stream === 1 ? 'noise' : `noise${(stream - 16) / 3}`;
      drawn.set(node, { name, spec: { shape, seed: 200 + stream, scale: 1.5 } });
    }
    if (node.op === 'randomUniform') {
      drawn.set(node, {
        name: `share${(stream - 17) / 3}`,
        spec: { shape, seed: 200 + stream, shift: 0.5, scale: 0.5 },
      });
    }
  }
  return drawn;
}

/** Hashed weights as an optimiser's state [rows, size] with moments of zero. */
export function hashedState({ node }: StateVariable, specs: readonly ParameterSpec[]): Float32Array {
  const data = new Float32Array(sizeOf(node.shape));
  for (const spec of specs) data.set(numbers(spec), spec.offset);
  return data;
}

/** A step whose drawn inputs are variables: nodes to evaluate, and the values to write before. */
export function fixedStep(trainer: Trainer, specs: Record<string, ParameterSpec[]>) {
  const checks = trainer.checks();
  const outputs = Object.entries(trainer.outputs);
  const roots = [
    ...checks.flatMap(({ loss, gradient }) => [loss, gradient]),
    ...outputs.map(([, node]) => node),
    ...trainer.updates.map(([, node]) => node),
  ];
  const drawn = drawnInputs(roots);
  const variables = new Map<Node, Node>();
  const values: [Node, Float32Array | Uint32Array][] = [[trainer.step, new Uint32Array(2)]];
  for (const [node, { name, spec }] of drawn) {
    const variable = node.graph.variable(`peer.${name}`, node.shape);
    variables.set(node, variable);
    values.push([variable, numbers(spec)]);
  }
  for (const state of trainer.state) {
    const name = state.node.attrs.name as string;
    if (name in specs) values.push([state.node, hashedState(state, specs[name])]);
    else values.push([state.node, new Float32Array(sizeOf(state.node.shape))]);
  }
  const given = substitute(roots, variables);
  return {
    inputs: Object.fromEntries([...drawn.values()].map(({ name, spec }) => [name, spec])),
    values,
    checks: checks.map(({ name, state }, i) => ({ name, state, loss: given[2 * i], gradient: given[2 * i + 1] })),
    outputs: outputs.map(([name], i) => [name, given[2 * checks.length + i]] as const),
    updates: trainer.updates.map(
      ([variable], i) => [variable, given[2 * checks.length + outputs.length + i]] as [Node, Node],
    ),
  };
}

async function stepCase(gpu: GpuExecutor, chosen: Chosen): Promise<StepCase> {
  const config = configOf(chosen);
  const large = makeTrainer(config, dataRows);
  const flops = matrixFlops([...Object.values(large.outputs), ...large.updates.map(([, value]) => value)]);
  const trainer = makeTrainer({ ...config, batch: checkBatch }, dataRows);
  const parameters: Record<string, ParameterSpec[]> = {};
  for (const state of trainer.state) {
    const { name } = state.node.attrs;
    if (state.parameters && ['generator', 'critic', 'autoencoder'].includes(name)) {
      parameters[name] = parameterSpecs(state, stridesOf(config));
    }
  }
  const { inputs, values, checks, outputs, updates } = fixedStep(trainer, parameters);
  for (const [node, data] of values) gpu.write(node, data);
  const expected: StepCase['expected'] = { networks: {}, losses: [] };
  let plan = await gpu.plan({ outputs: checks.flatMap(({ loss, gradient }) => [loss, gradient]) });
  plan.run();
  for (const { name, state, loss, gradient } of checks) {
    const flat = await plan.read(gradient);
    expected.networks[name] = {
      loss: (await plan.read(loss))[0],
      gradients: state.parameters!.list.map(({ offset, shape }) =>
        digest(flat.subarray(offset, offset + sizeOf(shape))),
      ),
    };
  }
  plan.destroy();
  plan = await gpu.plan({ outputs: outputs.map(([, node]) => node), updates });
  for (let k = 0; k < 3; k++) {
    plan.run();
    const losses: Record<string, number> = {};
    for (const [name, node] of outputs) losses[name] = (await plan.read(node))[0];
    expected.losses.push(losses);
  }
  plan.destroy();
  gpu.forget(values.map(([node]) => node));
  const { name, batch, gradientTolerance = 1e-2 } = chosen;
  return { name, config, batch, flops, gradientTolerance, parameters, inputs, expected };
}

async function generateCase(gpu: GpuExecutor): Promise<GenerateCase> {
  const config = loadConfig('gan', { preset: 'icsd' }) as GanConfig;
  const network = generatorNetwork(config.generator);
  const { parameters } = network;
  const specs = parameterSpecs({ parameters }, stridesOf(config));
  const graph = newGraph();
  const flat = graph.variable('peer.weights', [parameters.size]);
  const running = graph.variable('peer.running', [parameters.runningSize]);
  const noise = { shape: [checkBatch, config.generator.latent], seed: 34, scale: 1.5 };
  const cells = { shape: [64, 85, 8, 1], seed: 35, above: 0.985 };
  const x = graph.variable('peer.noise', noise.shape);
  const given = graph.variable('peer.cells', cells.shape);
  const made = network.apply(x, {
    weights: parameters.views(flat),
    norm: { train: false, running },
    eps: config.batchNorm.eps,
  });
  const decoded = b.decode(given, config.decoding);
  const weights = new Float32Array(parameters.size);
  for (const spec of specs) weights.set(numbers(spec), spec.offset);
  const moments = new Float32Array(parameters.runningSize);
  const norms = parameters.norms.map(({ channels, offset }, i) => {
    const spec = { shape: [2, channels], seed: 500 + i, shift: 1, scale: 0.5 };
    moments.set(numbers(spec), offset);
    return { channels, spec };
  });
  for (const [node, data] of [
    [flat, weights],
    [running, moments],
    [x, numbers(noise)],
    [given, numbers(cells)],
  ] as const) {
    gpu.write(node, data);
  }
  const plan = await gpu.plan({ outputs: [made, decoded] });
  plan.run();
  let sum = 0;
  for (const word of await plan.read(decoded)) {
    for (const pair of [word & 0xffff, word >>> 16]) sum += (pair >>> 8) * (pair & 0xff);
  }
  const expected = { cells: digest(await plan.read(made)), decoded: sum };
  plan.destroy();
  gpu.forget([flat, running, x, given]);
  return {
    name: 'generate icsd',
    config,
    batches: [32, 128, 512, 2048, 8192],
    flopsPerSample: matrixFlops([made]) / checkBatch,
    parameters: specs,
    running: norms,
    inputs: { noise, cells },
    expected,
  };
}

type Net = 'icsd' | 'oqmd' | 'wide';
/** Convolutions of the critics, [height, width, in] → filters; the generators' layers are the adjoints of the same. */
const convolutions: [Net, [number, number, number], number, [number, number], number][] = [
  // The shape that peers are usually quoted at.
  ['wide', [4, 43, 64], 3, [2, 2], 128],
  ['icsd', [85, 8, 1], 3, [2, 1], 16],
  ['icsd', [43, 8, 16], 3, [2, 1], 32],
  ['icsd', [22, 8, 32], 3, [2, 1], 64],
  ['icsd', [11, 8, 64], 5, [2, 2], 128],
  ['oqmd', [85, 8, 1], 3, [1, 1], 32],
  ['oqmd', [85, 8, 32], 3, [2, 1], 32],
  ['oqmd', [43, 8, 32], 3, [1, 1], 64],
  ['oqmd', [43, 8, 64], 3, [2, 1], 64],
  ['oqmd', [22, 8, 64], 3, [1, 1], 128],
  ['oqmd', [22, 8, 128], 3, [2, 1], 128],
  ['oqmd', [11, 8, 128], 5, [2, 2], 256],
];

type Draft = Omit<OpCase, 'flops' | 'expected'>;
function opDrafts(): Draft[] {
  const drafts: Draft[] = [];
  for (const [net, x, k, strides, filters] of convolutions) {
    const [h, w, channels] = x;
    const kernel: [number, number] = [k, k];
    const padding = b.samePadding([h, w], kernel, strides);
    const batch = net === 'oqmd' ? 512 : 32;
    const image = { shape: [checkBatch, ...x], seed: 3 };
    const filter = { shape: [k, k, channels, filters], seed: 4 };
    const output = { shape: [checkBatch, Math.ceil(h / strides[0]), Math.ceil(w / strides[1]), filters], seed: 5 };
    const conv = { x, kernel, strides, padding, filters };
    const what = `${net} ${x.join('x')}>${filters} k${k} s${strides.join('x')} batch ${batch}`;
    const add = (op: OpCase['op'], inputs: Draft['inputs']): void => {
      drafts.push({ name: `${op} ${what}`, op, batch, conv, inputs });
    };
    add('conv2d', { x: image, filter, cotangent: { ...output, seed: 6 } });
    add('conv2dTranspose', { x: output, filter, cotangent: { ...image, seed: 6 } });
    add('conv2dWeightGrad', { x: image, y: output, cotangent: { ...filter, seed: 6 } });
  }
  for (const [net, shape] of [
    ['wide', [32, 4, 43, 64]],
    ['icsd', [32, 43, 8, 16]],
  ] as const) {
    const small = [checkBatch, ...shape.slice(1)];
    const channels = [shape[3]];
    drafts.push({
      name: `batchNorm ${net} ${shape.join('x')}`,
      op: 'batchNorm',
      batch: shape[0],
      inputs: {
        x: { shape: small, seed: 3, shift: 0.5, scale: 2 },
        gamma: { shape: channels, seed: 4, shift: 1, scale: 0.5 },
        beta: { shape: channels, seed: 5 },
        cotangent: { shape: small, seed: 6 },
      },
    });
  }
  for (const size of [512, 1024, 2048, 4096]) {
    // Checked at [8, size]·[size, 8]; a whole product would say no more.
    drafts.push({
      name: `matmul ${size}`,
      op: 'matmul',
      batch: size,
      inputs: { x: { shape: [checkBatch, size], seed: 3 }, w: { shape: [size, checkBatch], seed: 4 } },
    });
  }
  return drafts;
}

/** An op's value and, but for matmul, its gradients; of a graph of its own. */
export function opNodes({ op, conv }: Draft | OpCase, inputs: Record<string, Node>): Record<string, Node> {
  const { x, filter, y, gamma, beta, w, cotangent } = inputs;
  if (op === 'matmul') return { value: b.dense(x, w) };
  let value: Node;
  if (op === 'batchNorm') value = b.batchNorm(x, gamma, beta, 1e-5);
  else {
    const attrs = { strides: conv!.strides, padding: conv!.padding as [number, number, number, number] };
    if (op === 'conv2d') value = b.conv2d(x, filter, attrs);
    else if (op === 'conv2dWeightGrad') value = b.conv2dWeightGrad(x, y, { ...attrs, kernel: conv!.kernel });
    else value = b.conv2dInputGrad(x, filter, { ...attrs, size: [conv!.x[0], conv!.x[1]] });
  }
  const named = Object.entries(inputs).filter(([name]) => name !== 'cotangent');
  const gradients = grad(
    value,
    named.map(([, node]) => node),
    cotangent,
  );
  return { value, ...Object.fromEntries(named.map(([name], i) => [name, gradients[i]])) };
}

/** An op's inputs as variables of a new graph: at the check's batch, or at its own. */
export function opVariables(draft: Draft | OpCase, whole: boolean): Record<string, { node: Node; spec: Spec }> {
  const graph = newGraph();
  return Object.fromEntries(
    Object.entries(draft.inputs).map(([name, spec]) => {
      let shape = spec.shape;
      if (whole && draft.op === 'matmul') shape = [draft.batch, draft.batch];
      // Only tensors with a batch have four axes and begin with it.
      else if (whole && shape.length === 4 && !isFilter(draft, name)) shape = [draft.batch, ...shape.slice(1)];
      return [name, { node: graph.variable(`peer.${name}`, shape), spec: { ...spec, shape } }];
    }),
  );
}
const isFilter = ({ op }: Draft | OpCase, name: string): boolean =>
  name === 'filter' || (op === 'conv2dWeightGrad' && name === 'cotangent');

async function opCase(gpu: GpuExecutor, draft: Draft): Promise<OpCase> {
  const nodesOf = (variables: ReturnType<typeof opVariables>) =>
    opNodes(draft, Object.fromEntries(Object.entries(variables).map(([name, { node }]) => [name, node])));
  const flops = matrixFlops(Object.values(nodesOf(opVariables(draft, true))));
  const variables = opVariables(draft, false);
  const nodes = nodesOf(variables);
  for (const { node, spec } of Object.values(variables)) gpu.write(node, numbers(spec));
  const plan = await gpu.plan({ outputs: Object.values(nodes) });
  plan.run();
  const expected: OpCase['expected'] = {};
  for (const [name, node] of Object.entries(nodes)) expected[name] = digest(await plan.read(node));
  plan.destroy();
  gpu.forget(Object.values(variables).map(({ node }) => node));
  return { ...draft, flops, expected };
}

export async function makeCases(): Promise<Cases> {
  const device = await openDevice();
  const gpu = new GpuExecutor(device);
  try {
    const { description, device: name } = device.info;
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    const steps: StepCase[] = [];
    for (const chosen of stepList) {
      process.stderr.write(`${chosen.name}\n`);
      steps.push(await stepCase(gpu, chosen));
    }
    const generate = await generateCase(gpu);
    const ops: OpCase[] = [];
    for (const draft of opDrafts()) {
      process.stderr.write(`${draft.name}\n`);
      ops.push(await opCase(gpu, draft));
    }
    return { made: { adapter: description || name, commit }, checkBatch, steps, generate, ops };
  } finally {
    gpu.destroy();
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const file = new URL('cases.json', import.meta.url);
  writeFileSync(file, `${JSON.stringify(await makeCases())}\n`);
  process.exit(0);
}
