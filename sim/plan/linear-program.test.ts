/** The simplex method against all corners of programs small enough for that. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Constraint, minimise } from './linear-program.ts';

const NAMES = ['x', 'y', 'z'];

/** Solves a square system by elimination; null where it is singular. */
const solve = (rows: readonly (readonly number[])[]): number[] | null => {
  const a = rows.map((row) => [...row]);
  for (let c = 0; c < a.length; c++) {
    const best = a
      .map((row, i) => (i < c ? -1 : Math.abs(row[c])))
      .reduce((p, x, i, all) => (x > all[p] ? i : p), 0);
    if (best < c || Math.abs(a[best][c]) < 1e-9) return null;
    [a[c], a[best]] = [a[best], a[c]];
    for (let r = 0; r < a.length; r++) {
      if (r === c) continue;
      const factor = a[r][c] / a[c][c];
      a[r] = a[r].map((x, i) => x - factor * a[c][i]);
    }
  }
  return a.map((row, i) => row[a.length] / row[i]);
};

const meets = (point: readonly number[], { terms, sense, limit }: Constraint): boolean => {
  const left = NAMES.reduce((sum, name, i) => sum + (terms[name] ?? 0) * point[i], 0);
  if (sense === '=') return Math.abs(left - limit) < 1e-6;
  return sense === '<=' ? left <= limit + 1e-6 : left >= limit - 1e-6;
};

/** The least cost over all corners: points where three constraints or axes hold with equality. */
const cheapestCorner = (cost: readonly number[], constraints: readonly Constraint[]): number => {
  const planes = [
    ...constraints.map(({ terms, limit }) => [...NAMES.map((name) => terms[name] ?? 0), limit]),
    ...NAMES.map((_, i) => [...NAMES.map((__, j) => (i === j ? 1 : 0)), 0]),
  ];
  let best = Infinity;
  for (let i = 0; i < planes.length; i++)
    for (let j = i + 1; j < planes.length; j++)
      for (let k = j + 1; k < planes.length; k++) {
        const point = solve([planes[i], planes[j], planes[k]]);
        if (point === null || point.some((x) => x < -1e-6)) continue;
        if (constraints.every((constraint) => meets(point, constraint)))
          best = Math.min(
            best,
            point.reduce((sum, x, at) => sum + x * cost[at], 0),
          );
      }
  return best;
};

const coefficient = fc.integer({ min: -5, max: 5 });
const anyConstraint = fc.record({
  terms: fc.record({ x: coefficient, y: coefficient, z: coefficient }),
  sense: fc.constantFrom('<=' as const, '=' as const, '>=' as const),
  limit: fc.integer({ min: -8, max: 8 }),
});

describe('minimise', () => {
  test('finds the cheapest corner, or that there is none', () => {
    let feasible = 0;
    fc.assert(
      fc.property(
        fc.array(fc.nat(5), { minLength: 3, maxLength: 3 }),
        fc.array(anyConstraint, { minLength: 1, maxLength: 5 }),
        (cost, constraints) => {
          const found = minimise(Object.fromEntries(NAMES.map((name, i) => [name, cost[i]])), constraints);
          const best = cheapestCorner(cost, constraints);
          if (found === null) {
            expect(best).toBe(Infinity);
            return;
          }
          feasible++;
          const point = NAMES.map((name) => found.values[name]);
          for (const x of point) expect(x).toBeGreaterThanOrEqual(-1e-9);
          for (const constraint of constraints) expect(meets(point, constraint)).toBe(true);
          expect(found.cost).toBeCloseTo(best, 6);
        },
      ),
      { seed: 42, numRuns: 400 },
    );
    expect(feasible).toBeGreaterThan(100);
  });

  test('takes coefficients of any size', () => {
    const found = minimise({ time: 1 }, [
      { terms: { a: 1, b: 1 }, sense: '=', limit: 1 },
      { terms: { a: 6e11, b: 2e11 }, sense: '<=', limit: 4e11 },
      { terms: { time: 1, b: -1e-3 }, sense: '>=', limit: 0 },
    ]);
    expect(found?.values.a).toBeCloseTo(0.5, 9);
    expect(found?.cost).toBeCloseTo(5e-4, 12);
  });
});
