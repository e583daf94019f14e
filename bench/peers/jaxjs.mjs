/** jax-js: `node jaxjs.mjs FILE [webgpu|wasm]`, FILE from ours.ts. */
import './dawn.mjs';
import { readFileSync } from 'node:fs';
import { attempt, eps, numbers, pieces, slope, slopesIn } from './pieces.mjs';

const [file, device = 'webgpu'] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(file, 'utf8'));
const { defaultDevice, grad, init, lax, nn, numpy: np } = await import('@jax-js/jax');
console.error(`jax-js: ${await init(device)}`);
defaultDevice(device);

// Arrays are counted: `.ref` wherever one is used again. Images are [n,c,h,w] here, filters [out,in,kh,kw].
const first = (x) => np.transpose(x, [0, 3, 1, 2]);
const last = (x) => np.transpose(x, [0, 2, 3, 1]);
const padding = [
  [0, 1],
  [0, 1],
];
const conv = (x, f) => last(lax.convGeneralDilated(first(x), np.transpose(f, [3, 2, 0, 1]), [2, 2], padding));
/** Of what comes in with zeros between, by the filter turned round: [kh,kw,out,in] to [out,in,kh,kw]. */
const transposed = (x, f) =>
  last(
    lax.convGeneralDilated(
      first(x),
      np.flip(np.transpose(f, [2, 3, 0, 1]), [2, 3]),
      [1, 1],
      [
        [2, 1],
        [2, 1],
      ],
      { lhsDilation: [2, 2] },
    ),
  );
/** The same with the zeros put in by reshaping and padding. */
const stuffed = (x, f) => {
  const wide = np.pad(first(x).reshape([4, 3, 4, 1, 4, 1]), [
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 1],
    [0, 0],
    [0, 1],
  ]);
  const turned = np.flip(np.transpose(f, [2, 3, 0, 1]), [2, 3]);
  const around = [
    [2, 0],
    [2, 0],
  ];
  return last(lax.convGeneralDilated(wide.reshape([4, 3, 8, 8]), turned, [1, 1], around));
};
const norm = (x, gamma, beta) => {
  const apart = x.ref.sub(np.mean(x, [0, 1, 2], { keepdims: true }));
  const variance = np.mean(np.square(apart.ref), [0, 1, 2], { keepdims: true });
  return apart
    .div(np.sqrt(variance.add(eps)))
    .mul(gamma)
    .add(beta);
};
const leaky = (x) => nn.leakyRelu(x, slope);
const outputs = (up) => ({
  conv2d: ({ x, filter }) => conv(x, filter),
  conv2dTranspose: ({ x, filter }) => up(x, filter),
  batchNorm: ({ x, gamma, beta }) => norm(x, gamma, beta),
  leakyRelu: ({ x }) => leaky(x),
  dense: ({ x, weights, offset }) => np.matmul(x, weights).add(offset),
  critic: ({ x, filter, bias, gamma, beta, weights, offset }) =>
    np.matmul(leaky(norm(conv(x, filter).add(bias), gamma, beta)).reshape([4, 64]), weights).add(offset),
  generator: ({ x, filter, bias, gamma, beta }) => leaky(norm(up(x, filter).add(bias), gamma, beta)),
});

for (const [piece, specs] of Object.entries(pieces)) {
  const names = Object.keys(specs);
  const up = ['conv2dTranspose', 'generator'].includes(piece);
  for (const [variant, kit] of up ? Object.entries({ op: transposed, primitives: stuffed }) : [['op', transposed]]) {
    const score = ({ c, ...inputs }) => outputs(kit)[piece](inputs).mul(c).sum();
    const penalty = (wanted) => (inputs) => {
      const { [wanted]: at, ...rest } = inputs;
      const slopes = grad((v) => score({ ...rest, [wanted]: v }))(at);
      const squares = np
        .square(slopes)
        .reshape([wanted === 'x' ? 4 : 1, -1])
        .sum(1);
      return np.mean(np.square(np.sqrt(squares.add(1e-8)).sub(1)));
    };
    const scalars = { first: score };
    for (const [order, wanted] of Object.entries(slopesIn(piece))) scalars[order] = penalty(wanted);
    for (const [order, scalar] of Object.entries(scalars)) {
      await attempt(`jax-js ${device}`, piece, order, variant, expected[`${piece} ${order}`], async () => {
        const inputs = Object.fromEntries(
          names.map((name) => [name, np.array(numbers(specs[name])).reshape(specs[name].shape)]),
        );
        const gradients = grad(scalar)(inputs);
        const data = {};
        for (const name of names) data[name] = [...(await gradients[name].data())];
        return data;
      });
    }
  }
}
process.exit(0);
