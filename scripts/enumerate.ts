/** Counts again what src/chem/enumeration.ts holds: `npx tsx scripts/enumerate.ts`, a minute or two. */
import { countAll, countSome } from '../src/chem/enumeration.ts';

const sampled = 4_000_000;
for (const n of [2, 3, 4, 5, 6, 7, 8]) {
  const { judged, neutral, balanced } = n === 2 || n === 3 ? countAll(n) : countSome(n, sampled, n);
  console.log(`${n}: { judged: ${judged}, neutral: ${neutral}, balanced: ${balanced} },`);
}
