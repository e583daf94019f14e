/**
 * Growing one tree on binned columns. Gradients are whole numbers, so that every sum of them is exact: the order of rows, the
 * device that sums and the subtraction of histograms change no bit.
 */
import { type Binned, missingBin } from './bins.ts';

/** What a node's best split is compared by and bounded with. */
export interface GrowthLimits {
  /** Greatest depth of a leaf. */
  depth: number;
  /** Greatest number of leaves: the best gain is split first. Infinity: every node that gains. */
  leaves: number;
  leafRows: number;
  /** λ, in rows. */
  l2: number;
}

/** Sums gradients of rows by bin. */
export interface Histogrammer {
  /** Rows from which on it is asked. */
  least: number;
  /** Tells it the gradients of a tree, [rows] of the table, of so many bits at most beside the sign. */
  begin(gradients: Int32Array, bits: number): void;
  /** Writes sum and number of rows of each bin of `columns`: pairs at 512·column + 2·bin. */
  build(into: Float64Array, rows: Uint32Array, columns: Uint16Array): Promise<void>;
}

/** Numbers a column's histogram takes: sum and rows of 256 bins. */
export const histogramStride = 512;
/** Nodes of no more rows are grown on sorted columns; the places of their rows fit in a byte. */
const localRows = 256;
/** Nodes of no more rows stop at the first column that parts them as well as any parting can. */
const tinyRows = 8;
/** Bytes of histograms that wait for their nodes' turn, at most; nodes beyond sum their rows again. */
const mostWaiting = 2 ** 28;
/** Threshold of a split of all values from the missing ones: the largest float32. */
export const everyValue = (2 - 2 ** -23) * 2 ** 127;

/** A split: rows with codes up to `bin` go left, missing ones by `missingLeft`. */
interface Split {
  column: number;
  bin: number;
  missingLeft: boolean;
  threshold: number;
  leftRows: number;
  gain: number;
}

interface OpenNode {
  index: number;
  start: number;
  end: number;
  depth: number;
  sum: number;
  columns: Uint16Array;
  histogram: Float64Array | undefined;
  split?: Split;
}

export class Grower {
  /** Rows of the tree by leaves, once it is grown. */
  readonly order: Uint32Array;
  /** Nodes in the order in which they were made: column or −1, and what a leaf holds. */
  readonly column: Int32Array;
  readonly bin: Uint8Array;
  readonly missingLeft: Uint8Array;
  readonly threshold: Float32Array;
  readonly left: Uint32Array;
  readonly right: Uint32Array;
  /** Rows of a leaf: order[start … end). */
  readonly start: Uint32Array;
  readonly end: Uint32Array;
  nodes = 0;
  /** Gains of splits, by column, of trees grown so far: in squares of gradients as given, times the scale of `grow`. */
  readonly gains: Float64Array;

  private readonly binned: Binned;
  private readonly limits: GrowthLimits;
  private readonly engine: Histogrammer | undefined;
  private readonly scratch: Uint32Array;
  private readonly gathered: Float64Array;
  /** 1 / (rows + λ). */
  private readonly inverse: Float64Array;
  /** Codes by row, for nodes of few rows. */
  private readonly byRow: Uint8Array;
  private readonly free: Float64Array[] = [];
  /** Histograms in memory. */
  private made = 0;
  private gradients!: Int32Array;
  private leastGain = 0;
  private gainScale = 1;
  // The best split that the scan at hand has seen.
  private bestScore = 0;
  private bestColumn = -1;
  private bestBin = 0;
  private bestLeft = false;
  private bestRows = 0;
  // Small nodes: codes, sorted places and gradients of up to 256 rows.
  private readonly localCodes: Uint8Array;
  private readonly sorted: Uint8Array;
  private readonly places = new Uint8Array(localRows);
  private readonly localRow = new Uint32Array(localRows);
  private readonly localGradients = new Float64Array(localRows);
  private readonly flags = new Uint8Array(localRows);
  private readonly aside = new Uint8Array(localRows);
  private readonly tally = new Uint32Array(256);
  // Tiny nodes: code · 256 + place, and gradients, sorted.
  private readonly keys = new Int32Array(tinyRows);
  private readonly ascending = new Float64Array(tinyRows);
  private readonly lists: Uint16Array;

