/** Makes a graph ready for a device: ops expanded and ordered, tensors placed, kernels chosen, dispatches recorded. */
import { ShapeError } from '../errors.ts';
import type { Device } from '../kernels/device.ts';
import { grid, type Lowered, PipelineCache, workgroupSize } from '../kernels/kernel.ts';
import { type Target, targetOf } from '../kernels/lower.ts';
import { type Place, type PlacedCall, Program } from '../kernels/program.ts';
import { kernels } from '../kernels/table.ts';
import { choiceKey, loadTuning } from '../kernels/tuning.ts';
import { fuse } from './fuse.ts';
import { type Node, showShape, sizeOf, substitute, topological } from './graph.ts';
import { checkMemory } from './memory.ts';
import { viewBase } from './ops/shape.ts';
import type { Anomaly, Data, Plan, PlanOptions, Step } from './plan.ts';

export interface CompileOptions extends PlanOptions {
  /** Fill new buffers with NaN, or with these bits, so that an element that no kernel writes shows. */
  poison?: boolean | number;
  /** Which variants of kernels run; those that this device likes, unless said. */
  target?: Target;
  /** Whether epilogues join the ops before them (fuse.ts); they do unless said, or where every tensor is to be looked at. */
  fuse?: boolean;
}

/** Elements between aligned places: bindings begin at multiples of 256 bytes. */
export const alignment = 64;
const aligned = (elements: number): number => Math.ceil(elements / alignment) * alignment;

/** Variables of a device, by name. */
export class GpuStore {
  readonly device: Device;
  readonly pipelines: PipelineCache;
  /** What plans are made for, unless they say otherwise. */
  target: Target;
  private readonly buffers = new Map<string, GPUBuffer>();

  constructor(device: Device) {
    this.device = device;
    this.pipelines = new PipelineCache(device);
    const choices = loadTuning(device.info);
    this.target = {
      ...targetOf(device.info),
      choose: (op, sizes) => choices.get(choiceKey(op, sizes)),
    };
  }

  /** The variable's buffer, zeroed when new. */
  buffer(variable: Node): GPUBuffer {
    const { name } = variable.attrs;
    let buffer = this.buffers.get(name);
    const bytes = sizeOf(variable.shape) * 4;
    if (!buffer || this.device.isRefused(buffer)) {
      buffer = this.device.createBuffer(bytes, storage(), name);
      this.buffers.set(name, buffer);
    } else if (buffer.size < bytes || buffer.size > Math.max(16, bytes + 15)) {
      throw new ShapeError(`variable ${name}: it has ${buffer.size} bytes already, [${variable.shape}] needs ${bytes}`);
    }
    return buffer;
  }

  forget(variable: Node): void {
    const buffer = this.buffers.get(variable.attrs.name);
    if (buffer) this.device.destroyBuffer(buffer);
    this.buffers.delete(variable.attrs.name);
  }
}

const storage = (): number => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** A buffer to be: tensors with lifetimes apart share one. */
interface Slot {
  elements: number;
  /** The largest tensor in it, for errors. */
  label: string;
  buffer?: GPUBuffer;
}
/** A tensor in an error message. */
const nameOf = ({ op, shape, scope }: Node): string => `${op} ${showShape(shape)}${scope && ` (${scope})`}`;

/** Where a node's elements are. */
interface Home {
  slot: Slot;
  /** Elements. */
  offset: number;
}

/**
 * A step as a plan for the store's device: its pipelines are compiled and its memory is taken here, not when it runs.
 * @throws ShapeError where an update would read a state both before and after it is overwritten
 * @throws DeviceError where the device refuses an allocation, or a tensor is over its limits
 * @throws ShaderError where a shader does not compile
 */
