/** Commands on a small run, in this process and on the reference executor: no adapter is needed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { unpackRow } from '../../src/chem/encoding.ts';
import { formatFormula } from '../../src/chem/formula.ts';
import { shippedPart } from '../../src/cli/demo.ts';
import type * as configModule from '../../src/models/config.ts';
import { packageRoot } from '../../src/paths.ts';
import { lossPage, readLog } from '../../src/report/log.ts';
import { sampleCurves } from '../../src/report/progress.ts';
import { temporaryFolder, tinyDenseAe, tinyDenseGan, tinyRows } from '../models/tiny.ts';
import { matganHere, onTerminal } from './here.ts';

// The demo's presets, narrow enough for the reference executor. Everything else is as users have it.
const own = vi.hoisted(() => ({ narrow: false, steps: 3 }));
vi.mock('../../src/models/config.ts', async (original) => {
  const real = await original<typeof configModule>();
  return {
    ...real,
    loadConfig: (...args: Parameters<typeof real.loadConfig>) => {
      if (!own.narrow) return real.loadConfig(...args);
      return args[0] === 'gan'
        ? tinyDenseGan({ steps: own.steps, decoding: 'paper' })
        : tinyDenseAe({ steps: own.steps });
    },
  };
});
afterEach(() => {
  own.narrow = false;
  vi.restoreAllMocks();
});

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const formulas = (rows: number, first = 0): string[] => {
  const { packed } = tinyRows(rows, first);
  return Array.from({ length: rows }, (_, row) => formatFormula(unpackRow(packed, row)));
};
const reference = ['--device', 'reference'];
const data = at('data.csv');

beforeAll(async () => {
  writeFileSync(data, `formula\n${formulas(40).join('\n')}\n`);
  writeFileSync(at('gan.json'), JSON.stringify(tinyDenseGan({ averaging: 0 })));
  writeFileSync(at('whole.json'), JSON.stringify(tinyDenseGan({ leaveOut: 0 })));
  for (const [name, more] of [
    ['run', ['--data', data, '--config', at('gan.json')]],
    ['whole', ['--data', data, '--config', at('whole.json')]],
    ['default', ['--config', at('gan.json')]],
  ] as const) {
    const trained = await matganHere('train', 'gan', ...more, '--steps', '2', '--out', at(name), ...reference);
    expect(trained).toMatchObject({ status: 0, stdout: '' });
  }
});

describe('matgan train', () => {
  it('says what it reads, and how fast it was', async () => {
    const out = at('told');
    const given = ['--data', data, '--config', at('gan.json'), '--steps', '1', '--out', out];
    const { status, stderr } = await matganHere('train', 'gan', ...given, ...reference);
    expect(status).toBe(0);
    expect(stderr).toMatch(
      /^\d+ rows read; not usable: none; \d+ repeat a formula\ntraining on \d+ formulas, \d+ left out\n/,
    );
    expect(stderr).toMatch(/\nstep 1\/1 lossCritic /);
    expect(stderr).toMatch(/\ndone: 1 steps, [\d.]+ steps\/s, \d+ samples\/s; .*told\n$/);
  });

  it('shows losses and the last sample on a terminal; what a log has is drawn', async () => {
    const out = at('shown');
    const given = [
      '--data',
      data,
      '--config',
      at('gan.json'),
      '--steps',
      '4',
      '--log-every',
      '1',
      '--sample-every',
      '2',
    ];
    const { status, stderr } = await onTerminal('stderr', () =>
      matganHere('train', 'gan', ...given, '--sample-size', '50', '--out', out, ...reference),
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/lossCritic .* \| .*valid\+new [\d.]+ %, off by [\d.]+\/[\d.]+/);
    const page = lossPage({ Training: readLog(join(out, 'log.jsonl')) });
    for (const { title, fields } of sampleCurves) {
      expect(page.includes(title)).toBe(
        Object.keys(fields).some((field) => readFileSync(join(out, 'log.jsonl'), 'utf8').includes(field)),
      );
    }
    expect(page).toContain('Samples that are worth something');
    expect(page).not.toContain('sampleUnique');
  });

  it('--patience says that it stopped early, by what, and how to go on', async () => {
    const out = at('patient');
    const none = { name: 'sgd', learningRate: 0, momentum: 0 };
    const gan = tinyDenseGan({ averaging: 0, generatorOptimiser: none, criticOptimiser: none });
    if (gan.generator.kind !== 'dense') throw new Error('the tiny one is dense');
    writeFileSync(at('still.json'), JSON.stringify({ ...gan, generator: { ...gan.generator, norm: 'none' } }));
    const given = [
      '--data',
      data,
      '--config',
      at('still.json'),
      '--steps',
      '9',
      '--sample-every',
      '1',
      '--sample-size',
      '9',
    ];
    const { status, stderr } = await matganHere(
      ...['train', 'gan', ...given, '--patience', '2', '--out', out, ...reference],
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/\nbest by "balanced": step 1, -[\d.]+; \S+best\.safetensors\n/);
    expect(stderr).toMatch(
      /\nstopped early: 3 steps, .*; 2 measurements in a row were no better by "balanced"; go on with a larger --patience: matgan train gan --out \S+patient --resume\n$/,
    );
  });

  it('criteria over left-out rows want some', async () => {
    for (const [kind, more] of [
      ['gan', ['--config', at('whole.json'), '--best', 'recovery']],
      ['ae', ['--preset', 'demo-ae', '--config', at('whole-ae.json'), '--patience', '2']],
    ] as const) {
      writeFileSync(at('whole-ae.json'), JSON.stringify(tinyDenseAe({ leaveOut: 0 })));
      const { status, stderr } = await matganHere(
        'train',
        kind,
        '--data',
        data,
        ...more,
        '--out',
        at('no'),
        ...reference,
      );
      expect(status).toBe(2);
      expect(stderr).toMatch(
        /^ConfigError: --best \w+: it looks at left-out formulas, and this run leaves none out\n$/,
      );
      expect(existsSync(at('no'))).toBe(false);
    }
  });

  it('--resume without --steps has nothing to do, on the rows that it began with', async () => {
    const before = readFileSync(at('run/log.jsonl'), 'utf8');
    const { status, stderr } = await matganHere('train', 'gan', '--resume', '--out', at('run'), ...reference);
    expect(status).toBe(0);
    expect(stderr).toContain('resuming at step 2\n');
    expect(stderr).toContain('done: 2 steps');
    expect(readFileSync(at('run/log.jsonl'), 'utf8')).toBe(before);
  });

  it('--resume on other rows than it began with is refused, the default set by its name', async () => {
    const { status, stderr } = await matganHere(
      ...['train', 'gan', '--resume', '--out', at('default'), '--data', data, ...reference],
    );
    expect(status).toBe(2);
    expect(stderr).toMatch(/^DataError: .*data\.csv: not the rows that this run was trained on \(fingerprint/);
  });

  it('--pause-at ends with how to go on, a plain path unquoted', async () => {
    const out = at('paused');
    const given = ['--data', data, '--config', at('gan.json'), '--steps', '3', '--pause-at', '2', '--out', out];
    const { status, stderr } = await matganHere('train', 'gan', ...given, ...reference);
    expect(status).toBe(0);
    expect(stderr).toMatch(/stopped: 2 steps, .*; go on with: matgan train gan --out \S+paused --resume\n$/);
    const quoted = at("it's paused");
    given[given.length - 1] = quoted;
    expect((await matganHere('train', 'gan', ...given, ...reference)).stderr).toContain(
      `--out '${quoted.replace("'", "'\\''")}' --resume`,
    );
  });

  it.each([
    // 36 of 40 rows are trained on; a step of the GAN draws 2 · 4 rows, one of the autoencoder 4.
    ['gan', 'gan.json', 3],
    ['ae', 'ae.json', 5],
  ])('--epochs of a %s counts rows: printed, not trained', async (kind, file, perTwo) => {
    writeFileSync(at('ae.json'), JSON.stringify(tinyDenseAe()));
    const rows = Number(
      /training on (\d+)/.exec(
        (
          await matganHere(
            ...['train', 'gan', '--data', data, '--config', at('gan.json'), '--steps', '1', '--out', at(`x${perTwo}`)],
            ...reference,
          )
        ).stderr,
      )?.[1],
    );
    const preset = kind === 'ae' ? ['--preset', 'demo-ae'] : [];
    const { status, stdout } = await matganHere(
      ...['train', kind, '--data', data, ...preset, '--config', at(file), '--epochs', '2', '--print-config'],
    );
    expect(status).toBe(0);
    const { steps } = JSON.parse(stdout);
    expect(steps).toBe(Math.ceil((2 * rows) / (4 * (kind === 'gan' ? 2 : 1))));
  });

  it('a second Ctrl-C ends at once', async () => {
    // By the signal itself, which would end the tests too.
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true);
    const given = ['--data', data, '--config', at('gan.json'), '--steps', '100000', '--log-every', '1'];
    // The first line of the log is where a user would press it, twice.
    const running = matganHere('train', 'gan', ...given, '--out', at('twice'), ...reference);
    const file = at('twice/log.jsonl');
    while (!existsSync(file) || readFileSync(file, 'utf8') === '')
      await new Promise((resolve) => setTimeout(resolve, 5));
    process.emit('SIGINT', 'SIGINT');
    expect(kill).not.toHaveBeenCalledWith(process.pid, 'SIGINT');
    process.emit('SIGINT', 'SIGINT');
    expect(kill).toHaveBeenCalledWith(process.pid, 'SIGINT');
    expect((await running).status).toBe(130);
  });
});

describe('matgan generate', () => {
  it('by the model’s own rule, for people; with --unique each formula once', async () => {
    const [all, once] = [at('all.csv'), at('once.csv')];
    const { status, stdout } = await matganHere('generate', at('run'), '--count', '60', '--out', all, ...reference);
    expect(status).toBe(0);
    const [, decoded, different] = /^60 samples: (\d+) formulas, (\d+) of them different \(rule argmax\), in /.exec(
      stdout,
    )!;
    expect(stdout).toContain(`\n${decoded} written to ${all}\n`);
    const unique = await matganHere(
      ...['generate', at('run'), '--count', '60', '--out', once, '--unique', '--json', ...reference],
    );
    expect(JSON.parse(unique.stdout)).toMatchObject({
      requested: 60,
      decoded: Number(decoded),
      unique: Number(different),
      written: Number(different),
      rule: 'argmax',
      reduced: true,
    });
    const rows = readFileSync(once, 'utf8').trim().split('\n');
    expect(new Set(rows).size).toBe(rows.length);
  });

  it('shows a bar on a terminal', async () => {
    const { stderr } = await onTerminal('stderr', () =>
      matganHere('generate', at('run'), '--count', '3', '--out', at('bar.csv'), ...reference),
    );
    expect(stderr).toContain('3/3 samples');
  });

  it('without --out: formulas alone on standard output, as a table would have them; the summary on the other', async () => {
    const given = ['generate', at('run'), '--count', '60', '--seed', '4', ...reference];
    const bare = await matganHere(...given);
    expect(bare.status).toBe(0);
    await matganHere(...given, '--judge', '--out', at('judged.csv'));
    const table = readFileSync(at('judged.csv'), 'utf8');
    const rows = table.trimEnd().split('\n').slice(1);
    expect(bare.stdout).toBe(rows.map((row) => `${row.split(',')[0]}\n`).join(''));
    expect(bare.stderr).toMatch(/\n60 samples: \d+ formulas, .*\n\d+ written to standard output\n$/);
    const judged = await matganHere(...given, '--judge');
    expect(judged.stdout).toBe(table);
    expect(judged.stderr).toContain('charge-neutral');
    const once = await matganHere(...given, '--unique');
    expect(once.stdout.trimEnd().split('\n')).toEqual([...new Set(bare.stdout.trimEnd().split('\n'))]);
    expect(readdirSync(folder).filter((name) => /partial|repeats/.test(name))).toEqual([]);
  });

  it('--json has the summary there, so formulas need a file: said, before any work', async () => {
    const { status, stdout, stderr } = await matganHere('generate', at('run'), '--count', '5', '--json', ...reference);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^ConfigError: generate: --json prints a summary, so the formulas need --out .*\n$/);
  });

  it('a bar among formulas on one terminal would spoil both: only where formulas go elsewhere', async () => {
    const given = ['generate', at('run'), '--count', '3', ...reference];
    const alone = await onTerminal('stderr', () => matganHere(...given));
    expect(alone.stderr).toContain('3/3 samples');
    const both = await onTerminal('stderr', () => onTerminal('stdout', () => matganHere(...given)));
    expect(both.stderr).not.toContain('3/3 samples');
  });

  it('a reader that has enough ends it quietly, with nothing left behind', { timeout: 60_000 }, async () => {
    const scratch = at('scratch');
    mkdirSync(scratch);
    const bin = fileURLToPath(new URL('../../bin/matgan.mjs', import.meta.url));
    const args = ['generate', at('run'), '--count', '100000000', '--batch', '8', '--memory', '1', ...reference];
    const child = spawn(process.execPath, [bin, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: scratch },
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const [first] = (await once(child.stdout, 'data')) as [Buffer];
    expect(first.toString()).toMatch(/^([A-Z][A-Za-z0-9]*\n)+/);
    child.stdout.destroy();
    const [code, signal] = await once(child, 'exit');
    expect([code, signal]).toEqual([0, null]);
    expect(stderr).toMatch(/^runs on the f64 reference executor.*\n$/i);
    expect(readdirSync(scratch).filter((name) => name.includes('matgan'))).toEqual([]);
  });

  it('an autoencoder does not generate', async () => {
    writeFileSync(at('ae.json'), JSON.stringify(tinyDenseAe()));
    const given = ['--data', data, '--preset', 'demo-ae', '--config', at('ae.json'), '--steps', '1'];
    expect((await matganHere('train', 'ae', ...given, '--out', at('ae'), ...reference)).status).toBe(0);
    const { status, stderr } = await matganHere(
      ...['generate', at('ae'), '--count', '3', '--out', at('never.csv'), ...reference],
    );
    expect(status).toBe(2);
    expect(stderr).toMatch(/it is a model of kind ae; generating takes a gan\n$/);
    expect(existsSync(at('never.csv'))).toBe(false);
  });
});

describe('matgan evaluate --run', () => {
  const generated = at('generated.csv');
  beforeAll(() => writeFileSync(generated, `formula\n${formulas(20).join('\n')}\n${formulas(5, 500).join('\n')}\n`));
  const evaluate = (run: string) => matganHere('evaluate', '--generated', generated, '--run', at(run), '--json');

  it('takes the rows that the run trained on and left out', async () => {
    const { status, stdout } = await evaluate('run');
    expect(status).toBe(0);
    const { training, leaveOut, recoveredTraining, recoveredLeaveOut } = JSON.parse(stdout);
    expect(training.count).toBeGreaterThan(4 * leaveOut.count);
    expect(recoveredTraining).toBeGreaterThan(0.3);
    expect(recoveredLeaveOut).not.toBeNull();
  });

  it('a run that left nothing out', async () => {
    const { status, stdout } = await evaluate('whole');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ leaveOut: null, recoveredLeaveOut: null });
  });

  it('a file that has changed since is refused', async () => {
    const before = readFileSync(data, 'utf8');
    try {
      writeFileSync(data, `${before}CsAu\n`);
      const { status, stderr } = await evaluate('run');
      expect(status).toBe(2);
      expect(stderr).toMatch(/DataError: .*data\.csv: it has changed since .*run was trained; name --train\n$/);
    } finally {
      writeFileSync(data, before);
    }
  });
});

describe('matgan models', () => {
  it('lists what ships, with the first line of each card', async () => {
    const { status, stdout, stderr } = await matganHere('models');
    expect([status, stderr]).toEqual([0, expect.stringContaining('matgan generate NAME')]);
    const shipped = readdirSync(join(packageRoot, 'models')).filter((name) => name.endsWith('.safetensors'));
    const { models } = JSON.parse((await matganHere('models', '--json')).stdout);
    expect(models.map(({ name }: { name: string }) => `${name}.safetensors`)).toEqual(shipped.sort());
    for (const { name, model, card, bytes, decoding, fingerprint } of models) {
      const described = name.replace(/\.filter$/, '');
      expect(stdout).toContain(` ${name} `);
      expect(card).toContain(described);
      expect(bytes).toBeLessThanOrEqual(4e6);
      expect(['gan', 'ae'].includes(model) ? ['argmax', 'paper'] : [null]).toContain(decoding);
      const text = readFileSync(join(packageRoot, 'models', `${described}.md`), 'utf8');
      expect(text).toContain(fingerprint.slice(0, 8));
      expect(text).toMatch(/\| licence \| .*MIT/);
    }
  });
});

describe('the demo’s look at a generator that ships', () => {
  it('says in words what a few of its samples are', async () => {
    const executor = new ReferenceExecutor();
    const text = await shippedPart(executor, at('run'), 1, 40);
    const [, made, count, different] = /\(2 steps\): (\d+) formulas of (\d+) samples, (\d+) different, /
      .exec(text)!
      .map(Number);
    expect(count).toBe(40);
    expect(made).toBeLessThanOrEqual(40);
    expect(different).toBeLessThanOrEqual(made);
    expect(text).toMatch(/charge-neutral [\d.]+ %, electronegativity-balanced [\d.]+ %; some of these: ([A-Z]|none)/);
    expect(await shippedPart(new ReferenceExecutor(), at('run'), 1, 40)).toBe(text);
  });
});

describe('matgan demo', () => {
  it('trains both models, generates, judges, and writes a page; its own earlier runs are replaced', async () => {
    own.narrow = true;
    const out = at('demo');
    const { status, stdout, stderr } = await matganHere('demo', '--out', out, '--count', '300', ...reference);
    expect(stderr).toContain('runs on the f64 reference executor');
    expect(status).toBe(0);
    expect(stderr).toMatch(/an autoencoder learns to write .* \(preset demo-ae, \d+ formulas, \d+ left out\)/);
    expect(stderr).toMatch(/a MatGAN learns to invent formulas \(preset demo, /);
    expect(stderr).toContain('generating 256 samples (the reference executor is too slow for more)');
    expect(stderr.match(/\n3 steps in \d+ s, \d+ samples\/s\n/g)).toHaveLength(2);
    expect(stderr).not.toContain('this machine is slow');
    expect(stderr).toContain('the reference executor is too slow for the generator that ships');
    expect(stdout).toMatch(/elements .* generated .* training CN/);
    expect(stdout).toMatch(/\n256 samples: \d+ formulas, \d+ different, \d+ of them new; /);
    expect(readdirSync(out).sort()).toEqual(['ae', 'gan', 'generated.csv', 'report.html']);
    expect(readFileSync(join(out, 'report.html'), 'utf8')).toContain('A narrow MatGAN, trained for 3 steps');
    writeFileSync(join(out, 'ae', 'mine.txt'), 'x');
    const mine = await matganHere('demo', '--out', out, '--count', '20', ...reference);
    expect([mine.status, mine.stderr]).toEqual([2, expect.stringContaining('it is there already and not empty')]);
  });

  it('--json: JSON alone; a slow machine stops in time and says so', async () => {
    own.narrow = true;
    own.steps = 1000;
    // Every look at the clock is ten seconds later.
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => (now += 10_000));
    const { status, stdout, stderr } = await matganHere(
      ...['demo', '--out', at('slow'), '--count', '200', '--json', ...reference],
    );
    expect(status).toBe(0);
    expect(stderr).toMatch(/this machine is slow: stopped at \d+ of 1000 steps to keep to time/);
    expect(stderr).toContain('\ngenerating 200 samples\n');
    expect(JSON.parse(stdout)).toMatchObject({ requested: 200, rule: 'paper' });
  });
});
