import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError } from 'commander';
import { GpuExecutor } from '../autograd/executor.ts';
import { tune as measure, type TuneRow } from '../autograd/tune.ts';
import { openDevice } from '../kernels/device.ts';
import { tunedOps } from '../kernels/lower.ts';
import { saveTuning } from '../kernels/tuning.ts';
import { loadConfig } from '../models/config.ts';
import { makeTrainer } from '../models/run.ts';
import { consoleTable } from '../report/table.ts';
import { integer, note, standardOptions } from './common.ts';

interface Options {
  preset: string[];
  batch?: number;
  op?: string;
  dryRun?: boolean;
  json?: boolean;
}

/** @throws InvalidArgumentError for an op that comes in no variants */
function tunedOp(name: string): string {
  if (!(tunedOps as readonly string[]).includes(name))
    throw new InvalidArgumentError(`It takes ${tunedOps.join(', ')}.`);
  return name;
}

/** Rows of the data set that a step is traced with; no kernel's choice depends on it. */
const dataRows = 2048;

async function run({ preset, batch, op, dryRun, json }: Options): Promise<void> {
  const configs = preset.map((name) =>
    loadConfig(undefined, { preset: name, overrides: batch === undefined ? {} : { batch } }),
  );
  const device = await openDevice({ boundsChecks: false });
  const bar = new SingleBar({ format: '{bar} {value}/{total} {name}', stream: process.stderr, clearOnComplete: true });
  try {
    const executor = new GpuExecutor(device);
    const choices = new Map<string, string>();
    const rows: TuneRow[] = [];
    for (const config of configs) {
      const trainer = makeTrainer(config, dataRows);
      let started = false;
      const result = await measure(
        executor,
        { outputs: Object.values(trainer.outputs), updates: trainer.updates },
        {
          op,
          known: new Set(choices.keys()),
          onChoice: (key, name) => {
            choices.set(key, name);
            if (!dryRun) saveTuning(device.info, choices);
          },
          onProgress: (done, total, name) => {
            if (!started) bar.start(total, 0, { name });
            started = true;
            bar.update(done, { name });
          },
        },
      );
      bar.stop();
      rows.push(...result.rows);
    }
    if (json) process.stdout.write(`${JSON.stringify(rows)}\n`);
    else {
      const best = (row: TuneRow): boolean => row.chosen;
      const first = (row: TuneRow): TuneRow => rows.find(({ op, sizes }) => op === row.op && sizes === row.sizes)!;
      const shown = rows.filter(best).map((row) => {
        const { microseconds } = first(row);
        return [
          `${row.op} ${row.shapes}`,
          row.variant,
          row.microseconds!.toFixed(1),
          row.gflops.toFixed(1),
          microseconds === null ? '' : `${(microseconds / row.microseconds!).toFixed(2)} ×`,
        ];
      });
      process.stdout.write(`${consoleTable(['kernel', 'fastest', 'µs', 'GFLOP/s', 'against the guess'], shown)}\n`);
      for (const { op, shapes, variant, why } of rows) if (why) note(`${op} ${shapes}: ${variant}: ${why}`);
    }
    if (!dryRun) note(`choices are in ${saveTuning(device.info, choices)}`);
  } finally {
    bar.stop();
    device.destroy();
  }
}

/** `matgan tune`: times every variant of each kernel on this adapter and keeps the fastest. */
export function tune(): Command {
  const command = new Command('tune')
    .description('time every variant of each kernel on this adapter, and use the fastest from then on')
    .option('--preset <names...>', 'whose shapes', ['icsd', 'oqmd', 'ae'])
    .option('--batch <n>', 'another batch than the presets’', integer(1, 65_536))
    .option('--op <name>', 'only the kernels of one op, e.g. conv2d', tunedOp)
    .option('--dry-run', 'measure, but keep nothing')
    .addHelpText(
      'after',
      '\nA variant is held against the first one before it is timed. Choices are kept in the user’s cache folder for this adapter\n' +
        'and these shaders; MATGAN_TUNING=FOLDER puts them elsewhere, MATGAN_TUNING=none leaves them out.',
    )
    .action(run);
  return standardOptions(command, 'matgan tune --preset icsd');
}
