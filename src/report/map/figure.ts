/** A map as a figure: one panel with every group, a small one for each, and a legend. SVG text, and PNG of it. */
import { Resvg } from '@resvg/resvg-js';
import { randomStream, shuffle } from '../../chem/random.ts';
import { type Content, html, Markup } from '../html.ts';
import { pngFont } from '../png.ts';

export interface MapGroup {
  name: string;
  count: number;
}

export interface MapFigure {
  title: string;
  /** What the reader should know: method, numbers, divergence. */
  caption: readonly string[];
  groups: readonly MapGroup[];
  /** Group of each point. */
  group: Uint8Array;
}

/** Twelve colours that stay apart for most eyes (after Okabe and Ito, then Tol), the first three for training, leave-out, generated. */
export const groupColours = [
  '#2f6db3',
  '#e8871e',
  '#1a9c6c',
  '#b8458f',
  '#c9b21a',
  '#55b4dd',
  '#d4472f',
  '#6a51a3',
  '#7a8b3a',
  '#8a5a3c',
  '#e38fb4',
  '#6f7b83',
];
const faint = '#c9cdd1';

const font = 'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"';
const ink = '#1d2529';
const soft = '#5d6a70';

/** Where the points lie: the middle and half the width of the square that holds all but a thousandth on each side. */
export function frame(positions: Float32Array, dimensions: number): { middle: number[]; half: number } {
  const points = positions.length / dimensions;
  const middle: number[] = [];
  let half = 0;
  for (let c = 0; c < dimensions; c++) {
    const own = Float32Array.from({ length: points }, (_, i) => positions[i * dimensions + c]).sort();
    const cut = Math.floor(points / 1000);
    const [low, high] = [own[cut], own[points - 1 - cut]];
    middle.push((low + high) / 2);
    half = Math.max(half, (high - low) / 2);
  }
  return { middle, half: half || 1 };
}

/** Circles as strokes of no length with round ends: some 10 bytes a point where an element each takes 60. */
const dots = (places: string, colour: string, radius: number, opacity: number): Markup =>
  html`<path d="${new Markup(places)}" stroke="${colour}" stroke-width="${(2 * radius).toFixed(2)}" stroke-opacity="${opacity}" stroke-linecap="round" fill="none"/>`;

interface Panel {
  left: number;
  top: number;
  size: number;
  /** Radius of a point. */
  radius: number;
}

/** Layers that a panel's points are drawn in: within one a group hides those before it, so many keep the groups fair. */
const layers = 24;

function panel(
  { left, top, size, radius }: Panel,
  positions: Float32Array,
  group: Uint8Array,
  colours: readonly string[],
  order: Uint32Array,
  only?: number,
): Content {
  const { middle, half } = frame(positions, 2);
  const inner = size / 2 - 4 - radius;
  const scale = inner / half;
  const place = (i: number): string => {
    // Y grows upwards. The thousandth outside the frame sits on its edge.
    const at = (c: 0 | 1, sign: number): number =>
      Math.max(-inner, Math.min(inner, sign * scale * (positions[2 * i + c] - middle[c])));
    return `M${(left + size / 2 + at(0, 1)).toFixed(1)} ${(top + size / 2 + at(1, -1)).toFixed(1)}h0`;
  };
  const border = html`<rect x="${left}" y="${top}" width="${size}" height="${size}" rx="4" fill="#ffffff" stroke="#dddad1"/>`;
  if (only !== undefined) {
    let others = '';
    let own = '';
    for (const i of order) {
      if (group[i] === only) own += place(i);
      else others += place(i);
    }
    return html`${border}${dots(others, faint, radius, 0.6)}${dots(own, colours[only], 1.5 * radius, 0.9)}`;
  }
  const drawn: Markup[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const places = colours.map(() => '');
    const end = Math.floor(((layer + 1) * order.length) / layers);
    for (let n = Math.floor((layer * order.length) / layers); n < end; n++) places[group[order[n]]] += place(order[n]);
    places.forEach((text, g) => {
      if (text) drawn.push(dots(text, colours[g], radius, 0.75));
    });
  }
  return html`${border}${drawn}`;
}

