/**
 * Whole training steps on the adapter: throughput with several steps in flight, the cost of encoding, and time by op. Writes
 * JSON: `npx tsx scripts/gpu/steps.ts OUT.json [CASE...]`, a case being KIND:PRESET:BATCH.
 */
import { writeFileSync } from 'node:fs';
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { measureCeilings } from '../../src/kernels/ceilings.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { loadConfig, type ModelKind } from '../../src/models/config.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { initialise } from '../../src/models/training.ts';

const [out, ...wanted] = process.argv.slice(2);
const cases = wanted.length
  ? wanted
  : ['gan:icsd-paper:32', 'gan:icsd:32', 'ae:ae:32', 'gan:oqmd:512', 'gan:oqmd-paper:512', 'ae:ae:1024'];
const seconds = Number(process.env.SECONDS_PER_CASE ?? 2);
const dawn = (process.env.DAWN ?? 'disable-dawn-features=timestamp_quantization').split(' ').filter(Boolean);

const device = await openDevice({ dawn });
const executor = new GpuExecutor(device);
const ceilings = await measureCeilings(device);
const result: Record<string, unknown> = { adapter: device.info, ceilings, dawn, cases: {} };
console.log(JSON.stringify({ adapter: device.info.description || device.info.device, ...ceilings }));
const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

for (const name of cases) {
  const [kind, preset, batch] = name.split(':');
  try {
    const { packed, rows } = synthesize({ count: 2048 });
    const config = loadConfig(kind as ModelKind, { preset, overrides: { batch: Number(batch) } });
    const trainer = makeTrainer(config, rows);
    initialise(executor, trainer);
    executor.write(trainer.data, packed);
    const began = performance.now();
    const plan = await executor.plan({ outputs: Object.values(trainer.outputs), updates: trainer.updates });
    const compiled = performance.now() - began;
    plan.run();
    await executor.idle();
    const first = performance.now() - began;
    const losses: Record<string, number> = {};
    for (const [loss, node] of Object.entries(trainer.outputs)) losses[loss] = (await plan.read(node))[0];
    const sample = async (inFlight: number, times: number): Promise<number> => {
      const start = performance.now();
      for (let i = 0; i < inFlight; i++) plan.run(times);
      await executor.idle();
      return (performance.now() - start) / inFlight / times;
    };
    const measure = async (inFlight: number, times: number): Promise<number> => {
      const values: number[] = [];
      const end = performance.now() + (1000 * seconds) / 3;
      do values.push(await sample(inFlight, times));
      while (performance.now() < end && values.length < 200);
      return median(values);
    };
    const rough = Math.max(0.5, await sample(1, 1));
    const few = Math.max(1, Math.min(16, Math.round(100 / rough)));
    const waited = await measure(1, 1);
    const flying = await measure(few, 1);
    const batched = await measure(Math.max(1, Math.round(few / 4)), Math.min(few, 8));
    let start = performance.now();
    for (let i = 0; i < few; i++) plan.run();
    const encode = (performance.now() - start) / few;
    await executor.idle();
    start = performance.now();
    const byOp: Record<string, { count: number; us: number; gflops: number; gbps: number }> = {};
    const top: { label: string; us: number; gflops: number; gbps: number }[] = [];
    if (device.features.has('timestamp-query')) {
      await plan.profile();
      const runs = [await plan.profile(), await plan.profile(), await plan.profile()];
      runs[0].forEach(({ label, flops, bytes }, i) => {
        const ms = median(runs.map((run) => run[i].milliseconds));
        byOp[label] ??= { count: 0, us: 0, gflops: 0, gbps: 0 };
        byOp[label].count++;
        byOp[label].us += 1000 * ms;
        byOp[label].gflops += flops / 1e9;
        byOp[label].gbps += bytes / 1e9;
        top.push({ label: `${i} ${label}`, us: 1000 * ms, gflops: flops / ms / 1e6, gbps: bytes / ms / 1e6 });
      });
      for (const entry of Object.values(byOp)) {
        entry.gflops /= entry.us / 1e6;
        entry.gbps /= entry.us / 1e6;
      }
    }
    const summary = { ...plan.stats, compiled, first, waited, flying, batched, encode, losses };
    (result.cases as Record<string, unknown>)[name] = {
      ...summary,
      byOp,
      top: top.sort((a, b) => b.us - a.us).slice(0, 60),
    };
    console.log(
      name,
      JSON.stringify(summary, (_, v) => (typeof v === 'number' ? Number(v.toPrecision(5)) : v)),
    );
    console.log(
      ' ',
      Object.entries(byOp)
        .sort((a, b) => b[1].us - a[1].us)
        .map(([op, { count, us, gflops }]) => `${op} ${count}x ${us.toFixed(0)}us ${gflops.toFixed(0)}GF`)
        .join(', '),
    );
    plan.destroy();
    executor.forget([...trainer.state.map(({ node }) => node), trainer.step, trainer.data]);
  } catch (error) {
    (result.cases as Record<string, unknown>)[name] = { why: (error as Error).message };
    console.log(name, (error as Error).message);
  }
  if (out) writeFileSync(out, `${JSON.stringify(result, null, 1)}\n`);
}
device.destroy();