  /** @param mostRows that a tree sees */
  constructor(binned: Binned, mostRows: number, limits: GrowthLimits, engine?: Histogrammer) {
    const columns = binned.columns.length;
    this.binned = binned;
    this.limits = limits;
    this.engine = engine;
    this.order = new Uint32Array(mostRows);
    this.scratch = new Uint32Array(mostRows);
    this.gathered = new Float64Array(mostRows);
    this.inverse = Float64Array.from({ length: mostRows + 1 }, (_, n) => (n + limits.l2 > 0 ? 1 / (n + limits.l2) : 0));
    const most = Math.max(1, Math.min(2 * mostRows - 1, 2 * limits.leaves - 1));
    this.column = new Int32Array(most);
    this.bin = new Uint8Array(most);
    this.missingLeft = new Uint8Array(most);
    this.threshold = new Float32Array(most);
    this.left = new Uint32Array(most);
    this.right = new Uint32Array(most);
    this.start = new Uint32Array(most);
    this.end = new Uint32Array(most);
    this.gains = new Float64Array(columns);
    this.localCodes = new Uint8Array(columns * localRows);
    this.sorted = new Uint8Array(columns * localRows);
    this.lists = new Uint16Array(columns * (Math.min(limits.depth, localRows) + 3));
    this.byRow = new Uint8Array(limits.leaves === Number.POSITIVE_INFINITY ? binned.codes.length : 0);
    if (this.byRow.length > 0) {
      const { codes, rows } = binned;
      for (let c = 0; c < columns; c++)
        for (let r = 0; r < rows; r++) this.byRow[r * columns + c] = codes[c * rows + r];
    }
  }

  /**
   * Grows a tree on the first `rows` of `order`.
   * @param gradients whole numbers below 2^31 in size, [rows of the table]
   * @param columns those that may be split, in the order in which equal gains count
   * @param leastGain that a split must exceed @param gainScale what a gain counts for in `gains`
   * @param bits of the gradients, beside the sign
   */
  async grow(
    gradients: Int32Array,
    rows: number,
    columns: Uint16Array,
    leastGain: number,
    gainScale: number,
    bits: number,
  ): Promise<void> {
    this.gradients = gradients;
    this.leastGain = leastGain;
    this.gainScale = gainScale;
    this.engine?.begin(gradients, bits);
    this.nodes = 0;
    const { leaves } = this.limits;
    const byGain = leaves !== Number.POSITIVE_INFINITY;
    const root: OpenNode = {
      index: this.make(0, rows),
      start: 0,
      end: rows,
      depth: 0,
      sum: this.sum(0, rows),
      columns,
      histogram: undefined,
    };
    const open: OpenNode[] = [];
    await this.consider(root, open);
    for (let made = 1; open.length > 0 && made < leaves; made++) {
      let at = open.length - 1;
      // The first of equal gains, by age.
      if (byGain) for (let i = at - 1; i >= 0; i--) if (open[i].split!.gain >= open[at].split!.gain) at = i;
      const [node] = open.splice(at, 1);
      const [left, right] = this.divide(node);
      const smaller = left.end - left.start <= right.end - right.start ? left : right;
      const larger = smaller === left ? right : left;
      const { histogram } = node;
      if (histogram && this.needsHistogram(larger)) {
        smaller.histogram = await this.build(smaller);
        this.subtract(histogram, smaller.histogram, larger.columns);
        larger.histogram = histogram;
      } else if (histogram) this.release(histogram);
      node.histogram = undefined;
      await this.consider(left, open);
      await this.consider(right, open);
    }
    for (const { histogram } of open) if (histogram) this.release(histogram);
  }

  private make(start: number, end: number): number {
    const index = this.nodes++;
    this.column[index] = -1;
    this.start[index] = start;
    this.end[index] = end;
    return index;
  }

  private sum(start: number, end: number): number {
    const { gradients, order } = this;
    let sum = 0;
    for (let i = start; i < end; i++) sum += gradients[order[i]];
    return sum;
  }

  private canSplit({ start, end, depth }: OpenNode): boolean {
    return depth < this.limits.depth && end - start >= 2 * this.limits.leafRows;
  }

  private needsHistogram(node: OpenNode): boolean {
    return this.canSplit(node) && (this.byRow.length === 0 || node.end - node.start > localRows);
  }

  /** Finds a node's best split and puts it among the open ones, or finishes it. */
  private async consider(node: OpenNode, open: OpenNode[]): Promise<void> {
    if (this.needsHistogram(node)) {
      node.histogram ??= await this.build(node);
      this.scan(node);
      if (node.split) {
        open.push(node);
        if (this.made * this.binned.columns.length * histogramStride * 8 <= mostWaiting) return;
      }
    } else if (this.canSplit(node)) this.growLocal(node);
    if (node.histogram) this.release(node.histogram);
    node.histogram = undefined;
  }

