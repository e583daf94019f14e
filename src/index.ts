/**
 * matgan-webgpu: a hand-written WebGPU compute engine that trains MatGAN through Dawn.
 * The engine (graphs, gradients, executors, gradient checks), the models, and the chemistry around them.
 */
export * as build from './autograd/build.ts';
export { type Executor, GpuExecutor, ReferenceExecutor } from './autograd/executor.ts';
export { grad, viaExpression } from './autograd/grad.ts';
export {
  type CheckOptions,
  type CheckReport,
  type CheckRow,
  checkOp,
  type GradcheckOptions,
  gradcheck,
  gradgradcheck,
} from './autograd/gradcheck.ts';
export {
  Graph,
  type Node,
  type Op,
  type OpTable,
  type Sample,
  type SampleInput,
  type Shape,
  sizeOf,
  type Value,
} from './autograd/graph.ts';
export { openExecutor } from './autograd/open.ts';
export { newGraph, ops } from './autograd/ops/index.ts';
export { checkTable } from './autograd/own.ts';
export type { Data, Plan, PlanStats, Step } from './autograd/plan.ts';
export { evaluate } from './autograd/reference.ts';
export * as chem from './chem/index.ts';
export * from './errors.ts';
export { type Ceilings, measureCeilings } from './kernels/ceilings.ts';
export { Device, openDevice } from './kernels/device.ts';
export { type Call, grid, type Kernel, type Lowered, PipelineCache } from './kernels/kernel.ts';
export { kernels } from './kernels/table.ts';
export { readCheckpoint } from './models/checkpoint.ts';
export { type Config, loadConfig, presetNames } from './models/config.ts';
export { checkModel, checkTrainer, type ModelCheckOptions } from './models/gradcheck.ts';
export { findCheckpoint, loadTrainingData, makeTrainer, type RunOptions, train } from './models/run.ts';
export { readSafetensors, writeSafetensors } from './models/safetensors.ts';
export { sample } from './models/sampler.ts';
export * as trees from './models/trees/index.ts';
