import { readFileSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
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
  /**
   * Shader files, joined in this order; the last one holds the entry point. A name is a file of `shaders/`, without
   * `.wgsl`; a shader of your own is an absolute path or a file URL that ends in `.wgsl`.
   */
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

/** Whether an entry of `Kernel.files` is the user's own: a path or URL. */
const isOwn = (file: string): boolean => file.endsWith('.wgsl');

/** Where a shader lies. @throws ShaderError for what is neither a name, an absolute path nor a file URL */
function shaderPath(file: string): string {
  if (/^[\w-]+$/.test(file)) return `${packageRoot}/shaders/${file}.wgsl`;
  const path = file.startsWith('file:') ? fileURLToPath(file) : file;
  if (isOwn(file) && isAbsolute(path)) return path;
  throw new ShaderError(
    `shader ${file}: it takes a name in shaders/, or an absolute path or file URL that ends in .wgsl, ` +
      `as new URL('./NAME.wgsl', import.meta.url).href gives it`,
    { userMistake: true },
  );
}

/** A shader as messages show it: below the working folder where it is there. */
function shown(file: string): string {
  if (!isOwn(file)) return `shaders/${file}.wgsl`;
  const path = shaderPath(file);
  const below = relative(process.cwd(), path);
  return below.startsWith('..') || isAbsolute(below) ? path : below;
}

const sources = new Map<string, string>();
/** Text of a shader file. @throws ShaderError where there is none */
export function shaderSource(file: string): string {
  let text = sources.get(file);
  if (text === undefined) {
    try {
      // Read beside package.json at run time: neither tsx nor tsc copies a .wgsl file.
      text = readFileSync(shaderPath(file), 'utf8');
    } catch (cause) {
      if (cause instanceof ShaderError) throw cause;
      throw new ShaderError(`${shown(file)}: this shader can't be read: ${(cause as Error).message}`, {
        cause,
        userMistake: isOwn(file),
      });
    }
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
      throw new ShaderError(`${label}: ${(cause as Error).message.split('\n')[0]}`, {
        cause,
        userMistake: kernel.files.some(isOwn),
      });
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
    throw new ShaderError(`${shown(files[at])}:${line}: ${error.message} | ${text}`, { userMistake: isOwn(files[at]) });
  }
  return module;
}
