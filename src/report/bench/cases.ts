/** What `matgan bench` times: ops at the shapes that the presets use, sweeps of sizes, whole steps, generating, a user's own ops. */
import { expandOps } from '../../autograd/compile.ts';
import { fuse as fused } from '../../autograd/fuse.ts';
import {
  type Attrs,
  type DType,
  type Node,
  type OpTable,
  type SampleInput,
  type Shape,
  showShape,
  sizeOf,
  topological,
} from '../../autograd/graph.ts';
import { newGraph, ops } from '../../autograd/ops/index.ts';
import type { Step } from '../../autograd/plan.ts';
import { ConfigError } from '../../errors.ts';
import type { Lowered } from '../../kernels/kernel.ts';
import type { Target } from '../../kernels/lower.ts';
import { type GanConfig, loadConfig, type ModelKind, nearest } from '../../models/config.ts';
import { generatorGraphs } from '../../models/gan.ts';
import { makeTrainer } from '../../models/run.ts';
import type { Trainer } from '../../models/training.ts';

interface Common {
  name: string;
  /** Presets, or `sweep` or `own`: words that a filter may use as well. */
  of: readonly string[];
  /** Taken along by `--quick`. */
  quick: boolean;
}
/** One op on inputs of these shapes. */
export interface KernelCase extends Common {
  kind: 'kernel';
  op: string;
  inputs: readonly SampleInput[];
  attrs: Attrs;
  /** The table of a user's own op. */
  own?: OpTable;
}
/** A training step. */
export interface StepCase extends Common {
  kind: 'step';
  model: ModelKind;
  preset: string;
  batch: number;
  /** Settings laid over the preset. */
  overrides?: Record<string, unknown>;
}
/** A batch of formulas: noise to packed formulas on the host. */
export interface GenerateCase extends Common {
  kind: 'generate';
  preset: string;
  batch: number;
}
export type BenchCase = KernelCase | StepCase | GenerateCase;

/** Rows of the made-up training set; nothing but its reading depends on them. */
export const dataRows = 2048;

export const stepTrainer = ({
  model,
  preset,
  batch,
  overrides,
}: Pick<StepCase, 'model' | 'preset' | 'batch' | 'overrides'>): Trainer =>
  makeTrainer(loadConfig(model, { preset, overrides: { ...overrides, batch } }), dataRows);
export const stepOf = (trainer: Trainer): Step => ({
  outputs: Object.values(trainer.outputs),
  updates: trainer.updates,
});

export const generateConfig = (preset: string, batch: number): GanConfig =>
  loadConfig('gan', { preset, overrides: { batch } }) as GanConfig;
export function generateStep({ preset, batch }: Pick<GenerateCase, 'preset' | 'batch'>) {
  const config = generateConfig(preset, batch);
  const graphs = generatorGraphs(config, batch, config.decoding, 1);
  const step: Step = { outputs: [graphs.formulas], updates: [graphs.count] };
  return { config, graphs, step };
}

/** What an op becomes on the device; undefined for leaves, views, packs, and what is written out in other ops. */
function loweredOf(node: Node, target?: Target): Lowered | undefined {
  const lowering = node.graph.ops[node.op]?.lowering;
  return lowering && 'kernels' in lowering ? lowering.kernels(node, target) : undefined;
}

/** Ops that a step runs on a device of this kind (any, unless said), each with its dispatches. */
export function dispatched(
  { outputs = [], updates = [] }: Step,
  fuse = true,
  target?: Target,
): { node: Node; lowered: Lowered }[] {
  const written = expandOps([...outputs, ...updates.map(([, value]) => value)]);
  return topological(fuse ? fused(written) : written).flatMap((node) => {
    const lowered = loweredOf(node, target);
    return lowered ? [{ node, lowered }] : [];
  });
}

/** Floating-point operations of a step, and the bytes when every op reads each input once and writes its result once. */
export function leastWork(step: Step): { flops: number; leastBytes: number } {
  let flops = 0;
  let leastBytes = 0;
  for (const { node, lowered } of dispatched(step)) {
    for (const call of lowered.calls) flops += call.flops ?? 0;
    leastBytes += 4 * sizeOf(node.shape);
    for (const input of new Set(node.inputs)) {
      // Of the training rows only those of the batch are read.
      const gathered = ['unfold', 'unfoldDense', 'gather'].includes(node.op) && input === node.inputs[0];
      leastBytes += gathered ? 4 * input.shape[1] * node.shape[0] : 4 * sizeOf(input.shape);
    }
  }
  return { flops, leastBytes };
}

