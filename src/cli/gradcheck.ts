import { SingleBar } from 'cli-progress';
import { Command, Option } from 'commander';
import pc from 'picocolors';
import { type CheckRow, checkOp, failureOf } from '../autograd/gradcheck.ts';
import type { OpTable } from '../autograd/graph.ts';
import { type DeviceChoice, openExecutor } from '../autograd/open.ts';
import { ops } from '../autograd/ops/index.ts';
import { ConfigError, MatganError } from '../errors.ts';
import { loadConfig, nearest } from '../models/config.ts';
import { consoleTable } from '../report/table.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';
import { loadModule } from './module.ts';

interface Options {
  op?: string[];
  all?: boolean;
  module?: string;
  model?: string;
  batch?: number;
  order: number;
  device: DeviceChoice;
  limits: 'default' | 'adapter';
  seed: number;
  json?: boolean;
}

/** What is printed a row; `worst` is the error where it is greatest as a share of its own tolerance. */
const line = ({ worst, error, ...row }: CheckRow) => ({ ...row, worst: error, share: worst });

/** A number for people: three digits, or nothing for zero. */
const short = (value: number): string => (value === 0 ? '0' : value.toExponential(1));

/** One thing to check, with its name for the progress bar. */
interface Task {
  name: string;
  run: () => Promise<CheckRow[]>;
}

/** Ops to check: those named, else the module's, else all. */
function chosenOps({ op, all, module }: Options, own: OpTable): string[] {
  const names = [...Object.keys(ops), ...Object.keys(own)];
  for (const name of op ?? []) {
    if (!names.includes(name)) {
      throw new ConfigError(
        `gradcheck: there is no op ${name}${nearest(name, names)}; the table has ${names.join(', ')}`,
      );
    }
  }
  if (all) return names;
  return op ? [...new Set(op)] : module ? Object.keys(own) : names;
}

async function run(options: Options): Promise<void> {
  const { seed, model, batch } = options;
  if (model && (options.op || options.all || options.module)) {
    throw new ConfigError('gradcheck: --model checks a whole model; leave out --op, --all and --module');
  }
  if (batch && !model) throw new ConfigError('gradcheck: --batch is for --model');
  const config = model === undefined ? undefined : loadConfig(undefined, { preset: model });
  const own = options.module === undefined ? {} : (await loadModule('gradcheck', options.module)).ops;
  const chosen = config ? [] : chosenOps(options, own);
  const { executor, note: runsOn } = await openExecutor(options.device, { limits: options.limits });
  const gpu = executor.kind === 'gpu' ? executor : undefined;
  if (gpu) note(`GPU against reference: ${runsOn}`);
  else note(`ONLY THE REFERENCE IS CHECKED, against finite differences; no kernel ran. ${runsOn}`);

  const tasks: Task[] = chosen.map((name) => ({
    name,
    run: async () => {
      try {
        return await checkOp(name, { gpu, seed, own, order: options.order as 0 | 1 | 2 });
      } catch (cause) {
        // What the user's own functions throw is no fault of matgan's.
        if (cause instanceof MatganError || !(name in own)) throw cause;
        const text = String((cause as Error).message ?? cause).replace(/\s*\n\s*/g, ' ');
        throw new ConfigError(`gradcheck: op ${name} of ${options.module} throws ${text}`, { cause });
      }
    },
  }));
  if (config) {
    const { checkModel } = await import('../models/gradcheck.ts');
    tasks.push({ name: model!, run: () => checkModel(config, { gpu, batch, seed, name: model }) });
  }

  const rows: CheckRow[] = [];
  const bar = new SingleBar({ format: '{bar} {value}/{total} {op}', stream: process.stderr, clearOnComplete: true });
  bar.start(tasks.length, 0, { op: '' });
  try {
    for (const task of tasks) {
      bar.update({ op: task.name });
      rows.push(...(await task.run()));
      bar.increment();
    }
  } finally {
    bar.stop();
    executor.destroy();
  }

  const failed = rows.filter((row) => !row.pass);
  if (options.json) process.stdout.write(`${JSON.stringify(rows.map(line))}\n`);
  else {
    // Off a terminal isTTY is undefined, which createColors would take for its default.
    const colour = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
    const table = consoleTable(
      ['op', 'order', 'executor', 'samples', 'worst', 'tolerance', 'share', 'ULP', ''],
      rows.map((row) => [
        row.op,
        row.order,
        row.executor,
        row.samples,
        short(row.error),
        short(row.tolerance),
        row.worst.toFixed(3),
        row.executor === 'gpu' ? row.ulp.toFixed(1) : '',
        row.pass ? 'pass' : colour.red('FAIL'),
      ]),
    );
    process.stdout.write(`${table}\n`);
    for (const row of failed) process.stdout.write(`${colour.red('FAIL')} ${failureOf(row)}\n`);
  }
  const unchecked = chosen.filter((op) => !rows.some((row) => row.op === op));
  if (unchecked.length) note(`not checked, for want of a gradient or a GPU: ${unchecked.join(', ')}`);
  note(failed.length ? `${failed.length} of ${rows.length} checks FAILED` : `all ${rows.length} checks pass`);
  if (failed.length) process.exitCode = 1;
}

/** `matgan gradcheck`: kernels against the reference, gradients against differences, of ops or of a whole model. */
export function gradcheck(): Command {
  const command = new Command('gradcheck')
    .description('check ops: GPU against the f64 reference, gradients of the reference against finite differences')
    .option('--op <names...>', 'ops to check (all where left out)')
    .option('--all', 'check every op')
    .option('--module <file>', 'a module of your own that exports ops = { NAME: row }: checks those')
    .option('--model <preset>', "a whole model instead: its losses' gradients in all weights")
    .option('--batch <n>', 'rows of a batch, for --model (4 where left out)', integer(1, 4096))
    .option('--order <n>', 'highest order: 0 values, 1 gradients, 2 gradients of gradients', integer(0, 2), 2)
    .addOption(deviceOption())
    .addOption(
      new Option('--limits <which>', "WebGPU's default limits, or all that the adapter offers")
        .choices(['default', 'adapter'])
        .default('default'),
    )
    .option('--seed <n>', 'of the sample values and the cotangents', integer(0), 1)
    .addHelpText(
      'after',
      '\nworst is ‖difference‖/‖expected‖ at the sample where it is the greatest share of its tolerance, which follows\n' +
        'from the roundings of the op. ULP is the greatest error of an element. Exit code 1 where any check fails.\n' +
        'docs/own-op.md writes an op of its own and checks it.',
    )
    .action(run);
  return standardOptions(command, 'matgan gradcheck --op conv2d dense');
}
