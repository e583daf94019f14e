import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { type Op, type Sample, showShape, sizeOf, type Value } from '../graph.ts';
import { open01, philox } from '../philox.ts';
import { linear } from './linear.ts';

const counter = (values: readonly number[]) => ({ shape: [2], values, dtype: 'u32' as const });
const isStep = (name: string, shape: readonly number[]): void => {
  if (showShape(shape) !== '[2]') throw new ShapeError(`${name}: the step counter is [2], not ${showShape(shape)}`);
};

const summaries: Record<lower.Noise, string> = {
  randomNormal: 'normal noise from Philox: a function of seed, stream, step [2] u32 and the element’s number',
  randomUniform: 'uniform noise in (0, 1) from Philox',
  randomMask: 'zeros at a rate, 1/(1 − rate) elsewhere, from Philox: what dropout multiplies by',
};

function noise(name: lower.Noise): Op {
  const samples: Sample[] = [
    { inputs: [counter([0, 0])], attrs: { key: [1, 0], stream: 0, shape: [1] } },
    { inputs: [counter([7, 0])], attrs: { key: [123456789, 42], stream: 3, shape: [257] } },
    { inputs: [counter([0xffffffff, 1])], attrs: { key: [0xffffffff, 5], stream: 1, shape: [32, 65] } },
  ];
  const isMask = name === 'randomMask';
  return {
    summary: summaries[name],
    inputTypes: ['u32'],
    shape: ([step], { shape, rate }) => {
      isStep(name, step.shape);
      if (isMask && !(rate >= 0 && rate < 1)) throw new ShapeError(`randomMask: rate ${rate}, it takes 0 to under 1`);
      return shape;
    },
    vjp: { none: 'noise does not depend on anything that can be trained' },
    reference: ([step], { key, stream, rate }, out) => {
      for (let t = 0; t * 4 < out.data.length; t++) {
        const words = philox([t, stream, step.data[0], step.data[1]], key);
        const v = [...words].map(open01);
        if (name === 'randomNormal') {
          for (const k of [0, 2]) {
            const radius = Math.sqrt(-2 * Math.log(v[k]));
            const angle = 2 * Math.PI * v[k + 1];
            [v[k], v[k + 1]] = [radius * Math.cos(angle), radius * Math.sin(angle)];
          }
        }
        for (let k = 0; k < 4 && t * 4 + k < out.data.length; k++) {
          out.data[t * 4 + k] = !isMask ? v[k] : v[k] < Math.fround(rate) ? 0 : 1 / (1 - rate);
        }
      }
    },
    roundings: () => (name === 'randomNormal' ? 64 : isMask ? 1 : 0),
    lowering: {
      kernels: ({ shape, attrs }) =>
        lower.random(sizeOf(shape), name, { stream: attrs.stream, key: attrs.key, rate: attrs.rate }),
    },
    samples: isMask ? samples.map(({ inputs, attrs }, i) => ({ inputs, attrs: { ...attrs, rate: i * 0.3 } })) : samples,
    errors: isMask
      ? [{ shapes: [[2]], attrs: { key: [0, 0], stream: 0, shape: [3], rate: 1 }, message: /rate 1,/ }]
      : [],
  };
}

/** Row number at a position of the endless sequence of shuffled epochs: sampleRows.wgsl in TypeScript. */
export function shuffledRow(position: bigint, rows: number, stream: number, key: readonly [number, number]): number {
  const epoch = position / BigInt(rows);
  const half = lower.feistelHalfBits(rows);
  const mask = 2 ** half - 1;
  const keys = philox([0xffffffff, stream, Number(epoch & 0xffffffffn), Number(epoch >> 32n)], key);
  let v = Number(position % BigInt(rows));
  do {
    let left = v >>> half;
    let right = v & mask;
    for (let round = 0; round < 4; round++) {
      let h = (right ^ keys[round]) >>> 0;
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
      h = (h ^ (h >>> 16)) >>> 0;
      [left, right] = [right, ((left ^ h) & mask) >>> 0];
    }
    v = ((left << half) | right) >>> 0;
  } while (v >= rows);
  return v;
}

export const elementCount = 85;
export const countCount = 8;

/** Numbers of a table that `randomFormulas` draws from: running sums over 0 … 8 elements, the elements, and each one's counts. */
export const frequencySumsSize = countCount + 1 + elementCount * (1 + countCount);

