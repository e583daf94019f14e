import { ShapeError } from '../../errors.ts';
import * as lower from '../../kernels/lower.ts';
import { type Op, type Sample, showShape, sizeOf, type Value } from '../graph.ts';
import { open01, philox } from '../philox.ts';

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
