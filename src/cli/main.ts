import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { MatganError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { bench } from './bench.ts';
import { check } from './check.ts';
import { data } from './data.ts';
import { devices } from './devices.ts';
import { evaluate } from './evaluate.ts';
import { generate } from './generate.ts';
import { gradcheck } from './gradcheck.ts';
import { train } from './train.ts';

/** One file a command; each exports a function that returns its commander Command. */
const commands: readonly (() => Command)[] = [devices, data, check, train, generate, evaluate, gradcheck, bench];

export function program(): Command {
  const { version } = JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8')) as { version: string };
  const root = new Command('matgan')
    .description('Trains MatGAN, the GAN of inorganic formulas, on hand-written WebGPU kernels.')
    .version(version)
    .showHelpAfterError('(add --help for the options and an example)')
    .showSuggestionAfterError(true);
  for (const command of commands) root.addCommand(command());
  // exitOverride is not inherited by addCommand: a mistake in any command must reach main() as exit code 2.
  const override = (c: Command): void => {
    c.exitOverride();
    c.configureOutput({ outputError: (text, write) => write(text) });
    for (const child of c.commands) override(child);
  };
  override(root);
  return root;
}

/** Runs the command line; returns the exit code (0 success, 1 our fault, 2 the user's mistake, 130 interrupted). */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    await program().parseAsync(argv as string[], { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const debug = argv.includes('--debug');
    if (error instanceof MatganError) {
      process.stderr.write(`${debug ? error.stack : `${error.name}: ${error.message}`}\n`);
      return error.userMistake ? 2 : 1;
    }
    const text = error instanceof Error ? (debug ? error.stack : `${error.name}: ${error.message}`) : String(error);
    process.stderr.write(`${text}\n${debug ? '' : 'This is a fault in matgan; --debug shows where.\n'}`);
    return 1;
  }
}
