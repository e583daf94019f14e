/** Twenty processes killed with -9 at random moments: what each leaves is resumed to the bits of an unbroken run. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { kills } from '../../scripts/kills.mjs';
import { ReferenceExecutor } from '../../src/autograd/executor.ts';
import { checkpointName, findCheckpoint, makeRunFolder } from '../../src/models/run.ts';
import { describeGpu } from '../gpu.ts';
import { bitsOf, logOf, temporaryFolder, tinyDenseGan, trainTiny } from '../models/tiny.ts';

describeGpu('a training of 200 steps, killed', () => {
  it('20 times, at start-up, in steps and in checkpoints: resumed to the same bits', {
    timeout: 1_200_000,
  }, async () => {
    const results = await kills({ kills: 20, seed: 20_260_801, folder: temporaryFolder() });
    expect(results.map(({ fault }) => fault)).toEqual(results.map(() => ''));
    expect(results.filter(({ ended }) => ended)).toEqual([]);
    // The moments are spread: else this would test less than it says.
    const moments = results.map(({ moment }) => moment);
    for (const moment of ['starting', 'training', 'writing a checkpoint']) expect(moments).toContain(moment);
    expect(new Set(results.map(({ step }) => step)).size).toBeGreaterThan(5);
  });
});

describe('files of a killed process', () => {
  const config = tinyDenseGan({ steps: 3, criticSteps: 1 });

  it('a half-written checkpoint is never read, and is removed by whoever goes on', async () => {
    const executor = new ReferenceExecutor();
    const [whole, folder] = [temporaryFolder(), temporaryFolder()];
    await trainTiny(executor, { folder: whole, config });
    await trainTiny(executor, { folder, config, pauseAt: 1 });
    const good = readFileSync(join(folder, checkpointName));
    // Cut short, and a whole one of a later step: neither counts before it has its name.
    writeFileSync(join(folder, `${checkpointName}.tmp-4194303`), good.subarray(0, good.length / 2));
    writeFileSync(join(folder, `${checkpointName}.tmp-4194302`), readFileSync(join(whole, checkpointName)));
    writeFileSync(join(folder, 'config.json.tmp-4194303'), '{"mod');
    writeFileSync(join(folder, 'log.jsonl.tmp-4194303'), '');
    writeFileSync(join(folder, 'lock'), '4194303 1 x');
    writeFileSync(join(folder, 'log.jsonl'), `${readFileSync(join(folder, 'log.jsonl'), 'utf8')}{"step":2,"sec`);
    writeFileSync(join(folder, 'mine.tmp-1'), 'kept');
    const from = findCheckpoint(folder);
    expect(from.step).toBe(1);
    await trainTiny(executor, { folder, config, from });
    expect(bitsOf(folder)).toEqual(bitsOf(whole));
    expect(logOf(folder).at(-1)).toEqual(logOf(whole).at(-1));
    expect(readdirSync(folder).sort()).toEqual([checkpointName, 'config.json', 'log.jsonl', 'mine.tmp-1'].sort());
  });

  it('from before the first checkpoint do not stand in the way of starting again', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'lock'), '4194303 1 x');
    writeFileSync(join(folder, `${checkpointName}.tmp-4194303`), 'half');
    makeRunFolder(folder);
    await trainTiny(new ReferenceExecutor(), { folder, config });
    expect(readdirSync(folder).sort()).toEqual([checkpointName, 'config.json', 'log.jsonl']);
    expect(existsSync(join(folder, 'lock'))).toBe(false);
    writeFileSync(join(folder, 'lock'), '4194303 1 x');
    expect(() => makeRunFolder(folder)).toThrow(/not empty/);
  });
});
