/** This project, as a child of run.mjs: the trainers' own steps with their draws, and what others must agree with. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import type { Node } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { openDevice } from '../../src/kernels/device.ts';
import type { GanConfig } from '../../src/models/config.ts';
import { generatorNetwork } from '../../src/models/layers.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { initialise } from '../../src/models/training.ts';
import { fixedStep, type GenerateCase, type OpCase, opNodes, opVariables, type StepCase } from './cases.ts';
import { digest, inputsOf, serve } from './child.mjs';
import { numbers } from './pieces.mjs';

const device = await openDevice({ boundsChecks: false });
const gpu = new GpuExecutor(device);
type Case = { kind: 'step' | 'generate' | 'op' };

/** A plan as work: each run is one replay, waited for after the last; `sleeping` waits without polling. */
function work(
  plan: Awaited<ReturnType<GpuExecutor['plan']>>,
  variables: readonly Node[],
  results: () => Promise<object>,
) {
  return {
    run: async (last: boolean) => {
      plan.run();
      if (last) await gpu.idle();
    },
    sleeping: async ({ count, ms }: { count: number; ms: number }) => {
      const start = performance.now();
      for (let i = 0; i < count; i++) plan.run();
      // Half of what polling took: without polling a step can be a third faster, and the sleep must not be what is measured.
      await sleep(0.5 * count * ms);
      await gpu.idle();
      return (performance.now() - start) / count;
    },
    results,
    drop: () => {
      plan.destroy();
      gpu.forget(variables);
    },
  };
}

/** The step on the hashed inputs: its first two losses, which others must agree with. */
async function expectedLosses(c: StepCase): Promise<Record<string, number>[]> {
  const { constraint } = c.config as GanConfig;
  const lambda = constraint?.name === 'gradientPenalty' ? constraint.lambda : 0;
  const fixed = fixedStep(makeTrainer(c.config, 64), c.parameters);
  for (const [node, data] of fixed.values) gpu.write(node, data);
  const plan = await gpu.plan({ outputs: fixed.outputs.map(([, node]) => node), updates: fixed.updates });
  const losses: Record<string, number>[] = [];
  for (let k = 0; k < 2; k++) {
    plan.run();
    const now: Record<string, number> = {};
    for (const [name, node] of fixed.outputs) now[name] = (await plan.read(node))[0];
    const { lossCritic, gradientPenalty = 0, lossGenerator } = now;
    losses.push('loss' in now ? now : { critic: lossCritic + lambda * gradientPenalty, generator: lossGenerator });
  }
  plan.destroy();
  gpu.forget(fixed.values.map(([node]) => node));
  return losses;
}

async function step(c: StepCase & { first?: boolean }) {
  const losses = c.first ? [] : await expectedLosses(c);
  const { packed, rows } = synthesize({ count: 2048 });
  const trainer = makeTrainer(c.config, rows);
  initialise(gpu, trainer, { packed, rows });
  gpu.write(trainer.data, packed);
  const plan = await gpu.plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
  if (!c.first) {
    plan.run();
    await gpu.idle();
  }
  return work(plan, [...trainer.state.map(({ node }) => node), trainer.step, trainer.data], async () => ({ losses }));
}

async function generate(c: GenerateCase & { batch: number }) {
  const { parameters, apply } = generatorNetwork(c.config.generator);
  const graph = newGraph();
  const flat = graph.variable('peer.weights', [parameters.size]);
  const running = graph.variable('peer.running', [parameters.runningSize]);
  const noise = inputsOf(c).noise;
  const x = graph.variable('peer.noise', noise.shape);
  const weights = new Float32Array(parameters.size);
  for (const spec of c.parameters) weights.set(numbers(spec), spec.offset);
  const moments = new Float32Array(parameters.runningSize);
  for (const [i, { spec }] of c.running.entries()) moments.set(numbers(spec), parameters.norms[i].offset);
  gpu.write(flat, weights);
  gpu.write(running, moments);
  gpu.write(x, numbers(noise));
  const { eps } = c.config.batchNorm;
  const cells = apply(x, { weights: parameters.views(flat), norm: { train: false, running }, eps });
  const plan = await gpu.plan({ outputs: [cells] });
  plan.run();
  return work(plan, [flat, running, x], async () => ({ cells: digest(await plan.read(cells)) }));
}

async function op(c: OpCase) {
  const variables = Object.entries(opVariables(c, true));
  for (const [, { node, spec }] of variables) gpu.write(node, numbers(spec));
  const nodes = opNodes(c, Object.fromEntries(variables.map(([name, { node }]) => [name, node])));
  const plan = await gpu.plan({ outputs: Object.values(nodes) });
  plan.run();
  const results = async (): Promise<object> => {
    const found: Record<string, object> = {};
    for (const [name, node] of Object.entries(nodes)) found[name] = digest(await plan.read(node));
    return found;
  };
  return work(
    plan,
    variables.map(([, { node }]) => node),
    results,
  );
}

const { description, device: name, architecture, vendor, software } = device.info;
await serve(
  (c: Case) => {
    if (c.kind === 'step') return step(c as unknown as StepCase);
    if (c.kind === 'generate') return generate(c as unknown as GenerateCase & { batch: number });
    return op(c as unknown as OpCase);
  },
  { adapter: description || name, architecture, vendor, software },
);
