#!/usr/bin/env node
// Starts the command line: from src/ through tsx in a checkout, so that no build is ever stale; else from dist/.
import { existsSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => new URL(`../${path}`, import.meta.url);
const has = (path) => existsSync(fileURLToPath(at(path)));

/** One line for what nobody caught; the stack with --debug. */
function fail(error) {
  const text =
    error instanceof Error ? (process.argv.includes('--debug') ? error.stack : error.message) : String(error);
  try {
    writeSync(2, `matgan: ${text}\n`);
  } catch {
    // Standard error is gone too: the exit code must do.
  }
  process.exit(1);
}
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

// `matgan … | head` closes the pipe early, which is no fault: stop quietly, as other tools do.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error) => (error.code === 'EPIPE' ? process.exit(0) : fail(error)));
}

/** Waits until what was written has left the process. */
const flushed = (stream) => new Promise((resolve) => stream.write('', () => resolve()));

let entry = 'dist/src/cli/main.js';
if (has('src/cli/main.ts') && has('node_modules/tsx/package.json')) {
  const { register } = await import('tsx/esm/api');
  register();
  entry = 'src/cli/main.ts';
} else if (!has(entry)) {
  fail(new Error('nothing to run: this checkout has no node_modules (run `npm run setup`)'));
}
const { main } = await import(at(entry).href);
const code = await main(process.argv.slice(2));
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
// On purpose, not left to an empty event loop: Dawn's threads can keep a finished process alive.
process.exit(code);