/** The step of a kernel's case by itself: the op on variables. */
export function kernelStep({ op, inputs, attrs, own }: KernelCase): { step: Step; inputs: Node[]; output: Node } {
  const graph = newGraph(own);
  const nodes = inputs.map((input, i) =>
    graph.variable(`input${i}`, input.shape, 'dtype' in input ? input.dtype : 'f32'),
  );
  const output = graph.apply(op, nodes, attrs);
  return { step: { outputs: [output] }, inputs: nodes, output };
}

/** The step that a case runs, as a graph: for its size, before anything is made. */
export function stepOfCase(c: BenchCase): Step {
  if (c.kind === 'kernel') return kernelStep(c).step;
  return c.kind === 'step' ? stepOf(stepTrainer(c)) : generateStep(c).step;
}

/** Attributes that change values, not work: seeds, counters, rates and the like. */
const valueOnly = new Set([
  'key',
  'stream',
  'draw',
  'draws',
  'a',
  'b',
  'eps',
  'decay',
  'rows',
  'every',
  'offset',
  'clip',
  'rule',
  'learningRate',
  'decayFrom',
  'decayTo',
  'beta1',
  'beta2',
  'rho',
  'momentum',
]);

/** `conv2d [32,85,8,1] [3,3,1,16] strides 2x1 padding 1x1x1x1`. */
function nameOf(op: string, shapes: readonly Shape[], attrs: Attrs): string {
  const words = Object.entries(attrs ?? {}).flatMap(([key, value]) => {
    if (valueOnly.has(key) || value === false) return [];
    if (value === true) return [key];
    return [`${key} ${Array.isArray(value) ? value.join('x') : value}`];
  });
  return [op, ...shapes.map(showShape), ...words].join(' ');
}

/** An input of this shape, drawn as the op's own samples are; given values (counters, row numbers) are repeated. */
function inputLike(op: string, i: number, count: number, shape: Shape, dtype: DType): SampleInput {
  const row = (ops as OpTable)[op];
  const sample = row.samples.find(({ inputs }) => inputs.length === count)?.inputs[i];
  if (sample && 'draw' in sample) return { shape, draw: sample.draw };
  if (sample && dtype === 'u32') {
    const { values } = sample;
    return { shape, values: Array.from({ length: sizeOf(shape) }, (_, k) => values[k % values.length]), dtype };
  }
  return { shape, draw: op === 'normalise' || op.startsWith('batchNorm') || op === 'decode' ? 'unit' : 'normal' };
}

/** A case of one op at these shapes. */
function kernelCase(
  op: string,
  shapes: readonly Shape[],
  attrs: Attrs,
  of: string,
  types: readonly DType[] = [],
): KernelCase {
  const row = (ops as OpTable)[op];
  const inputs = shapes.map((shape, i) =>
    inputLike(op, i, shapes.length, shape, types[i] ?? row.inputTypes?.[i] ?? 'f32'),
  );
  return { kind: 'kernel', name: nameOf(op, shapes, attrs), of: [of], quick: false, op, inputs, attrs };
}

/** What the shapes are taken from. */
const traced: readonly { of: string; step: () => Step }[] = [
  { of: 'icsd', step: () => stepOf(stepTrainer({ model: 'gan', preset: 'icsd', batch: 32 })) },
  { of: 'oqmd', step: () => stepOf(stepTrainer({ model: 'gan', preset: 'oqmd', batch: 512 })) },
  { of: 'ae', step: () => stepOf(stepTrainer({ model: 'ae', preset: 'ae', batch: 32 })) },
  { of: 'sampler', step: () => generateStep({ preset: 'icsd', batch: 128 }).step },
];

