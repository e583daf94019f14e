import { describe, expect, it } from 'vitest';
import { count } from '../../scripts/count.mjs';
import { elfHash } from '../../scripts/elf.mjs';

const test = (status: string) => ({ status, fullName: `a ${status} test` });
const file = (status: string, ...tests: string[]) => ({
  name: 'a.test.ts',
  status,
  message: status === 'failed' ? 'cannot load' : '',
  assertionResults: tests.map(test),
});
const report = (...files: ReturnType<typeof file>[]) => ({ testResults: files });

describe('the count that CI ends with', () => {
  it('counts tests, skipped ones apart', () => {
    const made = count(report(file('passed', 'passed', 'passed', 'pending', 'todo', 'skipped')), 0, false);
    expect(made).toMatchObject({ passed: 2, failed: 0, skipped: 3, notes: [] });
  });

  it('a file that cannot be loaded is a failure', () => {
    expect(count(report(file('passed', 'passed'), file('failed')), 0, true)).toMatchObject({ passed: 1, failed: 1 });
  });

  it('a failed test makes the step fail, but is counted once and named', () => {
    const made = count(report(file('failed', 'passed', 'failed')), 0, true);
    expect(made).toMatchObject({ passed: 1, failed: 1 });
    expect(made.notes[0]).toContain('a failed test');
  });

  it.each([
    ['no report', null],
    ['no files', report()],
    ['only skipped tests', report(file('passed', 'pending'))],
  ])('%s is a failure', (_, made) => expect(count(made, 0, false).failed).toBe(1));

  it('a run that ends with an error though each test passed is a failure', () => {
    expect(count(report(file('passed', 'passed')), 0, true)).toMatchObject({ passed: 1, failed: 1 });
  });

  it('adds the steps that failed', () => {
    expect(count(report(file('passed', 'passed')), 2, false)).toMatchObject({ passed: 1, failed: 2 });
  });
});

describe('the hash of ELF version names', () => {
  // As readelf and the linkers' tables have them.
  it.each([
    ['GLIBC_2.2.5', 0x09691a75],
    ['GLIBC_2.34', 0x069691b4],
    ['GLIBC_2.3.4', 0x09691974],
  ])('%s', (name, hash) => expect(elfHash(name)).toBe(hash));
});
