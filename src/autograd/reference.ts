import { type Node, type Shape, sizeOf, topological, type Value } from './graph.ts';

export const zeros = (shape: Shape): Value => ({ shape, data: new Float64Array(sizeOf(shape)) });

/**
 * The f64 reference: runs a graph in plain loops, slow and obviously right. `variable` gives the values of variables;
 * nothing is remembered between calls. `disturb` may change the result of each op: to study how errors spread; `look` is
 * shown the value of every node.
 */
export function evaluate(
  outputs: readonly Node[],
  variable: (node: Node) => Value,
  disturb?: (node: Node, data: Float64Array) => void,
  look?: (node: Node, data: Float64Array) => void,
): Value[] {
  const values = new Map<Node, Value>();
  for (const node of topological(outputs)) {
    if (node.op === 'variable') {
      const value = variable(node);
      look?.(node, value.data);
      values.set(node, value);
      continue;
    }
    const out = zeros(node.shape);
    if (node.op === 'constant') out.data[0] = node.attrs.value;
    else {
      const inputs = node.inputs.map((input) => ({ shape: input.shape, data: values.get(input)!.data }));
      node.graph.ops[node.op].reference(inputs, node.attrs, out);
      disturb?.(node, out.data);
    }
    look?.(node, out.data);
    values.set(node, out);
  }
  return outputs.map((node) => values.get(node)!);
}
