import type { DispatchTime } from '../kernels/program.ts';
import type { Node } from './graph.ts';

/** Values of a tensor on the host. */
export type Data = Float32Array | Uint32Array;

/** What a plan computes: values to be read, and new values for variables. */
export interface Step {
  outputs?: readonly Node[];
  updates?: readonly (readonly [variable: Node, value: Node])[];
}

/** A step made ready. `run` is one replay (on the GPU one submit, without waiting for it). */
export interface Plan {
  run(): void;
  /** An output's value after the last run; waits for it. */
  read(node: Node): Promise<Data>;
  /** Times of each dispatch of one more run; empty on the reference executor. */
  profile(): Promise<DispatchTime[]>;
  readonly stats: PlanStats;
  destroy(): void;
}

export interface PlanStats {
  dispatches: number;
  flops: number;
  bytes: number;
  /** GPU memory that the plan holds beside the variables. */
  memory: number;
  buffers: number;
}