export async function compile(store: GpuStore, step: Step, options: CompileOptions = {}): Promise<Plan> {
  const { device } = store;
  const wanted = [...(step.outputs ?? []), ...(step.updates ?? []).map(([, value]) => value)];
  const written = expandOps(wanted);
  const expanded = (options.fuse ?? !options.detectAnomaly) ? fuse(written) : written;
  const found = new Map(wanted.map((node, i) => [node, expanded[i]]));
  const outputs = (step.outputs ?? []).map((node) => found.get(node)!);
  const updates = (step.updates ?? []).map(([variable, value]) => [variable, found.get(value)!] as const);

  const order = schedule([...outputs, ...updates.map(([, value]) => value)]);
  const layout = new Layout(store, order, outputs, updates, options);
  const slots = layout.slots.filter((slot) => !slot.buffer);

  // A software adapter's buffers are the machine's own memory, and it promises more than there is. A single tensor over its
  // limits is refused below, by name.
  const sizes = slots.map(({ elements }) => elements * 4);
  if (device.info.software && sizes.every((size) => size <= device.limits.maxStorageBufferBindingSize)) {
    checkMemory(
      'a plan',
      sizes.reduce((total, size) => total + size, 0),
    );
  }

  let made: Program | undefined;
  const destroy = (): void => {
    made?.destroy();
    for (const { buffer } of slots) if (buffer) device.destroyBuffer(buffer);
  };
  const program = await device
    .scoped('allocation', async () => {
      for (const slot of slots) {
        slot.buffer = device.createBuffer(slot.elements * 4, storage(), slot.label);
        if (options.poison) {
          const bits = options.poison === true ? 0x7fc00000 : options.poison;
          device.writeBuffer(slot.buffer, new Uint32Array(slot.buffer.size / 4).fill(bits));
        }
      }
      for (const { slot, value } of layout.fills) device.writeBuffer(slot.buffer!, value);
      made = await Program.build(device, store.pipelines, layout.calls());
      return made;
    })
    .catch((error) => {
      // What was made before the refusal is of no use to anyone.
      destroy();
      throw error;
    });
  const { flops, bytes } = program.cost;
  const memory = slots.reduce((total, slot) => total + slot.buffer!.size, 0);

  return {
    run: (times = 1) => {
      device.check();
      const encoder = device.gpu.createCommandEncoder();
      if (layout.flags) encoder.clearBuffer(layout.flags.buffer!);
      program.encode(encoder, times);
      device.gpu.queue.submit([encoder.finish()]);
    },
    read: async (node: Node, from = 0, count = sizeOf(node.shape) - from): Promise<Data> => {
      const inner = found.get(node);
      if (!inner) throw new ShapeError('read: this node is no output of the plan');
      const { slot, offset } = layout.home(inner);
      const data = await device.read(slot.buffer!, count * 4, (offset + from) * 4);
      return node.dtype === 'u32' ? new Uint32Array(data) : new Float32Array(data);
    },
    profile: () => program.profile(),
    anomaly: async () => {
      if (!layout.flags) return undefined;
      const words = new Uint32Array(await device.read(layout.flags.buffer!, layout.watched.length * 4));
      return layout.firstAnomaly(words);
    },
    stats: { dispatches: program.dispatches, flops, bytes, memory, buffers: slots.length },
    destroy,
  };
}

/** The same nodes with every op that is an expression in others written out: what a device runs. */
export const expandOps = (nodes: readonly Node[]): Node[] => substitute(nodes, new Map(), expandAll(new Map()));

function expandAll(done: Map<Node, Node>): (node: Node) => Node {
  const rewrite = (node: Node): Node => {
    const lowering = node.graph.ops[node.op]?.lowering;
    if (!lowering || !('expand' in lowering)) return node;
    let result = done.get(node);
    if (!result) {
      const written = node.graph.within(node.scope, () => lowering.expand(node), true);
      [result] = substitute([written], new Map(node.inputs.map((input) => [input, input])), rewrite);
      done.set(node, result);
    }
    return result;
  };
  return rewrite;
}

/** The base node whose memory an in-place op takes over, or undefined. */
function takenOver(node: Node): Node | undefined {
  const lowering = node.graph.ops[node.op]?.lowering;
  return lowering && 'kernels' in lowering && lowering.inPlace !== undefined
    ? viewBase(node.inputs[lowering.inPlace]).base
    : undefined;
}

