/** Writes docs/agreement.md: `npx tsx scripts/agreement.ts`. Needs an adapter; PyTorch's figures are stored. */
import { writeFileSync } from 'node:fs';
import { GpuExecutor } from '../src/autograd/executor.ts';
import { openDevice } from '../src/kernels/device.ts';
import { packageRoot } from '../src/paths.ts';
import { criticRows, networkRows, opRows, optimiserRow, type Row } from '../test/golden/torch/agree.ts';
import { networkVectors, opVectors } from '../test/golden/torch/vectors.ts';

const device = await openDevice();
const gpu = new GpuExecutor(device);
const { torch, ops, optimisers } = opVectors();
const { networks, criticSteps } = networkVectors();

const rows: Row[] = [];
for (const vector of ops) rows.push(...(await opRows(vector, gpu)));
const opCount = rows.length;
for (const vector of optimisers) rows.push(await optimiserRow(vector, gpu));
const optimiserCount = rows.length;
for (const vector of networks) rows.push(...(await networkRows(vector, gpu)));
for (const vector of criticSteps) rows.push(...(await criticRows(vector, gpu)));
gpu.destroy();

const power = (x: number): string => (x === 0 ? '0' : x.toExponential(1).replace('e-', 'e−').replace('e+', 'e'));

/** One line for each op (or network) and part, with the worst of its tensors. */
function table(some: readonly Row[], first: string): string {
  const groups = new Map<string, Row[]>();
  for (const row of some) {
    const key = `${row.what}|${row.part}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const lines = [...groups].map(([key, group]) => {
    const [what, part] = key.split('|');
    const worst = (of: (row: Row) => number): number => Math.max(...group.map(of));
    // What may be is told for the tensor that comes nearest to it; where all is zero but for round-off nothing is.
    const told = group.filter(({ ulp }) => ulp !== undefined);
    const nearest = told.reduce<Row | undefined>(
      (a, b) => (a && a.gpu! / a.allowed! >= b.gpu! / b.allowed! ? a : b),
      undefined,
    );
    const cells = [
      what,
      part,
      String(group.length),
      power(worst((row) => row.reference)),
      told.length ? power(Math.max(...told.map((row) => row.gpu!))) : '–',
      nearest ? `${power(nearest.gpu!)} of ${power(nearest.allowed!)}` : '–',
      told.length ? Math.max(...told.map((row) => row.ulp!)).toFixed(1) : '–',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `| ${first} | part | tensors | reference − PyTorch | GPU − PyTorch | nearest to its bound | ULP |`,
    '|---|---|---:|---:|---:|---:|---:|',
    ...lines,
  ].join('\n');
}

const { description, device: name } = device.info;
const text = `# Agreement with PyTorch

Every op with a gradient that the models need, the optimisers, each whole network at its real size and whole WGAN-GP critic steps,
as PyTorch ${torch} computes them in f64 on a CPU, against the project's reference (f64, plain loops) and its GPU kernels
(f32). Made on ${description || name}, ${new Date().toISOString().slice(0, 10)}, by \`npx tsx scripts/agreement.ts\`.

- Differences are ‖a − b‖/‖b‖, the worst tensor of each line. The reference and PyTorch differ by the order of their sums alone.
- "Nearest to its bound": of the tensors' GPU differences the one that uses most of what its roundings allow. The bound is the
  sum of the roundings that each op below states, times 2⁻²⁴, or, where an op's gradient cancels, four times the spread of the
  reference when every op's result is disturbed by that op's roundings.
- ULP: units in the last place of a tensor's greatest element, GPU against reference.
- Tensors that are zero but for round-off, such as the gradient of a bias that a batch norm follows, count in the first
  difference (against the largest tensor beside them) and not in the others.
- The networks see two or three rows, so that a batch norm over one feature divides by what two rows differ in: where that is
  little, round-off grows, most in the autoencoder with its thirteen batch norms. Batches in training are larger.

The tests \`test/autograd/torch.test.ts\` and \`test/models/torch.test.ts\` hold these figures: 1e−9 for the reference, the bound for
the GPU. PyTorch's side is made by \`test/golden/torch/make.py\`, whose first lines say how.

## Ops

Values, gradients, and gradients of gradients: of ⟨first gradients, h⟩ with random h, in every input and in the cotangent.

${table(rows.slice(0, opCount), 'op')}

## Optimisers

The weights after ten steps: plain, with a learning rate that falls, with clipping.

${table(rows.slice(opCount, optimiserCount), 'op')}

## Networks and critic steps

${table(rows.slice(optimiserCount), 'network')}
`;
const file = `${packageRoot}/docs/agreement.md`;
writeFileSync(file, text);
console.log(`${rows.length} tensors; ${file}`);
