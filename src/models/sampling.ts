/** A small sample of a generator while it is trained: drawn as generating draws, and judged. */
import type { Executor } from '../autograd/executor.ts';
import type { Plan } from '../autograd/plan.ts';
import { rowWords } from '../chem/encoding.ts';
import { SampleJudge } from '../chem/samples.ts';
import type { GanConfig } from './config.ts';
import { generatorGraphs } from './gan.ts';
import type { TrainingData } from './run.ts';
import { calibrationBatches, defaultBatch } from './sampler.ts';
import type { Measurement } from './training.ts';

/** Samples in one pass, at most: beside a training step little memory should be wanted. */
const largestBatch = 1024;

/**
 * Draws `size` samples each time it runs, with the averaged weights and their calibrated moments where the model has them, from
 * the same noise each time: figures then differ by the weights alone. Nothing that training uses is written, and everything on the
 * device is made here, once.
 */
export async function sampleMeasurement(
  config: GanConfig,
  executor: Executor,
  data: Pick<TrainingData, 'train' | 'leaveOut'>,
  size: number,
): Promise<Measurement> {
  const batch = Math.min(size, largestBatch, defaultBatch(executor, config));
  const graphs = generatorGraphs(config, batch, config.decoding, config.seed);
  const own = graphs.variables.filter(({ attrs }) => attrs.name.startsWith('generate.'));
  const plans: Plan[] = [];
  const destroy = (): void => {
    for (const plan of plans) plan.destroy();
    executor.forget(own);
  };
  const planned = async (step: Parameters<Executor['plan']>[0]): Promise<Plan> => {
    plans.push(await executor.plan(step));
    return plans[plans.length - 1];
  };
  try {
    const { calibrate, counter, count, formulas } = graphs;
    const first = calibrate && (await planned({ updates: [calibrate.first, count] }));
    const further = calibrate && (await planned({ updates: [calibrate.further, count] }));
    const draw = await planned({ outputs: [formulas], updates: [count] });
    const judge = new SampleJudge({ training: data.train, leaveOut: data.leaveOut }, size, config.seed);
    const packed = new Uint32Array(size * rowWords);
    const run = async (): Promise<Record<string, number>> => {
      executor.write(counter, new Uint32Array(2));
      first?.run();
      further?.run(calibrationBatches);
      // Calibrating moved it: samples are those of generating with this seed.
      await executor.idle();
      executor.write(counter, new Uint32Array(2));
      let rows = 0;
      for (let drawn = 0; drawn < size; drawn += batch) {
        draw.run();
        const words = (await draw.read(formulas)) as Uint32Array;
        for (let i = 0; i < Math.min(batch, size - drawn); i++) {
          // Zeros: a sample that decodes to nothing.
          if (words[i * rowWords] === 0) continue;
          packed.set(words.subarray(i * rowWords, (i + 1) * rowWords), rows++ * rowWords);
        }
      }
      return judge.judge({ packed, rows }) as Record<string, number>;
    };
    return { run, destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}
