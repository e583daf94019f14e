/** A process of lock.test.ts: takes one lock after the other at agreed moments, and keeps what it gets. */
import { join } from 'node:path';
import { takeLock } from '../../src/models/lock.ts';

const [folder, count, start] = process.argv.slice(2);
process.setMaxListeners(0);
const results: (number | string)[] = [];
for (let i = 0; i < Number(count); i++) {
  // Spins: a timer would spread the processes over a millisecond.
  while (Date.now() < Number(start) + 4 * i);
  try {
    takeLock(join(folder, String(i), 'lock'));
    results.push(process.pid);
  } catch (error) {
    results.push((error as Error).message);
  }
}
process.stdout.write(`${JSON.stringify(results)}\n`);
// Until all have tried.
process.stdin.resume();
