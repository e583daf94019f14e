/** Modules of a user's: ops, and what else a command takes from them. */
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { OpTable } from '../autograd/graph.ts';
import { checkTable } from '../autograd/own.ts';
import { ConfigError } from '../errors.ts';

export interface OwnModule {
  /** The table of ops that it exports as `ops`, or by default. */
  ops: OpTable;
  /** Everything that it exports, unchecked. */
  exports: Readonly<Record<string, unknown>>;
}

/**
 * Loads a module for a command, which messages begin with.
 * @throws ConfigError in one line for whatever is wrong with it
 */
export async function loadModule(command: string, file: string): Promise<OwnModule> {
  const path = resolve(file);
  if (!existsSync(path)) throw new ConfigError(`${command}: ${file}: there is no such module`);
  if (statSync(path).isDirectory()) throw new ConfigError(`${command}: ${file}: it is a folder, not a module`);
  let module: Record<string, unknown>;
  try {
    module = await import(pathToFileURL(path).href);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const text = String(message ?? cause).replace(/\s*\n\s*/g, ' ');
    throw new ConfigError(
      code === 'ERR_UNKNOWN_FILE_EXTENSION'
        ? `${command}: ${file}: Node runs no such file by itself; compile it to .js or .mjs`
        : `${command}: ${file} can't be loaded: ${text}`,
      { cause },
    );
  }
  const table = module.ops ?? module.default;
  if (table === undefined) {
    throw new ConfigError(`${command}: ${file}: it exports no ops; write export const ops = { NAME: row }`);
  }
  return { ops: checkTable(table, `${command}: ${file}`), exports: module };
}
