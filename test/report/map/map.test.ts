import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { PNG } from 'pngjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleViewer, viewerFile } from '../../../scripts/viewer.mjs';
import { type Device, openDevice } from '../../../src/kernels/device.ts';
import { frame, groupColours, mapSvg, pictureSvg, svgToPng } from '../../../src/report/map/figure.ts';
import { mapPage } from '../../../src/report/map/page.ts';
import { drawPicture } from '../../../src/report/map/picture.ts';
import { cameraMatrix, colourOf, firstCamera, intoBall, mostColours } from '../../../src/report/map/scene.ts';
import { describeGpu } from '../../gpu.ts';
import { noise } from '../../models/map/blobs.ts';

const groups = [
  { name: 'training <b>', count: 60 },
  { name: 'generated', count: 40 },
];
const group = Uint8Array.from({ length: 100 }, (_, i) => Number(i >= 60));
const figure = { title: 'A map & more', caption: ['one line', 'another'], groups, group };

describe('the figure of a map', () => {
  const svg = mapSvg(figure, noise(100, 2).values);

  it('has every point in the large panel and in each small one, and no markup of names', () => {
    expect(svg.match(/M[\d.]+ [\d.]+h0/g)).toHaveLength(300);
    expect(svg).toContain('training &lt;b&gt;');
    expect(svg).toContain('A map &amp; more');
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(mapSvg(figure, noise(100, 2).values)).toBe(svg);
  });

  it('becomes a PNG with the groups’ colours', () => {
    const png = PNG.sync.read(Buffer.from(svgToPng(svg, 1)));
    expect(png.width).toBe(1240);
    const found = groups.map((_, g) => {
      const colour = colourOf(groupColours[g]).map((v) => Math.round(255 * v));
      let n = 0;
      for (let at = 0; at < png.data.length; at += 4)
        if (colour.every((v, c) => Math.abs(png.data[at + c] - v) < 3)) n++;
      return n;
    });
    // The discs of the legend have 113 pixels, their edges apart; points let one another through.
    for (const n of found) expect(n).toBeGreaterThan(60);
  });

  it('takes one point, equal points, and more groups than three', () => {
    const one = { ...figure, groups: [{ name: 'x', count: 1 }], group: new Uint8Array(1) };
    expect(mapSvg(one, new Float32Array(2))).not.toMatch(/NaN|Infinity/);
    const many = Array.from({ length: 12 }, (_, g) => ({ name: `group ${g}`, count: 1 }));
    const each = { ...figure, groups: many, group: Uint8Array.from(many.keys()) };
    expect(mapSvg(each, new Float32Array(24)).match(/h0/g)).toHaveLength(12 * 13);
    expect(frame(new Float32Array(24), 2)).toEqual({ middle: [0, 0], half: 1 });
    expect(pictureSvg(each, PNG.sync.write(new PNG({ width: 1, height: 1 })), 100)).toContain('data:image/png;base64,');
  });

  it('has a colour for every group', () => {
    expect(groupColours).toHaveLength(mostColours);
    expect(new Set(groupColours).size).toBe(mostColours);
  });
});

