/**
 * Every variant of every kernel that has some, at the samples of its op, against the f64 reference: on the adapter at hand.
 * `npx tsx scripts/gpu/variants.ts [OP,OP…] [VARIANT;VARIANT…]`. Exits 1 where one is off. Slow on a software adapter, whose
 * compiler takes seconds for a tiled kernel; test/autograd/tiles.test.ts holds a selection there.
 */
import { GpuExecutor } from '../../src/autograd/executor.ts';
import { sizeOf } from '../../src/autograd/graph.ts';
import { newGraph, ops } from '../../src/autograd/ops/index.ts';
import { Stream } from '../../src/autograd/philox.ts';
import { evaluate } from '../../src/autograd/reference.ts';
import { openDevice } from '../../src/kernels/device.ts';
import { type Target, targetOf, tunedOps } from '../../src/kernels/lower.ts';

const wanted: readonly string[] = process.argv[2] ? process.argv[2].split(',') : tunedOps;
const only = process.argv[3]?.split(';');

const device = await openDevice();
const executor = new GpuExecutor(device, { poison: true });
const tried: Record<string, number> = {};
let worst = 0;
let wrong = 0;
for (const name of tunedOps.filter((family) => wanted.includes(family))) {
  const op = ops[name];
  for (const sample of op.samples) {
    const graph = newGraph();
    const random = new Stream(7);
    const inputs = sample.inputs.map(({ shape }, i) => graph.variable(`input ${i}`, shape));
    const values = new Map(
      inputs.map((input, i) => {
        const positive = 'draw' in sample.inputs[i] && sample.inputs[i].draw === 'positive';
        const draw = (): number => (positive ? 1 + Math.abs(random.normal()) : random.normal());
        return [input, Float32Array.from({ length: sizeOf(input.shape) }, draw)];
      }),
    );
    const output = graph.apply(name, inputs, sample.attrs ?? {});
    const variable = (node: (typeof inputs)[number]) => ({
      shape: node.shape,
      data: Float64Array.from(values.get(node)!),
    });
    const [expected] = evaluate([output], variable);
    let names: readonly string[] = [];
    const target = (choose?: string): Target => ({
      ...targetOf(device.info),
      choose: (_op, _sizes, all) => {
        names = all;
        return choose;
      },
    });
    const { lowering } = op;
    if (!('kernels' in lowering)) continue;
    lowering.kernels(output, target());
    const chosen = names.filter((variant) => !only || only.includes(variant));
    const plans = await Promise.all(
      chosen.map((variant) => executor.plan({ outputs: [output] }, { target: target(variant) })),
    );
    for (const [input, data] of values) executor.write(input, data);
    for (const [k, plan] of plans.entries()) {
      plan.run();
      const actual = await plan.read(output);
      let difference = 0;
      let norm = 0;
      for (let i = 0; i < actual.length; i++) {
        difference += (actual[i] - expected.data[i]) ** 2;
        norm += expected.data[i] ** 2;
      }
      const error = Math.sqrt(difference / (norm || 1));
      const share = error / (Math.max(8, op.roundings(output)) * 2 ** -24);
      worst = Math.max(worst, share);
      const key = `${name}: ${chosen[k]}`;
      tried[key] = (tried[key] ?? 0) + 1;
      if (!(share <= 1)) {
        wrong++;
        console.log(`WRONG ${key} ${JSON.stringify(sample)}: ${error}`);
      }
      plan.destroy();
    }
    executor.forget(inputs);
  }
}
console.log(JSON.stringify({ tried, wrong, worstShareOfTolerance: worst }));
device.destroy();
process.exitCode = wrong ? 1 : 0;
