/** A peer's process: a line of JSON in, a line out. `prepare` a case, then `sample` it; or only its `first` run. */
import { createInterface } from 'node:readline';
import { numbers } from './pieces.mjs';

/** Norm of a tensor, and its product with the hashed vector of seed 4242: what results are compared by. */
export function digest(data) {
  const along = numbers({ shape: [data.length], seed: 4242 });
  let squares = 0;
  let dot = 0;
  for (let i = 0; i < data.length; i++) {
    squares += data[i] ** 2;
    dot += data[i] * along[i];
  }
  return { norm: Math.sqrt(squares), dot };
}

/** A case's inputs at its own batch. */
export function inputsOf(c) {
  return Object.fromEntries(
    Object.entries(c.inputs).map(([name, spec]) => {
      const filter = name === 'filter' || (c.op === 'conv2dWeightGrad' && name === 'cotangent');
      let shape = spec.shape;
      if (c.op === 'matmul') shape = [c.batch, c.batch];
      else if (!filter && shape.length > 1) shape = [c.batch, ...shape.slice(1)];
      return [name, { ...spec, shape }];
    }),
  );
}

/**
 * Answers the parent until it hangs up.
 * @param make case → { run(): what it computes, waited for; results(): to compare, once after the first run; drop() }
 */
export async function serve(make, about) {
  const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  answer({ about: { ...about, startMs: performance.now() } });
  let work;
  for await (const line of createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    try {
      if (message.prepare) {
        await work?.drop?.();
        work = undefined;
        const start = performance.now();
        work = await make(message.prepare);
        answer({ results: await work.results(), firstMs: performance.now() - start });
      } else if (message.first) {
        work = await make({ ...message.first, first: true });
        await work.run(true);
        answer({ rssMiB: process.resourceUsage().maxRSS / 1024 });
      } else if (message.sample) {
        const start = performance.now();
        for (let i = 0; i < message.sample; i++) await work.run(i === message.sample - 1);
        answer({
          ms: (performance.now() - start) / message.sample,
          rssMiB: process.resourceUsage().maxRSS / 1024,
        });
      } else if (message.sleeping) {
        answer({ ms: await work.sleeping(message.sleeping) });
      }
    } catch (error) {
      answer({ why: String(error?.message ?? error).split('\n')[0] });
    }
  }
  process.exit(0);
}