/** Inputs before users, and every reader of a state before the op that overwrites it. */
function schedule(roots: readonly Node[]): Node[] {
  const nodes = topological(roots).sort((a, b) => a.id - b.id);
  const before = new Map<Node, Set<Node>>(nodes.map((node) => [node, new Set(node.inputs)]));
  const readers = new Map<Node, Node[]>();
  for (const node of nodes) {
    for (const input of node.inputs) {
      const { base } = viewBase(input);
      readers.set(base, [...(readers.get(base) ?? []), node]);
    }
  }
  for (const node of nodes) {
    const state = takenOver(node);
    if (!state) continue;
    for (const reader of readers.get(state) ?? []) {
      // A view is no reader: whoever reads through it is.
      if (reader === node || viewBase(reader).base !== reader) continue;
      if (takenOver(reader) === state) throw new ShapeError(`${node.op}: two ops overwrite the same state`);
      before.get(node)!.add(reader);
    }
  }
  const after = new Map<Node, Node[]>();
  const waiting = new Map<Node, number>();
  for (const [node, needs] of before) {
    waiting.set(node, needs.size);
    for (const need of needs) after.set(need, [...(after.get(need) ?? []), node]);
  }
  // A heap is not needed: nodes come in id order, and the ready list stays short when taken from its end.
  const ready = nodes.filter((node) => waiting.get(node) === 0).reverse();
  const order: Node[] = [];
  while (ready.length) {
    const node = ready.pop()!;
    order.push(node);
    for (const next of after.get(node) ?? []) {
      const left = waiting.get(next)! - 1;
      waiting.set(next, left);
      if (left === 0) {
        let at = ready.length;
        while (at > 0 && ready[at - 1].id < next.id) at--;
        ready.splice(at, 0, next);
      }
    }
  }
  if (order.length < nodes.length) {
    const stuck = nodes.find((node) => waiting.get(node)! > 0)!;
    throw new ShapeError(`${stuck.op}: it reads a state both before and after it is overwritten; copy it first`);
  }
  return order;
}

/** Decides where every tensor lies, before anything is allocated. */
class Layout {
  readonly slots: Slot[] = [];
  readonly fills: { slot: Slot; value: Float32Array }[] = [];
  private readonly store: GpuStore;
  private readonly target: Target;
  private readonly homes = new Map<Node, Home>();
  private readonly planned: { node: Node; lowered: Lowered; temps: Slot[] }[] = [];
  private readonly copies: { after: number; from: Home; to: Home; elements: number; label: string }[] = [];
  private readonly free: Slot[] = [];
  /** Tensors that are looked at for NaN and infinities, in order, and a word of findings for each. */
  readonly watched: Node[] = [];
  readonly flags: Slot | undefined;

  constructor(
    store: GpuStore,
    order: readonly Node[],
    outputs: readonly Node[],
    updates: readonly (readonly [Node, Node])[],
    { detectAnomaly, target }: CompileOptions,
  ) {
    this.store = store;
    this.target = target ?? store.target;
    if (detectAnomaly) {
      const watchable = ({ op, dtype, graph }: Node): boolean => {
        const lowering = graph.ops[op]?.lowering;
        return dtype === 'f32' && (op === 'variable' || (lowering !== undefined && 'kernels' in lowering));
      };
      this.watched = order.filter(watchable);
      // Variables before everything: what a run begins with is no fault of its own.
      this.watched.sort((a, b) => Number(b.op === 'variable') - Number(a.op === 'variable'));
      this.flags = this.newSlot(this.watched.length, 'anomaly flags');
    }
    const kept = new Set<Node>([...outputs, ...updates.map(([, value]) => value)].map((node) => viewBase(node).base));
    const packed = this.placePacks(order);
    const lastUse = new Map<Node, number>();
    order.forEach((node, i) => {
      for (const input of node.inputs) lastUse.set(viewBase(input).base, i);
    });
    const dying = new Map<number, Node[]>();
    for (const [node, i] of lastUse) if (!kept.has(node)) dying.set(i, [...(dying.get(i) ?? []), node]);

    order.forEach((node, i) => {
      this.place(node, packed, kept.has(node));
      for (const dead of dying.get(i) ?? []) {
        const home = this.homes.get(dead);
        if (home && this.pooled.has(home.slot)) this.free.push(home.slot);
      }
    });

    for (const [variable, value] of updates) {
      const { base, offset } = viewBase(value);
      const target = this.variableHome(variable);
      if (this.homes.get(base)?.slot === target.slot && offset === 0) continue;
      if (base.op === 'variable') {
        throw new ShapeError(`update of ${variable.attrs.name}: its value is another variable itself; copy it first`);
      }
      this.copy(this.home(value), target, sizeOf(variable.shape), `update ${variable.attrs.name}`);
    }
  }

  private readonly pooled = new Set<Slot>();

