/** A forest as ONNX: a cast to float64, and one TreeEnsembleRegressor of the domain ai.onnx.ml. */
import proto from 'onnx-proto';
import { replaceFile } from '../files.ts';
import type { TreesModel } from './files.ts';

// CommonJS, whose names Node does not see.
const { AttributeProto, ModelProto, TensorProto } = proto.onnx;

/**
 * The bytes of an ONNX model: input `features` [rows, columns] float32, NaN where a value is missing; output `prediction`
 * [rows, 1] float32, which is where the last digits differ from `predict`.
 */
export function onnxOf({ forest, columns, descriptors, target }: TreesModel): Uint8Array {
  const { starts, split, value, right, base } = forest;
  const nodes = split.length;
  const leaves = split.reduce((n, s) => n + (s < 0 ? 1 : 0), 0);
  const ids = (): number[] => new Array<number>(nodes).fill(0);
  const lists = {
    treeids: ids(),
    nodeids: ids(),
    featureids: ids(),
    truenodeids: ids(),
    falsenodeids: ids(),
    missing_value_tracks_true: ids(),
  };
  const modes = new Array<Uint8Array>(nodes);
  const thresholds = ids();
  const [leaf, branch] = ['LEAF', 'BRANCH_LEQ'].map((word) => new TextEncoder().encode(word));
  const ends = { treeids: new Array<number>(leaves), nodeids: new Array<number>(leaves) };
  const weights = new Array<number>(leaves);
  let n = 0;
  for (let tree = 0; tree + 1 < starts.length; tree++) {
    for (let at = starts[tree]; at < starts[tree + 1]; at++) {
      const node = at - starts[tree];
      lists.treeids[at] = tree;
      lists.nodeids[at] = node;
      if (split[at] < 0) {
        modes[at] = leaf;
        ends.treeids[n] = tree;
        ends.nodeids[n] = node;
        weights[n++] = value[at];
        continue;
      }
      modes[at] = branch;
      lists.featureids[at] = split[at] >> 1;
      lists.missing_value_tracks_true[at] = split[at] & 1;
      lists.truenodeids[at] = node + 1;
      lists.falsenodeids[at] = right[at];
      thresholds[at] = value[at];
    }
  }
  const { AttributeType } = AttributeProto;
  const ints = (name: string, values: number[]) => ({ name, type: AttributeType.INTS, ints: values });
  const doubles = (name: string, values: number[]) => ({
    name: `${name}_as_tensor`,
    type: AttributeType.TENSOR,
    t: { dataType: TensorProto.DataType.DOUBLE, dims: [values.length], doubleData: values },
  });
  const word = (name: string, s: string) => ({ name, type: AttributeType.STRING, s: new TextEncoder().encode(s) });
  const shape = (width: number) => ({ dim: [{ dimParam: 'rows' }, { dimValue: width }] });
  const tensor = (name: string, width: number) => ({
    name,
    type: { tensorType: { elemType: TensorProto.DataType.FLOAT, shape: shape(width) } },
  });
  const node = {
    opType: 'TreeEnsembleRegressor',
    domain: 'ai.onnx.ml',
    name: 'trees',
    input: ['wide'],
    output: ['prediction'],
    attribute: [
      ...Object.entries(lists).map(([name, values]) => ints(`nodes_${name}`, values)),
      { name: 'nodes_modes', type: AttributeType.STRINGS, strings: modes },
      doubles('nodes_values', thresholds),
      ints('target_treeids', ends.treeids),
      ints('target_nodeids', ends.nodeids),
      ints('target_ids', new Array<number>(leaves).fill(0)),
      doubles('target_weights', weights),
      doubles('base_values', [base]),
      { name: 'n_targets', type: AttributeType.INT, i: 1 },
      word('aggregate_function', 'SUM'),
      word('post_transform', 'NONE'),
    ],
  };
  // Leaves are added in the type of the input: hundreds of trees in float32 would cost the sixth digit. Thresholds are float32 values
  // in either type, so that no row goes another way.
  const cast = {
    opType: 'Cast',
    input: ['features'],
    output: ['wide'],
    attribute: [{ name: 'to', type: AttributeType.INT, i: TensorProto.DataType.DOUBLE }],
  };
  return ModelProto.encode({
    irVersion: 8,
    producerName: 'matgan-webgpu',
    opsetImport: [
      { domain: 'ai.onnx.ml', version: 3 },
      { domain: '', version: 17 },
    ],
    metadataProps: [
      { key: 'columns', value: JSON.stringify(columns) },
      { key: 'descriptors', value: descriptors },
      { key: 'target', value: target },
    ],
    graph: {
      name: 'trees',
      node: [cast, node],
      input: [tensor('features', columns.length)],
      output: [tensor('prediction', 1)],
    },
  }).finish();
}

/** Writes it whole or not at all. @throws DataError where it cannot be written */
export const writeOnnx = (path: string, model: TreesModel): void => replaceFile(path, [onnxOf(model)]);
