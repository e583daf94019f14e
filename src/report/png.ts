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
  let fontFiles: string[] = [];
  let problem: string | undefined;
  try {
    fontFiles = [createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf')];
  } catch {
    problem = 'the package dejavu-fonts-ttf is missing: without system fonts the PNG files have no text';
  }
  const write: PngWriter = (svg) =>
    new resvg.Resvg(svg, {
      fitTo: { mode: 'zoom', value: zoom },
      font: { fontFiles, loadSystemFonts: fontFiles.length === 0, defaultFontFamily: fontFamily },
    })
      .render()
      .asPng();
  return { write, problem };
}
