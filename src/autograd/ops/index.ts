import { Graph, type OpTable } from '../graph.ts';
import { elementwise } from './elementwise.ts';
import { linear } from './linear.ts';
import { loss } from './loss.ts';
import { norm } from './norm.ts';
import { optimisers } from './optimiser.ts';
import { random } from './random.ts';
import { shapes } from './shape.ts';

/** Every op of the engine. The executors, gradcheck, the tests and the benchmark all walk this one table. */
export const ops = {
  ...linear,
  ...norm,
  ...loss,
  ...elementwise,
  ...shapes,
  ...random,
  ...optimisers,
} satisfies OpTable;

export type OpName = keyof typeof ops;

/** An empty graph over the engine's ops, and the user's own beside them. */
export const newGraph = (own: OpTable = {}): Graph => new Graph({ ...ops, ...own });
