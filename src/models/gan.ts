/** MatGAN: a generator of formulas and a Wasserstein critic, one step of both as one graph. */
import * as b from '../autograd/build.ts';
import { grad } from '../autograd/grad.ts';
import type { Graph, Node } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import { countCount, elementCount, frequencySumsSize } from '../autograd/ops/random.ts';
import { seedKey } from '../autograd/philox.ts';
import { frequencySums } from '../chem/baseline.ts';
import type { PackedFormulas } from '../chem/encoding.ts';
import type { FilterConfig, GanConfig } from './config.ts';
import { filterOn } from './filter.ts';
import { criticNetwork, generatorNetwork, type Network } from './layers.ts';
import { type LossCheck, networkState, type StateVariable, type Trainer, trainingNorm, update } from './training.ts';

/** Numbers that keep the random draws of a step apart. */
const streams = { rows: 0, generator: 1, initialGenerator: 2, initialCritic: 3, firstCritic: 16 };
/** Drafts beside the noise of a stream: beyond what a hundred critic steps take. */
const draftStream = 1024;
/** And for that of what they must have. */
const requiredStream = 2048;

/** Logits of each cell against "absent", from packed rows; a frequency of nothing counts as 1e-5. */
function frequencyLogits({ packed, rows }: PackedFormulas): Float64Array {
  const counts = new Float64Array(elementCount * countCount);
  const absent = new Float64Array(elementCount).fill(rows);
  for (let w = 0; w < rows * 4; w++) {
    for (const pair of [packed[w] & 0xffff, packed[w] >>> 16]) {
      if (pair === 0) continue;
      counts[((pair >>> 8) - 1) * countCount + (pair & 0xff) - 1]++;
      absent[(pair >>> 8) - 1]--;
    }
  }
  const log = (n: number): number => Math.log(Math.max(n / rows, 1e-5));
  return counts.map((n, i) => log(n) - log(absent[Math.floor(i / countCount)]));
}

/**
 * One training step: `criticSteps` updates of the critic, each on fresh rows and fresh noise, then one of the generator.
 * @param rows number of packed rows in the variable `data`
 */