  private release(histogram: Float64Array): void {
    this.free.push(histogram);
  }

  private async build({ start, end, columns }: OpenNode): Promise<Float64Array> {
    let into = this.free.pop();
    if (!into) {
      into = new Float64Array(this.binned.columns.length * histogramStride);
      this.made++;
    }
    const { engine, order } = this;
    if (engine && end - start >= engine.least) await engine.build(into, order.subarray(start, end), columns);
    else {
      const { gradients, gathered } = this;
      for (let i = start; i < end; i++) gathered[i - start] = gradients[order[i]];
      histogram(this.binned, into, order, start, end, columns, gathered);
    }
    return into;
  }

  private subtract(from: Float64Array, smaller: Float64Array, columns: Uint16Array): void {
    for (const c of columns) {
      const at = c * histogramStride;
      const end = at + 2 * this.binned.columns[c].low.length;
      for (let k = at; k < end; k++) from[k] -= smaller[k];
      from[at + 510] -= smaller[at + 510];
      from[at + 511] -= smaller[at + 511];
    }
  }

  /** The best split of a node by its histogram. Columns with one code in the node have none further down either. */
  private scan(node: OpenNode): void {
    const { inverse } = this;
    const { leafRows } = this.limits;
    const h = node.histogram!;
    const { sum, columns } = node;
    const rows = node.end - node.start;
    const parent = sum * sum * inverse[rows];
    let bestScore = this.toBeat(parent);
    this.bestColumn = -1;
    const kept = new Uint16Array(columns.length);
    let n = 0;
    for (const c of columns) {
      const at = c * histogramStride;
      const bins = this.binned.columns[c].low.length;
      const missing = h[at + 511];
      const missingSum = h[at + 510];
      if (missing === rows) continue;
      let constant = false;
      let leftSum = 0;
      let leftRows = 0;
      for (let k = at; k < at + 2 * bins; k += 2) {
        const m = h[k + 1];
        if (m === 0) continue;
        if (m === rows) {
          constant = true;
          break;
        }
        leftSum += h[k];
        leftRows += m;
        const rightRows = rows - leftRows;
        if (leftRows < leafRows) continue;
        if (rightRows < leafRows) break;
        const rightSum = sum - leftSum;
        const score = leftSum * leftSum * inverse[leftRows] + rightSum * rightSum * inverse[rightRows];
        if (score > bestScore) {
          bestScore = score;
          this.better(score, c, (k - at) >> 1, false, leftRows);
        }
      }
      if (constant) continue;
      kept[n++] = c;
      if (missing === 0) continue;
      leftSum = missingSum;
      leftRows = missing;
      for (let k = at; k < at + 2 * bins; k += 2) {
        const m = h[k + 1];
        if (m === 0) continue;
        leftSum += h[k];
        leftRows += m;
        const rightRows = rows - leftRows;
        if (leftRows < leafRows) continue;
        if (rightRows < leafRows) break;
        const rightSum = sum - leftSum;
        const score = leftSum * leftSum * inverse[leftRows] + rightSum * rightSum * inverse[rightRows];
        if (score > bestScore) {
          bestScore = score;
          this.better(score, c, (k - at) >> 1, true, leftRows);
        }
      }
    }
    node.columns = kept.subarray(0, n);
    if (this.bestColumn < 0) return;
    const at = this.bestColumn * histogramStride;
    const bins = this.binned.columns[this.bestColumn].low.length;
    let next = this.bestBin + 1;
    while (next < bins && h[at + 2 * next + 1] === 0) next++;
    node.split = this.splitAt(next < bins ? next : -1, h[at + 511] > 0, rows, parent);
  }

  /** What a score must exceed: sums are exact, their squares are not. */
  private toBeat(parent: number): number {
    return parent * (1 + 1e-12) + this.leastGain;
  }

  private better(score: number, column: number, bin: number, missingLeft: boolean, leftRows: number): void {
    this.bestScore = score;
    this.bestColumn = column;
    this.bestBin = bin;
    this.bestLeft = missingLeft;
    this.bestRows = leftRows;
  }

