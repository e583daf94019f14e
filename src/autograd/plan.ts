import type { DispatchTime } from '../kernels/program.ts';
import type { Node } from './graph.ts';

/** Values of a tensor on the host. */
export type Data = Float32Array | Uint32Array;

/** What a plan computes: values to be read, and new values for variables. */
export interface Step {
  outputs?: readonly Node[];
  updates?: readonly (readonly [variable: Node, value: Node])[];
}

export interface PlanOptions {
  /** Look at every f32 tensor of a run for NaN and infinities: `anomaly()` then tells. It costs a pass over each. */
  detectAnomaly?: boolean;
}

/** The first tensor of a run, in the order of execution, that held a NaN or an infinity. */
export interface Anomaly {
  /** The op's result, or a variable that the run began with. */
  node: Node;
  /** Its first element that is no number. */
  element: number;
  value: 'NaN' | 'an infinity';
}

/** A step made ready. */
export interface Plan {
  /** `times` replays, one after another; on the GPU one submit, without waiting for it. */
  run(times?: number): void;
  /** An output's value after the last run, or `count` elements of it from element `from` on; waits for it. */
  read(node: Node, from?: number, count?: number): Promise<Data>;
  /** Times of each dispatch of one more run; empty on the reference executor. */
  profile(): Promise<DispatchTime[]>;
  /** What went wrong first in the last run; undefined where nothing did, or nobody looks. Waits for the run. */
  anomaly(): Promise<Anomaly | undefined>;
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
