/** Writes docs/agreement.md: `npx tsx scripts/agreement.ts`. Needs an adapter; PyTorch's figures are stored. */
import { writeFileSync } from 'node:fs';
import { GpuExecutor } from '../src/autograd/executor.ts';
import { openDevice } from '../src/kernels/device.ts';
import { packageRoot } from '../src/paths.ts';
import { criticRows, networkRows, opRows, optimiserRow, type Row, trainingRows } from '../test/golden/torch/agree.ts';
import { networkVectors, opVectors } from '../test/golden/torch/vectors.ts';

const device = await openDevice();
const gpu = new GpuExecutor(device);
const { torch, ops, optimisers } = opVectors();
const { networks, criticSteps, trainingSteps } = networkVectors();

const rows: Row[] = [];
for (const vector of ops) rows.push(...(await opRows(vector, gpu)));
const opCount = rows.length;
for (const vector of optimisers) rows.push(await optimiserRow(vector, gpu));
const optimiserCount = rows.length;
for (const vector of networks) rows.push(...(await networkRows(vector, gpu)));
for (const vector of criticSteps) rows.push(...(await criticRows(vector, gpu)));
const networkCount = rows.length;
for (const vector of trainingSteps) rows.push(...(await trainingRows(vector, gpu)));
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
    // Ops that only move numbers are allowed nothing but the digits of a digest.
    const share = (row: Row): number => row.gpu! / (row.allowed! + 1e-9);
    const nearest = told.reduce<Row | undefined>((a, b) => (a && share(a) >= share(b) ? a : b), undefined);
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

Every op with a gradient, the optimisers, each whole network at its real size and whole training steps, as PyTorch ${torch}
computes them in f64 on a CPU, against the project's reference (f64, plain loops) and its GPU kernels (f32). Made on
${description || name}, ${new Date().toISOString().slice(0, 10)}, by \`npx tsx scripts/agreement.ts\`.

- Differences are ‖a − b‖/‖b‖, the worst tensor of each line. The reference and PyTorch differ by the order of their sums alone.
- "Nearest to its bound": of the tensors' GPU differences the one that uses most of what its roundings allow. The bound is the
  sum of the roundings that each op below states, times 2⁻²⁴, or, where an op's gradient cancels, four times the spread of the
  reference when every op's result is disturbed by that op's roundings.
- ULP: units in the last place of a tensor's greatest element, GPU against reference.
- Tensors that are zero but for round-off, such as the gradient of a bias that a batch norm follows, count in the first
  difference (against the largest tensor beside them) and not in the others.
- The networks see two rows, so that a batch norm over one feature divides by what two rows differ in: where that is little,
  round-off grows, most in the autoencoder with its thirteen batch norms. Batches in training are larger.
- Inputs are such that nothing comes nearer to the kink of an activation than about 1e−5 of what goes into it. Nearer than
  round-off both sides are equally right, and the gradients then differ by a whole element.

The tests \`test/autograd/torch.test.ts\` and \`test/models/torch.test.ts\` hold all these figures: 1e−9 for the reference, the
bound for the GPU; a vector that is off by a millionth fails them. PyTorch's side is made by \`test/golden/torch/make.py\`, whose
first lines say how.

## Ops

Values, gradients, and gradients of gradients: of ⟨first gradients, h⟩ with random h, in every input and in the cotangent.

${table(rows.slice(0, opCount), 'op')}

## Optimisers

The weights after ten steps: plain, with a learning rate that falls, with clipping.

${table(rows.slice(opCount, optimiserCount), 'op')}

## Networks and critic steps

Gradients in every parameter and the input; second gradients as those of the ops.

${table(rows.slice(optimiserCount, networkCount), 'network')}

## Training steps

The trainers' own graphs at batch 2, with given numbers in place of their noise and their rows: the generator makes the
critic's fakes; a batch norm in the critic takes real, fake and interpolated rows apart; then Adam. The first step of Adam from
zero is −rate·g/(|g| + ε), all but the sign of g, and where g is round-off its sign is as well. "update" is therefore what
Adam adds to the elements whose gradient is above half the root mean square of its parameter's; ULP are those of the
parameters after it. Where g is off by at most δ < cut, the update may be off by rate·ε·δ/(cut − δ)², by Adam's roundings, and
by the rounding of the parameter, which is most of it.

${table(rows.slice(networkCount), 'step')}
`;
const file = `${packageRoot}/docs/agreement.md`;
writeFileSync(file, text);
console.log(`${rows.length} tensors; ${file}`);
