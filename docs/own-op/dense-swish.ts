/** An op of one's own: a dense layer with the swish activation in one kernel. docs/own-op.md explains it. */
import { build, grid, type Kernel, type Op, type OpTable, ShapeError } from '../../src/index.ts';

const { add, dense, mul, scale, sigmoid } = build;

const kernel: Kernel = {
  files: [new URL('./dense-swish.wgsl', import.meta.url).href],
  entry: 'main',
  bindings: ['read', 'read', 'write'],
};

const denseSwish: Op = {
  summary: 'z·sigmoid(beta·z) of the matrix product z of x [rows, in] and w [in, out]',
  shape: ([x, w]) => {
    if (x.shape.length !== 2 || w.shape.length !== 2 || x.shape[1] !== w.shape[0]) {
      throw new ShapeError(`denseSwish: [${x.shape}] and [${w.shape}] are not [rows, in] and [in, out]`);
    }
    return [x.shape[0], w.shape[1]];
  },
  vjp: (node, g) => {
    const [x, w] = node.inputs;
    const { beta } = node.attrs;
    // y = z·s(βz), y′ = s + βz·s·(1 − s), in ops that have gradients themselves: so the second derivative comes for free.
    const z = dense(x, w);
    const s = sigmoid(scale(z, beta));
    const slope = add(s, mul(scale(z, beta), mul(s, scale(s, -1, 1))));
    const dz = mul(g, slope);
    return [() => dense(dz, w, { transposeW: true }), () => dense(x, dz, { transposeX: true })];
  },
  reference: ([x, w], { beta }, out) => {
    const [rows, columns] = out.shape;
    const depth = x.shape[1];
    for (let m = 0; m < rows; m++) {
      for (let n = 0; n < columns; n++) {
        let z = 0;
        for (let k = 0; k < depth; k++) z += x.data[m * depth + k] * w.data[k * columns + n];
        out.data[m * columns + n] = z / (1 + Math.exp(-beta * z));
      }
    }
  },
  // The sum over `in`; for z/(1 + e^−βz) what WGSL allows to exp (3 + 2·|x| ULP, 16 for |x| < 6.5) and to the division.
  roundings: (node) => node.inputs[0].shape[1] + 1 + 16 + 3,
  lowering: {
    kernels: (node) => {
      const [rows, depth] = node.inputs[0].shape;
      const columns = node.shape[1];
      return {
        temps: [],
        calls: [
          {
            kernel,
            params: [rows, depth, columns, { f32: node.attrs.beta }],
            workgroups: grid(rows * columns),
            buffers: [{ input: 0 }, { input: 1 }, 'out'],
            flops: 2 * rows * columns * depth,
            bytes: 4 * (rows * depth + depth * columns + rows * columns),
          },
        ],
      };
    },
  },
  samples: [
    {
      inputs: [
        { shape: [4, 4], draw: 'normal' },
        { shape: [4, 4], draw: 'normal' },
      ],
      attrs: { beta: 1.5 },
    },
    {
      inputs: [
        { shape: [5, 7], draw: 'normal' },
        { shape: [7, 13], draw: 'normal' },
      ],
      attrs: { beta: 0.5 },
    },
  ],
  errors: [
    {
      shapes: [
        [2, 3],
        [4, 5],
      ],
      attrs: { beta: 1 },
      message: /denseSwish: \[2,3\] and \[4,5\] are not/,
    },
  ],
};

export const ops: OpTable = { denseSwish };
