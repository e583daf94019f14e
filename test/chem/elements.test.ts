import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { element, elementIndex, elements, matganElements } from '../../src/chem/elements.ts';
import { sharedData } from './shared-data.ts';

const statesFile = sharedData('smact/oxidation_states.txt');
const elementFile = sharedData('smact/element_data.txt');

/** Lines of a SMACT table, split at white space. */
function lines(path: string): string[][] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => line.trim().split(/\s+/));
}

describe('the table of elements', () => {
  test('has 118 elements in order, each with its own symbol', () => {
    expect(elements.map(({ atomicNumber }) => atomicNumber)).toEqual(Array.from({ length: 118 }, (_, i) => i + 1));
    expect(new Set(elements.map(({ symbol }) => symbol)).size).toBe(118);
    expect(element('Fe')).toMatchObject({ atomicNumber: 26, electronegativity: 1.83 });
    expect(element('fe')).toBeUndefined();
    expect(element('__proto__')).toBeUndefined();
  });

  test('lists ascending states without 0, and usual ones among them', () => {
    for (const { oxidationStates, commonStates } of elements) {
      expect(oxidationStates).toEqual([...oxidationStates].sort((a, b) => a - b));
      expect(oxidationStates).not.toContain(0);
      for (const state of commonStates) expect(oxidationStates).toContain(state);
    }
  });

  test.skipIf(!statesFile)("has SMACT's 2014 oxidation states exactly", () => {
    const theirs = Object.fromEntries(lines(statesFile!).map(([symbol, ...states]) => [symbol, states.map(Number)]));
    const ours = Object.fromEntries(elements.map(({ symbol, oxidationStates }) => [symbol, [...oxidationStates]]));
    for (const { symbol } of elements) expect(ours[symbol], symbol).toEqual(theirs[symbol] ?? []);
    expect(Object.keys(theirs).filter((symbol) => !(symbol in ours))).toEqual([]);
  });

  test.skipIf(!elementFile)("has SMACT's Pauling electronegativities exactly", () => {
    const rows = lines(elementFile!);
    expect(rows.length).toBe(103);
    for (const row of rows) {
      const ours = element(row[0])!;
      expect(ours.atomicNumber, row[0]).toBe(Number(row[2]));
      expect(ours.electronegativity, row[0]).toBe(row[9] === 'None' ? null : Number(row[9]));
    }
  });
});

test('the 85 rows of the matrix go from H to Pu without nine elements', () => {
  expect(matganElements.length).toBe(85);
  expect(matganElements[0]).toBe('H');
  expect(matganElements.slice(-3)).toEqual(['U', 'Np', 'Pu']);
  for (const symbol of ['He', 'Ne', 'Ar', 'Kr', 'Po', 'At', 'Rn', 'Fr', 'Ra', 'Am', 'D'])
    expect(elementIndex(symbol)).toBe(-1);
  for (const symbol of ['Xe', 'Tc', 'Pm']) expect(elementIndex(symbol)).toBeGreaterThan(0);
  expect(matganElements.map(elementIndex)).toEqual(Array.from({ length: 85 }, (_, i) => i));
});
