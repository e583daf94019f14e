import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { uniformFormulas } from '../../src/chem/baseline.ts';
import { packFormula } from '../../src/chem/encoding.ts';
import { parseFormula } from '../../src/chem/formula.ts';
import { evaluateFormulas } from '../../src/chem/metrics.ts';
import { synthesize } from '../../src/chem/synth.ts';
import { DataError } from '../../src/errors.ts';
import { barChart, lineChart, short, ticks } from '../../src/report/chart.ts';
import { evaluationPage, pickExamples } from '../../src/report/evaluation.ts';
import { escapeText, formulaMarkup, html, Markup, page } from '../../src/report/html.ts';
import { lossPage, readLog } from '../../src/report/log.ts';
import { consoleTable, percent } from '../../src/report/table.ts';

const nasty = `<script>alert("x")</script>&'\u0007`;

/** Every tag that is opened is closed, in order: what an XML parser would ask of SVG. */
function expectBalanced(text: string): void {
  const open: string[] = [];
  const empty = new Set(['meta', 'link', 'br', '!doctype']);
  for (const [, slash, name, , self] of text.matchAll(/<(\/?)([a-z!][\w-]*)((?:"[^"]*"|[^">])*?)(\/?)>/gi)) {
    if (slash) expect(open.pop(), `</${name}>`).toBe(name);
    else if (!self && !empty.has(name.toLowerCase())) open.push(name);
  }
  expect(open).toEqual([]);
}

