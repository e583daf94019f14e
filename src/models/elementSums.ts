/** First layers of an ElemNet's members on the processor. */
import { elementCount } from '../chem/encoding.ts';

/** First-layer parameters of one member: bias [width], of fractions [85, width], of bumps [85·k, width] (empty without bumps). */
export interface FirstLayer {
  bias: Float32Array;
  linear: Float32Array;
  bumps: Float32Array;
}

/** Parts that are kept: with four members of 128, 40 MB. */
const mostParts = 20_000;

/**
 * What first layers make of a formula: a bias, and for each element that is there f·u + Σₖ exp(−((f − atₖ)/widthₖ)²)·vₖ. A formula has
 * few of the 85 elements, and elements have few fractions: each one's part is worked out once.
 */
export class ElementSums {
  readonly members: number;
  readonly width: number;
  private readonly layers: readonly FirstLayer[];
  private readonly places: readonly { at: number; width: number }[];
  /** By fraction, of each element: the parts of all members, [members, width]. */
  private readonly parts: Map<number, Float32Array>[];
  /** Parts that are kept now. */
  kept = 0;

  /** @param bumps places and widths of the bumps */
  constructor(layers: readonly FirstLayer[], bumps: readonly { at: number; width: number }[]) {
    this.layers = layers;
    this.places = bumps;
    this.members = layers.length;
    this.width = layers[0].bias.length;
    this.parts = Array.from({ length: elementCount }, () => new Map());
  }

  /**
   * Writes the sums of one row.
   * @param fractions [n, 85]; @param out [members, rows, width]
   */
  write(fractions: Float32Array, row: number, out: Float32Array, rows: number): void {
    const { width, members } = this;
    for (let m = 0; m < members; m++) out.set(this.layers[m].bias, (m * rows + row) * width);
    for (let element = 0; element < elementCount; element++) {
      const fraction = fractions[row * elementCount + element];
      if (fraction === 0) continue;
      const part = this.part(element, fraction);
      for (let m = 0; m < members; m++) {
        const at = (m * rows + row) * width;
        for (let u = 0; u < width; u++) out[at + u] += part[m * width + u];
      }
    }
  }

  private part(element: number, fraction: number): Float32Array {
    const known = this.parts[element].get(fraction);
    if (known) return known;
    const { width, places } = this;
    const heights = places.map(({ at, width }) => Math.exp(-(((fraction - at) / width) ** 2)));
    const part = new Float32Array(this.members * width);
    this.layers.forEach(({ linear, bumps }, m) => {
      for (let u = 0; u < width; u++) {
        let sum = fraction * linear[element * width + u];
        heights.forEach((height, k) => {
          sum += height * bumps[(element * places.length + k) * width + u];
        });
        part[m * width + u] = sum;
      }
    });
    // Fractions that a table makes up at will must not fill the memory.
    if (this.kept++ >= mostParts) {
      for (const parts of this.parts) parts.clear();
      this.kept = 1;
    }
    this.parts[element].set(fraction, part);
    return part;
  }
}
