import { ShapeError } from '../errors.ts';
import type { Device } from '../kernels/device.ts';
import type { Call } from '../kernels/kernel.ts';
import { type CompileOptions, compile, GpuStore } from './compile.ts';
import { type DType, type Node, type Shape, sizeOf, topological, type Value } from './graph.ts';
import { checkMemory } from './memory.ts';
import type { Anomaly, Data, Plan, PlanOptions, Step } from './plan.ts';
import { evaluate } from './reference.ts';

/** Something that runs graphs: the GPU, or the f64 reference. Variables are kept by name, for all plans alike. */
export interface Executor {
  readonly kind: 'gpu' | 'reference';
  /** `options` are for this plan alone, on top of the executor's own. */
  plan(step: Step, options?: CompileOptions): Promise<Plan>;
  /** Sets a variable, which is made on first use. */
  write(variable: Node, data: Data): void;
  read(variable: Node): Promise<Data>;
  /** Drops variables; plans that use them must be gone. */
  forget(variables: readonly Node[]): void;
  /** Waits until everything that was started is done. */
  idle(): Promise<void>;
  destroy(): void;
}

const typed = (dtype: DType, data: ArrayLike<number>): Data =>
  dtype === 'u32' ? Uint32Array.from(data) : Float32Array.from(data);

function checkSize(variable: Node, data: Data): void {
  if (variable.op !== 'variable') throw new ShapeError(`write: ${variable.op} is not a variable`);
  if (data.length !== sizeOf(variable.shape)) {
    throw new ShapeError(`variable ${variable.attrs.name}: ${data.length} elements for [${variable.shape.join(',')}]`);
  }
}

/** Runs graphs on a device, by recorded plans. */
export class GpuExecutor implements Executor {
  readonly kind = 'gpu';
  readonly device: Device;
  private readonly store: GpuStore;
  private readonly options: CompileOptions;

  constructor(device: Device, options: CompileOptions = {}) {
    this.device = device;
    this.store = new GpuStore(device);
    this.options = options;
  }

  plan(step: Step, options: CompileOptions = {}): Promise<Plan> {
    return compile(this.store, step, { ...this.options, ...options });
  }

  /** Compiles what calls need, in parallel, before a plan asks for it. A failure shows in the plan. */
  async warm(calls: readonly Call[]): Promise<void> {
    await Promise.allSettled(calls.map(({ kernel, constants }) => this.store.pipelines.get(kernel, constants)));
  }

  write(variable: Node, data: Data): void {
    checkSize(variable, data);
    this.device.check();
    this.device.writeBuffer(this.store.buffer(variable), data);
  }

  async read(variable: Node): Promise<Data> {
    const bytes = await this.device.read(this.store.buffer(variable), sizeOf(variable.shape) * 4);
    return variable.dtype === 'u32' ? new Uint32Array(bytes) : new Float32Array(bytes);
  }

  forget(variables: readonly Node[]): void {
    for (const variable of variables) this.store.forget(variable);
  }

  idle(): Promise<void> {
    return this.device.idle();
  }

  destroy(): void {
    this.device.destroy();
  }
}

/** Runs graphs in f64 plain loops; variables are kept in f32 as on a device, so that checkpoints lose nothing. */
export class ReferenceExecutor implements Executor {
  readonly kind = 'reference';
  private readonly store = new Map<string, Data>();

  async plan({ outputs = [], updates = [] }: Step, { detectAnomaly = false }: PlanOptions = {}): Promise<Plan> {
    let results = new Map<Node, Value>();
    let first: Anomaly | undefined;
    const look = (node: Node, data: Float64Array): void => {
      if (first || node.dtype !== 'f32') return;
      // As f32 has it: what a device would hold.
      const element = data.findIndex((v) => !Number.isFinite(Math.fround(v)));
      if (element >= 0) first = { node, element, value: Number.isNaN(data[element]) ? 'NaN' : 'an infinity' };
    };
    const wanted = [...outputs, ...updates.map(([, value]) => value)];
    // Every value is there until the run is over, in f64.
    const elements = topological(wanted).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    checkMemory('a step on the reference executor', 8 * elements);
    const replay = (): void => {
      first = undefined;
      const variable = (node: Node): Value => ({ shape: node.shape, data: Float64Array.from(this.variable(node)) });
      if (detectAnomaly) {
        // What the run begins with is no fault of an op: variables first, as on the GPU.
        for (const node of topological(wanted)) if (node.op === 'variable') look(node, variable(node).data);
      }
      const values = evaluate(wanted, variable, undefined, detectAnomaly ? look : undefined);
      results = new Map(wanted.map((node, i) => [node, values[i]]));
      for (const [variable, value] of updates) {
        this.store.set(variable.attrs.name, typed(variable.dtype, results.get(value)!.data));
      }
    };
    return {
      run: (times = 1) => {
        for (let k = 0; k < times; k++) replay();
      },
      read: async (node, from = 0, count = sizeOf(node.shape) - from) => {
        const value = results.get(node);
        if (!value) throw new ShapeError('read: this node is no output of the plan, or the plan has not run');
        return typed(node.dtype, value.data.subarray(from, from + count));
      },
      profile: async () => [],
      anomaly: async () => first,
      stats: { dispatches: 0, flops: 0, bytes: 0, memory: 0, buffers: 0 },
      destroy: () => {},
    };
  }

  private variable(node: Node): Data {
    const { name } = node.attrs;
    let data = this.store.get(name);
    if (!data) {
      data = typed(node.dtype, new Float64Array(sizeOf(node.shape as Shape)));
      this.store.set(name, data);
    }
    return data;
  }

  write(variable: Node, data: Data): void {
    checkSize(variable, data);
    this.store.set(variable.attrs.name, data.slice());
  }

  async read(variable: Node): Promise<Data> {
    return this.variable(variable).slice();
  }

  forget(variables: readonly Node[]): void {
    for (const variable of variables) this.store.delete(variable.attrs.name);
  }

  /** Nothing is ever under way, but signals and timers get their turn: without it Ctrl-C would wait for the last step. */
  async idle(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }

  destroy(): void {
    this.store.clear();
  }
}
