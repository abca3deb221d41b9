/** Statistics against closed forms and tables; growable columns. */
import { expect, test } from 'vitest';
import { createColumns } from './columns.ts';
import { quantileOfSorted, quantiles, summarize } from './stats.ts';

test('quantiles interpolate between order statistics', () => {
  expect(quantiles([40, 10, 30, 20], [0, 0.25, 0.5, 0.875, 1])).toEqual([10, 17.5, 25, 36.25, 40]);
  expect(quantileOfSorted([7], 0.95)).toBe(7);
  expect(() => quantileOfSorted([], 0.5)).toThrow('got 0 values');
  expect(() => quantileOfSorted([1], 1.5)).toThrow('p = 1.5');
  expect(summarize([])).toEqual({ mean: 0, p50: 0, p90: 0, p95: 0, p99: 0 });
  expect(summarize(Float32Array.of(1, 2, 3)).p50).toBe(2);
});

test('columns grow and keep their rows', () => {
  const table = createColumns({ timeNs: 'f64', kind: 'u8' }, 1);
  for (let i = 0; i < 100; i++) {
    const row = table.add();
    table.data.timeNs[row] = i * 1.5;
    table.data.kind[row] = i;
  }
  const { timeNs, kind } = table.view();
  expect(timeNs.length).toBe(100);
  expect(kind).toEqual(Uint8Array.from({ length: 100 }, (_, i) => i));
  expect(timeNs[99]).toBe(148.5);
});
