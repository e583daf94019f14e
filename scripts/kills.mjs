// Kills training processes at random moments, resumes each, and compares with a run that nobody killed: checkpoint bit
// by bit, log line by line. `node scripts/kills.mjs [kills] [seed]` prints a table and ends with 1 where any differs.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const checkpoint = 'checkpoint.safetensors';
const steps = 200;
const every = ['--checkpoint-every', '7', '--log-every', '5', '--sample-every', '20', '--sample-size', '64'];

const adam = { name: 'adam', learningRate: 1e-3, beta1: 0.5, beta2: 0.9, eps: 1e-8 };
const config = {
  model: 'gan',
  seed: 5,
  batch: 4,
  steps,
  leaveOut: 0.1,
  decay: 'none',
  decoding: 'argmax',
  batchNorm: { eps: 1e-5, decay: 0.9 },
  generator: {
    kind: 'dense',
    latent: 6,
    hidden: [9, 7],
    norm: 'batch',
    activation: 'relu',
    output: { softmax: 0.5 },
    outputBias: 'frequencies',
    initial: 'he',
  },
  critic: {
    kind: 'dense',
    hidden: [7, 5],
    sizeInput: 0.5,
    norm: 'none',
    activation: { leakyRelu: 0.2 },
    initial: 'he',
  },
  constraint: { name: 'gradientPenalty', lambda: 10 },
  criticSteps: 2,
  generatorOptimiser: adam,
  criticOptimiser: adam,
  averaging: 0.99,
};

/**
 * @typedef {object} Kill
 * @property {string} aim when it was to be killed
 * @property {string} moment what the process was doing, as far as its folder shows
 * @property {number} milliseconds from its start to the kill
 * @property {number} step of the checkpoint that was there afterwards; -1 where there was none yet
 * @property {boolean} half true where a half-written file was left
 * @property {boolean} ended true where it was done before it was killed, six times over
 * @property {string} fault what differs from the run that nobody killed; empty where nothing does
 */

/** Uniform numbers in [0, 1) from a seed (mulberry32). @param {number} seed */
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {string} folder @param {string[]} more */
function trainIn(folder, more) {
  const args = [join(root, 'bin/matgan.mjs'), 'train', 'gan', '--out', folder, ...every, ...more];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise((resolve) => child.on('close', (code) => resolve({ code, stderr })));
  return { child, ended };
}

/** Names, shapes and bytes of a checkpoint, and its step; not the seconds that it took. @param {string} folder */
function stateOf(folder) {
  const bytes = readFileSync(join(folder, checkpoint));
  const end = 8 + Number(bytes.readBigUInt64LE());
  const { __metadata__: metadata, ...tensors } = JSON.parse(bytes.toString('utf8', 8, end));
  return { step: Number(metadata.step), text: JSON.stringify(tensors) + bytes.toString('hex', end) };
}

/** @param {string} folder */
const logOf = (folder) => readFileSync(join(folder, 'log.jsonl'), 'utf8').replace(/"seconds":[^,}]*/g, '"seconds":0');

/**
 * @param {{ kills: number, seed: number, parallel?: number, folder: string, onKill?: (kill: Kill, n: number) => void }} options
 * @returns {Promise<Kill[]>}
 */
export async function kills({ kills: count, seed, parallel = 3, folder, onKill }) {
  const elements = 'H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As'.split(' ');
  const formulas = elements.flatMap((a, i) =>
    elements.slice(i + 1, i + 6).map((b, k) => `${a}${b}${k % 2 ? '2' : ''}`),
  );
  const data = join(folder, 'data.csv');
  writeFileSync(data, `formula\n${formulas.join('\n')}\n`);
  writeFileSync(join(folder, 'settings.json'), JSON.stringify(config));
  const fresh = ['--data', data, '--preset', 'icsd', '--config', join(folder, 'settings.json')];

  const whole = join(folder, 'whole');
  const began = performance.now();
  const unbroken = await trainIn(whole, fresh).ended;
  if (unbroken.code !== 0) throw new Error(`the run that nobody kills ended with ${unbroken.code}: ${unbroken.stderr}`);
  const wholeTook = performance.now() - began;
  const right = { ...stateOf(whole), log: logOf(whole) };

  const random = uniform(seed);
  // Two of five are killed as a checkpoint's temporary file appears, the others at any time up to the usual end.
  const aims = Array.from({ length: count }, (_, n) =>
    n % 5 < 2 ? { write: 1 + Math.floor(random() * 28) } : { after: random() * wholeTook },
  );
  /** @type {Kill[]} */
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const n = next++;
      let aim = aims[n];
      for (let again = 0; ; again++) {
        results[n] = await one(join(folder, `kill-${n}-${again}`), aim, fresh, right);
        // Done before its moment came: that was no kill. Once more, sooner.
        if (!results[n].ended || results[n].fault || again === 5) break;
        aim = aim.after === undefined ? { write: Math.ceil(aim.write / 2) } : { after: 0.6 * aim.after };
      }
      onKill?.(results[n], n);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return results;
}

