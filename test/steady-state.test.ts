/** Steady-state statistics against closed forms and tables. */
import { expect, test } from 'vitest';
import { createRandom } from '../sim/engine/random.ts';
import { batchMeans, Moments, TimeWeighted } from './steady-state.ts';
import { studentQuantile, studentTwoTail } from './student-t.ts';

test('moments survive a large offset', () => {
  const moments = new Moments();
  for (const value of [4, 7, 13, 16]) moments.add(1e9 + value);
  expect(moments.mean).toBe(1e9 + 10);
  expect(moments.variance).toBe(30);
  expect([moments.min, moments.max, moments.count]).toEqual([1e9 + 4, 1e9 + 16, 4]);
  expect(new Moments().variance).toBe(0);
});

test('time-weighted mean', () => {
  const level = new TimeWeighted(10, 2);
  level.set(20, 5);
  level.set(25, 0);
  expect(level.mean(30)).toBe((2 * 10 + 5 * 5) / 20);
  expect(level.integral(30)).toBe(45);
  expect(level.max).toBe(5);
  expect(new TimeWeighted(3, 4).mean(3)).toBe(4);
  expect(() => level.set(24, 1)).toThrow('set at 24 ns after 25 ns');
});

test("Student's t: the usual table", () => {
  const table = [
    [0.95, 1, 12.7062],
    [0.99, 1, 63.6567],
    [0.95, 2, 4.30265],
    [0.99, 9, 3.24984],
    [0.95, 10, 2.22814],
    [0.99, 31, 2.74404],
    [0.999, 30, 3.64596],
    [0.95, 120, 1.97993],
    [0.5, 5, 0.726687],
  ] as const;
  for (const [confidence, df, t] of table) {
    expect(Math.abs(studentQuantile(confidence, df) / t - 1)).toBeLessThan(5e-6);
  }
  expect(studentTwoTail(0, 3)).toBe(1);
  expect(studentTwoTail(1, 1)).toBeCloseTo(0.5, 14);
  expect(() => studentQuantile(1, 3)).toThrow('expected a ratio');
  expect(() => studentQuantile(0.9, 0)).toThrow('expected a positive integer');
});

test('batch means cover the truth of a correlated series about as often as they say', () => {
  let covered = 0;
  const runs = 200;
  const values = new Float64Array(6400);
  for (let run = 0; run < runs; run++) {
    const random = createRandom(run, 'autoregression');
    let x = random.normal() / Math.sqrt(1 - 0.81);
    for (let i = 0; i < values.length; i++) {
      x = 0.9 * x + random.normal();
      values[i] = 5 + x;
    }
    const interval = batchMeans(values, 32, 0.95);
    if (Math.abs(interval.mean - 5) < interval.halfWidth) covered++;
  }
  // 95 % of 200 with a standard error of 1.5 %; batches of 200 are slightly correlated.
  expect(covered / runs).toBeGreaterThan(0.88);
  expect(covered / runs).toBeLessThan(0.99);
  expect(() => batchMeans([1, 2], 32)).toThrow('expected at least 32 values');
});
