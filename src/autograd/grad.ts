import { ShapeError } from '../errors.ts';
import { add, fill } from './build.ts';
import { type Node, type Op, sameShape, showShape, substitute, topological } from './graph.ts';

/**
 * Cotangents of `targets` for an output (a scalar, or any tensor with its own `cotangent`), as nodes of the same graph:
 * a graph is mapped to a graph, so the result can be differentiated again.
 * @throws ShapeError where the output does not depend on a target, or passes through an op without a gradient.
 */
export function grad(output: Node, targets: readonly Node[], cotangent?: Node): Node[] {
  if (cotangent === undefined && output.shape.length > 0) {
    throw new ShapeError(
      `grad: the output is ${showShape(output.shape)}, not a scalar; give a cotangent of that shape`,
    );
  }
  if (cotangent && !sameShape(cotangent.shape, output.shape)) {
    throw new ShapeError(`grad: cotangent ${showShape(cotangent.shape)} for an output ${showShape(output.shape)}`);
  }
  const order = topological([output]);
  // Only nodes between the targets and the output need a cotangent.
  const needed = new Set<Node>(targets);
  for (const node of order) {
    if (node.op !== 'stopGradient' && node.inputs.some((input) => needed.has(input))) needed.add(node);
  }
  const cotangents = new Map<Node, Node>();
  if (needed.has(output)) cotangents.set(output, cotangent ?? output.graph.constant(1));
  const wanted = new Set(targets);
  for (const node of order.reverse()) {
    const g = cotangents.get(node);
    if (!g || !node.inputs.some((input) => needed.has(input))) continue;
    if (!wanted.has(node)) cotangents.delete(node);
    const { vjp } = node.graph.ops[node.op];
    if (typeof vjp !== 'function') throw new ShapeError(`grad: ${node.op} has no gradient: ${vjp.none}`);
    const scope = `gradient of ${node.scope || node.op}`;
    const inScope = <T>(trace: () => T): T => node.graph.within(scope, trace, true);
    const parts = inScope(() => vjp(node, g));
    node.inputs.forEach((input, i) => {
      const part = parts[i];
      if (!part || !needed.has(input)) return;
      const value = inScope(part);
      if (!sameShape(value.shape, input.shape)) {
        throw new ShapeError(
          `${node.op}: its gradient rule gives ${showShape(value.shape)} for input ${i} of ${showShape(input.shape)}`,
        );
      }
      const before = cotangents.get(input);
      cotangents.set(input, before ? inScope(() => add(before, value)) : value);
    });
  }
  return targets.map((target) => cotangents.get(target) ?? fill(target.graph, 0, target.shape));
}

/**
 * A gradient rule by way of an expression in other ops with the same value: right by construction, to any order.
 * `build` gets stand-ins for the inputs, so that an input that depends on another does not count twice.
 */
export function viaExpression(build: (inputs: readonly Node[], node: Node) => Node): Rule {
  return (node, g) => {
    const { graph } = node;
    const stand = node.inputs.map((input, i) => graph.placeholder(i, input.shape, input.dtype));
    const cotangent = graph.placeholder(stand.length, g.shape, g.dtype);
    const values = new Map<Node, Node>([...stand.map((s, i) => [s, node.inputs[i]] as const), [cotangent, g]]);
    const expression = build(stand, node);
    // The expression on stand-ins is shared by all nodes of such a shape: its scopes say nothing of this one.
    return stand.map((s) => () => substitute(grad(expression, [s], cotangent), values, undefined, 'traced')[0]);
  };
}

type Rule = Exclude<Op['vjp'], { none: string }>;