/** Radius of a point in a square of `size` with so many. */
const radiusFor = (points: number, size: number): number =>
  Math.min(4, Math.max(0.55, (0.22 * size) / Math.sqrt(points))) * Math.min(1, size / 400 + 0.2);

const width = 1240;
const large = 800;
const margin = 24;
const gap = 16;

const legendEntry = (x: number, y: number, { name, count }: MapGroup, colour: string): Markup =>
  html`<circle cx="${x + 6}" cy="${y - 5}" r="6" fill="${colour}"/><text x="${x + 20}" y="${y}" font-size="15" fill="${ink}">${cutText(name, 34)} <tspan fill="${soft}">${count.toLocaleString('en')}</tspan></text>`;

const cutText = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** A frame with title, legend and caption around what `inside` draws from `top` on. */
function sheet(figure: MapFigure, height: number, inside: (top: number) => Content): string {
  const columns = Math.min(3, figure.groups.length);
  const rows = Math.ceil(figure.groups.length / columns);
  const top = margin + 34 + rows * 24 + 10;
  const total = top + height + 14 + figure.caption.length * 19 + 12;
  return `${
    html`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${total}" viewBox="0 0 ${width} ${total}" ${new Markup(font)}>
<rect width="${width}" height="${total}" fill="#fbfaf7"/>
<text x="${margin}" y="${margin + 16}" font-size="22" font-weight="bold" fill="${ink}">${cutText(figure.title, 90)}</text>
${figure.groups.map((group, g) =>
  legendEntry(
    margin + ((width - 2 * margin) / columns) * (g % columns),
    margin + 46 + 24 * Math.floor(g / columns),
    group,
    groupColours[g],
  ),
)}
${inside(top)}
${figure.caption.map(
  (line, n) => html`<text x="${margin}" y="${top + height + 24 + 19 * n}" font-size="13" fill="${soft}">${line}</text>`,
)}
</svg>`.text
  }\n`;
}

/** The figure of a plane map. @param positions row-major [points, 2] */
export function mapSvg(figure: MapFigure, positions: Float32Array): string {
  const { groups, group } = figure;
  const order = shuffle(
    Uint32Array.from({ length: group.length }, (_, i) => i),
    randomStream(1, 'drawing order'),
  );
  const beside = width - 2 * margin - large - gap;
  const caption = 22;
  // As many columns as make the small panels largest.
  const sizeIn = (columns: number): number => {
    const rows = Math.ceil(groups.length / columns);
    return Math.min((beside - gap * (columns - 1)) / columns, (large - gap * (rows - 1)) / rows - caption);
  };
  const columns = [1, 2, 3].reduce((best, n) => (sizeIn(n) > sizeIn(best) ? n : best));
  const small = sizeIn(columns);
  return sheet(
    figure,
    large,
    (top) =>
      html`${panel({ left: margin, top, size: large, radius: radiusFor(group.length, large) }, positions, group, groupColours.slice(0, groups.length), order)}
${groups.map(({ name }, g) => {
  const left = margin + large + gap + (g % columns) * (small + gap);
  const y = top + Math.floor(g / columns) * (small + gap + caption);
  return html`<text x="${left}" y="${y + 14}" font-size="13" fill="${ink}">${cutText(name, Math.floor(small / 8))}</text>
${panel({ left, top: y + caption, size: small, radius: radiusFor(group.length, small) }, positions, group, groupColours, order, g)}`;
})}`,
  );
}

/** Around a picture of the map in space. @param png as wide as the sheet or twice that */
export function pictureSvg(figure: MapFigure, png: Uint8Array, height: number): string {
  const data = `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
  const inner = width - 2 * margin;
  return sheet(
    figure,
    height,
    (top) =>
      html`<image x="${margin}" y="${top}" width="${inner}" height="${height}" href="${data}"/>
<rect x="${margin}" y="${top}" width="${inner}" height="${height}" rx="4" fill="none" stroke="#dddad1"/>`,
  );
}
/** Width of the picture inside `pictureSvg`, in its units. */
export const pictureWidth = width - 2 * margin;

/** An SVG as a PNG. @param scale pixels a unit */
export function svgToPng(svg: string, scale: number): Uint8Array {
  const drawn = new Resvg(svg, {
    fitTo: { mode: 'zoom', value: scale },
    font: pngFont().font,
  });
  return drawn.render().asPng();
}
