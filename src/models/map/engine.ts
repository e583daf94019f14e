/** What computes a map: the GPU by our own kernels, or the f64 reference (reference.ts). Both follow the same steps. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DataError, DeviceError } from '../../errors.ts';
import type { Device } from '../../kernels/device.ts';
import { type Call, PipelineCache } from '../../kernels/kernel.ts';
import { type PlacedCall, Program } from '../../kernels/program.ts';
import {
  farAway,
  neighbourCalls,
  padded,
  perplexityCall,
  type StepSizes,
  stepCalls,
  stretchesOf,
  tileOf,
} from '../../kernels/tsne.ts';
import { Pace } from '../pace.ts';

/** Points in a space, row-major [points, dims]. */
export interface Features {
  points: number;
  dims: number;
  values: Float32Array;
}

/** The k nearest points of each query, in order of index, and their squared distances: both [queries, k]. */
export interface Neighbours {
  k: number;
  index: Uint32Array;
  distance: Float32Array;
}

/** P, symmetric and sparse, by rows: the entries of row i are rows[i] … rows[i + 1] − 1. Their sum is 1. */
export interface Affinities {
  points: number;
  rows: Uint32Array;
  columns: Uint32Array;
  values: Float32Array;
}

/** Settings of the descent that hold for a stretch of iterations. */
export interface Phase {
  iterations: number;
  exaggeration: number;
  momentum: number;
  /** Step for a gradient with its factor 4: a quarter of what implementations without the factor call learning rate. */
  rate: number;
}

export interface Descent {
  dimensions: 2 | 3;
  /** Longest step of a point. */
  longest: number;
  phases: readonly Phase[];
  /** `divergence`: the KL divergence before the last of the iterations done, in nats. */
  onProgress?: (iteration: number, divergence: number) => void;
}

export interface Descended {
  /** Row-major [points, dimensions]. */
  positions: Float32Array;
  /** KL divergence, in nats, before each of some iterations, and at the end. */
  history: { iteration: number; divergence: number }[];
  divergence: number;
}

export interface MapEngine {
  readonly kind: 'gpu' | 'reference';
  /**
   * @param base undefined: the queries themselves, without each one
   * @param onProgress queries done
   */
  nearest(
    queries: Features,
    base: Features | undefined,
    k: number,
    onProgress?: (done: number) => void,
  ): Promise<Neighbours>;
  /** Affinities to neighbours [queries, k], each row with the perplexity asked for and the sum 1. */
  conditional(neighbours: Neighbours, perplexity: number): Promise<Float32Array>;
  /** Descends from `start`, row-major [points, dimensions]. */
  descend(affinities: Affinities, start: Float32Array, descent: Descent): Promise<Descended>;
}

/** Σ p ln p over the entries: the part of the KL divergence that positions don't change. */
export function negativeEntropy({ values }: Affinities): number {
  let sum = 0;
  for (const p of values) if (p > 0) sum += p * Math.log(p);
  return sum;
}

/** Points last, padded with zeros: [dims, padded points]. */
function byDimension({ points, dims, values }: Features): Float32Array {
  const all = padded(points);
  const out = new Float32Array(dims * all);
  for (let i = 0; i < points; i++) for (let c = 0; c < dims; c++) out[c * all + i] = values[i * dims + c];
  return out;
}

/** Milliseconds of work that are handed to the device at a time: signals get through in between, and no watchdog wakes. */
const portion = 300;
/** Iterations between two values of the history, at most. */
const mostIterations = 50;

/** Waits for the device, the first milliseconds asleep where it is a software adapter; says how long it then still waited. */
async function rest(device: Device, asleep: number): Promise<number> {
  if (device.info.software && asleep > 4) await sleep(asleep);
  const awake = performance.now();
  await device.idle();
  return performance.now() - awake;
}

/** Queries whose neighbours are looked at again, in f64. */
const checked = 64;

/**
 * Holds some queries' neighbours, the last one's among them, against features: maps of wrong neighbours look like maps. It tells wrong
 * distances, not that a nearer point was left out.
 * @param queries [points, dims]; @param base [points, dims]; what was found: [points of queries, k]
 * @throws DeviceError where a distance is not that of the two points
 */
