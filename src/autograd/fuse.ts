/**
 * Ops joined before they are planned. A product of unfolded formulas becomes a sum over the few cells that are set. Epilogues: a bias and an activation, or the derivative of one, join the op that makes their input, so that its output goes
 * through memory once.
 */
import type { Epilogue } from '../kernels/lower.ts';
import { type Node, sameShape, substitute, topological } from './graph.ts';

/** Ops whose kernels take an epilogue. */
const products = new Set(['dense', 'conv2d', 'conv2dInputGrad']);

/** The activation of an epilogue that an op is, if any. */
function activationOf(node: Node | undefined): Epilogue | undefined {
  if (node?.op === 'relu') return { activation: 1, alpha: 0 };
  if (node?.op === 'leakyRelu') return { activation: 2, alpha: node.attrs.alpha };
  if (node?.op === 'sigmoid') return { activation: 3, alpha: 0 };
  return undefined;
}

/** Whether a node is the derivative of an activation, applied to a product. */
function masks({ op, inputs: [activated, product] }: Node): boolean {
  return (
    op === 'leakyReluGrad' &&
    products.has(product.op) &&
    product.attrs.epilogue === undefined &&
    activated !== product &&
    sameShape(activated.shape, product.shape)
  );
}

/** Whether a node adds a bias by its last axis to a product. */
function addsBias({ op, inputs: [product, bias], shape }: Node): boolean {
  return (
    op === 'add' &&
    products.has(product.op) &&
    product.attrs.epilogue === undefined &&
    bias.shape.length === 1 &&
    bias.shape[0] === shape[shape.length - 1] &&
    product.shape.length === shape.length
  );
}

/** What a device runs in place of what was traced: the same values with fewer dispatches and less memory. */
export const fuse = (roots: readonly Node[]): Node[] => fuseEpilogues(fuseUnfolded(roots));

/** Products of unfolded formulas as sums over the few cells that are set: the other cells of a row are zeros. */
function fuseUnfolded(roots: readonly Node[]): Node[] {
  return substitute(roots, new Map(), (node) => {
    const { op, attrs, inputs } = node;
    if (op !== 'dense' || attrs.transposeX || attrs.transposeW) return node;
    const [x, w] = inputs;
    if (x.op !== 'reshape' || x.inputs[0].op !== 'unfold' || x.shape[0] !== x.inputs[0].shape[0]) return node;
    const sum = (): Node => node.graph.apply('unfoldDense', [...x.inputs[0].inputs, w]);
    return node.graph.within(node.scope, sum, true);
  });
}

/**
 * The same values with epilogues joined to products and to `normalise`. Only where nobody else wants what lies between;
 * the arithmetic and its order stay.
 */
export function fuseEpilogues(roots: readonly Node[]): Node[] {
  const order = topological(roots);
  const uses = new Map<Node, Node[]>();
  for (const node of order) {
    for (const input of node.inputs) uses.set(input, [...(uses.get(input) ?? []), node]);
  }
  const wanted = new Set(roots);
  /** The only node that uses this one, where nobody else sees it. */
  const onlyUser = (node: Node): Node | undefined => {
    const users = uses.get(node) ?? [];
    return users.length === 1 && !wanted.has(node) ? users[0] : undefined;
  };
  /** Last node of a pattern → the node that computes it, and its epilogue. */
  const patterns = new Map<Node, { of: Node; third?: Node; epilogue: Epilogue }>();
  for (const node of order) {
    if (masks(node) && onlyUser(node.inputs[1]) === node) {
      const [third, of] = node.inputs;
      patterns.set(node, { of, third, epilogue: { activation: 0, alpha: node.attrs.alpha, mask: true } });
      continue;
    }
    const biased = addsBias(node) && onlyUser(node.inputs[0]) === node;
    if (!biased && node.op !== 'normalise') continue;
    const user = onlyUser(node);
    const activation = activationOf(user);
    const epilogue = activation ?? { activation: 0 as const, alpha: 0 };
    const last = activation ? user! : node;
    if (biased) patterns.set(last, { of: node.inputs[0], third: node.inputs[1], epilogue });
    else if (activation) patterns.set(last, { of: node, epilogue });
  }
  const done = new Map<Node, Node>();
  for (const node of order) {
    const pattern = patterns.get(node);
    const from = pattern?.of ?? node;
    const inputs = [...from.inputs, ...(pattern?.third ? [pattern.third] : [])].map((input) => done.get(input)!);
    const same = !pattern && inputs.every((input, i) => input === node.inputs[i]);
    const attrs = pattern ? { ...from.attrs, epilogue: pattern.epilogue } : node.attrs;
    done.set(node, same ? node : node.graph.within(from.scope, () => node.graph.apply(from.op, inputs, attrs), true));
  }
  return roots.map((root) => done.get(root)!);
}
