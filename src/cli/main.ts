import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { MatganError } from '../errors.ts';
import { packageRoot } from '../paths.ts';

/** One file a command. Its own text, options and imports are loaded only when it is the one that runs. */
interface CommandEntry {
  name: string;
  /** The line in `matgan --help`. */
  about: string;
  load: () => Promise<() => Command>;
}

/** In the order in which a newcomer needs them. */
export const commands: readonly CommandEntry[] = [
  {
    name: 'demo',
    about: 'train a small MatGAN in a few minutes and judge what it invents',
    load: async () => (await import('./demo.ts')).demo,
  },
  {
    name: 'devices',
    about: 'show adapters, their limits and measured ceilings',
    load: async () => (await import('./devices.ts')).devices,
  },
  {
    name: 'data',
    about: 'prepare a data set from a file, or make the default one',
    load: async () => (await import('./data.ts')).data,
  },
  {
    name: 'check',
    about: 'judge formulas: charge neutrality and electronegativity balance',
    load: async () => (await import('./check.ts')).check,
  },
  {
    name: 'describe',
    about: 'compute the 145 Magpie descriptors of formulas',
    load: async () => (await import('./describe.ts')).describe,
  },
  {
    name: 'train',
    about: 'train a GAN, an autoencoder, a filter, a property model or boosted trees',
    load: async () => (await import('./train.ts')).train,
  },
  {
    name: 'generate',
    about: 'make new formulas with a trained generator',
    load: async () => (await import('./generate.ts')).generate,
  },
  {
    name: 'predict',
    about: 'predict a property of formulas, with its uncertainty',
    load: async () => (await import('./predict.ts')).predict,
  },
  {
    name: 'screen',
    about: 'rank generated formulas: validity, energy, band gap, known or new',
    load: async () => (await import('./screen.ts')).screen,
  },
  {
    name: 'distribution',
    about: 'compare the distribution of a number in several tables',
    load: async () => (await import('./distribution.ts')).distribution,
  },
  {
    name: 'models',
    about: 'list the models that come with the program',
    load: async () => (await import('./models.ts')).models,
  },
  {
    name: 'export',
    about: 'write a trained model without what only training needs',
    load: async () => (await import('./export.ts')).exportModel,
  },
  {
    name: 'evaluate',
    about: 'compare generated formulas with training data and a baseline',
    load: async () => (await import('./evaluate.ts')).evaluate,
  },
  {
    name: 'map',
    about: 'draw formulas as a t-SNE map, on a plane and in space',
    load: async () => (await import('./map.ts')).map,
  },
  {
    name: 'autoencoder',
    about: 'study a trained autoencoder: exact decoding, latent space',
    load: async () => (await import('./autoencoder.ts')).autoencoder,
  },
  {
    name: 'gradcheck',
    about: 'check every op: GPU against reference, gradients against differences',
    load: async () => (await import('./gradcheck.ts')).gradcheck,
  },
  {
    name: 'bench',
    about: 'time kernels and training steps against the adapter’s ceilings',
    load: async () => (await import('./bench.ts')).bench,
  },
  {
    name: 'tune',
    about: 'find the fastest variant of each kernel on this adapter',
    load: async () => (await import('./tune.ts')).tune,
  },
];

/**
 * The command line with the commands that `argv` names (`matgan train`, `matgan help train`) loaded whole, and the
 * others as a line of help: `check` must not wait for Dawn, nor `--help` for anything.
 */
export async function program(argv: readonly string[]): Promise<Command> {
  const { version } = JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8')) as { version: string };
  const root = new Command('matgan')
    .description('Trains MatGAN, the GAN of inorganic formulas, on hand-written WebGPU kernels.')
    .version(version)
    .option('--debug', 'show a stack with an error')
    // Options behind a command are its own: evaluate and its compare both have --out.
    .enablePositionalOptions()
    .addHelpText('after', '\nEach command has its own --help, with an example.');
  const words = argv.filter((word) => !word.startsWith('-'));
  const named = words[0] === 'help' ? words[1] : words[0];
  for (const { name, about, load } of commands) {
    root.addCommand(name === named ? (await load())() : new Command(name).description(about));
  }
  const settle = (command: Command, path: string): void => {
    // These are not inherited through addCommand: a mistake in any command must reach main() as exit code 2, in one line.
    command.exitOverride().showSuggestionAfterError(true);
    command.configureOutput({
      outputError: (text, write) => {
        const line = text.trim().replace(/\s*\n\s*/g, ' ');
        write(`${line}${/[.?!)]$/.test(line) ? '' : ';'} ${path} --help shows what it takes\n`);
      },
    });
    for (const child of command.commands) settle(child, `${path} ${child.name()}`);
  };
  settle(root, 'matgan');
  return root;
}

/** Runs the command line; returns the exit code (0 success, 1 our fault, 2 the user's mistake, 130 interrupted). */
export async function main(argv: readonly string[]): Promise<number> {
  const debug = argv.includes('--debug');
  try {
    await (await program(argv)).parseAsync(argv as string[], { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    // Commander has printed its message. Help that was asked for ends with 0; help for want of a command is a mistake.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof MatganError) {
      process.stderr.write(`${debug ? error.stack : `${error.name}: ${error.message}`}\n`);
      return error.userMistake ? 2 : 1;
    }
    const text = error instanceof Error ? `${error.name}: ${error.message}`.replace(/\s*\n\s*/g, ' ') : String(error);
    const hint = 'this is a fault in matgan, --debug shows where';
    process.stderr.write(`${debug && error instanceof Error ? error.stack : `${text} (${hint})`}\n`);
    return 1;
  }
}