/**
 * @param {string} out
 * @param {{ write?: number, after?: number }} aim
 * @param {string[]} fresh
 * @param {{ step: number, text: string, log: string }} right
 * @returns {Promise<Kill>}
 */
async function one(out, aim, fresh, right) {
  mkdirSync(out);
  const began = performance.now();
  let milliseconds = 0;
  const { child, ended } = trainIn(out, fresh);
  const kill = () => {
    milliseconds ||= performance.now() - began;
    child.kill('SIGKILL');
  };
  let named = 0;
  const watcher = watch(out, (event, name) => {
    if (!name?.startsWith(`${checkpoint}.tmp-`)) return;
    // Each temporary file gets its name and loses it: the odd ones of these events say that one has begun.
    if (event === 'rename') named++;
    if (named === 2 * (aim.write ?? 0) - 1) kill();
  });
  const timer = aim.after === undefined ? undefined : setTimeout(kill, aim.after);
  const first = await ended;
  watcher.close();
  clearTimeout(timer);

  const files = readdirSync(out);
  const half = files.some((name) => name.includes('.tmp-'));
  const begun = files.includes(checkpoint);
  let fault = first.code !== null && first.code !== 0 ? `it ended with ${first.code}: ${first.stderr}` : '';
  let step = -1;
  try {
    if (begun) ({ step } = stateOf(out));
  } catch (error) {
    fault ||= `the checkpoint that was left can't be read: ${error}`;
  }
  // Started again in the same way where it had not come to its first checkpoint.
  const second = await trainIn(out, begun ? ['--resume'] : fresh).ended;
  if (second.code !== 0) fault ||= `resuming ended with ${second.code}: ${second.stderr.trim().split('\n').at(-1)}`;
  else if (stateOf(out).text !== right.text) fault ||= 'the checkpoint has other bits';
  else if (logOf(out) !== right.log) fault ||= 'the log has other lines';
  const left = readdirSync(out).sort().join(' ');
  if (left !== `best.safetensors ${checkpoint} config.json log.jsonl`) fault ||= `the folder holds ${left}`;
  const moment = half ? 'writing a checkpoint' : !begun ? 'starting' : first.code === 0 ? 'done' : 'training';
  return {
    aim: aim.write ? `checkpoint ${aim.write}` : `${((aim.after ?? 0) / 1000).toFixed(2)} s`,
    moment,
    milliseconds,
    step,
    half,
    ended: first.code === 0,
    fault,
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = mkdtempSync(join(tmpdir(), 'matgan-kills-'));
  const count = Number(process.argv[2] ?? 20);
  const seed = Number(process.argv[3] ?? 1);
  console.log('kill | aim           | after   | was                  | checkpoint | resumed');
  console.log('-----|---------------|---------|----------------------|------------|--------');
  const results = await kills({
    kills: count,
    seed,
    folder,
    onKill: (kill, n) => {
      const cells = [
        String(n + 1).padStart(4),
        kill.aim.padEnd(13),
        `${(kill.milliseconds / 1000).toFixed(2)} s`.padStart(7),
        kill.moment.padEnd(20),
        (kill.step < 0 ? 'none' : `step ${kill.step}`).padStart(10),
        kill.fault || 'same bits',
      ];
      console.log(cells.join(' | '));
    },
  });
  rmSync(folder, { recursive: true, force: true });
  const wrong = results.filter(({ fault }) => fault !== '').length;
  console.log(
    `${count} kills, seed ${seed}: ${wrong === 0 ? 'every resumed run has the bits of the unbroken one' : `${wrong} DIFFER`}`,
  );
  process.exit(wrong ? 1 : 0);
}
