/** Charts as files, the paper's figures beside ours, both rules of decoding, and comparisons of evaluations, hostile ones too. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { frequencyFormulas } from '../../src/chem/baseline.ts';
import { packFormula } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { evaluateFormulas } from '../../src/chem/metrics.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { DataError } from '../../src/errors.ts';
import { chartFile, drawLines } from '../../src/report/chart.ts';
import { comparisonPage, readEvaluation } from '../../src/report/compare.ts';
import { decodingRow } from '../../src/report/decoding.ts';
import { evaluationPage } from '../../src/report/evaluation.ts';
import { evaluationFigures } from '../../src/report/figures.ts';
import { compareWithPaper, paperNames } from '../../src/report/paper.ts';
import { pngWriter } from '../../src/report/png.ts';
import { inWords } from '../../src/report/words.ts';
import { Choose } from '../fuzz/choose.ts';

const folder = mkdtempSync(join(tmpdir(), 'matgan-compare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const training = synthesize({ count: 500, seed: 1 });
const leaveOut = synthesize({ count: 200, seed: 2 });
const other = synthesize({ count: 300, seed: 3 });
const generated = frequencyFormulas(training, [0, 0, 400, 400, 200], 1);
const result = evaluateFormulas({ generated, training, leaveOut, others: { mp: other }, seed: 1 });
const nasty = `<script>alert("x")</script>&'`;

describe('charts as files', () => {
  const charts = evaluationFigures(result);

  it('need nothing: colours and fonts are named, the title and the legend are inside', () => {
    expect(Object.keys(charts)).toEqual(
      expect.arrayContaining(['charge-neutral', 'uniqueness', 'recovery', 'nearest']),
    );
    for (const chart of Object.values(charts)) {
      const svg = chartFile(chart);
      expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="\d+" height="\d+"/);
      expect(svg).not.toMatch(/var\(|NaN|undefined|Infinity|<script|href=|url\(/);
      for (const name of chart.names.length > 1 ? chart.names : []) expect(svg).toContain(`>${name}</text>`);
    }
    expect(chartFile(charts['charge-neutral'])).toContain('>Charge-neutral: share of formulas</text>');
    const hostile = chartFile(drawLines({ title: nasty, xLabel: nasty, series: [{ name: nasty, points: [[1, 1]] }] }));
    expect(hostile).not.toContain('<script');
  });

  it('powers of ten are equally far apart on a logarithmic axis', () => {
    const { text } = drawLines({
      title: 't',
      xLabel: 'x',
      logarithmic: true,
      series: [
        {
          name: 'a',
          points: [
            [0, 9],
            [10, 1],
            [100, 2],
            [1000, 3],
          ],
        },
      ],
    }).inside as { text: string };
    const path = text.match(/<path d="([^"]*)"/)![1];
    const xs = [...path.matchAll(/[ML]([\d.-]+) /g)].map(([, x]) => Number(x));
    expect(xs).toHaveLength(3);
    expect(xs[1] - xs[0]).toBeCloseTo(xs[2] - xs[1], 0);
    expect(text).toContain('>100</text>');
  });

  it('become PNG with text in it, without a system font', async () => {
    const { write, problem } = await pngWriter();
    expect(problem).toBe(undefined);
    const png = write!(chartFile(charts.uniqueness));
    expect(Buffer.from(png.subarray(0, 8)).toString('latin1')).toBe('\x89PNG\r\n\x1a\n');
    // Text is what makes it larger than the same chart without.
    const silent = write!(chartFile(charts.uniqueness).replace(/<text.*?<\/text>/gs, ''));
    expect(png.length).toBeGreaterThan(1.2 * silent.length);
  });
});

describe('beside the paper', () => {
  it.each(paperNames)('%s: shares are shares, and ours are the evaluation’s', (set) => {
    const { rows, notes } = compareWithPaper(result, set);
    for (const row of rows) {
      if (row.kind === 'share') expect(row.paper).toBeLessThanOrEqual(1);
      if (row.paperSamples !== null) expect(row.ourSamples).toBe(result.generated);
    }
    const row = (figure: string) => rows.find((r) => r.figure === figure);
    expect(row('EN, generated')!.ours).toBe(result.electronegativityBalanced);
    expect(notes.join()).toContain('42,453');
    if (set !== 'icsd-filter') expect(row('left-out recovered, binary')).toBeDefined();
  });

  it('figures of the paper as it has them', () => {
    const figures = Object.fromEntries(compareWithPaper(result, 'icsd').rows.map((r) => [r.figure, r]));
    expect(figures['CN, generated'].paper).toBe(0.803);
    expect(figures['left-out recovered'].paper).toBe(0.6013);
    expect(figures['left-out recovered, quaternary'].paper).toBe(0.0519);
    // Names of other data sets in any case.
    expect(figures['new ones found in MP']).toMatchObject({ paper: 13_126, ours: result.confirmed.mp });
    expect(figures['new ones found in OQMD'].ours).toBe(null);
  });

  it('the paper’s number of samples where there are more', () => {
    const point = { ...result.curve[0] };
    const curve = [340_000, 2_000_000, 5_000_000].map((samples) => ({
      ...point,
      samples,
      uniqueness: 1 / samples,
      novel: samples,
    }));
    const figures = Object.fromEntries(compareWithPaper({ ...result, curve }, 'mp').rows.map((r) => [r.figure, r]));
    expect(figures['different, after 340,000']).toMatchObject({ ours: 1 / 340_000, ourSamples: 340_000 });
    expect(figures['new formulas']).toMatchObject({ ours: 2_000_000, ourSamples: 2_000_000 });
  });
});

describe('rules of decoding', () => {
  const packed = (...texts: string[]) => ({
    packed: Uint32Array.from(texts.flatMap((text) => [...packFormula(parseFormula(text))])),
    rows: texts.length,
  });

  it('as decoded and in lowest terms, by hand', () => {
    const sets = { training: packed('NaCl'), leaveOut: packed('NaCl', 'MgO', 'CsI') };
    expect(decodingRow('paper', 10, packed('Na2Cl2', 'NaCl', 'MgO', 'LiMg'), sets)).toMatchObject({
      samples: 10,
      decoded: 4,
      unique: 3,
      asDecoded: { chargeNeutral: 0.5 },
      chargeNeutral: 0.75,
      meanElements: 2,
      // NaCl is training's.
      recoveredLeaveOut: 0.5,
    });
    expect(decodingRow('argmax', 10, packed(), sets)).toMatchObject({
      decoded: 0,
      chargeNeutral: null,
      meanElements: null,
    });
  });
});

describe('comparisons', () => {
  const record = { ...result, paper: compareWithPaper(result, 'icsd'), words: inWords(result) };
  const save = (name: string, text: string): string => {
    mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(join(folder, name, 'evaluation.json'), text);
    return join(folder, name);
  };
  const text = JSON.stringify(record);

  it('figures side by side, the paper’s too, and curves together', () => {
    const second = { ...record, uniqueness: 0.123, recoveredLeaveOut: null };
    const read = [save('first', text), save('second', JSON.stringify(second))].map(readEvaluation);
    const html = comparisonPage(read, nasty);
    for (const part of ['first', 'second', '12.3 %', '60.1 %', 'GAN-ICSD', '42,453']) expect(html).toContain(part);
    expect(html).not.toMatch(/<script|NaN|undefined|https?:/);
    const twins = comparisonPage([read[0], readEvaluation(save('deeper/first', text))]);
    expect(twins).toContain('1 first');
    expect(twins).toContain('2 first');
  });

  it('nothing, a folder, half a file, another file: a DataError in one line', () => {
    expect(() => readEvaluation(join(folder, 'none'))).toThrow(/name a folder that evaluate wrote/);
    mkdirSync(join(folder, 'odd/evaluation.json'), { recursive: true });
    expect(() => readEvaluation(join(folder, 'odd'))).toThrow(/no plain file/);
    for (const broken of ['', text.slice(0, 1000), '[]', 'null', '{}', '['.repeat(100_000)]) {
      expect(() => readEvaluation(save('broken', broken))).toThrow(DataError);
    }
    expect(() => readEvaluation(save('broken', text.replace('"uniqueness":', '"uniqueness":9')))).toThrow(/uniqueness/);
  });

  it('hostile files: a DataError, or a page that loads and runs nothing', () => {
    const choose = new Choose(1, 'evaluations');
    const pieces = ['null', '-1', '1e999', '{', '}', '"', ',', nasty, '"__proto__":{}', '[]', '\\u0000', '1e308', ':'];
    let [refused, taken] = [0, 0];
    for (let i = 0; i < 300; i++) {
      try {
        const read = readEvaluation(save('hostile', choose.mutate(text, pieces)));
        const html = comparisonPage([read, read]);
        expect(html).not.toMatch(/<script|<iframe|https?:|NaN|Infinity/);
        taken++;
      } catch (error) {
        expect(error).toBeInstanceOf(DataError);
        expect((error as Error).message).not.toContain('\n');
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(30);
    expect(taken).toBeGreaterThan(3);
    const words = [{ topic: 'data', verdict: 'bad', text: nasty }];
    const read = readEvaluation(save('hostile', JSON.stringify({ ...record, words, confirmed: { [nasty]: 1 } })));
    expect(comparisonPage([read, read])).not.toContain('<script');
  });
});

describe('the page', () => {
  it('says what the figures mean, and shows the paper and both rules where they are given', () => {
    const row = decodingRow('argmax', 1000, generated, { training, leaveOut });
    const text = evaluationPage({
      result,
      paper: compareWithPaper(result, 'oqmd'),
      decodings: { own: 'argmax', rows: [row, { ...row, rule: 'paper' }] },
      notes: [nasty],
    });
    for (const { text: said } of inWords(result)) expect(text).toContain(said.slice(0, 40));
    for (const part of ['GAN-OQMD', 'Two rules of decoding', 'enumeration', 'Nearest training formula']) {
      expect(text).toContain(part);
    }
    expect(text).not.toMatch(/<script|NaN|undefined|Infinity|https?:/);
    expect(readFileSync(new URL('../../docs/evaluate.md', import.meta.url), 'utf8')).toContain('Wilson');
  });
});
