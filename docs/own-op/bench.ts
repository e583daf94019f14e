/** Times the op of dense-swish.ts, at its samples and at these sizes: matgan bench --module docs/own-op/bench.ts */
import type { Sample } from '../../src/index.ts';

export { ops } from './dense-swish.ts';

const square = (n: number): Sample => ({
  inputs: [1, 2].map(() => ({ shape: [n, n], draw: 'normal' })),
  attrs: { beta: 1 },
});
export const bench = { denseSwish: [64, 128, 256].map(square) };
