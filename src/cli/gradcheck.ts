import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import pc from 'picocolors';
import { type CheckRow, checkOp } from '../autograd/gradcheck.ts';
import { type DeviceChoice, openExecutor } from '../autograd/open.ts';
import { ops } from '../autograd/ops/index.ts';
import { ConfigError } from '../errors.ts';
import { nearest } from '../models/config.ts';
import { consoleTable } from '../report/table.ts';
import { deviceOption, integer, note, standardOptions } from './common.ts';

interface Options {
  op?: string[];
  all?: boolean;
  order: number;
  device: DeviceChoice;
  seed: number;
  json?: boolean;
}

/** What is printed a row; `worst` is the error where it is greatest as a share of its own tolerance. */
const line = ({ worst, error, ...row }: CheckRow) => ({ ...row, worst: error, share: worst });

/** A number for people: three digits, or nothing for zero. */
const short = (value: number): string => (value === 0 ? '0' : value.toExponential(1));

async function run(options: Options): Promise<void> {
  const names = Object.keys(ops);
  for (const name of options.op ?? []) {
    if (!names.includes(name)) {
      throw new ConfigError(
        `gradcheck: there is no op ${name}${nearest(name, names)}; the table has ${names.join(', ')}`,
      );
    }
  }
  const chosen = options.all || !options.op ? names : [...new Set(options.op)];
  const { executor, note: runsOn } = await openExecutor(options.device);
  const gpu = executor.kind === 'gpu' ? executor : undefined;
  if (gpu) note(`GPU against reference: ${runsOn}`);
  else note(`ONLY THE REFERENCE IS CHECKED, against finite differences; no kernel ran. ${runsOn}`);

  const rows: CheckRow[] = [];
  const bar = new SingleBar({ format: '{bar} {value}/{total} {op}', stream: process.stderr, clearOnComplete: true });
  bar.start(chosen.length, 0, { op: '' });
  try {
    for (const op of chosen) {
      bar.update({ op });
      rows.push(...(await checkOp(op, { gpu, seed: options.seed, order: options.order as 0 | 1 | 2 })));
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
      ['op', 'order', 'executor', 'worst', 'tolerance', 'share', 'ULP', ''],
      rows.map((row) => [
        row.op,
        row.order,
        row.executor,
        short(row.error),
        short(row.tolerance),
        row.worst.toFixed(3),
        row.executor === 'gpu' ? row.ulp.toFixed(1) : '',
        row.pass ? 'pass' : colour.red('FAIL'),
      ]),
    );
    process.stdout.write(`${table}\n`);
    for (const row of failed)
      process.stdout.write(`${colour.red('FAIL')} ${row.op}, order ${row.order}: ${row.detail}\n`);
  }
  const unchecked = chosen.filter((op) => !rows.some((row) => row.op === op));
  if (unchecked.length) note(`not checked, for want of a gradient or a GPU: ${unchecked.join(', ')}`);
  note(failed.length ? `${failed.length} of ${rows.length} checks FAILED` : `all ${rows.length} checks pass`);
  if (failed.length) process.exitCode = 1;
}

/** `matgan gradcheck`: every op's kernels against the reference, its gradients against finite differences. */
export function gradcheck(): Command {
  const command = new Command('gradcheck')
    .description('check ops: GPU against the f64 reference, gradients of the reference against finite differences')
    .option('--op <names...>', 'ops to check (all where left out)')
    .option('--all', 'check every op')
    .option('--order <n>', 'highest order: 0 values, 1 gradients, 2 gradients of gradients', integer(0, 2), 2)
    .addOption(deviceOption())
    .option('--seed <n>', 'of the sample values and the cotangents', integer(0), 1)
    .addHelpText(
      'after',
      '\nworst is ‖difference‖/‖expected‖ at the sample where it is the greatest share of its tolerance, which follows\n' +
        'from the roundings of the op. ULP is the greatest error of an element. Exit code 1 where any check fails.',
    )
    .action(run);
  return standardOptions(command, 'matgan gradcheck --op conv2d dense');
}