describe('the view in space', () => {
  it('is the script that the sources make (npm run viewer makes it)', async () => {
    expect(readFileSync(viewerFile, 'utf8') === (await bundleViewer())).toBe(true);
  });

  it('has all points in a ball, whatever their size', () => {
    const far = { ...noise(1000, 3), values: noise(1000, 3).values.map((v) => 1e6 + 1e3 * v) };
    const points = intoBall(far.values, 3, new Uint8Array(1000).fill(2));
    const sizes = Array.from({ length: 1000 }, (_, i) => Math.hypot(...points.subarray(4 * i, 4 * i + 3)));
    expect(sizes.filter((size) => size <= 1).length).toBeGreaterThan(990);
    expect(points[4 * 999 + 3]).toBe(2);
    expect(intoBall(new Float32Array(2), 2, new Uint8Array(1)).every(Number.isFinite)).toBe(true);
  });

  it('shows what it looks at in the middle, right and up where they belong', () => {
    const { matrix: m, right, up } = cameraMatrix({ yaw: 0, pitch: 0, distance: 3, target: [1, 2, 0] }, 1);
    const clip = [0, 1, 2, 3].map((r) => m[r] * 1 + m[4 + r] * 2 + m[12 + r]);
    expect(clip[0] / clip[3]).toBeCloseTo(0, 6);
    expect(clip[1] / clip[3]).toBeCloseTo(0, 6);
    expect(clip[3]).toBeCloseTo(3, 6);
    expect(right.map((v) => Math.round(v))).toEqual([1, 0, 0]);
    expect(up.map((v) => Math.round(v))).toEqual([0, 1, 0]);
  });

  it('is a page that loads nothing and runs our script alone', () => {
    const points = intoBall(noise(100, 3).values, 3, group);
    const formulas = Array.from({ length: 100 }, (_, i) => `Na${(i % 8) + 1}Cl`);
    const text = mapPage({ title: figure.title, caption: figure.caption, groups, points, formulas, flat: false });
    const script = readFileSync(viewerFile, 'utf8');
    const hash = createHash('sha256').update(script).digest('base64');
    // Quotes are escaped in an attribute; a whole page makes no readable failure.
    const policy = (part: string): boolean => text.includes(part.replaceAll("'", '&#39;'));
    expect(policy("default-src 'none'")).toBe(true);
    expect(policy(`script-src 'sha256-${hash}'`)).toBe(true);
    expect(text.match(/<script>/g)).toHaveLength(1);
    expect(/(src|href)="(?!data:)/.test(text)).toBe(false);
    expect(script.includes('</script')).toBe(false);
    const [, json] = /<pre id="data" hidden>(.*?)<\/pre>/s.exec(text)!;
    const data = JSON.parse(
      json
        .replaceAll('&quot;', '"')
        .replaceAll('&lt;', '<')
        .replaceAll('&gt;', '>')
        .replaceAll('&#39;', "'")
        .replaceAll('&amp;', '&'),
    );
    expect(data.names).toEqual(groups.map(({ name }) => name));
    expect(data.formulas.split('\n')).toEqual(formulas);
    const places = new Int16Array(new Uint8Array(Buffer.from(data.positions, 'base64')).buffer);
    // Sixteen bits for −2 … 2.
    for (let i = 0; i < 100; i++) {
      for (let c = 0; c < 3; c++) {
        const seen = Math.max(-2, Math.min(2, points[4 * i + c]));
        expect(Math.abs((places[3 * i + c] * 2) / 32767 - seen)).toBeLessThan(1e-4);
      }
    }
  });
});

describeGpu('the picture of a map in space', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice({ limits: 'default' });
  });
  afterAll(() => device.destroy());

  const look = {
    width: 210,
    height: 120,
    radius: 0.12,
    background: [1, 1, 1],
    colours: groupColours.map(colourOf),
  } as const;
  const draw = async (points: Float32Array<ArrayBuffer>, hidden?: boolean[]): Promise<PNG> =>
    PNG.sync.read(Buffer.from(await drawPicture(device, points, firstCamera(true), { ...look, hidden })));
  const pixel = ({ data, width }: PNG, x: number, y: number): number[] => [
    ...data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4),
  ];

  it('shows points where they are, the nearer ones in front, and hides groups', async () => {
    // The first group's point lies in front of the second's; a third stands to the right, a fourth above.
    const points = Float32Array.of(0, 0, 0.5, 0, 0, 0, -0.5, 1, 0.8, 0, 0, 1, 0, 0.8, 0, 2);
    const picture = await draw(points);
    const dominant = (p: number[]): number =>
      groupColours
        .slice(0, 3)
        .map((hex) => Math.hypot(...colourOf(hex).map((v, c) => 255 * v - p[c])))
        .reduce((best, d, g, all) => (d < all[best] ? g : best), 0);
    expect(picture.width).toBe(210);
    expect(dominant(pixel(picture, 105, 60))).toBe(0);
    // Half the height is 2.9·tan(0.35) = 1.06 in the plane of the origin: 0.8 is 45 pixels.
    expect(dominant(pixel(picture, 150, 60))).toBe(1);
    expect(dominant(pixel(picture, 105, 15))).toBe(2);
    expect(pixel(picture, 5, 5)).toEqual([255, 255, 255, 255]);
    const without = await draw(points, [true, false, true]);
    expect(dominant(pixel(without, 105, 60))).toBe(1);
    expect(pixel(without, 105, 15)).toEqual([255, 255, 255, 255]);
    device.check();
  });

  it('is the same again, and leaves nothing behind', async () => {
    const points = intoBall(noise(300, 3).values, 3, new Uint8Array(300));
    const before = device.buffersAlive;
    const first = await drawPicture(device, points, firstCamera(false), look);
    expect(await drawPicture(device, points, firstCamera(false), look)).toEqual(first);
    expect(device.buffersAlive).toBe(before);
  });
});