  /** The best split, its cut in the middle of the gap up to the bin `next`, −1 where only missing values go right. */
  private splitAt(next: number, missing: boolean, rows: number, parent: number): Split {
    const column = this.bestColumn;
    const { cuts, low, high } = this.binned.columns[column];
    let bin = this.bestBin;
    let threshold = everyValue;
    if (next >= 0) {
      const middle = (high[bin] + low[next]) / 2;
      for (let i = bin + 1; i < next; i++) if (Math.abs(cuts[i] - middle) < Math.abs(cuts[bin] - middle)) bin = i;
      threshold = cuts[bin];
    } else bin = low.length - 1;
    // Where training has none missing, they go with the many.
    const missingLeft = missing ? this.bestLeft : 2 * this.bestRows >= rows;
    return { column, bin, missingLeft, threshold, leftRows: this.bestRows, gain: this.bestScore - parent };
  }

  private record(index: number, split: Split): void {
    this.column[index] = split.column;
    this.bin[index] = split.bin;
    this.missingLeft[index] = split.missingLeft ? 1 : 0;
    this.threshold[index] = split.threshold;
    this.gains[split.column] += split.gain * this.gainScale;
  }

  /** Parts a node's rows, in order, and makes its children. */
  private divide(node: OpenNode): [OpenNode, OpenNode] {
    const { order, scratch } = this;
    const { start, end, depth, columns } = node;
    const split = node.split!;
    this.record(node.index, split);
    const { codes, rows } = this.binned;
    const at = split.column * rows;
    const missingLeft = split.missingLeft;
    let left = start;
    let right = 0;
    for (let i = start; i < end; i++) {
      const row = order[i];
      const code = codes[at + row];
      if (code <= split.bin || (missingLeft && code === missingBin)) order[left++] = row;
      else scratch[right++] = row;
    }
    order.set(scratch.subarray(0, right), left);
    const leftSum = this.sum(start, left);
    const children = [
      { start, end: left, sum: leftSum },
      { start: left, end, sum: node.sum - leftSum },
    ].map((child) => ({
      ...child,
      index: this.make(child.start, child.end),
      depth: depth + 1,
      columns,
      histogram: undefined,
    }));
    this.left[node.index] = children[0].index;
    this.right[node.index] = children[1].index;
    return children as unknown as [OpenNode, OpenNode];
  }

  /** Grows a whole subtree of few rows, each column sorted once and then parted from node to node. */
  private growLocal({ index, start, end, depth, columns }: OpenNode): void {
    const { order, gradients, localRow, localGradients, localCodes, sorted, places, byRow, lists, tally } = this;
    const rows = end - start;
    const across = this.binned.columns.length;
    for (let i = 0; i < rows; i++) {
      const row = order[start + i];
      localRow[i] = row;
      localGradients[i] = gradients[row];
      places[i] = i;
      const at = row * across;
      for (let k = 0; k < columns.length; k++) localCodes[columns[k] * localRows + i] = byRow[at + columns[k]];
    }
    lists.set(columns);
    for (let k = 0; k < columns.length && rows > tinyRows; k++) {
      const at = columns[k] * localRows;
      if (rows < 24) {
        for (let i = 0; i < rows; i++) {
          const code = localCodes[at + i];
          let j = i;
          for (; j > 0 && localCodes[at + sorted[at + j - 1]] > code; j--) sorted[at + j] = sorted[at + j - 1];
          sorted[at + j] = i;
        }
      } else {
        tally.fill(0);
        for (let i = 0; i < rows; i++) tally[localCodes[at + i]]++;
        for (let b = 0, before = 0; b < 256; b++) {
          const m = tally[b];
          tally[b] = before;
          before += m;
        }
        for (let i = 0; i < rows; i++) sorted[at + tally[localCodes[at + i]]++] = i;
      }
    }
    this.visit(index, 0, rows, depth, 0, columns.length, start);
    for (let i = 0; i < rows; i++) order[start + i] = localRow[places[i]];
  }