/** Every distinct op of the presets, expanded as the device runs it: the same shapes in two nets are one case. */
function presetCases(): KernelCase[] {
  const cases = new Map<string, KernelCase>();
  for (const { of, step } of traced) {
    /** The most work of each op of this net. */
    const largest = new Map<string, { work: number; c: KernelCase }>();
    for (const { node, lowered } of dispatched(step(), false)) {
      const shapes = node.inputs.map(({ shape }) => shape);
      const name = nameOf(node.op, shapes, node.attrs);
      let c = cases.get(name);
      if (!c)
        cases.set(
          name,
          (c = kernelCase(
            node.op,
            shapes,
            node.attrs,
            of,
            node.inputs.map(({ dtype }) => dtype),
          )),
        );
      else if (!c.of.includes(of)) c.of = [...c.of, of];
      const work = lowered.calls.reduce((sum, { flops = 0, bytes = 0 }) => sum + flops + bytes, 0);
      if (work > (largest.get(node.op)?.work ?? -1)) largest.set(node.op, { work, c });
    }
    if (of === 'icsd') for (const { c } of largest.values()) c.quick = true;
  }
  return [...cases.values()];
}

const powers = (first: number, last: number, factor: number): number[] => {
  const list: number[] = [];
  for (let n = first; n <= last; n *= factor) list.push(n);
  return list;
};

/** Sizes beyond the presets': where a kernel's curve bends. */
function sweepCases(): KernelCase[] {
  const cases: KernelCase[] = [];
  const add = (op: string, shapes: readonly Shape[], attrs: Attrs = {}): void => {
    cases.push(kernelCase(op, shapes, attrs, 'sweep'));
  };
  const plain = { transposeX: false, transposeW: false };
  for (const n of powers(64, 2048, 2))
    add(
      'dense',
      [
        [n, n],
        [n, n],
      ],
      plain,
    );
  for (const [transposeX, transposeW] of [
    [true, false],
    [false, true],
  ]) {
    add(
      'dense',
      [
        [512, 512],
        [512, 512],
      ],
      { transposeX, transposeW },
    );
  }
  const conv = { strides: [1, 1], padding: [1, 1, 1, 1] };
  for (const [batch, channels] of [...powers(4, 256, 2).map((c) => [8, c]), ...powers(1, 256, 4).map((n) => [n, 64])]) {
    const image = [batch, 22, 8, channels];
    const filter = [3, 3, channels, channels];
    add('conv2d', [image, filter], conv);
    add('conv2dInputGrad', [image, filter], { ...conv, size: [22, 8] });
    add('conv2dWeightGrad', [image, image], { ...conv, kernel: [3, 3] });
  }
  for (const n of powers(1000, 10_000_000, 10)) {
    for (const op of ['relu', 'sigmoid']) add(op, [[n]]);
    for (const op of ['add', 'mul']) add(op, [[n], [n]]);
    add('sum', [[n]], { from: 0, to: 1 });
    add('sum', [[n / 100, 100]], { from: 0, to: 1 });
    add('moments', [[n / 100, 100]]);
    add('randomNormal', [[2]], { key: [1, 0], stream: 0, shape: [n] });
  }
  // Ops that the presets have no use for, or not at every setting.
  add('gather', [[2048, 86], [256]]);
  add('max', [[1_000_000]], { from: 0, to: 1 });
  add(
    'conv2d',
    [
      [7, 22, 8, 3],
      [3, 3, 3, 5],
    ],
    conv,
  );
  add(
    'conv2dInputGrad',
    [
      [7, 22, 8, 5],
      [3, 3, 6, 5],
    ],
    { ...conv, size: [22, 8] },
  );
  add(
    'conv2dWeightGrad',
    [
      [7, 22, 8, 3],
      [7, 22, 8, 5],
    ],
    { ...conv, kernel: [3, 3] },
  );
  const rates = { learningRate: 1e-3, decayFrom: 0, decayTo: 0, every: 1, offset: 0, clip: 0.01 };
  add('rmsProp', [[2, 231_488], [231_488], [2]], { ...rates, rho: 0.9, eps: 1e-8 });
  add('sgd', [[2, 231_488], [231_488], [2]], { ...rates, momentum: 0.9 });
  return cases;
}