  /** What the flags of a run say. */
  firstAnomaly(words: Uint32Array): Anomaly | undefined {
    const slot = words.findIndex((word) => word !== 0);
    if (slot < 0) return undefined;
    const found = ~words[slot] >>> 0;
    return { node: this.watched[slot], element: found >>> 1, value: found & 1 ? 'an infinity' : 'NaN' };
  }

  home(node: Node): Home {
    const { base, offset } = viewBase(node);
    const home = base.op === 'variable' ? this.variableHome(base) : this.homes.get(base)!;
    return { slot: home.slot, offset: home.offset + offset };
  }

  private readonly variableSlots = new Map<string, Slot>();
  private variableHome(variable: Node): Home {
    const { name } = variable.attrs;
    let slot = this.variableSlots.get(name);
    if (!slot) {
      slot = { elements: sizeOf(variable.shape), label: name, buffer: this.store.buffer(variable) };
      this.variableSlots.set(name, slot);
    }
    return { slot, offset: 0 };
  }

  /** Which nodes are written straight into their place in a pack, to save the copy. */
  private placePacks(order: readonly Node[]): Map<Node, { pack: Node; offset: number }> {
    const packed = new Map<Node, { pack: Node; offset: number }>();
    for (const node of order) {
      const lowering = node.graph.ops[node.op]?.lowering;
      if (!lowering || !('pack' in lowering)) continue;
      const offsets = lowering.pack(node);
      node.inputs.forEach((input, i) => {
        const { base, offset } = viewBase(input);
        const rule = base.graph.ops[base.op]?.lowering;
        const computed = rule && 'kernels' in rule && rule.inPlace === undefined;
        if (!computed || offset !== 0 || offsets[i] % alignment !== 0 || packed.has(base)) return;
        if (sizeOf(base.shape) !== sizeOf(input.shape)) return;
        packed.set(base, { pack: node, offset: offsets[i] });
      });
    }
    // One dispatch must not read and write the same buffer: whoever reads a neighbour, or is in the pack twice, is copied.
    for (const [node, { pack }] of packed) {
      const twice = pack.inputs.filter((input) => viewBase(input).base === node).length > 1;
      if (twice || node.inputs.some((input) => packed.get(viewBase(input).base)?.pack === pack)) packed.delete(node);
    }
    return packed;
  }

  private place(node: Node, packed: Map<Node, { pack: Node; offset: number }>, kept: boolean): void {
    if (node.op === 'variable') return;
    if (node.op === 'constant') {
      const slot = this.newSlot(1, 'constant');
      this.fills.push({ slot, value: Float32Array.of(node.attrs.value) });
      this.homes.set(node, { slot, offset: 0 });
      return;
    }
    const { lowering } = node.graph.ops[node.op];
    if ('view' in lowering || 'expand' in lowering) return;
    if ('pack' in lowering) {
      const offsets = lowering.pack(node);
      const { slot } = this.packHome(node);
      node.inputs.forEach((input, i) => {
        const from = this.home(input);
        if (from.slot === slot && from.offset === offsets[i]) return;
        this.copy(from, { slot, offset: offsets[i] }, sizeOf(input.shape), 'pack');
      });
      return;
    }
    // Bindings begin at multiples of 256 bytes: an input elsewhere is copied out first.
    const inputs = node.inputs.map((input) => {
      const home = this.home(input);
      if (home.offset % alignment === 0) return home;
      const moved = { slot: this.take(sizeOf(input.shape), nameOf(input)), offset: 0 };
      this.copy(home, moved, sizeOf(input.shape), 'align');
      return moved;
    });
    const state = takenOver(node);
    const into = packed.get(node);
    let home: Home;
    if (state) {
      home = this.home(node.inputs[(lowering as { inPlace: number }).inPlace]);
      if (rootOf(state).op !== 'variable' || home.offset !== 0) {
        throw new ShapeError(`${node.op}: it works in place and takes a whole variable`);
      }
    } else if (into) home = { slot: this.packHome(into.pack).slot, offset: into.offset };
    else {
      const [size, label] = [sizeOf(node.shape), nameOf(node)];
      home = { slot: kept ? this.newSlot(size, label) : this.take(size, label), offset: 0 };
    }
    this.homes.set(node, home);
    const lowered = lowering.kernels(node, this.target);
    const temps = lowered.temps.map((elements) => this.take(elements, `scratch of ${nameOf(node)}`));
    this.planned.push({ node, lowered, temps });
    this.inputHomes.set(node, inputs);
    this.free.push(
      ...temps,
      ...inputs.filter((home, i) => home.slot !== this.home(node.inputs[i]).slot).map((h) => h.slot),
    );
  }

