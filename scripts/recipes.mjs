// What each choice of the preset `best` is worth: one thing changed at a time, the same number of steps (docs/recipes.md).
//   node scripts/recipes.mjs --data icsd.parquet --out runs/recipes [--steps 4000] [--only best,clipping]
// Runs that are whole are kept, others go on.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const bin = fileURLToPath(new URL('../bin/matgan.mjs', import.meta.url));
const adam = (learningRate) => ({ name: 'adam', learningRate, beta1: 0, beta2: 0.9, eps: 1e-8 });
const rates = (rate) => ({ generatorOptimiser: adam(rate), criticOptimiser: adam(rate) });
const penalty = (lambda) => ({ constraint: { name: 'gradientPenalty', lambda, rows: 32 } });

/** Settings laid over a preset (`best` unless said). */
const recipes = {
  best: {},
  'seed-2': { seed: 2 },
  'no-draft': { generator: { draft: null } },
  'no-draft-lambda-10': { generator: { draft: null }, ...penalty(10), ...rates(5e-4) },
  'lambda-10': penalty(10),
  'rate-5e-4': rates(5e-4),
  clipping: { constraint: { name: 'clipping', clip: 0.05 } },
  'critic-layer-norm': { critic: { norm: 'layer' } },
  'generator-batch-norm': { generator: { norm: 'batch' } },
  'critic-steps-1': { criticSteps: 1 },
  'critic-steps-5': { criticSteps: 5 },
  'normal-start': { generator: { initial: 'normal' }, critic: { initial: 'normal' } },
  'no-averaging': { averaging: 0 },
  // As many samples in a quarter of the steps.
  'batch-256': { share: 0.25, batch: 256, constraint: { name: 'gradientPenalty', lambda: 0.1, rows: 128 } },
  convolutions: { preset: 'icsd' },
};

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    out: { type: 'string' },
    steps: { type: 'string', default: '4000' },
    only: { type: 'string' },
    samples: { type: 'string', default: '100000' },
  },
});
if (!values.data || !values.out) {
  console.error('recipes: name --data FILE and --out FOLDER');
  process.exit(2);
}
const names = values.only ? values.only.split(',') : Object.keys(recipes);
const unknown = names.find((name) => !Object.hasOwn(recipes, name));
if (unknown !== undefined || !(Number(values.steps) > 0)) {
  console.error(
    unknown === undefined
      ? '--steps takes a positive number'
      : `recipes: there is no ${unknown}; there are ${Object.keys(recipes).join(', ')}`,
  );
  process.exit(2);
}

/** Processor seconds of all children so far, on Linux: cutime and cstime. */
function childSeconds() {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ');
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

function matgan(...args) {
  const before = childSeconds();
  const { status, stderr } = spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`matgan ${args.join(' ')}: ${stderr.trim().split('\n').at(-1)}`);
  return childSeconds() - before;
}

mkdirSync(values.out, { recursive: true });
for (const name of names) {
  const { preset = 'best', share = 1, ...changes } = recipes[name];
  const config = join(values.out, `${name}.config.json`);
  const file = join(values.out, `${name}.json`);
  const facts = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  const keep = (more) => writeFileSync(file, JSON.stringify(Object.assign(facts, more), null, 2));
  const train = (folder, steps, settings, ...more) => {
    writeFileSync(config, JSON.stringify(settings));
    const resume = existsSync(join(folder, 'checkpoint.safetensors')) ? ['--resume'] : [];
    const given = ['--data', values.data, '--preset', preset, '--config', config, '--steps', String(steps)];
    return matgan('train', 'gan', ...given, '--out', folder, ...resume, ...more);
  };
  if (facts.steps === undefined) {
    if (preset === 'best') keep({ steps: Math.round(share * Number(values.steps)) });
    else {
      // Other networks get as many steps as fit the processor seconds that `best` took.
      const { trained } = JSON.parse(readFileSync(join(values.out, 'best.json'), 'utf8'));
      const [once, twice] = [20, 40].map((steps) =>
        train(join(values.out, `probe-${steps}`, name), steps, changes, '--sample-every', '0'),
      );
      keep({ steps: Math.max(50, Math.round((20 * trained) / (twice - once))) });
    }
  }
  const { steps, trained } = facts;
  const run = join(values.out, name);
  if (!trained) {
    const half = Math.round(steps / 2);
    const every = String(Math.max(1, Math.round(steps / 12)));
    const seconds = train(run, steps, { ...changes, decay: { from: half, to: steps } }, '--sample-every', every);
    keep({ trained: seconds });
  }
  const evaluation = join(run, 'evaluation');
  if (!existsSync(join(evaluation, 'evaluation.json'))) {
    try {
      matgan('evaluate', '--run', run, '--no-filter', '--count', values.samples, '--out', evaluation);
    } catch (error) {
      if (!/samples decodes to a formula/.test(error.message)) throw error;
      console.log(`${name} | ${steps} steps, ${Math.round(facts.trained)} s | decoded 0.0: it has learned nothing yet`);
      continue;
    }
  }
  const found = JSON.parse(readFileSync(join(evaluation, 'evaluation.json'), 'utf8'));
  const percent = (value) => (100 * value).toFixed(1);
  console.log(
    [
      name,
      `${steps} steps, ${Math.round(facts.trained)} s`,
      `decoded ${percent(found.decoding.decoded / found.decoding.requested)}`,
      `EN ${percent(found.electronegativityBalanced)} / ${percent(found.reweighted.electronegativityBalanced)}`,
      `different ${percent(found.uniqueness)}`,
      `left-out ${percent(found.recoveredLeaveOut)} / ${percent(found.baselines.frequency.recoveredLeaveOut)}`,
      `distances ${found.totalVariation.elementCount.toFixed(2)} / ${found.totalVariation.elements.toFixed(2)}`,
    ].join(' | '),
  );
}