export function ganTrainer(config: GanConfig, rows: number): Trainer {
  const graph = newGraph();
  const key = seedKey(config.seed);
  const generator = generatorNetwork(config.generator);
  const critic = criticNetwork(config.critic);
  const step = graph.variable('step', [2], 'u32');
  const data = graph.variable('data', [rows, 4], 'u32');
  const { batch, criticSteps, constraint } = config;
  const { eps } = config.batchNorm;
  const stateOf = (name: 'generator' | 'critic', network: Network): StateVariable =>
    networkState(
      graph,
      name,
      network.parameters,
      config[`${name}Optimiser`],
      config.seed,
      name === 'generator' ? streams.initialGenerator : streams.initialCritic,
      frequencyLogits,
    );
  const generatorState = stateOf('generator', generator);
  const criticState = stateOf('critic', critic);

  const frequencies = frequencyVariable(graph, config);
  const generate = (stream: number): { fake: Node; moments: Node | undefined } => {
    const norm = trainingNorm(generator.parameters);
    const weights = generator.parameters.views(generatorState.node);
    const { noise, drafts } = generatorInputs(config, { counter: step, batch, key, stream, frequencies });
    const fake = graph.within('generator', () => generator.apply(noise, { weights, drafts, norm: norm.mode, eps }));
    return { fake, moments: norm.packed() };
  };
  // Batch norm in the critic takes real, fake and interpolated rows apart, as the released graph does; without it, real
  // and fake go through as one batch.
  const judge = (rows: string, x: Node, weights: readonly Node[], extras?: readonly Node[]): Node =>
    graph.within(`critic on ${rows}:`, () =>
      critic.apply(x, { weights, norm: trainingNorm(critic.parameters).mode, eps, extras }),
    );
  const apart = critic.parameters.norms.length > 0;

  let state = criticState.node;
  let lossCritic!: Node;
  let penalty: Node | undefined;
  const checks: LossCheck[] = [];
  for (let k = 0; k < criticSteps; k++) {
    const stream = streams.firstCritic + 3 * k;
    const drawn = b.sampleRows(step, { rows, batch, draw: k, draws: criticSteps, stream: streams.rows, key });
    const real = b.unfold(data, drawn);
    const { fake } = generate(stream);
    const weights = critic.parameters.views(state);
    let onReal: Node;
    let onFake: Node;
    if (apart) [onReal, onFake] = [judge('real', real, weights), judge('fake', fake, weights)];
    else {
      const both = judge('real and fake', b.concat([real, fake]), weights);
      [onReal, onFake] = [b.rows(both, 0, batch), b.rows(both, batch, 2 * batch)];
    }
    lossCritic = b.wassersteinCritic(onReal, onFake);
    let total = lossCritic;
    if (constraint.name === 'gradientPenalty') {
      const n = constraint.rows ?? batch;
      const share = b.randomUniform(step, [n, 1], { key, stream: stream + 1 });
      // Cells and further inputs (the number of elements) are interpolated alike and are inputs in their own right.
      const inputs = (x: Node): Node[] => [x, ...critic.extras(x)];
      const [from, to] = [inputs(b.rows(real, 0, n)), inputs(b.rows(fake, 0, n))];
      const between = from.map((x, i) => {
        const part = b.reshape(share, [n, ...x.shape.slice(1).map(() => 1)]);
        return b.add(x, b.mul(part, b.sub(to[i], x)));
      });
      const [x, ...extras] = between;
      penalty = b.gradientPenalty(...grad(b.sum(judge('interpolated', x, weights, extras)), between));
      total = b.add(total, b.scale(penalty, constraint.lambda));
    }
    const gradient = critic.parameters.pack(grad(total, weights));
    if (k === 0) checks.push({ name: 'critic', loss: total, gradient, state: criticState });
    state = update(config.criticOptimiser, state, gradient, step, {
      decay: config.decay,
      every: criticSteps,
      offset: k,
      clip: constraint.name === 'clipping' ? constraint.clip : 0,
    });
  }

  const { fake, moments } = generate(streams.generator);
  // The critic's last update used this generator's samples: no gradient goes back through it.
  const settled = critic.parameters.views(b.stopGradient(state));
  const generatorWeights = generator.parameters.views(generatorState.node);
  const toLearn = (criticWeights: readonly Node[]): { loss: Node; gradient: Node } => {
    const loss = b.wassersteinGenerator(judge('fake', fake, criticWeights));
    return { loss, gradient: generator.parameters.pack(grad(loss, generatorWeights)) };
  };
  const { loss: lossGenerator, gradient } = toLearn(settled);
  const newGenerator = update(config.generatorOptimiser, generatorState.node, gradient, step, {
    decay: config.decay,
    every: 1,
    offset: 0,
    clip: 0,
  });

  const updates: [Node, Node][] = [
    [criticState.node, state],
    [generatorState.node, newGenerator],
    [step, b.increment(step)],
  ];
  const saved = [generatorState, criticState, ...(frequencies ? [frequencies] : [])];
  if (moments) {
    const running = runningVariable(graph, generator);
    saved.push(running);
    updates.push([running.node, b.ema(running.node, moments, config.batchNorm.decay)]);
  }
  if (config.averaging > 0) {
    const { size } = generator.parameters;
    const average = graph.variable('generator.average', [1, size]);
    saved.push({
      node: average,
      rows: ['average'],
      parameters: generator.parameters,
      initial: (rows) => (generatorState.initial(rows) as Float32Array).slice(0, size),
    });
    updates.push([average, b.ema(average, b.view(newGenerator, 0, [1, size]), config.averaging)]);
  }
  return {
    config,
    outputs: { lossCritic, ...(penalty && { gradientPenalty: penalty }), lossGenerator },
    updates,
    state: saved,
    step,
    data,
    counts: { generator: generator.parameters.count, critic: critic.parameters.count },
    // The generator against the critic as it stands: the updated one depends on the generator, which differences would see.
    checks: () => [
      ...checks,
      { name: 'generator', state: generatorState, ...toLearn(critic.parameters.views(criticState.node)) },
    ],
  };
}

/** The frequencies of the training rows that drafts are drawn from: constant, and saved with the model; undefined without drafts. */
function frequencyVariable(graph: Graph, { generator }: GanConfig): StateVariable | undefined {
  if (generator.kind !== 'dense' || !generator.draft) return undefined;
  const node = graph.variable('generator.frequencies', [frequencySumsSize]);
  return {
    node,
    initial: (rows) => frequencySums(rows && 'packed' in rows ? rows : { packed: new Uint32Array(0), rows: 0 }),
  };
}

/** What a generator makes a batch from: normal noise, and the cells of drafts where it takes them, from a stream of their own. */
function generatorInputs(
  { generator }: GanConfig,
  {
    counter,
    batch,
    key,
    stream,
    frequencies,
    required,
    given,
  }: {
    counter: Node;
    batch: number;
    key: readonly [number, number];
    stream: number;
    frequencies: StateVariable | undefined;
    /** Frequencies of a second draft that is laid over the first: other elements (see `targetSums`). */
    required?: Node;
    /** Packed drafts [batch, 4] that are taken instead of drawing any. */
    given?: Node;
  },
): { noise: Node; drafts: Node | undefined } {
  const noise = b.randomNormal(counter, [batch, generator.latent], { key, stream });
  if (!frequencies) return { noise, drafts: undefined };
  const rows = b.iota(counter.graph, batch);
  if (given) return { noise, drafts: b.unfold(given, rows) };
  const draw = (sums: Node, at: number): Node =>
    b.unfold(b.randomFormulas(counter, sums, { batch, key, stream: stream + at }), rows);
  const drafts = draw(frequencies.node, draftStream);
  return { noise, drafts: required ? b.add(drafts, draw(required, requiredStream)) : drafts };
}