export function checkNeighbours(queries: Features, base: Features, { k, index, distance }: Neighbours): void {
  const { dims, points } = queries;
  const many = Math.min(checked, points);
  for (let n = 0; n < many; n++) {
    const q = Math.floor(((n + 1) * points) / many) - 1;
    for (let at = q * k; at < (q + 1) * k; at++) {
      let exact = 0;
      for (let c = 0; c < dims; c++) exact += (queries.values[q * dims + c] - base.values[index[at] * dims + c]) ** 2;
      // The kernel's differences are of float32, and so is their sum.
      if (!(Math.abs(distance[at] - exact) <= 1e-4 * exact + 1e-12)) {
        throw new DeviceError(
          `this adapter computes wrong neighbours: point ${q} lies ${exact} from point ${index[at]}, not ${distance[at]}; --device reference maps up to 2000 points without it`,
        );
      }
    }
  }
}

export class GpuMapEngine implements MapEngine {
  readonly kind = 'gpu';
  private readonly device: Device;
  private readonly pipelines: PipelineCache;
  private readonly stretches: number | undefined;

  /** @param stretches shares of the repulsion's sums; as many as the device likes unless said */
  constructor(device: Device, stretches?: number) {
    this.device = device;
    this.stretches = stretches;
    this.pipelines = new PipelineCache(device);
  }

  async nearest(
    queries: Features,
    base: Features | undefined,
    k: number,
    onProgress?: (done: number) => void,
  ): Promise<Neighbours> {
    const { device } = this;
    const from = base ?? queries;
    const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
    const most = Math.min(maxStorageBufferBindingSize, maxBufferSize, 2 ** 27);
    const tile = Math.min(tileOf(device.info, from.points, most), Math.ceil(queries.points / 64) * 64);
    if (tile < 64 || Math.max(queries.points * k, padded(from.points) * from.dims) * 4 > most) {
      const what = `${queries.points} points with ${k} neighbours each`;
      throw new DataError(`${what} are too many for this device's buffers; map fewer points, or a lower perplexity`);
    }
    return this.withBuffers(async (make) => {
      const b = make('features', byDimension(from));
      const x = base ? make('queries', byDimension(queries)) : b;
      const d = make('distances', tile * padded(from.points));
      const index = make('neighbours', queries.points * k);
      const distance = make('neighbour distances', queries.points * k);
      // One program for all tiles. Each had one of its own, with parameters where the last one's had just been, and an H200 mapped 57,180
      // formulas to a divergence at the start that is, to four digits, the one of every tile having the neighbours of the tile before.
      const calls = Array.from({ length: Math.ceil(queries.points / tile) }, (_, i) => {
        const first = i * tile;
        const sizes = { tile, first, queries: queries.points, points: from.points, dims: from.dims, k, itself: !base };
        const { distances, neighbours } = neighbourCalls(sizes);
        return [placed('distances', distances, [x, b, d]), placed('neighbours', neighbours, [d, index, distance])];
      }).flat();
      const program = await Program.build(device, this.pipelines, calls);
      try {
        const pace = new Pace();
        for (let at = 0; at < calls.length; at += 2) {
          const started = performance.now();
          this.submit(program, 1, at, at + 2);
          const waited = await rest(device, pace.sleep());
          // The first one also compiles.
          if (at > 0) pace.note(performance.now() - started, waited);
          onProgress?.(Math.min(queries.points, (at / 2 + 1) * tile));
        }
      } finally {
        program.destroy();
      }
      const found = {
        k,
        index: new Uint32Array(await device.read(index, queries.points * k * 4)),
        distance: new Float32Array(await device.read(distance, queries.points * k * 4)),
      };
      checkNeighbours(queries, from, found);
      return found;
    });
  }

  async conditional({ k, distance }: Neighbours, perplexity: number): Promise<Float32Array> {
    const points = distance.length / k;
    return this.withBuffers(async (make) => {
      const d = make('neighbour distances', distance);
      const y = make('conditional affinities', distance.length);
      await this.run([placed('perplexity', perplexityCall(points, k, perplexity), [d, y])], 0);
      return new Float32Array(await this.device.read(y, distance.length * 4));
    });
  }