/** Loads nothing and runs nothing. */
function expectSelfContained(text: string): void {
  expect(text).toMatch(/^<!doctype html>\n<html lang="en">/);
  expect(text.includes('default-src &#39;none&#39;')).toBe(true);
  expect(text.match(/<script|<iframe|<img|<object|@import|url\(|https?:|\son\w+=/gi)).toBe(null);
  expect(text.match(/(src|href)="[^"]*"/g)).toEqual(['href="data:,"']);
  expect(text.match(/NaN|undefined|Infinity|\[object/g)).toBe(null);
  expectBalanced(text);
}

describe('html', () => {
  it('escapes what it is given, in text and in attributes', () => {
    expect(escapeText(nasty)).toBe('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;');
    expect(html`<a title="${nasty}">${[nasty, null, false, 3]}</a>`.text).toBe(
      `<a title="${escapeText(nasty)}">${escapeText(nasty)}3</a>`,
    );
    expect(html`<b>${html`<i>${'<'}</i>`}${new Markup('<hr>')}</b>`.text).toBe('<b><i>&lt;</i><hr></b>');
    expect(page(nasty, nasty)).not.toContain('<script');
  });

  it('sets formulas with subscripts', () => {
    expect(formulaMarkup('Ca3Al2O6').text).toBe(
      '<span class="formula">Ca<sub>3</sub>Al<sub>2</sub>O<sub>6</sub></span>',
    );
  });
});

describe('table', () => {
  it('aligns numbers and separates thousands', () => {
    const lines = consoleTable(
      ['what', 'n'],
      [
        ['a', 12_345],
        ['b', 0.123456],
        ['c', null],
      ],
    ).split('\n');
    expect(lines[1]).toMatch(/what.* +n /);
    expect(lines[2]).toMatch(/ a .* 12,345 /);
    expect(lines[3]).toMatch(/ b .* 0\.1235 /);
    expect(percent(0.12345)).toBe('12.3 %');
    expect(percent(null)).toBe('');
  });
});

describe('charts', () => {
  it('ticks are round and inside', () => {
    expect(ticks(0, 1, 5).map((v) => Number(v.toFixed(9)))).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(ticks(-3, 7, 5)).toEqual([-2, 0, 2, 4, 6]);
    expect(ticks(2, 2, 5)).toEqual([2]);
    expect(['0', '1.5k', '20k', '1.5M', '1e-5', '0.25'].join()).toBe(
      [0, 1500, 20_000, 1.5e6, 1e-5, 0.25].map(short).join(),
    );
  });

  it('a line goes through its points', () => {
    const { text } = lineChart({
      title: nasty,
      xLabel: nasty,
      series: [
        {
          name: nasty,
          points: [
            [0, 0],
            [1, 1],
            [2, 0],
          ],
        },
      ],
    });
    expect(text).not.toContain('<script');
    expectBalanced(text);
    const path = text.match(/<path d="([^"]*)"/)![1];
    const points = [...path.matchAll(/[ML]([\d.-]+) ([\d.-]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(points).toHaveLength(3);
    expect(points[1][0] - points[0][0]).toBeCloseTo(points[2][0] - points[1][0], 0);
    expect(points[1][1]).toBeLessThan(points[0][1]);
    expect(points[0][1]).toBe(points[2][1]);
  });

  it('spikes, gaps and single values leave no broken numbers', () => {
    const cases: [number, number][][] = [
      [],
      [[5, 3]],
      [
        [1, 2],
        [2, 2],
      ],
      [
        [1, Number.NaN],
        [2, Number.POSITIVE_INFINITY],
        [3, 1],
        [4, 2],
      ],
      Array.from({ length: 5000 }, (_, i) => [i, i === 0 ? 1e30 : Math.sin(i)] as [number, number]),
    ];
    for (const points of cases) {
      const { text } = lineChart({
        title: 't',
        xLabel: 'step',
        series: [
          { name: 'a', points },
          { name: 'b', points: [] },
        ],
      });
      expect(text).not.toMatch(/NaN|Infinity|undefined/);
      expect(text.length).toBeLessThan(60_000);
      expectBalanced(text);
    }
    // The spike does not stretch the axis: the sine still fills it.
    const { text } = lineChart({ title: 't', xLabel: 'step', series: [{ name: 'a', points: cases[4] }] });
    expect(text).toContain('>0.2</text>');
  });

  it('bars are as tall as their values, and missing ones are missing', () => {
    const { text } = barChart({
      title: 't',
      xLabel: nasty,
      series: ['a', nasty],
      top: 1,
      groups: [
        { label: '2', values: [0.5, 1] },
        { label: nasty, values: [0.25, null], faint: true },
      ],
    });
    expectBalanced(text);
    const heights = [...text.matchAll(/<rect [^>]*height="([\d.]+)"/g)].map(([, h]) => Number(h));
    expect(heights).toHaveLength(3);
    expect(heights[1] / heights[0]).toBeCloseTo(2, 1);
    expect(heights[0] / heights[2]).toBeCloseTo(2, 1);
    expect(text).toContain('<title>a, 2: 50 %</title>');
    expect(text).not.toContain('<script');
  });
});

describe('pages', () => {
  const folder = mkdtempSync(join(tmpdir(), 'matgan-report-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const log = join(folder, 'log.jsonl');

  const training = synthesize({ count: 800, seed: 1 });
  const leaveOut = synthesize({ count: 200, seed: 2 });
  const own = ['NaCl', 'CuAu', 'Na2Cl2'].map((formula) => packFormula(parseFormula(formula)));
  const random = uniformFormulas([0, 0, 100, 100, 50, 5], 3);
  const parts = [training.packed.subarray(0, 400), leaveOut.packed.subarray(0, 200), random.packed, ...own];
  const packed = Uint32Array.from(parts.flatMap((part) => [...part]));
  const generated = { packed, rows: packed.length / 4 };
  const result = evaluateFormulas({ generated, training, leaveOut, others: { [nasty]: random }, seed: 1 });
  const examples = pickExamples({ generated, training, leaveOut }, 1);

  it('an evaluation shows its numbers, examples and curves, and nothing from outside', () => {
    const lines = [1, 2, 3].map((step) => ({ step, seconds: step, lossCritic: -step, [nasty]: step }));
    const text = evaluationPage({ title: nasty, result, examples, losses: { [nasty]: lines } });
    expectSelfContained(text);
    expect(text).toContain(percent(result.chargeNeutral));
    expect(text).toContain(percent(result.recoveredLeaveOut));
    for (const { formula } of examples.balanced) expect(text).toContain(formulaMarkup(formula).text);
    expect(text).toContain('Critic: E[f(fake)]');
    // Without leave-out, examples and curves, and with defaults.
    expectSelfContained(evaluationPage({ result: evaluateFormulas({ generated, training, seed: 1 }) }));
  });

  it('examples are what they are said to be, and the same for a seed', () => {
    expect(examples.balanced.length).toBeGreaterThan(5);
    expect(examples.balanced.every((e) => e.electronegativityBalanced && e.oxidationStates)).toBe(true);
    expect(examples.failed.every((e) => !e.chargeNeutral)).toBe(true);
    expect(examples.failed).toHaveLength(8);
    expect(examples.recovered).toHaveLength(12);
    const formulas = [...examples.balanced, ...examples.failed, ...examples.recovered].map(({ formula }) => formula);
    expect(new Set(formulas).size).toBe(formulas.length);
    expect(pickExamples({ generated, training, leaveOut }, 1)).toEqual(examples);
    expect(pickExamples({ generated, training, leaveOut }, 2)).not.toEqual(examples);
  });

  it('a log is read to its last whole line', () => {
    writeFileSync(
      log,
      '{"step":1,"seconds":0.5,"loss":-0.1}\n\n{"step":2,"loss":-0.2,"exactLeaveOut":0.5}\n{"step":3,"lo',
    );
    const lines = readLog(log);
    expect(lines.map(({ step }) => step)).toEqual([1, 2]);
    const text = lossPage({ Autoencoder: lines });
    expectSelfContained(text);
    expect(text).toContain('Dice loss');
    expect(text).toContain('decoded exactly');
  });

  it.each([
    ['{"step":1}\nbroken\n{"step":2}\n', /line 2 is no line of a log/],
    ['[]\n', /line 1/],
    ['', /holds no line/],
  ])('a log %j is a DataError', (text, message) => {
    writeFileSync(log, text);
    expect(() => readLog(log)).toThrow(DataError);
    expect(() => readLog(log)).toThrow(message);
    expect(() => readLog(folder)).toThrow(DataError);
  });
});
