// One t-SNE by our kernels, for scripts/tsne-peer.py: features in, positions out, both little-endian f32, and a line of JSON.
//   tsx scripts/tsne-run.ts FEATURES POINTS DIMS PERPLEXITY ITERATIONS SEED POSITIONS
import { readFileSync, writeFileSync } from 'node:fs';
import { openDevice } from '../src/kernels/device.ts';
import { GpuMapEngine } from '../src/models/map/engine.ts';
import { affinities, descend, startFrom } from '../src/models/map/tsne.ts';

const [file, points, dims, perplexity, iterations, seed, out] = process.argv.slice(2);
const values = new Float32Array(new Uint8Array(readFileSync(file)).buffer);
const features = { points: Number(points), dims: Number(dims), values };
const device = await openDevice({ boundsChecks: false });
const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const times = [performance.now(), cpu()];
const engine = new GpuMapEngine(device);
const p = await affinities(engine, features, Number(perplexity));
const near = [(performance.now() - times[0]) / 1000, cpu() - times[1]];
const { positions, divergence } = await descend(engine, p, startFrom(features, 2, Number(seed)), {
  dimensions: 2,
  iterations: Number(iterations),
});
writeFileSync(out, positions);
const seconds = [(performance.now() - times[0]) / 1000, cpu() - times[1]];
const [affinitySeconds, affinityCpu] = near;
process.stdout.write(
  `${JSON.stringify({ divergence, seconds: seconds[0], cpuSeconds: seconds[1], affinitySeconds, affinityCpu })}\n`,
);
device.destroy();
