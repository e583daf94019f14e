import { rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Executor } from '../autograd/executor.ts';
import { openExecutor } from '../autograd/open.ts';
import { uniqueRows, writeFormulas } from '../chem/dataset.ts';
import { type EvaluationResult, evaluateFormulas } from '../chem/metrics.ts';
import { formulaText } from '../chem/rows.ts';
import { writeWhole } from '../chem/tables.ts';
import { flagCN, flagEN, judgePacked } from '../chem/validity.ts';
import { loadConfig } from '../models/config.ts';
import { findCheckpoint, loadTrainingData, logName, makeRunFolder, ownFilter, train } from '../models/run.ts';
import { sample } from '../models/sampler.ts';
import { evaluationPage, pickExamples } from '../report/evaluation.ts';
import { readLog } from '../report/log.ts';
import { consoleTable, percent } from '../report/table.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
import { trainingProgress } from './train.ts';

interface DemoOptions {
  out: string;
  count: number;
  device: 'auto' | 'gpu' | 'reference';
  seed: number;
  json?: boolean;
}

/** Seconds that each part may train: with set-up and evaluation the demo stays under five minutes. */
const aeSeconds = 60;
const ganSeconds = { gpu: 190, reference: 150 };
/** Samples that the reference executor can draw in a few seconds. */
const referenceSamples = 256;

export function demo(): Command {
  const command = new Command('demo')
    .description('train a small autoencoder and a small MatGAN on the default set, and judge what it invents')
    .option('--out <folder>', 'folder of the demo; its own earlier runs there are replaced', 'runs/demo')
    .option('--count <n>', 'formulas to generate', integer(1, 10_000_000), 20_000)
    .option('--seed <n>', 'seed of everything random', integer(0), 1)
    .addOption(deviceOption())
    .action(run);
  return standardOptions(command, 'matgan demo');
}

async function run(options: DemoOptions): Promise<void> {
  const started = performance.now();
  const { executor, note: adapter } = await openExecutor(options.device, { boundsChecks: false });
  try {
    note(adapter);
    await trainPart(executor, adapter, 'ae', 'demo-ae', options, aeSeconds);
    await trainPart(executor, adapter, 'gan', 'demo', options, ganSeconds[executor.kind]);

    const folder = join(options.out, 'gan');
    const checkpoint = findCheckpoint(folder);
    const count = executor.kind === 'gpu' ? options.count : Math.min(options.count, referenceSamples);
    note(
      `\ngenerating ${count} samples${count < options.count ? ' (the reference executor is too slow for more)' : ''}`,
    );
    const generated = await sample(executor, checkpoint, {
      count,
      seed: options.seed,
      reduce: true,
      batch: Math.min(count, 512),
    });
    await writeFormulas(join(options.out, 'generated.csv'), uniqueRows(generated));
    const data = await loadTrainingData(null, checkpoint.config);
    const result = evaluateFormulas({ generated, training: data.train, leaveOut: data.leaveOut, seed: options.seed });
    const shipped = executor.kind === 'gpu' ? await shippedPart(executor, 'icsd', options.seed) : undefined;
    if (options.json)
      process.stdout.write(`${JSON.stringify({ requested: count, decoded: generated.rows, ...result })}\n`);
    else process.stdout.write(`${summary(result, count)}\n`);
    note(shipped === undefined ? 'the reference executor is too slow for the generator that ships' : `\n${shipped}`);
    const page = join(options.out, 'report.html');
    const html = evaluationPage({
      title: 'MatGAN demo',
      lead: `A narrow MatGAN, trained for ${checkpoint.step} steps (${checkpoint.seconds.toFixed(0)} s) on ${data.train.rows} formulas of the default set; ${adapter}.${shipped === undefined ? '' : ` ${shipped}`}`,
      result,
      examples: pickExamples({ generated, training: data.train, leaveOut: data.leaveOut }, options.seed),
      losses: { MatGAN: readLog(join(folder, logName)), Autoencoder: readLog(join(options.out, 'ae', logName)) },
    });
    await writeWhole(page, (temporary) => writeFile(temporary, html));
    note(`${page} has the loss curves and examples; ${((performance.now() - started) / 1000).toFixed(0)} s in all`);
  } finally {
    executor.destroy();
  }
}

