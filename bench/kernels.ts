// npx tsx bench/kernels.ts [FILTER]: `matgan bench` as a program, its report as JSON on standard output.
import { allCases, chooseCases } from '../src/report/bench/cases.ts';
import { bench } from '../src/report/bench/measure.ts';

const cases = chooseCases(allCases(), { filter: process.argv[2] });
process.stdout.write(`${JSON.stringify(await bench(cases), null, 2)}\n`);
