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

/** An argument parser for a range within [min, max]: 3, 1..3, ..0 or 1.. */
export function range(min: number, max: number, whole = false): (text: string) => [number, number] {
  const parse = whole ? integer(min, max) : real(min, max);
  return (text) => {
    const parts = text.split('..');
    if (parts.length > 2 || text.trim() === '..')
      throw new InvalidArgumentError('It takes a range such as 1..3, ..3 or 1..');
    const [low, high = low] = parts;
    const least = low.trim() === '' && parts.length === 2 ? min : parse(low);
    const most = high.trim() === '' && parts.length === 2 ? max : parse(high);
    if (least > most) throw new InvalidArgumentError('It starts above its end.');
    return [least, most];
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
