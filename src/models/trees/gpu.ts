/** Histograms on a device, to the same bits as the processor's. */
import type { Device } from '../../kernels/device.ts';
import { type Call, PipelineCache } from '../../kernels/kernel.ts';
import { type PlacedCall, Program } from '../../kernels/program.ts';
import { histogramCalls, wordSums } from '../../kernels/trees.ts';
import type { Binned } from './bins.ts';
import { type Histogrammer, histogram, histogramStride } from './grow.ts';

/** Rows a workgroup takes, at least: what it writes is worth so many. */
const leastStretch = 1024;
/** Workgroups that keep a card busy. */
const busy = 1024;

/** Builds histograms by kernels; its buffers live until `destroy`. */
export class GpuHistogrammer implements Histogrammer {
  /** Nodes of fewer rows are the processor's: set by `measure`. */
  least = 1;
  private readonly device: Device;
  private readonly pipelines: PipelineCache;
  private readonly across: number;
  private readonly made: GPUBuffer[] = [];
  private readonly order: GPUBuffer;
  private readonly gradients: GPUBuffer;
  private readonly codes: GPUBuffer;
  private readonly wanted: GPUBuffer;
  private readonly sums: GPUBuffer;
  private readonly total: GPUBuffer;
  private readonly mostStretches: number;
  private half = 15;

  /** @throws DeviceError where the table is too large for its buffers */
  constructor(device: Device, binned: Binned) {
    this.device = device;
    this.pipelines = new PipelineCache(device);
    const { rows, columns, codes } = binned;
    this.across = Math.ceil(columns.length / 4);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const make = (label: string, bytes: number): GPUBuffer => {
      const buffer = device.createBuffer(bytes, usage, `trees' ${label}`);
      this.made.push(buffer);
      return buffer;
    };
    const perStretch = 4 * wordSums * this.across;
    const most = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize, 2 ** 27);
    this.mostStretches = Math.max(1, Math.min(Math.floor(most / perStretch), Math.ceil(busy / this.across)));
    try {
      this.order = make('rows', 4 * rows);
      this.gradients = make('gradients', 4 * rows);
      this.codes = make('codes', 4 * rows * this.across);
      this.wanted = make('words', 4 * this.across);
      this.sums = make('sums', perStretch * this.mostStretches);
      this.total = make('histograms', perStretch);
    } catch (error) {
      this.destroy();
      throw error;
    }
    const packed = new Uint8Array(4 * rows * this.across);
    for (let c = 0; c < columns.length; c++) {
      for (let row = 0; row < rows; row++) packed[4 * row * this.across + c] = codes[c * rows + row];
    }
    device.writeBuffer(this.codes, packed);
  }

  begin(gradients: Int32Array, bits: number): void {
    this.half = bits / 2;
    this.device.writeBuffer(this.gradients, gradients);
  }

  async build(into: Float64Array, rows: Uint32Array, columns: Uint16Array): Promise<void> {
    const { device, across } = this;
    const words = Uint32Array.from(new Set(Array.from(columns, (c) => c >> 2)));
    const stretches = Math.max(1, Math.min(this.mostStretches, Math.floor(rows.length / leastStretch)));
    device.writeBuffer(this.order, rows);
    device.writeBuffer(this.wanted, words);
    const sizes = { rows: rows.length, across, words: words.length, stretches, half: this.half };
    const calls = histogramCalls(sizes);
    const program = await Program.build(device, this.pipelines, [
      placed('histogram', calls.histogram, [this.order, this.gradients, this.codes, this.wanted, this.sums]),
      placed('combine', calls.combine, [this.sums, this.total]),
    ]);
    try {
      const encoder = device.gpu.createCommandEncoder();
      program.encode(encoder, 1);
      device.gpu.queue.submit([encoder.finish()]);
      const found = new Int32Array(await device.read(this.total, 4 * wordSums * words.length));
      const unit = 2 ** this.half;
      const place = new Map(Array.from(words, (word, i) => [word, i]));
      for (const c of columns) {
        let from = place.get(c >> 2)! * wordSums + (c & 3) * 768;
        const end = (c + 1) * histogramStride;
        for (let k = c * histogramStride; k < end; k += 2, from += 3) {
          into[k] = found[from] * unit + (found[from + 1] >>> 0);
          into[k + 1] = found[from + 2];
        }
      }
    } finally {
      program.destroy();
    }
  }

  destroy(): void {
    for (const buffer of this.made) this.device.destroyBuffer(buffer);
    this.made.length = 0;
  }
}

/** Milliseconds of a node's histograms, the best of three after one that compiles. */
export interface HistogramTimes {
  rows: number;
  processor: number;
  device: number;
}

/**
 * Times nodes of falling size on the processor and the device, and lets the device take those that it is faster at; with
 * `least` infinite it takes none.
 */
export async function measure(engine: GpuHistogrammer, binned: Binned, bits: number): Promise<HistogramTimes[]> {
  const { rows, columns } = binned;
  const all = Uint16Array.from(columns, (_, c) => c);
  const into = new Float64Array(columns.length * histogramStride);
  const gradients = Int32Array.from({ length: rows }, (_, row) => (row % 7) - 3);
  const gathered = Float64Array.from(gradients);
  engine.begin(gradients, bits);
  const times: HistogramTimes[] = [];
  engine.least = Number.POSITIVE_INFINITY;
  for (let n = rows; n >= 1024 || n === rows; n = Math.ceil(n / 4)) {
    const order = Uint32Array.from({ length: n }, (_, i) => Math.floor((i * rows) / n));
    const best = async (work: () => void | Promise<void>): Promise<number> => {
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 4; i++) {
        const began = performance.now();
        await work();
        if (i > 0) least = Math.min(least, performance.now() - began);
      }
      return least;
    };
    const processor = await best(() => histogram(binned, into, order, 0, n, all, gathered));
    const device = await best(() => engine.build(into, order, all));
    times.push({ rows: n, processor, device });
    if (device >= processor) break;
    engine.least = n;
  }
  return times;
}

const placed = (label: string, call: Omit<Call, 'buffers'>, buffers: readonly GPUBuffer[]): PlacedCall => ({
  label,
  call: { ...call, buffers: buffers.map((_, input) => ({ input })) },
  places: buffers.map((buffer) => ({ buffer, offset: 0, size: buffer.size })),
});