const rmsProp = { name: 'rmsProp', learningRate: 5e-4, rho: 0.9, eps: 1e-8 };
const clipping = {
  constraint: { name: 'clipping', clip: 0.01 },
  generatorOptimiser: rmsProp,
  criticOptimiser: rmsProp,
};

function stepCases(): StepCase[] {
  const step = (
    what: string,
    model: ModelKind,
    preset: string,
    batch: number,
    overrides?: Record<string, unknown>,
  ): StepCase => ({
    kind: 'step',
    name: `step ${model} ${preset}${what} batch ${batch}`,
    of: [preset],
    quick: what === '' && preset === 'icsd',
    model,
    preset,
    batch,
    overrides,
  });
  return [
    step('', 'ae', 'ae', 32),
    step('', 'ae', 'ae', 1024),
    step('', 'gan', 'icsd', 32),
    step(', clipping', 'gan', 'icsd', 32, clipping),
    step('', 'gan', 'icsd-paper', 32),
    step('', 'gan', 'oqmd', 512),
    step('', 'gan', 'best', 64),
    // What keeps the critic in bounds, by norms of the critic: one critic step.
    ...Object.entries({ penalty: {}, clipping }).flatMap(([name, overrides]) =>
      ['none', 'layer', 'batch'].map((norm) =>
        step(`, ${name}, critic norm ${norm}`, 'gan', 'icsd', 32, { ...overrides, critic: { norm }, criticSteps: 1 }),
      ),
    ),
  ];
}

function generateCases(): GenerateCase[] {
  return [32, 128, 512, 2048, 8192].map((batch) => ({
    kind: 'generate',
    name: `generate icsd batch ${batch}`,
    of: ['icsd'],
    quick: false,
    preset: 'icsd',
    batch,
  }));
}

/** Ops of a user's table: each at its samples, or at the samples that `named` has for it. */
export function ownCases(
  table: OpTable,
  named: Readonly<Record<string, readonly { inputs: readonly SampleInput[]; attrs?: Attrs }[]>>,
): KernelCase[] {
  const cases = new Map<string, KernelCase>();
  for (const [op, { samples }] of Object.entries(table)) {
    for (const { inputs, attrs = {} } of [...samples, ...(named[op] ?? [])]) {
      const name = nameOf(
        op,
        inputs.map(({ shape }) => shape),
        attrs,
      );
      cases.set(name, { kind: 'kernel', name, of: ['own'], quick: true, op, inputs, attrs, own: table });
    }
  }
  return [...cases.values()];
}

/** All cases of the engine. A sweep's case that a preset has already is not there twice. */
export function allCases(): BenchCase[] {
  const kernels = new Map<string, KernelCase>();
  for (const c of presetCases()) kernels.set(c.name, c);
  for (const c of sweepCases()) {
    const known = kernels.get(c.name);
    if (known) known.of = [...known.of, 'sweep'];
    else kernels.set(c.name, c);
  }
  return [...stepCases(), ...generateCases(), ...kernels.values()];
}

/**
 * Whether a filter takes a case: every word of the filter is in its name, or in that of a preset that has it.
 */
export function matches(filter: string, { name, of = [] }: { name: string; of?: readonly string[] }): boolean {
  const text = `${name} ${of.join(' ')} `;
  return filter.split(/\s+/).every((word) => text.includes(word));
}

/**
 * Cases that a filter takes; one whose whole name it is, alone.
 * @throws ConfigError where there is none
 */
export function chooseCases(
  all: readonly BenchCase[],
  { filter = '', quick = false }: { filter?: string; quick?: boolean },
): BenchCase[] {
  const exact = all.filter(({ name }) => name === filter);
  if (exact.length > 0) return exact;
  const named = all.filter((c) => matches(filter, c));
  if (named.length === 0) {
    const words = [...new Set(all.map(({ name }) => name.split(' ')[0]))];
    throw new ConfigError(
      `bench: no case has "${filter}" in its name${nearest(filter, words)}; they begin with ${words.join(', ')}; --list prints them`,
    );
  }
  const chosen = named.filter((c) => !quick || c.quick);
  if (chosen.length === 0) {
    throw new ConfigError(
      `bench: none of the ${named.length} cases with "${filter}" is a quick one; leave out --quick`,
    );
  }
  return chosen;
}
