/** A trained autoencoder at work: formulas to latent vectors and back, batch by batch. */

import * as b from '../autograd/build.ts';
import type { Executor } from '../autograd/executor.ts';
import type { Node } from '../autograd/graph.ts';
import { newGraph } from '../autograd/ops/index.ts';
import type { Plan } from '../autograd/plan.ts';
import { type PackedFormulas, rowWords } from '../chem/encoding.ts';
import { CheckpointError } from '../errors.ts';
import { aeTrainer, autoencoder } from './ae.ts';
import { assemble, type Checkpoint } from './checkpoint.ts';
import type { AeConfig } from './config.ts';
import { checkSize } from './size.ts';
import { stateRows } from './training.ts';

/** Formulas as both rules read them, packed; zeros where a rule drops the result. */
export interface Decoded {
  readonly argmax: Uint32Array;
  readonly paper: Uint32Array;
}

/** Rows in one pass, unless said. */
const defaultBatch = 256;

/**
 * An autoencoder in an executor. Rows go through in batches of one size, so memory is bounded whatever their number; each plan
 * is made when it is first wanted. `destroy` gives everything back.
 */
export class Codec {
  readonly config: AeConfig;
  /** Numbers of a latent vector. */
  readonly latent: number;
  private readonly executor: Executor;
  private readonly batch: number;
  private readonly state: readonly Node[];
  private readonly words: Node;
  private readonly latents: Node;
  private readonly nodes: { encoded: Node; there: Record<keyof Decoded, Node>; back: Record<keyof Decoded, Node> };
  private readonly plans: Partial<Record<'encode' | 'decode' | 'both', Plan>> = {};

  /** @throws CheckpointError where the checkpoint is none of an autoencoder, or lacks a tensor */
  constructor(executor: Executor, checkpoint: Checkpoint, batch = defaultBatch) {
    const { config } = checkpoint;
    if (config.model !== 'ae') {
      throw new CheckpointError(
        `${checkpoint.path}: it is a model of kind ${config.model}; this takes an autoencoder (ae)`,
      );
    }
    checkSize(config, `${checkpoint.path}, ${batch} rows at a time`, batch);
    this.config = config;
    this.latent = config.decoder.latent;
    this.executor = executor;
    this.batch = batch;
    const variables = aeTrainer(config, checkpoint.data.rows).state;
    const values = variables.map((variable) => assemble(checkpoint, variable));
    this.state = variables.map(({ node }) => node);

    const graph = newGraph();
    const ae = autoencoder(config);
    const flat = graph.variable('autoencoder', [stateRows[config.optimiser.name].length, ae.parameters.size]);
    const running = graph.variable('autoencoder.running', [Math.max(1, ae.parameters.runningSize)]);
    const weights = ae.parameters.views(flat);
    const norm = { train: false, running } as const;
    this.words = graph.variable('codec.words', [batch, rowWords], 'u32');
    const numbers = graph.variable('codec.numbers', [batch], 'u32');
    this.latents = graph.variable('codec.latents', [batch, this.latent]);
    const encoded = ae.encode(b.unfold(this.words, numbers), weights, norm);
    const read = (z: Node): Record<keyof Decoded, Node> => {
      const cells = ae.decode(z, weights, norm);
      return { argmax: b.decode(cells, 'argmax'), paper: b.decode(cells, 'paper') };
    };
    this.nodes = { encoded, there: read(encoded), back: read(this.latents) };
    this.state = [...this.state, this.words, numbers, this.latents];
    variables.forEach(({ node }, i) => {
      executor.write(node, values[i]);
    });
    executor.write(
      numbers,
      Uint32Array.from({ length: batch }, (_, i) => i),
    );
  }

  private async plan(name: 'encode' | 'decode' | 'both'): Promise<Plan> {
    const { encoded, there, back } = this.nodes;
    const outputs = { encode: [encoded], decode: Object.values(back), both: Object.values(there) }[name];
    this.plans[name] ??= await this.executor.plan({ outputs });
    return this.plans[name];
  }

  /** Latent vectors of formulas, [count, latent] for each batch, handed over in order. */
  async encode(
    { packed, rows }: PackedFormulas,
    receive: (latents: Float32Array, from: number, count: number) => void | Promise<void>,
  ): Promise<void> {
    const plan = await this.plan('encode');
    for (let from = 0; from < rows; from += this.batch) {
      const count = this.put(packed, from, rows);
      plan.run();
      await receive((await plan.read(this.nodes.encoded, 0, count * this.latent)) as Float32Array, from, count);
    }
  }

  /** Formulas through both networks, batch by batch in order. */
  async reconstruct(
    { packed, rows }: PackedFormulas,
    receive: (decoded: Decoded, from: number, count: number) => void,
  ): Promise<void> {
    const plan = await this.plan('both');
    for (let from = 0; from < rows; from += this.batch) {
      const count = this.put(packed, from, rows);
      plan.run();
      receive(await this.read(plan, this.nodes.there, count), from, count);
    }
  }

  /** What latent vectors [rows, latent] decode to. */
  async decode(latents: Float32Array): Promise<Decoded> {
    const plan = await this.plan('decode');
    const rows = latents.length / this.latent;
    const all = { argmax: new Uint32Array(rows * rowWords), paper: new Uint32Array(rows * rowWords) };
    const some = new Float32Array(this.batch * this.latent);
    for (let from = 0; from < rows; from += this.batch) {
      const count = Math.min(this.batch, rows - from);
      some.set(latents.subarray(from * this.latent, (from + count) * this.latent));
      this.executor.write(this.latents, some);
      plan.run();
      const { argmax, paper } = await this.read(plan, this.nodes.back, count);
      all.argmax.set(argmax, from * rowWords);
      all.paper.set(paper, from * rowWords);
    }
    return all;
  }

  /** Puts the next rows in their place; what is behind the last one is of earlier rows and is not read. */
  private put(packed: Uint32Array, from: number, rows: number): number {
    const count = Math.min(this.batch, rows - from);
    const some = new Uint32Array(this.batch * rowWords);
    some.set(packed.subarray(from * rowWords, (from + count) * rowWords));
    this.executor.write(this.words, some);
    return count;
  }

  private async read(plan: Plan, nodes: Record<keyof Decoded, Node>, count: number): Promise<Decoded> {
    const [argmax, paper] = await Promise.all(
      [nodes.argmax, nodes.paper].map(async (node) => (await plan.read(node, 0, count * rowWords)) as Uint32Array),
    );
    return { argmax, paper };
  }

  destroy(): void {
    for (const plan of Object.values(this.plans)) plan.destroy();
    this.executor.forget(this.state);
  }
}
