/** A front holds what nothing beats, and beats all that it does not hold. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { paretoFront } from './pareto.ts';

test('of a few points by hand', () => {
  expect(paretoFront([])).toEqual([]);
  expect(
    paretoFront([
      [1, 5],
      [2, 2],
      [2, 3],
      [5, 1],
      [5, 1],
      [6, 1],
    ]),
  ).toEqual([0, 1, 3, 4]);
});

test('nothing on it is beaten, everything off it is', () => {
  const point = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 }));
  fc.assert(
    fc.property(fc.array(point, { maxLength: 20 }), (points) => {
      const front = paretoFront(points);
      points.forEach(([x, y], i) => {
        const beaten = points.some(([a, b]) => a <= x && b <= y && (a < x || b < y));
        expect(front.includes(i)).toBe(!beaten);
      });
    }),
    { seed: 42 },
  );
});