/** What a generator that ships makes, through its filter where it has one, in words: a few hundred formulas, judged. */
export async function shippedPart(executor: Executor, name: string, seed: number, count = 320): Promise<string> {
  const checkpoint = findCheckpoint(name);
  const own = ownFilter(name);
  const filter = own === undefined ? undefined : findCheckpoint(own);
  const made = await sample(executor, checkpoint, { count, seed, reduce: true, batch: Math.min(count, 64), filter });
  const different = uniqueRows(made);
  const flags = judgePacked(different.packed, different.rows);
  const share = (flag: number): string => percent(flags.filter((f) => f & flag).length / Math.max(1, different.rows));
  const examples = [...flags.keys()].filter((row) => flags[row] & flagEN).slice(0, 8);
  const shown = examples.map((row) => formulaText(different.packed, row)).join(', ');
  return (
    `The generator ${name}, which comes trained (${checkpoint.step} steps${filter ? ', with a filter of its samples' : ''}): ${made.rows} formulas of ${count} samples, ${different.rows} different, ` +
    `charge-neutral ${share(flagCN)}, electronegativity-balanced ${share(flagEN)}; some of these: ${shown || 'none'}.`
  );
}

async function trainPart(
  executor: Executor,
  adapter: string,
  kind: 'ae' | 'gan',
  preset: string,
  options: DemoOptions,
  maxSeconds: number,
): Promise<void> {
  const folder = join(options.out, kind);
  // The demo's own folders, named here: nothing else in --out is touched.
  for (const file of ['config.json', 'log.jsonl', 'checkpoint.safetensors', 'lock'])
    rmSync(join(folder, file), { force: true });
  makeRunFolder(folder);
  const config = loadConfig(kind, { preset, overrides: { seed: options.seed } });
  const data = await loadTrainingData(null, config);
  note(
    `\n${kind === 'ae' ? 'an autoencoder learns to write formulas down and read them back' : 'a MatGAN learns to invent formulas'} (preset ${preset}, ${data.train.rows} formulas, ${data.leaveOut.rows} left out)`,
  );
  const progress = trainingProgress(0, config.steps, config.batch);
  try {
    const result = await train({
      folder,
      executor,
      adapter,
      config,
      data,
      logEvery: kind === 'ae' ? 20 : 50,
      measureEvery: 100,
      checkpointEvery: 1000,
      maxSeconds,
      onLog: (line) => progress.losses(line),
      onProgress: progress.step,
    });
    progress.stop();
    note(
      `${result.step} steps in ${result.seconds.toFixed(0)} s, ${(result.rate * config.batch).toFixed(0)} samples/s`,
    );
    if (!result.finished)
      note(`this machine is slow: stopped at ${result.step} of ${config.steps} steps to keep to time`);
  } finally {
    progress.stop();
  }
}

/** The table that a newcomer came to see: validity per number of elements beside training and two baselines. */
export function summary(result: EvaluationResult, requested: number): string {
  const rows = Object.entries(result.byElementCount).map(([n, r]) => [
    n,
    r.generated.count,
    ...[r.generated, r.training, r.uniform, r.frequency].flatMap((rates) => [
      percent(rates.chargeNeutral),
      percent(rates.electronegativityBalanced),
    ]),
  ]);
  const { reweighted, baselines } = result;
  rows.push([
    'all',
    result.generated,
    percent(reweighted.chargeNeutral),
    percent(reweighted.electronegativityBalanced),
    percent(result.training.chargeNeutral),
    percent(result.training.electronegativityBalanced),
    percent(baselines.uniform.reweighted.chargeNeutral),
    percent(baselines.uniform.reweighted.electronegativityBalanced),
    percent(baselines.frequency.reweighted.chargeNeutral),
    percent(baselines.frequency.reweighted.electronegativityBalanced),
  ]);
  const head = ['elements', 'generated', 'CN', 'EN', 'training CN', 'EN', 'random CN', 'EN', 'frequencies CN', 'EN'];
  return `${consoleTable(head, rows)}
CN: charge-neutral, EN: electronegativity-balanced, by the paper's rule. random: uniform formulas with as many elements;
frequencies: elements and counts drawn from training's, independently. The last row has training's mix of sizes.
${requested} samples: ${result.generated} formulas, ${result.unique} different, ${result.novel} of them new; ${percent(result.recoveredLeaveOut)} of the left-out formulas found (frequencies alone: ${percent(baselines.frequency.recoveredLeaveOut)})`;
}