  /**
   * A node of places [from, to).
   * @param list where its columns are in `lists` @param offset of the subtree's rows in `order`
   */
  private visit(
    index: number,
    from: number,
    to: number,
    depth: number,
    list: number,
    listed: number,
    offset: number,
  ): void {
    const { leafRows, depth: deepest } = this.limits;
    const rows = to - from;
    if (rows < 2 * leafRows || depth >= deepest) return;
    if (rows <= tinyRows) {
      this.visitTiny(index, from, to, depth, list, listed, offset);
      return;
    }
    const { lists, sorted, localCodes, localGradients, places, inverse, flags, aside } = this;
    let sum = 0;
    let equal = true;
    const first = localGradients[places[from]];
    for (let i = from; i < to; i++) {
      const g = localGradients[places[i]];
      if (g !== first) equal = false;
      sum += g;
    }
    if (equal) return;
    const parent = sum * sum * inverse[rows];
    let bestScore = this.toBeat(parent);
    this.bestColumn = -1;
    const below = list + listed;
    let n = 0;
    for (let k = list; k < below; k++) {
      const c = lists[k];
      const at = c * localRows;
      const last = localCodes[at + sorted[at + to - 1]];
      if (localCodes[at + sorted[at + from]] === last) continue;
      lists[below + n++] = c;
      let end = to;
      let missingSum = 0;
      if (last === missingBin) {
        while (localCodes[at + sorted[at + end - 1]] === missingBin) missingSum += localGradients[sorted[at + --end]];
      }
      const missing = to - end;
      for (let side = 0; side < (missing > 0 ? 2 : 1); side++) {
        let leftSum = side === 0 ? 0 : missingSum;
        const extra = (side === 0 ? 0 : missing) - from;
        // A split before place i leaves i + extra rows to the left.
        let i = from;
        const first = Math.max(from + 1, leafRows - extra);
        const stop = Math.min(end, rows - leafRows - extra + 1);
        for (; i < first && i < end; i++) leftSum += localGradients[sorted[at + i]];
        let code = localCodes[at + sorted[at + i - 1]];
        for (; i < stop; i++) {
          const place = sorted[at + i];
          const next = localCodes[at + place];
          if (next !== code) {
            const leftRows = i + extra;
            const rightSum = sum - leftSum;
            const score = leftSum * leftSum * inverse[leftRows] + rightSum * rightSum * inverse[rows - leftRows];
            if (score > bestScore) {
              bestScore = score;
              this.better(score, c, code, side === 1, leftRows);
            }
            code = next;
          }
          leftSum += localGradients[place];
        }
        if (side === 0 && missing >= leafRows && end - from >= leafRows) {
          // All that is there against what is missing.
          const there = sum - missingSum;
          const score = there * there * inverse[end - from] + missingSum * missingSum * inverse[missing];
          if (score > bestScore) {
            bestScore = score;
            this.better(score, c, localCodes[at + sorted[at + end - 1]], false, end - from);
          }
        }
      }
    }
    if (this.bestColumn < 0) return;
    const at = this.bestColumn * localRows;
    let after = from;
    while (after < to && localCodes[at + sorted[at + after]] <= this.bestBin) after++;
    const next = after < to ? localCodes[at + sorted[at + after]] : missingBin;
    const missing = localCodes[at + sorted[at + to - 1]] === missingBin;
    const split = this.splitAt(next === missingBin ? -1 : next, missing, rows, parent);
    this.record(index, split);
    for (let i = from; i < to; i++) {
      const code = localCodes[at + places[i]];
      flags[places[i]] = code <= split.bin || (split.missingLeft && code === missingBin) ? 1 : 0;
    }
    const middle = from + split.leftRows;
    part(places, 0, from, to, flags, aside);
    // Leaves and tiny nodes need no sorted columns.
    const least = Math.max(tinyRows + 1, 2 * leafRows);
    if (depth + 1 < deepest && (middle - from >= least || to - middle >= least)) {
      for (let k = below; k < below + n; k++) part(sorted, lists[k] * localRows, from, to, flags, aside);
    }
    const left = this.make(offset + from, offset + middle);
    const right = this.make(offset + middle, offset + to);
    this.left[index] = left;
    this.right[index] = right;
    this.visit(left, from, middle, depth + 1, below, n, offset);
    this.visit(right, middle, to, depth + 1, below, n, offset);
  }

