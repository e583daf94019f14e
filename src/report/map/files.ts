/** What `matgan map` writes: coordinates, figures, the page, and the settings that they came from. */

import { formulaText } from '../../chem/rows.ts';
import type { Device } from '../../kernels/device.ts';
import type { FormulaMap, MapOptions } from '../../models/map/map.ts';
import type { MapFormulas } from '../../models/map/sets.ts';
import { groupColours, type MapFigure, mapSvg, pictureSvg, pictureWidth, svgToPng } from './figure.ts';
import { mapPage } from './page.ts';
import { drawPicture } from './picture.ts';
import { colourOf, firstCamera, intoBall, radiusOf } from './scene.ts';

/** Names of the files, in the order in which they are written. */
export type MapFiles = Map<string, string | Uint8Array>;

export interface MapReport {
  title: string;
  adapter: string;
  options: Omit<MapOptions, 'onProgress'>;
  formulas: MapFormulas;
  map: FormulaMap;
}

/** A cell of a CSV file, quoted where it has to be. */
const cell = (text: string): string => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Coordinates as CSV: formula, group, whether it was mapped exactly, and a column for each coordinate of each map. */
function coordinates({ formulas, map }: MapReport): string {
  const axes = ['x', 'y', 'z'];
  const head = map.maps.flatMap(({ dimensions }) =>
    axes.slice(0, dimensions).map((axis) => (map.maps.length > 1 ? `${axis}${dimensions}` : axis)),
  );
  const lines = [['formula', 'set', 'mapped', ...head].join(',')];
  const names = formulas.groups.map(({ name }) => cell(name));
  for (let row = 0; row < formulas.rows; row++) {
    const values = map.maps.flatMap(({ dimensions, positions }) =>
      Array.from(positions.subarray(row * dimensions, (row + 1) * dimensions), (v) => v.toPrecision(7)),
    );
    const how = map.exact[row] ? 'exactly' : 'placed';
    lines.push([formulaText(formulas.packed, row), names[formulas.group[row]], how, ...values].join(','));
  }
  return `${lines.join('\n')}\n`;
}

/** What a reader of the figure should know. */
function captionOf({ formulas, map, options }: MapReport, dimensions: 2 | 3): string[] {
  const { divergence } = map.maps.find((m) => m.dimensions === dimensions)!;
  const count = (n: number): string => n.toLocaleString('en');
  const placed = formulas.rows - map.landmarks;
  return [
    `t-SNE of 85 × 8 matrices: ${map.components} principal components (${(100 * map.explained).toFixed(1)} % of the variance), perplexity ${options.perplexity}, ` +
      `${options.iterations} iterations, seed ${options.seed}; KL divergence ${divergence.toFixed(3)} nats.`,
    placed === 0
      ? `All ${count(formulas.rows)} formulas are mapped exactly. Near means alike; far, and the size of gaps, mean little.`
      : `${count(map.landmarks)} landmarks are mapped exactly, ${count(placed)} formulas are placed among their nearest landmarks. Near means alike; far, and the size of gaps, mean little.`,
  ];
}

/** Everything about a map but the coordinates, for machines. */
export const mapRecord = ({ title, adapter, options, formulas, map }: MapReport) => ({
  title,
  adapter,
  ...options,
  formulas: formulas.rows,
  mappedExactly: map.landmarks,
  placed: formulas.rows - map.landmarks,
  components: map.components,
  explainedVariance: map.explained,
  groups: formulas.groups,
  sets: formulas.sets,
  maps: map.maps.map(({ dimensions, divergence, history, seconds }) => ({
    dimensions,
    klDivergence: divergence,
    seconds,
    history,
  })),
});

/**
 * All files of a map, by name; nothing is written.
 * @param device undefined: no picture of a map in space is drawn
 */
export async function mapFiles(report: MapReport, device?: Device): Promise<MapFiles> {
  const { formulas, map, title } = report;
  const files: MapFiles = new Map();
  files.set('map.json', `${JSON.stringify(mapRecord(report), null, 2)}\n`);
  files.set('map.csv', coordinates(report));
  const figure = (dimensions: 2 | 3): MapFigure => ({
    title,
    caption: captionOf(report, dimensions),
    groups: formulas.groups,
    group: formulas.group,
  });
  const plane = map.maps.find(({ dimensions }) => dimensions === 2);
  const space = map.maps.find(({ dimensions }) => dimensions === 3);
  if (plane) {
    const svg = mapSvg(figure(2), plane.positions);
    files.set('map.svg', svg);
    files.set('map.png', svgToPng(svg, 1.5));
  }
  const { positions, dimensions } = (space ?? plane)!;
  const points = intoBall(positions, dimensions, formulas.group);
  if (space && device) {
    const height = 800;
    const picture = await drawPicture(device, points, firstCamera(false), {
      width: 2 * pictureWidth,
      height: 2 * height,
      radius: radiusOf(formulas.rows),
      background: [1, 1, 1],
      colours: groupColours.map(colourOf),
    });
    files.set('map-3d.png', svgToPng(pictureSvg(figure(3), picture, height), 1.5));
  }
  const page = mapPage({
    title,
    caption: captionOf(report, dimensions),
    groups: formulas.groups,
    points,
    formulas: Array.from({ length: formulas.rows }, (_, row) => formulaText(formulas.packed, row)),
    flat: dimensions === 2,
  });
  files.set('index.html', page);
  return files;
}
