import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { readCheckpoint } from '../models/checkpoint.ts';
import { isTrees, readTrees } from '../models/trees/files.ts';
import { packageRoot } from '../paths.ts';
import { consoleTable } from '../report/table.ts';
import { note, standardOptions } from './common.ts';

interface Shipped {
  name: string;
  model: string;
  /** Training steps; trees, of trees. */
  step: number;
  /** Rule by which cells become formulas. */
  decoding: string | null;
  /** Rows that it was trained on, and their fingerprint. */
  rows: number;
  fingerprint: string;
  bytes: number;
  /** First line of its card. */
  card: string | null;
}

/** The models that come with the program, by name; each has a card beside it. */
function shippedModels(folder: string = join(packageRoot, 'models')): Shipped[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .sort()
    .map((file) => {
      const path = join(folder, file);
      const { config, step, data } = isTrees(path) ? treesFacts(path) : readCheckpoint(path);
      // A filter is described on its generator's card.
      const card = path.replace(/(\.filter)?\.safetensors$/, '.md');
      return {
        name: file.replace(/\.safetensors$/, ''),
        model: config.model,
        step,
        decoding: 'decoding' in config ? config.decoding : null,
        rows: data.rows,
        fingerprint: data.fingerprint,
        bytes: statSync(path).size,
        card: existsSync(card) ? readFileSync(card, 'utf8').split('\n')[0].replace(/^#\s*/, '') : null,
      };
    });
}

/** Boosted trees as a checkpoint is looked at. */
function treesFacts(path: string) {
  const { config, forest, data } = readTrees(path);
  return { config, step: forest.starts.length - 1, data };
}

export function models(): Command {
  const command = new Command('models')
    .description('list the models that come with the program')
    .action((options: { json?: boolean }) => {
      const found = shippedModels();
      if (options.json) process.stdout.write(`${JSON.stringify({ models: found })}\n`);
      else if (found.length === 0) note('no model came with this copy');
      else {
        const rows = found.map((m) => [
          m.name,
          m.card ?? '',
          m.decoding ?? '',
          m.step,
          m.rows,
          `${(m.bytes / 1e6).toFixed(1)} MB`,
        ]);
        process.stdout.write(`${consoleTable(['name', 'what', 'rule', 'steps', 'trained on', 'size'], rows, 3)}\n`);
        note(
          `matgan generate NAME --count 10000, matgan predict NAME --formulas FILE; ${join('models', 'NAME.md')} is the card of each`,
        );
      }
    });
  return standardOptions(command, 'matgan models');
}