  async descend(affinities: Affinities, start: Float32Array, descent: Descent): Promise<Descended> {
    const { device } = this;
    const { points, rows, columns, values } = affinities;
    const { dimensions } = descent;
    const all = padded(points);
    const stretches = this.stretches ?? stretchesOf(device.info, points);
    const constant = negativeEntropy(affinities);
    return this.withBuffers(async (make) => {
      const positions = byDimension({ points, dims: dimensions, values: start });
      positions.fill(farAway, points, all);
      const state = new Float32Array(8 * points).fill(1, 4 * points);
      const y = make('positions', positions);
      const buffers = {
        rows: make('rows of P', rows),
        columns: make('columns of P', columns),
        values: make('values of P', values),
        forces: make('forces', 4 * all * stretches),
        attraction: make('attraction', 4 * points),
        repulsion: make('repulsion', 4 * points),
        sums: make('sums', 2),
        state: make('velocities and gains', state),
      };
      const calls = (phase: Omit<Phase, 'iterations'>): PlacedCall[] => {
        const sizes: StepSizes = { points, stretches, entries: values.length, ...descent, ...phase };
        const { repulsion, attraction, totals, update } = stepCalls(sizes);
        const b = buffers;
        const last = [b.attraction, b.repulsion, b.sums, y, b.state];
        return [
          placed('repulsion', repulsion, [y, b.forces]),
          placed('attraction', attraction, [y, b.rows, b.columns, b.values, b.forces, b.attraction, b.repulsion]),
          placed('totals', totals, last),
          placed('update', update, last),
        ];
      };
      const divergence = async (): Promise<number> => {
        const [z, logs] = new Float32Array(await device.read(buffers.sums, 8));
        return constant + logs + Math.log(Math.max(z, 1e-30));
      };

      const history: Descended['history'] = [];
      let done = 0;
      const pace = new Pace();
      for (const phase of descent.phases) {
        const program = await Program.build(device, this.pipelines, calls(phase));
        try {
          for (let left = phase.iterations; left > 0; ) {
            // The first iteration alone: it compiles.
            const each = pace.expected || portion / 8;
            const fitting = done === 0 ? 1 : Math.floor(portion / Math.max(0.01, each));
            const times = Math.max(1, Math.min(fitting, left, mostIterations));
            const began = performance.now();
            this.submit(program, times);
            const waited = await rest(device, pace.sleep(times));
            if (done > 0) pace.note(performance.now() - began, waited, times);
            const now = await divergence();
            done += times;
            left -= times;
            history.push({ iteration: done - 1, divergence: now });
            descent.onProgress?.(done, now);
          }
        } finally {
          program.destroy();
        }
      }
      // What the last step led to: its forces, without another step.
      const phase = descent.phases.at(-1) ?? { exaggeration: 1, momentum: 0, rate: 0 };
      await this.run(calls(phase).slice(0, 3), pace.sleep());
      const last = await divergence();
      history.push({ iteration: done, divergence: last });
      const found = new Float32Array(await device.read(y, 4 * all * dimensions));
      const out = new Float32Array(points * dimensions);
      for (let i = 0; i < points; i++)
        for (let c = 0; c < dimensions; c++) out[i * dimensions + c] = found[c * all + i];
      return { positions: out, history, divergence: last };
    });
  }

  /** Runs dispatches once, and says how long it waited. @param asleep milliseconds to sleep for before waiting */
  private async run(calls: readonly PlacedCall[], asleep: number): Promise<number> {
    const program = await Program.build(this.device, this.pipelines, calls);
    try {
      this.submit(program, 1);
      return await rest(this.device, asleep);
    } finally {
      program.destroy();
    }
  }

  private submit(program: Program, times: number, from?: number, to?: number): void {
    const encoder = this.device.gpu.createCommandEncoder();
    program.encode(encoder, times, from, to);
    this.device.gpu.queue.submit([encoder.finish()]);
  }

  /** Buffers for `work`, of elements of 4 bytes or filled with what is given; they are gone when it ends. */
  private async withBuffers<T>(work: (make: Maker) => Promise<T>): Promise<T> {
    const { device } = this;
    const made: GPUBuffer[] = [];
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    try {
      return await work((label, content) => {
        const bytes = typeof content === 'number' ? 4 * content : content.byteLength;
        const buffer = device.createBuffer(bytes, usage, label);
        made.push(buffer);
        if (typeof content !== 'number') device.writeBuffer(buffer, content);
        return buffer;
      });
    } finally {
      for (const buffer of made) device.destroyBuffer(buffer);
    }
  }
}

type Maker = (label: string, content: number | Float32Array | Uint32Array) => GPUBuffer;

const placed = (label: string, call: Omit<Call, 'buffers'>, buffers: readonly GPUBuffer[]): PlacedCall => ({
  label,
  call: { ...call, buffers: buffers.map((_, input) => ({ input })) },
  places: buffers.map((buffer) => ({ buffer, offset: 0, size: buffer.size })),
});
