/** How long to sleep through work, whatever the clock did in between. */
import { describe, expect, it } from 'vitest';
import { Pace } from '../../src/models/pace.ts';

describe('pace', () => {
  it('knows nothing until two times were seen', () => {
    const pace = new Pace();
    expect(pace.sleep()).toBe(0);
    pace.note(100, 100);
    expect(pace.sleep()).toBe(0);
    pace.note(120, 120);
    expect(pace.sleep()).toBeCloseTo(80);
    expect(pace.sleep(3)).toBeCloseTo(240);
  });

  it('times are of one piece', () => {
    const pace = new Pace();
    pace.note(300, 300, 3);
    pace.note(1000, 1000, 10);
    expect(pace.expected).toBe(100);
  });

  it('a machine that was suspended is not slept through again', () => {
    const pace = new Pace();
    for (let i = 0; i < 3; i++) pace.note(100, 20);
    pace.note(600_000, 599_920);
    expect(pace.expected).toBe(100);
    pace.note(100, 20);
    expect(pace.expected).toBe(100);
    // Suspended in the sleep: it was over before the work was waited for.
    pace.note(600_000, 1);
    expect(pace.expected).toBeLessThanOrEqual(100);
  });

  it('follows work that gets slower after two, and finds back when it gets faster', () => {
    const pace = new Pace();
    for (let i = 0; i < 2; i++) pace.note(100, 20);
    for (let i = 0; i < 2; i++) pace.note(1000, 920);
    expect(pace.expected).toBe(1000);
    // Now it takes 10: each time was all sleep.
    for (let i = 0; i < 40; i++) pace.note(Math.max(10, pace.sleep()), pace.sleep() >= 10 ? 0 : 10 - pace.sleep());
    expect(pace.expected).toBeGreaterThanOrEqual(5);
    expect(pace.expected).toBeLessThanOrEqual(20);
  });
});