/** Running moments of a network's batch norms, side by side. */
export function runningVariable(graph: Graph, network: Network, name = 'generator.running'): StateVariable {
  const { parameters } = network;
  return { node: graph.variable(name, [parameters.runningSize]), initial: () => parameters.initialRunning() };
}

/** Graph of one batch of generated formulas, from the variables that training leaves. */
export interface GeneratorGraphs {
  /** Packed formulas [batch, 4]; zeros where a sample decodes to nothing. */
  formulas: Node;
  /** What generating keeps on the executor beside the generator's own state. */
  variables: readonly Node[];
  /** The counter that the noise follows; add one after each batch. */
  counter: Node;
  count: readonly [Node, Node];
  /** What a filter says of each formula [batch, 1], with its weights and the row numbers that it reads the formulas by. */
  filter?: { logits: Node; state: StateVariable; rows: Node };
  /** Frequencies of what every draft must have, where that was asked for. */
  required?: Node;
  /** Packed drafts [batch, 4] of the next batch, where they are given. */
  drafts?: Node;
  /** Sets the moments of the averaged weights from one batch, and refines them by another. */
  calibrate?: { first: [Node, Node]; further: [Node, Node] };
}

/**
 * @param rule how cells become formulas; @param seed of the noise; @param filter judges what comes out
 * @param withRequired drafts are laid over others that hold what every formula must have
 * @param givenDrafts drafts are written before each batch instead of drawn
 */
export function generatorGraphs(
  config: GanConfig,
  batch: number,
  rule: 'paper' | 'argmax',
  seed: number,
  {
    filter,
    withRequired = false,
    givenDrafts = false,
  }: { filter?: FilterConfig; withRequired?: boolean; givenDrafts?: boolean } = {},
): GeneratorGraphs {
  const graph = newGraph();
  const key = seedKey(seed);
  const generator = generatorNetwork(config.generator);
  const { parameters } = generator;
  const averaged = config.averaging > 0;
  const rows = { adam: 3, rmsProp: 2, sgd: 2 }[config.generatorOptimiser.name];
  const flat = averaged
    ? graph.variable('generator.average', [1, parameters.size])
    : graph.variable('generator', [rows, parameters.size]);
  const weights = parameters.views(flat);
  const counter = graph.variable('generate.counter', [2], 'u32');
  const { eps } = config.batchNorm;
  const frequencies = frequencyVariable(graph, config);
  const required = withRequired ? graph.variable('generate.required', [frequencySumsSize]) : undefined;
  const given = givenDrafts ? graph.variable('generate.drafts', [batch, 4], 'u32') : undefined;
  const inputs = (stream: number) =>
    generatorInputs(config, { counter, batch, key, stream, frequencies, required, given });
  const hasNorm = parameters.norms.length > 0;
  // The running moments are those of the last weights: averaged weights need their own.
  const running = graph.variable(averaged ? 'generate.running' : 'generator.running', [
    Math.max(1, parameters.runningSize),
  ]);
  const { noise, drafts } = inputs(32);
  const cells = generator.apply(noise, { weights, drafts, norm: { train: false, running }, eps });
  let calibrate: GeneratorGraphs['calibrate'];
  if (averaged && hasNorm) {
    const norm = trainingNorm(parameters);
    const { noise, drafts } = inputs(33);
    generator.apply(noise, { weights, drafts, norm: norm.mode, eps });
    const moments = norm.packed()!;
    calibrate = { first: [running, moments], further: [running, b.ema(running, moments, 0.85)] };
  }
  const formulas = b.decode(cells, rule);
  let judged: GeneratorGraphs['filter'];
  if (filter) {
    const rows = graph.variable('generate.rows', [batch], 'u32');
    const { state, apply } = filterOn(graph, filter, ['weights']);
    judged = { logits: apply(b.unfold(formulas, rows)), state, rows };
  }
  return {
    formulas,
    variables: [
      ...[counter, running, ...(judged ? [judged.rows, judged.state.node] : [])],
      ...[required, given].filter((node) => node !== undefined),
    ],
    filter: judged,
    required,
    drafts: given,
    counter,
    count: [counter, b.increment(counter)],
    calibrate,
  };
}
