import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { type BenchReport, bench as measure } from '../report/bench.ts';
import { consoleTable, percent } from '../report/table.ts';
import { note, standardOptions } from './common.ts';

interface Options {
  filter?: string;
  quick?: boolean;
  json?: boolean;
}

async function run({ filter, quick, json }: Options): Promise<void> {
  const bar = new SingleBar({ format: '{bar} {value}/{total} {name}', stream: process.stderr, clearOnComplete: true });
  let started = false;
  let report: BenchReport;
  try {
    report = await measure({
      filter,
      quick,
      onProgress: (done, total, name) => {
        if (!started) bar.start(total, 0, { name });
        started = true;
        bar.update(done, { name });
      },
    });
  } finally {
    bar.stop();
  }
  const { adapter, ceilings, rows } = report;
  const { fmaGflops, copyGbps } = ceilings;
  note(`${adapter}: FMA ${fmaGflops.toFixed(1)} GFLOP/s, copy ${copyGbps.toFixed(1)} GB/s`);
  if (json) {
    process.stdout.write(`${JSON.stringify(rows)}\n`);
    return;
  }
  const table = consoleTable(
    ['case', 'median ms', '± ms', 'GFLOP/s', 'of FMA', 'GB/s', 'of copy', 'dispatches'],
    rows.map((row) => [
      row.name,
      row.medianMs.toFixed(3),
      row.spreadMs.toFixed(3),
      row.gflops.toFixed(2),
      percent(row.fmaShare),
      row.gbps.toFixed(2),
      percent(row.copyShare),
      row.dispatches,
    ]),
  );
  process.stdout.write(`${table}\n`);
}

/** `matgan bench`: kernels and training steps against the adapter's ceilings. */
export function bench(): Command {
  const command = new Command('bench')
    .description('time kernels at the shapes of the paper’s nets, and training steps, against the adapter’s ceilings')
    .option('--filter <text>', 'only cases with this in their names, e.g. conv2d, dense, step, icsd')
    .option('--quick', 'only the GAN-ICSD shapes, and less time a case')
    .addHelpText(
      'after',
      '\nEvery kernel is held against the f64 reference before it is timed; a wrong one ends the run. Steps are checked for\n' +
        'finite losses. ± is the distance of the quartiles. GB/s counts the least bytes that a kernel has to move.',
    )
    .action(run);
  return standardOptions(command, 'matgan bench --filter conv2d --quick');
}
