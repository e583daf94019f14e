import { type Command, InvalidArgumentError, Option } from 'commander';

/** An argument parser for a whole number in [min, max]; commander prints the option's name before the message. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text.trim()) || !Number.isSafeInteger(value) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
      throw new InvalidArgumentError(`It takes a whole number ${range}.`);
    }
    return value;
  };
}

/** An argument parser for a finite number in [min, max]. */
export function real(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw new InvalidArgumentError(`It takes a number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Options that every command has: `--json` and `--debug`. `example` is shown at the end of `--help`. */
export function standardOptions(command: Command, example: string): Command {
  return command
    .option('--json', 'print JSON and nothing else on standard output')
    .option('--debug', 'show a stack with an error')
    .addHelpText('after', `\nExample:\n  ${example}`);
}

/** Progress and notes go to standard error, so that standard output can hold JSON alone. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** `--device`: a GPU if there is one (said, never silent), a GPU or an error, or the slow f64 reference. */
export const deviceOption = (): Option =>
  new Option('--device <which>', 'what computes').choices(['auto', 'gpu', 'reference']).default('auto');
