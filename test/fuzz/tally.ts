/** Counts what hostile inputs come to, and decides what is a fault: shared by scripts/fuzz.ts and the tests. */
import { MatganError } from '../../src/errors.ts';

/** A property that does not hold, or an ending that no outsider's input may reach. */
export interface Fault {
  readonly what: string;
  /** The input, so that it can be tried again. */
  readonly input: string;
}

/** Thrown by a check whose property does not hold. */
export class Broken extends Error {}

export function hold(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Broken(what);
}

/** Milliseconds that one small input may take. */
export const mostMs = 1000;
/** Characters of a message; names and values of strangers are cut. */
const longestMessage = 2100;

/** The time since a start: the processor's where that is less, since other work on the machine is not the input's fault. */
function clock(): () => number {
  const [wall, cpu] = [performance.now(), process.cpuUsage()];
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return Math.min(performance.now() - wall, (user + system) / 1000);
  };
}

/** Why an error is none of ours, or undefined where it is as it should be. */
export function faultOf(error: unknown): string | undefined {
  if (!(error instanceof MatganError)) {
    return `${error instanceof Broken ? 'broken' : 'not ours'}: ${error instanceof Error ? error.stack : String(error)}`;
  }
  const text = `${error.name}: ${error.message}`;
  if (!error.userMistake) return `not the input's fault: ${text}`;
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(error.message)) return `control characters: ${text}`;
  if (error.message.length > longestMessage) return `${error.message.length} characters: ${text.slice(0, 200)}`;
  // A mistake of the program that was caught and given one of our names is still a mistake of the program.
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause) {
    // Only what went wrong in our own code: libraries and Node have such errors for what they refuse.
    const place = cause.stack?.split('\n').find((line) => line.startsWith('    at ')) ?? '';
    if (!place.includes('/src/') || place.includes('node_modules')) continue;
    if (cause instanceof TypeError || cause instanceof ReferenceError) return `${text}; from ${cause.stack}`;
  }
  return undefined;
}

/** A text that says what the input was: as it is where it is plain and short, else in base64. */
export function shown(input: string | Uint8Array): string {
  const bytes = typeof input === 'string' ? Buffer.from(input, 'utf16le') : Buffer.from(input);
  if (typeof input === 'string' && /^[ -~]{0,400}$/.test(input)) return JSON.stringify(input);
  const kind = typeof input === 'string' ? 'utf16le ' : '';
  return `${kind}base64 ${bytes.subarray(0, 6000).toString('base64')}${bytes.length > 6000 ? '…' : ''}`;
}

export class Tally {
  readonly part: string;
  tried = 0;
  accepted = 0;
  /** Class (and kind) of error → inputs. */
  readonly refused = new Map<string, number>();
  slowestMs = 0;
  slowest = '';
  /** Greatest growth of typed arrays over one input, bytes. */
  largest = 0;
  /** Greatest resident memory above the start, bytes. */
  growth = 0;
  readonly faults: Fault[] = [];
  private readonly rss = process.memoryUsage.rss();

  constructor(part: string) {
    this.part = part;
  }

  /** Tries one input; the check throws an error of ours (refused), another (a fault), or returns (accepted). */
  attempt(input: () => string, check: () => void): void {
    let ms = this.once(input, check, true);
    // The machine is shared: only what is slow twice is slow.
    if (ms > mostMs) ms = Math.min(ms, this.once(input, check, false));
    this.time(ms, input);
  }

  /** The same for checks that wait. `bytes`: what typed arrays may take for it. */
  async attemptAsync(input: () => string, check: () => Promise<void>, bytes = Number.POSITIVE_INFINITY): Promise<void> {
    let ms = await this.onceAsync(input, check, true, bytes);
    if (ms > mostMs) ms = Math.min(ms, await this.onceAsync(input, check, false, bytes));
    this.time(ms, input);
  }

  private once(input: () => string, check: () => void, count: boolean): number {
    const elapsed = clock();
    let error: unknown;
    try {
      check();
    } catch (caught) {
      error = caught ?? new Error('nothing was thrown');
    }
    const ms = elapsed();
    if (count) this.count(input, error);
    return ms;
  }

  private async onceAsync(
    input: () => string,
    check: () => Promise<void>,
    count: boolean,
    bytes: number,
  ): Promise<number> {
    const before = process.memoryUsage().arrayBuffers;
    const elapsed = clock();
    let error: unknown;
    try {
      await check();
    } catch (caught) {
      error = caught ?? new Error('nothing was thrown');
    }
    const ms = elapsed();
    if (count) {
      const grown = process.memoryUsage().arrayBuffers - before;
      this.largest = Math.max(this.largest, grown);
      if (grown > bytes) this.faults.push({ what: `took ${grown} bytes, ${bytes} are justified`, input: input() });
      this.count(input, error);
    }
    return ms;
  }

  private count(input: () => string, error: unknown): void {
    this.tried++;
    if (error === undefined) this.accepted++;
    else {
      const fault = faultOf(error);
      if (fault !== undefined) this.faults.push({ what: fault, input: input() });
      else {
        const { name, kind } = error as { name: string; kind?: string };
        const key = kind === undefined ? name : `${name} (${kind})`;
        this.refused.set(key, (this.refused.get(key) ?? 0) + 1);
      }
    }
    if (this.tried % 256 === 1) this.growth = Math.max(this.growth, process.memoryUsage.rss() - this.rss);
  }

  private time(ms: number, input: () => string): void {
    if (ms > this.slowestMs) {
      this.slowestMs = ms;
      this.slowest = input();
    }
    if (ms > mostMs) this.faults.push({ what: `took ${ms.toFixed(0)} ms`, input: input() });
  }
}