  /** A node of very few rows: each column is sorted when it is looked at, and hardly any is. */
  private visitTiny(
    index: number,
    from: number,
    to: number,
    depth: number,
    list: number,
    listed: number,
    offset: number,
  ): void {
    const { leafRows, depth: deepest } = this.limits;
    const rows = to - from;
    if (rows < 2 * leafRows || depth >= deepest) return;
    const { lists, localCodes, localGradients, places, inverse, flags, keys, ascending } = this;
    let sum = 0;
    for (let i = 0; i < rows; i++) {
      const g = localGradients[places[from + i]];
      sum += g;
      let j = i;
      for (; j > 0 && ascending[j - 1] > g; j--) ascending[j] = ascending[j - 1];
      ascending[j] = g;
    }
    if (ascending[0] === ascending[rows - 1]) return;
    const parent = sum * sum * inverse[rows];
    let bestScore = this.toBeat(parent);
    this.bestColumn = -1;
    // No parting beats the best of those into the smaller and the larger gradients.
    let bound = 0;
    let leftSum = 0;
    for (let leftRows = 1; leftRows < rows; leftRows++) {
      leftSum += ascending[leftRows - 1];
      if (leftRows < leafRows || rows - leftRows < leafRows) continue;
      const rightSum = sum - leftSum;
      bound = Math.max(bound, leftSum * leftSum * inverse[leftRows] + rightSum * rightSum * inverse[rows - leftRows]);
    }
    for (let k = list; k < list + listed && bestScore < bound; k++) {
      const c = lists[k];
      const at = c * localRows;
      for (let i = 0; i < rows; i++) {
        const place = places[from + i];
        const key = (localCodes[at + place] << 8) | place;
        let j = i;
        for (; j > 0 && keys[j - 1] > key; j--) keys[j] = keys[j - 1];
        keys[j] = key;
      }
      if (keys[0] >> 8 === keys[rows - 1] >> 8) continue;
      let end = rows;
      let missingSum = 0;
      while (keys[end - 1] >> 8 === missingBin) missingSum += localGradients[keys[--end] & 255];
      const missing = rows - end;
      for (let side = 0; side < (missing > 0 ? 2 : 1); side++) {
        leftSum = side === 0 ? 0 : missingSum;
        const extra = side === 0 ? 0 : missing;
        // Before a place i that is the first missing one: all that is there against them.
        for (let i = 0; i < end + (side === 0 && missing > 0 ? 1 : 0); i++) {
          const leftRows = i + extra;
          if (i > 0 && keys[i] >> 8 !== keys[i - 1] >> 8 && leftRows >= leafRows && rows - leftRows >= leafRows) {
            const rightSum = sum - leftSum;
            const score = leftSum * leftSum * inverse[leftRows] + rightSum * rightSum * inverse[rows - leftRows];
            if (score > bestScore) {
              bestScore = score;
              this.better(score, c, keys[i - 1] >> 8, side === 1, leftRows);
            }
          }
          leftSum += localGradients[keys[i] & 255];
        }
      }
    }
    if (this.bestColumn < 0) return;
    const at = this.bestColumn * localRows;
    let next = missingBin;
    let missing = false;
    for (let i = from; i < to; i++) {
      const code = localCodes[at + places[i]];
      if (code === missingBin) missing = true;
      else if (code > this.bestBin && code < next) next = code;
    }
    const split = this.splitAt(next === missingBin ? -1 : next, missing, rows, parent);
    this.record(index, split);
    for (let i = from; i < to; i++) {
      const code = localCodes[at + places[i]];
      flags[places[i]] = code <= split.bin || (split.missingLeft && code === missingBin) ? 1 : 0;
    }
    part(places, 0, from, to, flags, this.aside);
    const middle = from + split.leftRows;
    const left = this.make(offset + from, offset + middle);
    const right = this.make(offset + middle, offset + to);
    this.left[index] = left;
    this.right[index] = right;
    this.visitTiny(left, from, middle, depth + 1, list, listed, offset);
    this.visitTiny(right, middle, to, depth + 1, list, listed, offset);
  }
}

/** Moves the flagged of places [from, to) to the front, both parts in order. */
function part(places: Uint8Array, at: number, from: number, to: number, flags: Uint8Array, aside: Uint8Array): void {
  let left = at + from;
  let right = 0;
  for (let i = at + from; i < at + to; i++) {
    const place = places[i];
    const flag = flags[place];
    places[left] = place;
    aside[right] = place;
    left += flag;
    right += 1 - flag;
  }
  for (let i = 0; i < right; i++) places[left + i] = aside[i];
}

/**
 * Sum and number of rows of each bin, the reference of shaders/treesHistogram.wgsl.
 * @param order rows, of which [start, end) count @param gradients of these, from 0
 */
export function histogram(
  { codes, rows, columns: cuts }: Binned,
  into: Float64Array,
  order: Uint32Array,
  start: number,
  end: number,
  columns: Uint16Array,
  gradients: Float64Array,
): void {
  for (const c of columns) {
    const at = c * histogramStride;
    into.fill(0, at, at + 2 * cuts[c].low.length);
    into[at + 510] = into[at + 511] = 0;
    const from = c * rows;
    for (let i = start; i < end; i++) {
      const k = at + 2 * codes[from + order[i]];
      into[k] += gradients[i - start];
      into[k + 1] += 1;
    }
  }
}
