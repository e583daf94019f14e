/** Trainable numbers and layer sizes of the networks, against those of the released graphs. */
import { describe, expect, it } from 'vitest';
import { type Node, topological } from '../../src/autograd/graph.ts';
import { newGraph } from '../../src/autograd/ops/index.ts';
import { checkConfig, type GanConfig, loadConfig } from '../../src/models/config.ts';
import { criticNetwork, generatorNetwork, type Network } from '../../src/models/layers.ts';
import { makeTrainer } from '../../src/models/run.ts';
import { trainingNorm } from '../../src/models/training.ts';

const gan = (preset: string): GanConfig => loadConfig('gan', { preset }) as GanConfig;

/** A network applied to two rows, with every op that it is made of. */
function applied({ parameters, apply }: Network, input: readonly number[]): { out: Node; nodes: Node[] } {
  const graph = newGraph();
  const weights = parameters.views(graph.variable('w', [parameters.size]));
  const out = apply(graph.variable('x', [2, ...input]), { weights, norm: trainingNorm(parameters).mode, eps: 1e-5 });
  return { out, nodes: topological([out]) };
}
const sizes = (nodes: readonly Node[], op: string): number[][] =>
  nodes.filter((node) => node.op === op).map(({ shape }) => shape.slice(1));

describe('parameter counts', () => {
  it.each([
    ['icsd-released', 'generator', 630_753],
    ['icsd-released', 'critic', 242_289],
    ['oqmd-paper', 'generator', 1_911_393],
    ['oqmd-paper', 'critic', 1_113_377],
  ] as const)('%s: the %s has %i', (preset, which, count) => {
    expect(makeTrainer(gan(preset), 100).counts[which]).toBe(count);
  });

  it("the paper's critic shape for ICSD and MP has 231,297, and two more a channel with batch norm", () => {
    for (const preset of ['icsd', 'icsd-paper', 'mp']) {
      expect(generatorNetwork(gan(preset).generator).parameters.count, preset).toBe(630_753);
    }
    expect(criticNetwork(gan('icsd').critic).parameters.count).toBe(231_297);
    expect(criticNetwork(gan('mp').critic).parameters.count).toBe(231_297);
    expect(criticNetwork(gan('icsd-paper').critic).parameters.count).toBe(231_297 + 2 * (16 + 32 + 64 + 128));
  });

  it('every parameter has its own name and place in the flat vector', () => {
    for (const config of [gan('oqmd-paper'), gan('icsd-released')]) {
      for (const { parameters } of [generatorNetwork(config.generator), criticNetwork(config.critic)]) {
        expect(new Set(parameters.list.map(({ name }) => name)).size).toBe(parameters.list.length);
        let end = 0;
        for (const { name, shape, offset } of parameters.list) {
          expect(offset, name).toBeGreaterThanOrEqual(end);
          expect(offset % 64, name).toBe(0);
          end = offset + shape.reduce((a, b) => a * b, 1);
        }
        expect(parameters.size).toBeGreaterThanOrEqual(end);
        expect(parameters.size - parameters.count).toBeLessThan(64 * parameters.list.length);
      }
    }
  });
});

describe('layer sizes', () => {
  it('GAN-ICSD: 6×4 → 11×8 → 22×8 → 43×8 → 85×8 and back to 22×4 features', () => {
    const { generator, critic } = gan('icsd-released');
    const made = applied(generatorNetwork(generator), [128]);
    expect(sizes(made.nodes, 'dense')).toEqual([[6 * 4 * 128]]);
    expect(sizes(made.nodes, 'conv2dInputGrad')).toEqual([
      [11, 8, 64],
      [22, 8, 32],
      [43, 8, 16],
      [85, 8, 1],
    ]);
    expect(made.nodes.filter(({ op }) => op === 'batchNorm')).toHaveLength(4);
    expect(made.out.op).toBe('sigmoid');
    const judged = applied(criticNetwork(critic), [85, 8, 1]);
    expect(sizes(judged.nodes, 'conv2d')).toEqual([
      [85, 8, 16],
      [43, 8, 16],
      [43, 8, 32],
      [43, 8, 64],
      [22, 4, 128],
    ]);
    expect(judged.nodes.filter(({ op }) => op === 'batchNorm')).toHaveLength(4);
    expect(judged.out.shape).toEqual([2, 1]);
  });

  it('GAN-OQMD and the autoencoder: 6×4×256 in the middle', () => {
    const { generator, critic } = gan('oqmd-paper');
    expect(sizes(applied(generatorNetwork(generator), [128]).nodes, 'conv2dInputGrad')).toEqual([
      [11, 8, 128],
      [22, 8, 128],
      [22, 8, 64],
      [43, 8, 64],
      [43, 8, 32],
      [85, 8, 32],
      [85, 8, 1],
    ]);
    const encoded = applied(criticNetwork(critic, 128), [85, 8, 1]);
    expect(sizes(encoded.nodes, 'conv2d')).toEqual([
      [85, 8, 32],
      [43, 8, 32],
      [43, 8, 64],
      [22, 8, 64],
      [22, 8, 128],
      [11, 8, 128],
      [6, 4, 256],
    ]);
    expect(encoded.out.shape).toEqual([2, 128]);
    const { counts } = makeTrainer(loadConfig('ae', { preset: 'ae' }), 100);
    // The critic's last layer has 6·4·256 + 1 numbers, the encoder's 128 times that.
    expect(counts).toEqual({ encoder: 1_113_377 + 127 * (6 * 4 * 256 + 1), decoder: 1_911_393 });
  });

  it('sizes that do not follow from the strides are refused, by layer', () => {
    const { generator } = gan('icsd');
    const changed = structuredClone(generator) as Extract<typeof generator, { kind: 'conv' }>;
    changed.layers[1].size = [23, 8];
    expect(() => generatorNetwork(changed)).toThrow(
      /^generator\.layers\.1: strides \[2,1\] lead to \[23,8\] from \[12,8\], but \[11,8\] comes in/,
    );
    const short = { ...changed, layers: (generator as typeof changed).layers.slice(0, 3) };
    expect(() => generatorNetwork(short)).toThrow(/^generator\.layers: they end at \[43,8,16\], not at \[85,8,1\]/);
    // The shape of the configuration itself is right: only the network can say that the sizes are not.
    expect(() => checkConfig({ ...gan('icsd'), generator: short }, 'x')).not.toThrow();
  });
});
