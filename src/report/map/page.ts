/** The map as a page that opens offline: a view in space (or of the plane) drawn by WebGPU, with legend, tooltips and figures. */
import { readFileSync } from 'node:fs';
import { shaderSource } from '../../kernels/kernel.ts';
import { packageRoot } from '../../paths.ts';
import { html, Markup, page } from '../html.ts';
import { groupColours, type MapGroup } from './figure.ts';
import { colourOf } from './scene.ts';

export interface MapPage {
  title: string;
  caption: readonly string[];
  groups: readonly MapGroup[];
  /** From `intoBall`: (x, y, z, group) of each point. */
  points: Float32Array;
  formulas: readonly string[];
  flat: boolean;
}

const base64 = (data: Int16Array | Uint8Array): string =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');

const style = `
.map { position: relative; background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; margin: 12px 0; }
.map canvas { display: block; width: 100%; height: min(76vh, 860px); touch-action: none; cursor: grab; }
.map canvas:active { cursor: grabbing; }
#tip { position: absolute; pointer-events: none; background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: 3px 8px; font-size: 14px; max-width: 240px; }
#tip small { display: block; color: var(--soft); } #tip b { font-weight: 600; } [hidden] { display: none !important; }
#message { padding: 24px; margin: 0; }
.bar { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: center; font-size: 14px; }
.bar label { display: inline-flex; align-items: center; gap: 6px; } .bar i { width: 12px; height: 12px; border-radius: 50%; }
.bar small { color: var(--soft); font-variant-numeric: tabular-nums; }
.bar button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 2px 10px; cursor: pointer; }
.bar button[aria-pressed=true] { border-color: var(--s0); color: var(--s0); }
`;

/** The whole page as text. */
export function mapPage({ title, caption, groups, points, formulas, flat }: MapPage): string {
  const count = formulas.length;
  const places = new Int16Array(3 * count);
  const group = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) {
      places[3 * i + c] = Math.round((Math.max(-2, Math.min(2, points[4 * i + c])) / 2) * 32767);
    }
    group[i] = points[4 * i + 3];
  }
  const data = {
    shader: shaderSource('scatter'),
    flat,
    names: groups.map(({ name }) => name),
    colours: groups.map((_, g) => colourOf(groupColours[g])),
    positions: base64(places),
    group: base64(group),
    formulas: formulas.join('\n'),
  };
  const how = flat ? 'Drag to move' : 'Drag to turn, with Shift or the right button to move';
  return page(
    title,
    html`<style>${new Markup(style)}</style>
<h1>${title}</h1>
<div class="bar">${groups.map(
      ({ name, count: size }, g) =>
        html`<label><input type="checkbox" data-group="${g}" checked><i style="background:${groupColours[g]}"></i>${name} <small>${size.toLocaleString('en')}</small></label>`,
    )}</div>
<div class="map"><canvas id="map" tabindex="0" aria-label="map of formulas"></canvas><div id="tip" hidden></div>
<p id="message">This view needs JavaScript and WebGPU.</p></div>
<div class="bar"><label>size of points <input id="size" type="range" min="-2" max="2" step="0.1" value="0"></label>
<button id="spin" type="button" aria-pressed="false"${flat && new Markup(' hidden')}>turn</button><button id="reset" type="button">reset</button>
<span class="note">${how}, scroll or pinch to zoom; arrow keys, + and − do the same. Point at a formula to read it.</span></div>
${caption.map((line) => html`<p class="note">${line}</p>`)}
<pre id="data" hidden>${JSON.stringify(data)}</pre>`,
    readFileSync(`${packageRoot}/data/viewer/map.js`, 'utf8'),
  );
}