  private readonly inputHomes = new Map<Node, Home[]>();

  private packHome(pack: Node): Home {
    let home = this.homes.get(pack);
    if (!home) {
      // A buffer of its own: its gaps are zeroed once and stay so.
      const slot = this.newSlot(sizeOf(pack.shape), nameOf(pack));
      this.fills.push({ slot, value: new Float32Array(sizeOf(pack.shape)) });
      home = { slot, offset: 0 };
      this.homes.set(pack, home);
    }
    return home;
  }

  private copy(from: Home, to: Home, elements: number, label: string): void {
    this.copies.push({ after: this.planned.length, from, to, elements, label });
  }

  private newSlot(elements: number, label: string): Slot {
    const slot: Slot = { elements, label };
    this.slots.push(slot);
    return slot;
  }

  /** A slot from the pool: the best fit, or the largest grown, or a new one. */
  private take(elements: number, label: string): Slot {
    const size = aligned(elements);
    let best = -1;
    for (let i = 0; i < this.free.length; i++) {
      const candidate = this.free[i].elements;
      if (best < 0) best = i;
      else {
        const current = this.free[best].elements;
        if (current < size ? candidate > current : candidate >= size && candidate < current) best = i;
      }
    }
    if (best >= 0) {
      const [slot] = this.free.splice(best, 1);
      if (size > slot.elements) Object.assign(slot, { elements: size, label });
      return slot;
    }
    const slot = this.newSlot(size, label);
    this.pooled.add(slot);
    return slot;
  }

  /** Every dispatch with its places; called once the buffers exist. */
  calls(): PlacedCall[] {
    const at = ({ slot, offset }: Home, elements: number): Place => ({
      buffer: slot.buffer!,
      offset: offset * 4,
      size: Math.min(Math.max(16, Math.ceil((elements * 4) / 16) * 16), slot.buffer!.size - offset * 4),
    });
    const result: PlacedCall[] = [];
    const slots = new Map(this.watched.map((node, slot) => [node, slot]));
    const watch = (node: Node): void => {
      const slot = slots.get(node);
      if (slot === undefined) return;
      const size = sizeOf(node.shape);
      const threads = Math.min(size, 1 << 16);
      const workgroups = grid(threads);
      result.push({
        label: 'finite',
        call: {
          kernel: kernels.finite,
          params: [size, slot, workgroups[0] * workgroups[1] * workgroupSize],
          workgroups,
          buffers: [],
        },
        places: [at(this.home(node), size), at({ slot: this.flags!, offset: 0 }, this.watched.length)],
      });
    };
    for (const node of this.watched) if (node.op === 'variable') watch(node);
    let copied = 0;
    const flushCopies = (planned: number): void => {
      for (; copied < this.copies.length && this.copies[copied].after <= planned; copied++) {
        const { from, to, elements, label } = this.copies[copied];
        // The copy kernel takes its offsets as numbers, so that it can begin anywhere.
        result.push({
          label,
          call: {
            kernel: kernels.copy,
            params: [elements, from.offset, to.offset],
            workgroups: grid(elements),
            buffers: [],
            bytes: 8 * elements,
          },
          places: [
            at({ slot: from.slot, offset: 0 }, from.slot.buffer!.size / 4),
            at({ slot: to.slot, offset: 0 }, to.slot.buffer!.size / 4),
          ],
        });
      }
    };
    this.planned.forEach(({ node, lowered, temps }, i) => {
      flushCopies(i);
      for (const call of lowered.calls) {
        const places = call.buffers.map((operand) => {
          if (operand === 'out') return at(this.homes.get(node)!, sizeOf(node.shape));
          if ('temp' in operand) return at({ slot: temps[operand.temp], offset: 0 }, lowered.temps[operand.temp]);
          return at(this.inputHomes.get(node)![operand.input], sizeOf(node.inputs[operand.input].shape));
        });
        result.push({ call, places, label: node.op, scope: node.scope, shape: node.shape });
      }
      watch(node);
    });
    flushCopies(this.planned.length);
    return result;
  }
}

/** The variable, or computed node, at the start of a chain of in-place updates. */
function rootOf(node: Node): Node {
  let root = node;
  for (let next = takenOver(root); next; next = takenOver(root)) root = next;
  return root;
}
