/** Runs of the command line in processes of their own: a small model, small data, and how each run ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { matganElements as names } from '../../src/chem/elements.ts';
import { checkpointName } from '../../src/models/run.ts';
import { readSafetensors } from '../../src/models/safetensors.ts';
import { temporaryFolder, tinyDenseGan } from '../models/tiny.ts';

const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** Milliseconds: all, from the last output to the end, and from the first signal to the end. */
  total: number;
  silent: number;
  signalled: number;
}

export interface Started {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** Resolves once the text has been printed to either stream. */
  seen: (text: string | RegExp) => Promise<void>;
  /** Sends a signal and notes when. */
  kill: (signal: NodeJS.Signals) => void;
}

/** Starts a program; `command` is its file and arguments, the command line itself unless it says otherwise. */
export function start(args: readonly string[], command: readonly string[] = [process.execPath, bin]): Started {
  const began = performance.now();
  const child = spawn(command[0], [...command.slice(1), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  let last = began;
  let killed = Number.NaN;
  const waiting = new Set<() => void>();
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]!.on('data', (chunk) => {
      texts[stream] += chunk;
      last = performance.now();
      for (const look of waiting) look();
    });
  }
  let exited = Number.NaN;
  child.on('exit', () => {
    exited = performance.now();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => {
      const times = { total: exited - began, silent: exited - last, signalled: exited - killed };
      resolve({ code, signal, ...texts, ...times });
    });
  });
  const seen = (text: string | RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!`${texts.stdout}\n${texts.stderr}`.match(text)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
      ended.then(({ code, stderr }) => reject(new Error(`it ended with ${code} before ${text}: ${stderr}`)));
    });
  const kill = (signal: NodeJS.Signals): void => {
    if (Number.isNaN(killed)) killed = performance.now();
    child.kill(signal);
  };
  return { child, ended, seen, kill };
}

export const matgan = (...args: string[]): Promise<Ended> => start(args).ended;

/** Arguments of `train gan` for a small dense GAN on a few made-up rows. */
export function tinyArguments(steps: number): string[] {
  const folder = temporaryFolder();
  const rows = Array.from({ length: 150 }, (_, i) => `${names[i % 50]}${names[50 + (i % 30)]}${i % 2 ? '2' : 'O'}`);
  writeFileSync(join(folder, 'data.csv'), `formula\n${[...new Set(rows)].join('\n')}\n`);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(tinyDenseGan({ steps })));
  return ['--data', join(folder, 'data.csv'), '--preset', 'icsd', '--config', join(folder, 'config.json')];
}

/** A checkpoint's tensors, bit for bit. */
export function bits(folder: string): Record<string, string> {
  const { tensors } = readSafetensors(join(folder, checkpointName));
  const hex = (data: ArrayBufferView): string =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex');
  return Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, hex(data)]));
}

/** The lines on standard error that are ours: drivers have things to say as well. */
export const ours = (stderr: string): string[] =>
  stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Warning: max'));

export const lastLine = ({ stderr }: Ended): string => ours(stderr).at(-1) ?? '';

export const json = (file: string): Record<string, unknown> => JSON.parse(readFileSync(file, 'utf8'));
