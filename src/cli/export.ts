import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { ConfigError, DataError } from '../errors.ts';
import { writeWeights } from '../models/checkpoint.ts';
import { elemNetState } from '../models/elemnet.ts';
import { findCheckpoint, makeTrainer } from '../models/run.ts';
import { generatorState } from '../models/sampler.ts';
import { isTrees, readTrees } from '../models/trees/files.ts';
import { note, standardOptions } from './common.ts';

interface ExportOptions {
  out: string;
  float16?: boolean;
  best?: boolean;
  force?: boolean;
  json?: boolean;
}

export function exportModel(): Command {
  const command = new Command('export')
    .description('write a trained model without what only training needs')
    .argument('<run>', 'run folder, or model file')
    .requiredOption('--out <file>', 'where to write: .safetensors, of trees .onnx')
    .option('--float16', 'halve the file: weights rounded to float16')
    .option('--best', 'the best checkpoint of the run instead of the last')
    .option('--force', 'overwrite the file')
    .addHelpText(
      'after',
      '\nOf a GAN the generator is kept (its averaged weights where it has them), of an autoencoder both networks; generate,\n' +
        'autoencoder and predict take the file, training cannot go on from it. Trees go to .onnx: one TreeEnsembleRegressor of\n' +
        'ai.onnx.ml.',
    )
    .action(async (path: string, options: ExportOptions) => {
      const { out } = options;
      if (existsSync(path) && isTrees(path)) return await exportTrees(path, options);
      if (!out.endsWith('.safetensors'))
        throw new ConfigError(`export: --out takes a name that ends in .safetensors, not ${out}`);
      if (existsSync(out) && !options.force) throw new DataError(`${out}: it exists; take another name, or --force`);
      const checkpoint = findCheckpoint(path, options.best ? 'best' : 'last');
      const { config, data, step } = checkpoint;
      if (resolve(out) === resolve(checkpoint.path))
        throw new DataError(`${out}: the model itself; exported over it, it could not be trained on`);
      const state =
        config.model === 'gan'
          ? generatorState(checkpoint, config)
          : config.model === 'elemnet'
            ? elemNetState(config, data.rows)
            : makeTrainer(config, data.rows).state;
      writeWeights(out, checkpoint, state, options);
      const bytes = statSync(out).size;
      const result = { model: config.model, step, float16: options.float16 ?? false, bytes, out };
      if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
      else note(`wrote ${bytes} bytes to ${out}: ${config.model} after ${step} steps`);
    });
  return standardOptions(command, 'matgan export runs/icsd --float16 --out icsd.safetensors');
}

async function exportTrees(path: string, { out, force, float16, best, json }: ExportOptions): Promise<void> {
  const { writeOnnx } = await import('../models/trees/onnx.ts');
  if (!out.endsWith('.onnx')) throw new ConfigError(`export: trees go to a name that ends in .onnx, not ${out}`);
  if (float16 || best) throw new ConfigError(`export: ${float16 ? '--float16' : '--best'} is nothing that trees have`);
  if (existsSync(out) && !force) throw new DataError(`${out}: it exists; take another name, or --force`);
  const model = readTrees(path);
  writeOnnx(out, model);
  const result = { model: 'trees', trees: model.forest.starts.length - 1, bytes: statSync(out).size, out };
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else note(`wrote ${result.bytes} bytes to ${out}: ${result.trees} trees as ONNX`);
}
