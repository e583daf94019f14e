// npx tsx bench/kernels.ts [FILTER]: the kernels' part of `matgan bench`, as JSON with adapter and ceilings, for results/.
import { bench } from '../src/report/bench.ts';

process.stdout.write(`${JSON.stringify(await bench({ filter: process.argv[2] }), null, 2)}\n`);
