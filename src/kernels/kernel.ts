import { readFileSync } from 'node:fs';
import { ShaderError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import type { Device } from './device.ts';

/** How a kernel uses a storage binding. `write` means that every element is written and none read. */
export type Access = 'read' | 'write' | 'readwrite';

/**
 * One row of the kernel table: a WGSL entry point. By convention binding 0 is the uniform block of 4-byte scalars and
 * the storage bindings follow from 1 in the order of `bindings`.
 */
export interface Kernel {
  /** Shader files in `shaders/`, without `.wgsl`, joined in this order; the last one holds the entry point. */
  files: readonly string[];
  entry: string;
  bindings: readonly Access[];
}

/** A buffer of a call: an input of the op, its output, or a scratch tensor of the lowering. */
export type Operand = { input: number } | { temp: number } | 'out';

/** A 4-byte field of the uniform block: a plain number is an integer (negative ones as i32), `{ f32 }` a float. */
export type Field = number | { f32: number };

/** One dispatch, fully determined but for the buffers' addresses. */
export interface Call {
  kernel: Kernel;
  /** Values of the shader's `override` constants: each distinct set is one more pipeline to compile. */
  constants?: Readonly<Record<string, number>>;
  params: readonly Field[];
  workgroups: readonly [number, number, number];
  /** In the order of the kernel's bindings. */
  buffers: readonly Operand[];
  /** Floating-point operations, and the least bytes that have to move: for the profile and the benchmark. */
  flops?: number;
  bytes?: number;
}

/** What an op becomes on the device. */
export interface Lowered {
  /** Element counts (4 bytes each) of scratch tensors. */
  temps: readonly number[];
  calls: readonly Call[];
}

/** Threads in a workgroup of every one-dimensional kernel; the shaders say the same number. */
export const workgroupSize = 64;

/** Workgroups for `threads` one-dimensional invocations: folded into y beyond the limit of 65,535 in x. */
export function grid(threads: number, size: number = workgroupSize): [number, number, number] {
  const groups = Math.max(1, Math.ceil(threads / size));
  if (groups <= 65_535) return [groups, 1, 1];
  const y = Math.ceil(groups / 65_535);
  return [Math.ceil(groups / y), y, 1];
}

/** Text of a shader file, with a header line that lets errors be traced back to file and line. */
const sources = new Map<string, string>();
export function shaderSource(file: string): string {
  let text = sources.get(file);
  if (text === undefined) {
    // Read beside package.json at run time: neither tsx nor tsc copies a .wgsl file.
    text = readFileSync(`${packageRoot}/shaders/${file}.wgsl`, 'utf8');
    sources.set(file, text);
  }
  return text;
}

/** Compiled pipelines of one device, one a (kernel, constants) pair. */
export class PipelineCache {
  private readonly modules = new Map<string, Promise<GPUShaderModule>>();
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly device: Device;

  constructor(device: Device) {
    this.device = device;
  }

  /** Number of pipelines compiled so far. */
  get size(): number {
    return this.pipelines.size;
  }

  /** @throws ShaderError with file, line and text where the shader does not compile. */
  get(kernel: Kernel, constants: Readonly<Record<string, number>> = {}): Promise<GPUComputePipeline> {
    const key = `${kernel.files.join('+')}:${kernel.entry}:${JSON.stringify(constants)}`;
    let pipeline = this.pipelines.get(key);
    if (!pipeline) {
      pipeline = this.compile(kernel, constants, key);
      this.pipelines.set(key, pipeline);
      // A device short of memory may have more of it the next time.
      pipeline.catch(() => this.pipelines.delete(key));
    }
    return pipeline;
  }

  private async compile(kernel: Kernel, constants: Readonly<Record<string, number>>, label: string) {
    const module = await this.module(kernel.files);
    const entries = kernel.bindings.map((access, i) => ({
      binding: i + 1,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
    }));
    const layout = this.device.gpu.createBindGroupLayout({
      label,
      entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' } }, ...entries],
    });
    try {
      return await this.device.gpu.createComputePipelineAsync({
        label,
        layout: this.device.gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: kernel.entry, constants: { ...constants } },
      });
    } catch (cause) {
      throw new ShaderError(`${label}: ${(cause as Error).message.split('\n')[0]}`, { cause });
    }
  }

  private module(files: readonly string[]): Promise<GPUShaderModule> {
    const key = files.join('+');
    let module = this.modules.get(key);
    if (!module) {
      module = compileModule(this.device, files);
      this.modules.set(key, module);
    }
    return module;
  }
}

/** Compiles shader files joined in order. Exported for kernels under development. */
export async function compileModule(device: Device, files: readonly string[]): Promise<GPUShaderModule> {
  const texts = files.map(shaderSource);
  device.gpu.pushErrorScope('validation');
  const module = device.gpu.createShaderModule({ label: files.join('+'), code: texts.join('\n') });
  const info = await module.getCompilationInfo();
  await device.gpu.popErrorScope();
  const error = info.messages.find((message) => message.type === 'error');
  if (error) {
    // Dawn counts lines in the joined text: walk back to the file that the line is in.
    let line = error.lineNum;
    let at = 0;
    while (at < texts.length - 1 && line > texts[at].split('\n').length) line -= texts[at++].split('\n').length;
    const text = texts[at].split('\n')[line - 1]?.trim() ?? '';
    throw new ShaderError(`shaders/${files[at]}.wgsl:${line}: ${error.message} | ${text}`);
  }
  return module;
}