/** Draws of an element that is there already before the next one that is not takes its place. */
const elementTries = 16;

/** One formula's pairs, ascending: randomFormulas.wgsl in TypeScript. */
export function drawnPairs(sums: ArrayLike<number>, uniform: () => number): number[] {
  const place = (base: number, n: number): number => {
    const u = uniform();
    let [low, high] = [0, n - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (u < sums[base + middle]) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  const first = countCount + 1;
  const n = place(0, first);
  const pairs = new Map<number, number>();
  while (pairs.size < n) {
    let e = place(first, elementCount);
    for (let tries = 1; tries < elementTries && pairs.has(e); tries++) e = place(first, elementCount);
    const likely = (): boolean => sums[first + e] > (e > 0 ? sums[first + e - 1] : 0);
    let passed = 0;
    while (passed < elementCount && (pairs.has(e) || !likely())) {
      e = (e + 1) % elementCount;
      passed++;
    }
    if (passed === elementCount) break;
    const count = place(first + elementCount + e * countCount, countCount);
    pairs.set(e, ((e + 1) << 8) | (count + 1));
  }
  return [...pairs.values()].sort((a, b) => a - b);
}

/** Tables for randomFormulas' samples: all alike; two to eight elements of a few; more elements asked for than there are. */
const tableSample = (sizes: readonly number[], elements: readonly number[], counts: readonly number[]) => {
  const running = (shares: readonly number[]): number[] => {
    const total = shares.reduce((sum, share) => sum + share, 0);
    let sum = 0;
    return shares.map((share) => Math.fround((sum += share) / total));
  };
  const of = Array.from({ length: elementCount }, (_, e) => elements[e % elements.length]);
  const each = Array.from({ length: elementCount }, (_, e) =>
    running(counts.map((_, c) => counts[(c + e) % countCount])),
  ).flat();
  const padded = Array.from({ length: countCount + 1 }, (_, n) => sizes[n] ?? 0);
  return { shape: [frequencySumsSize], values: [...running(padded), ...running(of), ...each] };
};
const alike = new Array<number>(countCount).fill(1);

function referenceUnfold(packed: Value, rows: Value, out: Value): void {
  const cells = elementCount * countCount;
  rows.data.forEach((row, n) => {
    for (let w = 0; w < 4; w++) {
      const word = packed.data[row * 4 + w];
      for (const pair of [word & 0xffff, word >>> 16]) {
        if (pair) out.data[n * cells + ((pair >>> 8) - 1) * countCount + (pair & 0xff) - 1] = 1;
      }
    }
  });
}

/** Packed rows for samples: NaCl-like pairs at the ends of the table, and a full row of eight. */
const packedSample = {
  shape: [3, 4],
  dtype: 'u32' as const,
  values: [
    [(1 << 8) | 1, (85 << 8) | 8, 0, 0, 0, 0, 0, 0],
    [1, 2, 3, 4, 5, 6, 7, 8].map((e) => ((e * 10) << 8) | e),
    [(8 << 8) | 3, (26 << 8) | 2, 0, 0, 0, 0, 0, 0],
  ].flatMap((pairs) => [0, 2, 4, 6].map((k) => (pairs[k] | (pairs[k + 1] << 16)) >>> 0)),
};

/** Cells for decode's samples: batch 5, among them empty, one element, nine elements and values on the thresholds. */
const cellsSample = (() => {
  const cells = elementCount * countCount;
  const values = new Array<number>(5 * cells).fill(0);
  const set = (n: number, e: number, c: number, v: number): void => {
    values[n * cells + e * countCount + c] = v;
  };
  set(1, 3, 2, 0.9);
  set(2, 0, 0, 0.5);
  set(2, 84, 7, 0.75);
  set(2, 84, 2, 0.8125);
  set(2, 40, 1, 0.25);
  for (let e = 0; e < 9; e++) set(3, e * 9, e % 8, 0.6);
  for (let e = 0; e < 8; e++) set(4, e * 9, e, 0.6);
  return { shape: [5, elementCount, countCount, 1], values };
})();

export const random = {
  randomNormal: noise('randomNormal'),
  randomUniform: noise('randomUniform'),
  randomMask: noise('randomMask'),
  sampleRows: {
    summary: 'row numbers [batch] u32 of one draw: every row once an epoch, in an order of its own each epoch',
    dtype: 'u32',
    inputTypes: ['u32'],
    shape: ([step], { rows, batch, draw, draws, first = 0 }) => {
      isStep('sampleRows', step.shape);
      if (!(Number.isSafeInteger(rows) && rows >= 1 && rows + first < 2 ** 30)) {
        throw new ShapeError(`sampleRows: ${rows} rows, it takes 1 to 2^30 - 1`);
      }
      if (!(draw >= 0 && draw < draws)) throw new ShapeError(`sampleRows: draw ${draw} of ${draws}`);
      return [batch];
    },
    vjp: { none: 'row numbers are integers' },
    reference: ([step], { rows, batch, draw, draws, stream, key, first = 0 }, out) => {
      const now = (BigInt(step.data[1]) << 32n) | BigInt(step.data[0]);
      for (let i = 0; i < batch; i++) {
        const position = BigInt.asUintN(64, (now * BigInt(draws) + BigInt(draw)) * BigInt(batch) + BigInt(i));
        out.data[i] = first + shuffledRow(position, rows, stream, key);
      }
    },
    roundings: () => 0,
    lowering: { kernels: ({ attrs }) => lower.sampleRows(attrs) },
    samples: [
      { inputs: [counter([0, 0])], attrs: { rows: 1, batch: 3, draw: 0, draws: 1, stream: 2, key: [1, 2] } },
      {
        inputs: [counter([5, 0])],
        attrs: { rows: 25_323, batch: 65, draw: 1, draws: 3, stream: 2, key: [9, 0], first: 77 },
      },
      {
        inputs: [counter([0xffffffff, 3])],
        attrs: { rows: 1_000_003, batch: 257, draw: 0, draws: 2, stream: 7, key: [9, 0xffffffff] },
      },
    ] as Sample[],
    errors: [
      { shapes: [[2]], attrs: { rows: 0, batch: 1, draw: 0, draws: 1, stream: 0, key: [0, 0] }, message: /0 rows/ },
      {
        shapes: [[2]],
        attrs: { rows: 5, batch: 1, draw: 1, draws: 1, stream: 0, key: [0, 0] },
        message: /draw 1 of 1/,
      },
    ],
  },
  randomFormulas: {
    summary:
      'packed formulas [batch,4] u32 drawn from running sums of frequencies [774], from Philox: what chance alone makes',
    dtype: 'u32',
    inputTypes: ['u32', 'f32'],
    shape: ([step, sums], { batch }) => {
      isStep('randomFormulas', step.shape);
      if (showShape(sums.shape) !== `[${frequencySumsSize}]`) {
        throw new ShapeError(`randomFormulas: sums ${showShape(sums.shape)}, it takes [${frequencySumsSize}]`);
      }
      return [batch, 4];
    },
    vjp: { none: 'formulas are integers' },
    reference: ([step, sums], { batch, key, stream }, out) => {
      for (let row = 0; row < batch; row++) {
        let used = 0;
        let words: ArrayLike<number> = [];
        const uniform = (): number => {
          const block = Math.imul(used >> 2, batch) + row;
          if ((used & 3) === 0) words = philox([block >>> 0, stream, step.data[0], step.data[1]], key);
          return open01(words[used++ & 3]);
        };
        drawnPairs(sums.data, uniform).forEach((pair, k) => {
          out.data[row * 4 + (k >> 1)] += pair * (k & 1 ? 65_536 : 1);
        });
      }
    },
    roundings: () => 0,
    lowering: { kernels: ({ attrs }) => lower.randomFormulas(attrs, elementCount, countCount) },
    samples: [
      {
        inputs: [counter([0, 0]), tableSample([0, 0, 1, 1, 1, 1, 1, 1, 1], [1], alike)],
        attrs: { batch: 65, stream: 1, key: [1, 2] },
      },
      {
        inputs: [
          counter([0xffffffff, 3]),
          tableSample([0, 0, 1, 5, 2, 1], [...new Array<number>(16).fill(0), 9, 1], [5, 3, 0, 0, 1, 1, 0, 0.5]),
        ],
        attrs: { batch: 200, stream: 7, key: [9, 0xffffffff] },
      },
      {
        inputs: [
          counter([1, 0]),
          tableSample([0, 0, 0, 0, 0, 0, 0, 0, 1], [...new Array<number>(41).fill(0), 1, 3], alike),
        ],
        attrs: { batch: 9, stream: 0, key: [0, 5] },
      },
    ] as Sample[],
    errors: [
      { shapes: [[2], [5]], attrs: { batch: 1, stream: 0, key: [0, 0] }, message: /sums \[5\], it takes \[774\]/ },
    ],
  },
  iota: {
    summary: '0, 1, 2 … as [size] u32: the row numbers of a batch that is taken whole',
    dtype: 'u32',
    shape: (_, { size }) => [size],
    vjp: { none: 'row numbers are integers' },
    reference: (_inputs, _attrs, out) => {
      out.data.forEach((_, i) => {
        out.data[i] = i;
      });
    },
    roundings: () => 0,
    lowering: { kernels: ({ shape }) => lower.iota(shape[0]) },
    samples: [
      { inputs: [], attrs: { size: 1 } },
      { inputs: [], attrs: { size: 257 } },
    ] as Sample[],
    errors: [],
  },
  gather: {
    summary: 'rows of a table x [n,columns] at row numbers [batch] u32 → [batch,columns]',
    inputTypes: ['f32', 'u32'],
    shape: ([x, rows]) => {
      if (x.shape.length !== 2 || rows.shape.length !== 1) {
        throw new ShapeError(`gather: table ${showShape(x.shape)} and rows ${showShape(rows.shape)}`);
      }
      return [rows.shape[0], x.shape[1]];
    },
    vjp: { none: 'rows are looked up in data, which nothing trains' },
    reference: ([x, rows], _attrs, out) => {
      const [batch, columns] = out.shape;
      for (let i = 0; i < batch; i++) {
        for (let c = 0; c < columns; c++) out.data[i * columns + c] = x.data[rows.data[i] * columns + c];
      }
    },
    roundings: () => 0,
    lowering: { kernels: ({ shape }) => lower.gather(shape[0], shape[1]) },
    samples: [
      {
        inputs: [
          { shape: [5, 3], draw: 'normal' },
          { shape: [5], values: [2, 0, 4, 4, 1], dtype: 'u32' },
        ],
      },
      {
        inputs: [
          { shape: [1, 86], draw: 'normal' },
          { shape: [1], values: [0], dtype: 'u32' },
        ],
      },
    ] as Sample[],
    errors: [
      { shapes: [[3], [2]], message: /table \[3\] and rows \[2\]/ },
      {
        shapes: [
          [3, 2],
          [2, 1],
        ],
        message: /table \[3,2\] and rows \[2,1\]/,
      },
    ],
  },
  unfoldDense: {
    summary: 'dense(unfold(packed, rows), w [680,columns]) without the cells: sums of the rows of w that formulas name',
    inputTypes: ['u32', 'u32', 'f32'],
    shape: ([packed, rows, w]) => {
      const cells = elementCount * countCount;
      if (packed.shape.length !== 2 || packed.shape[1] !== 4 || rows.shape.length !== 1) {
        throw new ShapeError(`unfoldDense: packed ${showShape(packed.shape)} and rows ${showShape(rows.shape)}`);
      }
      if (w.shape.length !== 2 || w.shape[0] !== cells) {
        throw new ShapeError(`unfoldDense: weights ${showShape(w.shape)}, it takes [${cells},columns]`);
      }
      return [rows.shape[0], w.shape[1]];
    },
    vjp: { none: 'it takes the place of dense and unfold once gradients have been taken of those' },
    reference: ([packed, rows, w], _attrs, out) => {
      const [batch] = out.shape;
      const cells = {
        shape: [batch, elementCount * countCount],
        data: new Float64Array(batch * elementCount * countCount),
      };
      referenceUnfold(packed, rows, cells);
      linear.dense.reference([cells, w], { transposeX: false, transposeW: false }, out);
    },
    roundings: () => countCount,
    lowering: { kernels: ({ shape }) => lower.unfoldDense(shape[0], shape[1], elementCount, countCount) },
    samples: [
      {
        inputs: [
          packedSample,
          { shape: [5], values: [2, 0, 1, 1, 2], dtype: 'u32' },
          { shape: [elementCount * countCount, 3], draw: 'normal' },
        ],
      },
      {
        inputs: [
          packedSample,
          { shape: [1], values: [1], dtype: 'u32' },
          { shape: [elementCount * countCount, 65], draw: 'normal' },
        ],
      },
    ] as Sample[],
    errors: [
      { shapes: [[3, 3], [2], [680, 1]], message: /packed \[3,3\]/ },
      { shapes: [[3, 4], [2], [5, 2]], message: /weights \[5,2\], it takes \[680,columns\]/ },
    ],
  },
  unfold: {
    summary: 'packed formulas [n,4] u32 at row numbers [batch] u32 → [batch,85,8,1], 1 at (element, count − 1)',
    inputTypes: ['u32', 'u32'],
    shape: ([packed, rows]) => {
      if (packed.shape.length !== 2 || packed.shape[1] !== 4 || rows.shape.length !== 1) {
        throw new ShapeError(`unfold: packed ${showShape(packed.shape)} and rows ${showShape(rows.shape)}`);
      }
      return [rows.shape[0], elementCount, countCount, 1];
    },
    vjp: { none: 'formulas are integers' },
    reference: ([packed, rows], _attrs, out) => referenceUnfold(packed, rows, out),
    roundings: () => 0,
    lowering: { kernels: ({ shape }) => lower.unfold(shape[0], elementCount, countCount) },
    samples: [
      { inputs: [packedSample, { shape: [5], values: [2, 0, 1, 1, 2], dtype: 'u32' }] },
      { inputs: [packedSample, { shape: [1], values: [1], dtype: 'u32' }] },
    ],
    errors: [{ shapes: [[3, 3], [2]], message: /packed \[3,3\]/ }],
  },
  decode: {
    summary:
      'cells [batch,85,8,1] → packed formulas [batch,4] u32 by the rule paper or argmax; zeros where there is none',
    dtype: 'u32',
    shape: ([cells]) => {
      if (showShape(cells.shape.slice(1)) !== `[${elementCount},${countCount},1]`) {
        throw new ShapeError(`decode: ${showShape(cells.shape)} is not [batch,${elementCount},${countCount},1]`);
      }
      return [cells.shape[0], 4];
    },
    vjp: { none: 'formulas are integers' },
    reference: ([cells], { rule }, out) => {
      const [batch] = cells.shape;
      for (let n = 0; n < batch; n++) {
        const pairs: number[] = [];
        for (let e = 0; e < elementCount; e++) {
          const at = (n * elementCount + e) * countCount;
          const row = cells.data.subarray(at, at + countCount);
          let best = 0;
          row.forEach((v, c) => {
            if (rule === 'paper' ? v >= 0.2 : v >= 0.5 && (best === 0 || v > row[best - 1])) best = c + 1;
          });
          if (best) pairs.push(((e + 1) << 8) | best);
        }
        if (pairs.length < 2 || pairs.length > 8) continue;
        pairs.forEach((pair, k) => {
          out.data[n * 4 + (k >> 1)] += pair * (k & 1 ? 65_536 : 1);
        });
      }
    },
    roundings: () => 0,
    lowering: { kernels: ({ shape, attrs }) => lower.decode(shape[0], elementCount, countCount, attrs.rule) },
    samples: [
      { inputs: [cellsSample], attrs: { rule: 'paper' } },
      { inputs: [cellsSample], attrs: { rule: 'argmax' } },
      { inputs: [{ shape: [65, elementCount, countCount, 1], draw: 'unit' }], attrs: { rule: 'argmax' } },
    ],
    errors: [{ shapes: [[2, 85, 7, 1]], attrs: { rule: 'paper' }, message: /\[2,85,7,1\] is not/ }],
  },
  increment: {
    summary: 'a 64-bit counter in two words [2] u32, plus one, in place',
    dtype: 'u32',
    inputTypes: ['u32'],
    shape: ([step]) => {
      isStep('increment', step.shape);
      return [2];
    },
    vjp: { none: 'the counter is an integer' },
    reference: ([step], _attrs, out) => {
      const carry = step.data[0] === 0xffffffff;
      out.data[0] = carry ? 0 : step.data[0] + 1;
      out.data[1] = step.data[1] + (carry ? 1 : 0);
    },
    roundings: () => 0,
    lowering: { kernels: () => lower.increment(), inPlace: 0 },
    samples: [{ inputs: [counter([41, 0])] }, { inputs: [counter([0xffffffff, 7])] }],
    errors: [],
  },
} satisfies Record<string, Op>;
