/** Charts as PNG. */
import { createRequire } from 'node:module';
import { fontFamily } from './chart.ts';

/** Pixels for one of the SVG. */
const zoom = 2;

/** Turns an SVG into a PNG; made by `pngWriter`. */
export type PngWriter = (svg: string) => Uint8Array;

/**
 * Loads the renderer and the font that comes with it, so that no system font is needed.
 * @returns what draws, or why nothing can or why text may be missing
 */
export async function pngWriter(): Promise<{ write?: PngWriter; problem?: string }> {
  let resvg: typeof import('@resvg/resvg-js');
  try {
    resvg = await import('@resvg/resvg-js');
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    return { problem: `no PNG files: @resvg/resvg-js does not load here (${why}); the SVG files are there` };
  }
  const { font, problem } = pngFont();
  const write: PngWriter = (svg) =>
    new resvg.Resvg(svg, { fitTo: { mode: 'zoom', value: zoom }, font }).render().asPng();
  return { write, problem };
}

/** The font that every PNG is drawn with, as the renderer takes it; the system's where its package is missing, which `problem` says. */
export function pngFont() {
  try {
    const fontFiles = ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((file) =>
      createRequire(import.meta.url).resolve(`dejavu-fonts-ttf/ttf/${file}`),
    );
    return { font: { fontFiles, loadSystemFonts: false, defaultFontFamily: fontFamily } };
  } catch {
    return {
      font: { fontFiles: [], loadSystemFonts: true, defaultFontFamily: fontFamily },
      problem: 'the package dejavu-fonts-ttf is missing: without system fonts the PNG files have no text',
    };
  }
}
