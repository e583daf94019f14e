/** From formulas to positions: principal components, landmarks mapped exactly, the others placed among them. */
import { ConfigError } from '../../errors.ts';
import type { Descended, Features, MapEngine } from './engine.ts';
import { formulaComponents } from './pca.ts';
import { chooseLandmarks, type MapFormulas } from './sets.ts';
import { affinities, descend, placeAmong, startFrom } from './tsne.ts';

export interface MapOptions {
  dimensions: readonly (2 | 3)[];
  perplexity: number;
  iterations: number;
  /** Points that are mapped exactly, at most. */
  landmarks: number;
  /** Principal components that distances are taken in. */
  components: number;
  seed: number;
  /** What is being done, how far (0 to 1), and the KL divergence where there is one. */
  onProgress?: (doing: string, share: number, divergence?: number) => void;
}

export interface Mapped extends Pick<Descended, 'history' | 'divergence'> {
  dimensions: 2 | 3;
  /** Row-major [formulas, dimensions]. */
  positions: Float32Array;
  seconds: number;
}

export interface FormulaMap {
  maps: Mapped[];
  /** 1 for each formula that was mapped exactly, 0 for those placed among them. */
  exact: Uint8Array;
  landmarks: number;
  /** Share of the variance of the matrices that the components hold. */
  explained: number;
  components: number;
}

/** Points that the f64 reference maps in minutes. */
const mostReference = 2000;

const part = ({ dims, values }: Features, rows: Uint32Array): Features => {
  const out = new Float32Array(rows.length * dims);
  rows.forEach((row, i) => {
    out.set(values.subarray(row * dims, (row + 1) * dims), i * dims);
  });
  return { points: rows.length, dims, values: out };
};

/** Maps formulas. The same formulas, options and adapter give the same bits. @throws DataError, ConfigError */
export async function mapFormulas(engine: MapEngine, formulas: MapFormulas, options: MapOptions): Promise<FormulaMap> {
  const { seed, onProgress } = options;
  const landmarks = chooseLandmarks(formulas, options.landmarks, seed);
  if (engine.kind === 'reference' && landmarks.length > mostReference) {
    throw new ConfigError(
      `--device reference: ${landmarks.length} points would take hours; at most ${mostReference}: use --landmarks ${mostReference} or --points`,
    );
  }
  onProgress?.('principal components', 0);
  const { features, explained } = formulaComponents(formulas, options.components, landmarks);
  const own = part(features, landmarks);
  const exact = new Uint8Array(formulas.rows);
  for (const row of landmarks) exact[row] = 1;
  const others = Uint32Array.from(
    (function* () {
      for (let row = 0; row < formulas.rows; row++) if (!exact[row]) yield row;
    })(),
  );
  const p = await affinities(engine, own, options.perplexity, {
    onProgress: (done) => onProgress?.('nearest neighbours', done / own.points),
  });
  const maps: Mapped[] = [];
  for (const dimensions of options.dimensions) {
    const began = performance.now();
    const start = startFrom(own, dimensions, seed);
    const { positions, history, divergence } = await descend(engine, p, start, {
      dimensions,
      iterations: options.iterations,
      onProgress: (iteration, now) => onProgress?.(`${dimensions}-D map`, iteration / options.iterations, now),
    });
    const seconds = (performance.now() - began) / 1000;
    const all = new Float32Array(formulas.rows * dimensions);
    const put = (rows: Uint32Array, found: Float32Array): void =>
      rows.forEach((row, i) => {
        all.set(found.subarray(i * dimensions, (i + 1) * dimensions), row * dimensions);
      });
    put(landmarks, positions);
    // A batch at a time: the distances of few thousand queries fit any device.
    const batch = 20_000;
    for (let at = 0; at < others.length; at += batch) {
      const rows = others.subarray(at, at + batch);
      onProgress?.(`${dimensions}-D, placing the others`, at / others.length);
      put(rows, await placeAmong(engine, part(features, rows), own, positions));
    }
    maps.push({ dimensions, positions: all, history, divergence, seconds });
  }
  return {
    maps,
    exact,
    landmarks: landmarks.length,
    explained: explained.reduce((a, b) => a + b, 0),
    components: features.dims,
  };
}
