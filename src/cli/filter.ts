import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ConfigError } from '../errors.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import { bestName, findCheckpoint, ownFilter } from '../models/run.ts';
import { percent } from '../report/table.ts';
import { note, real } from './common.ts';

export interface FilterOptions {
  /** A filter's run or model; false for none. */
  filter?: string | boolean;
  keep?: number;
}

/** Adds the options of commands that draw samples. */
export function filterOptions(command: Command): Command {
  return command
    .option(
      '--filter <run>',
      "keep what this filter takes for real; the generator's own (see train filter) if not given",
    )
    .option('--no-filter', 'take the samples as they come')
    .option(
      '--keep <share>',
      'share of the samples that the filter keeps; its own setting if not given',
      real(1e-4, 1),
    );
}

/** The filter to use for a generator, and the share that it keeps: the one that was named, or the generator's own where it has one. */
export function findFilter(path: string, options: FilterOptions): { filter: Checkpoint; keep: number } | undefined {
  const { filter } = options;
  const own = typeof filter === 'string' ? filter : filter === false ? undefined : ownFilter(path);
  if (own === undefined) {
    if (options.keep !== undefined) throw new ConfigError(`--keep: ${path} has no filter; name one with --filter`);
    return undefined;
  }
  const found = findCheckpoint(own, existsSync(join(own, bestName)) ? 'best' : 'last');
  if (found.config.model !== 'filter') {
    throw new ConfigError(`--filter ${own}: it is a model of kind ${found.config.model}, not a filter`);
  }
  const { keep = found.config.keep } = options;
  note(`filter ${found.path} keeps ${percent(keep)} of the samples; --no-filter takes them as they come`);
  return { filter: found, keep };
}
