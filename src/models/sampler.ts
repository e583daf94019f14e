/** Formulas out of a trained generator. */
import type { Executor } from '../autograd/executor.ts';
import { type PackedFormulas, reducePacked } from '../chem/encoding.ts';
import { CheckpointError } from '../errors.ts';
import { assemble, type Checkpoint } from './checkpoint.ts';
import type { GanConfig } from './config.ts';
import { ganTrainer, generatorGraphs } from './gan.ts';
import { checkSize } from './size.ts';
import type { StateVariable } from './training.ts';

export interface SampleOptions {
  /** Samples to draw. */
  count: number;
  seed: number;
  /** How cells become formulas; the configuration's rule unless said. */
  rule?: 'paper' | 'argmax';
  /** Divide each formula by the greatest common divisor of its counts. */
  reduce?: boolean;
  /** Samples in one pass. */
  batch?: number;
  onProgress?: (drawn: number) => void;
}

/** Batches that settle the moments of averaged weights. */
const calibrationBatches = 12;

/**
 * Draws `count` samples and returns those that decode to a formula, in order. The same checkpoint, seed and batch give
 * the same formulas on the same adapter.
 */
export async function sample(
  executor: Executor,
  checkpoint: Checkpoint,
  options: SampleOptions,
): Promise<PackedFormulas> {
  const { config } = checkpoint;
  if (config.model !== 'gan') {
    throw new CheckpointError(`${checkpoint.path}: it is a model of kind ${config.model}; generating takes a gan`);
  }
  const batch = options.batch ?? 128;
  checkSize(config, `${checkpoint.path}, --batch ${batch}`, batch);
  const graphs = generatorGraphs(config, batch, options.rule ?? config.decoding, options.seed);
  const restored = generatorState(checkpoint, config);
  try {
    for (const variable of restored) executor.write(variable.node, assemble(checkpoint, variable));
    return await draw(executor, graphs, { ...options, batch });
  } finally {
    executor.forget([...restored.map(({ node }) => node), ...graphs.variables]);
  }
}

type Graphs = ReturnType<typeof generatorGraphs>;

async function draw(
  executor: Executor,
  graphs: Graphs,
  options: SampleOptions & { batch: number },
): Promise<PackedFormulas> {
  const { batch } = options;
  if (graphs.calibrate) {
    // An executor may have sampled before: the moments must not follow from how often.
    executor.write(graphs.counter, new Uint32Array(2));
    for (const [update, times] of [
      [graphs.calibrate.first, 1],
      [graphs.calibrate.further, calibrationBatches],
    ] as const) {
      const plan = await executor.plan({ updates: [update, graphs.count] });
      try {
        for (let i = 0; i < times; i++) plan.run();
        await executor.idle();
      } finally {
        plan.destroy();
      }
    }
  }
  executor.write(graphs.counter, new Uint32Array(2));
  const plan = await executor.plan({ outputs: [graphs.formulas], updates: [graphs.count] });
  try {
    // Grown as formulas come: a request for ten million samples from a dead generator takes no memory.
    let packed = new Uint32Array(4096);
    let rows = 0;
    for (let drawn = 0; drawn < options.count; drawn += batch) {
      plan.run();
      const words = await plan.read(graphs.formulas);
      const take = Math.min(batch, options.count - drawn);
      for (let i = 0; i < take; i++) {
        if (words[4 * i] === 0) continue;
        if (packed.length < 4 * (rows + 1)) {
          const larger = new Uint32Array(packed.length * 2);
          larger.set(packed);
          packed = larger;
        }
        packed.set(words.subarray(4 * i, 4 * i + 4) as Uint32Array, 4 * rows);
        if (options.reduce) reducePacked(packed, rows);
        rows++;
      }
      options.onProgress?.(Math.min(options.count, drawn + batch));
    }
    return { packed: packed.slice(0, 4 * rows), rows };
  } finally {
    plan.destroy();
  }
}

/** What generating needs of a checkpoint. */
function generatorState({ data }: Checkpoint, config: GanConfig): StateVariable[] {
  return ganTrainer(config, data.rows).state.filter(({ node }) => {
    const { name } = node.attrs;
    // The optimiser's moments are not needed where the average is what generates.
    return name.startsWith('generator') && !(name === 'generator' && config.averaging > 0);
  });
}
